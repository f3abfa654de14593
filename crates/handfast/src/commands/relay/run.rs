//! `handfast relay run`: a relay by itself, beside agents, without a home or a site. What it reports with comes from
//! files, by the habits of the Java agent, or by a token; it is taken up while it runs, and nothing is lost over it.

mod arena;
mod enrolled;
mod settings;
mod supply;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use handfast_api::resources::Quantity;
use handfast_api::telemetry::StationKind;
use handfast_pki::Host;
use handfast_store::{ContentWatch, WatchSettings};
use handfast_telemetry::desk::DeskPlan;
use handfast_telemetry::forward::Dialect;
use handfast_telemetry::journal::JournalSettings;
use handfast_telemetry::port::{Mode, Place, Protection, Protocol};
use handfast_telemetry::station::{Output, PortPlan, StationPlan};
use handfast_telemetry::upstream::{Backend, UpstreamPlan};
use handfast_tls::Revocations;
use tokio_util::sync::CancellationToken;

use self::settings::Settings;
use self::supply::{Changed, Supply};
use super::super::lone::lists::Lists;
use super::super::lone::token::Token;
use super::super::lone::{Lone, WhenFull, bind_health};
use crate::agent_enrolment::{USUAL_EVERY, interval};
use crate::clock;
use crate::failure::Failure;
use crate::node::{self, LogFormat, Stopping};

/// Arguments of `handfast relay run`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  handfast relay run --backend collector.example:11800 --ca ca.crt --cert client.crt --key client.pem\n  \
    handfast relay run --backend collector.example:11800 --enrol-dir /var/lib/relay/cert --token shop.token\n  \
    handfast relay run --agent-dir /opt/skywalking-agent --data /var/lib/relay\n\n\
    Where an option is not given, it does as SkyWalking's Java agent does: ca/ca.crt below --agent-dir turns TLS on, \
    ca/client.crt and ca/client.pem make it mutual. SW_AGENT_FORCE_TLS, SW_AGENT_SSL_TRUSTED_CA_PATH, SW_AGENT_SSL_KEY_PATH, \
    SW_AGENT_SSL_CERT_CHAIN_PATH, SW_AGENT_AUTHENTICATION and SW_AGENT_COLLECTOR_BACKEND_SERVICES are read. \
    With none of them it does not start: --mode plaintext has to be said.\n\n\
    Stops on SIGTERM or Ctrl-C."
)]
pub(crate) struct Arguments {
    /// A collector or OAP; may be given several times, in the order of preference
    #[arg(long = "backend", value_name = "HOST:PORT")]
    backends: Vec<Backend>,
    /// Where agents report over gRPC
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:11800")]
    listen: SocketAddr,
    /// Where agents report over HTTP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:12800")]
    http: SocketAddr,
    /// A Unix socket for gRPC, too
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
    /// The directory of the spool
    #[arg(long, value_name = "DIR", default_value = "relay-spool")]
    data: PathBuf,
    /// The directory in which ca/ca.crt, ca/client.crt and ca/client.pem are looked for
    #[arg(long, value_name = "DIR", default_value = ".")]
    agent_dir: PathBuf,
    /// The CAs of the collector, PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The certificate to show, with its chain, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Get the certificate by this token, made with `handfast token issue --agent`
    #[arg(long, value_name = "FILE", requires = "enrol_dir")]
    token: Option<PathBuf>,
    /// The directory in which the certificate that was enrolled is kept and renewed
    #[arg(long, value_name = "DIR", conflicts_with_all = ["ca", "cert", "key"])]
    enrol_dir: Option<PathBuf>,
    /// How often the site that gave the token is asked whether to renew before the usual time, from 1s to 1h
    #[arg(long, value_name = "DURATION", default_value = USUAL_EVERY, value_parser = interval, requires = "enrol_dir")]
    ask_every: Duration,
    /// The collector's name, where it is dialled by another
    #[arg(long, value_name = "HOST")]
    server_name: Option<Host>,
    /// A file with the token that the backend asks for in every call
    #[arg(long, value_name = "FILE")]
    authentication: Option<PathBuf>,
    /// How much may wait on the disk
    #[arg(long, value_name = "SIZE", default_value = "10Gi")]
    spool_size: Quantity,
    /// What happens when that much waits
    #[arg(long, value_enum, default_value_t = WhenFull::Refuse, value_name = "refuse|drop-oldest")]
    when_full: WhenFull,
    /// A file of revocation lists of the collector's CAs; read again when it changes; may be given several times
    #[arg(long, value_name = "FILE")]
    crl: Vec<PathBuf>,
    /// How the collector is spoken to [default: mtls with a certificate, tls with a CA only]
    #[arg(long, value_name = "mtls|tls|plaintext")]
    mode: Option<Mode>,
    /// Serve /metrics and /healthz here, like 127.0.0.1:9600
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    log_format: LogFormat,
}

/// Runs it until it is told to end.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let settings = Settings::of(arguments, &settings::variables())?;
    node::start_log(settings.log_format);
    arena::settle();
    node::raise_descriptors();
    let mut stopping = Stopping::new()?;
    let ending = CancellationToken::new();
    // The files are read after that, so that no change is missed.
    let watch = |files| ContentWatch::start(files, WatchSettings::default());
    let token_file = watch(settings.authentication.file().into_iter().collect());
    let list_files = watch(settings.crl.clone());
    let (mut token_changed, mut lists_changed) = (token_file.changes(), list_files.changes());
    let mut lists = Lists::of(settings.crl.clone());
    let mut supply = Supply::open(&settings, lists.view(), &ending)?;
    if !supply.awaits_certificate() {
        lists.read(&supply.issuers()).map_err(Failure::from)?;
    }
    let mut token = Token::open(settings.authentication.clone())?;
    let health = bind_health(settings.metrics).await?;
    let lone = start(&settings, plan(&settings, &supply, &token)).await?;
    lists.tell(clock::now());
    let troubles = vec![supply.fault(), token.trouble(), lists.trouble()];
    let health = lone.serve_health(health, troubles, lists.due(), &ending)?;
    node::say_ready();
    loop {
        let mut taken_up = false;
        tokio::select! {
            signal = stopping.told() => {
                tracing::info!(signal, "stopping: nothing new is taken");
                break;
            }
            changed = supply.changed() => {
                taken_up = changed == Changed::Material && supply.make_again();
                lists.read_again(&supply.issuers());
            }
            Ok(()) = token_changed.changed() => token.read_again(),
            Ok(()) = lists_changed.changed() => {
                lists.read_again(&supply.issuers());
                // What is dialled anew is judged anew.
                supply.make_again();
            }
        }
        lone.apply(plan(&settings, &supply, &token));
        // Said when it is so, and not a moment before: somebody may act upon it.
        supply.tell();
        token.tell();
        lists.tell(clock::now());
        if taken_up {
            tracing::info!("new TLS material is in use");
        }
    }
    ending.cancel();
    lone.stop().await;
    if let Some(health) = health {
        health.await?;
    }
    tracing::info!("the relay has stopped; what it could not send waits in its spool");
    Ok(())
}

async fn start(settings: &Settings, plan: StationPlan) -> anyhow::Result<Lone> {
    // Whom a relay refuses has been refused by its collector, and is in the records there.
    let witness = Arc::new(|_| {});
    let (kind, options) = (StationKind::Relay, "--listen, --http or --unix");
    // Nobody shows a certificate at its own ports.
    let lone =
        Lone::start(kind, &settings.data, options, plan, Revocations::new(), witness).await?;
    for port in lone.status().into_iter().flat_map(|status| status.ports) {
        let address = port.address.map(|address| address.to_string()).unwrap_or_default();
        tracing::info!(port = port.name, address, "agents may report");
        if port.address.is_some_and(|address| !address.ip().is_loopback()) {
            tracing::warn!(
                port = port.name,
                address,
                "whoever reaches this address reports in the clear, and as this relay: listen on loopback"
            );
        }
    }
    Ok(lone)
}

fn plan(settings: &Settings, supply: &Supply, token: &Token) -> StationPlan {
    let mut ports = BTreeMap::new();
    let mut port = |name: &str, place, protocol| {
        let protection = Protection { mode: Mode::Plaintext, tls: None };
        ports.insert(name.to_owned(), PortPlan { place, protection, protocol });
    };
    port("grpc", Place::Tcp(settings.listen), Protocol::Grpc);
    port("http", Place::Tcp(settings.http), Protocol::Http);
    if let Some(path) = &settings.unix {
        port("unix", Place::Unix(path.clone()), Protocol::Grpc);
    }
    let spool = JournalSettings {
        limit_bytes: settings.spool_size.bytes(),
        when_full: settings.when_full.into(),
        ..JournalSettings::default()
    };
    let dialect = Dialect::SkyWalking;
    let upstream = UpstreamPlan {
        authentication: token.get().and_then(|token| dialect.authentication(token.reveal())),
        backends: settings.backends.clone(),
        security: supply.security(),
    };
    let output = Output::Forward { dialect, directory: settings.data.clone(), spool, upstream };
    StationPlan { desk: DeskPlan::default(), name: "relay".to_owned(), output, ports }
}
