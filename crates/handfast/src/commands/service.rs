//! `handfast service ls|instances|endpoints`: who reports telemetry, from what is kept.

use handfast_api::telemetry::{self, OfService};

use super::kept::{Source, shown};
use super::{Context, words};
use crate::clock;

/// Verbs of `handfast service`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// List the services that reported something
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  handfast service ls\n  handfast service ls --data /var/lib/collector -o json"
    )]
    Ls(Ls),
    /// List the instances of a service, and what they say of themselves
    #[command(after_help = "Example:\n  handfast service instances shop")]
    Instances(Of),
    /// List the endpoints of a service, the most used first
    #[command(after_help = "Example:\n  handfast service endpoints shop")]
    Endpoints(Of),
    /// List the metrics that a service reports, with their newest values
    #[command(
        after_help = "Examples:\n  handfast service metrics shop\n  handfast service metrics shop --name instance_jvm_cpu -o json"
    )]
    Metrics(Metrics),
}

/// Arguments of `handfast service ls`.
#[derive(clap::Args, Debug)]
pub(crate) struct Ls {
    #[command(flatten)]
    source: Source,
}

/// Arguments of verbs about one service.
#[derive(clap::Args, Debug)]
pub(crate) struct Of {
    /// The service
    #[arg(value_name = "SERVICE")]
    service: String,
    #[command(flatten)]
    source: Source,
}

/// Arguments of `handfast service metrics`.
#[derive(clap::Args, Debug)]
pub(crate) struct Metrics {
    /// The service
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Only of this instance
    #[arg(long)]
    instance: Option<String>,
    /// Only the metric of this name
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    source: Source,
}

/// Runs the verb.
pub(crate) async fn run(verb: Verb, context: &Context) -> anyhow::Result<()> {
    match verb {
        Verb::Ls(ls) => self::ls(&ls, context).await,
        Verb::Instances(of) => instances(of, context).await,
        Verb::Endpoints(of) => endpoints(of, context).await,
        Verb::Metrics(wanted) => metrics(wanted, context).await,
    }
}

async fn ls(ls: &Ls, context: &Context) -> anyhow::Result<()> {
    let node = async |client: &handfast_api::admin::Client| client.services().await;
    let services = ls.source.ask(context, node, telemetry::services).await?;
    let now = clock::now();
    context.output.show(&services, |page| {
        let row = |one: &telemetry::ServiceView| {
            vec![
                shown(&one.name),
                one.instances.to_string(),
                one.segments.to_string(),
                one.errors.to_string(),
                one.records.to_string(),
                words::distance(one.last_seen, now),
            ]
        };
        let rows: Vec<Vec<String>> = services.iter().map(row).collect();
        let header = ["SERVICE", "INSTANCES", "SEGMENTS", "ERRORS", "RECORDS", "LAST SEEN"];
        page.table(&header, &rows, "No service has reported anything yet.");
    })
}

async fn instances(of: Of, context: &Context) -> anyhow::Result<()> {
    let Of { service, source } = of;
    let of = OfService { service };
    let instances = source
        .ask(
            context,
            async |client| client.instances(&of).await,
            |stores| telemetry::instances(stores, &of),
        )
        .await?;
    let now = clock::now();
    context.output.show(&instances, |page| {
        let row = |one: &telemetry::InstanceView| {
            let said = one.properties.iter().map(|(key, value)| format!("{key}={value}"));
            let said: Vec<String> = said.take(SHOWN_PROPERTIES).collect();
            vec![
                shown(&one.name),
                one.segments.to_string(),
                one.errors.to_string(),
                words::distance(one.last_seen, now),
                one.last_ping.map(|at| words::distance(at, now)).unwrap_or_default(),
                shown(&said.join(" ")),
            ]
        };
        let rows: Vec<Vec<String>> = instances.iter().map(row).collect();
        let header = ["INSTANCE", "SEGMENTS", "ERRORS", "LAST SEEN", "LAST PING", "PROPERTIES"];
        page.table(&header, &rows, "No instance of this service has reported: handfast service ls");
    })
}

async fn endpoints(of: Of, context: &Context) -> anyhow::Result<()> {
    let Of { service, source } = of;
    let of = OfService { service };
    let endpoints = source
        .ask(
            context,
            async |client| client.endpoints(&of).await,
            |stores| telemetry::endpoints(stores, &of),
        )
        .await?;
    let now = clock::now();
    context.output.show(&endpoints, |page| {
        let row = |one: &telemetry::EndpointView| {
            vec![
                shown(&one.name),
                one.segments.to_string(),
                one.errors.to_string(),
                words::distance(one.last_seen, now),
            ]
        };
        let rows: Vec<Vec<String>> = endpoints.iter().map(row).collect();
        let header = ["ENDPOINT", "SEGMENTS", "ERRORS", "LAST SEEN"];
        page.table(&header, &rows, "No endpoint of this service was used: handfast service ls");
    })
}

async fn metrics(wanted: Metrics, context: &Context) -> anyhow::Result<()> {
    let Metrics { service, instance, name, source } = wanted;
    let search =
        telemetry::MetricSearch { service, instance, name, from: None, to: None, limit: None };
    let series = source
        .ask(
            context,
            async |client| client.metrics(&search).await,
            |stores| telemetry::metrics(stores, &search),
        )
        .await?;
    let now = clock::now();
    context.output.show(&series, |page| {
        let row = |one: &telemetry::MetricView| {
            let labels: Vec<String> = one.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let newest = one.points.last();
            vec![
                shown(&one.name),
                shown(&one.instance),
                shown(&labels.join(" ")),
                newest.map(|(_, value)| value.to_string()).unwrap_or_default(),
                newest.map(|(at, _)| words::distance(*at, now)).unwrap_or_default(),
            ]
        };
        let rows: Vec<Vec<String>> = series.iter().map(row).collect();
        let header = ["METRIC", "INSTANCE", "LABELS", "NEWEST", "FROM"];
        page.table(&header, &rows, "This service has reported no metric: handfast service ls");
    })
}

/// Properties of an instance that are shown to people; programs get all.
const SHOWN_PROPERTIES: usize = 6;
