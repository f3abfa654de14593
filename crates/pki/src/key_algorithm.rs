//! The key algorithms we make and read.

use std::fmt;
use std::str::FromStr;

/// A key algorithm. Displays as, and is read from, `ecdsa-p256`, `ecdsa-p384`, `ed25519`,
/// `rsa-2048`, `rsa-3072`, `rsa-4096`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum KeyAlgorithm {
    /// ECDSA on NIST P-256, signing with SHA-256. The default: every agent and server can use it.
    #[default]
    EcdsaP256,
    /// ECDSA on NIST P-384, signing with SHA-384.
    EcdsaP384,
    /// Ed25519.
    Ed25519,
    /// RSA of 2048 bits, signing PKCS#1 v1.5 with SHA-256 in certificates.
    Rsa2048,
    /// RSA of 3072 bits, signing PKCS#1 v1.5 with SHA-256 in certificates.
    Rsa3072,
    /// RSA of 4096 bits, signing PKCS#1 v1.5 with SHA-256 in certificates.
    Rsa4096,
    /// RSA of another size between 2048 and 4096 bits. Such keys are read, never made.
    RsaOther(u16),
}

impl KeyAlgorithm {
    /// The algorithms [`crate::PrivateKey::generate`] can make.
    pub const GENERATED: [Self; 6] = [
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::Ed25519,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
    ];

    /// Whether this is RSA of any size.
    pub fn is_rsa(self) -> bool {
        matches!(self, Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 | Self::RsaOther(_))
    }

    /// The RSA algorithm for a modulus of `bits`, if we accept that size.
    pub(crate) fn rsa(bits: usize) -> Option<Self> {
        match bits {
            2048 => Some(Self::Rsa2048),
            3072 => Some(Self::Rsa3072),
            4096 => Some(Self::Rsa4096),
            2049..4096 => u16::try_from(bits).ok().map(Self::RsaOther),
            _ => None,
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fixed = match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::Ed25519 => "ed25519",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
            Self::RsaOther(bits) => return f.pad(&format!("rsa-{bits}")),
        };
        f.pad(fixed)
    }
}

impl FromStr for KeyAlgorithm {
    type Err = UnknownKeyAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownKeyAlgorithm> {
        let folded = text.to_ascii_lowercase();
        Self::GENERATED
            .into_iter()
            .find(|known| known.to_string() == folded)
            .ok_or_else(|| UnknownKeyAlgorithm { text: text.to_owned() })
    }
}

/// A text that names none of our key algorithms.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "unknown key algorithm {text:?}: use ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072 or rsa-4096"
)]
pub struct UnknownKeyAlgorithm {
    /// The text as given.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for algorithm in KeyAlgorithm::GENERATED {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
        }
        assert!("rsa-1024".parse::<KeyAlgorithm>().is_err());
        assert_eq!(KeyAlgorithm::rsa(1024), None);
        assert_eq!(KeyAlgorithm::rsa(2560), Some(KeyAlgorithm::RsaOther(2560)));
        assert_eq!(KeyAlgorithm::rsa(8192), None);
    }
}
