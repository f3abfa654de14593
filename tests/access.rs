//! Who may do what, over real processes: operators at the admin port, roles and policies taken up live,
//! denials in the audit log, and what happens when that log cannot be written.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use handfast_pki::{
    Chain, IdentityKind, IssueRequest, Issuer, KeyAlgorithm, Name, Overrun, PrivateKey, Profile,
    SpiffeId, Subject, SystemEntropy, TrustAnchors,
};
use handfast_testkit::authority::TestAuthority;
use handfast_testkit::eventually::{eventually, now, until};
use handfast_testkit::place::{Place, Ran, free_port};
use handfast_testkit::site::Site;
use serde_json::Value;

/// `west`, which serves operators, with a viewer (alice), an issuer (ivan), an operator (oscar), a
/// security admin (sam) and an auditor (audrey).
struct Desk {
    place: Place,
    west: Site,
    port: u16,
}

impl Desk {
    fn new() -> Self {
        let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
        let mut west = place.site("west");
        let port = free_port();
        west.declare(
            "site.yaml",
            &format!(
                "apiVersion: handfast.dev/v1alpha1\nkind: Site\nmetadata: {{name: west}}\n\
                 spec: {{settings: {{trust-domain: demo.example, admin-port: \"{port}\"}}}}\n"
            ),
        );
        west.declare(
            "roles.yaml",
            &[
                policy("viewers", "viewer", "alice", ""),
                policy(
                    "web",
                    "issuer",
                    "ivan",
                    "identities: [\"spiffe://demo.example/component/web-*\"]",
                ),
                policy("operators", "operator", "oscar", ""),
                policy("admins", "security-admin", "sam", ""),
                policy("auditors", "auditor", "audrey", ""),
            ]
            .concat(),
        );
        west.start();
        let desk = Self { place, west, port };
        until("the admin port is open", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        desk
    }

    /// A certificate of the site's local CA, in a directory.
    fn certificate(&self, profile: Profile, identity: SpiffeId, life: Duration) -> PathBuf {
        let read = |name: &str| {
            fs::read(self.west.path(&format!("runtime/issuers/handfast-local-ca/{name}"))).unwrap()
        };
        let issuer = Issuer::from_parts(
            Chain::from_pem(&read("tls.crt")).unwrap(),
            PrivateKey::from_pem(&read("tls.key"), None).unwrap(),
            TrustAnchors::from_pem(&read("ca.crt")).unwrap(),
        )
        .unwrap();
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let name = identity.path().replace('/', "-");
        let subject = Subject::new(name.clone()).with_identity(identity);
        let request = IssueRequest::new(profile, subject, key.spki_der())
            .with_ttl(life)
            .with_overrun(Overrun::Truncate);
        let leaf = issuer.issue(&request, now(), &mut SystemEntropy).unwrap();
        let directory = format!("certificates/{name}-{}", life.as_secs());
        let file =
            |name: &str, content: String| self.place.write(&format!("{directory}/{name}"), content);
        file("tls.crt", issuer.chain_for(leaf).to_pem());
        file("tls.key", key.to_pkcs8_pem().to_string());
        file("ca.crt", issuer.anchors().to_pem()).parent().unwrap().to_owned()
    }

    fn operator(&self, name: &str) -> PathBuf {
        self.certificate(Profile::Operator, identity(IdentityKind::Operator, name), HOUR)
    }

    /// Types a command as the holder of a certificate, at the admin port.
    fn remotely(&self, certificate: &std::path::Path, line: &str) -> Ran {
        self.place.run(&format!(
            "--node https://127.0.0.1:{} --client-cert {} {line}",
            self.port,
            certificate.display()
        ))
    }

    /// Rows of the audit log with this outcome: actor, action, subject, detail.
    #[expect(clippy::print_stdout, reason = "a part that is skipped says so")]
    fn audit(&self, outcome: &str) -> Option<Vec<Vec<String>>> {
        let script = "import json, sqlite3, sys\n\
            db = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True, timeout=30)\n\
            rows = db.execute('SELECT actor, action, subject, detail FROM audit WHERE outcome = ? ORDER BY sequence', [sys.argv[2]])\n\
            print(json.dumps([list(row) for row in rows]))";
        let database = self.west.path("runtime/state.db");
        let ran = Command::new("python3").arg("-c").arg(script).arg(database).arg(outcome).output();
        let Ok(ran) = ran else {
            println!("skipped: no python3 to read the audit log with");
            return None;
        };
        assert!(ran.status.success(), "{ran:?}");
        Some(serde_json::from_slice(&ran.stdout).unwrap())
    }

    /// Why callers were refused at the admin port so far.
    fn refusals(&self) -> Vec<String> {
        let status = self.west.status();
        let refusals = status["refusals"].as_array().unwrap().iter();
        let here = refusals.filter(|one| one["on"] == "admin port");
        here.map(|one| one["fault"]["code"].as_str().unwrap().to_owned()).collect()
    }

    fn refused_at_the_port(&self, code: &str) {
        until(&format!("a refusal {code} is told"), || {
            self.refusals().iter().any(|told| told == code)
        });
    }
}

fn policy(name: &str, role: &str, operator: &str, more: &str) -> String {
    format!(
        "---\napiVersion: handfast.dev/v1alpha1\nkind: Policy\nmetadata: {{name: {name}}}\n\
         spec:\n  role: {role}\n  operators: [{operator}]\n  {more}\n"
    )
}

fn identity(kind: IdentityKind, name: &str) -> SpiffeId {
    let name: Name = name.parse().unwrap();
    SpiffeId::new("demo.example".parse().unwrap(), kind, &name)
}

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

#[test]
fn commands_about_files_are_not_mistaken_for_commands_about_the_other_node() {
    let desk = Desk::new();
    let sam = desk.operator("sam");
    for line in [
        "site create north",
        "listener create a 1",
        "connector delete a",
        "run",
        "audit export out.jsonl",
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

/// Who audits needs no account on the machine: rows, proof and kept heads are had over the admin port.
#[test]
fn an_auditor_elsewhere_reads_the_log_and_has_it_proven() {
    let desk = Desk::new();
    let audrey = desk.operator("audrey");
    let listed = |line: &str| desk.remotely(&audrey, &format!("audit list {line} -o json"));
    let here = desk.west.json("audit list --limit 1000");
    let rows = listed("--limit 1000").ok().json();
    let here = here.as_array().unwrap();
    assert!(here.len() > 5 && rows.as_array().unwrap().starts_with(here), "{rows:#}");
    // In pages, as they are asked for.
    let newest = listed("--limit 2 --action certificate.issue").ok().json();
    let first = newest[0]["sequence"].as_u64().unwrap();
    assert!(newest.as_array().unwrap().iter().all(|row| row["action"] == "certificate.issue"));
    let before = listed(&format!("--limit 2 --before {first}")).ok().json();
    assert_eq!(before[1]["sequence"].as_u64(), Some(first - 1), "{before:#}");

    let verified = desk.remotely(&audrey, "audit verify -o json").ok().json();
    assert_eq!(verified["whole"], true, "{verified:#}");
    let kept = desk.place.write("kept.txt", verified["head"].as_str().unwrap());
    desk.west.json("cert renew handfast-local-client");
    let line = format!("audit verify --head {} -o json", kept.display());
    let again = desk.remotely(&audrey, &line).ok().json();
    assert!(again["rows"].as_u64() > verified["rows"].as_u64(), "{again:#}");
    // A head of another history: of the same size, over other rows.
    let text = fs::read_to_string(&kept).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let root = if lines[2].starts_with('A') { "B" } else { "A" }.to_owned() + &lines[2][1..];
    lines[2] = &root;
    desk.place.write("kept.txt", lines.join("\n"));
    let broken = desk.remotely(&audrey, &line).exits(9).json();
    assert_eq!(broken["whole"], false, "{broken:#}");
    desk.place.write("kept.txt", "no head");
    desk.remotely(&audrey, &line).exits(3);

    // Others may not, and an auditor may do nothing else.
    for (who, line) in [
        ("alice", "audit list"),
        ("oscar", "audit verify"),
        ("audrey", "cert renew --all"),
        ("audrey", "token issue t.token"),
    ] {
        desk.remotely(&desk.operator(who), line).exits(5);
    }
}

/// Whose a certificate is can be asked by its serial number, here and from elsewhere.
#[test]
fn what_was_issued_is_found_by_serial_identity_and_end() {
    let mut desk = Desk::new();
    let pay = desk.place.path("pay");
    let issue = |name: &str, ttl: &str| {
        let out = desk.place.path(name);
        let line = format!("cert issue --profile component --name {name} --ttl {ttl}");
        desk.west.json(&format!("{line} --out {}", out.display()))
    };
    let (first, second) = (issue("pay", "24h"), issue("shop", "10m"));
    let serial = first["serial"].as_str().unwrap().to_owned();
    let alice = desk.operator("alice");
    let asked = |line: &str| desk.remotely(&alice, &format!("cert list --issued {line} -o json"));
    let found = asked(&format!("--serial {serial}")).ok().json();
    assert_eq!(found.as_array().unwrap().len(), 1, "{found:#}");
    assert_eq!(found[0]["identity"], "spiffe://demo.example/component/pay");
    assert_eq!(found[0]["profile"], "component");
    assert_eq!(
        (&found[0]["revokedAt"], &found[0]["enrolmentEnded"]),
        (&Value::Null, &false.into())
    );
    for (line, name) in [
        ("--identity spiffe://demo.example/component/shop", "shop"),
        ("--name shop", "shop"),
        ("--expiring 15m --name shop", "shop"),
        ("--identity spiffe://demo.example/component/pay", "pay"),
    ] {
        let found = asked(line).ok().json();
        assert_eq!(found.as_array().unwrap().len(), 1, "{line}: {found:#}");
        assert_eq!(found[0]["names"][0], name, "{line}");
    }
    asked("--expiring 5m --name shop").exits(9);
    let nothing = asked("--serial 00ff").ok().json();
    assert_eq!(nothing, Value::Array(Vec::new()));
    // All of it, page by page, the newest first.
    let all = asked("--limit 3").ok().json();
    assert_eq!(all[0]["serial"], second["serial"], "{all:#}");
    assert_eq!(all.as_array().unwrap().len(), 3);

    desk.west.json("cert revoke --name pay --reason key-compromise --yes");
    let found = asked(&format!("--serial {serial}")).ok().json();
    assert_eq!(found[0]["revocationReason"], "key-compromise", "{found:#}");
    assert_eq!(found[0]["enrolmentEnded"], true);
    let text = desk.remotely(&alice, &format!("cert list --issued --serial {serial}")).ok().stdout;
    assert!(text.contains("revoked: key-compromise") && text.contains(&serial), "{text}");
    // At the home whose node is down, the same.
    desk.west.stop();
    let there = desk.west.json(&format!("cert list --issued --serial {serial}"));
    assert_eq!(there, found);
    assert!(pay.exists());
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

const HOUR: Duration = Duration::from_secs(3600);
