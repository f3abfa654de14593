//! `handfast relay create|delete|status|ls|aside|run`: where agents report in the clear, to be carried over mutual
//! TLS.

mod run;

use std::net::SocketAddr;
use std::path::PathBuf;

use handfast_api::resources::{Relay, RelayListen, Resource};
use handfast_api::status::LinkDirection;
use handfast_api::telemetry::StationKind;
use handfast_pki::{Host, Name};
use handfast_telemetry::port::Mode;
use handfast_telemetry::upstream::Backend;

use super::stations::declaring::{self, SpoolOptions};
use super::{Context, Wait, aside, stations};

/// Verbs of `handfast relay`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// Let agents report here, and carry it to a collector
    #[command(
        after_help = "Examples:\n  handfast relay create shop --service shop --backend collector.example:11800\n  \
        handfast relay create shop --service shop --backend c1:11800 --backend c2:11800 --grpc 127.0.0.1:21800\n  \
        handfast relay create shop --service shop --backend collector.example:11800 --unix /run/shop.sock --spool-size 20Gi --when-full drop-oldest"
    )]
    Create(Create),
    /// Stop it; what waits in its spool stays there
    #[command(after_help = "Example:\n  handfast relay delete shop")]
    Delete(declaring::Delete),
    /// See the relays, one line for each
    #[command(visible_alias = "list", after_help = "Example:\n  handfast relay ls")]
    Ls,
    /// See what the relays are up to, and why their collector does not answer
    #[command(
        after_help = "Examples:\n  handfast relay status\n  handfast relay status shop -o json"
    )]
    Status(stations::Status),
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
    /// Where agents report over gRPC [default: 127.0.0.1:11800, if no other place is named]
    #[arg(long, value_name = "ADDRESS")]
    grpc: Option<SocketAddr>,
    /// Where agents report over HTTP [default: 127.0.0.1:12800, if no other place is named]
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// A Unix socket for gRPC: its permissions say who may report
    #[arg(long, value_name = "PATH")]
    unix: Option<String>,
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
    /// A file with the token that the collector asks for; what is in it is declared
    #[arg(long, value_name = "FILE")]
    authentication: Option<PathBuf>,
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
    let kind = StationKind::Relay;
    match verb {
        Verb::Create(create) => self::create(create, &context()?).await,
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
    let line = format!("handfast relay create {} --service {}", create.name, create.service);
    let (grpc, http, unix) = (create.grpc, create.http, create.unix);
    let named = grpc.is_some() || http.is_some() || unix.is_some();
    let made_here = create.tls_credentials.is_none() && create.mode == Mode::Mtls;
    let spec = Relay {
        service: create.service,
        backends: create.backends,
        listen: named.then_some(RelayListen { grpc, http, unix }),
        server_name: create.server_name,
        tls_credentials: create.tls_credentials,
        mode: create.mode,
        authentication: declaring::token(create.authentication)?,
        spool: create.spool.declared(),
    };
    let resource = Resource::new(create.name, spec);
    let kind = StationKind::Relay;
    let uptake = declaring::declare(kind, &resource, &line, create.wait, context).await?;
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
