//! Where a certificate says its revocation can be looked up: the pointers in it, written and read (RFC 5280
//! sections 4.2.1.13, 4.2.1.15 and 4.2.2.1).

use rcgen::CustomExtension;
use x509_parser::extensions::{
    AuthorityInfoAccess, CRLDistributionPoints, DistributionPointName, GeneralName,
};
use x509_parser::prelude::FromDer;
use yasna::DERWriter;
use yasna::Tag;
use yasna::models::ObjectIdentifier;

use crate::IssueError;

/// Pointers to be written into a certificate. Each list holds alternatives of equal worth; an empty one leaves
/// its extension out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Distribution {
    /// Where the issuer's full CRL is.
    pub crl: Vec<String>,
    /// Where the deltas to it are.
    pub freshest: Vec<String>,
    /// Where the issuer's OCSP responder answers.
    pub ocsp: Vec<String>,
    /// Where the issuer's own certificate is, in DER.
    pub issuers: Vec<String>,
}

impl Distribution {
    /// The most URLs of one kind.
    pub const MAX_URLS: usize = 8;

    /// The longest URL, in octets.
    pub const MAX_URL: usize = 1024;

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.lists().iter().all(|list| list.is_empty())
    }

    /// Checks that every URL is plain HTTP (whoever looks up revocation cannot first check the revocation of
    /// a TLS server) and of a sane size.
    pub(crate) fn check(&self) -> Result<(), IssueError> {
        for list in self.lists() {
            let bad = list.iter().find(|url| {
                let rest = url.strip_prefix("http://").unwrap_or_default();
                rest.is_empty()
                    || url.len() > Self::MAX_URL
                    || !url.bytes().all(|octet| octet.is_ascii_graphic())
            });
            let bad = bad.or_else(|| list.get(Self::MAX_URLS));
            if let Some(url) = bad {
                return Err(IssueError::Distribution { url: url.chars().take(128).collect() });
            }
        }
        Ok(())
    }

    pub(crate) fn to_rcgen(&self) -> Vec<CustomExtension> {
        let points = |urls: &[String]| yasna::construct_der(|writer| write_points(writer, urls));
        let mut made = Vec::new();
        if !self.crl.is_empty() {
            made.push(CustomExtension::from_oid_content(&[2, 5, 29, 31], points(&self.crl)));
        }
        if !self.freshest.is_empty() {
            made.push(CustomExtension::from_oid_content(FRESHEST_CRL_OID, points(&self.freshest)));
        }
        if !self.ocsp.is_empty() || !self.issuers.is_empty() {
            let content = yasna::construct_der(|writer| self.write_access(writer));
            made.push(CustomExtension::from_oid_content(ACCESS_OID, content));
        }
        made
    }

    fn write_access(&self, writer: DERWriter<'_>) {
        writer.write_sequence(|writer| {
            for (method, urls) in [(1, &self.ocsp), (2, &self.issuers)] {
                for url in urls {
                    writer.next().write_sequence(|description| {
                        let oid = ObjectIdentifier::from_slice(&[1, 3, 6, 1, 5, 5, 7, 48, method]);
                        description.next().write_oid(&oid);
                        write_uri(description.next(), url);
                    });
                }
            }
        });
    }

    fn lists(&self) -> [&Vec<String>; 4] {
        [&self.crl, &self.freshest, &self.ocsp, &self.issuers]
    }
}

pub(crate) const FRESHEST_CRL: &str = "2.5.29.46";
pub(crate) const FRESHEST_CRL_OID: &[u64] = &[2, 5, 29, 46];
const ACCESS_OID: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 1];

/// Writes CRLDistributionPoints with one point, which has all these URLs.
pub(crate) fn write_points(writer: DERWriter<'_>, urls: &[String]) {
    writer.write_sequence(|points| {
        points.next().write_sequence(|point| {
            point.next().write_tagged(Tag::context(0), |name| {
                name.write_tagged_implicit(Tag::context(0), |full| {
                    full.write_sequence(|names| {
                        for url in urls {
                            write_uri(names.next(), url);
                        }
                    });
                });
            });
        });
    });
}

fn write_uri(writer: DERWriter<'_>, url: &str) {
    writer.write_tagged_implicit(Tag::context(6), |name| name.write_ia5_string(url));
}

/// The URLs in the content of a CRLDistributionPoints or FreshestCRL extension.
pub(crate) fn uris_of_points(content: &[u8]) -> Vec<String> {
    match CRLDistributionPoints::from_der(content) {
        Ok((_, points)) => uris_of(&points),
        Err(_) => Vec::new(),
    }
}

/// The URLs of distribution points that cover all reasons and are signed by the certificate's own issuer.
pub(crate) fn uris_of(points: &CRLDistributionPoints<'_>) -> Vec<String> {
    let usable = points.iter().filter(|p| p.reasons.is_none() && p.crl_issuer.is_none());
    usable
        .filter_map(|point| match &point.distribution_point {
            Some(DistributionPointName::FullName(names)) => Some(uris_of_names(names)),
            _ => None,
        })
        .flatten()
        .collect()
}

/// The URLs among these names.
pub(crate) fn uris_of_names(names: &[GeneralName<'_>]) -> Vec<String> {
    names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(url) => Some((*url).to_owned()),
            _ => None,
        })
        .collect()
}

/// Where OCSP is answered, and where the issuer's certificate is.
pub(crate) fn access(access: &AuthorityInfoAccess<'_>) -> (Vec<String>, Vec<String>) {
    let of = |method: &str| {
        access
            .accessdescs
            .iter()
            .filter(|description| description.access_method.to_id_string() == method)
            .flat_map(|description| {
                uris_of_names(std::slice::from_ref(&description.access_location))
            })
            .collect()
    };
    (of("1.3.6.1.5.5.7.48.1"), of("1.3.6.1.5.5.7.48.2"))
}
