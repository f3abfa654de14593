//! Every certificate is replaced, several times, while clients keep asking: nobody may notice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use handfast_testkit::eventually::{eventually, within};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use handfast_testkit::traffic::{Echo, Load, visit};

/// The shortest lives that leave a slow machine time to renew: leaves are due after 12 to 15 seconds.
const SETTINGS: &str = "leaf-ttl: 20s\n    ca-ttl: 2m";

/// Serial numbers seen, by credential.
type Seen = BTreeMap<String, BTreeSet<String>>;

fn look(site: &Site, seen: &mut Seen) {
    for credential in site.json("cert list").as_array().expect("a list") {
        let text = |field: &str| credential[field].as_str().unwrap_or_default().to_owned();
        assert_ne!(text("state"), "expired", "{credential:#}");
        seen.entry(text("name")).or_default().insert(text("serial"));
    }
}

fn leaves(seen: &Seen) -> impl Iterator<Item = (&String, usize)> {
    seen.iter()
        .filter(|(name, _)| !name.ends_with("-ca") && *name != "handfast-root")
        .map(|(name, serials)| (name, serials.len()))
}

#[test]
fn certificates_are_renewed_while_clients_ask_and_no_request_fails() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (mut west, mut east) = (place.west(), place.lone("east"));
    west.declare(
        "Site-west.yaml",
        &format!(
            "apiVersion: handfast.dev/v1alpha1\nkind: Site\nmetadata:\n  name: west\nspec:\n  \
             linkAccess: default\n  settings:\n    trust-domain: demo.example\n    {SETTINGS}\n"
        ),
    );
    east.declare(
        "Site-east.yaml",
        &format!(
            "apiVersion: handfast.dev/v1alpha1\nkind: Site\nmetadata:\n  name: east\nspec:\n  \
             settings:\n    {SETTINGS}\n"
        ),
    );
    west.start();
    east.start();
    let link = place.link(&west, &east);
    let first = east.serial(&link);
    let service = Echo::start("payments");
    let port = free_port();
    west.json(&format!("connector create payments {} --host 127.0.0.1", service.port()));
    east.json(&format!("listener create payments {port} --host 127.0.0.1"));
    eventually("traffic goes through", || visit(port).ok());

    let load = Load::start(port, 3, 2);
    let (mut at_west, mut at_east) = (Seen::new(), Seen::new());
    // Two renewals by themselves: three certificates of every leaf.
    within(Duration::from_secs(120), "every leaf is renewed twice by itself", || {
        look(&west, &mut at_west);
        look(&east, &mut at_east);
        let all = |seen: &Seen| leaves(seen).all(|(_, serials)| serials >= 3);
        (all(&at_west) && all(&at_east)).then_some(())
    });
    assert!(
        at_west.contains_key("handfast-site-server") && at_east.contains_key(&link),
        "{at_east:?}"
    );
    eventually("the link runs on a renewed certificate of east", || {
        let peer = west.link("east")?["peer"]["serial"].as_str()?.to_owned();
        (peer != first).then_some(())
    });

    // One on request, of the CAs as well.
    for (site, seen) in [(&west, &mut at_west), (&east, &mut at_east)] {
        let before: Vec<String> = seen.values().flatten().cloned().collect();
        let renewals = site.json("cert renew --all");
        for renewal in renewals.as_array().expect("a list") {
            assert_eq!(renewal["outcome"], "renewed", "{renewal:#}");
            let serial = renewal["credential"]["serial"].as_str().expect("a serial").to_owned();
            assert!(!before.contains(&serial), "{renewal:#}");
        }
        assert!(renewals.as_array().is_some_and(|all| all.len() >= 3), "{renewals:#}");
    }
    let renewed = east.serial(&link);
    eventually("the link runs on it", || {
        let serial = west.link("east")?["peer"]["serial"].as_str()?.to_owned();
        // It may have been renewed by itself since.
        (serial == renewed || serial == east.serial(&link)).then_some(())
    });
    let so_far = load.answered();
    within(Duration::from_secs(60), "requests go on", || {
        (load.answered() > so_far + 200).then_some(())
    });

    let (answered, failures) = load.finish();
    assert_eq!(failures, Vec::<String>::new(), "of {answered} requests");
    assert!(answered > 1000, "only {answered} requests in all this time");
    assert_eq!(east.link(&link).expect("the link")["state"], "up");
    east.stop();
    west.stop();
}
