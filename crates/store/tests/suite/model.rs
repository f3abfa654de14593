//! Any sequence of operations on a credential leaves what a simple model says.

use handfast_pki::Name;
use handfast_store::{
    CredentialStore, DirectoryStore, Home, Kind, Revision, StoreError, WatchSettings,
};
use proptest::prelude::*;

use crate::material::{name, number_in, pem};

#[derive(Clone, Debug)]
enum Step {
    Discard,
    DiscardPrevious,
    Promote,
    PromoteOld,
    Remove,
    Reopen,
    Stage,
}

#[derive(Default)]
struct Model {
    previous: Option<u64>,
    current: Option<u64>,
    staged: Option<(Revision, u64)>,
    /// Revisions that were superseded, discarded or removed.
    old: Vec<Revision>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::Discard),
        1 => Just(Step::DiscardPrevious),
        4 => Just(Step::Promote),
        1 => Just(Step::PromoteOld),
        1 => Just(Step::Remove),
        2 => Just(Step::Reopen),
        5 => Just(Step::Stage),
    ];
    prop::collection::vec(step, 1..14)
}

fn check(store: &DirectoryStore, kind: Kind, name: &Name, model: &Model) {
    let number = |stored: Option<_>| stored.as_ref().map(number_in);
    assert_eq!(number(store.load(kind, name).unwrap()), model.current);
    assert_eq!(number(store.previous(kind, name).unwrap()), model.previous);
    let staged = store.staged(kind, name).unwrap();
    assert_eq!(staged.map(|(revision, stored)| (revision, number_in(&stored))), model.staged);
    let listed = store.list(kind).unwrap();
    assert_eq!(listed.contains(name), model.current.is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sequence_of_operations(
        steps in steps(),
        issuer in any::<bool>(),
        text in "[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?",
    ) {
        // Not every such text is a name (two dots in a row, say); pki decides.
        let Ok(named) = text.parse::<Name>() else { return Ok(()) };
        let kind = if issuer { Kind::Issuer } else { Kind::Certificate };
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let open = || DirectoryStore::open(&home, WatchSettings::default()).unwrap();
        let mut store = open();
        let mut model = Model::default();
        // A neighbour that nothing may happen to.
        let neighbour = name("neighbour");
        let revision = store.stage(kind, &neighbour, &pem(1000)).unwrap();
        store.promote(kind, &neighbour, revision).unwrap();

        for (number, step) in (0_u64..).zip(steps) {
            match step {
                Step::Discard => {
                    if let Some((revision, _)) = model.staged.take() {
                        store.discard(kind, &named, revision).unwrap();
                        model.old.push(revision);
                    }
                }
                Step::DiscardPrevious => {
                    store.discard_previous(kind, &named).unwrap();
                    model.previous = None;
                }
                Step::Promote => {
                    if let Some((revision, number)) = model.staged.take() {
                        store.promote(kind, &named, revision).unwrap();
                        model.previous = model.current.replace(number);
                    }
                }
                Step::PromoteOld => {
                    for revision in &model.old {
                        let refused = store.promote(kind, &named, *revision);
                        let told = matches!(refused, Err(StoreError::Superseded { .. }));
                        prop_assert!(told, "{:?}", refused);
                    }
                }
                Step::Remove => {
                    store.remove(kind, &named).unwrap();
                    let mut old = std::mem::take(&mut model.old);
                    old.extend(model.staged.map(|(revision, _)| revision));
                    model = Model { old, ..Model::default() };
                }
                Step::Reopen => {
                    store = open();
                    // Numbers no longer on disk may be given again; nobody remembers them now.
                    model.old.clear();
                }
                Step::Stage => {
                    let revision = store.stage(kind, &named, &pem(number)).unwrap();
                    model.old.extend(model.staged.map(|(revision, _)| revision));
                    model.staged = Some((revision, number));
                }
            }
            check(&store, kind, &named, &model);
        }
        prop_assert_eq!(number_in(&store.load(kind, &neighbour).unwrap().unwrap()), 1000);
    }
}
