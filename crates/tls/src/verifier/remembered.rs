//! Signatures on certificates that were found to be good before. Whether a signature is good depends on nothing but
//! the key, what was signed and the signature, so a good one is good the next time: when thousands of peers come
//! back at once, the signatures on their certificates are looked up and not computed again. Everything else about a
//! path (names, dates, usage, revocation, which anchor) is judged anew each time, and so is the peer's own signature over
//! the handshake, which is another one each time.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use handfast_pki::Fingerprint;
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

/// Algorithms that remember what they found good.
pub(super) struct Remembering(Vec<Remembered>);

/// One of them.
struct Remembered {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    /// Which of them: what is good by one need not be good by another.
    number: u8,
    good: Arc<Mutex<HashSet<[u8; 32]>>>,
}

impl Remembering {
    pub(super) fn new(algorithms: &[&'static dyn SignatureVerificationAlgorithm]) -> Self {
        let good = Arc::default();
        let remember = |(number, algorithm): (u8, &&'static dyn SignatureVerificationAlgorithm)| {
            Remembered { algorithm: *algorithm, number, good: Arc::clone(&good) }
        };
        Self((0..).zip(algorithms).map(remember).collect())
    }

    pub(super) fn all(&self) -> Vec<&dyn SignatureVerificationAlgorithm> {
        self.0.iter().map(|one| one as &dyn SignatureVerificationAlgorithm).collect()
    }
}

impl SignatureVerificationAlgorithm for Remembered {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let what = digest(self.number, [public_key, message, signature]);
        if self.good.lock().unwrap_or_else(PoisonError::into_inner).contains(&what) {
            return Ok(());
        }
        self.algorithm.verify_signature(public_key, message, signature)?;
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= MOST {
            good.clear();
        }
        good.insert(what);
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.algorithm.fips()
    }
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.algorithm.fmt(f)
    }
}

/// Each part with its length before it, so that no other three parts read the same.
fn digest(number: u8, parts: [&[u8]; 3]) -> [u8; 32] {
    let mut whole = Vec::with_capacity(1 + parts.iter().map(|part| part.len() + 8).sum::<usize>());
    whole.push(number);
    for part in parts {
        whole.extend_from_slice(&(part.len() as u64).to_be_bytes());
        whole.extend_from_slice(part);
    }
    Fingerprint::of(&whole).0
}

/// Good signatures that are remembered. Whoever fills it with chains of his own only makes the next ones cost what they
/// did before.
const MOST: usize = 16_384;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Finds good what ends as the key does, and counts how often it is asked.
    #[derive(Debug)]
    struct Counting(AtomicUsize);

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(
            &self,
            public_key: &[u8],
            _: &[u8],
            signature: &[u8],
        ) -> Result<(), InvalidSignature> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if public_key.last() == signature.last() { Ok(()) } else { Err(InvalidSignature) }
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            rustls::pki_types::alg_id::ECDSA_P256
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            rustls::pki_types::alg_id::ECDSA_SHA256
        }
    }

    #[test]
    fn what_was_good_is_looked_up_and_what_was_not_is_asked_again() {
        static FIRST: Counting = Counting(AtomicUsize::new(0));
        static SECOND: Counting = Counting(AtomicUsize::new(0));
        let remembering = Remembering::new(&[&FIRST, &SECOND]);
        let all = remembering.all();
        for _ in 0..3 {
            assert!(all[0].verify_signature(b"key", b"said", b"by").is_ok());
            assert!(all[0].verify_signature(b"key", b"said", b"bx").is_err());
        }
        assert_eq!(FIRST.0.load(Ordering::Relaxed), 1 + 3);
        // Neither another message, nor the same octets cut elsewhere, nor another algorithm.
        assert!(all[0].verify_signature(b"key", b"says", b"by").is_ok());
        assert!(all[0].verify_signature(b"keysa", b"id", b"by").is_err());
        assert!(all[1].verify_signature(b"key", b"said", b"by").is_ok());
        assert_eq!(FIRST.0.load(Ordering::Relaxed), 4 + 2);
        assert_eq!(SECOND.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn it_remembers_no_more_than_so_many() {
        static ONE: Counting = Counting(AtomicUsize::new(0));
        let remembering = Remembering::new(&[&ONE]);
        for number in 0..=MOST {
            let said = number.to_be_bytes();
            assert!(remembering.all()[0].verify_signature(b"y", &said, b"y").is_ok());
        }
        assert!(remembering.0[0].good.lock().unwrap().len() <= MOST);
    }
}
