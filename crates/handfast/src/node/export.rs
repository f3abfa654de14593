//! The record of what is taken out of a home: by the node that holds the ledger, or by the command itself
//! while none runs.

use std::sync::Arc;

use handfast_api::access::Principal;
use handfast_api::admin::{RecordExport, RecordedExport, Refusal, RefusalCode};
use handfast_pki::Name;
use handfast_store::{AuditRow, Home, HomePaths, Ledger as _, SqliteLedger};

use super::core::Core;
use super::tokens::parsed;
use crate::clock;

/// The most characters of the words that come from outside.
const WORDS: usize = 1000;

impl Core {
    /// Writes it down. Only what is on record is exported.
    pub(super) async fn record_export(
        self: &Arc<Self>,
        request: RecordExport,
        actor: String,
    ) -> Result<RecordedExport, Refusal> {
        let _: Name = parsed("name", &request.name)?;
        let core = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            core.authority().ledger().audit(&row(&request, actor))
        });
        let recorded = work.await.map_err(|_| unrecorded(&"the call was cut short"))?;
        let sequence = recorded.map_err(|error| unrecorded(&error))?;
        Ok(RecordedExport { sequence })
    }
}

/// Writes it down while no node runs. Nothing where there is no ledger yet: then there is nothing that a
/// node ever made.
pub(crate) fn record_export_offline(
    home: &HomePaths,
    request: &RecordExport,
) -> anyhow::Result<Option<RecordedExport>> {
    if !home.state_db.exists() {
        return Ok(None);
    }
    let _lock = Home::open(&home.root)?;
    let ledger = SqliteLedger::open(&home.state_db)?;
    let user = Principal::Local { uid: rustix::process::geteuid().as_raw() };
    let sequence = ledger.audit(&row(request, user.to_string()))?;
    Ok(Some(RecordedExport { sequence }))
}

fn row(request: &RecordExport, actor: String) -> AuditRow {
    let plain = |text: &str| -> String {
        text.chars().filter(|one| !one.is_control()).take(WORDS).collect()
    };
    let key = if request.private_key { "with its private key" } else { "without its private key" };
    let what = plain(&request.what);
    AuditRow {
        at: clock::now(),
        actor,
        action: "credential.export".to_owned(),
        subject: format!("credential {}", plain(&request.name)),
        outcome: if request.failed.is_some() { "failed" } else { "ok" }.to_owned(),
        detail: match &request.failed {
            None => format!("{key}: {what}"),
            Some(why) => format!("{key}: {what}; nothing was written: {}", plain(why)),
        },
        why: plain(&request.reason),
    }
}

fn unrecorded(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(
        RefusalCode::Internal,
        format!("the export cannot be recorded, so nothing is exported: {error}"),
        "make room, or mend the disk of the node's home, and try again",
    )
}
