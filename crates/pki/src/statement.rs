//! Statements: what a CA says with its key that is neither a certificate nor a revocation list.
//!
//! What is signed begins with a text that names the sort of statement, so that no signature made here
//! can ever pass for one on a certificate, a request or a list: those begin with the octet 0x30.

use crate::{Certificate, Issuer, SignError, SignatureError};

/// What a sort of statement is called; part of what is signed. Visible ASCII, such as
/// `handfast revocations 1`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StatementContext(pub &'static str);

impl StatementContext {
    fn message(self, body: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(self.0.len() + 1 + body.len());
        message.extend_from_slice(self.0.as_bytes());
        message.push(0);
        message.extend_from_slice(body);
        message
    }
}

impl Issuer {
    /// Signs `body` as a statement of this sort, with the CA's key.
    ///
    /// # Errors
    /// If the key cannot be used at the moment.
    pub fn sign_statement(
        &self,
        context: StatementContext,
        body: &[u8],
    ) -> Result<Vec<u8>, SignError> {
        self.key().sign(&context.message(body))
    }
}

impl Certificate {
    /// Checks that the holder of this certificate's key made this statement.
    ///
    /// # Errors
    /// If the signature is another's, or the key is of a kind that signs no statements.
    pub fn verify_statement(
        &self,
        context: StatementContext,
        body: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        let key = self.public_key().map_err(|_| SignatureError::MalformedKey)?;
        key.verify(&context.message(body), signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IssueRequest, KeyAlgorithm, PrivateKey, Profile, Subject, SystemEntropy};
    use jiff::Timestamp;

    const CONTEXT: StatementContext = StatementContext("test 1");

    fn authority(algorithm: KeyAlgorithm) -> Issuer {
        let key = PrivateKey::generate(algorithm).expect("a key");
        let request = IssueRequest::new(Profile::Root, Subject::new("root"), key.spki_der());
        Issuer::self_signed(&request, key, Timestamp::UNIX_EPOCH, &mut SystemEntropy)
            .expect("a root")
    }

    #[test]
    fn a_statement_holds_for_its_key_its_sort_and_its_words_only() {
        for algorithm in [
            KeyAlgorithm::EcdsaP256,
            KeyAlgorithm::EcdsaP384,
            KeyAlgorithm::Ed25519,
            KeyAlgorithm::Rsa2048,
        ] {
            let ca = authority(algorithm);
            let signature = ca.sign_statement(CONTEXT, b"words").expect("signs");
            let verify =
                |context, body: &[u8]| ca.certificate().verify_statement(context, body, &signature);
            assert_eq!(verify(CONTEXT, b"words"), Ok(()), "{algorithm}");
            assert_eq!(verify(CONTEXT, b"word"), Err(SignatureError::Mismatch));
            assert_eq!(verify(StatementContext("test 2"), b"words"), Err(SignatureError::Mismatch));
            let other = authority(algorithm);
            assert_eq!(
                other.certificate().verify_statement(CONTEXT, b"words", &signature),
                Err(SignatureError::Mismatch)
            );
        }
    }

    #[test]
    fn no_statement_is_a_signature_on_what_is_signed_in_der() {
        let message = StatementContext("handfast revocations 1").message(&[0x30, 0x03]);
        assert_ne!(message.first(), Some(&0x30), "a SEQUENCE begins with this octet");
    }
}
