//! kill -9, again and again, at random moments, on both nodes and on the commands, while tokens are
//! redeemed and certificates renewed. What was accepted stays, nothing happens twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use handfast_pki::{Certificate, Credential};
use handfast_store::{IssuedFilter, Ledger, SqliteLedger};
use handfast_testkit::eventually::{eventually, now, until};
use handfast_testkit::files::of_one_moment;
use handfast_testkit::place::{Place, Ran, free_port};
use handfast_testkit::site::Site;
use handfast_testkit::traffic::{Echo, visit};

/// Rounds of killing; each takes a second or two.
const ROUNDS: u32 = 16;

/// Where the dice come from: printed with a failure, so that a run can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// A command that runs beside the test.
struct Typed(Child);

impl Typed {
    fn start(place: &Place, site: &Site, line: &str) -> Self {
        let home = site.home().display().to_string();
        let mut words = vec!["--home", &home, "-o", "json"];
        words.extend(line.split_whitespace());
        let mut command = place.command(&words);
        Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("it starts"),
        )
    }

    fn kill(mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }

    fn ended(self, line: &str) -> Ran {
        Ran::from_output(&self.0.wait_with_output().expect("output"), line)
    }
}

/// A token, who is to redeem it, and how often it may be.
struct Given {
    file: PathBuf,
    redeemer: String,
}

fn issue(place: &Place, west: &Site, round: u32, site: &str) -> Given {
    let file = place.path(&format!("round-{round}.token"));
    // Asked again until it is there: west may just have been killed.
    eventually("a token", || {
        drop(fs::remove_file(&file));
        (west.run(&format!("token issue {} --site {site}", file.display())).code == 0).then_some(())
    });
    Given { file, redeemer: site.to_owned() }
}

#[test]
fn killed_at_any_moment_nothing_is_lost_and_nothing_happens_twice() {
    let seed = std::env::var("HANDFAST_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()) ^ now().as_millisecond().cast_unsigned());
    let mut dice = Dice(seed);
    let note = format!("HANDFAST_SEED={seed}");
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (mut west, mut east) = place.linked();
    let mut visitors: BTreeMap<String, Site> = BTreeMap::new();
    let mut given = Vec::new();

    for round in 0..ROUNDS {
        // East redeems with its node; a visitor has none, and its command does all the work.
        let redeemer = if round % 2 == 0 { "east".to_owned() } else { format!("visitor-{round}") };
        if redeemer != "east" {
            visitors.insert(redeemer.clone(), place.lone(&redeemer));
        }
        let token = issue(&place, &west, round, &redeemer);
        let line = format!("token redeem {} --timeout 1s", token.file.display());
        let site = visitors.get(&redeemer).unwrap_or(&east);
        let redeeming = Typed::start(&place, site, &line);
        let renewing = Typed::start(
            &place,
            if dice.below(2) == 0 { &west } else { &east },
            "cert renew --all",
        );

        std::thread::sleep(Duration::from_millis(dice.below(350)));
        let whom = dice.below(3);
        if whom != 0 {
            west.kill();
        }
        if whom != 1 {
            east.kill();
        }
        if dice.below(2) == 0 {
            redeeming.kill();
        } else {
            drop(redeeming.ended(&line));
        }
        renewing.kill();
        for node in [&mut west, &mut east] {
            if !node.runs() {
                node.kill();
                node.start();
            }
        }
        given.push(token);
        // Whatever was interrupted is done by doing it again.
        let token = given.last().expect("just pushed");
        let site = visitors.get(&token.redeemer).unwrap_or(&east);
        let name = grant_name(token);
        eventually(
            &format!("{note}: round {round}: the token of {} is redeemed", token.redeemer),
            || {
                if has_credential(site, &name) {
                    return Some(());
                }
                let ran = site.run(&format!("{line} -o json"));
                assert!(
                    ran.code != 5 || has_credential(site, &name),
                    "{note}: round {round}: what was interrupted is refused: {ran:#?}"
                );
                (ran.code == 0).then_some(())
            },
        );
    }

    // Both come up again in order, and every link carries.
    for node in [&mut west, &mut east] {
        node.stop();
        node.start();
    }
    let names: Vec<String> =
        given.iter().filter(|token| token.redeemer == "east").map(grant_name).collect();
    for name in &names {
        east.link_up(name);
    }
    let service = Echo::start("payments");
    let port = free_port();
    west.json(&format!("connector create payments {} --host 127.0.0.1", service.port()));
    east.json(&format!("listener create payments {port} --host 127.0.0.1"));
    until("traffic goes through", || visit(port).is_ok());
    for visitor in visitors.values_mut() {
        let (name, _) = only_link(visitor);
        visitor.start();
        visitor.link_up(&name);
        visitor.stop();
    }
    west.stop();
    east.stop();

    // The books: one redemption for every token, one site for every redemption, one certificate each.
    let ledger = SqliteLedger::open(west.path("runtime/state.db")).expect("the ledger opens");
    let grants = ledger.grants().expect("grants");
    let mut fingerprints = BTreeSet::new();
    for token in &given {
        let name = grant_name(token);
        let record = grants
            .iter()
            .find(|record| record.grant.id.as_str() == name)
            .expect("every token is known");
        let redemptions = ledger.redemptions(&record.grant.id).expect("redemptions");
        assert_eq!((record.redemptions, redemptions.len()), (1, 1), "{note}: {name}");
        assert_eq!(redemptions[0].applicant.name().as_str(), token.redeemer, "{note}: {name}");

        let site = visitors.get(&token.redeemer).unwrap_or(&east);
        let credential =
            credential(site, &name).unwrap_or_else(|| panic!("{note}: {name} has no credential"));
        // It is what was redeemed, or descends from it; either way west has signed it, and knows it.
        let filter = IssuedFilter {
            fingerprint: Some(credential.leaf().fingerprint()),
            ..IssuedFilter::default()
        };
        let known = ledger.issued(&filter).expect("issued");
        assert_eq!(known.len(), 1, "{note}: {name}");
        assert!(
            fingerprints.insert(credential.leaf().fingerprint().to_string()),
            "{note}: {name} is used twice"
        );
        let identity = credential.leaf().spiffe_id().expect("one identity").expect("an identity");
        assert_eq!(identity.to_string(), format!("spiffe://demo.example/site/{}", token.redeemer));
    }
    assert!(
        grants.iter().all(|record| record.redemptions <= record.grant.redemptions_allowed),
        "{note}: redeemed more often than allowed"
    );
    // No serial was used twice, and what is in the books can be read.
    let issued = ledger.issued(&IssuedFilter::default()).expect("issued");
    let serials: BTreeSet<_> =
        issued.iter().map(|one| (one.issuer_key_id, one.serial.to_string())).collect();
    assert_eq!(serials.len(), issued.len(), "{note}");
    for one in &issued {
        let chain = handfast_pki::Chain::from_pem(one.pem.as_bytes()).expect("a certificate");
        let leaf: &Certificate = chain.leaf();
        assert_eq!(leaf.fingerprint(), one.fingerprint, "{note}");
    }
    for home in [&west, &east] {
        no_remains(home, &note);
    }
}

fn grant_name(token: &Given) -> String {
    let text = fs::read_to_string(&token.file).expect("the token");
    text.lines().find_map(|line| line.trim().strip_prefix("name: ")).expect("a name").to_owned()
}

fn credential(site: &Site, name: &str) -> Option<Credential> {
    let directory = site.path(&format!("runtime/certs/{name}"));
    let [chain, key, ca] = of_one_moment(&directory, ["tls.crt", "tls.key", "ca.crt"]);
    // What is there is whole: certificate, key and CA belong together.
    let credential = Credential::from_pem(&chain?, &key?, &ca?, None);
    Some(credential.expect("a credential that is there is usable"))
}

fn has_credential(site: &Site, name: &str) -> bool {
    credential(site, name).is_some()
        && site.path(&format!("runtime/resources/Link-{name}.yaml")).exists()
}

fn only_link(site: &Site) -> (String, PathBuf) {
    let mut links = fs::read_dir(site.path("runtime/resources"))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path());
    let link = links.next().expect("a link");
    let name = link.file_stem().expect("a name").to_string_lossy().replacen("Link-", "", 1);
    (name, link)
}

/// Nothing half-written lies about after an orderly end.
fn no_remains(site: &Site, note: &str) {
    for part in ["runtime/certs", "runtime/issuers"] {
        for entry in fs::read_dir(site.path(part)).expect("a directory") {
            let path = entry.expect("an entry").path();
            let inside: Vec<String> = fs::read_dir(&path)
                .expect("a directory")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .collect();
            let revisions = inside.iter().filter(|name| name.starts_with("..rev-")).count();
            assert!((1..=3).contains(&revisions), "{note}: {}: {inside:?}", path.display());
        }
    }
}
