//! Revocation on whole nodes: what is revoked is cut, refused, told to every site, and stays so.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use handfast_pki::{
    Chain, Credential, Crl, CrlBuilder, IssueRequest, Issuer, KeyAlgorithm, PrivateKey, Profile,
    RevocationReason, RevokedEntry, Serial, Subject, SystemEntropy, TrustAnchors,
};
use handfast_testkit::eventually::{eventually, now, until};
use handfast_testkit::place::Place;
use handfast_testkit::site::Site;
use handfast_testkit::traffic::{Client, Echo, visit};
use serde_json::Value;

const EAST: &str = "spiffe://demo.example/site/east";

/// Much longer than it takes; what it takes is printed, and `benches/cut` asserts that it is under a second.
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

/// The page of metrics.
fn scrape(port: u16) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("metrics");
    socket
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .expect("asked");
    let mut page = String::new();
    socket.read_to_string(&mut page).expect("answered");
    page
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

/// Revoked first and started afterwards: nobody gets in between.
#[test]
fn what_is_revoked_while_the_node_is_down_is_refused_from_its_start() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (mut west, east) = place.linked();
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    let (serial, own) = (east.serial(&link), west.serial("handfast-site-server"));
    west.stop();
    let revoked = revoke(&west, &format!("--identity {EAST}"));
    assert_eq!(revoked["certificates"][0]["serial"], serial.as_str(), "{revoked:#}");
    revoke(&west, &format!("--serial {own}"));
    let metrics = handfast_testkit::place::free_port();
    west.run_with(&["--metrics", &format!("127.0.0.1:{metrics}")]);
    west.start();
    faulty(&east, &link, "revoked");
    refused(&west, "revoked");
    assert!(knows(&west, &serial));
    until("its own is made anew", || west.serial("handfast-site-server") != own);
    // Not one handshake of it was accepted.
    let page = scrape(metrics);
    assert!(page.contains("\nhandfast_handshakes_accepted_total{} 0.0\n"), "{page}");
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
    let nothing = west.refused("cert revoke --name nobody --reason superseded --yes", 11);
    assert!(nothing["what"].as_str().is_some_and(|m| m.contains("nobody")), "{nothing:#}");
}

/// West and the sites that redeemed a token of it, all running; with the name of each one's link.
fn star(place: &Place, names: &[&str]) -> (Site, Vec<(Site, String)>) {
    let mut west = place.west();
    west.start();
    let spokes = names
        .iter()
        .map(|name| {
            let mut site = place.lone(name);
            site.start();
            let link = place.link(&west, &site);
            (site, link)
        })
        .collect();
    (west, spokes)
}

#[test]
fn every_site_of_a_star_learns_it_and_the_others_go_on() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (west, spokes) = star(&place, &["east", "north", "south", "centre"]);
    let echoes: Vec<Echo> = spokes.iter().map(|_| Echo::start("echo")).collect();
    let mut flows: Vec<Client> = spokes
        .iter()
        .zip(&echoes)
        .map(|((site, _), echo)| {
            let port = serve(echo, site, &west, &format!("echo-{}", site.name()));
            Client::connect(port).expect("a flow")
        })
        .collect();
    let (east, link) = &spokes[0];
    let serial = east.serial(link);

    let since = Instant::now();
    let revoked = revoke(&west, "--name east");
    let cut = cut_after(&mut flows[0], since);
    for (site, _) in &spokes {
        until(&format!("{} knows", site.name()), || knows(site, &serial));
    }
    println!(
        "five sites: cut after {} ms, known everywhere {} ms after the command (looked at one by one)",
        cut.as_millis(),
        since.elapsed().as_millis()
    );
    let told = revoked["sitesTold"].as_array().expect("a list").len();
    assert!(told >= 3, "{revoked:#}");
    faulty(east, link, "revoked");
    for (flow, (site, link)) in flows.iter_mut().zip(&spokes).skip(1) {
        flow.ask(5000).unwrap_or_else(|error| panic!("{}: {error}", site.name()));
        assert_eq!(site.link(link).expect("the link")["state"], "up");
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let done = std::process::Command::new("cp").arg("-a").args([from, to]).status();
    assert!(done.is_ok_and(|status| status.success()), "cp -a");
}

#[test]
fn a_hub_that_was_put_back_to_yesterday_hears_from_its_sites_what_it_revoked() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (mut west, mut spokes) = star(&place, &["east", "north"]);
    let (east, link) = (&spokes[0].0, spokes[0].1.clone());
    let serial = east.serial(&link);

    west.stop();
    let yesterday = place.path("yesterday");
    copy(west.home(), &yesterday);
    west.start();
    revoke(&west, &format!("--identity {EAST}"));
    until("north knows", || knows(&spokes[1].0, &serial));
    faulty(&spokes[0].0, &link, "revoked");
    // North is restarted: what it was told is on its disk.
    spokes[1].0.stop();
    west.stop();

    std::fs::remove_dir_all(west.home()).expect("removed");
    copy(&yesterday, west.home());
    west.start();
    assert!(!knows(&west, &serial), "yesterday it was not revoked");
    spokes[1].0.start();
    until("west knows again", || knows(&west, &serial));
    faulty(&spokes[0].0, &link, "revoked");
    // The enrolment is ended again as well: the token of then gets nothing any more.
    let log = west.log();
    assert!(log.contains("revocations were heard"), "{log}");
    let again = revoke(&west, &format!("--serial {serial}"));
    assert_eq!(again["certificates"][0]["already"], true, "{again:#}");
}

#[test]
fn a_list_that_somebody_else_signed_is_honoured_from_the_moment_it_is_there() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (west, east) = place.linked();
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    let serial: Serial = east.serial(&link).parse().expect("a serial");
    let ca = site_ca(&west);
    let mut builder = CrlBuilder::new();
    let validity = (now(), now() + Duration::from_secs(3600));
    let list = |der: Vec<u8>| Crl::from_der(der).expect("a list").to_pem();
    let full = list(builder.full(1, validity, &[], &ca).expect("made"));
    builder.set_base(1);
    let entry = RevokedEntry { serial, at: now(), reason: RevocationReason::KeyCompromise };
    builder.push(&entry, None);
    let delta = builder.delta(2, validity, &ca).expect("made").expect("there is a base");

    // As in a mounted Secret: one rename switches all files.
    let directory = west.path("input/certs/handfast-site-server");
    let pem = server_credential(&west, &ca).to_pem();
    let version = |number: u32, lists: &str| {
        let name = format!("..version_{number}");
        let inner = directory.join(&name);
        std::fs::create_dir_all(&inner).expect("a directory");
        std::fs::write(inner.join("tls.crt"), &pem.tls_crt).expect("a file");
        std::fs::write(inner.join("tls.key"), pem.tls_key.as_bytes()).expect("a file");
        std::fs::write(inner.join("ca.crt"), &pem.ca_crt).expect("a file");
        std::fs::write(inner.join("crl.pem"), lists).expect("a file");
        symlink(&name, directory.join("..data_tmp")).expect("a link");
        std::fs::rename(directory.join("..data_tmp"), directory.join("..data")).expect("swapped");
    };
    version(1, &full);
    for file in ["tls.crt", "tls.key", "ca.crt", "crl.pem"] {
        symlink(format!("..data/{file}"), directory.join(file)).expect("a link");
    }
    until("the supplied certificate is in use, and its list in force", || {
        west.log().contains("a revocation list is in force")
    });
    let echo = Echo::start("echo");
    let port = serve(&echo, &east, &west, "echo");
    let mut flow = eventually("a flow", || Client::connect(port).ok());

    let since = Instant::now();
    version(2, &format!("{full}{}", list(delta)));
    let took = cut_after(&mut flow, since);
    println!("cut {} ms after the list was swapped", took.as_millis());
    faulty(&east, &link, "revoked");
    refused(&west, "revoked");
    // Yesterday's list, put back: the newest number counts. No problem hides behind that.
    version(3, &full);
    version(4, "nonsense");
    until("a file that is no list is named", || {
        west.status()["problems"].to_string().contains("crl.pem")
    });
    faulty(&east, &link, "revoked");
}

fn site_ca(site: &Site) -> Issuer {
    let read = |name: &str| {
        std::fs::read(site.path(&format!("runtime/issuers/handfast-site-ca/{name}")))
            .expect("readable")
    };
    let anchors = TrustAnchors::from_pem(&read("ca.crt")).expect("anchors");
    let key = PrivateKey::from_pem(&read("tls.key"), None).expect("the CA's key");
    let chain = Chain::from_pem(&read("tls.crt")).expect("the CA's chain");
    Issuer::from_parts(chain, key, anchors).expect("a CA")
}

fn server_credential(site: &Site, ca: &Issuer) -> Credential {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
    let identity = format!("spiffe://demo.example/site/{}", site.name());
    let subject = Subject::new(site.name())
        .with_identity(identity.parse().expect("an identity"))
        .with_hosts(["127.0.0.1".parse().expect("a host")]);
    let request = IssueRequest::new(Profile::SiteServer, subject, key.spki_der());
    let leaf = ca.issue(&request, now(), &mut SystemEntropy).expect("a leaf");
    Credential::new(ca.chain_for(leaf), key, ca.anchors().clone()).expect("a credential")
}
