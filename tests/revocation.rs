//! Revocation on whole nodes: what is revoked is cut, refused, told to every site, and stays so.

use std::time::{Duration, Instant};

use handfast_testkit::eventually::{eventually, until};
use handfast_testkit::place::Place;
use handfast_testkit::site::Site;
use handfast_testkit::traffic::{Client, Echo, visit};
use serde_json::Value;

const EAST: &str = "spiffe://demo.example/site/east";

/// Much longer than it takes; what it takes is printed, and measured by the benches.
const SOON: Duration = Duration::from_secs(10);

/// `service` behind a connector at `behind`, reached through a listener at `before`; returns its port.
fn serve(service: &Echo, behind: &Site, before: &Site, key: &str) -> u16 {
    let port = service.port();
    behind.json(&format!("connector create {key} {port} --host 127.0.0.1"));
    let free = handfast_testkit::place::free_port();
    before.json(&format!("listener create {key} {free} --host 127.0.0.1"));
    until("the service is reached through the network", || visit(free).is_ok());
    free
}

/// How long after `since` a flow that is open gets to know that it was cut.
fn cut_after(client: &mut Client, since: Instant) -> Duration {
    until("the flow is cut", || client.ask(16).is_err());
    since.elapsed()
}

fn revoke(site: &Site, what: &str) -> Value {
    site.json(&format!("cert revoke {what} --reason key-compromise --yes"))
}

/// The fault of a link, once it has the one with this code.
fn faulty(site: &Site, link: &str, code: &str) -> Value {
    eventually(&format!("{}: link {link} shows {code}", site.name()), || {
        site.link(link).map(|link| link["fault"].clone()).filter(|fault| fault["code"] == code)
    })
}

fn refused(site: &Site, code: &str) {
    until(&format!("{} shows that it refused: {code}", site.name()), || {
        let refusals = site.status()["refusals"].clone();
        refusals.as_array().is_some_and(|all| all.iter().any(|one| one["fault"]["code"] == code))
    });
}

/// Whether `site` knows the certificate with this serial to be revoked.
fn knows(site: &Site, serial: &str) -> bool {
    let revoked = site.json("cert list --revoked");
    revoked.as_array().expect("a list").iter().any(|one| one["serial"] == serial)
}

#[test]
fn an_identity_is_revoked_its_flows_are_cut_and_it_stays_out() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (mut west, east) = place.linked();
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    let serial = east.serial(&link);
    let echo = Echo::start("echo");
    let port = serve(&echo, &east, &west, "echo");
    let mut flow = Client::connect(port).expect("a flow");
    flow.ask(1000).expect("it carries");

    let since = Instant::now();
    let revoked = revoke(&west, &format!("--identity {EAST}"));
    println!("the command took {} ms", since.elapsed().as_millis());
    let took = cut_after(&mut flow, since);
    println!("the flow was cut {} ms after the command was typed", took.as_millis());
    assert!(took < SOON, "{took:?}");
    assert_eq!(revoked["certificates"][0]["serial"], serial.as_str(), "{revoked:#}");
    assert_eq!(revoked["certificates"][0]["reason"], "key-compromise");
    assert_eq!(revoked["enrolmentsEnded"], 1);
    assert_ne!(revoked["connectionsCut"], 0, "{revoked:#}");

    // Both sides say why.
    let fault = faulty(&east, &link, "revoked");
    assert_eq!(fault["side"], "ours", "{fault:#}");
    assert!(fault["remedy"].as_str().is_some_and(|text| text.contains("--site east")), "{fault:#}");
    refused(&west, "revoked");
    let refusals = west.status()["refusals"].clone();
    let refusal =
        refusals.as_array().expect("a list").iter().find(|r| r["fault"]["code"] == "revoked");
    let evidence = refusal.expect("one")["fault"]["evidence"].to_string();
    for word in ["key-compromise", serial.as_str(), EAST] {
        assert!(evidence.contains(word), "{evidence}");
    }
    // The revoked site was told before it was cut, and does not renew what nobody takes.
    until("east knows its own certificate to be revoked", || knows(&east, &serial));
    until("east lists it as revoked", || {
        east.credential(&link).is_some_and(|credential| credential["state"] == "revoked")
    });
    assert!(visit(port).is_err(), "no way leads there");

    // Again: nothing new, the same answer.
    let again = revoke(&west, &format!("--identity {EAST} --note again"));
    assert_eq!(again["certificates"][0]["already"], true, "{again:#}");
    assert_eq!(again["certificates"][0]["at"], revoked["certificates"][0]["at"]);
    assert_eq!(again["connectionsCut"], 0);

    // A restart of the issuer forgets nothing.
    west.stop();
    west.start();
    assert!(knows(&west, &serial));
    refused(&west, "revoked");

    // A new token made for the site lets it in again, under a new enrolment.
    let token = place.path("again.token");
    west.json(&format!("token issue {} --site east", token.display()));
    let redeemed = east.json(&format!("token redeem {} --timeout 60s", token.display()));
    assert_eq!(redeemed["state"], "up", "{redeemed:#}");
    until("the service is reached again", || visit(port).is_ok());
}

#[test]
fn a_kill_right_after_the_command_undoes_nothing() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (mut west, mut east) = place.linked();
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    let serial = east.serial(&link);
    // East is away while it happens.
    east.stop();
    revoke(&west, &format!("--serial {serial}"));
    west.kill();
    west.start();
    assert!(knows(&west, &serial));
    east.start();
    faulty(&east, &link, "revoked");
    refused(&west, "revoked");
    until("east lists it as revoked or renews it in vain", || {
        east.link(&link).is_some_and(|link| link["state"] == "down")
    });
}

#[test]
fn what_the_home_keeps_for_itself_is_made_anew_at_once() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (west, east) = place.linked();
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    let before = west.serial("handfast-site-server");
    let revoked = revoke(&west, "--name handfast-site-server");
    assert_eq!(revoked["enrolmentsEnded"], 0, "a home does not end its own: {revoked:#}");
    until("west has another server certificate", || {
        west.credential("handfast-site-server").is_some_and(|credential| {
            credential["state"] == "valid" && credential["serial"] != before.as_str()
        })
    });
    until("east knows", || knows(&east, &before));
    let up = east.link_up(&link);
    until("east is linked with the new certificate", || {
        east.link(&link).is_some_and(|link| {
            link["state"] == "up"
                && link["peer"]["serial"] == west.serial("handfast-site-server").as_str()
        })
    });
    drop(up);
    let nothing = west.refused("cert revoke --name nobody --reason superseded --yes", 1);
    assert!(nothing["what"].as_str().is_some_and(|m| m.contains("nobody")), "{nothing:#}");
}
