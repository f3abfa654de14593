//! `handfast collector run`: a collector by itself, without a home or a site. Its certificates are files,
//! watched and taken up while it runs; what is broken is said, and the last good one stays.

pub(super) mod settings;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use handfast_api::resources::{ForwardProtocol, Quantity, Span};
use handfast_api::telemetry::StationKind;
use handfast_pki::{Certificate, Host, TrustDomain};
use handfast_store::{ContentWatch, WatchSettings};
use handfast_telemetry::desk::{Denial, DeskPlan, Witness};
use handfast_telemetry::forward::Dialect;
use handfast_telemetry::journal::JournalSettings;
use handfast_telemetry::keep::KeepSettings;
use handfast_telemetry::port::{Mode, Place, PortTls, Protection, Protocol};
use handfast_telemetry::rules::{Rule, Rules};
use handfast_telemetry::station::{Output, PortPlan, StationPlan};
use handfast_telemetry::upstream::{Backend, Security, UpstreamPlan};
use handfast_tls::Revocations;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::settings::{PortSettings, Settings};
use super::super::lone::lists::Lists;
use super::super::lone::token::Token;
use super::super::lone::{Lone, WhenFull, bind_health};
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{self, LogFormat, Stopping};

/// Arguments of `handfast collector run`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  handfast collector run --data ./telemetry --grpc 127.0.0.1:11800 --http 127.0.0.1:12800\n  \
    handfast collector run --data /var/lib/collector --cert server.crt --key server.pem --client-ca ca.crt\n  \
    handfast collector run --data /var/lib/collector --mode plaintext --forward oap.example:11800 --forward-ca oap-ca.crt\n  \
    handfast trace ls --data ./telemetry\n\n\
    The second takes the files of `handfast agent-certs --service shop --hosts ...`: who holds client.crt reports as shop.\n\n\
    The environment names of SkyWalking's receiver are read where an option is not given: SW_RECEIVER_GRPC_HOST, \
    SW_RECEIVER_GRPC_PORT, SW_RECEIVER_GRPC_SSL_ENABLED, SW_RECEIVER_GRPC_SSL_KEY_PATH, SW_RECEIVER_GRPC_SSL_CERT_CHAIN_PATH, \
    SW_RECEIVER_GRPC_SSL_TRUSTED_CAS_PATH, the same names with SW_RECEIVER_SHARING_REST for HTTP, SW_AUTHENTICATION (the token that callers bring) and \
    SW_AGENT_AUTHENTICATION (the token for the backends).\n\n\
    Stops on SIGTERM or Ctrl-C."
)]
pub(crate) struct Arguments {
    /// The directory to keep everything in; `trace ls --data` reads it
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where to listen for gRPC [default: 0.0.0.0:11800]
    #[arg(long, value_name = "ADDRESS")]
    grpc: Option<SocketAddr>,
    /// Where to listen for HTTP [default: 0.0.0.0:12800]
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// How both are protected [default: mtls with --client-ca, tls with --cert, else plaintext]
    #[arg(long, value_name = "mtls|permissive|tls|plaintext")]
    mode: Option<Mode>,
    /// The server's certificate with its chain, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// A file of CAs that clients' certificates lead to; may be given several times
    #[arg(long, value_name = "FILE", requires = "cert")]
    client_ca: Vec<PathBuf>,
    /// The trust domain that these CAs sign for: /agent/SERVICE of it reports as SERVICE [default: that of the SPIFFE ID in the server's certificate]
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<TrustDomain>,
    /// Let an identity report as services: `/agent/relay-*=shop,bank`, `dns:*.example=*`; and only as some instances of them: `/agent/relay-7=shop;instances=*@10.1.7.*`; may be given several times
    #[arg(long, value_name = "IDENTITY=SERVICE,...[;instances=PATTERN,...]", value_parser = settings::rule)]
    allow: Vec<Rule>,
    /// A file with the token that every call has to bring
    #[arg(long, value_name = "FILE")]
    authentication: Option<PathBuf>,
    /// A file of revocation lists of the CAs that are trusted here; read again when it changes; may be given several times
    #[arg(long, value_name = "FILE")]
    crl: Vec<PathBuf>,
    /// Messages per second that one identity may report [default: without limit]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    quota_messages: Option<u64>,
    /// The same in bytes, like 4Mi
    #[arg(long, value_name = "SIZE")]
    quota_bytes: Option<Quantity>,
    /// Calls of one identity at the same time
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    quota_streams: Option<u32>,
    /// For how long records are kept [default: 7d]
    #[arg(long, value_name = "DURATION")]
    retention: Option<Span>,
    /// How much is kept, or waits to be sent on, like 20Gi
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Quantity>,
    /// Send records on to this backend instead of keeping them; may be given several times
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "retention")]
    forward: Vec<Backend>,
    /// What is spoken to the backends
    #[arg(long, value_name = "oap|otlp", default_value = "oap", value_parser = settings::protocol, requires = "forward")]
    forward_protocol: ForwardProtocol,
    /// A file with the token that the backends ask for
    #[arg(long, value_name = "FILE", requires = "forward")]
    forward_authentication: Option<PathBuf>,
    /// The CAs of the backends: they are spoken to over TLS then
    #[arg(long, value_name = "FILE", requires = "forward")]
    forward_ca: Option<PathBuf>,
    /// The certificate to show to the backends
    #[arg(long, value_name = "FILE", requires_all = ["forward_ca", "forward_key"])]
    forward_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "forward_cert")]
    forward_key: Option<PathBuf>,
    /// The name in the backends' certificates, where they are dialled by another
    #[arg(long, value_name = "HOST", requires = "forward_ca")]
    forward_server_name: Option<Host>,
    /// What happens when as much as may wait does
    #[arg(long, value_enum, default_value_t = WhenFull::Refuse, value_name = "refuse|drop-oldest", requires = "forward")]
    when_full: WhenFull,
    /// Serve /metrics and /healthz here, like 127.0.0.1:9600
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    log_format: LogFormat,
}

/// Runs it until it is told to end.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let settings = Settings::of(arguments, &|name| std::env::var(name).ok())?;
    node::start_log(settings.log_format);
    node::raise_descriptors();
    let mut stopping = Stopping::new()?;
    let ending = CancellationToken::new();
    // The content is read first, so that no change after it is missed.
    let watch = |files| ContentWatch::start(files, WatchSettings::default());
    let (certificates, crls) = (watch(settings.watched()), watch(settings.crl.clone()));
    let tokens = watch(settings.token_files());
    let [mut certificates_changed, mut crls_changed, mut tokens_changed] =
        [certificates.changes(), crls.changes(), tokens.changes()];

    let mut supply = Supply {
        lists: Lists::of(settings.crl.clone()),
        callers: Token::open(settings.authentication.clone())?,
        backends: Token::open(settings.forward_authentication.clone())?,
        material: Material::default(),
        found: None,
        trouble: watch::Sender::new(None),
    };
    supply.material = Material::read(&settings, &supply.lists.view()).map_err(Failure::from)?;
    supply.lists.read(&supply.material.issuers).map_err(Failure::from)?;
    let plan = plan(&settings, &supply);
    warn_if_nobody_may_report(&settings, &plan);
    let (kind, revocations) = (StationKind::Collector, supply.lists.view());
    let options = "--grpc or --http";
    let health = bind_health(settings.metrics).await?;
    let lone = Lone::start(kind, &settings.data, options, plan, revocations, witness()).await?;
    for port in lone.status().into_iter().flat_map(|status| status.ports) {
        let address = port.address.map(|address| address.to_string()).unwrap_or_default();
        tracing::info!(port = port.name, address, mode = %port.mode, "listens");
        if port.mode == Mode::Plaintext
            && port.address.is_some_and(|address| !address.ip().is_loopback())
        {
            tracing::warn!(
                port = port.name,
                address,
                "whoever reaches this address reports in the clear, and as any service: --cert, --key and \
                 --client-ca make it mutual TLS (`handfast agent-certs` makes the files), or listen on loopback"
            );
        }
    }
    supply.tell();
    let troubles = vec![
        supply.trouble.subscribe(),
        supply.callers.trouble(),
        supply.backends.trouble(),
        supply.lists.trouble(),
    ];
    let due = supply.lists.due();
    let health = lone.serve_health(health, troubles, due, &ending)?;
    node::say_ready();
    loop {
        let mut taken_up = false;
        tokio::select! {
            signal = stopping.told() => {
                tracing::info!(signal, "stopping: nothing new is taken");
                break;
            }
            Ok(()) = certificates_changed.changed() => {
                taken_up = supply.take_up(&settings);
                supply.lists.read_again(&supply.material.issuers);
            }
            Ok(()) = crls_changed.changed() => {
                supply.lists.read_again(&supply.material.issuers);
                if !settings.forward.is_empty() {
                    // What is dialled anew is judged anew.
                    supply.take_up(&settings);
                }
            }
            Ok(()) = tokens_changed.changed() => {
                supply.callers.read_again();
                supply.backends.read_again();
            }
        }
        lone.apply(self::plan(&settings, &supply));
        // Said when it is so, and not a moment before: somebody may act upon it.
        supply.tell();
        if taken_up {
            tracing::info!("certificates were read again and are in use");
        }
    }
    ending.cancel();
    lone.stop().await;
    if let Some(health) = health {
        health.await?;
    }
    tracing::info!("the collector has stopped");
    Ok(())
}

/// What lies in files, as it was good last.
struct Supply {
    /// The token that the backends ask for.
    backends: Token,
    /// The token that callers bring.
    callers: Token,
    lists: Lists,
    material: Material,
    /// Why the certificates that lie there are not in use, as they were read last.
    found: Option<String>,
    /// The same, as it is shown.
    trouble: watch::Sender<Option<String>>,
}

impl Supply {
    /// Reads the certificates again; says whether they are to be used.
    fn take_up(&mut self, settings: &Settings) -> bool {
        match Material::read(settings, &self.lists.view()) {
            Ok(material) => {
                self.material = material;
                self.found = None;
                true
            }
            Err(broken) => {
                tracing::error!(
                    file = %broken.file.display(),
                    why = broken.why,
                    "what was changed cannot be used; the last good certificate stays in use"
                );
                self.found = Some(format!("{}: {}", broken.file.display(), broken.why));
                false
            }
        }
    }

    /// Shows what was read last, once it is used.
    fn tell(&mut self) {
        self.trouble.send_replace(self.found.clone());
        self.callers.tell();
        self.backends.tell();
        self.lists.tell(clock::now());
    }
}

/// What was made of certificates.
#[derive(Default)]
struct Material {
    ports: BTreeMap<&'static str, PortTls>,
    /// How backends are dialled.
    client: Option<Security>,
    /// Whose revocation lists are believed.
    issuers: Vec<Certificate>,
}

impl Material {
    fn read(settings: &Settings, revocations: &Revocations) -> Result<Self, Broken> {
        let mut material = Self { client: Some(Security::Plaintext), ..Self::default() };
        for (name, port) in [("grpc", &settings.grpc), ("http", &settings.http)] {
            let Some(files) = port.files.as_ref().filter(|_| port.mode.speaks_tls()) else {
                continue;
            };
            let domain = settings.trust_domain.as_ref();
            let (tls, issuers) = tls::port(files, port.mode, domain, revocations)?;
            material.issuers.extend(issuers);
            material.ports.insert(name, tls);
        }
        if let Some(files) = &settings.forward_tls {
            let (config, issuers) = tls::client(files, revocations)?;
            material.issuers.extend(issuers);
            let server_name = settings.forward_server_name.clone();
            material.client = Some(Security::Tls { config, server_name });
        }
        Ok(material)
    }
}

/// Certificates are asked for, and none of them could report as anything: better said now than with each refusal.
fn warn_if_nobody_may_report(settings: &Settings, plan: &StationPlan) {
    let asked = [&settings.grpc, &settings.http]
        .into_iter()
        .filter_map(|port| port.files.as_ref())
        .any(|files| !files.client_cas.is_empty());
    let own = |port: &PortPlan| port.protection.tls.as_ref().is_some_and(|tls| tls.own.is_some());
    if asked && settings.rules.is_empty() && !plan.ports.values().any(own) {
        tracing::warn!(
            "the server's certificate carries no SPIFFE ID, so no trust domain is known as our own, and no client \
             certificate may report: say --trust-domain NAME, or bind identities with --allow"
        );
    }
}

/// A file that cannot be used.
#[derive(Debug)]
struct Broken {
    file: PathBuf,
    why: String,
}

impl Broken {
    fn new(file: &Path, why: impl std::fmt::Display) -> Self {
        Self { file: file.to_owned(), why: why.to_string() }
    }
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        Self::new(Exit::BadInput, "the collector's certificates cannot be used")
            .at(broken.file.display())
            .because(broken.why)
            .remedy("`handfast cert lint FILE` says what is wrong; `handfast agent-certs DIR` makes good ones")
    }
}

fn plan(settings: &Settings, supply: &Supply) -> StationPlan {
    let mut ports = BTreeMap::new();
    for (name, protocol, port) in
        [("grpc", Protocol::Grpc, &settings.grpc), ("http", Protocol::Http, &settings.http)]
    {
        let PortSettings { address, mode, .. } = port;
        let tls = supply.material.ports.get(name).cloned();
        let protection = Protection { mode: *mode, tls };
        let place = Place::Tcp(*address);
        ports.insert(name.to_owned(), PortPlan { place, protection, protocol });
    }
    let output = if settings.forward.is_empty() {
        let mut kept = KeepSettings::default();
        if let Some(retention) = settings.retention {
            kept.retention = retention.duration();
        }
        if let Some(size) = settings.max_size {
            kept.limit_bytes = size.bytes();
        }
        Output::Keep { directory: settings.data.clone(), settings: kept }
    } else {
        let mut spool =
            JournalSettings { when_full: settings.when_full.into(), ..JournalSettings::default() };
        if let Some(size) = settings.max_size {
            spool.limit_bytes = size.bytes();
        }
        let dialect = match settings.forward_protocol {
            ForwardProtocol::Oap => Dialect::SkyWalking,
            ForwardProtocol::Otlp => Dialect::Otlp,
        };
        let token = supply.backends.get();
        let upstream = UpstreamPlan {
            authentication: token.and_then(|token| dialect.authentication(token.reveal())),
            backends: settings.forward.clone(),
            security: supply.material.client.clone(),
        };
        Output::Forward { dialect, directory: settings.data.clone(), spool, upstream }
    };
    let desk = DeskPlan {
        authentication: supply.callers.get().map(|token| token.reveal().into()),
        quota: settings.quota,
        rules: Rules { rules: settings.rules.clone() },
        ..DeskPlan::default()
    };
    StationPlan { desk, name: "collector".to_owned(), output, ports }
}

/// Says once for each caller and service that it was refused.
fn witness() -> Witness {
    let said: Mutex<BTreeSet<(String, String)>> = Mutex::default();
    Arc::new(move |denial: Denial| {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (denial.caller.clone(), denial.service.clone());
        if said.len() < SAID && said.insert(key) {
            let Denial { caller, service, kind, .. } = denial;
            tracing::warn!(caller, service, %kind, "it may not report as that service; --allow lets it");
        }
    })
}

/// Combinations of caller and service that are said in the log.
const SAID: usize = 1024;
