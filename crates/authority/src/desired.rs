//! From what is declared to the credentials that must exist: the table of design section 5.
//!
//! A pure function. Whether a credential exists, is the user's, or is any good is not its concern.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use handfast_pki::{Host, IdentityKind, Name, Profile, SpiffeId, Subject};
use handfast_store::Kind;

use crate::declared::{Declared, ResourceRef};

/// A credential that must exist for what is declared to work.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DesiredCredential {
    /// Whether it is a certificate to present, or an issuer to sign with.
    pub kind: Kind,
    /// Its name in the store.
    pub name: Name,
    /// What it is for.
    pub profile: Profile,
    /// The names in it. For a certificate that another site signs, what we ask for: that site
    /// decides the identity.
    pub subject: Subject,
    /// Who signs it.
    pub signed_by: SignedBy,
    /// How long a new one is to live.
    pub ttl: Duration,
    /// The resources that need it; empty for what the site itself needs.
    pub needed_by: Vec<ResourceRef>,
}

/// Who signs a credential.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SignedBy {
    /// An issuer of this site.
    Issuer(Name),
    /// Its own key.
    Itself,
    /// The site at the other end of the link of this name.
    RemoteSite(Name),
}

/// The credentials that `declared` calls for, each name once, signers before what they sign.
///
/// Two resources that name the same server credential share it, with the hosts of both. A
/// resource whose credential name is already taken for another purpose gets nothing here;
/// [`conflicts`] reports it.
pub fn desired(declared: &Declared) -> Vec<DesiredCredential> {
    collect(declared).0
}

/// Resources that ask for a credential under a name that serves another purpose.
pub fn conflicts(declared: &Declared) -> Vec<NameConflict> {
    collect(declared).1
}

/// A credential name that two purposes claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameConflict {
    /// The name.
    pub name: Name,
    /// The resource that came second, and gets nothing.
    pub resource: ResourceRef,
    /// What the name is taken for.
    pub taken_for: Profile,
}

fn collect(declared: &Declared) -> (Vec<DesiredCredential>, Vec<NameConflict>) {
    let names = &declared.names;
    let mut table = Table { declared, credentials: Vec::new(), conflicts: Vec::new() };

    if declared.trust_domain.is_some() {
        table.root();
    }
    table.ca(&names.site_ca, "site CA");
    table.ca(&names.local_ca, "local CA");
    // Also without any service: components and agents get their certificates from it on request.
    table.ca(&names.service_ca, "service CA");

    table.leaf(&names.local_server, Profile::ServiceServer, &names.local_ca, local_hosts(declared));
    table.leaf(&names.local_client, Profile::ServiceClient, &names.local_ca, Vec::new());
    if !declared.services.is_empty() {
        table.leaf(&names.service_client, Profile::ServiceClient, &names.service_ca, Vec::new());
    }

    let mut servers: BTreeMap<&Name, Wanted<'_>> = BTreeMap::new();
    for access in &declared.accesses {
        let wanted = servers
            .entry(&access.credential)
            .or_insert_with(|| Wanted::new(Profile::SiteServer, &names.site_ca));
        wanted.add(&access.resource, &access.hosts);
    }
    for service in &declared.services {
        let wanted = servers
            .entry(&service.credential)
            .or_insert_with(|| Wanted::new(Profile::ServiceServer, &names.service_ca));
        if wanted.profile == Profile::ServiceServer {
            wanted.add(&service.resource, &service.hosts);
        } else {
            table.conflict(&service.credential, &service.resource, wanted.profile);
        }
    }
    for (name, wanted) in servers {
        table.server(name, wanted);
    }
    for agent in &declared.agents {
        table.agent(&agent.credential, &agent.service, &agent.resource);
    }
    for link in &declared.links {
        table.link(&link.credential, &link.name, &link.resource);
    }
    (table.credentials, table.conflicts)
}

/// A server credential that one or more resources ask for.
struct Wanted<'a> {
    profile: Profile,
    issuer: &'a Name,
    hosts: Vec<Host>,
    needed_by: Vec<ResourceRef>,
}

impl<'a> Wanted<'a> {
    fn new(profile: Profile, issuer: &'a Name) -> Self {
        Self { profile, issuer, hosts: Vec::new(), needed_by: Vec::new() }
    }

    fn add(&mut self, resource: &ResourceRef, hosts: &[Host]) {
        self.needed_by.push(resource.clone());
        self.hosts.extend(hosts.iter().cloned());
    }
}

/// The table as it fills up.
struct Table<'a> {
    declared: &'a Declared,
    credentials: Vec<DesiredCredential>,
    conflicts: Vec<NameConflict>,
}

impl Table<'_> {
    fn root(&mut self) {
        let name = self.declared.names.root.clone();
        let domain =
            self.declared.trust_domain.as_ref().map(ToString::to_string).unwrap_or_default();
        self.credentials.push(DesiredCredential {
            kind: Kind::Issuer,
            name,
            profile: Profile::Root,
            subject: subject(readable(&domain, "root"), None, &[]),
            signed_by: SignedBy::Itself,
            ttl: self.declared.settings.root(),
            needed_by: Vec::new(),
        });
    }

    fn ca(&mut self, name: &Name, title: &str) {
        let signed_by = match self.declared.trust_domain {
            Some(_) => SignedBy::Issuer(self.declared.names.root.clone()),
            None => SignedBy::Itself,
        };
        self.credentials.push(DesiredCredential {
            kind: Kind::Issuer,
            name: name.clone(),
            profile: Profile::SiteCa,
            subject: subject(readable(self.declared.site.as_ref(), title), None, &[]),
            signed_by,
            ttl: self.declared.settings.ca(),
            needed_by: Vec::new(),
        });
    }

    /// A certificate that the site itself needs, whatever is declared.
    fn leaf(&mut self, name: &Name, profile: Profile, issuer: &Name, hosts: Vec<Host>) {
        let identity = self.component(name);
        self.credentials.push(DesiredCredential {
            kind: Kind::Certificate,
            name: name.clone(),
            profile,
            subject: subject(
                readable(self.declared.site.as_ref(), name.as_ref()),
                identity,
                &hosts,
            ),
            signed_by: SignedBy::Issuer(issuer.clone()),
            ttl: self.declared.settings.leaf(),
            needed_by: Vec::new(),
        });
    }

    fn server(&mut self, name: &Name, wanted: Wanted<'_>) {
        if let Some(taken_for) = self.taken(name) {
            for resource in &wanted.needed_by {
                self.conflict(name, resource, taken_for);
            }
            return;
        }
        let site = &self.declared.site;
        let (common_name, identity) = match wanted.profile {
            Profile::SiteServer => (site.to_string(), self.site_identity(site)),
            _ => (name.to_string(), self.component(name)),
        };
        self.credentials.push(DesiredCredential {
            kind: Kind::Certificate,
            name: name.clone(),
            profile: wanted.profile,
            subject: subject(common_name, identity, &wanted.hosts),
            signed_by: SignedBy::Issuer(wanted.issuer.clone()),
            ttl: self.declared.settings.leaf(),
            needed_by: wanted.needed_by,
        });
    }

    fn agent(&mut self, name: &Name, service: &Name, resource: &ResourceRef) {
        if let Some(taken_for) = self.taken(name) {
            self.conflict(name, resource, taken_for);
            return;
        }
        let domain = self.declared.effective_trust_domain();
        let identity = domain.map(|domain| SpiffeId::new(domain, IdentityKind::Agent, service));
        self.credentials.push(DesiredCredential {
            kind: Kind::Certificate,
            name: name.clone(),
            profile: Profile::Agent,
            subject: subject(service.to_string(), identity, &[]),
            signed_by: SignedBy::Issuer(self.declared.names.service_ca.clone()),
            ttl: self.declared.settings.leaf(),
            needed_by: vec![resource.clone()],
        });
    }

    fn link(&mut self, name: &Name, link: &Name, resource: &ResourceRef) {
        if let Some(taken_for) = self.taken(name) {
            self.conflict(name, resource, taken_for);
            return;
        }
        self.credentials.push(DesiredCredential {
            kind: Kind::Certificate,
            name: name.clone(),
            profile: Profile::LinkClient,
            subject: subject(self.declared.site.to_string(), None, &[]),
            signed_by: SignedBy::RemoteSite(link.clone()),
            ttl: self.declared.settings.leaf(),
            needed_by: vec![resource.clone()],
        });
    }

    fn taken(&self, name: &Name) -> Option<Profile> {
        self.credentials
            .iter()
            .find(|credential| credential.kind == Kind::Certificate && credential.name == *name)
            .map(|credential| credential.profile)
    }

    fn conflict(&mut self, name: &Name, resource: &ResourceRef, taken_for: Profile) {
        self.conflicts.push(NameConflict {
            name: name.clone(),
            resource: resource.clone(),
            taken_for,
        });
    }

    fn site_identity(&self, site: &Name) -> Option<SpiffeId> {
        let domain = self.declared.effective_trust_domain()?;
        Some(SpiffeId::new(domain, IdentityKind::Site, site))
    }

    /// The identity of a part of this site: a component, which no link accepts as a site.
    fn component(&self, credential: &Name) -> Option<SpiffeId> {
        let domain = self.declared.effective_trust_domain()?;
        let name = format!("{}.{credential}", self.declared.site).parse().ok();
        Some(SpiffeId::new(domain, IdentityKind::Component, name.as_ref().unwrap_or(credential)))
    }
}

fn subject(common_name: String, identity: Option<SpiffeId>, hosts: &[Host]) -> Subject {
    let subject = Subject::new(common_name).with_hosts(hosts.iter().cloned());
    match identity {
        Some(identity) => subject.with_identity(identity),
        None => subject,
    }
}

/// The common name of a root's key of this number. Each has a name of its own, so that a chain of one is never
/// tried against another, and who holds only the one before is told of an unknown issuer, not of a bad signature.
pub(crate) fn of_generation(common_name: &str, generation: u64) -> String {
    if generation <= 1 {
        return common_name.to_owned();
    }
    let number = format!(" G{generation}");
    let room = Subject::MAX_COMMON_NAME.saturating_sub(number.len());
    common_name.chars().take(room).chain(number.chars()).collect()
}

/// Whether it is the common name of a root's key of whichever number.
pub(crate) fn is_of_a_generation(found: &str, common_name: &str) -> bool {
    let number = found.rsplit_once(" G").and_then(|(_, number)| number.parse().ok());
    found == common_name || number.is_some_and(|number| of_generation(common_name, number) == found)
}

/// A common name for people, cut to what X.520 allows.
fn readable(first: &str, second: &str) -> String {
    let room = Subject::MAX_COMMON_NAME.saturating_sub(second.len() + 1);
    let first: String = first.chars().take(room).collect();
    format!("{first} {second}")
}

fn local_hosts(declared: &Declared) -> Vec<Host> {
    let mut hosts =
        vec![Host::Ip(Ipv4Addr::LOCALHOST.into()), Host::Ip(Ipv6Addr::LOCALHOST.into())];
    hosts.extend("localhost".parse().ok().map(Host::Dns));
    hosts.extend(declared.admin_hosts.iter().cloned());
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_root_has_a_name_of_its_own() {
        let long = "d".repeat(70);
        for base in ["demo.example root", &readable(&long, "root")] {
            assert_eq!(of_generation(base, 1), base);
            for generation in [1, 2, 12, u64::MAX] {
                let name = of_generation(base, generation);
                assert!(name.chars().count() <= Subject::MAX_COMMON_NAME, "{name}");
                assert!(is_of_a_generation(&name, base), "{name}");
                assert!(generation == 1 || name != base);
            }
            for other in ["other.example root", "demo.example root G0x", "", " G2"] {
                assert!(!is_of_a_generation(other, base), "{other}");
            }
        }
    }
}
