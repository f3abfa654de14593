//! What a backend refused for good, sent again or thrown away by request: done whatever becomes of the connection it
//! was asked over, and on record.

use std::sync::Arc;

use handfast_api::admin::{Refusal, RefusalCode};
use handfast_api::telemetry::{AsideChoice, AsideDealt};
use handfast_store::{AuditRow, Ledger as _};
use handfast_telemetry::forward::{AsideError, AsideFault, Dealt, Forwarder};

use crate::clock;
use crate::node::core::Core;

/// What is done with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    Dropped,
    Retried,
}

/// The way on of a station.
pub(super) fn forwarder(core: &Core, subject: &str) -> Result<Arc<Forwarder>, Refusal> {
    let mut found = None;
    core.each_station(|one, station| {
        if one == subject {
            found = Some(station.forwarder().map(Arc::clone));
        }
    });
    let subject: String = subject.chars().filter(|one| !one.is_control()).take(300).collect();
    let (what, remedy) = match found {
        Some(Some(forwarder)) => return Ok(forwarder),
        Some(None) => (
            format!(
                "{subject} keeps what it takes: there is no backend that could refuse anything"
            ),
            "only relays, and collectors with `forward`, have something aside",
        ),
        None => (
            format!("no {subject} runs on this node"),
            "`handfast collector ls` and `handfast relay ls` list those that do",
        ),
    };
    Err(Refusal::new(RefusalCode::NotFound, what, remedy))
}

/// Does it, and says so in the audit log.
pub(super) async fn deal(
    core: Arc<Core>,
    choice: AsideChoice,
    fate: Fate,
    actor: String,
) -> Result<AsideDealt, Refusal> {
    let chosen = choice.chosen()?;
    let forwarder = forwarder(&core, &choice.station)?;
    let outcome = match fate {
        Fate::Dropped => forwarder.drop_aside(&chosen).await,
        Fate::Retried => forwarder.retry_aside(&chosen).await,
    };
    let row = row(&choice, fate, actor, &outcome);
    let recording =
        tokio::task::spawn_blocking(move || core.authority().ledger().audit(&row).map(drop));
    let recorded = recording.await.map_err(|_| unrecorded(&"the call was cut short"))?;
    let dealt = outcome.map_err(|error| refusal(&error))?;
    recorded.map_err(|error| unrecorded(&error))?;
    Ok(dealt.into())
}

fn row(
    choice: &AsideChoice,
    fate: Fate,
    actor: String,
    outcome: &Result<Dealt, AsideError>,
) -> AuditRow {
    let dealt = outcome.as_ref().map_or_else(|error| error.dealt, |dealt| *dealt);
    let (action, done) = match fate {
        Fate::Dropped => ("telemetry.drop", "thrown away"),
        Fate::Retried => ("telemetry.retry", "put back into the spool"),
    };
    let mut which = Vec::new();
    let mut add = |what: &str, names: Vec<String>| {
        if !names.is_empty() {
            which.push(format!("{what} {}", names.join(", ")));
        }
    };
    add("of the services", choice.services.clone());
    add("of the kinds", choice.kinds.clone());
    add("with the ids", choice.ids.iter().map(ToString::to_string).collect());
    let which = if which.is_empty() { "all".to_owned() } else { which.join(", ") };
    let which: String = which.chars().filter(|one| !one.is_control()).take(WORDS).collect();
    let detail = format!("{} records, {} bytes {done} ({which})", dealt.records, dealt.bytes);
    AuditRow {
        at: clock::now(),
        actor,
        action: action.to_owned(),
        subject: choice.station.clone(),
        outcome: if outcome.is_ok() { "ok" } else { "failed" }.to_owned(),
        detail: match outcome {
            Ok(_) => detail,
            Err(error) => format!("{detail}; then: {}", error.why),
        },
        why: String::new(),
    }
}

fn refusal(error: &AsideError) -> Refusal {
    let (code, remedy) = match &error.why {
        AsideFault::Spool(_) => (
            RefusalCode::NotReady,
            "let the backend take what waits, or give the spool more room, and retry the rest",
        ),
        _ => {
            (RefusalCode::Internal, "make room, or mend the disk of the node's home, and try again")
        }
    };
    Refusal::new(code, error.to_string(), remedy)
}

fn unrecorded(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(
        RefusalCode::Internal,
        format!("it is done, and how much was done cannot be recorded: {error}"),
        "mend the ledger's disk; that it was asked for is on record",
    )
}

/// Characters of what was chosen.
const WORDS: usize = 500;
