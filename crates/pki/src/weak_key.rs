//! Public keys that are well-formed and nevertheless worthless: whoever knows how they were made finds
//! the private half. Cheap enough to be asked of every key that is handed in.
//!
//! Not looked for: the keys of Debian's broken generator of 2008. They can only be told by a list of
//! hundreds of thousands of them, and none of 2048 bits and more has been seen in years.

use std::fmt;

use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as ParsedKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::PublicKey;

/// Why a key that can be read should not be certified.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum KeyWeakness {
    /// An RSA exponent that is even or under 65537.
    Exponent,
    /// An RSA modulus as the Infineon library made them (ROCA, CVE-2017-15361).
    Roca,
    /// An RSA modulus divisible by a small prime.
    SmallFactor {
        /// The prime.
        prime: u32,
    },
}

impl KeyWeakness {
    /// Whether the private key can be computed; the others are only against the rules.
    pub fn is_fatal(self) -> bool {
        !matches!(self, Self::Exponent)
    }
}

impl fmt::Display for KeyWeakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exponent => f.write_str("its RSA exponent is even or under 65537"),
            Self::Roca => f.write_str(
                "its RSA modulus has the fingerprint of the Infineon library (ROCA, CVE-2017-15361), so its private key can be computed",
            ),
            Self::SmallFactor { prime } => {
                write!(f, "its RSA modulus is divisible by {prime}, so its private key can be computed")
            }
        }
    }
}

impl PublicKey {
    /// What makes the key worthless, if anything known does.
    pub fn weakness(&self) -> Option<KeyWeakness> {
        if !self.algorithm().is_rsa() {
            return None;
        }
        let (_, parsed) = SubjectPublicKeyInfo::from_der(self.spki_der()).ok()?;
        let Ok(ParsedKey::RSA(rsa)) = parsed.parsed() else { return None };
        of_rsa(rsa.modulus, rsa.exponent)
    }
}

fn of_rsa(modulus: &[u8], exponent: &[u8]) -> Option<KeyWeakness> {
    if let Some(prime) = small_primes().find(|prime| remainder(modulus, *prime) == 0) {
        return Some(KeyWeakness::SmallFactor { prime });
    }
    if ROCA_PRIMES.iter().all(|prime| is_power_of_65537(remainder(modulus, *prime), *prime)) {
        return Some(KeyWeakness::Roca);
    }
    let significant = exponent.iter().skip_while(|octet| **octet == 0);
    let (count, value) = significant.fold((0_usize, 0_u64), |(count, value), octet| {
        (count + 1, (value << 8) | u64::from(*octet))
    });
    let odd = exponent.last().is_some_and(|octet| octet % 2 == 1);
    (!odd || (count <= 3 && value < 65_537)).then_some(KeyWeakness::Exponent)
}

/// The remainder of a big-endian number.
fn remainder(number: &[u8], by: u32) -> u32 {
    number.iter().fold(0, |rest, octet| (rest * 256 + u32::from(*octet)) % by)
}

/// Whether `value` lies in the group that 65537 generates modulo `prime`.
fn is_power_of_65537(value: u32, prime: u32) -> bool {
    let step = 65_537 % prime;
    let mut power = 1 % prime;
    for _ in 0..prime {
        if power == value {
            return true;
        }
        power = power * step % prime;
    }
    false
}

/// The odd primes under 752, as CAs look for them.
fn small_primes() -> impl Iterator<Item = u32> {
    (3..752).filter(|number| (2..*number).take_while(|d| d * d <= *number).all(|d| number % d != 0))
}

/// The vulnerable library draws primes from the powers of 65537 modulo the product of these: a modulus
/// of other origin passes for all of them once in some hundred million times (Nemec and others, "The
/// Return of Coppersmith's Attack", 2017, section 3).
const ROCA_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyAlgorithm, PrivateKey};

    const F4: [u8; 3] = [1, 0, 1];

    /// 65537 to the power of `exponent`, big-endian.
    fn power_of_65537(exponent: u32) -> Vec<u8> {
        let mut little = vec![1_u8];
        for _ in 0..exponent {
            let mut carry = 0_u32;
            for octet in &mut little {
                let value = u32::from(*octet) * 65_537 + carry;
                *octet = u8::try_from(value % 256).unwrap();
                carry = value / 256;
            }
            while carry > 0 {
                little.push(u8::try_from(carry % 256).unwrap());
                carry /= 256;
            }
        }
        little.reverse();
        little
    }

    #[test]
    fn a_modulus_of_the_infineon_library_is_recognised() {
        assert_eq!(of_rsa(&power_of_65537(128), &F4), Some(KeyWeakness::Roca));
    }

    #[test]
    fn keys_of_openssl_and_our_own_are_good() {
        for algorithm in [KeyAlgorithm::Rsa2048, KeyAlgorithm::EcdsaP256, KeyAlgorithm::Ed25519] {
            let key = PrivateKey::generate(algorithm).unwrap();
            assert_eq!(key.public_key().weakness(), None, "{algorithm}");
        }
    }

    #[test]
    fn small_factors_and_exponents_are_found() {
        let mut modulus = vec![0xc5; 256];
        modulus[255] = 1;
        let rest = remainder(&modulus, 7);
        modulus[255] += u8::try_from(7 - rest).unwrap();
        assert!(matches!(of_rsa(&modulus, &F4), Some(KeyWeakness::SmallFactor { .. })));
        let good = {
            let mut good = vec![0xc5; 256];
            while small_primes().any(|prime| remainder(&good, prime) == 0)
                || good[255].is_multiple_of(2)
            {
                good[255] = good[255].wrapping_add(1);
            }
            good
        };
        assert_eq!(of_rsa(&good, &F4), None);
        for (exponent, weak) in [
            (&[3][..], true),
            (&[1, 0, 0], true),
            (&[1, 0, 1], false),
            (&[0, 1, 0, 1], false),
            (&[1, 0, 0, 0, 1], false),
        ] {
            assert_eq!(of_rsa(&good, exponent).is_some(), weak, "{exponent:?}");
        }
    }
}
