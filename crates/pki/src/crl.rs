//! Certificate revocation lists (RFC 5280 section 5), of others and of ours, as values. A list of tens of
//! megabytes stays as it came, with an index over it: 4 octets for each entry.
//!
//! Reading is tolerant as with certificates (a version 1 list, a list out of date, a delta are values), but
//! never of what would change the meaning: unknown critical extensions, lists for others' certificates, lists
//! that never end. Whether the list is genuine is asked with [`Crl::verify_signed_by`].

mod build;
mod entry;
mod error;
mod extensions;
mod number;
mod set;
mod view;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AlgorithmIdentifier, X509Name};

use crate::asn1::{self, Element, Fields};
use crate::{
    Certificate, RevokedEntry, Serial, SignatureAlgorithm, distinguished_name, pem, signature,
};

pub use build::CrlBuilder;
use entry::Listed;
pub use error::CrlError;
use extensions::CrlExtensions;
pub use number::CrlNumber;
pub use set::{CrlSet, CrlStatus};
pub use view::CrlView;

/// A certificate revocation list, full or delta. Cheap to clone; equal if its DER is equal.
#[derive(Clone)]
pub struct Crl(Arc<Inner>);

struct Inner {
    der: Vec<u8>,
    /// The part of `der` that is signed.
    signed: Range<usize>,
    signature: Vec<u8>,
    signature_algorithm: SignatureAlgorithm,
    issuer: String,
    issuer_raw: Vec<u8>,
    this_update: Timestamp,
    next_update: Timestamp,
    extensions: CrlExtensions,
    /// Where each entry begins in `der`, in the order of serial numbers.
    entries: Vec<u32>,
}

impl Crl {
    /// The largest list read, in octets: some 1.7 million entries.
    pub const MAX_DER: usize = 64 * 1024 * 1024;

    /// Reads one CRL from PEM or DER, whichever `bytes` are.
    pub fn read(bytes: &[u8]) -> Result<Self, CrlError> {
        let mut all = Self::read_all(bytes)?;
        match (all.pop(), all.len()) {
            (Some(one), 0) => Ok(one),
            (_, more) => Err(CrlError::Several { count: more + 1 }),
        }
    }

    /// Reads one DER CRL, or every `X509 CRL` section of a PEM text (a full list and its delta, say). None is
    /// an error.
    pub fn read_all(bytes: &[u8]) -> Result<Vec<Self>, CrlError> {
        if bytes.first() == Some(&asn1::SEQUENCE)
            && Fields::new(bytes).is_some_and(|mut f| f.next().is_some())
        {
            return Ok(vec![Self::from_der(bytes)?]);
        }
        let sections = pem::sections_up_to(bytes, Self::MAX_DER / 3 * 4 + Self::MAX_DER / 32)?;
        let lists: Result<Vec<_>, _> = sections
            .iter()
            .filter(|section| section.label == "X509 CRL")
            .map(|section| Self::from_der(section.der.to_vec()))
            .collect();
        match lists {
            Ok(lists) if lists.is_empty() => {
                Err(pem::PemError::none_of("X509 CRL", &sections).into())
            }
            other => other,
        }
    }

    /// Reads a DER CRL.
    pub fn from_der(der: impl Into<Vec<u8>>) -> Result<Self, CrlError> {
        let der = der.into();
        if der.len() > Self::MAX_DER {
            return Err(CrlError::TooLarge { octets: der.len() });
        }
        Inner::read(der).map(|inner| Self(Arc::new(inner)))
    }

    /// The DER encoding.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The CRL as one PEM section.
    pub fn to_pem(&self) -> String {
        pem::encode("X509 CRL", &self.0.der).to_string()
    }

    /// The issuer as RFC 4514 text.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// The key identifier of the key that signed it, if stated.
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.0.extensions.authority_key_id.as_deref()
    }

    /// The number of the list; zero for version 1 lists, which have none.
    pub fn number(&self) -> CrlNumber {
        self.0.extensions.number.clone().unwrap_or(CrlNumber::from(0))
    }

    /// For a delta: the lowest number of the full list that it continues.
    pub fn base_number(&self) -> Option<&CrlNumber> {
        self.0.extensions.base.as_ref()
    }

    /// Whether this is a delta: it says only what changed since a full list.
    pub fn is_delta(&self) -> bool {
        self.base_number().is_some()
    }

    /// When the list was made.
    pub fn this_update(&self) -> Timestamp {
        self.0.this_update
    }

    /// When the next one will have been made: from then on this one is out of date.
    pub fn next_update(&self) -> Timestamp {
        self.0.next_update
    }

    /// Whether the list is out of date at `now`.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now > self.next_update()
    }

    /// Where the deltas to this full list are to be had (freshest CRL).
    pub fn freshest(&self) -> &[String] {
        &self.0.extensions.freshest
    }

    /// If the list covers only certificates that point to it: the URLs by which they do. Absence from such a
    /// list says nothing of other certificates.
    pub fn partition(&self) -> &[String] {
        &self.0.extensions.partition
    }

    /// Whether a certificate of this issuer would be listed here if it were revoked, judged by its kind and
    /// by where it points to.
    pub fn covers(&self, certificate: &Certificate) -> bool {
        let extensions = &self.0.extensions;
        let kind = if certificate.is_ca() { !extensions.leaves_only } else { !extensions.cas_only };
        let pointed = self.partition().is_empty()
            || certificate.crl_urls().iter().any(|url| self.partition().contains(url));
        kind && pointed
    }

    /// How many certificates are listed.
    pub fn len(&self) -> usize {
        self.0.entries.len()
    }

    /// Whether no certificate is listed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry of this serial number. In a delta, one that was taken back (`removeFromCRL`) is none.
    pub fn lookup(&self, serial: &Serial) -> Option<RevokedEntry> {
        match self.listed(serial)? {
            Listed::Revoked { at, reason } => {
                Some(RevokedEntry { serial: serial.clone(), at, reason })
            }
            Listed::Removed => None,
        }
    }

    /// Every revoked certificate, in the order of serial numbers.
    pub fn entries(&self) -> impl Iterator<Item = RevokedEntry> + '_ {
        self.0.entries.iter().filter_map(|offset| {
            let (serial, listed) = entry::read(&self.0.entry(*offset)?).ok()?;
            match listed {
                Listed::Revoked { at, reason } => {
                    Some(RevokedEntry { serial: Serial::from_der_integer(serial), at, reason })
                }
                Listed::Removed => None,
            }
        })
    }

    /// Checks that `issuer` issued this list and may do so: name, key identifier, key usage, signature. Not
    /// whether `issuer` is trusted, nor time.
    pub fn verify_signed_by(&self, issuer: &Certificate) -> Result<(), CrlError> {
        let inner = &*self.0;
        if inner.issuer_raw != issuer.subject_raw() {
            let (crl_issuer, subject) = (inner.issuer.clone(), issuer.subject().to_owned());
            return Err(CrlError::WrongIssuer { crl_issuer, subject });
        }
        if let (Some(stated), Some(held)) = (self.authority_key_id(), issuer.subject_key_id())
            && stated != held
        {
            return Err(CrlError::KeyId { issuer: inner.issuer.clone() });
        }
        if issuer.key_usage().is_some_and(|usage| !usage.crl_sign()) {
            return Err(CrlError::MayNotSign { subject: issuer.subject().to_owned() });
        }
        let signed = inner.der.get(inner.signed.clone()).unwrap_or_default();
        signature::verify(issuer.spki_der(), &inner.signature_algorithm, signed, &inner.signature)
            .map_err(|source| CrlError::Signature { issuer: inner.issuer.clone(), source })
    }

    fn listed(&self, serial: &Serial) -> Option<Listed> {
        let inner = &*self.0;
        let wanted = (serial.is_negative(), serial.as_bytes());
        let key = |offset: &u32| {
            let entry = inner.entry(*offset);
            let serial = entry.and_then(|entry| entry.fields()?.next());
            serial.map_or((false, [].as_slice()), |serial| entry::key(serial.content))
        };
        let index = inner.entries.binary_search_by(|offset| key(offset).cmp(&wanted)).ok()?;
        let entry = inner.entry(*inner.entries.get(index)?)?;
        entry::read(&entry).ok().map(|(_, listed)| listed)
    }

    /// Whether two lists are of one issuer, key and scope.
    fn same_scope(&self, other: &Self) -> bool {
        self.0.issuer_raw == other.0.issuer_raw
            && self.authority_key_id() == other.authority_key_id()
            && self.0.extensions.scope() == other.0.extensions.scope()
    }
}

impl Inner {
    fn read(der: Vec<u8>) -> Result<Self, CrlError> {
        let malformed = |what| CrlError::Malformed { what };
        let outer = Fields::only(&der).filter(|outer| outer.tag() == asn1::SEQUENCE);
        let outer = outer.ok_or(malformed("not one DER sequence"))?;
        let mut fields = outer.fields().ok_or(malformed("its frame"))?;
        let (Some(tbs), Some(algorithm), Some(signature), true) = (
            fields.take(asn1::SEQUENCE),
            fields.take(asn1::SEQUENCE),
            fields.take(asn1::BIT_STRING),
            fields.at_end(),
        ) else {
            return Err(malformed("its frame"));
        };
        let Some((0, signature)) = signature.content.split_first() else {
            return Err(malformed("its signature"));
        };
        let start = outer.content_offset() + tbs.offset;
        let list = TbsList::read(&tbs, algorithm.raw)?;
        let entries = match &list.entries {
            Some(entries) => {
                let base = outer.content_offset() + tbs.content_offset() + entries.content_offset();
                index(entries, base, &list)?
            }
            None => Vec::new(),
        };
        let TbsList { algorithm, issuer, issuer_raw, this_update, next_update, extensions, .. } =
            list;
        Ok(Self {
            signed: start..start + tbs.raw.len(),
            signature: signature.to_vec(),
            signature_algorithm: algorithm,
            issuer,
            issuer_raw: issuer_raw.to_vec(),
            this_update,
            next_update,
            extensions,
            entries,
            der,
        })
    }

    /// The entry that begins at this octet of the DER.
    fn entry(&self, offset: u32) -> Option<Element<'_>> {
        Fields::new(self.der.get(usize::try_from(offset).ok()?..)?)?.next()
    }
}

/// What stands before and after the entries.
struct TbsList<'a> {
    algorithm: SignatureAlgorithm,
    issuer: String,
    issuer_raw: &'a [u8],
    this_update: Timestamp,
    next_update: Timestamp,
    extensions: CrlExtensions,
    entries: Option<Element<'a>>,
}

impl<'a> TbsList<'a> {
    fn read(tbs: &Element<'a>, outer_algorithm: &[u8]) -> Result<Self, CrlError> {
        let malformed = |what| move || CrlError::Malformed { what };
        let mut fields = tbs.fields().ok_or_else(malformed("its frame"))?;
        let version = fields.optional(asn1::INTEGER).ok_or_else(malformed("its version"))?;
        let algorithm = fields.take(asn1::SEQUENCE).ok_or_else(malformed("its algorithm"))?;
        let issuer = fields.take(asn1::SEQUENCE).ok_or_else(malformed("its issuer"))?;
        let this_update = fields.next().and_then(|time| time.time());
        let this_update = this_update.ok_or_else(malformed("its thisUpdate"))?;
        // The algorithm outside the signature must repeat the one inside (RFC 5280 section 5.1.1.2).
        if algorithm.raw != outer_algorithm {
            return Err(malformed("its algorithm")());
        }
        let (_, identifier) = AlgorithmIdentifier::from_der(algorithm.raw)
            .map_err(|_| malformed("its algorithm")())?;
        let (_, name) = X509Name::from_der(issuer.raw).map_err(|_| malformed("its issuer")())?;
        let name = distinguished_name::text(&name);

        let mut rest = Vec::new();
        while !fields.at_end() {
            rest.push(fields.next().ok_or_else(malformed("its content"))?);
        }
        let mut rest = rest.as_slice();
        let next_update = match rest {
            [time, tail @ ..] if time.time().is_some() => {
                rest = tail;
                time.time()
            }
            _ => None,
        };
        let next_update =
            next_update.ok_or_else(|| CrlError::NoNextUpdate { issuer: name.clone() })?;
        let mut entries = None;
        if let [list, tail @ ..] = rest
            && list.tag() == asn1::SEQUENCE
        {
            (entries, rest) = (Some(*list), tail);
        }
        let extensions = match (version, rest) {
            (_, []) => CrlExtensions::default(),
            (Some(version), [wrapped])
                if version.small() == Some(1) && wrapped.tag() == asn1::context(0) =>
            {
                CrlExtensions::read(wrapped, &name)?
            }
            _ => return Err(malformed("its extensions")()),
        };
        Ok(Self {
            algorithm: SignatureAlgorithm::from_identifier(&identifier),
            issuer: name,
            issuer_raw: issuer.raw,
            this_update,
            next_update,
            extensions,
            entries,
        })
    }
}

/// Reads every entry once, so that none is found broken later, and sorts them by serial number.
fn index(list: &Element<'_>, base: usize, crl: &TbsList<'_>) -> Result<Vec<u32>, CrlError> {
    let malformed = || CrlError::Malformed { what: "an entry" };
    let mut fields = list.fields().ok_or_else(malformed)?;
    let mut found = Vec::new();
    while !fields.at_end() {
        let element = fields.next().ok_or_else(malformed)?;
        let (serial, listed) = entry::read(&element).map_err(|error| error.of(&crl.issuer))?;
        if matches!(listed, Listed::Removed) && crl.extensions.base.is_none() {
            return Err(CrlError::Malformed {
                what: "an entry taken back in a list that is no delta",
            });
        }
        let offset = u32::try_from(base + element.offset).map_err(|_| malformed())?;
        found.push((entry::key(serial), offset));
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, offset)| offset).collect())
}

impl PartialEq for Crl {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Crl {}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crl")
            .field("issuer", &self.0.issuer)
            .field("number", &format_args!("{}", self.number()))
            .field("base", &self.base_number())
            .field("next_update", &format_args!("{}", self.0.next_update))
            .field("entries", &self.len())
            .finish_non_exhaustive()
    }
}
