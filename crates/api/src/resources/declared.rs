//! Resources into what the authority works from. What cannot be followed is reported, not guessed.

use std::net::IpAddr;

use handfast_authority::{
    CredentialNames, Declared, DeclaredAccess, DeclaredAgent, DeclaredLink, DeclaredService,
    ResourceRef,
};
use handfast_pki::{Host, Name};
use handfast_telemetry::port::Mode;

use super::{
    Collector, Kind, LinkAccess, Origin, Relay, Resource, Resources, Role, RoleName, RouterAccess,
};
use crate::status::{ProblemSeverity, ProblemView};

/// What the authority needs to know, and what stands in its way. `None` until a site is declared.
///
/// Services have no certificates here yet: a Listener that asks for TLS is not served (see its
/// check), so there is nothing to make one for.
pub fn declared(resources: &Resources) -> (Option<Declared>, Vec<ProblemView>) {
    let Some(site) = &resources.site else { return (None, Vec::new()) };
    let mut problems = Vec::new();
    let mut declared = Declared::new(site.name.clone());
    match site.spec.settings() {
        Ok(settings) => {
            declared.trust_domain = settings.trust_domain;
            declared.settings = settings.lifetimes;
            declared.admin_hosts = settings.admin.map(|admin| admin.hosts()).unwrap_or_default();
        }
        // Such a site is not read from a file, but one made by hand could be passed in.
        Err(invalid) => {
            problems.push(problem(
                Kind::Site,
                &site.name,
                &site.origin,
                invalid.what,
                invalid.remedy,
            ));
        }
    }
    // Links, redemptions and revocation are served at one access: the first with a link port.
    let served = resources.effective_accesses().into_iter().find(|a| a.spec.link_port().is_some());
    declared.distribution = served.and_then(|access| access.spec.distribution());
    for access in resources.effective_accesses() {
        let hosts = access.spec.hosts();
        if hosts.is_empty() {
            problems.push(problem(
                Kind::RouterAccess,
                &access.name,
                &access.origin,
                "no host under which other sites reach this one, so its server certificate would \
                 name nobody",
                "list the hosts in `subjectAlternativeNames`, or run `handfast site create` with \
                 --link-host",
            ));
            continue;
        }
        declared.accesses.push(DeclaredAccess {
            resource: ResourceRef::new(Kind::RouterAccess.as_str(), access.name.to_string()),
            credential: access.spec.tls_credentials.clone(),
            hosts,
        });
    }
    for link in resources.links.values() {
        declared.links.push(DeclaredLink {
            resource: ResourceRef::new(Kind::Link.as_str(), link.name.to_string()),
            name: link.name.clone(),
            credential: link.credential().clone(),
        });
    }
    for collector in resources.collectors.values() {
        let speaks_tls = collector.spec.ports().iter().any(|(_, port)| port.mode.speaks_tls());
        if let (true, Some(credential)) = (speaks_tls, collector.credential()) {
            declared.services.push(DeclaredService {
                resource: ResourceRef::new(Kind::Collector.as_str(), collector.name.to_string()),
                credential,
                hosts: collector.spec.names(),
            });
        }
    }
    for collector in resources.collectors.values() {
        declared.used.extend(collector.spec.trust.iter().cloned());
        let forward_tls = collector.spec.forward.as_ref().and_then(|forward| forward.tls.as_ref());
        declared.used.extend(forward_tls.and_then(|tls| tls.tls_credentials.clone()));
    }
    for relay in resources.relays.values().filter(|relay| relay.spec.mode == Mode::Mtls) {
        if let Some(credential) = relay.credential() {
            declared.agents.push(DeclaredAgent {
                resource: ResourceRef::new(Kind::Relay.as_str(), relay.name.to_string()),
                credential,
                service: relay.spec.service.clone(),
            });
        }
    }
    (Some(declared), problems)
}

impl Resource<Collector> {
    /// The credential it presents; `None` where its name is too long to make one of it.
    pub fn credential(&self) -> Option<Name> {
        let made = || CredentialNames::default().collector(&self.name).ok();
        self.spec.tls_credentials.clone().or_else(made)
    }
}

impl Resource<Relay> {
    /// The credential it presents; `None` where its name is too long to make one of it.
    pub fn credential(&self) -> Option<Name> {
        let made = || CredentialNames::default().relay(&self.name).ok();
        self.spec.tls_credentials.clone().or_else(made)
    }
}

impl Resources {
    /// The RouterAccesses that are in force: the declared ones, or the default one that a Site's
    /// `linkAccess` asks for, as in Skupper.
    pub fn effective_accesses(&self) -> Vec<Resource<RouterAccess>> {
        let wanted = self.site.as_ref().filter(|site| {
            self.router_accesses.is_empty()
                && site.spec.link_access.is_some_and(|access| access != LinkAccess::None)
        });
        match wanted {
            None => self.router_accesses.values().cloned().collect(),
            Some(site) => default_access(site.origin.clone()).into_iter().collect(),
        }
    }
}

impl RouterAccess {
    /// Every host under which other sites reach this one: the declared names, and the bind address
    /// unless it stands for all addresses.
    pub fn hosts(&self) -> Vec<Host> {
        let mut hosts = self.subject_alternative_names.clone();
        let bind = self.bind_host.clone().filter(|host| !stands_for_all(host));
        hosts.extend(bind.filter(|host| !self.subject_alternative_names.contains(host)));
        hosts
    }
}

impl Resource<super::Link> {
    /// The credential it presents: `tlsCredentials`, or the one named like the link.
    pub fn credential(&self) -> &Name {
        self.spec.tls_credentials.as_ref().unwrap_or(&self.name)
    }
}

fn stands_for_all(host: &Host) -> bool {
    matches!(host, Host::Ip(IpAddr::V4(address)) if address.is_unspecified())
        || matches!(host, Host::Ip(IpAddr::V6(address)) if address.is_unspecified())
}

/// `None` never happens: both texts are names.
fn default_access(origin: Origin) -> Option<Resource<RouterAccess>> {
    let spec = RouterAccess {
        access_type: None,
        roles: vec![Role { name: RoleName::InterRouter, port: None }],
        tls_credentials: "handfast-site-server".parse().ok()?,
        generate_tls_credentials: true,
        issuer: None,
        bind_host: None,
        subject_alternative_names: Vec::new(),
        settings: std::collections::BTreeMap::new(),
    };
    let mut access = Resource::new("handfast-router".parse().ok()?, spec);
    access.origin = origin;
    Some(access)
}

fn problem(
    kind: Kind,
    name: &Name,
    origin: &Origin,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> ProblemView {
    let in_file = origin.line > 0;
    ProblemView {
        severity: ProblemSeverity::Error,
        subject: format!("{kind}/{name}"),
        file: in_file.then(|| origin.file.display().to_string()),
        line: in_file.then_some(origin.line),
        message: message.into(),
        remedy: remedy.into(),
    }
}
