//! `handfast connector create|delete|status`: where a service of this site is.

use std::collections::BTreeMap;

use handfast_api::admin::Client;
use handfast_api::resources::edit::{self, Existing};
use handfast_api::resources::{Connector, Kind, Resource, ServiceType};
use handfast_pki::Name;

use super::{Context, Wait, edge, uptake, words};

/// Verbs of `handfast connector`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// Offer a service of this site to the network
    #[command(after_help = "Examples:\n  handfast connector create payments 8080\n  \
        handfast connector create payments 8080 --host 10.0.0.7 --routing-key payments-v2")]
    Create(Create),
    /// Stop offering it
    #[command(after_help = "Example:\n  handfast connector delete payments")]
    Delete(Delete),
    /// See the connectors, and whether their services answer
    #[command(
        after_help = "Examples:\n  handfast connector status\n  handfast connector status payments -o json"
    )]
    Status(Status),
}

/// Arguments of `handfast connector create`.
#[derive(clap::Args, Debug)]
pub(crate) struct Create {
    /// The connector's name
    name: Name,
    /// The port of the service
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The host name or address of the service
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The routing key under which the network knows it [default: the name]
    #[arg(short, long, value_name = "KEY")]
    routing_key: Option<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Arguments of `handfast connector delete`.
#[derive(clap::Args, Debug)]
pub(crate) struct Delete {
    /// The connector's name
    name: Name,
    #[command(flatten)]
    wait: Wait,
}

/// Arguments of `handfast connector status`.
#[derive(clap::Args, Debug)]
pub(crate) struct Status {
    /// Only this connector
    name: Option<Name>,
}

/// Runs the verb.
pub(crate) async fn run(verb: Verb, context: &Context) -> anyhow::Result<()> {
    match verb {
        Verb::Create(create) => self::create(create, context).await,
        Verb::Delete(delete) => self::delete(delete, context).await,
        Verb::Status(status) => self::status(status, context).await,
    }
}

async fn create(create: Create, context: &Context) -> anyhow::Result<()> {
    let spec = Connector {
        routing_key: edge::routing_key(create.routing_key, &create.name)?,
        host: Some(edge::host(&create.host)?),
        selector: None,
        port: create.port,
        tls_credentials: None,
        use_client_cert: false,
        verify_hostname: false,
        service_type: ServiceType::Tcp,
        expose_pods_by_name: false,
        include_not_ready_pods: false,
        settings: BTreeMap::new(),
    };
    let resource = Resource::new(create.name.clone(), spec);
    let line =
        format!("handfast connector create {} {} --host {}", create.name, create.port, create.host);
    let written = edit::write(&context.home.input_resources, &resource, &line, Existing::Keep)?;

    let wanted = (create.name.as_str(), create.port);
    let uptake =
        uptake::wait(context, create.wait, resource.reference(), written.file, async |client| {
            let connectors = client.connectors().await?;
            Ok(connectors.into_iter().find(|one| (one.name.as_str(), one.port) == wanted))
        })
        .await?;
    context.output.show(&uptake, |page| {
        page.line(format!("{} is declared in {}", uptake.resource, uptake.file.display()));
        if let Some(status) = &uptake.status {
            page.line(format!(
                "Routing key {} leads to {}:{}; state: {}.",
                status.routing_key,
                status.host,
                status.port,
                words::edge(status.state)
            ));
            words::fault(page, "Its service does not answer", status.fault.as_ref());
        }
        uptake.without_node(context).iter().for_each(|hint| page.line(hint));
    })
}

async fn delete(delete: Delete, context: &Context) -> anyhow::Result<()> {
    let file = edit::delete(&context.home.input_resources, Kind::Connector, &delete.name)?;
    let resource = format!("{}/{}", Kind::Connector, delete.name);
    let name = delete.name.as_str();
    let there =
        async |client: &Client| Ok(client.connectors().await?.iter().any(|one| one.name == name));
    let uptake = uptake::wait_until_gone(context, delete.wait, resource, file, there).await?;
    context.output.show(&uptake, |page| edge::deleted(page, &uptake))
}

async fn status(status: Status, context: &Context) -> anyhow::Result<()> {
    let connectors = context.client().connectors().await?;
    let connectors = edge::named(connectors, status.name.as_ref(), "connector", |one| &one.name)?;
    context.output.show(&connectors, |page| {
        let rows: Vec<Vec<String>> = connectors
            .iter()
            .map(|one| {
                vec![
                    one.name.clone(),
                    one.routing_key.clone(),
                    format!("{}:{}", one.host, one.port),
                    words::edge(one.state).to_owned(),
                    one.connections_open.to_string(),
                    one.connections_total.to_string(),
                    words::bytes(one.bytes_in),
                    words::bytes(one.bytes_out),
                ]
            })
            .collect();
        let header = [
            "NAME",
            "ROUTING KEY",
            "SERVICE",
            "STATE",
            "OPEN",
            "TOTAL",
            "FROM SERVICE",
            "TO SERVICE",
        ];
        page.table(&header, &rows, "No connectors. Make one: handfast connector create NAME PORT");
        for one in &connectors {
            words::fault(page, &format!("connector {}", one.name), one.fault.as_ref());
        }
    })
}
