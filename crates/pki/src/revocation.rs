//! What it means that a certificate was revoked: which, when, and why (RFC 5280 section 5.3).

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::Serial;

/// Why a certificate was revoked (RFC 5280 section 5.3.1). Displays as, and is read from, kebab case:
/// `key-compromise`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum RevocationReason {
    /// The authority that vouched for attributes of the holder was broken into. Found in lists of others;
    /// cannot be asked for.
    AaCompromise,
    /// The holder's name or affiliation changed.
    AffiliationChanged,
    /// The CA's key is in other hands.
    CaCompromise,
    /// On hold: it may come back. Found in lists of others; cannot be asked for, and counts as revoked.
    CertificateHold,
    /// The holder is gone.
    CessationOfOperation,
    /// The holder's key is in other hands.
    KeyCompromise,
    /// The holder may no longer do what the certificate says.
    PrivilegeWithdrawn,
    /// Another certificate took its place.
    Superseded,
    /// No reason given.
    #[default]
    Unspecified,
}

impl RevocationReason {
    /// The reasons that can be asked for, in the order of their names.
    pub const ALL: [Self; 7] = [
        Self::AffiliationChanged,
        Self::CaCompromise,
        Self::CessationOfOperation,
        Self::KeyCompromise,
        Self::PrivilegeWithdrawn,
        Self::Superseded,
        Self::Unspecified,
    ];

    /// The number in CRLs and OCSP responses.
    pub fn code(self) -> u8 {
        match self {
            Self::AaCompromise => 10,
            Self::AffiliationChanged => 3,
            Self::CaCompromise => 2,
            Self::CertificateHold => 6,
            Self::CessationOfOperation => 5,
            Self::KeyCompromise => 1,
            Self::PrivilegeWithdrawn => 9,
            Self::Superseded => 4,
            Self::Unspecified => 0,
        }
    }

    /// The reason of this number; `None` for `removeFromCRL` (8) and numbers nobody has given out.
    pub fn from_code(code: u8) -> Option<Self> {
        let rare = [Self::AaCompromise, Self::CertificateHold];
        Self::ALL.into_iter().chain(rare).find(|reason| reason.code() == code)
    }

    /// The name used on command lines, in logs and in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AaCompromise => "aa-compromise",
            Self::AffiliationChanged => "affiliation-changed",
            Self::CaCompromise => "ca-compromise",
            Self::CertificateHold => "certificate-hold",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::KeyCompromise => "key-compromise",
            Self::PrivilegeWithdrawn => "privilege-withdrawn",
            Self::Superseded => "superseded",
            Self::Unspecified => "unspecified",
        }
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for RevocationReason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str() == text)
            .ok_or_else(|| UnknownReason { text: text.chars().take(64).collect() })
    }
}

/// A text that names none of the reasons that can be asked for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "unknown revocation reason {text:?}: use affiliation-changed, ca-compromise, cessation-of-operation, key-compromise, privilege-withdrawn, superseded or unspecified"
)]
pub struct UnknownReason {
    /// The text as given, shortened to 64 characters.
    pub text: String,
}

/// One revoked certificate, as a CRL lists it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RevokedEntry {
    /// The certificate's serial number.
    pub serial: Serial,
    /// When it was revoked; whole seconds count.
    pub at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_round_trip() {
        for reason in RevocationReason::ALL {
            assert_eq!(reason.to_string().parse(), Ok(reason));
            assert_eq!(RevocationReason::from_code(reason.code()), Some(reason));
        }
        assert!("certificate-hold".parse::<RevocationReason>().is_err());
        assert_eq!(RevocationReason::from_code(6), Some(RevocationReason::CertificateHold));
        assert_eq!(RevocationReason::from_code(7), None);
        assert_eq!(RevocationReason::from_code(8), None);
    }
}
