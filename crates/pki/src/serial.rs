//! Certificate serial numbers: ours are 127 random bits; those of others are shown as they are.

use std::fmt;
use std::str::FromStr;

use crate::Entropy;

/// A certificate serial number (RFC 5280 section 4.1.2.2). Displays as lower-case hex, two digits
/// per octet.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Serial {
    /// The magnitude, big-endian, without leading zero octets (one zero octet for zero). For a
    /// negative number: the two's complement as it stood in the certificate.
    octets: Vec<u8>,
    negative: bool,
}

impl Serial {
    /// The most octets an encoded serial may have (RFC 5280 section 4.1.2.2).
    pub const MAX_OCTETS: usize = 20;

    /// A new positive serial of 127 random bits.
    pub fn random(entropy: &mut dyn Entropy) -> Self {
        loop {
            let mut octets = [0_u8; 16];
            entropy.fill(&mut octets);
            // A clear top bit keeps the encoding positive at 16 octets.
            octets[0] &= 0x7f;
            let serial = Self::from_der_integer(&octets);
            if !serial.is_zero() {
                return serial;
            }
        }
    }

    /// The serial from the content octets of a DER INTEGER, exactly as found.
    pub fn from_der_integer(content: &[u8]) -> Self {
        let negative = content.first().is_some_and(|first| first & 0x80 != 0);
        if negative {
            return Self { octets: content.to_vec(), negative };
        }
        let zeros = content.iter().take_while(|octet| **octet == 0).count();
        let significant = content.get(zeros..).unwrap_or_default();
        let octets = if significant.is_empty() { vec![0] } else { significant.to_vec() };
        Self { octets, negative }
    }

    /// The magnitude, big-endian; for a negative serial its two's complement.
    pub fn as_bytes(&self) -> &[u8] {
        &self.octets
    }

    /// Whether the certificate carried a negative number, which RFC 5280 forbids.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// Whether the serial is zero, which RFC 5280 forbids.
    pub fn is_zero(&self) -> bool {
        self.octets.iter().all(|octet| *octet == 0)
    }

    /// How many octets the encoded number takes.
    pub fn encoded_len(&self) -> usize {
        let sign = !self.negative && self.octets.first().is_some_and(|first| first & 0x80 != 0);
        self.octets.len() + usize::from(sign)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    /// Reads hex of either case, with or without colons: what this type, `openssl` and browsers print.
    fn from_str(text: &str) -> Result<Self, SerialError> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()
            .ok_or(SerialError::NotHex)?;
        if digits.is_empty() {
            return Err(SerialError::NotHex);
        }
        let octets: Vec<u8> = digits
            .rchunks(2)
            .rev()
            .map(|pair| pair.iter().fold(0, |sum, d| sum << 4 | d))
            .collect();
        let mut unsigned = vec![0];
        unsigned.extend(octets);
        let serial = Self::from_der_integer(&unsigned);
        if serial.encoded_len() > Self::MAX_OCTETS {
            return Err(SerialError::TooLong { octets: serial.encoded_len() });
        }
        Ok(serial)
    }
}

/// Why a text is not a [`Serial`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SerialError {
    /// Something other than hex digits and colons, or nothing.
    #[error("a serial number is written in hex digits, with or without colons")]
    NotHex,
    /// More than [`Serial::MAX_OCTETS`] octets.
    #[error("a serial number of {octets} octets is too long: 20 at most")]
    TooLong {
        /// Octets the number would take.
        octets: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEntropy;
    use proptest::prelude::*;

    struct Script(Vec<u8>);

    impl Entropy for Script {
        fn fill(&mut self, out: &mut [u8]) {
            let rest = self.0.split_off(out.len());
            out.copy_from_slice(&self.0);
            self.0 = rest;
        }
    }

    #[test]
    fn is_positive_and_at_most_16_octets_whatever_the_source_says() {
        let serial = Serial::random(&mut Script(vec![0xff; 16]));
        assert_eq!(serial.to_string(), format!("7f{}", "ff".repeat(15)));
        assert_eq!(serial.encoded_len(), 16);
        assert!(!serial.is_negative());
    }

    #[test]
    fn zero_is_drawn_again() {
        let mut source = vec![0; 16];
        source.extend([0; 15]);
        source.push(9);
        assert_eq!(Serial::random(&mut Script(source)).to_string(), "09");
    }

    #[test]
    fn all_127_bits_move() {
        let mut seen_set = [0_u8; 16];
        let mut seen_clear = [0_u8; 16];
        for _ in 0..200 {
            let serial = Serial::random(&mut SystemEntropy);
            let mut octets = [0; 16];
            octets[16 - serial.as_bytes().len()..].copy_from_slice(serial.as_bytes());
            for (index, octet) in octets.iter().enumerate() {
                seen_set[index] |= octet;
                seen_clear[index] |= !octet;
            }
        }
        assert_eq!(seen_set[0], 0x7f);
        assert!(seen_set[1..].iter().all(|octet| *octet == 0xff));
        assert!(seen_clear.iter().all(|octet| *octet == 0xff));
    }

    #[test]
    fn negative_serials_of_others_are_kept_as_found() {
        let serial = Serial::from_der_integer(&[0x80, 0x01]);
        assert!(serial.is_negative());
        assert_eq!(serial.to_string(), "8001");
    }

    proptest! {
        #[test]
        fn hex_round_trips(octets in prop::collection::vec(any::<u8>(), 1..19)) {
            let mut content = vec![0];
            content.extend(octets);
            let serial = Serial::from_der_integer(&content);
            prop_assert_eq!(serial.to_string().parse::<Serial>().unwrap(), serial);
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _: Result<Serial, _> = text.parse();
        }
    }
}
