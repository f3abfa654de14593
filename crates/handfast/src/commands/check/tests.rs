//! Each check against facts that it must judge, and the list of checks against the book.

use std::path::PathBuf;

use handfast_api::admin::{AuthorityStatus, LaggardStatus, RotationStatus};
use handfast_api::status::{
    AccessStatus, CredentialSource, CredentialState, CredentialStatus, CredentialSummary,
    EdgeState, Faults, LinkDirection, LinkState, LinkStatus, NodeState, NodeStatus,
    ProblemSeverity, ProblemView,
};
use jiff::{SignedDuration, Timestamp};

use super::checks;
use super::facts::{Facts, HomeFacts, IssuerFacts, LedgerFacts, NodeFacts};
use super::report::{Check, IDS, Mark, View};
use crate::output::Page;

fn now() -> Timestamp {
    Timestamp::from_second(2_000_000_000).unwrap()
}

fn hours(hours: i64) -> Timestamp {
    now() + SignedDuration::from_hours(hours)
}

fn credential(name: &str) -> CredentialStatus {
    CredentialStatus {
        name: name.to_owned(),
        identity: None,
        serial: None,
        issuer: None,
        not_before: Some(hours(-10)),
        not_after: Some(hours(14)),
        renew_at: Some(hours(6)),
        source: CredentialSource::Managed,
        state: CredentialState::Valid,
        key: None,
        failures: 0,
        last_error: None,
    }
}

fn issuer(name: &str) -> IssuerFacts {
    IssuerFacts {
        name: name.to_owned(),
        not_before: hours(-1000),
        not_after: hours(1000),
        renew_at: Some(hours(300)),
        has_key: true,
        is_root: false,
    }
}

/// An authority, with a rotation that has waited for east for so many minutes.
fn authority(minutes: Option<i64>) -> AuthorityStatus {
    AuthorityStatus {
        name: "handfast-root".to_owned(),
        role: "root".to_owned(),
        signed_by: None,
        source: CredentialSource::Managed,
        keys: Vec::new(),
        kept_keys: Vec::new(),
        bundle_sequence: Some(2),
        rotation: minutes.map(|minutes| RotationStatus {
            phase: "prepared".to_owned(),
            under_way: true,
            cause: "asked".to_owned(),
            by: "ann".to_owned(),
            reason: String::new(),
            began_at: now(),
            since: now() - SignedDuration::from_mins(minutes),
            generation: 2,
            old_generation: 1,
            waits_for: vec![LaggardStatus {
                kind: "site".to_owned(),
                name: "east".to_owned(),
                reachable: false,
                last_seen: None,
                sequence: None,
                lacks: "trust".to_owned(),
                expires: None,
            }],
            may_take_seconds: 300,
            waived: None,
        }),
        next_step_at: None,
        fault: None,
    }
}

fn problem(severity: ProblemSeverity, subject: &str) -> ProblemView {
    ProblemView {
        severity,
        subject: subject.to_owned(),
        file: None,
        line: None,
        message: format!("something about {subject}"),
        remedy: "mend it".to_owned(),
    }
}

fn link(state: LinkState) -> LinkStatus {
    LinkStatus {
        name: "west".to_owned(),
        direction: LinkDirection::Outgoing,
        state,
        endpoint: "192.0.2.1:55671".to_owned(),
        remote_site: None,
        cost: 1,
        since: None,
        peer: None,
        session: None,
        connections: 1,
        bytes_in: 0,
        bytes_out: 0,
        fault: None,
    }
}

fn status() -> NodeStatus {
    NodeStatus {
        site: Some("east".to_owned()),
        trust_domain: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: 7,
        home: "/h".to_owned(),
        started_at: hours(-1),
        state: NodeState::Ready,
        accesses: vec![AccessStatus {
            name: "east".to_owned(),
            bind: Some("0.0.0.0:55671".to_owned()),
            hosts: Vec::new(),
            port: 55671,
            grant_url: None,
            state: EdgeState::Ready,
            fault: None,
        }],
        links: vec![link(LinkState::Up)],
        listeners: Vec::new(),
        connectors: Vec::new(),
        network_unknown: None,
        credentials: CredentialSummary::default(),
        problems: Vec::new(),
    }
}

/// A home where all is well.
fn well() -> Facts {
    Facts {
        now: now(),
        offline: false,
        home: HomeFacts {
            root: PathBuf::from("/h"),
            free: Some(10 << 30),
            site: Some("east".to_owned()),
            resources: 3,
            ..HomeFacts::default()
        },
        node: NodeFacts::Answers(Box::new(status()), Faults::default()),
        authorities: Some(vec![authority(None)]),
        stations: Vec::new(),
        credentials: Ok(vec![credential("server"), credential("west")]),
        issuers: Ok(vec![issuer("handfast-site-ca")]),
        ledger: LedgerFacts::Good { newest: Some(hours(-10)), audit: Ok(7) },
    }
}

/// What is not well once `change` was made.
fn found(change: impl FnOnce(&mut Facts)) -> Vec<(&'static str, Mark, String)> {
    let mut facts = well();
    change(&mut facts);
    checks(&facts)
        .into_iter()
        .filter(|check| check.mark != Mark::Ok)
        .inspect(|check| assert_eq!(check.hint.is_none(), check.mark == Mark::Skipped, "{check:?}"))
        .map(|check| (check.id, check.mark, check.fact))
        .collect()
}

/// One check and nothing else is not well, and says these words.
#[track_caller]
fn one(id: &str, mark: Mark, words: &str, change: impl FnOnce(&mut Facts)) {
    let found = found(change);
    assert!(
        matches!(found.as_slice(), [(found, as_mark, fact)]
            if *found == id && *as_mark == mark && fact.contains(words)),
        "expected {id} {mark:?} with {words:?}, found {found:#?}"
    );
}

fn answers(facts: &mut Facts, change: impl FnOnce(&mut NodeStatus)) {
    if let NodeFacts::Answers(status, _) = &mut facts.node {
        change(status);
    }
}

#[test]
fn where_all_is_well_nothing_else_is_said() {
    assert_eq!(found(|_| {}), []);
    let facts = well();
    let all = checks(&facts);
    assert!(all.len() >= 15, "{all:#?}");
}

#[test]
fn the_home() {
    one("home-permissions", Mark::Failed, "mode 0644), and 1 more", |facts| {
        facts.home.loose = vec![("/h/a".into(), 0o644), ("/h/b".into(), 0o755)];
    });
    one("home-permissions", Mark::Warning, "/h/input", |facts| {
        facts.home.grouped = vec!["/h/input/certs/a/tls.key".into()];
    });
    one("home-disk", Mark::Failed, "1.00 MiB", |facts| facts.home.free = Some(1 << 20));
    one("home-disk", Mark::Warning, "64.0 MiB", |facts| facts.home.free = Some(64 << 20));
    one("home-disk", Mark::Skipped, "does not say", |facts| facts.home.free = None);
    one("home-site", Mark::Failed, "no site", |facts| facts.home.site = None);
    one("home-writable", Mark::Failed, "about home", |facts| {
        answers(facts, |status| status.problems.push(problem(ProblemSeverity::Error, "home")));
    });
    let missing = found(|facts| {
        facts.home.unreadable = Some("No such file or directory".to_owned());
    });
    assert_eq!((missing[0].0, missing[0].1), ("home-exists", Mark::Failed));
}

#[test]
fn the_node_and_its_clock() {
    one("node-running", Mark::Failed, "busy", |facts| {
        facts.node = NodeFacts::Deaf("busy".to_owned());
    });
    one("node-running", Mark::Failed, "no node runs", |facts| facts.node = NodeFacts::None);
    one("node-running", Mark::Skipped, "no node runs", |facts| {
        facts.node = NodeFacts::None;
        facts.offline = true;
    });
    one("node-version", Mark::Warning, "0.0.1", |facts| {
        answers(facts, |status| status.version = "0.0.1".to_owned());
    });
    one("node-problems", Mark::Failed, "Listener/a", |facts| {
        answers(facts, |status| {
            status.problems.push(problem(ProblemSeverity::Error, "Listener/a"));
        });
    });
    one("notifications-delivered", Mark::Warning, "Notification/pager", |facts| {
        let told = problem(ProblemSeverity::Warning, "Notification/pager");
        answers(facts, |status| status.problems.push(told));
    });
    one("clock-jumps", Mark::Warning, "about clock", |facts| {
        answers(facts, |status| status.problems.push(problem(ProblemSeverity::Warning, "clock")));
    });
    one("clock-skew", Mark::Failed, "in 25 h", |facts| {
        facts.ledger = LedgerFacts::Good { newest: Some(hours(25)), audit: Ok(7) };
    });
}

#[test]
fn the_authority_and_its_ledger() {
    one("ledger-intact", Mark::Failed, "torn", |facts| {
        facts.ledger = LedgerFacts::Broken("torn".to_owned());
    });
    one("ledger-intact", Mark::Skipped, "no ledger", |facts| facts.ledger = LedgerFacts::Absent);
    one("audit-sound", Mark::Failed, "row 3 was edited", |facts| {
        let audit = Err("row 3 was edited".to_owned());
        facts.ledger = LedgerFacts::Good { newest: None, audit };
    });
    one("authority-valid", Mark::Failed, "has expired", |facts| {
        facts.issuers = Ok(vec![IssuerFacts { not_after: hours(-1), ..issuer("ca") }]);
    });
    one("authority-valid", Mark::Warning, "the authority ca ends", |facts| {
        facts.issuers = Ok(vec![IssuerFacts { renew_at: Some(hours(-25)), ..issuer("ca") }]);
    });
    one("authority-valid", Mark::Warning, "its key is elsewhere", |facts| {
        let supplied = IssuerFacts {
            renew_at: None,
            not_after: hours(24 * 29),
            has_key: false,
            is_root: true,
            ..issuer("ca")
        };
        facts.issuers = Ok(vec![supplied]);
    });
    one("rotations-on-time", Mark::Warning, "waits for site east", |facts| {
        facts.authorities = Some(vec![authority(Some(16))]);
    });
    assert_eq!(found(|facts| facts.authorities = Some(vec![authority(Some(1))])), []);
    one("rotations-on-time", Mark::Failed, "the disk is full", |facts| {
        let fault = Some("the disk is full".to_owned());
        facts.authorities = Some(vec![AuthorityStatus { fault, ..authority(Some(1)) }]);
    });
    one("authority-valid", Mark::Failed, "no PEM", |facts| {
        facts.issuers = Err("issuer `ca`: no PEM".to_owned());
    });
}

#[test]
fn the_credentials() {
    one("credentials-usable", Mark::Failed, "server is missing: the disk is full", |facts| {
        let missing = CredentialStatus {
            state: CredentialState::Missing,
            last_error: Some("the disk is full".to_owned()),
            ..credential("server")
        };
        facts.credentials = Ok(vec![missing]);
    });
    one("credentials-renewed", Mark::Warning, "ends in 14 h", |facts| {
        facts.credentials =
            Ok(vec![CredentialStatus { renew_at: Some(hours(-1)), ..credential("server") }]);
    });
    one("credentials-renewed", Mark::Warning, "not renewed in time", |facts| {
        facts.credentials = Ok(vec![CredentialStatus { failures: 3, ..credential("server") }]);
    });
    one("credentials-supplied", Mark::Warning, "yours to renew", |facts| {
        let supplied = CredentialStatus {
            source: CredentialSource::Supplied,
            renew_at: None,
            ..credential("mine")
        };
        facts.credentials = Ok(vec![credential("server"), supplied]);
    });
    one("credentials-endurance", Mark::Warning, "for 30 min at least (short)", |facts| {
        let end = hours(6) + SignedDuration::from_mins(30);
        facts.credentials = Ok(vec![
            credential("server"),
            CredentialStatus { not_after: Some(end), ..credential("short") },
        ]);
    });
    let day = std::time::Duration::from_secs(86_400);
    one("credentials-endurance", Mark::Warning, "`renewal-grace` asks for", |facts| {
        facts.home.grace = day;
    });
    let long = || CredentialStatus { not_after: Some(hours(6 + 25)), ..credential("long") };
    let kept = found(|facts| {
        facts.home.grace = day;
        facts.credentials = Ok(vec![long()]);
    });
    assert_eq!(kept, [], "a day and an hour are more than a day");
}

#[test]
fn the_network() {
    one("links-up", Mark::Failed, "192.0.2.1:55671 is not up", |facts| {
        answers(facts, |status| status.links = vec![link(LinkState::Down)]);
    });
    // Of what is not known, nothing else is said.
    one("network-answers", Mark::Failed, "not known: no answer", |facts| {
        answers(facts, |status| {
            status.network_unknown = Some("no answer".to_owned());
            status.links.clear();
            status.accesses.clear();
        });
    });
    one("ports-open", Mark::Failed, "access east is closed on port 55671", |facts| {
        answers(facts, |status| status.accesses[0].state = EdgeState::Failed);
    });
    one("links-up", Mark::Skipped, "no link", |facts| {
        answers(facts, |status| status.links.clear());
    });
}

#[test]
fn the_telemetry() {
    use handfast_api::telemetry::{StationKind, StationView};
    let station = |problems| StationView::not_running(StationKind::Relay, "shop", problems);
    one("telemetry-flows", Mark::Failed, "relay shop does not work", |facts| {
        facts.stations = vec![station(vec![problem(ProblemSeverity::Error, "Relay/shop")])];
    });
    assert_eq!(found(|facts| facts.stations = vec![station(Vec::new())]), []);
}

#[test]
fn it_reads_as_documented() {
    let mut facts = well();
    facts.home.free = Some(1 << 20);
    let view = View::of(checks(&facts), false);
    let mut page = Page::new(false);
    view.draw(&mut page);
    let text = anstream::adapter::strip_str(&page.finish()).to_string();
    assert!(text.starts_with("Home\n√ the home is /h\n√ nobody but"), "{text}");
    let told = "× 1.00 MiB of room are left\n    make room: a node that cannot write renews nothing, and \
                what is in use expires\n    docs/book/check.md#home-disk\n";
    assert!(text.contains(told), "{text}");
    assert!(text.contains("\nNode\n√ the node answers: process 7, started 60 min ago\n"), "{text}");
    assert!(
        text.ends_with(&format!("\n1 failed, 0 warnings, {} well\n", view.total - 1)),
        "{text}"
    );
    let json = serde_json::to_value(&view).unwrap();
    assert_eq!((&json["ok"], &json["failed"]), (&false.into(), &1.into()));

    let quiet = View::of(checks(&facts), true);
    assert_eq!(quiet.checks.iter().map(|check| check.id).collect::<Vec<_>>(), ["home-disk"]);
    let silent = View::of(checks(&well()), true);
    let mut page = Page::new(false);
    silent.draw(&mut page);
    assert_eq!((page.finish().as_str(), silent.ok), ("", true));
}

/// `handfast check` prints the path of a section for each check; it is there, and there are no others.
#[test]
fn the_book_has_a_section_for_each_check() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/book/check.md");
    let page = std::fs::read_to_string(path).expect("docs/book/check.md is readable");
    let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(sections, IDS, "the sections of docs/book/check.md are the checks, in their order");
    assert!(checks(&well()).iter().map(|check: &Check| check.id).all(|id| IDS.contains(&id)));
}
