//! Authorities get new keys while traffic runs: nothing is dropped, nobody is shut out, and whoever is
//! killed on the way goes on.

use std::time::{Duration, Instant};

use handfast_testkit::eventually::eventually;
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::traffic::{Echo, Load, visit};

#[test]
fn a_root_is_rotated_between_two_sites_in_two_seconds() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (mut west, mut east) = place.linked();
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    let service = Echo::start("payments");
    let port = free_port();
    west.json(&format!("connector create payments {} --host 127.0.0.1", service.port()));
    east.json(&format!("listener create payments {port} --host 127.0.0.1"));
    eventually("traffic goes through", || visit(port).ok());
    let load = Load::start(port, 2, 2);
    let began = Instant::now();
    let done = west.json("ca rotate root --wait");
    let took = began.elapsed();
    // In peace about one second; a loaded machine gets all the time it needs.
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(done["rotation"]["phase"], "revoked", "{done:#}");
    let (answered, failures) = load.finish();
    assert_eq!(failures, Vec::<String>::new(), "of {answered} requests");
    assert_eq!(east.link(&link).expect("the link")["state"], "up");
    east.stop();
    west.stop();
}
