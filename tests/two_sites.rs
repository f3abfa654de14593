//! Two sites joined by hand, command by command, as the README tells it: real processes, real files,
//! and what is changed while they run.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::symlink;

use handfast_pki::{
    Chain, Credential, IssueRequest, Issuer, KeyAlgorithm, PrivateKey, Profile, Subject,
    SystemEntropy, TrustAnchors,
};
use handfast_testkit::eventually::{eventually, now, until};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use handfast_testkit::traffic::{Client, Echo, visit};
use jiff::Timestamp;
use serde_json::Value;

fn place() -> Place {
    Place::new(env!("CARGO_BIN_EXE_handfast"))
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn command_by_command_two_sites_are_linked_and_carry_traffic() {
    let place = place();
    let home = |name: &str| place.path(name).display().to_string();
    let (link_port, grant_port) = (free_port(), free_port());

    // `--home` stands before or after the verb.
    let created = place
        .run(&format!(
            "site create west --trust-domain demo.example --enable-link-access --link-host 127.0.0.1 \
             --link-port {link_port} --grant-port {grant_port} --home {} -o json",
            home("west")
        ))
        .ok()
        .json();
    assert_eq!((&created["site"], &created["nodeRunning"]), (&"west".into(), &false.into()));
    let created =
        place.run(&format!("-o json --home {} site create east", home("east"))).ok().json();
    assert_eq!(created["trustDomain"], Value::Null);

    let (mut west, mut east) = (place.site("west"), place.site("east"));
    for site in [&west, &east] {
        let error = site.refused("status", 4);
        assert_eq!((&error["error"], &error["exit"]), (&"no-node".into(), &4.into()));
        assert!(error["remedy"].as_str().expect("a remedy").contains("handfast run"), "{error}");
    }
    west.start();
    east.start();
    let status = place.run(&format!("status --home {} -o json", home("west"))).ok().json();
    assert_eq!(
        (&status["site"], &status["state"]),
        (&"west".into(), &"ready".into()),
        "{status:#}"
    );
    assert_eq!(status["trustDomain"], "demo.example");
    assert_eq!(status["pid"], west.pid());

    let token = place.path("west.token");
    let issued = west.json(&format!(
        "token issue {} --redemptions-allowed 2 --expiration-window 10m --cost 3",
        token.display()
    ));
    assert_eq!((&issued["redemptionsAllowed"], &issued["linkCost"]), (&2.into(), &3.into()));
    let expires: Timestamp =
        issued["expirationTime"].as_str().expect("a time").parse().expect("a time");
    let left = expires.duration_since(now()).as_secs();
    assert!((1..=600).contains(&left), "{left} s are left of ten minutes");

    let redeemed = east.json(&format!("token redeem {} --timeout 60s", token.display()));
    assert_eq!(redeemed["identity"], "spiffe://demo.example/site/east");
    assert_eq!((&redeemed["remoteSite"], &redeemed["state"]), (&"west".into(), &"up".into()));
    let link_name = redeemed["links"][0].as_str().expect("a link");

    let link = east.link(link_name).expect("the link");
    assert_eq!((&link["direction"], &link["cost"]), (&"outgoing".into(), &3.into()), "{link:#}");
    assert_eq!(link["endpoint"], format!("127.0.0.1:{link_port}"));
    assert_eq!(link["session"]["version"], "TLSv1.3");
    assert_eq!(link["session"]["group"], "X25519MLKEM768");
    assert_eq!(link["session"]["alpn"], "handfast-link/1");
    assert_eq!(link["session"]["resumed"], false);
    assert_eq!(link["peer"]["identity"], "spiffe://demo.example/site/west");
    assert_eq!(link["peer"]["serial"], west.serial("handfast-site-server"));
    let back = west.link_up("east");
    assert_eq!(back["direction"], "incoming");
    assert_eq!(back["peer"]["serial"], east.serial(link_name));

    let service = Echo::start("payments");
    let connector = west.json(&format!(
        "connector create payments {} --host 127.0.0.1 --routing-key pay",
        service.port()
    ));
    assert_eq!(connector["status"]["routingKey"], "pay", "{connector:#}");
    let port = free_port();
    let listener =
        east.json(&format!("listener create payments {port} --host 127.0.0.1 --routing-key pay"));
    assert_eq!(listener["nodeRunning"], true, "{listener:#}");
    until("traffic goes through", || visit(port).is_ok_and(|name| name == "payments"));
    let mut client = Client::connect(port).expect("a connection");
    client.ask(3_000_000).expect("three megabytes there and back");
    client.end().expect("half-close, answered by half-close");

    let status = eventually("the bytes are counted", || {
        let status = east.status();
        (status["listeners"][0]["bytesIn"].as_u64()? >= 3_000_000).then_some(status)
    });
    assert_eq!(status["listeners"][0]["state"], "ready", "{status:#}");
    assert!(east.link(link_name).expect("the link")["bytesOut"].as_u64() >= Some(3_000_000));

    for site in [&west, &east] {
        let list = site.json("cert list");
        let fields = BTreeSet::from([
            "name",
            "identity",
            "serial",
            "issuer",
            "notBefore",
            "notAfter",
            "renewAt",
            "source",
            "state",
            "failures",
            "lastError",
            "key",
        ]);
        for credential in list.as_array().expect("a list") {
            assert_eq!(keys(credential), fields, "{credential:#}");
            assert_eq!(
                (&credential["source"], &credential["state"]),
                (&"managed".into(), &"valid".into())
            );
            let time = |field: &str| credential[field].as_str().expect("text").parse::<Timestamp>();
            let (begin, renewed, end) = (time("notBefore"), time("renewAt"), time("notAfter"));
            assert!(begin.expect("a time") < renewed.clone().expect("a time"), "{credential:#}");
            assert!(renewed.expect("a time") < end.expect("a time"), "{credential:#}");
        }
    }
    let shown = east.json(&format!("cert show {link_name}"));
    assert!(shown.to_string().contains("spiffe://demo.example/site/east"), "{shown:#}");
    east.json(&format!("cert verify {link_name}"));

    for (site, line, code) in [
        (&east, "listener delete payments", 0),
        (&west, "connector delete payments", 0),
        (&east, "listener delete payments", 11),
    ] {
        site.run(&format!("{line} -o json")).exits(code);
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a deleted listener gives its port back");

    west.stop();
    let status = place.run(&format!("--home {} status -o json", home("west")));
    assert_eq!(status.exits(4).error()["error"], "no-node");
    east.stop();
}

#[test]
fn every_command_shows_an_example_and_knows_where_it_is_typed() {
    let place = place();
    for verb in [
        "site create",
        "run",
        "token issue",
        "token redeem",
        "link status",
        "connector create",
        "listener create",
        "status",
        "cert list",
        "cert show",
        "cert verify",
        "cert renew",
    ] {
        let help = place.run(&format!("{verb} --help")).ok().stdout;
        assert!(
            help.contains("Example") && help.contains(&format!("handfast {verb}")),
            "{verb}: {help}"
        );
        assert!(help.contains("--home") && help.contains("--output"), "{verb}: {help}");
    }
}

#[test]
fn files_changed_while_the_node_runs_take_effect_and_leave_open_flows_alone() {
    let place = place();
    let (west, east) = place.linked();
    let (first, second) = (Echo::start("first"), Echo::start("second"));
    let connector = |port: u16| {
        format!(
            "apiVersion: skupper.io/v2alpha1\nkind: Connector\nmetadata:\n  name: shop\nspec:\n  \
             routingKey: shop\n  host: 127.0.0.1\n  port: {port}\n"
        )
    };
    let listener = |port: u16| {
        format!(
            "apiVersion: handfast.dev/v1alpha1\nkind: Listener\nmetadata:\n  name: shop\nspec:\n  \
             routingKey: shop\n  host: 127.0.0.1\n  port: {port}\n"
        )
    };
    let (port, other) = (free_port(), free_port());
    west.declare("shop.yaml", &connector(first.port()));
    east.declare("shop.yaml", &listener(port));
    until("files alone make a service reachable", || visit(port).is_ok_and(|name| name == "first"));
    let mut kept = Client::connect(port).expect("a connection");

    // Edited in place.
    west.declare("shop.yaml", &connector(second.port()));
    until("new flows go where the edited file says", || {
        visit(port).is_ok_and(|name| name == "second")
    });
    kept.ask(1000).expect("a flow that is open goes on");
    assert_eq!(kept.service, "first");

    // Replaced by a rename, as editors do, with another port.
    let draft = east.path("input/resources/.shop.yaml.swp");
    fs::write(&draft, listener(other)).expect("a draft");
    fs::rename(&draft, east.path("input/resources/shop.yaml")).expect("renamed");
    until("the listener moves to its new port", || visit(other).is_ok_and(|name| name == "second"));
    until("the old port is closed", || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    kept.ask(1000).expect("a flow that is open outlives the port it came by");

    // Removed.
    fs::remove_file(east.path("input/resources/shop.yaml")).expect("removed");
    until("the port is given back", || TcpListener::bind((Ipv4Addr::LOCALHOST, other)).is_ok());
    kept.ask(1000).expect("a flow that is open outlives its listener");
    kept.end().expect("an orderly end");
    assert_eq!(east.status()["problems"], Value::Array(Vec::new()));
}

/// A server certificate for 127.0.0.1 that `site`'s own CA signed, with a key made here.
fn supplied(site: &Site) -> Credential {
    let read = |name: &str| {
        fs::read(site.path(&format!("runtime/issuers/handfast-site-ca/{name}"))).expect("readable")
    };
    let anchors = TrustAnchors::from_pem(&read("ca.crt")).expect("anchors");
    let key = PrivateKey::from_pem(&read("tls.key"), None).expect("the CA's key");
    let chain = Chain::from_pem(&read("tls.crt")).expect("the CA's chain");
    let issuer = Issuer::from_parts(chain, key, anchors.clone()).expect("a CA");
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
    let subject = Subject::new(site.name())
        .with_identity(
            format!("spiffe://demo.example/site/{}", site.name()).parse().expect("an identity"),
        )
        .with_hosts(["127.0.0.1".parse().expect("a host")]);
    let request = IssueRequest::new(Profile::SiteServer, subject, key.spki_der());
    let leaf = issuer.issue(&request, now(), &mut SystemEntropy).expect("a leaf");
    Credential::new(issuer.chain_for(leaf), key, anchors).expect("a credential")
}

#[test]
fn a_supplied_credential_is_taken_up_live_and_so_is_a_symlink_swap() {
    let place = place();
    let (west, east) = place.linked();
    let managed = west.serial("handfast-site-server");
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    let service = Echo::start("shop");
    let port = free_port();
    west.json(&format!("connector create shop {} --host 127.0.0.1", service.port()));
    east.json(&format!("listener create shop {port} --host 127.0.0.1"));
    let mut kept = eventually("traffic goes through", || Client::connect(port).ok());

    let own = east.path(&format!("runtime/certs/{link}")).display().to_string();
    let look = format!(
        "cert verify 127.0.0.1:{} --ca {own}/ca.crt --cert {own}/tls.crt --key {own}/tls.key \
         --alpn handfast-link/1 -o json",
        west.link_port()
    );

    // A mounted Kubernetes Secret: the files lead through `..data`, and one rename switches them all.
    let directory = west.path("input/certs/handfast-site-server");
    let version = |number: u32| -> String {
        let credential = supplied(&west);
        let pem = credential.to_pem();
        let name = format!("..version_{number}");
        let inner = directory.join(&name);
        fs::create_dir_all(&inner).expect("a directory");
        fs::write(inner.join("tls.crt"), &pem.tls_crt).expect("a file");
        fs::write(inner.join("tls.key"), pem.tls_key.as_bytes()).expect("a file");
        fs::write(inner.join("ca.crt"), &pem.ca_crt).expect("a file");
        symlink(&name, directory.join("..data_tmp")).expect("a link");
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).expect("swapped");
        credential.leaf().serial().to_string()
    };
    let first = version(1);
    for file in ["tls.crt", "tls.key", "ca.crt"] {
        symlink(format!("..data/{file}"), directory.join(file)).expect("a link");
    }
    for step in ["supplied", "swapped"] {
        let serial = if step == "supplied" { first.clone() } else { version(2) };
        let credential = eventually(&format!("the {step} certificate is current"), || {
            west.credential("handfast-site-server").filter(|one| one["serial"] == serial)
        });
        assert_eq!(credential["source"], "supplied");
        until("a new handshake at the link port meets it", || {
            let found = east.run(&look).json();
            found["ok"] == true && found["peer"]["serial"] == serial
        });
        assert_eq!(east.link(&link).expect("the link")["state"], "up");
        kept.ask(5000).expect("an open flow is not disturbed");
    }
    assert!(!directory.join("..rev-1").exists(), "nothing is written below input/");

    fs::remove_dir_all(&directory).expect("removed");
    let back = eventually("the managed certificate is used again", || {
        west.credential("handfast-site-server").filter(|one| one["source"] == "managed")
    });
    assert_eq!(back["serial"], managed);
    kept.ask(5000).expect("an open flow is not disturbed");
    kept.end().expect("an orderly end");
}
