//! Changes of the configuration in the audit log: edits under a running node and while it is down, refused
//! documents, and what happens when the log cannot be written.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Stdio};

use handfast_testkit::eventually::{eventually, until};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;

fn place() -> Place {
    Place::new(env!("CARGO_BIN_EXE_handfast"))
}

/// `subject outcome detail` of the rows about the configuration, the oldest first.
fn rows(site: &Site) -> Vec<String> {
    let rows = site.json("audit list --action configuration.change --limit 1000");
    let text = |row: &serde_json::Value, field: &str| row[field].as_str().unwrap().to_owned();
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| {
        format!("{} {} {}", text(row, "subject"), text(row, "outcome"), text(row, "detail"))
    })
    .collect()
}

/// The rows after the first `known` ones, once there are as many as expected.
#[track_caller]
fn told(site: &Site, known: &mut usize, expected: &[&str]) {
    let found = eventually(&format!("{expected:?} is on record"), || {
        let rows = rows(site);
        (rows.len() >= *known + expected.len()).then_some(rows)
    });
    assert_eq!(&found[*known..], expected);
    *known = found.len();
}

/// Writes a file in one step: a half-written one would be an edit of its own.
fn put(site: &Site, name: &str, content: impl AsRef<[u8]>) {
    site.write("new", content);
    let path = site.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::rename(site.path("new"), path).unwrap();
}

fn listener(port: u16) -> String {
    format!(
        "apiVersion: handfast.dev/v1alpha1\nkind: Listener\nmetadata: {{name: web}}\n\
         spec: {{routingKey: shop, host: 127.0.0.1, port: {port}}}\n"
    )
}

#[test]
fn every_edit_has_a_row_with_its_fields_and_no_secret() {
    let place = place();
    let mut west = place.west();
    west.start();
    let mut known = rows(&west).len();
    let first = rows(&west);
    assert!(first.iter().any(|row| row.starts_with("Site/west ok added; input/")), "{first:?}");

    put(&west, "input/resources/web.yaml", listener(free_port()));
    told(&west, &mut known, &["Listener/web ok added; input/resources/web.yaml:1"]);
    let row = &west.json("audit list --action configuration.change --limit 1")[0];
    let owner = fs::metadata(west.path("input/resources/web.yaml")).unwrap().uid();
    assert_eq!(row["actor"], format!("file:uid:{owner}"), "{row:#}");
    put(&west, "input/resources/web.yaml", format!("# moved\n{}", listener(free_port())));
    told(&west, &mut known, &["Listener/web ok changed: port; input/resources/web.yaml:2"]);

    // Not usable: what was served is not any more, and why is said once.
    put(&west, "input/resources/web.yaml", listener(1).replace("port:", "prot:"));
    told(
        &west,
        &mut known,
        &[
            "Listener/web ok removed; input/resources/web.yaml:2",
            "Listener/web refused not in force: unknown field `prot`; input/resources/web.yaml:4",
        ],
    );
    put(&west, "input/resources/web.yaml", listener(free_port()));
    told(&west, &mut known, &["Listener/web ok added; input/resources/web.yaml:1"]);
    fs::remove_file(west.path("input/resources/web.yaml")).unwrap();
    told(&west, &mut known, &["Listener/web ok removed; input/resources/web.yaml:1"]);

    // Policies are in force as a whole, or as they were.
    let permit = "permit(principal, action, resource);\n";
    put(&west, "input/policies/own.cedar", permit);
    told(&west, &mut known, &["policies/own.cedar ok added; input/policies/own.cedar"]);
    put(&west, "input/policies/own.cedar", format!("{permit}forbid(principal,"));
    let found = eventually("the broken policy is on record", || rows(&west).get(known).cloned());
    assert!(found.starts_with("policies/own.cedar refused not in force: "), "{found}");
    known += 1;
    put(&west, "input/policies/own.cedar", format!("// all\n{permit}"));
    told(&west, &mut known, &["policies/own.cedar ok changed: text; input/policies/own.cedar"]);

    // Supplied credentials: their names, never what is in them.
    put(&west, "input/certs/shop/ca.crt", "one");
    told(&west, &mut known, &["certs/shop ok added; input/certs/shop"]);
    put(&west, "input/certs/shop/ca.crt", "two");
    told(&west, &mut known, &["certs/shop ok changed: ca.crt; input/certs/shop"]);
    fs::remove_dir_all(west.path("input/certs/shop")).unwrap();
    told(&west, &mut known, &["certs/shop ok removed; input/certs/shop"]);

    // One that is needed and cannot be used is refused, and the last good one goes on serving.
    put(&west, "input/certs/handfast-site-server/tls.crt", "junk");
    let found = eventually("its refusal is on record", || {
        let rows = rows(&west);
        (rows.len() >= known + 2).then_some(rows)
    });
    let added = "certs/handfast-site-server ok added; input/certs/handfast-site-server";
    assert_eq!(found[known], added);
    let refused = "certs/handfast-site-server refused not in force: ";
    assert!(found[known + 1].starts_with(refused), "{found:?}");
    known += 2;
    fs::remove_dir_all(west.path("input/certs/handfast-site-server")).unwrap();
    told(
        &west,
        &mut known,
        &["certs/handfast-site-server ok removed; input/certs/handfast-site-server"],
    );

    let grant = |code: &str| {
        format!(
            "apiVersion: handfast.dev/v1alpha1\nkind: AccessGrant\nmetadata: {{name: g}}\n\
             spec: {{code: {code}}}\n"
        )
    };
    put(&west, "input/resources/g.yaml", grant("correct-horse-battery"));
    told(&west, &mut known, &["AccessGrant/g ok added; input/resources/g.yaml:1"]);
    put(&west, "input/resources/g.yaml", grant("another-horse-battery"));
    told(&west, &mut known, &["AccessGrant/g ok changed: code; input/resources/g.yaml:1"]);
    let kept = fs::read_to_string(west.path("runtime/in-force.json")).unwrap();
    let log = west.run("audit list --limit 1000 -o json").ok().stdout;
    assert!(!format!("{kept}{log}").contains("horse"), "no secret in {kept}{log}");

    // Many at once have a bounded number of rows.
    let many = (0..300).map(|number| {
        format!(
            "---\napiVersion: handfast.dev/v1alpha1\nkind: Connector\nmetadata: {{name: c{number}}}\n\
             spec: {{routingKey: k{number}, host: 127.0.0.1, port: 9}}\n"
        )
    });
    put(&west, "input/resources/many.yaml", many.collect::<String>());
    let after = eventually("they are on record", || {
        let rows = rows(&west);
        (rows.len() > known).then_some(rows)
    });
    assert_eq!(after.len(), known + 257);
    let last = "configuration ok 44 more changes at the same time have no row of their own";
    assert_eq!(after.last().unwrap(), last);
    west.run("audit verify").ok();
}

#[test]
fn an_edit_while_the_node_is_down_has_a_row_and_a_kill_loses_none() {
    let place = place();
    let mut west = place.west();
    west.start();
    put(&west, "input/resources/web.yaml", listener(free_port()));
    let mut known = eventually("the listener is on record", || {
        let rows = rows(&west);
        rows.iter().any(|row| row.starts_with("Listener/web ok added")).then_some(rows.len())
    });
    let file = west.path("runtime/in-force.json");
    until("it is kept", || fs::read_to_string(&file).unwrap().contains("Listener/web"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // Nothing changed: nothing is told, whatever the end was.
    west.stop();
    west.start();
    west.kill();
    west.start();
    assert_eq!(rows(&west).len(), known);

    west.kill();
    let before = fs::read(&file).unwrap();
    put(&west, "input/resources/web.yaml", listener(free_port()));
    put(&west, "input/resources/bad.yaml", "kind: [\n");
    west.start();
    let changed = "Listener/web ok changed while the node did not run; input/resources/web.yaml:1";
    let found = rows(&west);
    assert_eq!((found.len(), found[known].as_str()), (known + 2, changed), "{found:?}");
    assert!(found[known + 1].starts_with("bad.yaml refused not in force: "), "{found:?}");
    known += 2;
    west.stop();
    fs::remove_file(west.path("input/resources/web.yaml")).unwrap();
    west.start();
    told(&west, &mut known, &["Listener/web ok removed; input/resources/web.yaml:1"]);

    // As if it had been killed after the rows were written, and before it kept that they were.
    west.kill();
    fs::write(&file, &before).unwrap();
    west.start();
    assert_eq!(rows(&west).len(), known + 2, "told twice rather than never");
    // What cannot be read is not trusted: everything is new.
    west.stop();
    fs::write(&file, "{").unwrap();
    west.start();
    let found = rows(&west);
    assert!(
        found[known + 2..].iter().any(|row| row.starts_with("Site/west ok added")),
        "{found:?}"
    );
    west.run("audit verify").ok();
}

#[test]
fn what_cannot_be_recorded_is_not_in_force_until_it_can() {
    let place = place();
    let mut west = place.west();
    west.start();
    let served = free_port();
    put(&west, "input/resources/web.yaml", listener(served));
    let open = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok();
    until("the listener is open", || open(served));
    let known = rows(&west).len();

    // Another process holds the only right to write.
    let script = "import sqlite3, sys\n\
        db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n\
        db.execute('BEGIN IMMEDIATE')\n\
        print('held', flush=True)\n\
        sys.stdin.read()\n\
        db.execute('ROLLBACK')\n";
    let holder = Command::new("python3")
        .args(["-c", script])
        .arg(west.path("runtime/state.db"))
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
    let other = free_port();
    put(&west, "input/resources/web.yaml", listener(other));
    until("it says so", || {
        let status = west.status();
        let problems = status["problems"].as_array().unwrap();
        problems.iter().any(|problem| {
            problem["subject"] == "configuration"
                && problem["message"].as_str().unwrap().contains("Listener/web")
        })
    });
    assert!(open(served) && !open(other), "what was in force still is");
    assert_eq!(rows(&west).len(), known);

    drop(holder.stdin.take());
    holder.wait().unwrap();
    until("it is taken up by itself", || open(other) && !open(served));
    assert_eq!(rows(&west)[known..], ["Listener/web ok changed: port; input/resources/web.yaml:1"]);
    until("all is well", || west.status()["state"] == "ready");
}
