//! `handfast listener create|delete|status`: where clients reach a service of the network from here.

use std::collections::BTreeMap;

use handfast_api::admin::Client;
use handfast_api::resources::edit::{self, Existing};
use handfast_api::resources::{Kind, Listener, Resource, ServiceType};
use handfast_pki::Name;

use super::{Context, Wait, edge, uptake, words};

/// Verbs of `handfast listener`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// Offer a service of the network on a local port
    #[command(after_help = "Examples:\n  handfast listener create payments 9090\n  \
        handfast listener create payments 9090 --host 0.0.0.0 --routing-key payments-v2")]
    Create(Create),
    /// Stop offering it
    #[command(after_help = "Example:\n  handfast listener delete payments")]
    Delete(Delete),
    /// See the listeners, and whether anything answers behind them
    #[command(
        after_help = "Examples:\n  handfast listener status\n  handfast listener status payments -o json"
    )]
    Status(Status),
}

/// Arguments of `handfast listener create`.
#[derive(clap::Args, Debug)]
pub(crate) struct Create {
    /// The listener's name
    name: Name,
    /// The local port
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The local address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The routing key of the service [default: the name]
    #[arg(short, long, value_name = "KEY")]
    routing_key: Option<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Arguments of `handfast listener delete`.
#[derive(clap::Args, Debug)]
pub(crate) struct Delete {
    /// The listener's name
    name: Name,
    #[command(flatten)]
    wait: Wait,
}

/// Arguments of `handfast listener status`.
#[derive(clap::Args, Debug)]
pub(crate) struct Status {
    /// Only this listener
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
    let routing_key = edge::routing_key(create.routing_key, &create.name)?;
    let host = edge::host(&create.host)?;
    let spec = Listener {
        routing_key,
        host,
        port: create.port,
        tls_credentials: None,
        service_type: ServiceType::Tcp,
        observer: None,
        expose_pods_by_name: false,
        settings: BTreeMap::new(),
    };
    let resource = Resource::new(create.name.clone(), spec);
    let line =
        format!("handfast listener create {} {} --host {}", create.name, create.port, create.host);
    let written = edit::write(&context.home.input_resources, &resource, &line, Existing::Keep)?;

    let wanted = (create.name.as_str(), create.port);
    let uptake =
        uptake::wait(context, create.wait, resource.reference(), written.file, async |client| {
            let listeners = client.listeners().await?;
            // Waiting for a matching connector is a state; waiting to be bound is not one yet.
            Ok(listeners.into_iter().find(|one| {
                (one.name.as_str(), one.port) == wanted
                    && (one.bind.is_some() || one.fault.is_some())
            }))
        })
        .await?;
    if let Some(status) = &uptake.status {
        uptake::must_work(&uptake.resource, &uptake.file, status.state, status.fault.as_ref())?;
    }
    context.output.show(&uptake, |page| {
        page.line(format!("{} is declared in {}", uptake.resource, uptake.file.display()));
        if let Some(status) = &uptake.status {
            let bind =
                status.bind.clone().unwrap_or_else(|| format!("{}:{}", status.host, status.port));
            page.line(format!(
                "It listens on {bind} and leads to routing key {}.",
                status.routing_key
            ));
            if !status.has_matching_connector {
                page.line("No connector in the network offers that routing key yet.");
            }
        }
        uptake.without_node(context).iter().for_each(|hint| page.line(hint));
    })
}

async fn delete(delete: Delete, context: &Context) -> anyhow::Result<()> {
    let file = edit::delete(&context.home.input_resources, Kind::Listener, &delete.name)?;
    let resource = format!("{}/{}", Kind::Listener, delete.name);
    let name = delete.name.as_str();
    let there =
        async |client: &Client| Ok(client.listeners().await?.iter().any(|one| one.name == name));
    let uptake = uptake::wait_until_gone(context, delete.wait, resource, file, there).await?;
    context.output.show(&uptake, |page| edge::deleted(page, &uptake))
}

async fn status(status: Status, context: &Context) -> anyhow::Result<()> {
    let listeners = context.client().listeners().await?;
    let listeners = edge::named(listeners, status.name.as_ref(), "listener", |one| &one.name)?;
    context.output.show(&listeners, |page| {
        let rows: Vec<Vec<String>> = listeners
            .iter()
            .map(|one| {
                vec![
                    one.name.clone(),
                    one.routing_key.clone(),
                    one.bind.clone().unwrap_or_else(|| format!("{}:{}", one.host, one.port)),
                    words::edge(one.state).to_owned(),
                    if one.has_matching_connector { "yes" } else { "no" }.to_owned(),
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
            "LISTENS ON",
            "STATE",
            "CONNECTOR",
            "OPEN",
            "TOTAL",
            "FROM CLIENTS",
            "TO CLIENTS",
        ];
        page.table(&header, &rows, "No listeners. Make one: handfast listener create NAME PORT");
        for one in &listeners {
            words::fault(page, &format!("listener {}", one.name), one.fault.as_ref());
        }
    })
}
