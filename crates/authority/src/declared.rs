//! What the user declared, as far as credentials depend on it.
//!
//! The input of this crate, in domain types: whoever reads YAML converts it into this. Nothing
//! here is read from a file, and nothing about traffic is in it.

use std::collections::BTreeSet;
use std::fmt;

use handfast_pki::{Host, Name, TrustDomain};

use crate::lifetimes::Lifetimes;
use crate::names::CredentialNames;

/// Everything a site's credentials follow from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Declared {
    /// The site's name.
    pub site: Name,
    /// The trust domain that this site holds the root of; absent for a standalone site.
    pub trust_domain: Option<TrustDomain>,
    /// Where other sites can link to this one.
    pub accesses: Vec<DeclaredAccess>,
    /// The links this site opens to others.
    pub links: Vec<DeclaredLink>,
    /// Services whose TLS certificate we are to make.
    pub services: Vec<DeclaredService>,
    /// Relays of this site, whose certificates we are to make.
    pub agents: Vec<DeclaredAgent>,
    /// Credentials and issuers that resources use as the user supplied them: nothing is made where one is missing.
    pub used: BTreeSet<Name>,
    /// Under what, besides loopback, operators reach the admin API of this site.
    pub admin_hosts: Vec<Host>,
    /// How long credentials live.
    pub settings: Lifetimes,
    /// Under which names the site's own credentials are kept.
    pub names: CredentialNames,
    /// The base URL under which CRLs, OCSP answers and CA certificates are handed out, without a slash at its
    /// end: certificates point there. Absent where nothing is handed out.
    pub distribution: Option<String>,
}

impl Declared {
    /// A site that declares nothing but itself, with defaults for all else.
    pub fn new(site: Name) -> Self {
        Self {
            site,
            trust_domain: None,
            accesses: Vec::new(),
            links: Vec::new(),
            services: Vec::new(),
            agents: Vec::new(),
            used: BTreeSet::new(),
            admin_hosts: Vec::new(),
            settings: Lifetimes::default(),
            names: CredentialNames::default(),
            distribution: None,
        }
    }

    /// The trust domain of the identities that this site signs.
    ///
    /// A standalone site is a trust domain of its own, `<site>.handfast.internal`: whoever links
    /// to it trusts that site's CA and nothing else, and two standalone sites never share a name
    /// by accident (`.internal` is reserved for private use by ICANN resolution 2024.07.29.06).
    pub fn effective_trust_domain(&self) -> Option<TrustDomain> {
        match &self.trust_domain {
            Some(declared) => Some(declared.clone()),
            None => format!("{}.handfast.internal", self.site).parse().ok(),
        }
    }
}

/// A place where other sites can link to this one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeclaredAccess {
    /// The resource that declares it.
    pub resource: ResourceRef,
    /// The server credential it presents (`tlsCredentials`).
    pub credential: Name,
    /// Every host under which others dial it.
    pub hosts: Vec<Host>,
}

/// A link that this site opens to another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeclaredLink {
    /// The resource that declares it.
    pub resource: ResourceRef,
    /// The link's name.
    pub name: Name,
    /// The client credential it presents (`tlsCredentials`), signed by the other site.
    pub credential: Name,
}

/// A listener or connector that asks for a certificate made here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeclaredService {
    /// The resource that declares it.
    pub resource: ResourceRef,
    /// The server credential it presents.
    pub credential: Name,
    /// Every host under which clients reach it.
    pub hosts: Vec<Host>,
}

/// A relay of telemetry that asks for a certificate made here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeclaredAgent {
    /// The resource that declares it.
    pub resource: ResourceRef,
    /// The client credential it presents.
    pub credential: Name,
    /// The service that it reports for.
    pub service: Name,
}

/// A resource, as a message names it: `RouterAccess/west`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ResourceRef {
    /// The resource's kind, as written in its file.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl ResourceRef {
    /// A reference to the `kind` called `name`.
    pub fn new(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: kind.into(), name: name.into() }
    }
}

impl fmt::Display for ResourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}
