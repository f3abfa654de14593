//! A full CRL with its delta merged into it, for lookups. (rustls-webpki takes neither deltas nor this size
//! gladly; the verifiers ask here.)

use jiff::Timestamp;

use super::{Crl, CrlError, CrlNumber, Listed};
use crate::{RevokedEntry, Serial};

/// A full CRL, and the newest delta to it. Cheap to clone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CrlView {
    full: Crl,
    delta: Option<Crl>,
}

impl CrlView {
    /// The view of a full CRL alone.
    pub fn new(full: Crl) -> Result<Self, CrlError> {
        if full.is_delta() {
            let (issuer, number) = (full.issuer().to_owned(), full.number());
            return Err(CrlError::DeltaOnly { issuer, number });
        }
        Ok(Self { full, delta: None })
    }

    /// The same view with this delta merged in (RFC 5280 section 5.2.4): of the same issuer, key and scope,
    /// made for this full list or an earlier one. One that is no newer than what is there changes nothing.
    pub fn with_delta(mut self, delta: Crl) -> Result<Self, CrlError> {
        let Some(base) = delta.base_number().cloned() else {
            return Err(CrlError::Malformed { what: "a full list where a delta is expected" });
        };
        if !delta.same_scope(&self.full) {
            let (delta, full) = (delta.issuer().to_owned(), self.full.issuer().to_owned());
            return Err(CrlError::NotTogether { delta, full });
        }
        if self.full.number() < base {
            return Err(CrlError::BaseTooOld {
                issuer: delta.issuer().to_owned(),
                delta: delta.number(),
                needed: base,
                found: self.full.number(),
            });
        }
        if delta.number() > self.number() {
            self.delta = Some(delta);
        }
        Ok(self)
    }

    /// The full list.
    pub fn full(&self) -> &Crl {
        &self.full
    }

    /// The delta merged in.
    pub fn delta(&self) -> Option<&Crl> {
        self.delta.as_ref()
    }

    /// The number up to which the view knows everything.
    pub fn number(&self) -> CrlNumber {
        self.delta.as_ref().map_or_else(|| self.full.number(), Crl::number)
    }

    /// When the view is out of date: with its full list, since a delta only adds to that.
    pub fn next_update(&self) -> Timestamp {
        self.full.next_update()
    }

    /// The entry of this serial number, if it is revoked.
    pub fn lookup(&self, serial: &Serial) -> Option<RevokedEntry> {
        match self.delta.as_ref().and_then(|delta| delta.listed(serial)) {
            Some(Listed::Revoked { at, reason }) => {
                Some(RevokedEntry { serial: serial.clone(), at, reason })
            }
            Some(Listed::Removed) => None,
            None => self.full.lookup(serial),
        }
    }
}
