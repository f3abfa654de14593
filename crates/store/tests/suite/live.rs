//! Changes are noticed, once, and only real ones.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use handfast_store::{
    ContentWatch, CredentialStore, DirectoryStore, Home, Kind, WatchSettings, write_atomic,
};
use tokio::sync::watch::Receiver;

use crate::material::{mount_secret, name, number_in, pem, supply};

const KIND: Kind = Kind::Certificate;

/// Nothing is noticed by the timer: what is noticed was reported.
const REPORTED: WatchSettings = WatchSettings {
    settle: Duration::from_millis(20),
    settle_limit: Duration::from_secs(1),
    reread: Duration::from_secs(3600),
};

/// The timer does it all the time.
const EAGER: WatchSettings = WatchSettings {
    settle: Duration::from_millis(1),
    settle_limit: Duration::from_millis(10),
    reread: Duration::from_millis(5),
};

/// Waits for the counter to move on, and returns it.
fn next(changes: &mut Receiver<u64>) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(20), changes.changed()).await })
        .expect("a change is noticed within 20 s")
        .expect("the watch is alive");
    *changes.borrow_and_update()
}

/// Waits until `wanted` holds, looking again after every change.
fn until(changes: &mut Receiver<u64>, mut wanted: impl FnMut() -> bool) {
    while !wanted() {
        next(changes);
    }
}

#[test]
fn mounted_secrets_are_followed_from_state_to_state() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    let store = DirectoryStore::open(&home, REPORTED).unwrap();
    let mut changes = store.changes();
    let shop = home.layout().input_certs.join("shop");
    for number in 1..=6 {
        mount_secret(&shop, number);
        until(&mut changes, || {
            let stored = store.load(KIND, &name("shop")).unwrap();
            stored.is_some_and(|stored| number_in(&stored) == number)
        });
    }
}

#[test]
fn every_way_to_change_a_file_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let outside = directory.path().join("outside");
    let root = directory.path().join("certs");
    fs::create_dir_all(root.join("shop")).unwrap();
    supply(&outside.join("one"), 1);
    supply(&outside.join("two"), 2);
    // The root is missing at first for the second watch.
    let late = directory.path().join("late/certs");
    let watch = ContentWatch::start(vec![root.clone(), late.clone()], REPORTED);
    let mut changes = watch.changes();
    let mut step = |what: &str, change: &dyn Fn()| {
        let before = *changes.borrow_and_update();
        change();
        assert!(next(&mut changes) > before, "{what}");
        // What settles later belongs to the same change: let it, so that it is not taken for the next.
        next_within(&mut changes, REPORTED.settle * 5);
    };

    let file = root.join("shop/tls.crt");
    step("made", &|| fs::write(&file, b"one").unwrap());
    step("written in place", &|| fs::write(&file, b"two").unwrap());
    step("replaced", &|| write_atomic(&file, b"three", 0o600).unwrap());
    step("removed", &|| fs::remove_file(&file).unwrap());
    step("linked", &|| symlink(outside.join("one/tls.crt"), &file).unwrap());
    step("changed behind the link", &|| {
        fs::write(outside.join("one/tls.crt"), b"new").unwrap();
    });
    step("directory removed", &|| fs::remove_dir_all(root.join("shop")).unwrap());
    step("directory made again", &|| supply(&root.join("shop"), 3));
    step("written in the new directory", &|| fs::write(&file, b"four").unwrap());
    step("directory linked", &|| symlink(outside.join("two"), root.join("far")).unwrap());
    step("changed in the linked directory", &|| {
        fs::write(outside.join("two/tls.crt"), b"new").unwrap();
    });
    step("made below a root that was not there", &|| supply(&late.join("shop"), 4));
}

/// Gives the counter some time to move on.
fn next_within(changes: &mut Receiver<u64>, limit: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    drop(runtime.block_on(async { tokio::time::timeout(limit, changes.changed()).await }));
}

#[test]
fn only_content_counts() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    let shop = home.layout().input_certs.join("shop");
    supply(&shop, 1);
    let store = DirectoryStore::open(&home, EAGER).unwrap();
    let mut changes = store.changes();
    let [east, west] = ["east", "west"].map(name);
    let staged = store.stage(KIND, &east, &pem(1)).unwrap();
    store.promote(KIND, &east, staged).unwrap();
    assert_eq!(next(&mut changes), 1);

    for _ in 0..50 {
        // Written anew as it was, something beside it, something staged: nobody sees a difference.
        for file in ["tls.crt", "tls.key", "ca.crt"] {
            let path = shop.join(file);
            write_atomic(&path, &fs::read(&path).unwrap(), 0o644).unwrap();
        }
        fs::write(shop.join(".tls.crt.swp"), b"editing").unwrap();
        fs::create_dir_all(home.layout().input_certs.join("empty")).unwrap();
        for name in [&east, &west] {
            let staged = store.stage(KIND, name, &pem(2)).unwrap();
            store.discard(KIND, name, staged).unwrap();
        }
    }
    write_atomic(&shop.join("tls.crt"), b"new", 0o600).unwrap();
    assert_eq!(next(&mut changes), 2, "the first change since the promotion");
}

#[test]
fn a_promotion_is_seen_without_anybody_reporting_it() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    let store = DirectoryStore::open(&home, REPORTED).unwrap();
    let mut changes = store.changes();
    let east = name("east");
    for number in 1..=3 {
        let staged = store.stage(KIND, &east, &pem(number)).unwrap();
        store.promote(KIND, &east, staged).unwrap();
        next(&mut changes);
    }
    store.remove(KIND, &east).unwrap();
    next(&mut changes);
}

#[test]
fn what_nobody_reports_is_found_by_the_timer() {
    // Its content changes by itself, and the kernel tells nobody.
    let silent = Path::new("/proc/uptime");
    if !silent.exists() {
        println!("skipped: no /proc/uptime here");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    symlink(silent, directory.path().join("tls.crt")).unwrap();
    let watch = ContentWatch::start(vec![directory.path().to_owned()], EAGER);
    let mut changes = watch.changes();
    assert!(next(&mut changes) < next(&mut changes));
}
