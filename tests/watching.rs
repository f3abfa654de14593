//! Watching a node: `handfast check` on real homes, metrics against the page that lists them, and notices to
//! a receiver that fails, hangs and recovers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use handfast_api::admin::{Client, IssueCertificate};
use handfast_testkit::eventually::{eventually, until, within};
use handfast_testkit::faults::SiteClock;
use handfast_testkit::hook::{Hook, Manner};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use handfast_testkit::traffic::Echo;
use serde_json::Value;

fn place() -> Place {
    Place::new(env!("CARGO_BIN_EXE_handfast"))
}

/// What `check` says that is not well: id and mark.
fn unwell(view: &Value) -> BTreeSet<(String, String)> {
    let text = |check: &Value, field: &str| check[field].as_str().unwrap().to_owned();
    let checks = view["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| check["mark"] != "ok" && check["mark"] != "skipped")
        .map(|check| (text(check, "id"), text(check, "mark")))
        .collect()
}

fn set(pairs: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    pairs.iter().map(|(id, mark)| ((*id).to_owned(), (*mark).to_owned())).collect()
}

#[test]
fn a_check_passes_where_all_is_well_and_finds_what_is_broken() {
    let place = place();
    let (mut west, mut east) = (place.west(), place.lone("east"));
    // Before the first start.
    let view = west.run("check -o json").exits(1).json();
    assert_eq!(unwell(&view), set(&[("node-running", "failed")]), "{view:#}");
    let view = west.json("check --offline");
    assert_eq!(view["ok"], true, "{view:#}");
    let nowhere = place.run(&format!("--home {} check -o json", place.path("no").display()));
    assert!(unwell(&nowhere.exits(1).json()).contains(&("home-exists".into(), "failed".into())));

    west.start();
    east.start();
    let link = place.link(&west, &east);
    let service = Echo::start("shop");
    west.json(&format!("connector create shop {} --host 127.0.0.1", service.port()));
    east.json(&format!("listener create shop {} --host 127.0.0.1", free_port()));
    for site in [&west, &east] {
        let view = eventually("all is well", || {
            let ran = site.run("check --strict -o json");
            (ran.code == 0).then(|| ran.json())
        });
        assert_eq!((&view["ok"], &view["failed"]), (&true.into(), &0.into()), "{view:#}");
        assert!(view["total"].as_u64().unwrap() >= 15, "{view:#}");
        let quiet = site.run("check --quiet").ok();
        assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    }
    let text = east.run("check").ok().stdout;
    for line in ["Home\n", "√ the node answers: process", "√ the link is up", "checks are well"]
    {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }

    // Broken one after the other, and mended.
    let key = east.path(&format!("runtime/certs/{link}/tls.key"));
    let mode = |bits| fs::set_permissions(&key, fs::Permissions::from_mode(bits)).unwrap();
    mode(0o644);
    let view = east.run("check -o json").exits(1).json();
    assert_eq!(unwell(&view), set(&[("home-permissions", "failed")]), "{view:#}");
    mode(0o600);
    east.declare(
        "bad.yaml",
        "apiVersion: handfast.dev/v1alpha1\nkind: Listener\nmetadata: {name: b}\nspec: {prot: 1}\n",
    );
    let view = eventually("the broken file is named", || {
        let view = east.run("check -o json").exits(1).json();
        (unwell(&view).len() == 2).then_some(view)
    });
    let expected = set(&[("home-resources", "failed"), ("node-problems", "failed")]);
    assert_eq!(unwell(&view), expected, "{view:#}");
    fs::remove_file(east.path("input/resources/bad.yaml")).unwrap();
    west.stop();
    let view = eventually("the link is down, and nothing serves the listener", || {
        let view = east.run("check -o json").json();
        unwell(&view).contains(&("links-up".into(), "failed".into())).then_some(view)
    });
    let down =
        view["checks"].as_array().unwrap().iter().find(|one| one["id"] == "links-up").unwrap();
    assert_eq!(down["page"], "docs/book/check.md#links-up");
    assert!(down["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{down:#}");
    west.start();
    until("it is well again", || east.run("check").code == 0);
}

/// The page of metrics.
fn scrape(port: u16) -> String {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    socket.read_to_string(&mut page).unwrap();
    page
}

#[test]
fn every_credential_has_its_metrics_and_every_metric_its_row() {
    let place = place();
    let mut west = place.west();
    let port = free_port();
    west.run_with(&["--metrics", &format!("127.0.0.1:{port}")]);
    west.start();
    west.json("cert renew handfast-site-server");
    let page = scrape(port);
    assert!(page.ends_with("# EOF\n"), "{page}");
    let list = west.json("cert list");
    for credential in list.as_array().unwrap() {
        let name = credential["name"].as_str().unwrap();
        for family in [
            "not_before_timestamp_seconds",
            "not_after_timestamp_seconds",
            "renew_at_timestamp_seconds",
            "state",
            "failures",
            "renewals_total",
            "renewal_failures_total",
        ] {
            let sample = format!("handfast_credential_{family}{{name=\"{name}\"");
            assert!(page.contains(&sample), "no {sample} in\n{page}");
        }
    }
    assert!(page.contains("handfast_credential_renewals_total{name=\"handfast-site-server\"} 2.0"));
    let documented =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating.md"));
    let documented = documented.unwrap();
    let samples = page.lines().filter(|line| line.starts_with("handfast_"));
    for sample in samples {
        let name = sample.split(['{', ' ']).next().unwrap();
        assert!(documented.contains(&format!("| `{name}` |")), "{name} is not documented");
    }
}

/// Whoever asks for a certificate is counted by what became of it.
#[test]
fn what_others_ask_for_is_counted_by_what_became_of_it() {
    let place = place();
    let mut west = place.west();
    let port = free_port();
    west.run_with(&["--metrics", &format!("127.0.0.1:{port}")]);
    west.start();
    let sites: Vec<Site> = ["east", "north"]
        .into_iter()
        .map(|name| {
            let mut site = place.lone(name);
            site.start();
            site
        })
        .collect();
    let token = place.path("one.token");
    west.json(&format!("token issue {}", token.display()));
    let redeem = format!("token redeem {} --timeout 30s", token.display());
    let linked = sites[0].json(&redeem);
    sites[1].refused(&redeem, 5);
    sites[0].json(&format!("cert renew {}", linked["links"][0].as_str().unwrap()));
    let out = place.path("pay");
    let issue = format!("cert issue --out {} --profile", out.display());
    west.json(&format!("{issue} component --name pay"));
    west.refused(&format!("{issue} service-server --host *.example --force"), 5);
    // Nonsense that no command would send.
    let asked = IssueCertificate {
        profile: "service-server".to_owned(),
        csr: "none".to_owned(),
        hosts: vec!["a..b".to_owned()],
        ..IssueCertificate::default()
    };
    let client = Client::new(west.path("runtime/admin.sock"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(client.issue_certificate(&asked)).unwrap_err();
    let row = &west.json("audit list --action certificate.issue --limit 1")[0];
    assert_eq!(
        (&row["outcome"], &row["subject"]),
        (&"refused".into(), &"service-server a..b".into())
    );
    let page = scrape(port);
    for (profile, outcome, count) in [
        ("link-client", "ok", 2),
        ("link-client", "spent", 1),
        ("component", "ok", 1),
        ("service-server", "wildcard", 1),
        ("service-server", "invalid", 1),
    ] {
        let sample = format!(
            "handfast_certificates_requested_total{{profile=\"{profile}\",outcome=\"{outcome}\"}} {count}.0"
        );
        assert!(page.contains(&sample), "no {sample} in\n{page}");
    }
}

/// A laggard and a rate of faults wake somebody.
#[test]
fn a_laggard_and_many_refusals_are_told_to_a_receiver() {
    let place = place();
    let (mut west, mut east) = (place.west(), place.lone("east"));
    let hook = Hook::start(Manner::Takes);
    west.declare(
        "hook.yaml",
        &notification("hook", &hook.url())
            .replace("[renewal-failing, credential-expiring]", "[fault-rate, rotation-laggard]"),
    );
    let clock = SiteClock::of(&mut west);
    west.start();
    east.start();
    place.link(&west, &east);
    let told = |condition: &str, subject: &str| {
        within(Duration::from_secs(60), &format!("{condition} is told"), || {
            hook.taken().into_iter().find(|one| {
                one["condition"] == condition
                    && one["status"] == "firing"
                    && one["subject"].as_str().is_some_and(|text| text.contains(subject))
            })
        })
    };
    // Strangers without a certificate.
    let line = format!("cert verify 127.0.0.1:{} --alpn handfast-link/1", west.link_port());
    for _ in 0..12 {
        west.run(&line).exits(5);
    }
    told("fault-rate", "handshakes");

    let Some(clock) = clock else { return };
    east.stop();
    west.json("ca rotate root");
    until("east is waited for", || {
        !west.json("ca status root")[0]["rotation"]["waitsFor"].as_array().unwrap().is_empty()
    });
    clock.set("+10m");
    told("rotation-laggard", "east");
    // Whoever is revoked is none any more.
    west.json("cert revoke --name east --reason superseded --yes");
    within(Duration::from_secs(120), "the end is told", || {
        let all = hook.taken();
        let over =
            |one: &Value| one["condition"] == "rotation-laggard" && one["status"] == "resolved";
        all.iter().any(over).then_some(())
    });
}

fn notification(name: &str, url: &str) -> String {
    format!(
        "apiVersion: handfast.dev/v1alpha1\nkind: Notification\nmetadata:\n  name: {name}\nspec:\n  url: {url}\n  \
         conditions: [renewal-failing, credential-expiring]\n"
    )
}

/// A supplied credential that ends soon is trouble that comes with one file and goes with it.
fn trouble(site: &Site, begins: bool) {
    let directory = site.path("input/certs/handfast-local-client");
    if begins {
        let now = handfast_testkit::eventually::now();
        let hour = Duration::from_secs(3600);
        let authority = handfast_testkit::authority::TestAuthority::new("demo.example", now);
        let pem = authority.leaf("west").valid(now - 20 * hour, now + hour).build().to_pem();
        site.write("input/certs/handfast-local-client/tls.key", pem.tls_key.as_bytes());
        site.write("input/certs/handfast-local-client/ca.crt", &pem.ca_crt);
        site.write("input/certs/handfast-local-client/tls.crt", &pem.tls_crt);
    } else {
        fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn notices_reach_a_receiver_that_fails_hangs_and_recovers_and_keep_nobody_waiting() {
    let place = place();
    let mut west = place.west();
    let (slow, quick) = (Hook::start(Manner::Fails), Hook::start(Manner::Takes));
    west.declare("slow.yaml", &notification("slow", &slow.url()));
    west.declare("quick.yaml", &notification("quick", &quick.url()));
    west.start();
    assert_eq!((slow.asked(), quick.asked()), (0, 0), "nothing is wrong");

    trouble(&west, true);
    let first = eventually("the receiver that works is told", || quick.taken().first().cloned());
    assert_eq!(
        (&first["condition"], &first["status"], &first["subject"]),
        (
            &"credential-expiring".into(),
            &"firing".into(),
            &"credential handfast-local-client".into()
        ),
        "{first:#}"
    );
    assert_eq!(first["site"], "west");
    until("the other one is tried again", || slow.asked() >= 3);
    let told = eventually("and that it fails is said", || {
        let status = west.status();
        let problems = status["problems"].as_array().unwrap().clone();
        problems.into_iter().find(|one| one["subject"] == "Notification/slow")
    });
    assert!(told["message"].as_str().unwrap().contains("500"), "{told:#}");
    // A receiver that hangs keeps neither the node nor the other receiver waiting.
    slow.set(Manner::Hangs);
    let asked = slow.asked();
    until("it hangs", || slow.asked() > asked);
    west.json("cert renew handfast-site-server");
    assert_eq!(quick.taken().len(), 1, "told once");
    slow.set(Manner::Takes);
    let late = eventually("it recovers and is told", || slow.taken().first().cloned());
    assert_eq!((&late["id"], &late["status"]), (&first["id"], &"firing".into()), "{late:#}");
    until("all is said to be well", || !west.status().to_string().contains("Notification/slow"));
    let log = west.log();
    assert!(!log.contains("a-secret-path") && !west.status().to_string().contains("a-secret-path"));

    trouble(&west, false);
    let over = within(
        Duration::from_secs(120),
        "the end is told, half a minute later at the earliest",
        || quick.taken().get(1).cloned(),
    );
    assert_eq!((&over["status"], &over["id"]), (&"resolved".into(), &first["id"]), "{over:#}");
    // A receiver that is no longer declared is no longer told.
    fs::remove_file(west.path("input/resources/quick.yaml")).unwrap();
    west.stop();
}
