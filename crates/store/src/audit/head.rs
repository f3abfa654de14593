//! Tree heads: "so many rows, and this is the root over them", signed by the home's audit key.
//!
//! The text is a checkpoint in a signed note (C2SP tlog-checkpoint and signed-note): four lines, an
//! empty line, a signature line. What is signed are the octets of the first four lines, each with
//! its line break. Anything that verifies Ed25519 can verify it.
//!
//! ```text
//! handfast-audit/9b4a0c51d2e37f86
//! 1234
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//! at 2026-11-21T03:34:02Z
//!
//! — handfast-audit/9b4a0c51d2e37f86 Az3grl...
//! ```

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64ct::{Base64, Encoding};
use handfast_pki::{KeyAlgorithm, KeyError, PrivateKey};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::merkle::Hash;
use crate::hex;

/// What a head says of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// How many rows there are: the sequence number of the last.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
    /// The time of the last row.
    pub at: Timestamp,
}

/// A head with the signature over it, as yet unverified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// What it says.
    pub head: TreeHead,
    /// Who is said to have signed: [`AuditPublicKey::origin`].
    pub origin: String,
    /// The Ed25519 signature (RFC 8032) over the text of the head.
    pub signature: [u8; 64],
    /// The first octets of the hash of key and name, as in signed notes.
    key_hash: [u8; 4],
}

impl SignedHead {
    pub(crate) fn new(head: TreeHead, key: &AuditPublicKey, signature: [u8; 64]) -> Self {
        Self { head, origin: key.origin(), signature, key_hash: key.note_hash() }
    }

    /// The octets that are signed.
    pub fn signed_text(&self) -> String {
        signed_text(&self.origin, &self.head)
    }

    /// Whether `key` signed this.
    pub fn is_signed_by(&self, key: &AuditPublicKey) -> bool {
        self.origin == key.origin()
            && UnparsedPublicKey::new(&ED25519, key.raw)
                .verify(self.signed_text().as_bytes(), &self.signature)
                .is_ok()
    }
}

impl fmt::Display for SignedHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut blob = self.key_hash.to_vec();
        blob.extend(self.signature);
        let blob = Base64::encode_string(&blob);
        write!(f, "{}\n\u{2014} {} {blob}\n", self.signed_text(), self.origin)
    }
}

impl FromStr for SignedHead {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        if text.len() > MAX_TEXT {
            return Err(HeadError);
        }
        let mut lines = text.lines();
        let mut line = || lines.next().ok_or(HeadError);
        let (origin, size, root, at) = (line()?, line()?, line()?, line()?);
        if !line()?.is_empty() {
            return Err(HeadError);
        }
        let signed = line()?.strip_prefix("\u{2014} ").ok_or(HeadError)?;
        let (name, blob) = signed.split_once(' ').ok_or(HeadError)?;
        if name != origin || !origin.starts_with(ORIGIN) || line().is_ok() {
            return Err(HeadError);
        }
        let blob = Base64::decode_vec(blob).map_err(|_| HeadError)?;
        let (key_hash, signature) = blob.split_first_chunk::<4>().ok_or(HeadError)?;
        let head = TreeHead {
            size: size.parse().map_err(|_| HeadError)?,
            root: Base64::decode_vec(root)
                .map_err(|_| HeadError)?
                .try_into()
                .map_err(|_| HeadError)?,
            at: at.strip_prefix("at ").and_then(|at| at.parse().ok()).ok_or(HeadError)?,
        };
        let read = Self {
            head,
            origin: origin.to_owned(),
            signature: signature.try_into().map_err(|_| HeadError)?,
            key_hash: *key_hash,
        };
        // One text to one head: what is signed is exactly what was read.
        let own = [origin, size, root, at].map(|line| format!("{line}\n")).concat();
        if read.signed_text() == own { Ok(read) } else { Err(HeadError) }
    }
}

/// The text is not a signed head of an audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a signed head of an audit log: it has six lines, beginning with `handfast-audit/`, \
     as `handfast audit verify --head` and the file `audit.head` have it"
)]
pub struct HeadError;

/// The key that signs the heads of one home.
pub struct AuditKey {
    pair: Ed25519KeyPair,
    pem: Zeroizing<String>,
    public: AuditPublicKey,
}

impl AuditKey {
    /// A new key.
    pub fn generate() -> Result<Self, KeyError> {
        Self::from_key(&PrivateKey::generate(KeyAlgorithm::Ed25519)?)
    }

    /// Reads a key that [`AuditKey::to_pem`] wrote.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        Self::from_key(&PrivateKey::from_pem(pem, None)?)
    }

    fn from_key(key: &PrivateKey) -> Result<Self, KeyError> {
        let der = key.to_pki_types();
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_der()).map_err(|_| {
            KeyError::Unsupported { algorithm: format!("{} (for audit heads)", key.algorithm()) }
        })?;
        let public =
            AuditPublicKey::from_raw(pair.public_key().as_ref()).ok_or(KeyError::Malformed)?;
        Ok(Self { pair, pem: key.to_pkcs8_pem(), public })
    }

    /// The key in PKCS#8 PEM.
    pub fn to_pem(&self) -> &str {
        &self.pem
    }

    /// The public half.
    pub fn public(&self) -> &AuditPublicKey {
        &self.public
    }

    /// Signs a head.
    pub fn sign(&self, head: TreeHead) -> SignedHead {
        let text = signed_text(&self.public.origin(), &head);
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        SignedHead::new(head, &self.public, signature)
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditKey({})", self.public.origin())
    }
}

/// The public half of an audit key.
#[derive(Clone, PartialEq, Eq)]
pub struct AuditPublicKey {
    raw: [u8; 32],
}

impl AuditPublicKey {
    /// The key in a DER SubjectPublicKeyInfo (RFC 8410); `None` if it is not an Ed25519 key.
    pub fn from_spki(spki: &[u8]) -> Option<Self> {
        Self::from_raw(spki.strip_prefix(&SPKI_PREFIX)?)
    }

    fn from_raw(raw: &[u8]) -> Option<Self> {
        Some(Self { raw: raw.try_into().ok()? })
    }

    /// The key as a DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        [&SPKI_PREFIX[..], &self.raw].concat()
    }

    /// The name of the log that this key signs: `handfast-audit/` and 16 hex digits of the SHA-256 of
    /// the SubjectPublicKeyInfo.
    pub fn origin(&self) -> String {
        let hash = digest::digest(&digest::SHA256, &self.spki());
        format!("{ORIGIN}{}", hex::encode(hash.as_ref().get(..8).unwrap_or_default()))
    }

    /// The key as PEM, as OpenSSL reads it.
    pub fn to_pem(&self) -> String {
        let text = Base64::encode_string(&self.spki());
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    /// Reads what [`AuditPublicKey::to_pem`] wrote.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let body = pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?;
        let body = body.strip_suffix("-----END PUBLIC KEY-----")?;
        let text: String = body.split_ascii_whitespace().collect();
        Self::from_spki(&Base64::decode_vec(&text).ok()?)
    }

    /// The key's number in signed notes: SHA-256 of name, line break, 0x01 (Ed25519) and the key.
    fn note_hash(&self) -> [u8; 4] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(self.origin().as_bytes());
        context.update(b"\n\x01");
        context.update(&self.raw);
        let mut hash = [0; 4];
        for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        hash
    }
}

impl fmt::Debug for AuditPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditPublicKey({})", self.origin())
    }
}

fn signed_text(origin: &str, head: &TreeHead) -> String {
    let root = Base64::encode_string(&head.root);
    format!("{origin}\n{}\n{root}\nat {}\n", head.size, head.at)
}

const ORIGIN: &str = "handfast-audit/";
/// Far more than any head takes.
const MAX_TEXT: usize = 1024;
/// Everything of an Ed25519 SubjectPublicKeyInfo before the key (RFC 8410 section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(size: u64, root: u8) -> TreeHead {
        TreeHead { size, root: [root; 32], at: "2026-11-21T03:34:02.000001Z".parse().unwrap() }
    }

    #[test]
    fn a_head_survives_its_text_and_only_its_own_key_verifies_it() {
        let key = AuditKey::generate().unwrap();
        let signed = key.sign(head(7, 1));
        let text = signed.to_string();
        assert_eq!(text.parse(), Ok(signed.clone()), "{text}");
        assert!(signed.is_signed_by(key.public()));

        let other = AuditKey::generate().unwrap();
        assert!(!signed.is_signed_by(other.public()));
        for forged in [head(8, 1), head(7, 2)] {
            let forged = SignedHead { head: forged, ..signed.clone() };
            assert!(!forged.is_signed_by(key.public()));
        }
        let again = AuditKey::from_pem(key.to_pem().as_bytes()).unwrap();
        assert_eq!(again.public(), key.public());
        let pem = key.public().to_pem();
        assert_eq!(AuditPublicKey::from_pem(&pem), Some(key.public().clone()), "{pem}");
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_text_that_says_the_same_in_another_way_is_refused() {
        let text = AuditKey::generate().unwrap().sign(head(7, 1)).to_string();
        for other in [
            text.replace("\n7\n", "\n07\n"),
            text.replace("\n7\n", "\n+7\n"),
            text.replace("000001Z", "0000010Z"),
            format!("{text}\nmore"),
            text.replace('\u{2014}', "-"),
            String::new(),
        ] {
            assert_eq!(other.parse::<SignedHead>(), Err(HeadError), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "(handfast-audit/|[0-9=\n\u{2014} a]){0,80}") {
            if let Ok(read) = text.parse::<SignedHead>() {
                prop_assert_eq!(read.to_string().parse(), Ok(read));
            }
        }
    }
}
