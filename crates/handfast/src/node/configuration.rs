//! Changes of the configuration, on record before they take effect: resources, policies and credentials
//! that the user supplies, also those that changed while the node did not run.
//!
//! What was in force last is kept as digests in `runtime/in-force.json`. A node that is killed between the
//! rows and that file tells the same changes again at its next start: twice is better than never.

mod survey;

use std::fs;
use std::mem;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use handfast_api::configuration::{Change, InForce, Place};
use handfast_api::resources::{ResourceFault, Resources, declared};
use handfast_api::status::{ProblemSeverity, ProblemView};
use handfast_authority::Declared;
use handfast_store::{AuditRow, HomePaths, Ledger as _, read_bounded, write_atomic};

use super::access::Prepared;
use super::core::Core;
use crate::clock;

/// The configuration in force.
#[derive(Default)]
pub(super) struct Configuration {
    /// Its digests; absent until the first turn read what the last process left.
    known: Option<InForce>,
    /// Whether the file is behind `known`.
    unkept: bool,
    /// The resources of it; absent until some are in force.
    resources: Option<Arc<Resources>>,
}

/// What a turn goes on with.
pub(super) struct Taken {
    pub(super) resources: Arc<Resources>,
    /// What the authority is to make.
    pub(super) wanted: Option<Declared>,
    pub(super) problems: Vec<ProblemView>,
    /// A change could not be recorded, so what was in force still is.
    pub(super) unrecorded: bool,
    /// Among what could not be recorded are credentials, which the authority must not look at.
    pub(super) untouched: bool,
}

/// What came of recording.
struct Recorded {
    configuration: Configuration,
    /// The changes that are not on record, and why; and what can be used without them.
    failure: Option<(String, Vec<Change>)>,
    prepared: Prepared,
    resources: Resources,
}

impl Core {
    /// Records what is different from what was in force, and then takes it up.
    pub(super) async fn take_up(
        self: &Arc<Self>,
        configuration: &mut Configuration,
        resources: Resources,
        faults: &[ResourceFault],
    ) -> Taken {
        let (core, before, faults) = (Arc::clone(self), mem::take(configuration), faults.to_vec());
        let work = tokio::task::spawn_blocking(move || core.record(before, resources, &faults));
        let Recorded { configuration: after, failure, prepared, resources } = match work.await {
            Ok(recorded) => recorded,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        *configuration = after;
        let mut problems = Vec::new();
        let resources = match &failure {
            None => Arc::new(resources),
            Some((why, changes)) => {
                problems.push(unrecorded(why, changes));
                // At a start nothing is in force yet: what did not change since may be.
                configuration.resources.clone().unwrap_or_else(|| Arc::new(resources))
            }
        };
        configuration.resources = Some(Arc::clone(&resources));
        let (wanted, unclear) = declared(&resources);
        problems.extend(unclear);
        problems.extend(self.take_up_policies(failure.is_none().then_some(prepared)));
        let untouched =
            failure.as_ref().is_some_and(|(_, changes)| changes.iter().any(survey::is_credential));
        Taken { resources, wanted, problems, unrecorded: failure.is_some(), untouched }
    }

    /// Blocks on the disk.
    fn record(
        &self,
        mut configuration: Configuration,
        mut resources: Resources,
        faults: &[ResourceFault],
    ) -> Recorded {
        let known = configuration.known.take().unwrap_or_else(|| read(&self.paths.in_force));
        let (wanted, _) = declared(&resources);
        let prepared = self.prepare_policies(&resources, faults, wanted.as_ref());
        let report = self.state().report.clone();
        let now = survey::survey(
            &self.paths,
            &known,
            &resources,
            faults,
            &prepared.policies,
            report.as_deref(),
        );
        let changes = known.changes(&now);
        let recorded = if changes.is_empty() {
            Ok(())
        } else {
            self.authority().ledger().audit_all(&rows(&self.paths, &changes))
        };
        if let Err(error) = recorded {
            tracing::error!(%error, changes = changes.len(), "a changed configuration cannot be recorded, so it is not in force");
            self.look_at_disk(true);
            survey::retain(&mut resources, &known, &now);
            configuration.known = Some(known);
            let failure = Some((error.to_string(), changes));
            return Recorded { configuration, failure, prepared, resources };
        }
        if known != now || configuration.unkept {
            configuration.unkept = !keep(&self.paths.in_force, &now);
        }
        configuration.known = Some(now);
        Recorded { configuration, failure: None, prepared, resources }
    }
}

/// The audit rows of changes: as many as anybody reads, and how many more there are.
fn rows(home: &HomePaths, changes: &[Change]) -> Vec<AuditRow> {
    let at = clock::now();
    let row = |actor: String, subject: &str, outcome: &str, detail: String| AuditRow {
        at,
        actor,
        action: "configuration.change".to_owned(),
        subject: subject.to_owned(),
        outcome: outcome.to_owned(),
        detail,
        why: String::new(),
    };
    let told = changes.iter().take(MOST_ROWS).map(|change| {
        let outcome = if change.is_refusal() { "refused" } else { "ok" };
        let detail = format!("{}; {}", change.what, shown(home, &change.place));
        row(editor(&change.place.file), &change.subject, outcome, detail)
    });
    let mut rows: Vec<AuditRow> = told.collect();
    if let Some(more) = changes.len().checked_sub(MOST_ROWS).filter(|more| *more > 0) {
        let detail = format!("{more} more changes at the same time have no row of their own");
        rows.push(row("node".to_owned(), "configuration", "ok", detail));
    }
    rows
}

/// Whose the file is; of one that is gone, who owns the directory it was in. Who typed is not to be
/// known.
fn editor(file: &Path) -> String {
    let owner = |path: &Path| fs::metadata(path).map(|metadata| metadata.uid()).ok();
    match owner(file).or_else(|| owner(file.parent()?)) {
        Some(uid) => format!("file:uid:{uid}"),
        None => "file:unknown".to_owned(),
    }
}

/// `input/resources/web.yaml:3`.
fn shown(home: &HomePaths, place: &Place) -> String {
    let file = place.file.strip_prefix(&home.root).unwrap_or(&place.file);
    let file: String = file.to_string_lossy().chars().filter(|one| !one.is_control()).collect();
    match place.line {
        Some(line) => format!("{file}:{line}"),
        None => file,
    }
}

/// What the last process left. Nothing, if that cannot be read: then everything is told as new.
fn read(file: &Path) -> InForce {
    let text = match read_bounded(file, LONGEST_FILE) {
        Ok(Some(text)) => text,
        Ok(None) => return InForce::default(),
        Err(error) => {
            tracing::warn!(%error, "what was in force last cannot be read: all of it counts as new");
            return InForce::default();
        }
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        let file = file.display();
        tracing::warn!(%error, %file, "what was in force last cannot be read: all of it counts as new");
        InForce::default()
    })
}

/// Whether it was kept. If not, it is tried again; what is on record already would be told again after a
/// restart.
fn keep(file: &Path, in_force: &InForce) -> bool {
    let kept = serde_json::to_vec(in_force)
        .map_err(|error| error.to_string())
        .and_then(|text| write_atomic(file, &text, 0o600).map_err(|error| error.to_string()));
    if let Err(error) = &kept {
        tracing::warn!(error, "what is in force cannot be kept");
    }
    kept.is_ok()
}

fn unrecorded(why: &str, changes: &[Change]) -> ProblemView {
    let first = changes.first().map(|change| change.subject.as_str()).unwrap_or_default();
    let more = match changes.len() {
        0 | 1 => String::new(),
        all => format!(" and {} more", all - 1),
    };
    ProblemView {
        severity: ProblemSeverity::Error,
        subject: "configuration".to_owned(),
        file: None,
        line: None,
        message: format!(
            "the change of {first}{more} cannot be recorded, so what was in force still is: {why}"
        ),
        remedy: "make room, or mend the disk of the node's home; it is tried again by itself"
            .to_owned(),
    }
}

/// Most changes of one turn that have a row each.
const MOST_ROWS: usize = 256;
/// Far above what the most resources make.
const LONGEST_FILE: u64 = 64 << 20;
