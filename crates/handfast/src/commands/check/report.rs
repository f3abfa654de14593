//! What a check says, and how all of them are shown.

use serde::Serialize;

use crate::output::{Page, Tone};

/// One fact, judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Check {
    /// Stable; the heading of its section in the book.
    pub(super) id: &'static str,
    pub(super) group: Group,
    pub(super) mark: Mark,
    /// One line.
    pub(super) fact: String,
    /// What to do; absent for what is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
    /// Its section in the book.
    pub(super) page: String,
}

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Group {
    Home,
    Node,
    Clock,
    Authority,
    Credentials,
    Network,
    Notifications,
}

impl Group {
    fn heading(self) -> &'static str {
        match self {
            Self::Home => "Home",
            Self::Node => "Node",
            Self::Clock => "Clock",
            Self::Authority => "Authority and ledger",
            Self::Credentials => "Credentials",
            Self::Network => "Network",
            Self::Notifications => "Notifications",
        }
    }
}

/// Every check there is. Each has a section in docs/book/check.md; a test compares.
pub(super) const IDS: &[&str] = &[
    "home-exists",
    "home-permissions",
    "home-disk",
    "home-writable",
    "home-resources",
    "home-site",
    "node-running",
    "node-version",
    "node-problems",
    "clock-skew",
    "clock-jumps",
    "ledger-intact",
    "audit-sound",
    "authority-valid",
    "rotations-on-time",
    "credentials-usable",
    "credentials-renewed",
    "credentials-supplied",
    "credentials-endurance",
    "network-answers",
    "ports-open",
    "links-up",
    "services-matched",
    "telemetry-flows",
    "refusals-few",
    "notifications-delivered",
];

/// How a fact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mark {
    Ok,
    /// Works now, and needs somebody.
    Warning,
    Failed,
    /// Could not be looked at, or does not apply.
    Skipped,
}

impl Mark {
    fn sign(self) -> String {
        match self {
            Self::Ok => Tone::Good.paint("√"),
            Self::Warning => Tone::Warn.paint("‼"),
            Self::Failed => Tone::Bad.paint("×"),
            Self::Skipped => Tone::Faint.paint("-"),
        }
    }
}

impl Check {
    pub(super) fn ok(id: &'static str, group: Group, fact: impl Into<String>) -> Self {
        Self::new(id, group, Mark::Ok, fact, None)
    }

    pub(super) fn skipped(id: &'static str, group: Group, fact: impl Into<String>) -> Self {
        Self::new(id, group, Mark::Skipped, fact, None)
    }

    pub(super) fn warning(
        id: &'static str,
        group: Group,
        fact: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::new(id, group, Mark::Warning, fact, Some(hint.into()))
    }

    pub(super) fn failed(
        id: &'static str,
        group: Group,
        fact: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::new(id, group, Mark::Failed, fact, Some(hint.into()))
    }

    fn new(
        id: &'static str,
        group: Group,
        mark: Mark,
        fact: impl Into<String>,
        hint: Option<String>,
    ) -> Self {
        debug_assert!(IDS.contains(&id), "`{id}` is not in the list");
        let page = format!("docs/book/check.md#{id}");
        Self { id, group, mark, fact: fact.into(), hint, page }
    }
}

/// All checks of one run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    /// Whether nothing failed.
    pub(super) ok: bool,
    pub(super) total: usize,
    pub(super) failed: usize,
    pub(super) warnings: usize,
    /// What could not be looked at, or does not apply.
    pub(super) skipped: usize,
    pub(super) checks: Vec<Check>,
}

impl View {
    /// With `quiet`, only what is not well is shown; the figures are of all.
    pub(super) fn of(mut checks: Vec<Check>, quiet: bool) -> Self {
        // Groups in their order, the checks of a group in theirs.
        checks.sort_by_key(|check| check.group);
        let count = |mark| checks.iter().filter(|check| check.mark == mark).count();
        let (failed, warnings) = (count(Mark::Failed), count(Mark::Warning));
        let (total, skipped) = (checks.len(), count(Mark::Skipped));
        if quiet {
            checks.retain(|check| matches!(check.mark, Mark::Failed | Mark::Warning));
        }
        Self { ok: failed == 0, total, failed, warnings, skipped, checks }
    }

    pub(super) fn draw(&self, page: &mut Page) {
        let mut group = None;
        for check in &self.checks {
            if group != Some(check.group) {
                page.heading(check.group.heading());
                group = Some(check.group);
            }
            page.line(format!("{} {}", check.mark.sign(), check.fact));
            if let Some(hint) = &check.hint {
                page.line(format!("    {hint}"));
                page.line(format!("    {}", Tone::Faint.paint(&check.page)));
            }
        }
        // Quiet and well is silent.
        if self.checks.is_empty() {
            return;
        }
        page.gap();
        let well = self.total - self.failed - self.warnings - self.skipped;
        let skipped = match self.skipped {
            0 => String::new(),
            skipped => format!(", {skipped} not looked at"),
        };
        page.line(match (self.failed, self.warnings) {
            (0, 0) => format!("all of {well} checks are well{skipped}"),
            (failed, warnings) => {
                let plural = if warnings == 1 { "" } else { "s" };
                format!("{failed} failed, {warnings} warning{plural}, {well} well{skipped}")
            }
        });
    }
}
