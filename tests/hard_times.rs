//! Hard times, with real faults: clocks that jump while nodes run, and a disk that cannot be written when
//! renewals are due. What was open stays open, what must be said is said, and nothing needs a restart.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use handfast_testkit::eventually::{eventually, now, until, within};
use handfast_testkit::faults::{SiteClock, SmallDisk};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use handfast_testkit::traffic::{Client, Echo, visit};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

fn place() -> Place {
    Place::new(env!("CARGO_BIN_EXE_handfast"))
}

/// Two linked sites with a service at west and its listener at east; one connection is kept open.
struct Stage {
    west: Site,
    east: Site,
    link: String,
    port: u16,
    kept: Client,
    _service: Echo,
    _place: Place,
}

impl Stage {
    fn new(place: Place, mut west: Site, mut east: Site) -> Self {
        west.start();
        east.start();
        let link = place.link(&west, &east);
        let service = Echo::start("shop");
        let port = free_port();
        west.json(&format!("connector create shop {} --host 127.0.0.1", service.port()));
        east.json(&format!("listener create shop {port} --host 127.0.0.1"));
        until("traffic goes through", || visit(port).is_ok());
        let kept = Client::connect(port).unwrap();
        Self { west, east, link, port, kept, _service: service, _place: place }
    }

    /// New connections and the old one work, and the link is up.
    #[track_caller]
    fn is_no_outage(&mut self) {
        assert_eq!(visit(self.port).unwrap(), "shop");
        self.kept.ask(1000).unwrap();
        assert_eq!(self.east.link(&self.link).unwrap()["state"], "up");
    }
}

/// Waits for a problem that `status` shows and that says these words.
#[track_caller]
fn problem(site: &Site, words: &str) -> Value {
    eventually(&format!("{} says {words:?}", site.name()), || {
        let status = site.status();
        let mut found = status["problems"].as_array()?.iter();
        found.find(|one| one.to_string().contains(words)).cloned()
    })
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn the_clock_of_the_site_that_signs_jumps_a_day_ahead_and_back() {
    let place = place();
    let (mut west, east) = (place.west(), place.lone("east"));
    let Some(clock) = SiteClock::of(&mut west) else { return };
    let mut stage = Stage::new(place, west, east);
    let first = stage.west.serial("handfast-site-server");

    clock.set("+25h");
    let told = problem(&stage.west, "the clock was set forward by 25 h");
    assert_eq!((&told["subject"], &told["severity"]), (&"clock".into(), &"warning".into()));
    until("what became due is renewed at once", || {
        stage.west.serial("handfast-site-server") != first
    });
    stage.is_no_outage();
    let ahead = stage.west.credential("handfast-site-server").unwrap();
    assert!(time(&ahead["notBefore"]) > now() + SignedDuration::from_hours(24), "{ahead:#}");

    clock.set("+0");
    problem(&stage.west, "the clock was set back by 25 h");
    let again = eventually("what is dated into the future is made anew", || {
        let all = stage.west.json("cert list");
        let all = all.as_array().unwrap();
        all.iter().all(|one| time(&one["notBefore"]) <= now()).then(|| all.clone())
    });
    assert!(again.len() >= 5, "{again:#?}");
    until("nothing is held back any more", || stage.west.status()["state"] == "ready");
    stage.is_no_outage();
    // Handshakes from now on meet certificates that are valid now.
    stage.east.stop();
    stage.east.start();
    stage.east.link_up(&stage.link);
    until("traffic goes through again", || visit(stage.port).is_ok());
}

#[test]
fn the_clock_of_the_site_that_links_jumps_a_day_ahead_and_back() {
    let place = place();
    let (west, mut east) = (place.west(), place.lone("east"));
    let Some(clock) = SiteClock::of(&mut east) else { return };
    let mut stage = Stage::new(place, west, east);
    clock.set("+25h");
    problem(&stage.east, "the clock was set forward by 25 h");
    // Nobody can renew what the other site signs, but nothing is cut for it.
    problem(&stage.east, "has expired");
    stage.is_no_outage();
    clock.set("+0");
    problem(&stage.east, "the clock was set back by 25 h");
    until("it is well again", || stage.east.status()["state"] == "ready");
    stage.is_no_outage();
    stage.east.json(&format!("cert renew {}", stage.link));
    stage.is_no_outage();
}

#[test]
fn a_clock_that_is_set_back_by_an_hour_issues_nothing_and_cuts_nothing() {
    let place = place();
    let (mut west, east) = (place.west(), place.lone("east"));
    let Some(clock) = SiteClock::of(&mut west) else { return };
    let mut stage = Stage::new(place, west, east);
    let serials = |site: &Site| -> Vec<String> {
        let all = site.json("cert list");
        all.as_array().unwrap().iter().map(|one| one["serial"].to_string()).collect()
    };
    let before = serials(&stage.west);
    clock.set("-1h");
    problem(&stage.west, "the clock was set back by 60 min");
    let skew = problem(&stage.west, "newest certificate in the ledger");
    assert_eq!(skew["severity"], "error", "{skew:#}");
    stage.is_no_outage();
    assert_eq!(serials(&stage.west), before, "nothing was issued");
    clock.set("+0");
    until("it is well again", || stage.west.status()["state"] == "ready");
    assert_eq!(serials(&stage.west), before, "nothing was lost");
    stage.is_no_outage();
}

#[test]
fn a_disk_that_is_full_when_renewals_are_due() {
    disk_fails(SmallDisk::fill, SmallDisk::empty);
}

#[test]
fn a_disk_that_is_read_only_when_renewals_are_due() {
    disk_fails(SmallDisk::freeze, SmallDisk::release);
}

/// Breaks west's disk before its certificates are due, and mends it before they expire.
fn disk_fails(breaks: fn(&SmallDisk), mends: fn(&SmallDisk)) {
    let place = place();
    let Some(disk) = SmallDisk::mount(&place.path("west"), "8m") else { return };
    let (mut west, east) = (place.west(), place.lone("east"));
    // Due after 36 to 44 seconds.
    west.declare(
        "Site-west.yaml",
        "apiVersion: handfast.dev/v1alpha1\nkind: Site\nmetadata:\n  name: west\nspec:\n  linkAccess: default\n  \
         settings: {trust-domain: demo.example, leaf-ttl: 60s, ca-ttl: 1h}\n",
    );
    let metrics = free_port();
    west.run_with(&["--metrics", &format!("127.0.0.1:{metrics}")]);
    let mut stage = Stage::new(place, west, east);
    let before = stage.west.serial("handfast-site-server");
    breaks(&disk);

    // The alarm: in status, in the metrics, in the check.
    let failed = || {
        let failures = "handfast_credential_failures{name=\"handfast-site-server\"} ";
        let page = scrape(metrics);
        let line = page.lines().find_map(|line| line.strip_prefix(failures))?;
        (line != "0.0").then(|| page.clone())
    };
    let page = within(Duration::from_secs(90), "a renewal fails", failed);
    assert!(page.contains("\nhandfast_home_writable{} 0.0\n"), "{page}");
    let told = problem(&stage.west, "nothing can be written to");
    assert_eq!((&told["subject"], &told["severity"]), (&"home".into(), &"error".into()));
    let check = stage.west.run("check -o json").exits(1).json();
    let check = check["checks"].as_array().unwrap();
    let writable = check.iter().find(|one| one["id"] == "home-writable").unwrap();
    assert_eq!(writable["mark"], "failed", "{writable:#}");

    // What is in use serves meanwhile.
    stage.is_no_outage();
    assert_eq!(stage.west.serial("handfast-site-server"), before);

    mends(&disk);
    until("what was due is done by itself", || stage.west.serial("handfast-site-server") != before);
    until("all is well", || stage.west.status()["state"] == "ready");
    assert!(scrape(metrics).contains("\nhandfast_home_writable{} 1.0\n"));
    stage.is_no_outage();
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
