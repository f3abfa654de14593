//! Authorities get new keys while traffic runs: no flow is dropped and no new connection fails; who was
//! away comes back, or is told how; whoever is killed on the way goes on.
//!
//! One root rotation in the suite. More of them, one after another under the same traffic:
//! `HANDFAST_ROTATIONS=20 cargo test -p handfast --test rotation star`.

use std::time::{Duration, Instant};

use handfast_testkit::eventually::{eventually, within};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use handfast_testkit::traffic::{Client, Echo, Load, visit};
use serde_json::Value;

/// Long enough for a loaded machine to go through a whole rotation.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long after the old key is gone what stands on it may go on: a second is promised, and this is for
/// a loaded machine. (A turn of the node that nobody asked for comes a quarter of a minute later.)
const SOON: Duration = Duration::from_secs(6);

/// One authority, as `ca status` shows it.
fn authority(site: &Site, role: &str) -> Value {
    let list = site.json(&format!("ca status {role}"));
    list.as_array().and_then(|list| list.first()).cloned().expect("an authority")
}

fn phase(site: &Site, role: &str) -> String {
    authority(site, role)["rotation"]["phase"].as_str().unwrap_or("none").to_owned()
}

/// The fingerprint of the key that signs.
fn active(site: &Site, role: &str) -> String {
    let authority = authority(site, role);
    let keys = authority["keys"].as_array().expect("keys").clone();
    let key = keys.iter().find(|key| key["state"] == "active").expect("an active key");
    key["fingerprint"].as_str().expect("a fingerprint").to_owned()
}

fn laggards(site: &Site, role: &str) -> Vec<String> {
    let authority = authority(site, role);
    let waits = authority["rotation"]["waitsFor"].as_array().cloned().unwrap_or_default();
    waits.iter().map(|each| format!("{} {}", each["kind"], each["name"])).collect()
}

#[track_caller]
fn rotated(site: &Site, role: &str, line: &str) {
    let done = site.json(&format!("{line} --wait --timeout 90s"));
    assert_eq!(done["rotation"]["phase"], "revoked", "{role}: {done:#}");
    assert_eq!(done["keys"].as_array().map(Vec::len), Some(1), "{done:#}");
}

/// A site whose leaves live for `leaf`.
fn short_lived(place: &Place, name: &str, leaf: &str, ca: &str) -> Site {
    let site = place.site(name);
    site.declare(
        "Site.yaml",
        &format!(
            "apiVersion: handfast.dev/v1alpha1\nkind: Site\nmetadata:\n  name: {name}\nspec:\n  \
             settings:\n    leaf-ttl: {leaf}\n    ca-ttl: {ca}\n"
        ),
    );
    site
}

/// The same for the hub, which founds the trust domain.
fn short_lived_hub(place: &Place, leaf: &str, ca: &str) -> Site {
    let west = place.west();
    let file = west.path("input/resources/Site-west.yaml");
    let text = std::fs::read_to_string(&file).expect("the site's file");
    let settings = format!("settings:\n    leaf-ttl: {leaf}\n    ca-ttl: {ca}\n");
    assert!(text.contains("settings:\n"), "{text}");
    std::fs::write(&file, text.replacen("settings:\n", &settings, 1)).expect("written");
    west
}

#[test]
fn a_root_rotation_in_a_star_of_five_drops_no_flow_and_fails_no_connection() {
    let rounds: u32 =
        std::env::var("HANDFAST_ROTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let mut west = place.west();
    west.start();
    let mut sites: Vec<Site> = ["north", "east", "south", "far"]
        .into_iter()
        .map(|name| {
            let mut site = place.lone(name);
            site.start();
            site
        })
        .collect();
    let links: Vec<String> = sites.iter().map(|site| place.link(&west, site)).collect();
    // Every site asks the hub, and the hub asks one of them.
    let (payments, stock) = (Echo::start("payments"), Echo::start("stock"));
    west.json(&format!("connector create payments {} --host 127.0.0.1", payments.port()));
    sites[0].json(&format!("connector create stock {} --host 127.0.0.1", stock.port()));
    let mut ports = Vec::new();
    for site in &sites {
        let port = free_port();
        site.json(&format!("listener create payments {port} --host 127.0.0.1"));
        ports.push(port);
    }
    let port = free_port();
    west.json(&format!("listener create stock {port} --host 127.0.0.1"));
    ports.push(port);
    for port in &ports {
        eventually("traffic goes through", || visit(*port).ok());
    }

    let loads: Vec<Load> = ports.iter().map(|port| Load::start(*port, 1, 1)).collect();
    for round in 1..=rounds {
        let before = active(&west, "root");
        let answered: u64 = loads.iter().map(Load::answered).sum();
        rotated(&west, "root", "ca rotate root");
        assert_ne!(active(&west, "root"), before, "round {round}");
        assert_eq!(authority(&west, "root")["rotation"]["generation"], round + 1);
        // Every site shows a certificate of the new root, and traffic goes on.
        within(PATIENCE, "requests go on", || {
            let now: u64 = loads.iter().map(Load::answered).sum();
            (now > answered + 100).then_some(())
        });
    }
    for (site, link) in sites.iter().zip(&links) {
        assert_eq!(site.link(link).expect("the link")["state"], "up", "{}", site.name());
    }
    let (mut total, mut failures) = (0, Vec::new());
    for load in loads {
        let (answered, failed) = load.finish();
        total += answered;
        failures.extend(failed);
    }
    assert_eq!(failures, Vec::<String>::new(), "of {total} requests in {rounds} rotations");
    assert!(total > 100, "only {total} requests");
    for site in &mut sites {
        site.stop();
    }
    west.stop();
}

#[test]
fn every_authority_of_a_site_can_be_rotated_and_rotated_by_force() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (west, east) = place.linked();
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    for role in ["site", "local", "service"] {
        let before = active(&west, role);
        rotated(&west, role, &format!("ca rotate {role}"));
        assert_ne!(active(&west, role), before, "{role}");
    }
    // Linked sites follow, though nothing that they trust has changed.
    let waits = authority(&west, "site")["rotation"]["waitsFor"].clone();
    assert_eq!(waits, Value::Array(Vec::new()));

    // Without a reason nothing is forced.
    assert_eq!(west.run("ca rotate root --forced").code, 2);
    let before = active(&west, "root");
    rotated(&west, "root", "ca rotate root --forced --reason copied");
    assert_ne!(active(&west, "root"), before);
    assert_eq!(authority(&west, "root")["rotation"]["cause"], "forced");
    eventually("the link is up under the new root", || {
        (east.link(&link)?["state"] == "up").then_some(())
    });

    // A standalone site has no root, and its own CA is what others trust.
    let error = east.refused("ca rotate root", 11);
    assert!(error["what"].as_str().is_some_and(|what| what.contains("no root")), "{error:#}");
    rotated(&east, "site", "ca rotate site");
    assert_eq!(authority(&east, "site")["signedBy"], Value::Null);
}

/// After a compromise nothing that the old key signed may stand: what is open is cut, whoever can be
/// reached goes over to the new key by itself, and who was away is refused and told how to rejoin.
#[test]
fn a_forced_rotation_cuts_what_stands_on_the_old_key() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (mut west, mut east) = place.linked();
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    let mut north = place.lone("north");
    north.start();
    let away = place.link(&west, &north);
    let echo = Echo::start("echo");
    east.json(&format!("connector create echo {} --host 127.0.0.1", echo.port()));
    let port = free_port();
    west.json(&format!("listener create echo {port} --host 127.0.0.1"));
    north.stop();

    for role in ["site", "root"] {
        let mut flow = eventually("a flow", || Client::connect(port).ok());
        flow.ask(1000).expect("it carries");
        let before = west.serial("handfast-site-server");
        let since = Instant::now();
        rotated(&west, role, &format!("ca rotate {role} --forced --reason copied"));
        println!("{role}: the forced rotation took {} ms", since.elapsed().as_millis());
        let over = Instant::now();
        eventually("the flow over the old key is cut", || flow.ask(16).is_err().then_some(()));
        println!("{role}: the flow was cut {} ms later", over.elapsed().as_millis());
        assert!(over.elapsed() < SOON, "the old key was gone for {:?}", over.elapsed());
        assert_ne!(west.serial("handfast-site-server"), before, "{role}: re-issued");
        // Nobody did anything at east.
        eventually("east is linked under the new key", || visit(port).ok());
        east.link_up(&link);
    }
    let log = west.json("audit list");
    let log = log.as_array().expect("a list");
    let tainted = |row: &&Value| {
        row["action"] == "certificate.revoke" && row["subject"].to_string().contains("site-ca")
    };
    assert!(log.iter().any(|row| tainted(&row)), "the tainted CA is revoked, and on record");

    north.start();
    let fault = eventually("north is refused, and told what to type", || {
        let fault = north.link(&away)?["fault"].clone();
        let remedy = fault["remedy"].as_str()?.to_owned();
        (remedy.contains("--site north") && remedy.contains("token redeem FILE")).then_some(fault)
    });
    println!("north: {}", fault["code"]);
    let token = place.path("again.token");
    west.json(&format!("token issue {} --site north", token.display()));
    let redeemed = north.json(&format!("token redeem {} --timeout 60s", token.display()));
    assert_eq!(redeemed["state"], "up", "{redeemed:#}");
    for site in [&mut north, &mut east, &mut west] {
        site.stop();
    }
}

/// A stolen site is revoked, and then the root is changed: that does not wait for the thief.
#[test]
fn who_was_revoked_keeps_no_rotation_waiting() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (mut west, mut east) = place.linked();
    east.kill();
    west.json("ca rotate root");
    eventually("east is waited for", || {
        (laggards(&west, "root") == ["\"site\" \"east\""]).then_some(())
    });
    west.json("cert revoke --name east --reason key-compromise --yes");
    eventually("the rotation ends by itself", || (phase(&west, "root") == "revoked").then_some(()));
    assert_eq!(authority(&west, "root")["keys"].as_array().map(Vec::len), Some(1));
    west.stop();
}

#[test]
fn who_is_away_is_named_comes_back_over_the_cross_certificate_and_is_waited_for() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (mut west, mut east) = place.linked();
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    east.stop();
    west.json("ca rotate root --reason yearly");
    eventually("the new key is in use, and east is waited for", || {
        (phase(&west, "root") == "draining" && laggards(&west, "root") == ["\"site\" \"east\""])
            .then_some(())
    });
    let waits = authority(&west, "root")["rotation"]["waitsFor"][0].clone();
    assert_eq!((waits["reachable"].as_bool(), waits["lastSeen"].is_string()), (Some(false), true));

    // There is a way back, and a way forth again.
    west.json("ca rollback root --reason wait");
    eventually("the new key drains", || {
        let keys = authority(&west, "root")["keys"].clone();
        (keys[0]["state"] == "draining" && keys[1]["state"] == "active").then_some(())
    });
    west.json("ca rollback root --reason on");
    west.kill();
    west.start();
    eventually("the new key is in use again", || {
        let keys = authority(&west, "root")["keys"].clone();
        (keys[0]["state"] == "active" && keys[1]["state"] == "draining").then_some(())
    });

    east.start();
    east.link_up(&link);
    within(PATIENCE, "the rotation ends by itself", || {
        (phase(&west, "root") == "revoked").then_some(())
    });
    east.link_up(&link);
    east.stop();
    west.stop();
}

#[test]
fn who_comes_back_too_late_is_told_how_to_rejoin() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (mut west, mut east) = place.linked();
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    east.stop();
    west.json("ca rotate root");
    eventually("east is waited for", || (phase(&west, "root") == "draining").then_some(()));
    rotated(&west, "root", "ca rotate root --proceed-without-laggards --reason scrapped");
    east.start();
    let fault = eventually("east is refused, and told what to type", || {
        let fault = east.link(&link)?["fault"].clone();
        let remedy = fault["remedy"].as_str()?.to_owned();
        (remedy.contains("token issue FILE --site east") && remedy.contains("token redeem FILE"))
            .then_some(fault)
    });
    // The new root has another name, so that nobody takes the old one's signatures for bad ones.
    assert_eq!(fault["code"], "unknown-issuer", "{fault:#}");

    // As it was told.
    let token = place.path("again.token");
    west.json(&format!("token issue {} --site east", token.display()));
    let redeemed = east.json(&format!("token redeem {} --timeout 60s", token.display()));
    assert_eq!(redeemed["state"], "up", "{redeemed:#}");
    east.stop();
    west.stop();
}

#[test]
fn nobody_waits_for_who_has_nothing_left() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let mut west = short_lived_hub(&place, "20s", "2m");
    let mut east = short_lived(&place, "east", "20s", "2m");
    west.start();
    east.start();
    place.link(&west, &east);
    east.kill();
    west.json("ca rotate root");
    eventually("east is waited for", || {
        (laggards(&west, "root") == ["\"site\" \"east\""]).then_some(())
    });
    within(PATIENCE, "its last certificate expires, and the rotation ends", || {
        (phase(&west, "root") == "revoked").then_some(())
    });
    west.stop();
}

#[test]
fn a_hub_that_is_killed_at_every_step_goes_on() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (mut west, mut east) = place.linked();
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    let before = active(&west, "root");
    west.json("ca rotate root");
    let mut seen = vec![phase(&west, "root")];
    // Killed again and again, a little later each time, until it is through.
    for pause in (0..40_u64).map(|round| round * 25) {
        west.kill();
        west.start();
        std::thread::sleep(Duration::from_millis(pause));
        let now = phase(&west, "root");
        if seen.last() != Some(&now) {
            seen.push(now.clone());
        }
        if now == "revoked" {
            break;
        }
    }
    within(PATIENCE, "the rotation ends", || (phase(&west, "root") == "revoked").then_some(()));
    assert_ne!(active(&west, "root"), before, "{seen:?}");
    assert_eq!(authority(&west, "root")["keys"].as_array().map(Vec::len), Some(1));
    east.link_up(&link);
    east.stop();
    west.stop();
}
