//! The private keys of a backup, encrypted: PBKDF2-HMAC-SHA-256 makes a key from the passphrase,
//! AES-256-GCM encrypts and authenticates.
//!
//! ```text
//! 18 octets  "handfast-sealed-1\n"
//! 4 octets   iterations, big-endian
//! 32 octets  salt
//! 12 octets  nonce
//! the rest   ciphertext and tag; everything before is authenticated with it
//!
//! inside, for each file:
//! 4 octets   length of the path, big-endian; the path
//! 4 octets   mode, big-endian
//! 8 octets   length of the content, big-endian; the content
//! ```

use std::num::NonZeroU32;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::pbkdf2;
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::collect::{Content, Item};

/// Encrypts files under a passphrase.
pub(super) fn seal(items: &[Item], passphrase: &[u8]) -> Vec<u8> {
    let mut sealed = MAGIC.to_vec();
    sealed.extend(ITERATIONS.to_be_bytes());
    let mut random = [0; SALT + NONCE_LEN];
    rand::fill(&mut random).expect("the system's random number generator answers");
    sealed.extend(random);
    let (salt, nonce) = random.split_at(SALT);
    let key = key(passphrase, salt, ITERATIONS).expect("our own parameters are good");
    let nonce = Nonce::try_assume_unique_for_key(nonce).expect("it has the right length");
    let mut content = encode(items);
    let aad = Aad::from(sealed.clone());
    key.seal_in_place_append_tag(nonce, aad, &mut *content)
        .expect("a backup's keys are far smaller than what AES-GCM can take");
    sealed.extend_from_slice(&content);
    sealed
}

/// Decrypts them again; nothing if the passphrase is wrong, or anything was changed.
pub(super) fn open(sealed: &[u8], passphrase: &[u8]) -> Option<Vec<Item>> {
    let (header, content) = sealed.split_at_checked(MAGIC.len() + 4 + SALT + NONCE_LEN)?;
    let rest = header.strip_prefix(MAGIC)?;
    let (iterations, rest) = rest.split_first_chunk::<4>()?;
    let (salt, nonce) = rest.split_at_checked(SALT)?;
    let iterations = u32::from_be_bytes(*iterations);
    // A file of somebody else's must not keep us busy for ever.
    if iterations > MOST_ITERATIONS {
        return None;
    }
    let key = key(passphrase, salt, iterations)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut content = Zeroizing::new(content.to_vec());
    let plain = key.open_in_place(nonce, Aad::from(header), &mut content).ok()?;
    decode(plain)
}

fn key(passphrase: &[u8], salt: &[u8], iterations: u32) -> Option<LessSafeKey> {
    let mut key = Zeroizing::new([0; 32]);
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(algorithm, NonZeroU32::new(iterations)?, salt, passphrase, &mut *key);
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).ok()?))
}

fn encode(items: &[Item]) -> Zeroizing<Vec<u8>> {
    let length = |octets: usize| u32::try_from(octets).unwrap_or(u32::MAX).to_be_bytes();
    let mut content = Zeroizing::new(Vec::new());
    for item in items {
        let Content::File { bytes, mode } = &item.content else { continue };
        // All the room at once: growing would leave copies of a key behind in freed memory.
        let mut grown = Zeroizing::new(Vec::with_capacity(
            content.len() + item.path.len() + bytes.len() + 16 + 16,
        ));
        grown.extend_from_slice(&content);
        grown.extend_from_slice(&length(item.path.len()));
        grown.extend_from_slice(item.path.as_bytes());
        grown.extend_from_slice(&mode.to_be_bytes());
        grown.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        grown.extend_from_slice(bytes);
        content = grown;
    }
    content
}

fn decode(mut content: &[u8]) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    while !content.is_empty() {
        let (length, rest) = content.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (path, rest) = rest.split_at_checked(length)?;
        let (mode, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
        let (bytes, rest) = rest.split_at_checked(length)?;
        items.push(Item {
            path: String::from_utf8(path.to_vec()).ok()?,
            content: Content::File {
                bytes: bytes.to_vec().into(),
                mode: u32::from_be_bytes(*mode),
            },
        });
        content = rest;
    }
    Some(items)
}

const MAGIC: &[u8] = b"handfast-sealed-1\n";
const SALT: usize = 32;
/// What OWASP asks of PBKDF2-HMAC-SHA-256: some tenths of a second.
const ITERATIONS: u32 = 600_000;
const MOST_ITERATIONS: u32 = 10_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_sealed_opens_under_its_own_passphrase_and_whole_only() {
        let items = [Item::plain("runtime/a.key", b"one".to_vec()), Item::plain("b", Vec::new())];
        let sealed = seal(&items, b"pass");
        let opened = open(&sealed, b"pass").unwrap();
        let paths: Vec<_> = opened.iter().map(|item| item.path.as_str()).collect();
        assert_eq!(paths, ["runtime/a.key", "b"]);
        assert!(
            matches!(&opened[0].content, Content::File { bytes, mode: 0o600 } if **bytes == *b"one")
        );
        assert!(open(&sealed, b"other").is_none());
        assert!(!sealed.windows(3).any(|part| part == b"one"));
        for at in [0, 40, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&changed, b"pass").is_none(), "{at}");
        }
    }

    proptest! {
        #[test]
        fn no_content_is_too_strange(content in prop::collection::vec(any::<u8>(), 0..64)) {
            drop(decode(&content));
        }
    }
}
