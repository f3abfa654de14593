//! From the resources Collector and Relay to plans. A TLS configuration is made once for each credential:
//! as long as that is the same value, so is the configuration, and nothing that is open notices a turn.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use handfast_api::resources::{
    Collector, Forward, ForwardProtocol, ForwardTls, Relay, Resource, Spool,
    WhenFull as DeclaredWhenFull,
};
use handfast_api::secret::Secret;
use handfast_authority::{Declared, Report};
use handfast_pki::{Credential, Host, Name, TrustAnchors};
use handfast_telemetry::caller::OwnDomain;
use handfast_telemetry::desk::DeskPlan;
use handfast_telemetry::forward::Dialect;
use handfast_telemetry::journal::{JournalSettings, WhenFull};
use handfast_telemetry::keep::KeepSettings;
use handfast_telemetry::port::{Mode, Place, PortTls, Protection, Protocol};
use handfast_telemetry::station::{Output, PortPlan, StationPlan};
use handfast_telemetry::upstream::{Authentication, Security, UpstreamPlan};
use handfast_tls::{
    ClientAuth, ClientOptions, ClientTrust, Floor, RevocationCheck, Revocations, ServerOptions,
    client_config_trusting, server_config,
};
use rustls::{ClientConfig, ServerConfig};

use crate::node::staples::Staples;

/// What plans are made from.
pub(super) struct Sight<'a> {
    pub(super) declared: &'a Declared,
    pub(super) report: &'a Report,
    pub(super) directory: &'a Path,
    pub(super) revocations: &'a Revocations,
    pub(super) staples: &'a Staples,
}

/// A plan, and what it lacks.
pub(super) struct Planned {
    pub(super) plan: StationPlan,
    pub(super) missing: Vec<String>,
}

/// Configurations by what they were made from.
#[derive(Default)]
pub(super) struct Configurations {
    servers: BTreeMap<(Name, bool), Served>,
    clients: BTreeMap<String, (Option<Arc<Credential>>, Arc<ClientConfig>)>,
}

/// The configuration of a port, and what it was made from.
struct Served {
    credential: Arc<Credential>,
    trusted: TrustAnchors,
    config: Arc<ServerConfig>,
}

pub(super) fn collector(
    resource: &Resource<Collector>,
    sight: &Sight<'_>,
    made: &mut Configurations,
) -> Planned {
    let spec = &resource.spec;
    let mut missing = Vec::new();
    let ip = match &spec.host {
        None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Some(Host::Ip(ip)) => *ip,
        Some(Host::Dns(name)) => {
            missing.push(format!("`host` {name} is no address of this machine to listen on"));
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        }
    };
    let mut ports = BTreeMap::new();
    for (name, port) in spec.ports() {
        let tls = if port.mode.speaks_tls() {
            let tls = port_tls(resource, port.mode, sight, made);
            tls.map_err(|what| missing.push(what)).ok()
        } else {
            None
        };
        let plan = PortPlan {
            place: Place::Tcp(SocketAddr::new(ip, port.port)),
            protection: Protection { mode: port.mode, tls },
            protocol: if name.ends_with("http") { Protocol::Http } else { Protocol::Grpc },
        };
        ports.insert(name.to_owned(), plan);
    }
    let directory = sight.directory.join(format!("collector-{}", resource.name));
    let output = match &spec.forward {
        Some(forward) => Output::Forward {
            dialect: dialect_of(forward),
            spool: spool(forward.spool.as_ref()),
            upstream: forward_to(forward, sight, made, &mut missing),
            directory,
        },
        None => Output::Keep { directory, settings: kept(spec) },
    };
    missing.sort();
    missing.dedup();
    let desk = DeskPlan {
        authentication: spec.authentication.as_ref().map(|token| token.reveal().into()),
        quota: spec.quota(),
        rules: spec.rules(),
        strip_trace_context: spec.strip_trace_context,
    };
    Planned { plan: StationPlan { desk, name: resource.name.to_string(), output, ports }, missing }
}

pub(super) fn relay(
    resource: &Resource<Relay>,
    sight: &Sight<'_>,
    made: &mut Configurations,
) -> Planned {
    let spec = &resource.spec;
    let mut missing = Vec::new();
    let listen = spec.listen();
    let open = Protection { mode: Mode::Plaintext, tls: None };
    let mut ports = BTreeMap::new();
    let mut port = |name: &str, place, protocol| {
        ports.insert(name.to_owned(), PortPlan { place, protection: open.clone(), protocol });
    };
    if let Some(address) = listen.grpc {
        port("grpc", Place::Tcp(address), Protocol::Grpc);
    }
    if let Some(address) = listen.http {
        port("http", Place::Tcp(address), Protocol::Http);
    }
    if let Some(path) = &listen.unix {
        port("unix", Place::Unix(PathBuf::from(path)), Protocol::Grpc);
    }
    let server_name = spec.server_name.as_ref().map(ToString::to_string);
    let security = match spec.mode {
        Mode::Plaintext => Some(Security::Plaintext),
        mode => {
            // Without a certificate of its own it still needs to know whom to trust: the site's roots.
            let wanted = match mode {
                Mode::Mtls => resource.credential(),
                _ => Some(sight.declared.names.local_client.clone()),
            };
            let credential = wanted.as_ref().and_then(|name| sight.report.live.get(name));
            match (credential, wanted) {
                (Some(credential), _) => {
                    let presented = (mode == Mode::Mtls).then_some(credential);
                    let key = format!("relay {}", resource.name);
                    let trust = ClientTrust::Anchors(credential.anchors().clone());
                    match made.client(key, presented, trust, Some(credential), sight) {
                        Ok(config) => Some(Security::Tls { config, server_name }),
                        Err(what) => {
                            missing.push(what);
                            None
                        }
                    }
                }
                (None, Some(name)) => {
                    missing.push(not_there(&name));
                    None
                }
                (None, None) => {
                    missing.push("its name is too long for a credential of its own".to_owned());
                    None
                }
            }
        }
    };
    let upstream = UpstreamPlan {
        authentication: token(Dialect::SkyWalking, spec.authentication.as_ref()),
        backends: spec.backends.clone(),
        security,
    };
    let output = Output::Forward {
        dialect: Dialect::SkyWalking,
        directory: sight.directory.join(format!("relay-{}", resource.name)),
        spool: spool(spec.spool.as_ref()),
        upstream,
    };
    let plan =
        StationPlan { desk: DeskPlan::default(), name: resource.name.to_string(), output, ports };
    Planned { plan, missing }
}

/// What a station's records are written into: while it stays the same, so does the station.
pub(super) fn output_of(plan: &StationPlan) -> String {
    match &plan.output {
        Output::Forward { dialect, directory, spool, .. } => {
            format!("forward {} {dialect:?} {spool:?}", directory.display())
        }
        Output::Keep { directory, settings } => {
            format!("keep {} {settings:?}", directory.display())
        }
    }
}

fn port_tls(
    resource: &Resource<Collector>,
    mode: Mode,
    sight: &Sight<'_>,
    made: &mut Configurations,
) -> Result<PortTls, String> {
    let name = resource
        .credential()
        .ok_or_else(|| "its name is too long for a credential of its own".to_owned())?;
    let credential = sight.report.live.get(&name).ok_or_else(|| not_there(&name))?;
    let mut anchors = credential.anchors().clone();
    for trusted in &resource.spec.trust {
        if let Some(other) = sight.report.live.get(trusted) {
            for anchor in other.anchors().iter() {
                anchors = anchors.with(anchor.clone());
            }
        } else if let Some(issuer) = sight.report.issuers.get(trusted) {
            // Its own certificate: what else its root vouches for is not meant.
            anchors = anchors.with(issuer.clone());
        } else {
            return Err(format!(
                "`trust` names `{trusted}`, and there is no usable credential or issuer of that name: `tls.crt` of a CA \
                 goes to `input/issuers/{trusted}/`, without a key"
            ));
        }
    }
    let own = sight.declared.effective_trust_domain().and_then(|trust_domain| {
        let local = sight.report.live.get(&sight.declared.names.local_client)?;
        Some(OwnDomain { trust_domain, anchors: local.anchors().clone() })
    });
    let config = made.server(&name, credential, mode == Mode::Mtls, &anchors, sight)?;
    Ok(PortTls { config, anchors, own })
}

fn forward_to(
    forward: &Forward,
    sight: &Sight<'_>,
    made: &mut Configurations,
    missing: &mut Vec<String>,
) -> UpstreamPlan {
    let security = match &forward.tls {
        None => Some(Security::Plaintext),
        Some(tls) => forward_tls(tls, sight, made).map_err(|what| missing.push(what)).ok(),
    };
    UpstreamPlan {
        authentication: token(dialect_of(forward), forward.authentication.as_ref()),
        backends: forward.backends.clone(),
        security,
    }
}

fn forward_tls(
    tls: &ForwardTls,
    sight: &Sight<'_>,
    made: &mut Configurations,
) -> Result<Security, String> {
    let credential = match &tls.tls_credentials {
        None => None,
        Some(name) => Some(sight.report.live.get(name).ok_or_else(|| not_there(name))?),
    };
    let trust = match credential {
        _ if !tls.pin.is_empty() => ClientTrust::Pinned(tls.pin.clone()),
        Some(credential) => ClientTrust::Anchors(credential.anchors().clone()),
        None => return Err("`forward.tls` names nobody to trust".to_owned()),
    };
    // A credential that cannot be a client's serves for its CA only.
    let presented = credential.filter(|credential| {
        credential
            .leaf()
            .extended_key_usage()
            .is_none_or(|usages| usages.contains(&handfast_pki::Eku::ClientAuth))
    });
    let key = format!("forward {:?} {:?}", tls.tls_credentials, tls.pin);
    let config = made.client(key, presented, trust, credential, sight)?;
    Ok(Security::Tls { config, server_name: tls.server_name.as_ref().map(ToString::to_string) })
}

impl Configurations {
    fn server(
        &mut self,
        name: &Name,
        credential: &Arc<Credential>,
        required: bool,
        anchors: &TrustAnchors,
        sight: &Sight<'_>,
    ) -> Result<Arc<ServerConfig>, String> {
        let key = (name.clone(), required);
        if let Some(served) = self.servers.get(&key)
            && Arc::ptr_eq(&served.credential, credential)
            && served.trusted == *anchors
        {
            return Ok(Arc::clone(&served.config));
        }
        let options = ServerOptions {
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            client_auth: if required { ClientAuth::Required } else { ClientAuth::Optional },
            // Agents of older runtimes speak no newer version.
            floor: Floor::Tls12,
            revocation: RevocationCheck::by(sight.revocations.clone()),
            trust: Some(anchors.clone()),
            staple: sight.staples.of(name, credential),
            ..ServerOptions::default()
        };
        let config = server_config(credential, &options).map_err(|fault| fault.one_line())?;
        let served = Served {
            credential: Arc::clone(credential),
            trusted: anchors.clone(),
            config: Arc::clone(&config),
        };
        self.servers.insert(key, served);
        Ok(config)
    }

    fn client(
        &mut self,
        key: String,
        presented: Option<&Arc<Credential>>,
        trust: ClientTrust,
        made_for: Option<&Arc<Credential>>,
        sight: &Sight<'_>,
    ) -> Result<Arc<ClientConfig>, String> {
        let same = |from: &Option<Arc<Credential>>| match (from, made_for) {
            (Some(from), Some(made_for)) => Arc::ptr_eq(from, made_for),
            (None, None) => true,
            _ => false,
        };
        if let Some((made_from, config)) = self.clients.get(&key)
            && same(made_from)
        {
            return Ok(Arc::clone(config));
        }
        let options = ClientOptions {
            alpn: vec![b"h2".to_vec()],
            floor: Floor::Tls12,
            revocation: RevocationCheck::by(sight.revocations.clone()),
            ..ClientOptions::default()
        };
        let presented = presented.map(|credential| &**credential);
        let config = client_config_trusting(presented, &trust, &options)
            .map_err(|fault| fault.one_line())?;
        self.clients.insert(key, (made_for.cloned(), Arc::clone(&config)));
        Ok(config)
    }
}

fn kept(spec: &Collector) -> KeepSettings {
    let mut settings = KeepSettings::default();
    if let Some(store) = &spec.store {
        if let Some(retention) = store.retention {
            settings.retention = retention.duration();
        }
        if let Some(size) = store.max_size {
            settings.limit_bytes = size.bytes();
        }
    }
    settings
}

fn spool(declared: Option<&Spool>) -> JournalSettings {
    let mut settings = JournalSettings::default();
    if let Some(spool) = declared {
        if let Some(size) = spool.max_size {
            settings.limit_bytes = size.bytes();
        }
        settings.when_full = match spool.when_full {
            DeclaredWhenFull::DropOldest => WhenFull::DropOldest,
            DeclaredWhenFull::Refuse => WhenFull::Refuse,
        };
    }
    settings
}

fn token(dialect: Dialect, secret: Option<&Secret>) -> Option<Authentication> {
    dialect.authentication(secret?.reveal())
}

fn dialect_of(forward: &Forward) -> Dialect {
    match forward.protocol {
        ForwardProtocol::Oap => Dialect::SkyWalking,
        ForwardProtocol::Otlp => Dialect::Otlp,
    }
}

fn not_there(name: &Name) -> String {
    format!("its credential `{name}` is not there yet, or cannot be used")
}
