//! Cross-certificates: one root vouches for another, so that who knows only the first can follow a chain
//! that ends in the second. This is what bridges a root rotation.

use jiff::Timestamp;
use yasna::Tag;

use crate::issuance::{NOT_BEFORE_CUSHION, proven};
use crate::{
    Certificate, Entropy, IssueError, Issuer, KeyAlgorithm, PublicKey, Serial, asn1, sealing,
};

impl Issuer {
    /// Certifies another root under this one: the name and key of `other`, octet for octet, as a CA that may
    /// sign CAs for leaves (path length 1). It ends with whichever of the two ends first.
    ///
    /// Verifiers that hold this root to its own path length (OpenSSL does, webpki does not) need that to be 2:
    /// roots made by [`crate::Profile::Root`] have it.
    pub fn cross_sign(
        &self,
        other: &Certificate,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Certificate, IssueError> {
        let ca = self.certificate();
        let issuer = || ca.subject().to_owned();
        if now > ca.not_after() {
            return Err(IssueError::IssuerExpired { issuer: issuer(), not_after: ca.not_after() });
        }
        if now > other.not_after() {
            let (issuer, not_after) = (other.subject().to_owned(), other.not_after());
            return Err(IssueError::IssuerExpired { issuer, not_after });
        }
        // A CA for leaves may vouch for its own successor, and for no other CA: what carries its own
        // name does not count (RFC 5280 section 6.1.4, l).
        let counts = ca.subject_raw() != other.subject_raw();
        if (ca.path_len() == Some(0) && counts) || !other.is_ca() {
            return Err(IssueError::PathLength { issuer: issuer() });
        }
        let public = other.public_key()?;
        let not_before = now.checked_sub(NOT_BEFORE_CUSHION).map_err(|_| IssueError::NoLife)?;
        let validity = (not_before, ca.not_after().min(other.not_after()));
        let tbs = self.cross_tbs(other, &public, &Serial::random(entropy), validity);
        let der = sealing::sealed(self.key(), &tbs, |_| {})
            .map_err(|error| IssueError::Signing { reason: error.to_string() })?;
        proven(&der, Some(ca), &public)
    }

    fn cross_tbs(
        &self,
        other: &Certificate,
        public: &PublicKey,
        serial: &Serial,
        (not_before, not_after): (Timestamp, Timestamp),
    ) -> Vec<u8> {
        let ca = self.certificate();
        let id = |certificate: &Certificate, key: &PublicKey| {
            certificate.subject_key_id().map_or_else(|| key.subject_key_id(), <[u8]>::to_vec)
        };
        let algorithm: KeyAlgorithm = self.key().algorithm();
        yasna::construct_der(|writer| {
            writer.write_sequence(|tbs| {
                tbs.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
                tbs.next().write_bigint_bytes(serial.as_bytes(), true);
                sealing::write_algorithm(tbs.next(), algorithm);
                tbs.next().write_der(ca.subject_raw());
                tbs.next().write_sequence(|validity| {
                    asn1::write_time(validity.next(), not_before);
                    asn1::write_time(validity.next(), not_after);
                });
                tbs.next().write_der(other.subject_raw());
                tbs.next().write_der(other.spki_der());
                tbs.next().write_tagged(Tag::context(3), |writer| {
                    writer.write_sequence(|list| {
                        asn1::write_key_id(list, &id(ca, self.key().public_key()));
                        asn1::write_extension(list, &[2, 5, 29, 14], false, |writer| {
                            writer.write_bytes(&id(other, public));
                        });
                        asn1::write_extension(list, &[2, 5, 29, 15], true, |writer| {
                            // keyCertSign and cRLSign: bits 5 and 6 of 7.
                            writer.write_bitvec_bytes(&[0b0000_0110], 7);
                        });
                        asn1::write_extension(list, &[2, 5, 29, 19], true, |writer| {
                            writer.write_sequence(|constraints| {
                                constraints.next().write_bool(true);
                                constraints.next().write_u8(CROSS_PATH_LEN);
                            });
                        });
                    });
                });
            });
        })
    }
}

/// One site CA below the root that is certified.
const CROSS_PATH_LEN: u8 = 1;
