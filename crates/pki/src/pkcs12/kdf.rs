//! Keys from passphrases: PKCS#12's own derivation (RFC 7292 appendix B) and PBKDF2 (RFC 8018), and the
//! bound on how much of that one file may ask for.

use std::num::NonZeroU32;

use aws_lc_rs::digest::{self, Algorithm};
use aws_lc_rs::pbkdf2;
use zeroize::Zeroizing;

use super::Pkcs12Error;
use crate::Passphrase;

/// What derived octets are for.
#[derive(Clone, Copy)]
pub(super) enum Use {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

/// How much work is left that a file may ask for.
pub(super) struct Budget(u64);

impl Budget {
    pub(super) fn new() -> Self {
        Self(MAX_ROUNDS)
    }

    /// Takes `rounds` off it.
    pub(super) fn spend(&mut self, rounds: u32) -> Result<NonZeroU32, Pkcs12Error> {
        self.0 = self.0.checked_sub(u64::from(rounds)).ok_or(Pkcs12Error::Cost)?;
        NonZeroU32::new(rounds).ok_or(Pkcs12Error::Malformed)
    }
}

/// A passphrase as PKCS#12 takes it: UTF-16, big-endian, with two zero octets at the end.
pub(super) fn wide(passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
    let text = std::str::from_utf8(passphrase.bytes()).map_err(|_| Pkcs12Error::PassphraseText)?;
    let mut wide = Zeroizing::new(Vec::with_capacity(text.len() * 2 + 2));
    for unit in text.encode_utf16() {
        wide.extend_from_slice(&unit.to_be_bytes());
    }
    wide.extend_from_slice(&[0, 0]);
    Ok(wide)
}

/// RFC 7292 appendix B.2.
pub(super) fn derive(
    hash: &'static Algorithm,
    what: Use,
    wide: &[u8],
    salt: &[u8],
    rounds: NonZeroU32,
    length: usize,
) -> Zeroizing<Vec<u8>> {
    let block = hash.block_len();
    let mut state = Zeroizing::new(repeated(salt, block));
    state.extend(repeated(wide, block));
    let mut out = Zeroizing::new(Vec::with_capacity(length + hash.output_len()));
    while out.len() < length {
        let mut context = digest::Context::new(hash);
        context.update(&vec![what as u8; block]);
        context.update(&state);
        let mut a = context.finish();
        for _ in 1..rounds.get() {
            a = digest::digest(hash, a.as_ref());
        }
        out.extend_from_slice(a.as_ref());
        let b: Vec<u8> = a.as_ref().iter().copied().cycle().take(block).collect();
        for chunk in state.chunks_mut(block) {
            add_one_more(chunk, &b);
        }
    }
    out.truncate(length);
    out
}

/// `bytes` over and over, up to a whole number of blocks.
fn repeated(bytes: &[u8], block: usize) -> Vec<u8> {
    bytes.iter().copied().cycle().take(bytes.len().div_ceil(block) * block).collect()
}

/// `number + other + 1`, big-endian, of the same length; the carry falls off.
fn add_one_more(number: &mut [u8], other: &[u8]) {
    let mut carry = 1_u16;
    for (octet, add) in number.iter_mut().zip(other).rev() {
        let sum = u16::from(*octet) + u16::from(*add) + carry;
        let [high, low] = sum.to_be_bytes();
        *octet = low;
        carry = u16::from(high);
    }
}

/// PBKDF2 with one of the HMACs.
pub(super) fn pbkdf2(
    hmac: pbkdf2::Algorithm,
    passphrase: &Passphrase,
    salt: &[u8],
    rounds: NonZeroU32,
    length: usize,
) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(vec![0; length]);
    pbkdf2::derive(hmac, rounds, salt, passphrase.bytes(), &mut key);
    key
}

/// Some seconds of work. OpenSSL writes 2,048 rounds, Java 10,000, careful people a million, for each
/// of three or four derivations.
const MAX_ROUNDS: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Against `openssl kdf -keylen 24 -kdfopt digest:SHA1 -kdfopt hexpass:... PKCS12KDF` of OpenSSL 3.
    #[test]
    fn the_derivation_is_openssls() {
        let wide = wide(&Passphrase::new("smeg")).unwrap();
        assert_eq!(wide.as_slice(), [0, 0x73, 0, 0x6d, 0, 0x65, 0, 0x67, 0, 0]);
        let salt = [0x0a, 0x58, 0xcf, 0x64, 0x53, 0x0d, 0x82, 0x3f];
        let key =
            derive(&digest::SHA1_FOR_LEGACY_USE_ONLY, Use::Key, &wide, &salt, NonZeroU32::MIN, 24);
        assert_eq!(
            key.as_slice(),
            [
                0x8a, 0xaa, 0xe6, 0x29, 0x7b, 0x6c, 0xb0, 0x46, 0x42, 0xab, 0x5b, 0x07, 0x78, 0x51,
                0x28, 0x4e, 0xb7, 0x12, 0x8f, 0x1a, 0x2a, 0x7f, 0xbc, 0xa3
            ]
        );
    }

    #[test]
    fn the_budget_ends() {
        let mut budget = Budget::new();
        assert!(budget.spend(9_000_000).is_ok());
        assert_eq!(budget.spend(2_000_000).err(), Some(Pkcs12Error::Cost));
        assert_eq!(Budget::new().spend(0).err(), Some(Pkcs12Error::Malformed));
    }
}
