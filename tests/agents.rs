//! Agents of a real node: enrolled by a token, renewed at the grant port by the certificate in hand, ended by revocation; and
//! every way to get more out of it than was meant.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use handfast_pki::{Certificate, Chain};
use handfast_testkit::eventually::eventually;
use handfast_testkit::place::Place;
use handfast_testkit::site::Site;
use serde_json::Value;

fn place() -> Place {
    Place::new(env!("CARGO_BIN_EXE_handfast"))
}

/// `west`, running, with leaves that live this long.
fn west(place: &Place, leaf_ttl: &str) -> Site {
    let mut west = place.west();
    let resource = std::fs::read_dir(west.path("input/resources"))
        .expect("resources")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| std::fs::read_to_string(path).expect("a file").contains("kind: Site\n"));
    let resource = resource.expect("the site's resource");
    let text = std::fs::read_to_string(&resource).expect("a file");
    let text = if text.contains("settings:") {
        text.replacen("settings:", &format!("settings:\n    leaf-ttl: {leaf_ttl}"), 1)
    } else {
        text.replacen("spec:", &format!("spec:\n  settings:\n    leaf-ttl: {leaf_ttl}"), 1)
    };
    std::fs::write(resource, text).expect("a file");
    west.start();
    west
}

fn leaf(directory: &Path) -> Certificate {
    let text = std::fs::read(directory.join("tls.crt")).expect("a certificate");
    Chain::from_pem(&text).expect("a chain").leaf().clone()
}

fn enrol(place: &Place, arguments: &str) -> Value {
    place.run(&format!("enrol {arguments} -o json")).ok().json()
}

#[test]
fn an_agent_enrols_by_token_and_stays_fresh_without_it() {
    let place = place();
    let west = west(&place, "30s");
    let token = west.path("../shop.token").display().to_string();
    let issued = west.json(&format!("token issue {token} --agent shop"));
    assert_eq!(issued["agent"], "shop");
    let done = enrol(&place, &format!("shop --token {token}"));
    assert_eq!(
        (&done["done"], &done["identity"]),
        (&"enrolled".into(), &"spiffe://demo.example/agent/shop".into())
    );
    let directory = place.path("shop");
    let first = leaf(&directory);
    let key = std::fs::metadata(directory.join("tls.key")).expect("a key");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);
    place.run("cert verify shop/tls.crt --ca shop/ca.crt --key shop/tls.key --purpose client").ok();

    // Once more: nothing is due. The token is spent, and not needed any more.
    assert_eq!(enrol(&place, &format!("shop --token {token}"))["done"], "nothing");
    std::fs::remove_file(&token).expect("the token");
    let _keeper = Keeper::start(&place, "enrol shop --keep");
    let renewed = eventually("the certificate is renewed", || {
        let leaf = leaf(&directory);
        (leaf.serial() != first.serial()).then_some(leaf)
    });
    assert_ne!(renewed.spki_der(), first.spki_der(), "a new key each time");
    assert_eq!(renewed.uris(), first.uris());
    // The audit log has both.
    let log = west.run("audit list").ok().stdout;
    assert!(log.contains("grant.redeem") && log.contains("certificate.renew"), "{log}");
}

#[test]
fn a_token_is_for_agents_or_for_sites_and_is_used_once() {
    let place = place();
    let west = west(&place, "1h");
    let token = |name: &str| west.path(&format!("../{name}")).display().to_string();
    let (shop, link) = (token("shop.token"), token("link.token"));
    let said = west.run(&format!("token issue {shop} --agent shop")).ok().stdout;
    for words in ["handfast enrol DIR --token shop.token", "--tls-credentials NAME"] {
        assert!(said.contains(words), "{said}");
    }
    west.json(&format!("token issue {link}"));

    // Each at the wrong door.
    let east = place.site("east");
    east.run("site create east").ok();
    let refused = east.refused(&format!("token redeem {shop}"), 3);
    assert!(refused.to_string().contains("agents of service shop"), "{refused}");
    // Made to look like one for links, the site that gave it is not fooled.
    let forged = std::fs::read_to_string(&shop).expect("a token");
    let cut: Vec<&str> = forged
        .lines()
        .filter(|line| !line.contains("settings:") && !line.trim_start().starts_with("agent:"))
        .collect();
    place.write("forged.token", cut.join("\n"));
    let refused = east.refused(&format!("token redeem {}", token("forged.token")), 5);
    assert!(refused.to_string().contains("links no site"), "{refused}");
    let ran = place.run(&format!("enrol a --token {link}"));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("--agent"), "{ran:?}");
    let text = std::fs::read_to_string(&link).expect("a token");
    place.write("agent.token", format!("{}\n  settings:\n    agent: shop\n", text.trim_end()));
    let ran = place.run("enrol a --token agent.token");
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.contains("links sites"), "{ran:?}");
    // Another service than it was made for.
    place.write("cart.token", forged.replace("agent: shop", "agent: cart"));
    let ran = place.run("enrol a --token cart.token");
    assert_eq!(ran.code, 5, "{ran:?}");

    // None of it used anything up; the second use does not work.
    enrol(&place, &format!("a --token {shop}"));
    let ran = place.run(&format!("enrol b --token {shop}"));
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.contains("as often as it may be"), "{ran:?}");
    // Killed before the answer came: the same key, and the same answer.
    assert_eq!(place.run("enrol c").code, 3);
}

#[test]
fn a_revoked_agent_renews_no_more_and_comes_back_by_a_new_token() {
    let place = place();
    let west = west(&place, "20s");
    let token = west.path("../shop.token").display().to_string();
    west.json(&format!("token issue {token} --agent shop"));
    enrol(&place, &format!("shop --token {token}"));
    let directory = place.path("shop");
    let first = leaf(&directory);
    west.json("cert revoke --identity spiffe://demo.example/agent/shop --reason key-compromise");

    let again = west.path("../again.token").display().to_string();
    let _keeper = Keeper::start(&place, &format!("enrol shop --keep --token {again}"));
    eventually("the node refuses the revoked certificate", || {
        west.log().contains("revoked: the peer's certificate was revoked").then_some(())
    });
    assert_eq!(leaf(&directory).serial(), first.serial());
    west.json(&format!("token issue {again} --agent shop"));
    let second = eventually("the agent enrols anew", || {
        let leaf = leaf(&directory);
        (leaf.serial() != first.serial()).then_some(leaf)
    });
    assert_ne!(second.spki_der(), first.spki_der());
}

/// A command that runs until the value goes away.
struct Keeper(Child);

impl Keeper {
    fn start(place: &Place, line: &str) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command: Command = place.command(&words);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(child.spawn().expect("the command starts"))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
