//! `handfast collector run`: a collector by itself, without a home or a site. Its certificates are files,
//! watched and taken up while it runs; what is broken is said, and the last good one stays.

mod settings;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handfast_api::resources::{Quantity, Span};
use handfast_pki::{SystemEntropy, TrustDomain};
use handfast_store::{ContentWatch, WatchSettings};
use handfast_telemetry::desk::{Denial, DeskPlan, Witness};
use handfast_telemetry::forward::Dialect;
use handfast_telemetry::journal::JournalSettings;
use handfast_telemetry::keep::KeepSettings;
use handfast_telemetry::port::{Mode, Place, Protection, Protocol};
use handfast_telemetry::rules::{Rule, Rules};
use handfast_telemetry::station::{Output, PortPlan, Station, StationPlan};
use handfast_telemetry::upstream::{Backend, Clock, Dice, Security, UpstreamPlan};
use handfast_tls::Revocations;

use self::settings::{PortSettings, Settings};
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{self, LogFormat, Stopping};

/// Arguments of `handfast collector run`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  handfast collector run --data ./telemetry --grpc 127.0.0.1:11800 --http 127.0.0.1:12800\n  \
    handfast collector run --data /var/lib/collector --cert server.crt --key server.pem --client-ca ca.crt\n  \
    handfast trace ls --data ./telemetry\n\n\
    The second takes the files of `handfast agent-certs --service shop --hosts ...`: who holds client.crt reports as shop.\n\n\
    The environment names of SkyWalking's receiver are read where an option is not given: SW_RECEIVER_GRPC_HOST, \
    SW_RECEIVER_GRPC_PORT, SW_RECEIVER_GRPC_SSL_ENABLED, SW_RECEIVER_GRPC_SSL_KEY_PATH, SW_RECEIVER_GRPC_SSL_CERT_CHAIN_PATH, \
    SW_RECEIVER_GRPC_SSL_TRUSTED_CAS_PATH, the same names with SW_RECEIVER_SHARING_REST for HTTP, and SW_AUTHENTICATION.\n\n\
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
    /// Let an identity report as services: `/agent/relay-*=shop,bank`, `dns:*.example=*`; may be given several times
    #[arg(long, value_name = "IDENTITY=SERVICE,...", value_parser = settings::rule)]
    allow: Vec<Rule>,
    /// For how long records are kept [default: 7d]
    #[arg(long, value_name = "DURATION")]
    retention: Option<Span>,
    /// How much is kept, or waits to be sent on, like 20Gi
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Quantity>,
    /// Send records on to this backend instead of keeping them; may be given several times
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "retention")]
    forward: Vec<Backend>,
    /// The CAs of the backends: they are spoken to over TLS then
    #[arg(long, value_name = "FILE", requires = "forward")]
    forward_ca: Option<PathBuf>,
    /// The certificate to show to the backends
    #[arg(long, value_name = "FILE", requires_all = ["forward_ca", "forward_key"])]
    forward_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "forward_cert")]
    forward_key: Option<PathBuf>,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    log_format: LogFormat,
}

/// Runs it until it is told to end.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let settings = Settings::of(arguments, &|name| std::env::var(name).ok())?;
    node::start_log(settings.log_format);
    let mut stopping = Stopping::new()?;
    let revocations = Revocations::new();
    // The content is read first, so that no change after it is missed.
    let watch = ContentWatch::start(settings.watched(), WatchSettings::default());
    let mut changed = watch.changes();
    let plan = plan(&settings).map_err(Failure::from)?;
    warn_if_nobody_may_report(&settings, &plan);
    let clock: Clock = Arc::new(clock::now);
    let dice = Dice::new(SystemEntropy);
    let starting = {
        let plan = plan.clone();
        tokio::task::spawn_blocking(move || {
            Station::start(plan, revocations, clock, dice, witness())
        })
    };
    let (mut station, faults) = starting.await?.map_err(|error| {
        Failure::new(Exit::Failed, "the collector cannot start")
            .at(settings.data.display())
            .because(error)
            .remedy("look whether another collector uses that directory, and who may write to it")
    })?;
    if !faults.is_empty() {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        return Err(Failure::new(Exit::PortInUse, "a port cannot be opened")
            .because(faults.join("\n"))
            .remedy("free the port, or choose another with --grpc or --http")
            .into());
    }
    for port in station.status().ports {
        let address = port.address.map(|address| address.to_string()).unwrap_or_default();
        tracing::info!(port = port.name, address, mode = %port.mode, "listens");
    }
    node::say_ready();
    loop {
        tokio::select! {
            signal = stopping.told() => {
                tracing::info!(signal, "stopping: nothing new is taken");
                break;
            }
            Ok(()) = changed.changed() => take_up(&settings, &mut station),
        }
    }
    station.stop(DRAIN).await;
    tracing::info!("the collector has stopped");
    Ok(())
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

/// The files have changed.
fn take_up(settings: &Settings, station: &mut Station) {
    match plan(settings) {
        Ok(plan) => {
            let faults = station.apply(plan);
            tracing::info!("certificates were read again and are in use");
            for fault in &faults {
                tracing::error!(%fault, "a port cannot be opened");
            }
        }
        Err(broken) => tracing::error!(
            file = %broken.file.display(),
            why = broken.why,
            "what was changed cannot be used; the last good certificate stays in use"
        ),
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

fn plan(settings: &Settings) -> Result<StationPlan, Broken> {
    let mut ports = BTreeMap::new();
    for (name, protocol, port) in
        [("grpc", Protocol::Grpc, &settings.grpc), ("http", Protocol::Http, &settings.http)]
    {
        let PortSettings { address, mode, files } = port;
        let tls = match files.as_ref().filter(|_| mode.speaks_tls()) {
            Some(files) => Some(tls::port(files, *mode, settings.trust_domain.as_ref())?),
            None => None,
        };
        let protection = Protection { mode: *mode, tls };
        ports.insert(
            name.to_owned(),
            PortPlan { place: Place::Tcp(*address), protection, protocol },
        );
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
        let mut spool = JournalSettings::default();
        if let Some(size) = settings.max_size {
            spool.limit_bytes = size.bytes();
        }
        let security = match &settings.forward_tls {
            Some(files) => Security::Tls { config: tls::client(files)?, server_name: None },
            None => Security::Plaintext,
        };
        let upstream = UpstreamPlan {
            authentication: None,
            backends: settings.forward.clone(),
            security: Some(security),
        };
        let (dialect, directory) = (Dialect::SkyWalking, settings.data.clone());
        Output::Forward { dialect, directory, spool, upstream }
    };
    let desk = DeskPlan {
        authentication: settings.authentication.as_deref().map(Into::into),
        rules: Rules { rules: settings.rules.clone() },
        ..DeskPlan::default()
    };
    Ok(StationPlan { desk, name: "collector".to_owned(), output, ports })
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

/// Calls that are open may go on for so long after it was told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Combinations of caller and service that are said in the log.
const SAID: usize = 1024;
