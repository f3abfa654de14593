//! The node that runs on the home, and its clock.

use handfast_api::status::{NodeState, ProblemSeverity, ProblemView};

use super::facts::{Facts, LedgerFacts, NodeFacts};
use super::report::{Check, Group, Mark};
use crate::commands::words;

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![running(facts)];
    if let NodeFacts::Answers(status, _) = &facts.node {
        checks.push(version(&status.version));
        checks.extend(problems(&status.problems, status.state));
        checks.extend(notifications(&status.problems));
    }
    checks.push(skew(facts));
    checks.extend(jumps(facts));
    checks
}

fn running(facts: &Facts) -> Check {
    let (id, group) = ("node-running", Group::Node);
    match &facts.node {
        NodeFacts::Answers(status, _) => Check::ok(
            id,
            group,
            format!(
                "the node answers: process {}, started {}",
                status.pid,
                words::distance(status.started_at, facts.now)
            ),
        ),
        NodeFacts::Deaf(why) => Check::failed(
            id,
            group,
            format!("the node cannot be asked: {why}"),
            "run this as the node's user or as root; if it is busy, try again",
        ),
        NodeFacts::None if facts.offline => Check::skipped(id, group, "no node runs, as was said"),
        NodeFacts::None => Check::failed(
            id,
            group,
            "no node runs on this home",
            "start it (`handfast run`, or `systemctl start handfast`); with --offline this is no failure",
        ),
    }
}

fn version(running: &str) -> Check {
    let (id, group) = ("node-version", Group::Node);
    let ours = env!("CARGO_PKG_VERSION");
    if running == ours {
        Check::ok(id, group, format!("node and command are of version {ours}"))
    } else {
        Check::warning(
            id,
            group,
            format!("the node is of version {running}, this command of {ours}"),
            "restart the node after an upgrade",
        )
    }
}

/// What other checks say is not said twice.
fn problems(problems: &[ProblemView], state: NodeState) -> Vec<Check> {
    let (id, group) = ("node-problems", Group::Node);
    let mut checks: Vec<Check> = problems
        .iter()
        .filter(|problem| !matches!(problem.subject.as_str(), "clock" | "home"))
        .filter(|problem| !problem.subject.starts_with(NOTIFICATION))
        .map(|problem| of_problem(id, group, problem))
        .collect();
    if checks.is_empty() {
        checks.push(match state {
            NodeState::Draining => Check::warning(
                id,
                group,
                "the node is stopping: it takes nothing new",
                "wait until it has ended, then start it again",
            ),
            _ => Check::ok(id, group, "the node reports no other problem"),
        });
    }
    checks
}

fn notifications(problems: &[ProblemView]) -> Vec<Check> {
    problems
        .iter()
        .filter(|problem| problem.subject.starts_with(NOTIFICATION))
        .map(|problem| of_problem("notifications-delivered", Group::Notifications, problem))
        .collect()
}

fn of_problem(id: &'static str, group: Group, problem: &ProblemView) -> Check {
    let fact = format!("{}: {}", problem.subject, problem.message);
    let mark = match problem.severity {
        ProblemSeverity::Error => Mark::Failed,
        ProblemSeverity::Warning => Mark::Warning,
    };
    Check { mark, ..Check::failed(id, group, fact, problem.remedy.clone()) }
}

/// A clock that is behind what was issued is wrong, or was ahead when that was issued.
fn skew(facts: &Facts) -> Check {
    let (id, group) = ("clock-skew", Group::Clock);
    let ledger = match facts.ledger {
        LedgerFacts::Good { newest, .. } => {
            newest.map(|at| ("the newest certificate in the ledger", at))
        }
        LedgerFacts::Absent | LedgerFacts::Broken(_) => None,
    };
    let credentials = facts.credentials.as_deref().unwrap_or_default();
    let ahead = credentials
        .iter()
        .filter_map(|one| Some((one.name.as_str(), one.not_before?)))
        .chain(ledger)
        .filter(|(_, start)| *start > facts.now)
        .max_by_key(|(_, start)| *start);
    match ahead {
        None => Check::ok(id, group, "the clock agrees with what was issued before"),
        Some((what, start)) => Check::failed(
            id,
            group,
            format!("{what} is valid only {}", words::distance(start, facts.now)),
            "set the clock right (`timedatectl`); if it is right now and was not then, \
             `handfast cert renew --all` makes everything anew",
        ),
    }
}

fn jumps(facts: &Facts) -> Option<Check> {
    let (id, group) = ("clock-jumps", Group::Clock);
    let status = facts.status()?;
    let told = status.problems.iter().find(|problem| problem.subject == "clock");
    Some(match told {
        Some(problem) => Check::warning(id, group, problem.message.clone(), problem.remedy.clone()),
        None => Check::ok(id, group, "time has not jumped within the last hour"),
    })
}

const NOTIFICATION: &str = "Notification/";
