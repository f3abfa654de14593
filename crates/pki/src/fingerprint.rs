//! The SHA-256 fingerprint of a certificate: how people compare two of them.

use std::fmt;
use std::str::FromStr;

/// SHA-256 over the DER of a certificate. Displays as upper-case hex with colons, the way
/// `openssl x509 -fingerprint -sha256` prints it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a DER certificate.
    pub fn of(der: &[u8]) -> Self {
        Self(sha256(der))
    }

    /// The 32 octets.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, octet) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{octet:02X}")?;
        }
        Ok(())
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Reads 64 hexadecimal digits in either case, with or without colons between the octets, after `SHA256:`, `sha256:`
    /// or nothing.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let bare = text.trim();
        let bare = bare
            .get(..7)
            .filter(|label| label.eq_ignore_ascii_case("sha256:"))
            .and_then(|label| bare.strip_prefix(label))
            .unwrap_or(bare);
        let digits = if bare.contains(':') {
            let octets: Vec<&str> = bare.split(':').collect();
            if octets.iter().any(|octet| octet.len() != 2) {
                return Err(FingerprintError);
            }
            octets.concat()
        } else {
            bare.to_owned()
        };
        let values: Option<Vec<u8>> = digits
            .chars()
            .map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok()))
            .collect();
        let values = values.filter(|values| values.len() == 64).ok_or(FingerprintError)?;
        let mut octets = [0; 32];
        for (octet, pair) in octets.iter_mut().zip(values.chunks_exact(2)) {
            *octet = pair[0] << 4 | pair[1];
        }
        Ok(Self(octets))
    }
}

/// A text that is no fingerprint.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "it is no SHA-256 fingerprint: write 64 hexadecimal digits, with or without colons, as `openssl x509 -fingerprint -sha256` prints them"
)]
pub struct FingerprintError;

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_and_nothing_else_is() {
        let print = Fingerprint::of(b"abc");
        let text = print.to_string();
        let bare = text.replace(':', "");
        for form in [
            &text,
            &text.to_lowercase(),
            &bare,
            &format!("SHA256:{bare}"),
            &format!(" sha256:{text}\n"),
        ] {
            assert_eq!(form.parse(), Ok(print), "{form}");
        }
        let odd = text.replacen(':', "", 1);
        for form in ["", "AB", &bare[1..], &text[1..], &odd, &format!("{bare}00"), &"é".repeat(32)]
        {
            assert_eq!(form.parse::<Fingerprint>(), Err(FingerprintError), "{form}");
        }
    }

    #[test]
    fn prints_like_openssl() {
        let shown = Fingerprint::of(b"abc").to_string();
        assert!(shown.starts_with("BA:78:16:BF:8F:01:CF:EA"), "{shown}");
        assert_eq!(shown.len(), 32 * 3 - 1);
    }
}
