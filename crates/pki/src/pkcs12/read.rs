//! Opening a PKCS#12 file: the MAC first, then whatever lies in it.

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA224, SHA256, SHA384, SHA512};
use aws_lc_rs::hmac;

use super::cipher::{decrypt, unsupported};
use super::kdf::{self, Budget, Use};
use super::tlv::{
    CONTEXT_0, CONTEXT_0_PRIMITIVE, Elements, INTEGER, OCTET_STRING, SEQUENCE, definite, joined,
};
use super::{Encryption, Pkcs12, Pkcs12Error};
use crate::{Certificate, KeyError, Passphrase, PrivateKey};

/// Whether the octets begin as a PKCS#12 file does.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    // Sequence, its length in whatever form, then version 3 and another sequence.
    let after_length = match bytes {
        [SEQUENCE, 0x81..=0x84, ..] => {
            bytes.get(1).map_or(0, |first| usize::from(first & 0x7f) + 2)
        }
        [SEQUENCE, ..] => 2,
        _ => return false,
    };
    bytes.get(after_length..).is_some_and(|rest| rest.starts_with(&[INTEGER, 1, 3, SEQUENCE]))
}

pub(super) fn read(bytes: &[u8], passphrase: &Passphrase) -> Result<Pkcs12, Pkcs12Error> {
    if bytes.len() > Pkcs12::MAX_LEN {
        return Err(Pkcs12Error::TooLarge { octets: bytes.len() });
    }
    let bytes = definite(bytes)?;
    let mut pfx = Elements::of(&bytes).sequence()?;
    if pfx.number()? != 3 {
        return Err(Pkcs12Error::Malformed);
    }
    let mut content = pfx.sequence()?;
    let oid = content.oid()?;
    if oid != DATA {
        return Err(unsupported(&format!("signing by certificate ({oid})")));
    }
    let safe = content.explicit_0()?.expect(OCTET_STRING)?;

    let mut reading = Reading { passphrase, budget: Budget::new(), found: Pkcs12::default() };
    if let Some(mac) = pfx.next()? {
        reading.check_mac(&mut Elements::of(mac.content), safe)?;
    }
    let safe = definite(safe)?;
    let mut contents = Elements::of(&safe).sequence()?;
    while let Some(content) = contents.next()? {
        reading.content(&mut Elements::of(content.content))?;
    }
    Ok(reading.found)
}

struct Reading<'a> {
    passphrase: &'a Passphrase,
    budget: Budget,
    found: Pkcs12,
}

impl Reading<'_> {
    /// RFC 7292 section 5.1, step 4: proves passphrase and file at once.
    fn check_mac(&mut self, mac: &mut Elements<'_>, safe: &[u8]) -> Result<(), Pkcs12Error> {
        let mut info = mac.sequence()?;
        let oid = info.sequence()?.oid()?;
        let expected = info.expect(OCTET_STRING)?;
        let salt = mac.expect(OCTET_STRING)?;
        let rounds = match mac.next()? {
            Some(element) => super::tlv::number(element.content)?,
            None => 1,
        };
        let (hash, algorithm): (&'static Algorithm, hmac::Algorithm) = match oid.as_str() {
            "1.3.14.3.2.26" => (&SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            "2.16.840.1.101.3.4.2.4" => (&SHA224, hmac::HMAC_SHA224),
            "2.16.840.1.101.3.4.2.1" => (&SHA256, hmac::HMAC_SHA256),
            "2.16.840.1.101.3.4.2.2" => (&SHA384, hmac::HMAC_SHA384),
            "2.16.840.1.101.3.4.2.3" => (&SHA512, hmac::HMAC_SHA512),
            "1.2.840.113549.1.5.14" => return Err(unsupported("PBMAC1 (RFC 9579)")),
            other => return Err(unsupported(&format!("the MAC {other}"))),
        };
        let rounds = self.budget.spend(rounds)?;
        let wide = kdf::wide(self.passphrase)?;
        let right = |wide: &[u8]| {
            let key = kdf::derive(hash, Use::Mac, wide, salt, rounds, hash.output_len());
            hmac::verify(&hmac::Key::new(algorithm, &key), safe, expected).is_ok()
        };
        // No passphrase is written in two ways: as an empty text, and as nothing at all.
        let right = right(&wide) || (self.passphrase.bytes().is_empty() && right(&[]));
        if right { Ok(()) } else { Err(Pkcs12Error::WrongPassphrase) }
    }

    /// One content: bags in the clear, or encrypted bags.
    fn content(&mut self, content: &mut Elements<'_>) -> Result<(), Pkcs12Error> {
        let oid = content.oid()?;
        let mut inside = content.explicit_0()?;
        match oid.as_str() {
            DATA => self.bags(inside.expect(OCTET_STRING)?, MAX_NESTING),
            ENCRYPTED_DATA => {
                let mut data = inside.sequence()?;
                data.number()?;
                let mut info = data.sequence()?;
                info.oid()?;
                let mut algorithm = info.sequence()?;
                let Some(encrypted) = info.next()? else { return Ok(()) };
                let pieces;
                let octets = match encrypted.tag {
                    CONTEXT_0_PRIMITIVE => encrypted.content,
                    CONTEXT_0 => {
                        pieces = joined(encrypted.content)?;
                        &pieces
                    }
                    _ => return Err(Pkcs12Error::Malformed),
                };
                let clear = self.open(&mut algorithm, octets)?;
                self.bags(&clear, MAX_NESTING)
            }
            other => Err(unsupported(&format!("content of kind {other} (a public key opens it)"))),
        }
    }

    fn open(
        &mut self,
        algorithm: &mut Elements<'_>,
        octets: &[u8],
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, Pkcs12Error> {
        let (clear, encryption) = decrypt(algorithm, octets, self.passphrase, &mut self.budget)?;
        if self.found.encryption != Some(Encryption::Legacy) {
            self.found.encryption = Some(encryption);
        }
        Ok(clear)
    }

    fn bags(&mut self, octets: &[u8], nesting: usize) -> Result<(), Pkcs12Error> {
        let nesting = nesting.checked_sub(1).ok_or(Pkcs12Error::Malformed)?;
        let octets = definite(octets)?;
        let mut bags = Elements::of(&octets).sequence()?;
        while let Some(bag) = bags.next()? {
            if bag.tag != SEQUENCE {
                return Err(Pkcs12Error::Malformed);
            }
            let mut bag = Elements::of(bag.content);
            let oid = bag.oid()?;
            let mut value = bag.explicit_0()?;
            match oid.as_str() {
                CERT_BAG => self.certificate(&mut value)?,
                KEY_BAG => {
                    let element = value.next()?.ok_or(Pkcs12Error::Malformed)?;
                    self.key(element.whole)?;
                }
                SHROUDED_KEY_BAG => {
                    let mut shrouded = value.sequence()?;
                    let mut algorithm = shrouded.sequence()?;
                    let clear = self.open(&mut algorithm, shrouded.expect(OCTET_STRING)?)?;
                    self.key(&clear)?;
                }
                SAFE_BAG => {
                    let element = value.next()?.ok_or(Pkcs12Error::Malformed)?;
                    self.bags(element.whole, nesting)?;
                }
                // CRLs and secrets are none of our business.
                _ => {}
            }
        }
        Ok(())
    }

    fn certificate(&mut self, value: &mut Elements<'_>) -> Result<(), Pkcs12Error> {
        let mut bag = value.sequence()?;
        if bag.oid()? != X509_CERTIFICATE {
            return Ok(());
        }
        let der = bag.explicit_0()?.expect(OCTET_STRING)?;
        let certificate = Certificate::from_der(der).map_err(|_| Pkcs12Error::Malformed)?;
        if self.found.certificates.len() >= MAX_BAGS {
            return Err(unsupported("more certificates than are read from one file"));
        }
        self.found.certificates.push(certificate);
        Ok(())
    }

    fn key(&mut self, der: &[u8]) -> Result<(), Pkcs12Error> {
        let key = PrivateKey::from_der(der, None).map_err(|error| match error {
            KeyError::Malformed => Pkcs12Error::Malformed,
            other => unsupported(&format!("a key that cannot be used ({other})")),
        })?;
        if self.found.keys.len() >= MAX_BAGS {
            return Err(unsupported("more keys than are read from one file"));
        }
        self.found.keys.push(key);
        Ok(())
    }
}

pub(super) const DATA: &str = "1.2.840.113549.1.7.1";
pub(super) const ENCRYPTED_DATA: &str = "1.2.840.113549.1.7.6";
pub(super) const KEY_BAG: &str = "1.2.840.113549.1.12.10.1.1";
pub(super) const SHROUDED_KEY_BAG: &str = "1.2.840.113549.1.12.10.1.2";
pub(super) const CERT_BAG: &str = "1.2.840.113549.1.12.10.1.3";
pub(super) const SAFE_BAG: &str = "1.2.840.113549.1.12.10.1.6";
pub(super) const X509_CERTIFICATE: &str = "1.2.840.113549.1.9.22.1";

/// The most of each kind that one file may hold: a trust store of all public CAs has about 150.
const MAX_BAGS: usize = 512;

/// Bags may hold bags; nobody puts them deeper than this.
const MAX_NESTING: usize = 4;
