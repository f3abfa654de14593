//! Supplied over managed, two phases, and what readers see.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use handfast_store::{
    CredentialStore, DirectoryStore, Home, Kind, Source, StoreError, StoredFault, WatchSettings,
};
use handfast_testkit::authority::TestAuthority;

use crate::material::{at, mount_secret, name, number_in, pem, supply};

const KIND: Kind = Kind::Certificate;

struct Place {
    store: DirectoryStore,
    home: Home,
    directory: tempfile::TempDir,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    let store = DirectoryStore::open(&home, WatchSettings::default()).unwrap();
    Place { store, home, directory }
}

#[test]
fn a_revision_is_current_only_when_promoted_and_the_one_before_is_kept() {
    let place = place();
    let Place { store, home, .. } = &place;
    let east = name("east");
    let one = store.stage(KIND, &east, &pem(1)).unwrap();
    assert!(store.load(KIND, &east).unwrap().is_none());
    assert!(store.list(KIND).unwrap().is_empty());
    let (staged, stored) = store.staged(KIND, &east).unwrap().unwrap();
    assert_eq!((staged, number_in(&stored)), (one, 1));

    store.promote(KIND, &east, one).unwrap();
    store.promote(KIND, &east, one).unwrap();
    assert!(store.staged(KIND, &east).unwrap().is_none());
    assert_eq!(store.list(KIND).unwrap(), std::slice::from_ref(&east));

    let two = store.stage(KIND, &east, &pem(2)).unwrap();
    assert_eq!(number_in(&store.load(KIND, &east).unwrap().unwrap()), 1);
    store.promote(KIND, &east, two).unwrap();
    let current = store.load(KIND, &east).unwrap().unwrap();
    assert_eq!((number_in(&current), current.revision, current.source), (2, two, Source::Managed));
    assert_eq!(number_in(&store.previous(KIND, &east).unwrap().unwrap()), 1);
    let shown = home.layout().runtime_certs.join("east/tls.crt");
    assert_eq!(fs::read_to_string(shown).unwrap(), pem(2).tls_crt, "as a person reads it");

    store.discard_previous(KIND, &east).unwrap();
    store.discard_previous(KIND, &east).unwrap();
    assert!(store.previous(KIND, &east).unwrap().is_none());
    assert_eq!(number_in(&store.load(KIND, &east).unwrap().unwrap()), 2);
    assert!(store.load(Kind::Issuer, &east).unwrap().is_none(), "kinds are apart");
}

#[test]
fn who_comes_too_late_is_told() {
    let place = place();
    let store = &place.store;
    let east = name("east");
    let first = store.stage(KIND, &east, &pem(1)).unwrap();
    let second = store.stage(KIND, &east, &pem(2)).unwrap();
    let error = store.promote(KIND, &east, first).unwrap_err();
    assert!(
        matches!(&error, StoreError::Superseded { staged, .. } if *staged == Some(second)),
        "{error}"
    );
    store.discard(KIND, &east, second).unwrap();
    store.discard(KIND, &east, second).unwrap();
    let third = store.stage(KIND, &east, &pem(3)).unwrap();
    assert_ne!(third, second, "a number is not used twice");
    assert!(store.promote(KIND, &east, second).is_err());
    store.promote(KIND, &east, third).unwrap();

    store.discard(KIND, &east, third).unwrap();
    assert_eq!(number_in(&store.load(KIND, &east).unwrap().unwrap()), 3, "not staged any more");

    store.remove(KIND, &east).unwrap();
    store.remove(KIND, &east).unwrap();
    assert!(store.load(KIND, &east).unwrap().is_none());
    let fourth = store.stage(KIND, &east, &pem(4)).unwrap();
    assert!(fourth > third);
    assert!(store.promote(KIND, &east, third).is_err());
}

#[test]
fn a_number_staged_before_a_restart_and_discarded_after_it_is_not_given_again() {
    let Place { home, store, directory: _directory } = place();
    let east = name("east");
    let staged = store.stage(KIND, &east, &pem(1)).unwrap();
    drop(store);
    let store = DirectoryStore::open(&home, WatchSettings::default()).unwrap();
    store.discard(KIND, &east, staged).unwrap();
    assert!(store.stage(KIND, &east, &pem(2)).unwrap() > staged);
    assert!(store.promote(KIND, &east, staged).is_err());
}

#[test]
fn a_supplied_credential_wins_and_is_never_written() {
    let place = place();
    let Place { store, home, .. } = &place;
    let shop = name("shop");
    let revision = store.stage(KIND, &shop, &pem(1)).unwrap();
    store.promote(KIND, &shop, revision).unwrap();
    let directory = home.layout().input_certs.join("shop");
    supply(&directory, 2);
    let seen = store.load(KIND, &shop).unwrap().unwrap();
    assert_eq!((number_in(&seen), seen.source), (2, Source::Supplied));
    assert_eq!(seen.directory, directory);
    assert_eq!(number_in(&store.load_managed(KIND, &shop).unwrap().unwrap()), 1);
    assert_eq!(store.list(KIND).unwrap(), std::slice::from_ref(&shop));

    let revision = store.stage(KIND, &shop, &pem(3)).unwrap();
    store.promote(KIND, &shop, revision).unwrap();
    store.remove(KIND, &shop).unwrap();
    let again = store.load(KIND, &shop).unwrap().unwrap();
    assert_eq!((number_in(&again), again.revision), (2, seen.revision));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 3);

    fs::remove_dir_all(&directory).unwrap();
    assert!(store.load(KIND, &shop).unwrap().is_none());
}

#[test]
fn a_broken_supplied_credential_is_shown_not_hidden() {
    let place = place();
    let Place { store, home, .. } = &place;
    let shop = name("shop");
    let managed = store.stage(KIND, &shop, &pem(1)).unwrap();
    store.promote(KIND, &shop, managed).unwrap();
    let directory = home.layout().input_certs.join("shop");

    fs::create_dir(&directory).unwrap();
    assert_eq!(store.load(KIND, &shop).unwrap().unwrap().source, Source::Managed, "still empty");

    fs::write(directory.join("tls.crt"), b"\xff not a certificate").unwrap();
    let stored = store.load(KIND, &shop).unwrap().unwrap();
    assert_eq!(stored.source, Source::Supplied);
    assert_eq!(stored.pem.tls_key, None);
    let fault = stored.credential(None).unwrap_err();
    assert!(matches!(fault, StoredFault::Missing { .. }));
    assert!(fault.to_string().contains("shop/tls.key"), "{fault}");

    for file in ["tls.key", "ca.crt"] {
        fs::write(directory.join(file), b"nor is this").unwrap();
    }
    let fault = store.load(KIND, &shop).unwrap().unwrap().credential(None).unwrap_err();
    assert!(matches!(fault, StoredFault::Unusable { .. }), "{fault}");
    assert!(fault.to_string().contains(directory.to_str().unwrap()), "{fault}");

    fs::remove_file(directory.join("tls.crt")).unwrap();
    fs::create_dir(directory.join("tls.crt")).unwrap();
    let error = store.load(KIND, &shop).unwrap_err();
    assert!(error.to_string().contains("shop/tls.crt"), "{error}");
    assert_eq!(store.list(KIND).unwrap(), [shop]);
}

#[test]
fn mounted_secrets_and_links_out_of_the_home_are_read() {
    let place = place();
    let Place { store, home, directory } = &place;
    mount_secret(&home.layout().input_certs.join("mounted"), 5);
    let elsewhere = directory.path().join("elsewhere");
    supply(&elsewhere, 6);
    symlink(&elsewhere, home.layout().input_certs.join("linked")).unwrap();
    for (found, number) in [("mounted", 5), ("linked", 6)] {
        assert_eq!(number_in(&store.load(KIND, &name(found)).unwrap().unwrap()), number);
    }
    assert_eq!(store.list(KIND).unwrap(), [name("linked"), name("mounted")]);
}

#[test]
fn a_secret_switched_while_it_is_read_is_never_mixed() {
    let place = place();
    let Place { store, home, .. } = &place;
    let shop = name("shop");
    let directory = home.layout().input_certs.join("shop");
    mount_secret(&directory, 0);
    let (reads, reading) = (AtomicU64::new(0), AtomicBool::new(true));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 1..=300 {
                // Not faster than it is read: being overtaken all the time is an error of its own.
                let seen = reads.load(Ordering::Acquire);
                mount_secret(&directory, number);
                while reads.load(Ordering::Acquire) == seen && reading.load(Ordering::Acquire) {
                    thread::yield_now();
                }
            }
        });
        let _reading = ClearOnDrop(&reading);
        let mut last = 0;
        while !writer.is_finished() {
            let number = number_in(&store.load(KIND, &shop).unwrap().unwrap());
            assert!(number >= last);
            last = number;
            reads.fetch_add(1, Ordering::Release);
        }
    });
}

/// Says that its owner is gone, a panic included.
struct ClearOnDrop<'a>(&'a AtomicBool);

impl Drop for ClearOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[test]
fn what_cannot_be_a_credential_is_reported_and_harms_nothing() {
    let place = place();
    let Place { store, home, .. } = &place;
    let root = &home.layout().input_certs;
    supply(&root.join("good"), 1);
    supply(&root.join("Bad Name"), 2);
    fs::write(root.join("file"), b"").unwrap();
    fs::write(root.join(".hidden"), b"").unwrap();
    assert_eq!(store.list(KIND).unwrap(), [name("good")]);
    let strays = store.strays(KIND).unwrap();
    let paths: Vec<_> = strays.iter().map(|stray| stray.path.clone()).collect();
    assert_eq!(paths, [root.join("Bad Name"), root.join("file")]);
    assert!(strays[1].why.contains("directory"), "{strays:?}");
}

#[test]
fn only_the_holder_of_the_home_writes() {
    let place = place();
    let Place { store, home, .. } = &place;
    let east = name("east");
    let revision = store.stage(KIND, &east, &pem(1)).unwrap();
    store.promote(KIND, &east, revision).unwrap();

    let reader = DirectoryStore::read_only(home.layout());
    assert_eq!(number_in(&reader.load(KIND, &east).unwrap().unwrap()), 1);
    for refused in [
        reader.stage(KIND, &east, &pem(2)).map(|_| ()),
        reader.promote(KIND, &east, revision),
        reader.discard(KIND, &east, revision),
        reader.discard_previous(KIND, &east),
        reader.remove(KIND, &east),
    ] {
        assert!(matches!(refused, Err(StoreError::NotHeld { .. })));
    }
    assert!(!reader.changes().has_changed().unwrap());
}

#[test]
fn missing_files_of_a_managed_credential_make_it_missing() {
    let place = place();
    let Place { store, home, .. } = &place;
    let east = name("east");
    let revision = store.stage(KIND, &east, &pem(1)).unwrap();
    store.promote(KIND, &east, revision).unwrap();
    fs::remove_file(home.layout().runtime_certs.join("east/..data/tls.key")).unwrap();
    assert!(store.load(KIND, &east).unwrap().is_none());
    let revision = store.stage(KIND, &east, &pem(2)).unwrap();
    store.promote(KIND, &east, revision).unwrap();
    assert_eq!(number_in(&store.load(KIND, &east).unwrap().unwrap()), 2);
}

#[test]
fn a_real_credential_comes_back_as_itself() {
    let place = place();
    let store = &place.store;
    let authority = TestAuthority::new("demo.example", at(0));
    let server = authority.server("west", &["127.0.0.1"]);
    let west = name("west");
    let revision = store.stage(KIND, &west, &server.to_pem()).unwrap();
    store.promote(KIND, &west, revision).unwrap();
    let credential = store.load(KIND, &west).unwrap().unwrap().credential(None).unwrap();
    assert_eq!(credential.leaf().fingerprint(), server.leaf().fingerprint());
    assert_eq!(credential.to_pem().tls_key, server.to_pem().tls_key);
}

#[test]
fn private_keys_are_not_printed() {
    let place = place();
    let store = &place.store;
    let east = name("east");
    store.stage(KIND, &east, &pem(1)).unwrap();
    let (_, stored) = store.staged(KIND, &east).unwrap().unwrap();
    let text = format!("{stored:?}");
    assert!(text.contains("<redacted>") && !text.contains("key 1"), "{text}");
}

/// A revision that was laid aside is none any more: it survives what comes after it, a crash and a change
/// of its key file, until it is discarded.
#[test]
fn what_is_laid_aside_stays_until_it_is_discarded() {
    let Place { store, home, directory: _directory } = place();
    let ca = name("ca");
    store.lay_aside(Kind::Issuer, &ca).unwrap();
    let mut given = Vec::new();
    for number in 1..=5 {
        if number == 3 {
            store.lay_aside(Kind::Issuer, &ca).unwrap();
            assert!(store.previous(Kind::Issuer, &ca).unwrap().is_none());
        }
        let revision = store.stage(Kind::Issuer, &ca, &pem(number)).unwrap();
        store.promote(Kind::Issuer, &ca, revision).unwrap();
        given.push(revision);
    }
    let aside = |store: &DirectoryStore| {
        let all = store.aside(Kind::Issuer, &ca).unwrap();
        all.into_iter().map(|stored| stored.revision).collect::<Vec<_>>()
    };
    assert_eq!(aside(&store), [given[0]]);
    let kept = store.kept(Kind::Issuer, &ca).unwrap();
    assert_eq!(kept.len(), 3, "previous, current, aside");
    let text = zeroize::Zeroizing::new("written differently".to_owned());
    store.rewrite_key(Kind::Issuer, &ca, given[0], &text).unwrap();
    drop(store);
    // As after a crash: swept, and still there.
    let store = DirectoryStore::open(&home, WatchSettings::default()).unwrap();
    let found = store.aside(Kind::Issuer, &ca).unwrap();
    assert_eq!(found[0].pem.tls_key.as_ref().unwrap().as_slice(), text.as_bytes());
    assert_eq!(found[0].pem.tls_crt.as_deref(), Some(pem(1).tls_crt.as_bytes()));
    // Its number is not given again.
    let next = store.stage(Kind::Issuer, &ca, &pem(6)).unwrap();
    assert!(!given.contains(&next));
    store.discard_aside(Kind::Issuer, &ca, given[0]).unwrap();
    store.discard_aside(Kind::Issuer, &ca, given[0]).unwrap();
    assert!(aside(&store).is_empty());
    assert_eq!(store.load(Kind::Issuer, &ca).unwrap().unwrap().revision, given[4]);
}
