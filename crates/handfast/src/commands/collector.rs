//! `handfast collector create|delete|status|ls|aside|run`: where telemetry is received, from whom, and where it
//! goes.

mod run;

use handfast_api::resources::edit::{self, Existing};
use handfast_api::resources::{
    Collector, CollectorPort, Forward, ForwardProtocol, Kind, Quantity, Resource, Span, Store,
};
use handfast_api::status::EdgeState;
use handfast_api::telemetry::StationKind;
use handfast_pki::{Host, Name};
use handfast_telemetry::port::Mode;
use handfast_telemetry::upstream::Backend;

use super::{Context, Wait, aside, edge, stations, uptake};
use crate::exit::Exit;
use crate::failure::Failure;

/// Verbs of `handfast collector`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// Receive telemetry at this site, and keep it or send it on
    #[command(
        after_help = "Examples:\n  handfast collector create telemetry --hosts collector.example\n  \
        handfast collector create telemetry --mode permissive --retention 3d\n  \
        handfast collector create oap --forward oap.example:11800"
    )]
    Create(Create),
    /// Stop it; what it kept stays where it is
    #[command(after_help = "Example:\n  handfast collector delete telemetry")]
    Delete(Delete),
    /// See the collectors, one line for each
    #[command(visible_alias = "list", after_help = "Example:\n  handfast collector ls")]
    Ls,
    /// See what the collectors are up to: ports, connections, what was accepted and refused
    #[command(
        after_help = "Examples:\n  handfast collector status\n  handfast collector status telemetry -o json"
    )]
    Status(Status),
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
    /// The port for gRPC; 0 opens none
    #[arg(long, value_name = "PORT", default_value = "11800")]
    grpc_port: u16,
    /// The port for HTTP; 0 opens none
    #[arg(long, value_name = "PORT", default_value = "12800")]
    http_port: u16,
    /// How both are protected
    #[arg(long, default_value = "mtls", value_name = "mtls|permissive|tls|plaintext")]
    mode: Mode,
    /// For how long records are kept [default: 7d]
    #[arg(long, value_name = "DURATION")]
    retention: Option<Span>,
    /// How much is kept, like 20Gi
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Quantity>,
    /// Send records on to this backend instead of keeping them; may be given several times
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["retention", "max_size"])]
    forward: Vec<Backend>,
    #[command(flatten)]
    wait: Wait,
}

/// Arguments of `handfast collector delete`.
#[derive(clap::Args, Debug)]
pub(crate) struct Delete {
    /// The collector's name
    name: Name,
    #[command(flatten)]
    wait: Wait,
}

/// Arguments of `handfast collector status`.
#[derive(clap::Args, Debug)]
pub(crate) struct Status {
    /// Only this collector
    name: Option<Name>,
}

/// Runs the verb; the one that needs no home asks for none.
pub(crate) async fn run(
    verb: Verb,
    context: impl FnOnce() -> anyhow::Result<Context>,
) -> anyhow::Result<()> {
    match verb {
        Verb::Create(create) => self::create(create, &context()?).await,
        Verb::Delete(delete) => self::delete(delete, &context()?).await,
        Verb::Ls => status(None, &context()?, false).await,
        Verb::Status(wanted) => status(wanted.name, &context()?, true).await,
        Verb::Aside(verb) => aside::run(StationKind::Collector, verb, &context()?).await,
        Verb::Run(arguments) => run::run(*arguments).await,
    }
}

async fn create(create: Create, context: &Context) -> anyhow::Result<()> {
    let port = |port: u16| (port != 0).then_some(CollectorPort { port, mode: create.mode });
    if create.grpc_port == 0 && create.http_port == 0 {
        return Err(Failure::new(Exit::Usage, "a collector without ports receives nothing")
            .remedy("leave --grpc-port or --http-port away")
            .into());
    }
    let store = (create.retention.is_some() || create.max_size.is_some())
        .then_some(Store { retention: create.retention, max_size: create.max_size });
    let forward = (!create.forward.is_empty()).then(|| Forward {
        protocol: ForwardProtocol::Oap,
        backends: create.forward.clone(),
        tls: None,
        authentication: None,
        spool: None,
    });
    let spec = Collector {
        host: create.host.map(Host::Ip),
        hosts: create.hosts,
        grpc: port(create.grpc_port),
        http: port(create.http_port),
        store,
        forward,
        ..Collector::default()
    };
    let line = format!("handfast collector create {} --mode {}", create.name, create.mode);
    let resource = Resource::new(create.name, spec);
    let written = edit::write(&context.home.input_resources, &resource, &line, Existing::Keep)?;
    let wanted = resource.name.as_str();
    let uptake =
        uptake::wait(context, create.wait, resource.reference(), written.file, async |client| {
            let found = client
                .stations()
                .await?
                .into_iter()
                .find(|one| (one.kind, one.name.as_str()) == (StationKind::Collector, wanted));
            Ok(found.filter(|one| one.state != EdgeState::Failed))
        })
        .await?;
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

async fn delete(delete: Delete, context: &Context) -> anyhow::Result<()> {
    let file = edit::delete(&context.home.input_resources, Kind::Collector, &delete.name)?;
    let resource = format!("{}/{}", Kind::Collector, delete.name);
    let name = delete.name.as_str();
    let uptake = uptake::wait(context, delete.wait, resource, file, async |client| {
        let there = |one: &handfast_api::telemetry::StationView| {
            one.kind == StationKind::Collector && one.name == name
        };
        let gone = !client.stations().await?.iter().any(there);
        Ok(gone.then_some("deleted"))
    })
    .await?;
    context.output.show(&uptake, |page| edge::deleted(page, &uptake))
}

async fn status(name: Option<Name>, context: &Context, details: bool) -> anyhow::Result<()> {
    let all = context.client().stations().await?;
    let collectors = stations::chosen(all, StationKind::Collector, name.as_ref())?;
    context.output.show(&collectors, |page| {
        let empty = "No collectors. Make one: handfast collector create NAME";
        stations::table(page, &collectors, empty);
        if details {
            stations::details(page, &collectors);
        }
    })
}
