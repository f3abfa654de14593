//! Signing what is not a certificate made by rcgen: CRLs, OCSP responses, cross-certificates. All three are
//! a SEQUENCE of content, algorithm and signature.

use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, DERWriterSeq};

use crate::{KeyAlgorithm, SignError, Signer};

/// Writes the AlgorithmIdentifier with which a key of this algorithm signs.
pub(crate) fn write_algorithm(writer: DERWriter<'_>, algorithm: KeyAlgorithm) {
    let (oid, null): (&[u64], bool) = match algorithm {
        KeyAlgorithm::EcdsaP256 => (&[1, 2, 840, 10_045, 4, 3, 2], false),
        KeyAlgorithm::EcdsaP384 => (&[1, 2, 840, 10_045, 4, 3, 3], false),
        KeyAlgorithm::Ed25519 => (&[1, 3, 101, 112], false),
        // RSA's parameters are NULL (RFC 4055 section 5), the others' absent.
        _ => (&[1, 2, 840, 113_549, 1, 1, 11], true),
    };
    writer.write_sequence(|identifier| {
        identifier.next().write_oid(&ObjectIdentifier::from_slice(oid));
        if null {
            identifier.next().write_null();
        }
    });
}

/// Content (`tbs`, DER) with the signature of `key` over it, and whatever `after` appends.
pub(crate) fn sealed(
    key: &dyn Signer,
    tbs: &[u8],
    after: impl FnOnce(&mut DERWriterSeq<'_>),
) -> Result<Vec<u8>, SignError> {
    let signature = key.sign(tbs)?;
    Ok(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(tbs);
            write_algorithm(writer.next(), key.public_key().algorithm());
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
            after(writer);
        });
    }))
}
