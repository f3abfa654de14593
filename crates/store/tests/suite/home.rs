//! The home directory: where things lie, who may look, and that one process has it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use handfast_store::{
    CredentialStore, DirectoryStore, Home, HomeError, Kind, Ledger, SqliteLedger, StoreError,
    WatchSettings, write_atomic,
};

use crate::child::{self, Worker};
use crate::material::{bundle, grant, name, pem};

#[test]
fn the_layout_is_the_documented_one() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("deep/home");
    let home = Home::open(&root).unwrap();
    let paths = home.layout();
    assert_eq!(*paths, Home::paths(&root));
    for (path, expected) in [
        (&paths.input_resources, "input/resources"),
        (&paths.input_certs, "input/certs"),
        (&paths.input_issuers, "input/issuers"),
        (&paths.runtime_certs, "runtime/certs"),
        (&paths.runtime_issuers, "runtime/issuers"),
        (&paths.runtime_resources, "runtime/resources"),
    ] {
        assert_eq!(*path, root.join(expected));
        assert_eq!(mode(path), 0o700, "{expected}");
    }
    assert_eq!(paths.state_db, root.join("runtime/state.db"));
    assert_eq!(paths.admin_sock, root.join("runtime/admin.sock"));
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(&directory.path().join("deep")), 0o700);
}

#[test]
fn a_second_process_is_refused_by_name_until_the_first_is_killed() {
    if let Some(root) = child::role() {
        let _home = Home::open(root).unwrap();
        child::say("open");
        std::thread::park();
    }
    let directory = tempfile::tempdir().unwrap();
    let mut first = Worker::start(
        "home::a_second_process_is_refused_by_name_until_the_first_is_killed",
        directory.path(),
    );
    assert_eq!(first.hear(), "open");

    let error = Home::open(directory.path()).unwrap_err();
    assert!(
        matches!(&error, HomeError::Busy { path, pid } if path == directory.path() && *pid == Some(first.id())),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", first.id())), "{text}");
    assert!(text.contains(directory.path().to_str().unwrap()), "{text}");

    first.kill();
    let home = Home::open(directory.path()).unwrap();
    assert!(
        matches!(Home::open(directory.path()), Err(HomeError::Busy { .. })),
        "nor a second time here"
    );
    drop(home);
    Home::open(directory.path()).unwrap();
}

#[test]
fn nothing_is_open_to_others_whatever_the_umask() {
    if let Some(root) = child::role() {
        let home = Home::open(root).unwrap();
        let store = DirectoryStore::open(&home, WatchSettings::default()).unwrap();
        let (kind, east) = (Kind::Certificate, name("east"));
        for number in 0..3 {
            let revision = store.stage(kind, &east, &pem(number)).unwrap();
            store.promote(kind, &east, revision).unwrap();
        }
        store.stage(Kind::Issuer, &name("root"), &pem(9)).unwrap();
        let ledger = SqliteLedger::open(&home.layout().state_db).unwrap();
        let row = handfast_store::AuditRow {
            at: crate::material::at(0),
            actor: "node".to_owned(),
            action: "test".to_owned(),
            subject: String::new(),
            outcome: "ok".to_owned(),
            detail: String::new(),
            why: String::new(),
        };
        ledger.create_grant(&grant("g", 1), &row).unwrap();
        ledger.record_issued(&bundle(1).issued, &row).unwrap();
        write_atomic(&home.layout().runtime_resources.join("link.yaml"), b"x", 0o600).unwrap();
        child::say("done");
        std::thread::park();
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("home");
    let mut worker =
        Worker::start_without_umask("home::nothing_is_open_to_others_whatever_the_umask", &root);
    assert_eq!(worker.hear(), "done");
    let mut seen = Vec::new();
    check_private(&root, &mut seen);
    for expected in ["state.db", "state.db-wal", "lock", "tls.key", "link.yaml"] {
        assert!(seen.iter().any(|name| name == expected), "{expected} in {seen:?}");
    }
}

#[test]
fn directories_of_ours_that_others_could_enter_are_closed_again() {
    let directory = tempfile::tempdir().unwrap();
    drop(Home::open(directory.path()).unwrap());
    let paths = Home::paths(directory.path());
    for path in [&paths.runtime, &paths.runtime_certs, &paths.input_certs] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let _home = Home::open(directory.path()).unwrap();
    assert_eq!(mode(&paths.runtime), 0o700);
    assert_eq!(mode(&paths.runtime_certs), 0o700);
    assert_eq!(mode(&paths.input_certs), 0o755, "the user's, and the user's business");
}

#[test]
fn what_is_in_the_way_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    for root in [file.clone(), file.join("home")] {
        let text = Home::open(&root).unwrap_err().to_string();
        assert!(text.contains(file.to_str().unwrap()), "{text}");
    }
    fs::create_dir_all(directory.path().join("home/runtime/lock")).unwrap();
    let text = Home::open(directory.path().join("home")).unwrap_err().to_string();
    assert!(text.contains("runtime/lock"), "{text}");
}

#[test]
fn a_home_of_somebody_else_is_refused_with_its_path() {
    if let Some(root) = child::role() {
        let error = Home::open(&root).unwrap_err();
        let HomeError::File(file) = &error else { panic!("{error:?}") };
        assert!(file.is_forbidden(), "{error}");
        child::say(&error.to_string());
        let error = SqliteLedger::open(root.join("runtime/state.db")).unwrap_err();
        child::say(&error.to_string());
        return;
    }
    if !child::is_root() {
        println!("skipped: only root can become somebody else");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root = directory.path().join("home");
    drop(Home::open(&root).unwrap());
    let said =
        Worker::start_as_nobody("home::a_home_of_somebody_else_is_refused_with_its_path", &root)
            .finish();
    assert_eq!(said.len(), 2);
    for text in said {
        assert!(text.contains(root.to_str().unwrap()), "{text}");
        assert!(text.contains("check the owner and permissions"), "{text}");
    }
}

#[test]
fn a_ledger_that_cannot_be_written_says_so() {
    if let Some(root) = child::role() {
        let error = SqliteLedger::open(root.join("state.db")).unwrap_err();
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
        child::say(&error.to_string());
        return;
    }
    if !child::is_root() {
        println!("skipped: only root can become somebody else");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    drop(SqliteLedger::open(&path).unwrap());
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let said =
        Worker::start_as_nobody("home::a_ledger_that_cannot_be_written_says_so", directory.path())
            .finish();
    assert!(said[0].contains(path.to_str().unwrap()), "{said:?}");
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn check_private(path: &Path, seen: &mut Vec<String>) {
    let found = fs::symlink_metadata(path).unwrap();
    if found.is_symlink() {
        return;
    }
    seen.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    let expected = if found.is_dir() { 0o700 } else { 0o600 };
    assert_eq!(mode(path), expected, "{}", path.display());
    if found.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            check_private(&entry.unwrap().path(), seen);
        }
    }
}
