//! Agents of a real node: enrolled by a token, renewed at the grant port by the certificate in hand, ended by revocation; told of
//! rotations, which wait for them; and every way to get more out of it than was meant.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use handfast_pki::{Certificate, Chain, Credential};
use handfast_testkit::eventually::{eventually, now, until, within};
use handfast_testkit::files::of_one_moment;
use handfast_testkit::place::{Place, free_port};
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

/// The agent of service `shop`, by a token of `west`; its credential is in the directory `shop`.
fn enrol_shop(place: &Place, west: &Site) {
    let token = west.path("../shop.token").display().to_string();
    west.json(&format!("token issue {token} --agent shop"));
    enrol(place, &format!("shop --token {token}"));
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
    assert_eq!(ran.code, 3, "{ran:?}");
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
    // It hears of it long before it would renew by its life.
    let west = west(&place, "24h");
    enrol_shop(&place, &west);
    let directory = place.path("shop");
    let first = leaf(&directory);
    west.json("cert revoke --identity spiffe://demo.example/agent/shop --reason key-compromise");

    let again = west.path("../again.token").display().to_string();
    let _keeper =
        Keeper::start(&place, &format!("enrol shop --keep --ask-every 1s --token {again}"));
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

/// Starts a command and kills it so long after.
fn killed(place: &Place, line: &str, after: Duration) {
    let started = Instant::now();
    let keeper = Keeper::start(place, line);
    std::thread::sleep(after.saturating_sub(started.elapsed()));
    drop(keeper);
}

/// What lies in the directory: nothing, or a credential whose certificate, key and CA belong together.
fn whole(directory: &Path) -> Option<Credential> {
    let files = of_one_moment(directory, ["tls.crt", "tls.key", "ca.crt"]);
    let [Some(chain), Some(key), Some(ca)] = files else {
        let there = files.map(|file| file.is_some());
        assert_eq!(there, [false; 3], "certificate, key and CA: one is there, and another is not");
        return None;
    };
    let pem = |bytes: Vec<u8>| String::from_utf8(bytes).expect("PEM");
    let (chain, key, ca) = (pem(chain), pem(key), pem(ca));
    let credential = Credential::from_pem(chain.as_bytes(), key.as_bytes(), ca.as_bytes(), None);
    Some(credential.expect("files that belong together"))
}

/// How often a command is killed.
const KILLS: u32 = 8;

/// When to kill a command next: later than one that was not done, earlier than one that was. So it comes near to its end
/// from both sides, however much faster or slower the machine has become since it was measured.
struct Moment {
    after: Duration,
    step: Duration,
}

impl Moment {
    fn of(took: Duration) -> Self {
        Self { after: took / 2, step: took / KILLS }
    }

    fn learn(&mut self, done: bool) {
        self.after = if done { self.after / 2 } else { self.after + self.step };
    }
}

#[test]
fn an_enrolment_that_is_killed_is_finished_by_the_same_command_and_uses_the_token_once() {
    let place = place();
    let west = west(&place, "1h");
    let token = |number: u32| {
        let file = west.path(&format!("../{number}.token")).display().to_string();
        west.json(&format!("token issue {file} --agent shop"));
        file
    };
    let first = token(0);
    let begin = Instant::now();
    enrol(&place, &format!("0 --token {first}"));
    let mut moment = Moment::of(begin.elapsed());
    let mut unfinished = 0;
    for number in 1..=KILLS {
        let (directory, file) = (number.to_string(), token(number));
        let line = format!("enrol {directory} --token {file}");
        killed(&place, &line, moment.after);
        let left = whole(&place.path(&directory));
        unfinished += u32::from(left.is_none());
        moment.learn(left.is_some());
        place.run(&line).ok();
        let held = whole(&place.path(&directory)).expect("it is enrolled");
        if let Some(left) = left {
            assert_eq!(left.leaf().serial(), held.leaf().serial(), "what was there is kept");
        }
        // Elsewhere there is another key, and the token is spent.
        if number % 4 == 0 {
            let ran = place.run(&format!("enrol other-{number} --token {file}")).exits(5);
            assert!(ran.stderr.contains("type the same command once more"), "{ran:?}");
        }
    }
    assert!(unfinished > 0, "none of {KILLS} was killed before its end");
    let log = west.json("audit list --action grant.redeem --limit 1000");
    let served = log.as_array().expect("rows").iter().filter(|row| row["outcome"] == "ok");
    assert_eq!(served.count(), usize::try_from(KILLS + 1).expect("small"), "{log:#}");
}

#[test]
fn a_renewal_that_is_killed_leaves_the_old_credential_or_the_new_one() {
    let place = place();
    let west = west(&place, "60s");
    let token = west.path("../shop.token").display().to_string();
    west.json(&format!("token issue {token} --agent shop --redemptions-allowed {KILLS}"));
    let directories: Vec<String> = (1..=KILLS).map(|number| number.to_string()).collect();
    for directory in &directories {
        enrol(&place, &format!("{directory} --token {token}"));
    }
    std::fs::remove_file(&token).expect("the token");
    let before: Vec<Credential> =
        directories.iter().map(|one| whole(&place.path(one)).expect("enrolled")).collect();
    // They are renewed at two thirds of their 60 seconds, some a little later.
    let end = before.last().expect("some").leaf().not_after();
    let due = end - Duration::from_secs(15);
    within(Duration::from_secs(70), "all of them are due", || (now() > due).then_some(()));
    let (mut old, mut new) = (0, 0);
    let begin = Instant::now();
    place.run(&format!("enrol {}", directories[0])).ok();
    let mut moment = Moment::of(begin.elapsed());
    for (directory, before) in directories.iter().zip(&before).skip(1) {
        let line = format!("enrol {directory}");
        killed(&place, &line, moment.after);
        let left = whole(&place.path(directory)).expect("one of the two");
        let same = left.leaf().serial() == before.leaf().serial();
        (old, new) = (old + u32::from(same), new + u32::from(!same));
        moment.learn(!same);
        place.run(&line).ok();
        let held = whole(&place.path(directory)).expect("renewed");
        assert_ne!(held.leaf().serial(), before.leaf().serial(), "it is renewed");
    }
    assert!(old > 0, "{old} of them were left with the old one, {new} with the new one");
}

#[test]
fn an_agent_goes_along_when_the_service_ca_and_the_root_get_new_keys() {
    let place = place();
    let west = west(&place, "20s");
    enrol_shop(&place, &west);
    std::fs::remove_file(west.path("../shop.token")).expect("the token");
    let directory = place.path("shop");
    let _keeper = Keeper::start(&place, "enrol shop --keep");
    for authority in ["service", "root"] {
        let before = whole(&directory).expect("a credential");
        west.run(&format!("ca rotate {authority} --wait --timeout 55s")).ok();
        // What it showed led over the key that was replaced. A root waits for agents before the old key goes.
        let after = eventually("it is renewed under the new key", || {
            let held = whole(&directory)?;
            (held.chain().rest() != before.chain().rest()).then_some(held)
        });
        assert_eq!(after.leaf().uris(), before.leaf().uris());
        // The next one too, by what it has now.
        eventually("it is renewed once more", || {
            (whole(&directory)?.leaf().serial() != after.leaf().serial()).then_some(())
        });
    }
}

/// How the rotation of the root ended, as it was told to whoever waited for it.
#[track_caller]
fn rotated(west: &Site, line: &str) -> Value {
    let done = west.json(&format!("{line} --wait --timeout 90s"));
    assert_eq!(done["rotation"]["phase"], "revoked", "{done:#}");
    done
}

#[test]
fn agents_and_relays_hear_of_a_rotation_by_themselves_and_of_one_by_force_too() {
    let place = place();
    // None of them renews by its life while this test runs.
    let west = west(&place, "24h");
    let mut keepers = Vec::new();
    let (grpc, http) = (free_port(), free_port());
    for (service, line) in [
        ("shop", "enrol shop --keep --ask-every 1s".to_owned()),
        ("cart", "enrol cart --keep --ask-every 1s".to_owned()),
        (
            "relay",
            format!(
                "relay run --backend 127.0.0.1:1 --listen 127.0.0.1:{grpc} --http 127.0.0.1:{http} \
                 --data spool --enrol-dir relay --ask-every 1s"
            ),
        ),
    ] {
        let token = west.path(&format!("../{service}.token")).display().to_string();
        west.json(&format!("token issue {token} --agent {service}"));
        enrol(&place, &format!("{service} --token {token}"));
        keepers.push(Keeper::start(&place, &line));
    }
    let held = || {
        ["shop", "cart", "relay"].map(|service| {
            whole(&place.path(service)).unwrap_or_else(|| panic!("{service} has a credential"))
        })
    };
    // A rotation is over when all were given what they need; they put it to use a moment later.
    let moved = |before: &[Credential; 3], what: &str| {
        until(what, || {
            let after = held();
            let mut pairs = before.iter().zip(&after);
            pairs.all(|(before, after)| after.chain().rest() != before.chain().rest())
        });
    };
    let first = held();
    // It waits for all of them, and nobody types anything on their machines.
    rotated(&west, "ca rotate root");
    moved(&first, "they are under the new root");
    for (before, after) in first.iter().zip(&held()) {
        assert_eq!(after.leaf().uris(), before.leaf().uris());
    }

    // By force nobody vouches for the new root with the old one: they learn it before it signs, or never. What asked is
    // waited for, and goes on until it trusts the new root alone.
    for authority in ["root", "service"] {
        let before = held();
        let done = rotated(&west, &format!("ca rotate {authority} --forced --reason stolen"));
        assert_eq!(done["rotation"]["cause"], "forced", "{done:#}");
        moved(&before, "they are under the new key");
        until("the old root is trusted no more", || {
            held().iter().all(|held| held.anchors().iter().count() == 1)
        });
    }
    // None of them was ever refused, and all renew as before.
    let log = west.log();
    for refusal in ["refused at the grant port", "a renewal was refused"] {
        assert!(!log.contains(refusal), "{log}");
    }
}

#[test]
fn whoever_waits_for_a_rotation_waits_as_long_as_agents_take_to_ask() {
    let place = place();
    let west = west(&place, "24h");
    // Enrolled, and asking next when this test is over.
    enrol_shop(&place, &west);
    let said = place.path("said");
    let home = west.home().display().to_string();
    let mut waits = place
        .command(&["--home", &home, "ca", "rotate", "root", "--wait"])
        .stdout(std::fs::File::create(&said).expect("a file"))
        .spawn()
        .expect("the command starts");
    until("it says for whom it waits, and how long that may take", || {
        let said = std::fs::read_to_string(&said).expect("a file");
        said.contains("waits for agents shop") && said.contains("up to 40 min")
    });
    let status = west.json("ca status root");
    let rotation = &status[0]["rotation"];
    assert_eq!(
        (&rotation["phase"], &rotation["mayTakeSeconds"]),
        (&"draining".into(), &2400.into())
    );
    assert!(waits.try_wait().expect("a process").is_none(), "it waits on");
    west.run("ca rotate root --proceed-without-laggards --reason scrapped").ok();
    let ended = eventually("it has seen the end", || waits.try_wait().expect("a process"));
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn an_agent_that_gets_no_answer_keeps_to_its_own_time_and_says_so_once() {
    let place = place();
    let mut west = west(&place, "45s");
    enrol_shop(&place, &west);
    let directory = place.path("shop");
    let first = leaf(&directory);
    let said = place.path("said");
    let log = std::fs::File::create(&said).expect("a file");
    west.stop();
    let _keeper = Keeper::telling(&place, "enrol shop --keep --ask-every 1s", log);
    let text = || std::fs::read_to_string(&said).expect("text");
    until("it is said", || text().contains("not told when to renew"));
    west.start();
    until("it is renewed", || leaf(&directory).serial() != first.serial());
    let text = text();
    assert_eq!(text.matches("not told when to renew").count(), 1, "{text}");
}

/// A command that runs until the value goes away.
struct Keeper(Child);

impl Keeper {
    fn start(place: &Place, line: &str) -> Self {
        Self::telling(place, line, Stdio::null())
    }

    /// With its log in a file, say.
    fn telling(place: &Place, line: &str, log: impl Into<Stdio>) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command: Command = place.command(&words);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
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
