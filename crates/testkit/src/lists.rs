//! CRLs that `handfast-pki` would never make: reasons, extensions and scopes of others, signed by a test CA.

use handfast_pki::{Issuer, Serial};
use jiff::Timestamp;
use rcgen::SigningKey;
use yasna::models::ObjectIdentifier;

/// A CRL under construction.
#[derive(Debug, Default)]
pub struct ForgedList {
    entries: Vec<Vec<u8>>,
    extensions: Vec<Vec<u8>>,
}

impl ForgedList {
    /// The CRL number.
    pub fn number(&mut self, number: u64) {
        self.extension(&[2, 5, 29, 20], false, &yasna::construct_der(|w| w.write_u64(number)));
    }

    /// Makes it a delta to the full list of this number.
    pub fn base(&mut self, number: u64) {
        self.extension(&[2, 5, 29, 27], true, &yasna::construct_der(|w| w.write_u64(number)));
    }

    /// An entry with this reason code, even one that RFC 5280 forbids.
    pub fn entry(&mut self, serial: &Serial, at: Timestamp, reason: u8) {
        let code = yasna::construct_der(|writer| writer.write_enum(i64::from(reason)));
        let reason = extension(&[2, 5, 29, 21], false, &code);
        self.entries.push(yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_bigint_bytes(serial.as_bytes(), true);
                writer.next().write_der(&time(at));
                writer.next().write_sequence(|list| list.next().write_der(&reason));
            });
        }));
    }

    /// Any extension of the list.
    pub fn extension(&mut self, oid: &[u64], critical: bool, content: &[u8]) {
        self.extensions.push(extension(oid, critical, content));
    }
}

/// A CRL of `ca` (ECDSA P-256), in DER, with whatever `fill` puts into it.
pub fn forge(
    ca: &Issuer,
    (this_update, next_update): (Timestamp, Timestamp),
    fill: impl FnOnce(&mut ForgedList),
) -> Vec<u8> {
    let mut list = ForgedList::default();
    let key_id = ca.certificate().subject_key_id().expect("a CA of ours");
    let authority_key_id = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            let tag = yasna::Tag::context(0);
            writer.next().write_tagged_implicit(tag, |writer| writer.write_bytes(key_id));
        });
    });
    list.extension(&[2, 5, 29, 35], false, &authority_key_id);
    fill(&mut list);
    let signer = crate::authority::signer(ca);
    let algorithm = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            let oid = ObjectIdentifier::from_slice(&[1, 2, 840, 10_045, 4, 3, 2]);
            writer.next().write_oid(&oid);
        });
    });
    let tbs = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(1);
            writer.next().write_der(&algorithm);
            writer.next().write_der(&subject(ca));
            writer.next().write_der(&time(this_update));
            writer.next().write_der(&time(next_update));
            if !list.entries.is_empty() {
                writer.next().write_sequence(|writer| {
                    list.entries.iter().for_each(|entry| writer.next().write_der(entry));
                });
            }
            if !list.extensions.is_empty() {
                writer.next().write_tagged(yasna::Tag::context(0), |writer| {
                    writer.write_sequence(|writer| {
                        list.extensions.iter().for_each(|der| writer.next().write_der(der));
                    });
                });
            }
        });
    });
    let signature = signer.sign(&tbs).expect("a signature");
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&tbs);
            writer.next().write_der(&algorithm);
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    })
}

fn extension(oid: &[u64], critical: bool, content: &[u8]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
            if critical {
                writer.next().write_bool(true);
            }
            writer.next().write_bytes(content);
        });
    })
}

/// The CA's subject in DER, cut out of its certificate: the sixth field of the signed part.
fn subject(ca: &Issuer) -> Vec<u8> {
    yasna::parse_der(ca.certificate().der(), |reader| {
        reader.read_sequence(|certificate| {
            let subject = certificate.next().read_sequence(|signed| {
                let fields: Result<Vec<_>, _> = (0..8).map(|_| signed.next().read_der()).collect();
                Ok(fields?.swap_remove(5))
            })?;
            certificate.next().read_der()?;
            certificate.next().read_der()?;
            Ok(subject)
        })
    })
    .expect("a certificate of ours")
}

/// UTCTime.
fn time(at: Timestamp) -> Vec<u8> {
    let text = at.strftime("%y%m%d%H%M%SZ").to_string();
    let mut der = vec![0x17, u8::try_from(text.len()).expect("13 octets")];
    der.extend(text.into_bytes());
    der
}
