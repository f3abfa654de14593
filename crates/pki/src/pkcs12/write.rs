//! Writing a PKCS#12 file: certificates encrypted in one content, the key in another, a MAC over both.

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use aws_lc_rs::hmac;
use yasna::{DERWriter, Tag};
use zeroize::Zeroizing;

use super::cipher::{self, Encrypted, LEGACY_ROUNDS, MODERN_ROUNDS, oid};
use super::kdf::{self, Budget, Use};
use super::read::{CERT_BAG, DATA, ENCRYPTED_DATA, SHROUDED_KEY_BAG, X509_CERTIFICATE};
use super::{Encryption, Pkcs12Error};
use crate::{Certificate, Credential, Entropy, Passphrase, TrustAnchors};

pub(super) fn credential(
    credential: &Credential,
    name: &str,
    passphrase: &Passphrase,
    encryption: Encryption,
    entropy: &mut dyn Entropy,
) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
    let fingerprint = credential.leaf().fingerprint();
    let key_id = fingerprint.as_bytes().get(..20).unwrap_or_default();
    let attributes = Attributes { name: Some(name), key_id: Some(key_id), trusted: false };
    let others: Vec<&Certificate> =
        credential.chain().rest().iter().chain(credential.anchors().iter()).fold(
            Vec::new(),
            |mut kept, certificate| {
                if certificate != credential.leaf() && !kept.contains(&certificate) {
                    kept.push(certificate);
                }
                kept
            },
        );
    let certificates = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            certificate_bag(writer.next(), credential.leaf(), &attributes);
            for certificate in others {
                certificate_bag(writer.next(), certificate, &Attributes::default());
            }
        });
    });
    let certificates = cipher::encrypt(&certificates, passphrase, encryption, entropy)?;
    let shrouded = cipher::encrypt(credential.key().pkcs8_der(), passphrase, encryption, entropy)?;
    let key = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            bag(writer.next(), SHROUDED_KEY_BAG, &attributes, |writer| {
                writer.write_sequence(|writer| {
                    writer.next().write_der(&shrouded.algorithm);
                    writer.next().write_bytes(&shrouded.data);
                });
            });
        });
    });
    sealed(&certificates, Some(&key), passphrase, encryption, entropy)
}

pub(super) fn trust(
    anchors: &TrustAnchors,
    name: &str,
    passphrase: &Passphrase,
    encryption: Encryption,
    entropy: &mut dyn Entropy,
) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
    let certificates = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            for (index, certificate) in anchors.iter().enumerate() {
                // Java tells entries apart by name only.
                let name =
                    if index == 0 { name.to_owned() } else { format!("{name}-{}", index + 1) };
                let attributes = Attributes { name: Some(&name), key_id: None, trusted: true };
                certificate_bag(writer.next(), certificate, &attributes);
            }
        });
    });
    let certificates = cipher::encrypt(&certificates, passphrase, encryption, entropy)?;
    sealed(&certificates, None, passphrase, encryption, entropy)
}

/// The whole file around its contents.
fn sealed(
    certificates: &Encrypted,
    key: Option<&[u8]>,
    passphrase: &Passphrase,
    encryption: Encryption,
    entropy: &mut dyn Entropy,
) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
    let safe = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            content(writer.next(), ENCRYPTED_DATA, |writer| {
                writer.write_sequence(|writer| {
                    writer.next().write_u8(0);
                    writer.next().write_sequence(|writer| {
                        writer.next().write_oid(&oid(DATA));
                        writer.next().write_der(&certificates.algorithm);
                        writer.next().write_tagged_implicit(Tag::context(0), |writer| {
                            writer.write_bytes(&certificates.data);
                        });
                    });
                });
            });
            if let Some(key) = key {
                content(writer.next(), DATA, |writer| writer.write_bytes(key));
            }
        });
    });
    let (hash, hash_oid, algorithm, rounds): (&'static Algorithm, _, _, _) = match encryption {
        Encryption::Legacy => (
            &SHA1_FOR_LEGACY_USE_ONLY,
            "1.3.14.3.2.26",
            hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            LEGACY_ROUNDS,
        ),
        Encryption::Modern => (&SHA256, "2.16.840.1.101.3.4.2.1", hmac::HMAC_SHA256, MODERN_ROUNDS),
    };
    let mut salt = [0; 16];
    entropy.fill(&mut salt);
    let wide = kdf::wide(passphrase)?;
    let count = Budget::new().spend(rounds)?;
    let mac_key = kdf::derive(hash, Use::Mac, &wide, &salt, count, hash.output_len());
    let mac = hmac::sign(&hmac::Key::new(algorithm, &mac_key), &safe);
    Ok(Zeroizing::new(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(3);
            content(writer.next(), DATA, |writer| writer.write_bytes(&safe));
            writer.next().write_sequence(|writer| {
                writer.next().write_sequence(|writer| {
                    writer.next().write_sequence(|writer| {
                        writer.next().write_oid(&oid(hash_oid));
                        writer.next().write_null();
                    });
                    writer.next().write_bytes(mac.as_ref());
                });
                writer.next().write_bytes(&salt);
                writer.next().write_u32(rounds);
            });
        });
    })))
}

/// What stands beside a bag.
#[derive(Default)]
struct Attributes<'a> {
    /// The name people see; Java calls it the alias.
    name: Option<&'a str>,
    /// Says which certificate belongs to which key.
    key_id: Option<&'a [u8]>,
    /// Java trusts a certificate only with this mark.
    trusted: bool,
}

fn certificate_bag(writer: DERWriter<'_>, certificate: &Certificate, attributes: &Attributes<'_>) {
    bag(writer, CERT_BAG, attributes, |writer| {
        writer.write_sequence(|writer| {
            writer.next().write_oid(&oid(X509_CERTIFICATE));
            writer.next().write_tagged(Tag::context(0), |writer| {
                writer.write_bytes(certificate.der());
            });
        });
    });
}

fn bag(
    writer: DERWriter<'_>,
    kind: &str,
    attributes: &Attributes<'_>,
    value: impl FnOnce(DERWriter<'_>),
) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&oid(kind));
        writer.next().write_tagged(Tag::context(0), value);
        if attributes.name.is_none() && attributes.key_id.is_none() && !attributes.trusted {
            return;
        }
        writer.next().write_set_of(|writer| {
            if let Some(name) = attributes.name {
                attribute(writer.next(), FRIENDLY_NAME, |writer| writer.write_bmp_string(name));
            }
            if let Some(key_id) = attributes.key_id {
                attribute(writer.next(), LOCAL_KEY_ID, |writer| writer.write_bytes(key_id));
            }
            if attributes.trusted {
                attribute(writer.next(), JAVA_TRUSTED, |writer| writer.write_oid(&oid(ANY_USAGE)));
            }
        });
    });
}

fn attribute(writer: DERWriter<'_>, kind: &str, value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&oid(kind));
        writer.next().write_set_of(|writer| value(writer.next()));
    });
}

fn content(writer: DERWriter<'_>, kind: &str, value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&oid(kind));
        writer.next().write_tagged(Tag::context(0), value);
    });
}

const FRIENDLY_NAME: &str = "1.2.840.113549.1.9.20";
const LOCAL_KEY_ID: &str = "1.2.840.113549.1.9.21";
const JAVA_TRUSTED: &str = "2.16.840.1.113894.746875.1.1";
const ANY_USAGE: &str = "2.5.29.37.0";
