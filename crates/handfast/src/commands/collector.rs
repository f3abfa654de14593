//! `handfast collector create|delete|status|ls|aside|run`: where telemetry is received, from whom, and where it
//! goes.

mod run;

use std::path::PathBuf;

use handfast_api::resources::{
    Binding, Collector, CollectorPort, Forward, ForwardProtocol, ForwardTls, Quantity, Quotas,
    Resource, Span, Store,
};
use handfast_api::telemetry::StationKind;
use handfast_pki::{Fingerprint, Host, Name};
use handfast_telemetry::port::Mode;
use handfast_telemetry::rules::Rule;
use handfast_telemetry::upstream::Backend;

use self::run::settings;
use super::stations::declaring::{self, SpoolOptions};
use super::{Context, Wait, aside, stations};
use crate::exit::Exit;
use crate::failure::Failure;

/// Verbs of `handfast collector`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// Receive telemetry at this site, and keep it or send it on
    #[command(
        after_help = "Examples:\n  handfast collector create telemetry --hosts collector.example\n  \
        handfast collector create telemetry --mode permissive --retention 3d\n  \
        handfast collector create edge --identity '/agent/relay-*=shop,bank' --quota-messages 5000 --quota-bytes 8Mi\n  \
        handfast collector create oap --forward oap.example:11800 --forward-credentials oap --forward-authentication oap.token\n  \
        handfast collector create otlp --forward otel.example:4317 --forward-protocol otlp --spool-size 20Gi --when-full drop-oldest"
    )]
    Create(Box<Create>),
    /// Stop it; what it kept stays where it is
    #[command(after_help = "Example:\n  handfast collector delete telemetry")]
    Delete(declaring::Delete),
    /// See the collectors, one line for each
    #[command(visible_alias = "list", after_help = "Example:\n  handfast collector ls")]
    Ls,
    /// See what the collectors are up to: ports, connections, what was accepted and refused
    #[command(
        after_help = "Examples:\n  handfast collector status\n  handfast collector status telemetry -o json"
    )]
    Status(stations::Status),
    /// See, send again or throw away what the backend refused for good
    #[command(
        subcommand,
        after_help = "Examples:\n  handfast collector aside ls oap\n  handfast collector aside show oap 1048640\n  \
        handfast collector aside retry oap --service bank\n  handfast collector aside drop oap --all"
    )]
    Aside(aside::Verb),
    /// Run a collector by itself, without a home or a site, with certificates from files
    Run(Box<run::Arguments>),
}

/// Arguments of `handfast collector create`.
#[derive(clap::Args, Debug)]
pub(crate) struct Create {
    /// The collector's name
    name: Name,
    /// The address to listen on [default: every address]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<std::net::IpAddr>,
    /// Names under which agents reach it, for its certificate
    #[arg(long, value_delimiter = ',', value_name = "HOST,...")]
    hosts: Vec<Host>,
    /// Its server credential [default: one that the site makes]
    #[arg(long, value_name = "NAME")]
    tls_credentials: Option<Name>,
    /// Further credentials or issuers whose CAs clients may chain to
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    trust: Vec<Name>,
    /// The port for gRPC; 0 opens none
    #[arg(long, value_name = "PORT", default_value = "11800")]
    grpc_port: u16,
    /// The port for HTTP; 0 opens none
    #[arg(long, value_name = "PORT", default_value = "12800")]
    http_port: u16,
    /// How both are protected
    #[arg(long, default_value = "mtls", value_name = "mtls|permissive|tls|plaintext")]
    mode: Mode,
    /// Let an identity report as services: `/agent/relay-*=shop,bank`, `dns:*.example=*`; and only as some instances of them: `/agent/relay-7=shop;instances=*@10.1.7.*`; may be given several times
    #[arg(long, value_name = "IDENTITY=SERVICE,...[;instances=PATTERN,...]", value_parser = settings::rule)]
    identity: Vec<Rule>,
    /// Messages per second that one identity may report [default: without limit]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    quota_messages: Option<u64>,
    /// The same in bytes, like 4Mi
    #[arg(long, value_name = "SIZE")]
    quota_bytes: Option<Quantity>,
    /// Calls of one identity at the same time
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    quota_streams: Option<u32>,
    /// A file with the token that every call has to bring; what is in it is declared
    #[arg(long, value_name = "FILE")]
    authentication: Option<PathBuf>,
    /// For how long records are kept [default: 7d]
    #[arg(long, value_name = "DURATION")]
    retention: Option<Span>,
    /// How much is kept, like 20Gi
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Quantity>,
    /// Send records on to this backend instead of keeping them; may be given several times
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["retention", "max_size"])]
    forward: Vec<Backend>,
    /// What is spoken to the backends
    #[arg(long, value_name = "oap|otlp", default_value = "oap", value_parser = settings::protocol, requires = "forward")]
    forward_protocol: ForwardProtocol,
    /// The credential to trust them by, and to show to them: one under `input/certs`, or one of the site
    #[arg(long, value_name = "NAME", requires = "forward")]
    forward_credentials: Option<Name>,
    /// SHA-256 of a backend's certificate, for one without SANs or of X.509 v1; may be given several times
    #[arg(long, value_name = "FINGERPRINT", requires = "forward")]
    forward_pin: Vec<Fingerprint>,
    /// The name in the backends' certificates, where they are dialled by another
    #[arg(long, value_name = "HOST", requires = "forward_credentials")]
    forward_server_name: Option<Host>,
    /// A file with the token that the backends ask for; what is in it is declared
    #[arg(long, value_name = "FILE", requires = "forward")]
    forward_authentication: Option<PathBuf>,
    #[command(flatten)]
    spool: SpoolOptions,
    #[command(flatten)]
    wait: Wait,
}

/// Runs the verb; the one that needs no home asks for none.
pub(crate) async fn run(
    verb: Verb,
    context: impl FnOnce() -> anyhow::Result<Context>,
) -> anyhow::Result<()> {
    let kind = StationKind::Collector;
    match verb {
        Verb::Create(create) => self::create(*create, &context()?).await,
        Verb::Delete(delete) => declaring::delete(kind, delete, &context()?).await,
        Verb::Ls => stations::status(kind, None, false, &context()?).await,
        Verb::Status(wanted) => {
            stations::status(kind, wanted.name.as_ref(), true, &context()?).await
        }
        Verb::Aside(verb) => aside::run(kind, verb, &context()?).await,
        Verb::Run(arguments) => run::run(*arguments).await,
    }
}

async fn create(create: Create, context: &Context) -> anyhow::Result<()> {
    let line = format!("handfast collector create {} --mode {}", create.name, create.mode);
    let (name, wait) = (create.name.clone(), create.wait);
    let resource = Resource::new(name, declared(create)?);
    let uptake =
        declaring::declare(StationKind::Collector, &resource, &line, wait, context).await?;
    context.output.show(&uptake, |page| {
        page.line(format!("{} is declared in {}", uptake.resource, uptake.file.display()));
        for port in uptake.status.iter().flat_map(|status| &status.ports) {
            let address = port.address.as_deref().unwrap_or_default();
            page.line(format!(
                "Agents and relays report to {address} ({}, {}).",
                port.name, port.mode
            ));
        }
        uptake.without_node(context).iter().for_each(|hint| page.line(hint));
    })
}

fn declared(create: Create) -> anyhow::Result<Collector> {
    let port = |port: u16| (port != 0).then_some(CollectorPort { port, mode: create.mode });
    let (grpc, http) = (port(create.grpc_port), port(create.http_port));
    if grpc.is_none() && http.is_none() {
        return Err(Failure::new(Exit::Usage, "a collector without ports receives nothing")
            .remedy("leave --grpc-port or --http-port away")
            .into());
    }
    let spool = create.spool.declared();
    if create.forward.is_empty() && spool.is_some() {
        return Err(Failure::new(Exit::Usage, "a collector that keeps what it takes has no spool")
            .remedy("say how much is kept with --max-size, or where it goes with --forward")
            .into());
    }
    let quotas = Quotas {
        messages_per_second: create.quota_messages,
        bytes_per_second: create.quota_bytes,
        streams: create.quota_streams,
    };
    let tls = ForwardTls {
        tls_credentials: create.forward_credentials,
        server_name: create.forward_server_name,
        pin: create.forward_pin,
    };
    let forward = Forward {
        protocol: create.forward_protocol,
        backends: create.forward,
        tls: (tls != ForwardTls::default()).then_some(tls),
        authentication: declaring::token(create.forward_authentication)?,
        spool,
    };
    let store = Store { retention: create.retention, max_size: create.max_size };
    let binding = |rule: Rule| Binding {
        identity: rule.identity,
        services: rule.services,
        instances: rule.instances,
    };
    Ok(Collector {
        host: create.host.map(Host::Ip),
        hosts: create.hosts,
        tls_credentials: create.tls_credentials,
        trust: create.trust,
        grpc,
        http,
        identities: create.identity.into_iter().map(binding).collect(),
        quotas: (quotas != Quotas::default()).then_some(quotas),
        store: (store != Store::default()).then_some(store),
        forward: (!forward.backends.is_empty()).then_some(forward),
        authentication: declaring::token(create.authentication)?,
        ..Collector::default()
    })
}
