//! The home: there, private, with room, and with resources that can be read.

use handfast_api::resources::Severity;

use super::facts::{Facts, NodeFacts};
use super::report::{Check, Group, Mark};
use crate::commands::words;

const GROUP: Group = Group::Home;

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let home = &facts.home;
    let root = home.root.display();
    if let Some(why) = &home.unreadable {
        return vec![Check::failed(
            "home-exists",
            GROUP,
            format!("the home {root} cannot be read: {why}"),
            "name the right one with --home, run this as the node's user, or make one with \
             `handfast site create NAME`",
        )];
    }
    let mut checks = vec![Check::ok("home-exists", GROUP, format!("the home is {root}"))];
    checks.push(permissions(facts));
    checks.push(disk(facts));
    checks.push(writable(facts));
    checks.extend(resources(facts));
    checks.push(match &home.site {
        Some(site) => Check::ok("home-site", GROUP, format!("the site is called {site}")),
        None => Check::failed(
            "home-site",
            GROUP,
            "no site is declared, so a node has nothing to do",
            "type `handfast site create NAME`",
        ),
    });
    checks
}

fn permissions(facts: &Facts) -> Check {
    let home = &facts.home;
    let id = "home-permissions";
    if let Some((path, mode)) = home.loose.first() {
        let more = match home.loose.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        return Check::failed(
            id,
            GROUP,
            format!("others may read {} (mode {mode:04o}){more}", path.display()),
            format!("chmod -R go= {}", home.root.display()),
        );
    }
    if let Some(path) = home.grouped.first() {
        return Check::warning(
            id,
            GROUP,
            format!("a group may read the supplied key {}", path.display()),
            "that is right for a mounted Secret; otherwise give the file mode 0600",
        );
    }
    Check::ok(id, GROUP, "nobody but its owner can read keys and ledger")
}

fn disk(facts: &Facts) -> Check {
    let id = "home-disk";
    let Some(free) = facts.home.free else {
        return Check::skipped(id, GROUP, "the file system does not say how much room is left");
    };
    let fact = format!("{} of room are left", words::bytes(free));
    match free {
        0..FAILED_ROOM => Check::failed(id, GROUP, fact, ROOM),
        FAILED_ROOM..WARNED_ROOM => Check::warning(id, GROUP, fact, ROOM),
        _ => Check::ok(id, GROUP, fact),
    }
}

/// The node's own word counts: it tries, as the user it runs as.
fn writable(facts: &Facts) -> Check {
    let id = "home-writable";
    let told = facts
        .status()
        .and_then(|status| status.problems.iter().find(|problem| problem.subject == "home"));
    match (told, &facts.home.unwritable) {
        (Some(problem), _) => {
            Check::failed(id, GROUP, problem.message.clone(), problem.remedy.clone())
        }
        (None, Some(why)) if !matches!(facts.node, NodeFacts::Answers(..)) => Check::failed(
            id,
            GROUP,
            format!("the home cannot be written: {why}"),
            "run this as the node's user, or make the file system writable",
        ),
        _ => Check::ok(id, GROUP, "the home can be written"),
    }
}

fn resources(facts: &Facts) -> Vec<Check> {
    let id = "home-resources";
    let home = &facts.home;
    if home.faults.is_empty() {
        let fact = format!("all of {} declared resources can be read", home.resources);
        return vec![Check::ok(id, GROUP, fact)];
    }
    let each = home.faults.iter().map(|fault| {
        let line = fault.line.map(|line| format!(":{line}")).unwrap_or_default();
        let fact = format!("{}{line}: {}", fault.file.display(), fault.what);
        let mark = match fault.severity {
            Severity::Error => Mark::Failed,
            Severity::Warning => Mark::Warning,
        };
        Check { mark, ..Check::failed(id, GROUP, fact, fault.remedy.clone()) }
    });
    each.collect()
}

/// What a few hundred renewals and a checkpoint of the ledger take.
const FAILED_ROOM: u64 = 8 << 20;
const WARNED_ROOM: u64 = 128 << 20;
const ROOM: &str = "make room: a node that cannot write renews nothing, and what is in use expires";
