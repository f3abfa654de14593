//! From resources and good credentials to the network's plan.
//!
//! A TLS configuration is built once for each credential: as long as the credential is the same
//! value, so is the configuration, and the network leaves what uses it alone.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use handfast_api::resources::{Kind, Resource, Resources, RevocationPolicy, RouterAccess};
use handfast_api::status::{ProblemSeverity, ProblemView};
use handfast_authority::{Declared, Report};
use handfast_network::{ConnectorPlan, LinkAccess, LinkPlan, ListenerPlan, Plan};
use handfast_pki::{Credential, Host, IdentityKind, Name, TrustAnchors, TrustDomain};
use handfast_tls::{
    ClientAuth, ClientOptions, Fault, IdentityRule, RevocationCheck, Revocations, ServerOptions,
    client_config, server_config,
};
use rustls::{ClientConfig, ServerConfig};

use super::rotation::bundle_plan;
use super::staples::Staples;

/// Configurations by credential.
#[derive(Default)]
pub(super) struct TlsCache {
    /// What every verifier looks up.
    revocations: Revocations,
    servers: BTreeMap<Key, (Arc<Credential>, Arc<ServerConfig>)>,
    grants: BTreeMap<Key, (Arc<Credential>, Arc<ServerConfig>)>,
    clients: BTreeMap<Key, (Arc<Credential>, Arc<ClientConfig>)>,
    /// What is stapled to what our servers present.
    pub(super) staples: Staples,
    /// What agents at the grant port are judged by.
    agents: Option<TrustAnchors>,
}

impl TlsCache {
    /// Configurations whose verifiers look `revocations` up.
    pub(super) fn new(revocations: Revocations) -> Self {
        Self { revocations, ..Self::default() }
    }
}

/// A credential, and whether what cannot be told of its peers counts as revoked.
type Key = (Name, bool);

/// A plan and what could not be planned.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// Where tokens are redeemed, and with what.
    pub(super) grants: Option<(SocketAddr, Arc<ServerConfig>)>,
    /// Where CRLs and OCSP are served.
    pub(super) distribution: Option<SocketAddr>,
    pub(super) problems: Vec<ProblemView>,
    /// Links that cannot be dialled yet, and why.
    pub(super) unready: BTreeMap<Name, String>,
}

/// The plan for what is declared, with the credentials that are good, and the anchors that other sites
/// gave up in order.
pub(super) fn plan(
    resources: &Resources,
    declared: &Declared,
    report: &Report,
    retired: &BTreeMap<Name, TrustAnchors>,
    cache: &mut TlsCache,
) -> Planned {
    let mut planned = Planned {
        plan: Plan::empty(declared.site.clone()),
        grants: None,
        distribution: None,
        problems: Vec::new(),
        unready: BTreeMap::new(),
    };
    plan_access(resources, declared, report, cache, &mut planned);
    for link in resources.links.values() {
        let Some(endpoint) = link.spec.endpoint() else { continue };
        let credential = link.credential();
        let Some(good) = report.live.get(credential) else {
            let why = format!("its credential `{credential}` is not there yet or cannot be used");
            planned.unready.insert(link.name.clone(), why);
            continue;
        };
        let require = link.spec.revocation() == RevocationPolicy::Require;
        let check = RevocationCheck::by(cache.revocations.clone()).required(require);
        let build = |credential: &Credential| link_client(credential, check);
        match cached(&mut cache.clients, (credential.clone(), require), good, build) {
            Ok(tls) => planned.plan.links.push(LinkPlan {
                name: link.name.clone(),
                host: endpoint.host.to_string(),
                port: endpoint.port,
                cost: link.spec.cost,
                tls,
                anchors: good.anchors().clone(),
                retired: retired.get(credential).cloned(),
            }),
            Err(fault) => {
                planned.unready.insert(link.name.clone(), fault.one_line());
                planned.problems.push(unusable(Kind::Link, link, &fault));
            }
        }
    }
    for listener in resources.listeners.values() {
        planned.plan.listeners.push(ListenerPlan {
            name: listener.name.clone(),
            host: listener.spec.host.to_string(),
            port: listener.spec.port,
            routing_key: listener.spec.routing_key.to_string(),
        });
    }
    for connector in resources.connectors.values() {
        let Some(host) = &connector.spec.host else { continue };
        planned.plan.connectors.push(ConnectorPlan {
            name: connector.name.clone(),
            host: host.to_string(),
            port: connector.spec.port,
            routing_key: connector.spec.routing_key.to_string(),
        });
    }
    planned
}

/// The access that links and redemptions use: the first with a link port.
pub(super) fn chosen_access(resources: &Resources) -> Option<Resource<RouterAccess>> {
    resources.effective_accesses().into_iter().find(|access| access.spec.link_port().is_some())
}

fn plan_access(
    resources: &Resources,
    declared: &Declared,
    report: &Report,
    cache: &mut TlsCache,
    planned: &mut Planned,
) {
    let Some(access) = chosen_access(resources) else { return };
    let Some(port) = access.spec.link_port() else { return };
    for other in resources.effective_accesses() {
        if other.name != access.name && other.spec.link_port().is_some() {
            planned.problems.push(ProblemView {
                severity: ProblemSeverity::Warning,
                subject: other.reference(),
                file: Some(other.origin.file.display().to_string()),
                line: Some(other.origin.line),
                message: format!("only one link port is served, that of {}", access.reference()),
                remedy: "put the hosts of both into one RouterAccess".to_owned(),
            });
        }
    }
    let ip = match bind_ip(access.spec.bind_host.as_ref()) {
        Ok(ip) => ip,
        Err(message) => {
            planned.problems.push(ProblemView {
                severity: ProblemSeverity::Error,
                subject: access.reference(),
                file: Some(access.origin.file.display().to_string()),
                line: Some(access.origin.line),
                message,
                remedy: "set `bindHost` to an address of this machine".to_owned(),
            });
            return;
        }
    };
    let settings = access.spec.settings().unwrap_or_default();
    planned.distribution = settings.revocation_port.map(|port| SocketAddr::new(ip, port));
    let name = &access.spec.tls_credentials;
    let Some(good) = report.live.get(name) else { return };
    let Some(trust_domain) = declared.effective_trust_domain() else { return };
    let staple = cache.staples.of(name, good);
    let require = settings.revocation == RevocationPolicy::Require;
    let revocation = RevocationCheck::by(cache.revocations.clone()).required(require);
    let link = cached(&mut cache.servers, (name.clone(), require), good, |credential| {
        let options = ServerOptions {
            revocation,
            staple: staple.clone(),
            ..ServerOptions::link(trust_domain.clone())
        };
        server_config(credential, &options)
    });
    if cache.agents != report.agents {
        cache.agents.clone_from(&report.agents);
        cache.grants.clear();
    }
    let revocation = RevocationCheck::by(cache.revocations.clone());
    let grants = cached(&mut cache.grants, (name.clone(), false), good, |credential| {
        let options = grant_port(report.agents.clone(), trust_domain.clone());
        server_config(credential, &ServerOptions { staple, revocation, ..options })
    });
    match link {
        Ok(tls) => {
            planned.plan.access = Some(LinkAccess {
                bind: SocketAddr::new(ip, port),
                tls,
                anchors: good.anchors().clone(),
                retired: report.bundle.as_ref().and_then(|bundle| bundle.retired.clone()),
                bundle: report.bundle.as_ref().map(bundle_plan),
            });
        }
        Err(fault) => planned.problems.push(unusable(Kind::RouterAccess, &access, &fault)),
    }
    if let (Ok(tls), Some(port)) = (grants, access.spec.grant_port()) {
        planned.grants = Some((SocketAddr::new(ip, port), tls));
    }
}

/// Whoever holds a token comes without a certificate; an agent that renews shows its own.
fn grant_port(agents: Option<TrustAnchors>, trust_domain: TrustDomain) -> ServerOptions {
    ServerOptions {
        alpn: vec![b"http/1.1".to_vec()],
        client_auth: if agents.is_some() { ClientAuth::Optional } else { ClientAuth::None },
        identities: IdentityRule::within(trust_domain).kind(IdentityKind::Agent),
        trust: agents,
        ..ServerOptions::default()
    }
}

fn bind_ip(host: Option<&Host>) -> Result<IpAddr, String> {
    match host {
        None => Ok(IpAddr::from([0, 0, 0, 0])),
        Some(Host::Ip(ip)) => Ok(*ip),
        Some(Host::Dns(name)) => match (name.as_str(), 0).to_socket_addrs() {
            Ok(mut found) => found
                .next()
                .map(|address| address.ip())
                .ok_or_else(|| format!("`bindHost` {name} has no address")),
            Err(error) => Err(format!("`bindHost` {name} does not resolve: {error}")),
        },
    }
}

/// The other side has to be a site of the trust domain that our own link credential belongs to.
fn link_client(
    credential: &Credential,
    revocation: RevocationCheck,
) -> Result<Arc<ClientConfig>, Fault> {
    let identity = credential.leaf().spiffe_id().ok().flatten();
    let options = match identity {
        Some(identity) => {
            ClientOptions { revocation, ..ClientOptions::link(identity.trust_domain().clone()) }
        }
        None => {
            return Err(Fault::new(
                handfast_tls::FaultCode::NoIdentity,
                handfast_tls::Side::Ours,
                "link credential",
            ));
        }
    };
    client_config(Some(credential), credential.anchors(), &options)
}

fn cached<C>(
    cache: &mut BTreeMap<Key, (Arc<Credential>, Arc<C>)>,
    key: Key,
    credential: &Arc<Credential>,
    build: impl FnOnce(&Credential) -> Result<Arc<C>, Fault>,
) -> Result<Arc<C>, Fault> {
    if let Some((made_from, config)) = cache.get(&key)
        && Arc::ptr_eq(made_from, credential)
    {
        return Ok(Arc::clone(config));
    }
    let config = build(credential)?;
    cache.insert(key, (Arc::clone(credential), Arc::clone(&config)));
    Ok(config)
}

fn unusable<S: handfast_api::resources::Spec>(
    kind: Kind,
    resource: &Resource<S>,
    fault: &Fault,
) -> ProblemView {
    ProblemView {
        severity: ProblemSeverity::Error,
        subject: format!("{kind}/{}", resource.name),
        file: Some(resource.origin.file.display().to_string()),
        line: Some(resource.origin.line),
        message: fault.what().to_owned(),
        remedy: fault.remedy().to_owned(),
    }
}
