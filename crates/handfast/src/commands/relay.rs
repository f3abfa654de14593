//! `handfast relay create|delete|status|ls|aside|run`: where agents report in the clear, to be carried over mutual
//! TLS.

mod run;

use std::net::SocketAddr;

use handfast_api::resources::edit::{self, Existing};
use handfast_api::resources::{Kind, Relay, RelayListen, Resource};
use handfast_api::status::{EdgeState, LinkDirection};
use handfast_api::telemetry::StationKind;
use handfast_pki::{Host, Name};
use handfast_telemetry::port::Mode;
use handfast_telemetry::upstream::Backend;

use super::{Context, Wait, aside, edge, stations, uptake};

/// Verbs of `handfast relay`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// Let agents report here, and carry it to a collector
    #[command(
        after_help = "Examples:\n  handfast relay create shop --service shop --backend collector.example:11800\n  \
        handfast relay create shop --service shop --backend c1:11800 --backend c2:11800 --grpc 127.0.0.1:21800"
    )]
    Create(Create),
    /// Stop it; what waits in its spool stays there
    #[command(after_help = "Example:\n  handfast relay delete shop")]
    Delete(Delete),
    /// See the relays, one line for each
    #[command(visible_alias = "list", after_help = "Example:\n  handfast relay ls")]
    Ls,
    /// See what the relays are up to, and why their collector does not answer
    #[command(
        after_help = "Examples:\n  handfast relay status\n  handfast relay status shop -o json"
    )]
    Status(Status),
    /// See, send again or throw away what the collector refused for good
    #[command(
        subcommand,
        after_help = "Examples:\n  handfast relay aside ls shop\n  handfast relay aside show shop 1048640\n  \
        handfast relay aside retry shop\n  handfast relay aside drop shop --kind log"
    )]
    Aside(aside::Verb),
    /// Run a relay by itself, without a home or a site, with certificates from files or by a token
    Run(Box<run::Arguments>),
}

/// Arguments of `handfast relay create`.
#[derive(clap::Args, Debug)]
pub(crate) struct Create {
    /// The relay's name
    name: Name,
    /// The service whose agents report here: its certificate says so
    #[arg(long)]
    service: Name,
    /// A collector; may be given several times, in the order of preference
    #[arg(long = "backend", required = true, value_name = "HOST:PORT")]
    backends: Vec<Backend>,
    /// Where agents report over gRPC [default: 127.0.0.1:11800]
    #[arg(long, value_name = "ADDRESS")]
    grpc: Option<SocketAddr>,
    /// Where agents report over HTTP [default: 127.0.0.1:12800]
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// The collector's name, where it is dialled by another
    #[arg(long, value_name = "HOST")]
    server_name: Option<Host>,
    /// The credential it presents: one under `input/certs`, as `handfast enrol` makes them
    /// [default: one that the site makes]
    #[arg(long, value_name = "NAME")]
    tls_credentials: Option<Name>,
    /// How the collector is spoken to
    #[arg(long, default_value = "mtls", value_name = "mtls|tls|plaintext")]
    mode: Mode,
    #[command(flatten)]
    wait: Wait,
}

/// Arguments of `handfast relay delete`.
#[derive(clap::Args, Debug)]
pub(crate) struct Delete {
    /// The relay's name
    name: Name,
    #[command(flatten)]
    wait: Wait,
}

/// Arguments of `handfast relay status`.
#[derive(clap::Args, Debug)]
pub(crate) struct Status {
    /// Only this relay
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
        Verb::Aside(verb) => aside::run(StationKind::Relay, verb, &context()?).await,
        Verb::Run(arguments) => run::run(*arguments).await,
    }
}

async fn create(create: Create, context: &Context) -> anyhow::Result<()> {
    let Create { name, service, backends, grpc, http, server_name, tls_credentials, mode, wait } =
        create;
    let listen =
        (grpc.is_some() || http.is_some()).then_some(RelayListen { grpc, http, unix: None });
    let line = format!("handfast relay create {name} --service {service}");
    let made_here = tls_credentials.is_none() && mode == Mode::Mtls;
    let spec = Relay {
        service,
        backends,
        listen,
        server_name,
        tls_credentials,
        mode,
        authentication: None,
        spool: None,
    };
    let resource = Resource::new(name, spec);
    let written = edit::write(&context.home.input_resources, &resource, &line, Existing::Keep)?;
    let wanted = resource.name.as_str();
    let uptake = uptake::wait(context, wait, resource.reference(), written.file, async |client| {
        let found = client
            .stations()
            .await?
            .into_iter()
            .find(|one| (one.kind, one.name.as_str()) == (StationKind::Relay, wanted));
        Ok(found.filter(|one| one.state != EdgeState::Failed))
    })
    .await?;
    let linked = made_here && uptake.node_running && links_elsewhere(context).await?;
    context.output.show(&uptake, |page| {
        page.line(format!("{} is declared in {}", uptake.resource, uptake.file.display()));
        for port in uptake.status.iter().flat_map(|status| &status.ports) {
            page.line(format!(
                "Agents report to {} ({}).",
                port.address.as_deref().unwrap_or("its socket"),
                port.name
            ));
        }
        if linked {
            page.line(
                "Its certificate is made by this site, which links to others. If the collector is of another trust domain it \
                 does not know it:",
            );
            let service = &resource.spec.service;
            page.line(format!("  there:  handfast token issue FILE --agent {service}"));
            page.line(
                "  here:   handfast enrol DIR --token FILE --keep   with a DIR under input/certs, and its name in \
                 --tls-credentials",
            );
        }
        uptake.without_node(context).iter().for_each(|hint| page.line(hint));
    })
}

/// Whether this site links to another, whose collector may be meant.
async fn links_elsewhere(context: &Context) -> anyhow::Result<bool> {
    let links = context.client().links().await?;
    Ok(links.iter().any(|link| link.direction == LinkDirection::Outgoing))
}

async fn delete(delete: Delete, context: &Context) -> anyhow::Result<()> {
    let file = edit::delete(&context.home.input_resources, Kind::Relay, &delete.name)?;
    let resource = format!("{}/{}", Kind::Relay, delete.name);
    let name = delete.name.as_str();
    let uptake = uptake::wait(context, delete.wait, resource, file, async |client| {
        let there = |one: &handfast_api::telemetry::StationView| {
            one.kind == StationKind::Relay && one.name == name
        };
        let gone = !client.stations().await?.iter().any(there);
        Ok(gone.then_some("deleted"))
    })
    .await?;
    context.output.show(&uptake, |page| edge::deleted(page, &uptake))
}

async fn status(name: Option<Name>, context: &Context, details: bool) -> anyhow::Result<()> {
    let all = context.client().stations().await?;
    let relays = stations::chosen(all, StationKind::Relay, name.as_ref())?;
    context.output.show(&relays, |page| {
        let empty =
            "No relays. Make one: handfast relay create NAME --service SERVICE --backend HOST:PORT";
        stations::table(page, &relays, empty);
        if details {
            stations::details(page, &relays);
        }
    })
}
