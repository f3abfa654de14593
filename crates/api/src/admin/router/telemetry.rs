//! The paths about telemetry: what collectors and relays are up to, and what is kept.

use std::sync::Arc;

use handfast_telemetry::keep::{KeepError, KeepReader};

use super::super::actions::Action;
use super::super::message::{Refusal, RefusalCode};
use super::super::node::Node;
use super::super::routes::Routes;
use crate::access::Caller;
use crate::telemetry::{
    self, AsideChoice, AsideSearch, AsideWanted, EventSearch, LogSearch, MetricSearch,
    NewestSearch, OfService, RolloutQuestion, TraceSearch, TraceWanted,
};

pub(super) fn routes<N: Node>(routes: Routes<N>) -> Routes<N> {
    kept(aside(routes))
}

fn aside<N: Node>(routes: Routes<N>) -> Routes<N> {
    routes
        .get_with(
            "/v1/aside",
            Action::TelemetryRead,
            async |node: Arc<N>, _: Caller, search: AsideSearch| {
                let forwarder = node.forwarder(&search.station).await?;
                looked(move || telemetry::aside(&forwarder, &search)).await
            },
        )
        .get_with(
            "/v1/aside/record",
            Action::TelemetryRead,
            async |node: Arc<N>, _: Caller, wanted: AsideWanted| {
                let forwarder = node.forwarder(&wanted.station).await?;
                looked(move || telemetry::aside_record(&forwarder, &wanted)).await
            },
        )
        .post(
            "/v1/aside/drops",
            Action::TelemetryDrop,
            async |node: Arc<N>, caller: Caller, choice: AsideChoice| {
                node.drop_aside(&caller, choice).await
            },
        )
        .post(
            "/v1/aside/retries",
            Action::TelemetryRetry,
            async |node: Arc<N>, caller: Caller, choice: AsideChoice| {
                node.retry_aside(&caller, choice).await
            },
        )
}

fn kept<N: Node>(routes: Routes<N>) -> Routes<N> {
    routes
        .get("/v1/telemetry", Action::TelemetryStatus, async |node: Arc<N>| {
            Ok(node.stations().await)
        })
        .get_with(
            "/v1/telemetry/reporters",
            Action::TelemetryStatus,
            async |node: Arc<N>, _: Caller, question: RolloutQuestion| {
                Ok(node.rollout(question).await)
            },
        )
        .get("/v1/services", Action::TelemetryRead, async |node: Arc<N>| {
            asked(node, telemetry::services).await
        })
        .get_with(
            "/v1/instances",
            Action::TelemetryRead,
            async |node: Arc<N>, _: Caller, of: OfService| {
                asked(node, move |stores| telemetry::instances(stores, &of)).await
            },
        )
        .get_with(
            "/v1/endpoints",
            Action::TelemetryRead,
            async |node: Arc<N>, _: Caller, of: OfService| {
                asked(node, move |stores| telemetry::endpoints(stores, &of)).await
            },
        )
        .get_with(
            "/v1/traces",
            Action::TelemetryRead,
            async |node: Arc<N>, _: Caller, search: TraceSearch| {
                asked(node, move |stores| telemetry::traces(stores, &search)).await
            },
        )
        .get_with(
            "/v1/trace",
            Action::TelemetryRead,
            async |node: Arc<N>, _: Caller, wanted: TraceWanted| {
                let found = asked(node, move |stores| telemetry::trace(stores, &wanted)).await?;
                found.ok_or_else(no_trace)
            },
        )
        .get_with(
            "/v1/logs",
            Action::TelemetryRead,
            async |node: Arc<N>, _: Caller, search: LogSearch| {
                asked(node, move |stores| telemetry::logs(stores, &search)).await
            },
        )
        .get_with(
            "/v1/events",
            Action::TelemetryRead,
            async |node: Arc<N>, _: Caller, search: EventSearch| {
                asked(node, move |stores| telemetry::events(stores, &search)).await
            },
        )
        .get_with(
            "/v1/metrics",
            Action::TelemetryRead,
            async |node: Arc<N>, _: Caller, search: MetricSearch| {
                asked(node, move |stores| telemetry::metrics(stores, &search)).await
            },
        )
        .get_with(
            "/v1/metrics/newest",
            Action::TelemetryRead,
            async |node: Arc<N>, _: Caller, search: NewestSearch| {
                asked(node, move |stores| telemetry::newest(stores, &search)).await
            },
        )
}

/// Asks the stores of a node, on a thread that may wait for the disk.
async fn asked<N: Node, T: Send + 'static>(
    node: Arc<N>,
    question: impl FnOnce(&[KeepReader]) -> Result<T, KeepError> + Send + 'static,
) -> Result<T, Refusal> {
    let stores = node.kept().await;
    if stores.is_empty() {
        return Err(no_store());
    }
    let answer = move || {
        question(&stores).map_err(|error| {
            Refusal::new(
                RefusalCode::Internal,
                error.to_string(),
                "see the node's log and its disk",
            )
        })
    };
    looked(answer).await
}

/// Looks, on a thread that may wait for the disk.
async fn looked<T: Send + 'static>(
    look: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(look).await.unwrap_or_else(|_| {
        Err(Refusal::new(RefusalCode::Internal, "the search was cut short", "ask again"))
    })
}

fn no_store() -> Refusal {
    Refusal::new(
        RefusalCode::NotFound,
        "no collector of this node keeps what it takes",
        "declare one (`handfast collector create NAME`), ask the node that runs it (--node), or read the \
         directory of a collector that runs by itself (--data DIR)",
    )
}

fn no_trace() -> Refusal {
    Refusal::new(
        RefusalCode::NotFound,
        "no such trace is kept here",
        "see `handfast trace ls`; traces are kept for the collector's retention, and segments arrive when \
         their spans are over",
    )
}
