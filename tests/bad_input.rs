//! What goes wrong in a user's hands: each thing gets one message with what, where, why and what to do,
//! its documented exit code, and loses nothing. (The codes: docs/exit-codes.md.)

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use handfast_pki::{CredentialPem, KeyAlgorithm, PrivateKey};
use handfast_testkit::authority::TestAuthority;
use handfast_testkit::eventually::{eventually, now, until, within};
use handfast_testkit::faults::{SmallDisk, libfaketime};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use handfast_testkit::traffic::{Client, Echo, visit};
use jiff::Timestamp;
use serde_json::Value;

fn place() -> Place {
    Place::new(env!("CARGO_BIN_EXE_handfast"))
}

/// One error document that says `words` (what, where, why, what to do, in any of its fields).
#[track_caller]
fn says(error: &Value, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "no {word:?} in {error:#}");
    }
    assert!(error["what"].as_str().is_some_and(|what| !what.is_empty()), "{error:#}");
    // What to do is a field of its own, or the end of the sentence.
    assert!(error["remedy"].is_string() || text.contains(';') || text.contains(": "), "{error:#}");
}

/// The problem that `status` shows about `subject`.
#[track_caller]
fn problem(site: &Site, subject: &str) -> Value {
    eventually(&format!("`status` shows a problem of {subject}"), || {
        let status = site.status();
        let problems = status["problems"].as_array().expect("a list").iter();
        problems
            .filter(|one| one.to_string().contains(subject))
            .max_by_key(|one| one.to_string().len())
            .cloned()
    })
}

fn listener(name: &str, port: u16) -> String {
    format!(
        "apiVersion: handfast.dev/v1alpha1\nkind: Listener\nmetadata:\n  name: {name}\nspec:\n  \
         routingKey: shop\n  host: 127.0.0.1\n  port: {port}\n"
    )
}

#[test]
fn files_that_are_missing_or_something_else() {
    let place = place();
    let east = place.lone("east");
    let junk = place.write("junk", b"\x00\xffnothing anybody could read\n");
    let listed = place.write("list.yaml", listener("a", 9090));
    let missing = place.path("missing").display().to_string();
    for (line, words) in [
        (format!("token redeem {missing}"), vec![missing.as_str(), "No such file"]),
        (format!("token redeem {}", junk.display()), vec!["junk"]),
        (format!("token redeem {}", listed.display()), vec!["list.yaml", "AccessToken"]),
        (format!("cert show {missing}"), vec!["missing"]),
        (format!("cert show {}", junk.display()), vec!["junk"]),
        (format!("cert verify {}", junk.display()), vec!["junk"]),
    ] {
        let error = east.refused(&line, 3);
        assert_eq!(error["error"], "bad-input", "{line}: {error:#}");
        says(&error, &words);
    }
    for line in
        ["token redeem", "listener create x", "listener create x 99999", "cert renew", "unheard-of"]
    {
        let ran = east.run(line).exits(2);
        assert!(!ran.stderr.is_empty(), "{line}");
    }
}

#[test]
fn tokens_that_are_expired_spent_wrong_or_unknown() {
    let place = place();
    let (mut west, mut east) = (place.west(), place.lone("east"));
    let mut north = place.lone("north");
    for site in [&mut west, &mut east, &mut north] {
        site.start();
    }
    let issue = |name: &str, options: &str| -> (PathBuf, Value) {
        let path = place.path(name);
        let issued = west.json(&format!("token issue {} {options}", path.display()));
        (path, issued)
    };
    let redeem = |site: &Site, path: &Path, code: i32| {
        site.refused(&format!("token redeem {}", path.display()), code)
    };

    let (short, issued) = issue("short.token", "--expiration-window 1s");
    let expires: Timestamp =
        issued["expirationTime"].as_str().expect("a time").parse().expect("a time");
    until("it has expired", || now() > expires);
    let error = redeem(&east, &short, 5);
    assert_eq!(error["error"], "refused");
    says(&error, &["expired"]);

    let (good, _) = issue("good.token", "");
    let text = fs::read_to_string(&good).expect("the token");
    let code = text.lines().find_map(|line| line.trim().strip_prefix("code: ")).expect("a code");
    let name = text.lines().find_map(|line| line.trim().strip_prefix("name: ")).expect("a name");
    let wrong =
        place.write("wrong.token", text.replace(code, &code.chars().rev().collect::<String>()));
    says(&redeem(&east, &wrong, 5), &["code"]);
    let unknown = place.write("unknown.token", text.replace(name, "west-00000000"));
    says(&redeem(&east, &unknown, 5), &["unknown"]);
    let misspelt = place.write("misspelt.token", text.replace("  code:", "  coed:"));
    says(&redeem(&east, &misspelt, 3), &["misspelt.token:8", "coed", "`code`"]);
    // Pinned: the right place with another CA is the wrong place.
    let other = TestAuthority::new("demo.example", now()).anchors().to_pem();
    let indented = other.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n");
    let head = text.split("  ca: |").next().expect("before the CA");
    let pinned = place.write("pinned.token", format!("{head}  ca: |\n{indented}\n"));
    let error = redeem(&east, &pinned, 5);
    assert_eq!(error["fault"], "unknown-issuer", "{error:#}");
    // Nobody is there.
    let away = place.write(
        "away.token",
        text.replace(&format!(":{}/", west.grant_port()), &format!(":{}/", free_port())),
    );
    let error = redeem(&east, &away, 4);
    assert_eq!(error["fault"], "unreachable", "{error:#}");
    says(&error, &["127.0.0.1"]);

    // None of that has used the good one up, or left a link behind.
    assert_eq!(east.json("link status"), Value::Array(Vec::new()));
    let done = east.json(&format!("token redeem {} --timeout 60s", good.display()));
    assert_eq!(done["state"], "up", "{done:#}");
    let error = redeem(&north, &good, 5);
    says(&error, &["spent"]);
    assert_eq!(north.json("link status"), Value::Array(Vec::new()));
    assert_eq!(east.link_up(done["links"][0].as_str().expect("a link"))["state"], "up");
}

#[test]
fn a_peer_that_cannot_be_reached() {
    let place = place();
    let (mut west, east) = place.linked();
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    west.stop();
    let down = eventually("the link is down, and says why", || {
        east.link(&link)
            .filter(|link| link["state"] != "up" && link["fault"]["code"] == "unreachable")
    });
    assert!(down["fault"]["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{down:#}");
    assert!(
        down["fault"]["where"].as_str().is_some_and(|place| place.contains("127.0.0.1")),
        "{down:#}"
    );
    let error = east.refused(&format!("cert verify 127.0.0.1:{}", west.link_port()), 4);
    assert_eq!(error["fault"], "unreachable", "{error:#}");
    west.start();
    east.link_up(&link);
}

#[test]
fn ports_that_are_in_use_are_taken_when_they_are_free() {
    let place = place();
    let mut west = place.west();
    let hold = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a port");
    let (link, grant) = (hold(west.link_port()), hold(west.grant_port()));
    west.start();
    let status = eventually("both are told", || {
        let status = west.status();
        (status["accesses"][0]["fault"]["code"] == "port-in-use"
            && status.to_string().contains("grant port"))
        .then_some(status)
    });
    assert_eq!(status["state"], "degraded", "{status:#}");
    says(
        &west.refused(&format!("token issue {}", place.path("t").display()), 1),
        &["in use", "grant-port"],
    );
    assert!(!place.path("t").exists(), "no file without a token");

    // A listener, by command: the exit code says it, and the resource stays.
    let port = free_port();
    let taken = hold(port);
    let error = west.refused(&format!("listener create shop {port} --host 127.0.0.1"), 8);
    assert_eq!(error["error"], "port-in-use");
    says(&error, &["Listener/shop", &port.to_string()]);

    drop((link, grant, taken));
    until("all of it is served as soon as it can be", || {
        let status = west.status();
        status["state"] == "ready"
            && status["accesses"][0]["state"] == "ready"
            && status["listeners"][0]["fault"] == Value::Null
    });
    until("the listener is open", || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err());
    west.json(&format!("token issue {}", place.path("t").display()));
}

#[test]
fn a_broken_resource_is_shown_with_file_line_and_field_and_the_rest_is_served() {
    let place = place();
    let (west, east) = place.linked();
    let service = Echo::start("shop");
    let port = free_port();
    west.json(&format!("connector create shop {} --host 127.0.0.1", service.port()));
    east.json(&format!("listener create shop {port} --host 127.0.0.1"));
    until("traffic goes through", || visit(port).is_ok());
    let mut kept = Client::connect(port).expect("a connection");

    for (file, document, words) in [
        (
            "unknown.yaml",
            listener("b", 9091).replace("host:", "hots:"),
            vec!["unknown.yaml", "hots", "`host`"],
        ),
        (
            "kind.yaml",
            listener("c", 9092).replace("kind: Listener", "kind: Lisener"),
            vec!["kind.yaml", "Lisener", "Listener"],
        ),
        (
            "port.yaml",
            listener("d", 9093).replace("9093", "99999"),
            vec!["port.yaml", "`port`", "65535"],
        ),
        ("broken.yaml", "spec: [1, {\n".to_owned(), vec!["broken.yaml"]),
        ("bytes.yaml", "\u{0}\u{1}".to_owned(), vec!["bytes.yaml"]),
    ] {
        east.declare(file, &document);
        let problem = problem(&east, words[0]);
        for word in &words {
            assert!(problem.to_string().contains(word), "no {word:?} in {problem:#}");
        }
        assert!(problem["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{problem:#}");
        if file == "unknown.yaml" {
            assert_eq!(problem["line"], 7, "{problem:#}");
        }
    }
    let status = east.status();
    assert_eq!(status["state"], "degraded", "{status:#}");
    assert_eq!(visit(port).expect("the rest is served"), "shop");

    // The working file is broken as well: what it declared goes on as it was, or is said.
    for file in ["unknown.yaml", "kind.yaml", "port.yaml", "broken.yaml", "bytes.yaml"] {
        fs::remove_file(east.path(&format!("input/resources/{file}"))).expect("removed");
    }
    until("it is well again", || east.status()["state"] == "ready");
    kept.ask(1000).expect("an open flow has not noticed");
}

#[test]
fn a_node_whose_site_is_broken_at_the_start_says_so_and_waits() {
    let place = place();
    let mut site = place.site("lost");
    site.declare("Site.yaml", "apiVersion: handfast.dev/v1alpha1\nkind: Site\nmetadata:\n  name: lost\nspec:\n  setings: {}\n");
    site.start();
    let shown = problem(&site, "setings");
    assert!(shown.to_string().contains("`settings`") && shown["line"] == 6, "{shown:#}");
    site.declare("Site.yaml", "apiVersion: handfast.dev/v1alpha1\nkind: Site\nmetadata:\n  name: lost\nspec:\n  settings: {leaf-ttl: 1h, ca-ttl: 2h}\n");
    let shown = problem(&site, "ca-ttl");
    assert!(shown.to_string().contains("sixth"), "the rule is told: {shown:#}");
    site.declare(
        "Site.yaml",
        "apiVersion: handfast.dev/v1alpha1\nkind: Site\nmetadata:\n  name: lost\nspec: {}\n",
    );
    until("it runs as soon as it can", || site.status()["state"] == "ready");
}

fn supply(site: &Site, name: &str, pem: &CredentialPem, key: &str) {
    site.write(&format!("input/certs/{name}/tls.key"), key);
    site.write(&format!("input/certs/{name}/ca.crt"), &pem.ca_crt);
    site.write(&format!("input/certs/{name}/tls.crt"), &pem.tls_crt);
}

/// Rule 7: broken material stops nothing that is good.
#[test]
fn supplied_credentials_that_cannot_be_used_leave_the_last_good_one_in_place() {
    let place = place();
    let (west, east) = place.linked();
    let service = Echo::start("shop");
    let port = free_port();
    west.json(&format!("connector create shop {} --host 127.0.0.1", service.port()));
    east.json(&format!("listener create shop {port} --host 127.0.0.1"));
    until("traffic goes through", || visit(port).is_ok());
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    let serving = || east.link(&link).expect("the link")["peer"]["serial"].clone();
    let good = serving();

    let now = now();
    let authority = TestAuthority::new("demo.example", now);
    let day = Duration::from_secs(86_400);
    let host = ["127.0.0.1"];
    let other_key =
        PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key").to_pkcs8_pem().to_string();
    let fine = authority.server("west", &host).to_pem();
    let tomorrow =
        authority.leaf("west").server(&host).valid(now + day, now + 2 * day).build().to_pem();
    let yesterday = authority.leaf("west").server(&host).expired().build().to_pem();
    let client = authority.client("west").to_pem();
    for (pem, key, words) in [
        (&fine, other_key.as_str(), &["key"][..]),
        (&fine, "no PEM at all", &["tls.key"][..]),
        // A clock that is wrong by a day, seen from here.
        (&tomorrow, tomorrow.tls_key.as_str(), &["is valid only from", "clock"][..]),
        (&yesterday, yesterday.tls_key.as_str(), &["expired"][..]),
        (&client, client.tls_key.as_str(), &["server"][..]),
    ] {
        supply(&west, "handfast-site-server", pem, key);
        let shown = eventually(&format!("`status` tells of {words:?}"), || {
            let status = west.status();
            let problems = status["problems"].as_array()?.clone();
            problems.into_iter().find(|one| words.iter().all(|word| one.to_string().contains(word)))
        });
        assert!(shown["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{shown:#}");
        assert_eq!(visit(port).expect("served meanwhile"), "shop");
        assert_eq!(serving(), good, "the good one stays");
        // A new handshake meets the good one as well.
        let own = east.path(&format!("runtime/certs/{link}")).display().to_string();
        let found = east.json(&format!(
            "cert verify 127.0.0.1:{} --ca {own}/ca.crt --cert {own}/tls.crt --key {own}/tls.key --alpn handfast-link/1",
            west.link_port()
        ));
        assert_eq!(found["peer"]["serial"], good, "{found:#}");
    }
    fs::remove_dir_all(west.path("input/certs/handfast-site-server")).expect("removed");
    until("it is well again", || west.status()["state"] == "ready");
}

#[test]
fn homes_that_cannot_be_used() {
    let place = place();
    let mut east = place.lone("east");
    east.start();
    let ran = east.run("run -o json").exits(6);
    let error: Value = serde_json::from_str(
        ran.stderr.lines().skip_while(|line| *line != "{").collect::<String>().as_str(),
    )
    .expect("a document");
    assert_eq!(error["error"], "home", "{error:#}");
    says(&error, &["in use", &east.pid().to_string(), "--home"]);
    assert_eq!(east.status()["state"], "ready", "the first node has not noticed");

    let file = place.write("file", "not a directory");
    let ran = place.run(&format!("--home {} run -o json", file.display()));
    assert!([1, 3, 6].contains(&ran.code), "{ran:#?}");
    assert!(ran.stderr.contains(&file.display().to_string()), "{ran:#?}");

    // A read-only file system is one that root cannot write to either.
    let Some(disk) = SmallDisk::mount(&place.path("disk"), "1m") else { return };
    let home = disk.path().join("home");
    place.run(&format!("--home {} site create north", home.display())).ok();
    disk.remount("ro");
    let ran = place.run(&format!("--home {} run -o json", home.display())).exits(6);
    assert!(
        ran.stderr.contains(&home.display().to_string()) && ran.stderr.contains("ead-only"),
        "{ran:#?}"
    );
    let ran =
        place.run(&format!("--home {} listener create x 9090 -o json", home.display())).exits(6);
    assert!(ran.stderr.contains("ead-only"), "{ran:#?}");
}

#[test]
fn a_full_disk_stops_nothing_that_runs_and_loses_nothing() {
    let place = place();
    let Some(disk) = SmallDisk::mount(&place.path("west"), "6m") else { return };
    let (mut west, mut east) = (place.west(), place.lone("east"));
    west.start();
    east.start();
    let token = place.path("t").display().to_string();
    west.json(&format!("token issue {token}"));
    let serials = |site: &Site| -> Vec<Value> {
        site.json("cert list")
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| one["serial"].clone())
            .collect()
    };
    let before = serials(&west);

    disk.fill();
    // West can record nothing, so it signs nothing.
    let error = east.run(&format!("token redeem {token} -o json"));
    assert_ne!(error.code, 0, "{error:#?}");
    let error = west.run(&format!("token issue {token}.2 -o json"));
    assert_ne!(error.code, 0, "{error:#?}");
    let renewal = west.run("cert renew --all -o json");
    assert_eq!(renewal.code, 1, "{renewal:#?}");
    assert!(renewal.stderr.contains("disk is full"), "it says why: {renewal:#?}");
    let taken = place.path("taken.pem");
    let export = west.run(&format!("cert export handfast-site-server --out {}", taken.display()));
    assert_ne!(export.code, 0, "{export:#?}");
    assert!(export.stderr.contains("nothing is exported"), "{export:#?}");
    assert!(!taken.exists(), "what is not on record does not leave the home");
    let error = west.run("listener create x 9099 -o json").exits(1).error();
    says(&error, &["Listener-x.yaml"]);
    assert!(
        error.to_string().contains("disk is full") || error.to_string().contains("No space left"),
        "{error:#}"
    );
    assert_eq!(serials(&west), before, "the certificates are as they were");
    assert!(west.runs());

    disk.empty();
    let done = eventually("the same token is still good", || {
        let ran = east.run(&format!("token redeem {token} --timeout 30s -o json"));
        (ran.code == 0).then(|| ran.json())
    });
    east.link_up(done["links"][0].as_str().expect("a link"));
    west.json("cert renew --all");
    let line = format!("cert export handfast-site-server --out {} --reason moved", taken.display());
    west.json(&line);
    let rows = west.json("audit list --action credential.export");
    assert_eq!(rows[0]["why"], "moved", "{rows:#}");
    assert!(
        rows[0]["detail"].as_str().is_some_and(|text| text.starts_with("with its private key"))
    );
    let after = serials(&west);
    west.stop();
    west.start();
    assert_eq!(serials(&west), after);
}

#[test]
fn a_clock_that_is_wrong_by_a_day() {
    let Some(library) = libfaketime() else {
        println!("skipped: no libfaketime here (Debian package `faketime`)");
        return;
    };
    for (shift, code, word) in [("-1d", "not-yet-valid", "clock"), ("+2d", "expired", "clock")] {
        let place = place();
        let (mut west, mut east) = (place.west(), place.lone("east"));
        west.start();
        east.set("LD_PRELOAD", &library.display().to_string());
        east.set("FAKETIME", shift);
        east.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        east.start();
        let token = place.path("t").display().to_string();
        west.json(&format!("token issue {token}"));
        let error = east.run(&format!("token redeem {token} -o json"));
        let error = error.exits(5).error();
        assert_eq!(error["fault"], code, "{error:#}");
        says(&error, &[word]);
        assert!(error["evidence"].to_string().contains("checked-at"), "{error:#}");
        // Set right, the same token is good.
        east.kill();
        east.set("LD_PRELOAD", "");
        east.start();
        let done = within(Duration::from_secs(60), "the token is redeemed", || {
            let ran = east.run(&format!("token redeem {token} --timeout 30s -o json"));
            (ran.code == 0).then(|| ran.json())
        });
        east.link_up(done["links"][0].as_str().expect("a link"));
    }
}
