//! Differences of configurations, and that nothing of what is secret is in them.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::resources::Resources;

const LISTENER: &str = "apiVersion: handfast.dev/v1alpha1\nkind: Listener\nmetadata: {name: web}\n\
    spec: {routingKey: shop, host: 127.0.0.1, port: 8080}\n";

fn in_force(texts: &[&str]) -> InForce {
    let (resources, faults) = Resources::parse(Path::new("r.yaml"), &texts.join("---\n"));
    assert!(faults.is_empty(), "{faults:?}");
    let mut in_force = InForce::default();
    resources.fingerprint(&mut in_force);
    in_force
}

fn shown(changes: &[Change]) -> Vec<String> {
    let line = |place: &Place| place.line.unwrap_or_default();
    changes
        .iter()
        .map(|one| format!("{} {} :{}", one.subject, one.what, line(&one.place)))
        .collect()
}

#[test]
fn what_is_added_changed_and_removed_is_said_with_its_fields() {
    let (none, before) = (in_force(&[]), in_force(&[LISTENER]));
    assert_eq!(shown(&none.changes(&before)), ["Listener/web added :1"]);
    assert_eq!(shown(&before.changes(&none)), ["Listener/web removed :1"]);
    let moved = in_force(&["# a word\n", &LISTENER.replace("8080", "8081")]);
    assert_eq!(shown(&before.changes(&moved)), ["Listener/web changed: port :3"]);
    let labelled = LISTENER.replace("{name: web}", "{name: web, labels: {a: b}}");
    assert_eq!(
        shown(&before.changes(&in_force(&[&labelled]))),
        ["Listener/web changed: labels :1"]
    );
    // The same in another order, at another place, is the same.
    let same =
        LISTENER.replace("routingKey: shop, host: 127.0.0.1", "host: 127.0.0.1, routingKey: shop");
    assert_eq!(before.changes(&in_force(&["# a word\n", &same])), []);
}

#[test]
fn fields_are_not_known_for_what_was_read_back() {
    let before = in_force(&[LISTENER]);
    let text = serde_json::to_string(&before).expect("JSON");
    let before: InForce = serde_json::from_str(&text).expect("itself");
    assert_eq!(before.changes(&in_force(&[LISTENER])), []);
    let moved = in_force(&[&LISTENER.replace("8080", "8081")]);
    assert_eq!(
        shown(&before.changes(&moved)),
        ["Listener/web changed while the node did not run :1"]
    );
}

#[test]
fn a_refusal_is_told_once() {
    let before = in_force(&[LISTENER]);
    let mut now = before.clone();
    now.refuse("Listener/api", Path::new("a.yaml"), Some(4), "unknown field `prot`\u{1b}[2J");
    let changes = before.changes(&now);
    assert_eq!(shown(&changes), ["Listener/api not in force: unknown field `prot`[2J :4"]);
    assert!(changes[0].is_refusal());
    let mut later = before.clone();
    later.refuse("Listener/api", Path::new("a.yaml"), Some(5), "unknown field `prot`\u{1b}[2J");
    assert_eq!(now.changes(&later), []);
    later.refuse("Listener/api", Path::new("a.yaml"), Some(5), "another");
    assert_eq!(now.changes(&later).len(), 1);
}

#[test]
fn what_is_left_is_as_it_was() {
    let mut before = InForce::default();
    for name in ["policies/a", "policies/b", "Site/x"] {
        before.parts.insert(name.to_owned(), Part::new(Path::new(name), None).with("text", b"1"));
    }
    let mut now = InForce::default();
    now.parts.insert("policies/c".to_owned(), Part::new(Path::new("c"), None));
    now.leave("policies/", &before);
    assert_eq!(shown(&before.changes(&now)), ["Site/x removed :0"]);
}

fn any_in_force() -> impl Strategy<Value = InForce> {
    let fields = prop::collection::btree_map("[a-c]", "[x-z]{0,2}", 0..3);
    let parts = prop::collection::btree_map("[A-E]/[a-c]", fields, 0..8);
    let refused = prop::collection::vec(("[A-C]", "[a-c]"), 0..4);
    (parts, refused).prop_map(|(parts, refused)| {
        let mut in_force = InForce::default();
        for (name, fields) in parts {
            let part =
                fields.iter().fold(Part::new(Path::new("f"), None), |part, (field, value)| {
                    part.with(field, value.as_bytes())
                });
            in_force.parts.insert(name, part);
        }
        for (subject, why) in refused {
            in_force.refuse(&subject, Path::new("f"), None, &why);
        }
        in_force
    })
}

proptest! {
    #[test]
    fn nothing_new_is_no_change(one in any_in_force()) {
        prop_assert_eq!(one.changes(&one), []);
        let text = serde_json::to_string(&one).expect("JSON");
        let read: InForce = serde_json::from_str(&text).expect("itself");
        prop_assert_eq!(read.changes(&one), []);
    }

    #[test]
    fn every_difference_is_told_once_and_what_was_told_leads_from_one_to_the_other(
        before in any_in_force(), now in any_in_force()
    ) {
        let changes = before.changes(&now);
        let mut parts: BTreeSet<String> = before.parts.keys().cloned().collect();
        for change in changes.iter().filter(|change| !change.is_refusal()) {
            let told = match &change.what {
                What::Added => parts.insert(change.subject.clone()),
                What::Removed => parts.remove(&change.subject),
                What::Changed(_) | What::Refused(_) => {
                    before.parts[&change.subject].sha256 != now.parts[&change.subject].sha256
                }
            };
            prop_assert!(told, "{:?}", change);
        }
        prop_assert_eq!(parts, now.parts.keys().cloned().collect::<BTreeSet<_>>());
    }

    #[test]
    fn no_secret_is_in_what_is_told_or_kept(
        one in "[A-Za-z0-9]{16,40}", other in "[A-Za-z0-9]{16,40}"
    ) {
        prop_assume!(one != other);
        let token = |code: &str| format!(
            "apiVersion: handfast.dev/v1alpha1\nkind: AccessGrant\nmetadata: {{name: g}}\n\
             spec: {{code: \"{code}\"}}\n"
        );
        let (before, now) = (in_force(&[&token(&one)]), in_force(&[&token(&other)]));
        let changes = before.changes(&now);
        prop_assert_eq!(shown(&changes), ["AccessGrant/g changed: code :1"]);
        let kept = serde_json::to_string(&now).expect("JSON");
        for text in [format!("{changes:?}{before:?}{now:?}"), kept] {
            prop_assert!(!text.contains(&one) && !text.contains(&other), "{}", text);
        }
    }
}
