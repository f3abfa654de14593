//! The extensions of a CRL (RFC 5280 section 5.2).

use x509_parser::extensions::{
    DistributionPointName, IssuingDistributionPoint, ParsedExtension, X509Extension,
};

use super::{CrlError, CrlNumber};
use crate::asn1::{self, Element, Fields};
use crate::distribution::{FRESHEST_CRL, uris_of_names, uris_of_points};

/// Everything read from the extensions of one list.
#[derive(Clone, Debug, Default)]
pub(super) struct CrlExtensions {
    pub(super) authority_key_id: Option<Vec<u8>>,
    pub(super) number: Option<CrlNumber>,
    pub(super) base: Option<CrlNumber>,
    pub(super) freshest: Vec<String>,
    pub(super) partition: Vec<String>,
    pub(super) leaves_only: bool,
    pub(super) cas_only: bool,
}

impl CrlExtensions {
    /// Reads the `[0]` field of the list of this issuer.
    pub(super) fn read(wrapped: &Element<'_>, issuer: &str) -> Result<Self, CrlError> {
        let malformed = || CrlError::Malformed { what: "its extensions" };
        let list = Fields::only(wrapped.content).ok_or_else(malformed)?;
        let extensions = asn1::extensions(&list).ok_or_else(malformed)?;
        let mut read = Self::default();
        for (index, extension) in extensions.iter().enumerate() {
            let earlier = extensions.get(..index).unwrap_or_default();
            if earlier.iter().any(|other| other.oid == extension.oid) {
                return Err(CrlError::Malformed { what: "the same extension twice" });
            }
            read.add(extension, issuer)?;
        }
        if read.base.is_some() && read.number.is_none() {
            return Err(CrlError::Malformed { what: "a delta without a number" });
        }
        Ok(read)
    }

    fn add(&mut self, extension: &X509Extension<'_>, issuer: &str) -> Result<(), CrlError> {
        let integer = || {
            Fields::only(extension.value)
                .filter(|number| number.tag() == asn1::INTEGER)
                .and_then(|number| CrlNumber::from_der_integer(number.content))
                .ok_or(CrlError::Malformed { what: "its number" })
        };
        let oid = extension.oid.to_id_string();
        match (oid.as_str(), extension.parsed_extension()) {
            ("2.5.29.20", _) => self.number = Some(integer()?),
            ("2.5.29.27", _) => self.base = Some(integer()?),
            (FRESHEST_CRL, _) => self.freshest = uris_of_points(extension.value),
            (_, ParsedExtension::AuthorityKeyIdentifier(aki)) => {
                self.authority_key_id = aki.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            (_, ParsedExtension::IssuingDistributionPoint(point)) => {
                self.scope_of(point, issuer)?;
            }
            (_, ParsedExtension::ParseError { .. }) => {
                return Err(CrlError::Malformed { what: "its extensions" });
            }
            // issuerAltName, authorityInfoAccess and others: nothing to act on.
            _ if extension.critical => {
                let issuer = issuer.to_owned();
                return Err(CrlError::UnknownCriticalExtension { issuer, extension: oid });
            }
            _ => {}
        }
        Ok(())
    }

    fn scope_of(
        &mut self,
        point: &IssuingDistributionPoint<'_>,
        issuer: &str,
    ) -> Result<(), CrlError> {
        let issuer = || issuer.to_owned();
        if point.indirect_crl {
            return Err(CrlError::Indirect { issuer: issuer() });
        }
        if point.only_some_reasons.is_some() {
            return Err(CrlError::Scope { issuer: issuer(), what: "some reasons" });
        }
        if point.only_contains_attribute_certs {
            return Err(CrlError::Scope { issuer: issuer(), what: "attribute certificates" });
        }
        self.leaves_only = point.only_contains_user_certs;
        self.cas_only = point.only_contains_ca_certs;
        match &point.distribution_point {
            Some(DistributionPointName::FullName(names)) => self.partition = uris_of_names(names),
            Some(DistributionPointName::NameRelativeToCRLIssuer(_)) => {
                return Err(CrlError::Scope {
                    issuer: issuer(),
                    what: "a part named in a directory",
                });
            }
            None => {}
        }
        Ok(())
    }

    /// What the list covers; two lists can only be merged if it is the same.
    pub(super) fn scope(&self) -> (&[String], bool, bool) {
        (&self.partition, self.leaves_only, self.cas_only)
    }
}
