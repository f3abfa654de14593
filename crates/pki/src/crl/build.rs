//! Making our own CRLs. Every entry is encoded once, when it is added; a list is those bytes with a frame
//! around them, and a signature.

use std::collections::HashSet;

use jiff::Timestamp;

use super::{CrlError, entry};
use crate::distribution::{self, FRESHEST_CRL_OID};
use crate::{Issuer, RevokedEntry, Serial, asn1, sealing};

/// The revoked certificates of one issuer, ready to be made into CRLs.
#[derive(Clone, Debug, Default)]
pub struct CrlBuilder {
    /// Entries in DER, one after the other, in the order added.
    encoded: Vec<u8>,
    kept: Vec<Kept>,
    serials: HashSet<Serial>,
    base: Option<Base>,
}

#[derive(Clone, Debug)]
struct Kept {
    serial: Serial,
    length: usize,
    not_after: Option<Timestamp>,
}

/// What deltas continue.
#[derive(Clone, Copy, Debug)]
struct Base {
    number: u64,
    /// Entries that were there already.
    entries: usize,
}

impl CrlBuilder {
    /// A builder without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a revoked certificate, which ends by itself at `not_after` if that is known. One that is there
    /// already stays as it is: the first time and reason count. Returns whether it is new.
    pub fn push(&mut self, entry: &RevokedEntry, not_after: Option<Timestamp>) -> bool {
        if !self.serials.insert(entry.serial.clone()) {
            return false;
        }
        let der = entry::encode(entry);
        self.kept.push(Kept { serial: entry.serial.clone(), length: der.len(), not_after });
        self.encoded.extend(der);
        true
    }

    /// How many certificates are listed.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether no certificate is listed.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Drops the entries of certificates that had expired when a full list was last made (`listed`): each has
    /// then stood in a list made after its expiry (RFC 5280 section 3.3). Returns how many went.
    pub fn prune(&mut self, listed: Timestamp) -> usize {
        let gone = |kept: &Kept| kept.not_after.is_some_and(|not_after| not_after < listed);
        if !self.kept.iter().any(gone) {
            return 0;
        }
        let before = self.kept.len();
        let mut encoded = Vec::with_capacity(self.encoded.len());
        let mut base_gone = 0;
        let (mut start, mut rest) = (0, Vec::with_capacity(before));
        for (index, kept) in self.kept.drain(..).enumerate() {
            let end = start + kept.length;
            if gone(&kept) {
                self.serials.remove(&kept.serial);
                base_gone += usize::from(self.base.is_some_and(|base| index < base.entries));
            } else {
                encoded.extend(self.encoded.get(start..end).unwrap_or_default());
                rest.push(kept);
            }
            start = end;
        }
        (self.encoded, self.kept) = (encoded, rest);
        if let Some(base) = &mut self.base {
            base.entries -= base_gone;
        }
        before - self.kept.len()
    }

    /// The full list as it is now, in DER. `freshest` is where its deltas are to be had.
    pub fn full(
        &self,
        number: u64,
        validity: (Timestamp, Timestamp),
        freshest: &[String],
        issuer: &Issuer,
    ) -> Result<Vec<u8>, CrlError> {
        build(&self.encoded, number, None, validity, freshest, issuer)
    }

    /// From now on deltas continue the full list of this number: it lists what is here now.
    pub fn set_base(&mut self, number: u64) {
        self.base = Some(Base { number, entries: self.kept.len() });
    }

    /// The number of the full list that deltas continue.
    pub fn base(&self) -> Option<u64> {
        self.base.map(|base| base.number)
    }

    /// What was added since the base, in DER; `None` if there is no base.
    pub fn delta(
        &self,
        number: u64,
        validity: (Timestamp, Timestamp),
        issuer: &Issuer,
    ) -> Result<Option<Vec<u8>>, CrlError> {
        let Some(base) = self.base else { return Ok(None) };
        let known = self.kept.iter().take(base.entries).map(|kept| kept.length).sum::<usize>();
        let new = self.encoded.get(known..).unwrap_or_default();
        build(new, number, Some(base.number), validity, &[], issuer).map(Some)
    }
}

fn build(
    entries: &[u8],
    number: u64,
    base: Option<u64>,
    (this_update, next_update): (Timestamp, Timestamp),
    freshest: &[String],
    issuer: &Issuer,
) -> Result<Vec<u8>, CrlError> {
    let ca = issuer.certificate();
    let key = issuer.key();
    let key_id =
        ca.subject_key_id().map_or_else(|| key.public_key().subject_key_id(), <[u8]>::to_vec);
    let tbs = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(1);
            sealing::write_algorithm(writer.next(), key.algorithm());
            writer.next().write_der(ca.subject_raw());
            asn1::write_time(writer.next(), this_update);
            asn1::write_time(writer.next(), next_update);
            // An empty list is left out (RFC 5280 section 5.1.2.6).
            if !entries.is_empty() {
                writer.next().write_sequence(|writer| writer.next().write_der(entries));
            }
            writer.next().write_tagged(yasna::Tag::context(0), |writer| {
                writer.write_sequence(|writer| {
                    asn1::write_key_id(writer, &key_id);
                    asn1::write_extension(writer, &[2, 5, 29, 20], false, |writer| {
                        writer.write_u64(number);
                    });
                    if let Some(base) = base {
                        asn1::write_extension(writer, &[2, 5, 29, 27], true, |writer| {
                            writer.write_u64(base);
                        });
                    }
                    if !freshest.is_empty() {
                        asn1::write_extension(writer, FRESHEST_CRL_OID, false, |writer| {
                            distribution::write_points(writer, freshest);
                        });
                    }
                });
            });
        });
    });
    Ok(sealing::sealed(key, &tbs, |_| {})?)
}
