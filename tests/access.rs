//! Who may do what, over real processes: operators at the admin port, roles and policies taken up live,
//! denials in the audit log, and what happens when that log cannot be written.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "access/desk.rs"]
mod desk;
#[path = "access/finding.rs"]
mod finding;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use handfast_pki::{Chain, IdentityKind, Profile, Subject};
use handfast_testkit::authority::TestAuthority;
use handfast_testkit::eventually::{eventually, now, until};
use serde_json::Value;

use crate::desk::{Desk, HOUR, identity, policy};

#[test]
fn operators_elsewhere_do_what_their_roles_allow_and_denials_are_recorded() {
    let desk = Desk::new();
    let alice = desk.operator("alice");
    let status: Value = desk.remotely(&alice, "status -o json").ok().json();
    assert_eq!(status["site"], "west");
    let denied = desk.remotely(&alice, "cert renew --all -o json").exits(5).error();
    let why = denied["what"].as_str().unwrap();
    assert!(
        why.contains("spiffe://demo.example/operator/alice may not do credential.renew")
            && why.contains("no policy permits it"),
        "{denied:#}"
    );
    let oscar = desk.operator("oscar");
    desk.remotely(&oscar, "cert renew handfast-local-client").ok();
    let stranger = desk.operator("mallory");
    desk.remotely(&stranger, "status").exits(5);

    if let Some(rows) = desk.audit("denied") {
        let alice = ["spiffe://demo.example/operator/alice", "credential.renew", "site"];
        assert!(
            rows.iter().any(|row| row[..3] == alice && row[3].contains("no policy permits it")),
            "{rows:?}"
        );
        assert!(
            rows.iter().any(|row| row[0].ends_with("/mallory") && row[1] == "status.read"),
            "{rows:?}"
        );
    }
    if let Some(rows) = desk.audit("allowed") {
        let row = rows.iter().find(|row| row[0].ends_with("/oscar")).expect("recorded");
        assert_eq!(
            (row[1].as_str(), row[2].as_str()),
            ("credential.renew", "credential/handfast-local-client")
        );
        assert!(row[3].contains("permitted by role.operator"), "{row:?}");
    }
}

#[test]
fn nobody_without_a_good_operator_certificate_gets_as_far_as_a_request() {
    let desk = Desk::new();
    // Of the site's own CA, and not an operator's.
    let agent = desk.certificate(Profile::Agent, identity(IdentityKind::Agent, "alice"), HOUR);
    let ran = desk.remotely(&agent, "status -o json").exits(5).error();
    assert!(ran["fault"].is_string(), "the reason is told to the caller too: {ran:#}");
    desk.refused_at_the_port("wrong-identity");

    let brief = Duration::from_secs(2);
    let brief =
        desk.certificate(Profile::Operator, identity(IdentityKind::Operator, "alice"), brief);
    // In its last second the handshake succeeds still, and the request is refused.
    eventually("the handshake is refused", || {
        let code = desk.remotely(&brief, "status").code;
        (code == 5 && desk.refusals().contains(&"expired".to_owned())).then_some(())
    });

    // The same name, from a CA that this site does not know; it trusts the site's all the same.
    let other = TestAuthority::new("demo.example", now());
    let subject = Subject::new("alice").with_identity(identity(IdentityKind::Operator, "alice"));
    let forged = other.issue(Profile::Operator, subject);
    let pem = forged.to_pem();
    let anchors = fs::read_to_string(agent.join("ca.crt")).unwrap();
    desk.place.write("certificates/forged/tls.crt", pem.tls_crt);
    desk.place.write("certificates/forged/tls.key", pem.tls_key.as_bytes());
    let forged = desk.place.write("certificates/forged/ca.crt", anchors);
    desk.remotely(forged.parent().unwrap(), "status").exits(5);
    desk.refused_at_the_port("unknown-issuer");

    // And a node whose CA the caller does not know is not told anything.
    let alice = desk.operator("alice");
    fs::write(alice.join("ca.crt"), other.anchors().to_pem()).unwrap();
    let ran = desk.remotely(&alice, "status -o json").exits(5).error();
    assert_eq!(ran["fault"], "unknown-issuer", "{ran:#}");
}

/// The site's CA signed it, and its ledger has never heard of it: an imported CA's past.
#[test]
fn what_a_ca_of_ours_signed_elsewhere_is_revoked_when_somebody_says_that_he_knows_better() {
    let desk = Desk::new();
    let alice = desk.operator("alice");
    desk.remotely(&alice, "status").ok();
    let chain = Chain::from_pem(&fs::read(alice.join("tls.crt")).unwrap()).unwrap();
    let serial = chain.leaf().serial();
    let line = format!("cert revoke --serial {serial} --reason key-compromise");
    let of_ours = format!("{line} --issuer handfast-local-ca");
    // Three times not: it is not known, and that is said; and whose CA it is has to be true.
    for unsaid in [&line, &of_ours] {
        let error = desk.west.refused(unsaid, 11);
        assert!(error["what"].as_str().unwrap().contains("--not-issued-here"), "{error:#}");
    }
    desk.west.refused(&format!("{line} --issuer nobodys-ca --not-issued-here"), 11);
    desk.west.run(&format!("{line} --not-issued-here")).exits(2);
    desk.remotely(&alice, "status").ok();
    // Whose it is nobody knows, so that only who may revoke anything may revoke it.
    desk.remotely(&desk.operator("ivan"), &format!("{of_ours} --not-issued-here")).exits(5);

    let said = desk.west.run(&format!("{of_ours} --not-issued-here --note index.txt")).ok().stdout;
    assert!(
        said.contains("1 certificate revoked") && said.contains("knows nothing of it"),
        "{said}"
    );
    desk.remotely(&alice, "status").exits(5);
    desk.refused_at_the_port("revoked");
    let rows = desk.west.json("audit list --action certificate.revoke --outcome ok");
    let row = rows.as_array().unwrap().last().unwrap().clone();
    assert!(row["detail"].as_str().unwrap().contains("not issued here"), "{row:#}");
    assert_eq!(row["subject"], format!("serial {serial} of handfast-local-ca"), "{row:#}");
    let listed = desk.west.json("cert list --revoked");
    assert_eq!(listed[0]["serial"], serial.to_string(), "{listed:#}");
    // What is known is revoked as what is known.
    let own = desk.west.serial("handfast-local-client");
    let line = format!("cert revoke --serial {own} --issuer handfast-local-ca --reason superseded");
    let error = desk.west.refused(&format!("{line} --not-issued-here"), 1);
    assert!(error["what"].as_str().unwrap().contains("was issued here"), "{error:#}");
    desk.west.run(&line).ok();
}

#[test]
fn commands_about_files_are_not_mistaken_for_commands_about_the_other_node() {
    let desk = Desk::new();
    let sam = desk.operator("sam");
    for line in [
        "site create north",
        "listener create a 1",
        "connector delete a",
        "run",
        "backup out.tar",
        "restore out.tar",
        "check",
        "cert export a --out a.pem",
        "cert import a.pem",
    ] {
        let ran = desk.remotely(&sam, &format!("{line} -o json")).exits(2).error();
        assert!(ran["what"].as_str().unwrap().contains("a home of this machine"), "{ran:#}");
    }
    let nobody = desk.place.run(&format!("--node https://127.0.0.1:{} status -o json", desk.port));
    assert!(nobody.exits(2).error()["remedy"].as_str().unwrap().contains("--client-cert"));
}

#[test]
fn policies_are_taken_up_live_and_broken_ones_leave_the_good_ones_in_force() {
    let mut desk = Desk::new();
    let oscar = desk.operator("oscar");
    let renew = "cert renew handfast-local-client";
    desk.remotely(&oscar, renew).ok();

    desk.west.write(
        "input/policies/freeze.cedar",
        "@id(\"freeze\") forbid(principal is Operator, action == Action::\"credential.renew\", resource);",
    );
    eventually("the freeze is in force", || (desk.remotely(&oscar, renew).code == 5).then_some(()));
    let verdict = desk
        .west
        .run("policy test --principal oscar --action credential.renew -o json")
        .exits(9)
        .json();
    assert_eq!(verdict["policies"][0], "freeze.cedar:freeze", "{verdict:#}");

    desk.west.write("input/policies/freeze.cedar", "forbid(principal, action");
    let problem = eventually("the fault is shown", || {
        let status = desk.west.status();
        let problems = status["problems"].as_array().unwrap().clone();
        problems.into_iter().find(|one| one["subject"] == "policies")
    });
    assert!(problem["file"].as_str().unwrap().contains("freeze.cedar"), "{problem:#}");
    desk.remotely(&oscar, renew).exits(5);
    // A name is as good as the whole identity, asked here or from afar.
    let afar = "policy test --principal oscar --action credential.renew";
    desk.remotely(&desk.operator("sam"), afar).exits(9);
    desk.west.run("policy validate").exits(3);

    // Nothing good was ever read by this process: only the machine's own users may do anything.
    desk.west.stop();
    desk.west.start();
    until("the admin port is open again", || {
        std::net::TcpStream::connect(("127.0.0.1", desk.port)).is_ok()
    });
    desk.remotely(&oscar, "status").exits(5);
    desk.west.run(renew).ok();

    fs::remove_file(desk.west.path("input/policies/freeze.cedar")).unwrap();
    eventually("the roles are in force again", || {
        (desk.remotely(&oscar, renew).code == 0).then_some(())
    });
}

/// If the audit record cannot be written, the action does not happen.
#[test]
fn what_cannot_be_recorded_is_not_done() {
    let desk = Desk::new();
    let before = desk.west.serial("handfast-local-client");
    // Another process holds the only right to write.
    let script = "import sqlite3, sys\n\
        db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n\
        db.execute('BEGIN IMMEDIATE')\n\
        print('held', flush=True)\n\
        sys.stdin.read()\n\
        db.execute('ROLLBACK')\n";
    let holder = Command::new("python3")
        .arg("-c")
        .arg(script)
        .arg(desk.west.path("runtime/state.db"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut holder) = holder else {
        println!("skipped: no python3 to hold the ledger with");
        return;
    };
    let mut line = String::new();
    BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    let ran = desk.west.run("cert renew handfast-local-client -o json").exits(1).error();
    let what = ran["what"].as_str().unwrap();
    assert!(what.contains("audit log cannot be written, so nothing is done"), "{ran:#}");
    let mallory = desk.operator("mallory");
    let ran = desk.remotely(&mallory, "status -o json").exits(1).error();
    assert!(ran["what"].as_str().unwrap().contains("audit log"), "{ran:#}");
    let mut input = holder.stdin.take().unwrap();
    input.flush().unwrap();
    drop(input);
    holder.wait().unwrap();
    assert_eq!(desk.west.serial("handfast-local-client"), before);
    desk.west.run("cert renew handfast-local-client").ok();
    assert_ne!(desk.west.serial("handfast-local-client"), before);
}

/// The handshake refuses a revoked certificate; so does every request that got in before.
#[test]
fn a_revoked_operator_is_shut_out() {
    let desk = Desk::new();
    let directory = desk.place.path("oscar");
    let issued = desk
        .west
        .json(&format!("cert issue --profile operator --name oscar --out {}", directory.display()));
    desk.remotely(&directory, "status").ok();
    let serial = issued["serial"].as_str().expect("a serial");
    desk.west.json(&format!("cert revoke --serial {serial} --reason key-compromise --yes"));
    let denied = desk.remotely(&directory, "status -o json").exits(5).error();
    assert!(
        denied["fault"].is_string() || denied["what"].as_str().unwrap().contains("revoked"),
        "{denied:#}"
    );
    desk.refused_at_the_port("revoked");
    // Somebody else of the same role goes on.
    desk.remotely(&desk.operator("oscar"), "status").ok();
}

/// Only a security admin has an operator certified; whoever may issue something else may not.
#[test]
fn issuers_issue_within_their_bounds_over_the_admin_port() {
    let desk = Desk::new();
    let ivan = desk.operator("ivan");
    let issue = |line: &str, out: &str| {
        desk.remotely(
            &ivan,
            &format!("cert issue {line} --out {} -o json", desk.place.path(out).display()),
        )
    };
    let within = "--profile component --identity spiffe://demo.example/component/web-1";
    assert_eq!(
        issue(within, "web").ok().json()["identity"],
        "spiffe://demo.example/component/web-1"
    );
    let beyond = "--profile component --identity spiffe://demo.example/component/db";
    let denied = issue(beyond, "db").exits(5).error();
    assert!(
        denied["what"].as_str().unwrap().contains("may not do certificate.issue"),
        "{denied:#}"
    );
    let admin = "--profile operator --identity spiffe://demo.example/operator/sam";
    let denied = issue(admin, "sam").exits(5).error();
    assert!(denied["what"].as_str().unwrap().contains("no-escalation"), "{denied:#}");
    if let Some(rows) = desk.audit("denied") {
        assert!(
            rows.iter().any(|row| row[2] == "identity/spiffe://demo.example/component/db"),
            "{rows:?}"
        );
    }
}

/// The collector's certificate is not the agent's: whoever may make `/agent/shop` may not make the server that all agents
/// trust. What is missing is told, all of it, and is enough.
#[test]
fn who_may_make_agents_is_told_what_else_the_files_for_agents_need() {
    let desk = Desk::new();
    let bounds = |list: &str| {
        desk.west.declare("wanda.yaml", &policy("files", "issuer", "wanda", list)[4..]);
    };
    bounds("identities: [\"spiffe://demo.example/agent/shop\"]");
    let wanda = desk.operator("wanda");
    let out = desk.place.path("files").display().to_string();
    let make = || {
        let hosts = "--hosts oap.example,10.0.0.7";
        desk.remotely(&wanda, &format!("agent-certs {out} --service shop {hosts} -o json"))
    };
    let error = eventually("the policy is in force", || {
        let error = make().exits(5).error();
        error["remedy"].as_str().unwrap().contains("identities").then_some(error)
    });
    let remedy = error["remedy"].as_str().unwrap();
    let needs: Vec<&str> = remedy.split('"').skip(1).step_by(2).collect();
    assert_eq!(
        needs,
        [
            "spiffe://demo.example/agent/shop",
            "spiffe://demo.example/component/collector.shop",
            "oap.example",
            "10.0.0.7"
        ],
        "{error:#}"
    );
    assert!(!desk.place.path("files").exists(), "nothing is written");
    // A single certificate says what it lacks itself.
    let line =
        "cert issue --profile component --identity spiffe://demo.example/component/x --out x";
    let error = desk.remotely(&wanda, &format!("{line} -o json")).exits(5).error();
    assert!(
        error["remedy"].as_str().unwrap().contains("\"spiffe://demo.example/component/x\""),
        "{error:#}"
    );
    bounds(&format!("identities: {needs:?}"));
    eventually("what was told is enough", || (make().code == 0).then_some(()));
}

/// One asks, another approves, and both are in the audit log.
#[test]
fn two_persons_move_the_root() {
    let mut desk = Desk::new();
    let site = fs::read_to_string(desk.west.path("input/resources/site.yaml")).unwrap();
    desk.west
        .declare("site.yaml", &site.replace("{trust-domain", "{two-person: root, trust-domain"));
    let sam = desk.operator("sam");
    let asked = "ca rotate root -o json";
    let waits = eventually("the rule is in force", || {
        let test = "policy test --principal uid:0 --action authority.rotate --resource authority/root -o json";
        let verdict = desk.remotely(&sam, test).json();
        (verdict["needsSecondPerson"] == true).then(|| desk.remotely(&sam, asked))
    });
    let waits = waits.exits(10).error();
    assert!(waits["what"].as_str().unwrap().contains("waits for a second person"), "{waits:#}");
    let again = desk.remotely(&sam, asked).exits(10);
    drop(again);
    let list = desk.west.json("approve list");
    assert_eq!(list.as_array().unwrap().len(), 1, "the same wish is one: {list:#}");
    let id = list[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(list[0]["requestedBy"], "spiffe://demo.example/operator/sam");

    // What was answered to wait is on disk: it waits through a kill -9.
    desk.west.kill();
    desk.west.start();
    assert_eq!(desk.west.json("approve list"), list, "the same, by the same person, until then");

    let own = eventually("the admin port is open again", || {
        let ran = desk.remotely(&sam, &format!("approve {id} -o json"));
        (ran.code == 5).then(|| ran.error())
    });
    assert!(own["what"].as_str().unwrap().contains("somebody else"), "{own:#}");
    // Who could not do it himself cannot approve it either.
    desk.remotely(&desk.operator("oscar"), &format!("approve {id}")).exits(5);
    assert_eq!(desk.west.json("approve list").as_array().unwrap().len(), 1, "it waits still");

    // It is done once, in both names.
    let done = desk.west.json(&format!("approve {id}"));
    assert!(done["approvedBy"].as_str().unwrap().starts_with("uid:"), "{done:#}");
    desk.west.kill();
    desk.west.start();
    assert!(desk.west.json("approve list").as_array().unwrap().is_empty());
    desk.west.run(&format!("approve {id}")).exits(11);
    let phase = desk.west.json("ca status root")[0]["rotation"]["phase"].clone();
    assert!(phase.is_string(), "what was approved was done, or goes on: {phase}");
    if let Some(rows) = desk.audit("approved") {
        let both = "spiffe://demo.example/operator/sam, approved by uid:";
        assert!(rows[0][0].starts_with(both), "{rows:?}");
        assert_eq!(rows[0][1], "authority.rotate");
    }
    if let Some(rows) = desk.audit("pending") {
        assert_eq!(rows[0][0], "spiffe://demo.example/operator/sam", "{rows:?}");
    }
    if let Some(rows) = desk.audit("denied") {
        assert!(
            rows.iter().any(|row| row[0].ends_with("/sam") && row[1] == "approval.give"),
            "{rows:?}"
        );
    }
}
