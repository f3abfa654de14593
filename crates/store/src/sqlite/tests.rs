//! The ledger against its promises: what is counted, refused, kept and recognised.

use std::os::unix::fs::PermissionsExt;

use handfast_pki::{Fingerprint, Profile, RevocationReason};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::grant::{Applicant, Audience, hash_code};
use crate::issued::Lineage;

const CODE: &[u8] = b"correct horse battery staple";

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub(super) fn ledger() -> (TempDir, SqliteLedger) {
    let directory = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(directory.path().join("state.db")).unwrap();
    (directory, ledger)
}

pub(super) fn row(subject: &str) -> AuditRow {
    AuditRow {
        at: at(0),
        actor: "node".to_owned(),
        action: "test".to_owned(),
        subject: subject.to_owned(),
        outcome: "ok".to_owned(),
        detail: String::new(),
        why: String::new(),
    }
}

pub(super) fn certificate(number: u32) -> Issued {
    let mut fingerprint = [7; 32];
    fingerprint[..4].copy_from_slice(&number.to_be_bytes());
    Issued {
        issuer_key_id: [1; 32],
        serial: format!("5a{number:030x}").parse().unwrap(),
        identity: Some("spiffe://demo.example/site/east".parse().unwrap()),
        names: vec!["east".to_owned(), "127.0.0.1".to_owned()],
        profile: Profile::LinkClient,
        not_before: at(0),
        not_after: at(86_400),
        lineage: "grant/east".parse().unwrap(),
        fingerprint: Fingerprint(fingerprint),
        pem: format!("certificate {number}"),
    }
}

pub(super) fn bundle(number: u32) -> IssuedBundle {
    IssuedBundle {
        issued: certificate(number),
        chain_pem: format!("chain {number}"),
        anchors_pem: "anchors".to_owned(),
        context: format!("{{\"n\":{number}}}"),
    }
}

pub(super) fn grant(id: &str, allowed: u32) -> Grant {
    let salt = [9; 16];
    Grant {
        id: id.parse().unwrap(),
        code_hash: hash_code(&salt, CODE),
        salt,
        redemptions_allowed: allowed,
        expires: at(900),
        cost: 1,
        audience: Audience::AnySite,
        created: at(0),
    }
}

pub(super) fn redemption(id: &str, key: u8) -> Redemption {
    Redemption {
        grant_id: id.parse().unwrap(),
        code: CODE.to_vec(),
        request_key: [key; 32],
        applicant: Applicant::Site("east".parse().unwrap()),
        origin: "127.0.0.1:5000".to_owned(),
        now: at(10),
    }
}

fn revocation(number: u32) -> Revocation {
    let Issued { issuer_key_id, serial, identity, not_after, lineage, .. } = certificate(number);
    Revocation {
        issuer_key_id,
        serial,
        reason: RevocationReason::KeyCompromise,
        at: at(20),
        not_after: Some(not_after),
        identity,
        lineage: Some(lineage),
    }
}

pub(super) fn all_rows(ledger: &SqliteLedger) -> Vec<RecordedAudit> {
    ledger.audit_rows(&AuditRange::after(0, u32::MAX)).unwrap()
}

#[test]
fn a_new_ledger_is_private_and_durable() {
    let (directory, ledger) = ledger();
    ledger.audit(&row("one")).unwrap();
    for name in
        ["state.db", "state.db-wal", "state.db-shm", "audit.key", "audit.head", "revocations.log"]
    {
        let mode = fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    ledger.group.with_connection(|connection| {
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
        assert_eq!(pragma("synchronous"), Ok(2_i64), "FULL");
        assert_eq!(
            connection.pragma_query_value(None, "journal_mode", |r| r.get(0)),
            Ok("wal".to_owned())
        );
        assert_eq!(pragma("application_id"), Ok(schema::APPLICATION_ID));
    });
}

#[test]
fn certificates_come_back_as_recorded_and_never_twice() {
    let (directory, ledger) = ledger();
    let plain = Issued { identity: None, names: Vec::new(), ..certificate(2) };
    let other = Issued { lineage: "own/server".parse().unwrap(), ..certificate(3) };
    for issued in [&certificate(1), &plain, &other] {
        ledger.record_issued(issued, &row("issue")).unwrap();
    }
    let error = ledger
        .record_issued(&Issued { pem: "other".to_owned(), ..certificate(1) }, &row("again"))
        .unwrap_err();
    assert!(matches!(error, StoreError::AlreadyRecorded { .. }), "{error}");
    assert!(error.to_string().contains("5a0000"), "{error}");
    assert_eq!(all_rows(&ledger).len(), 3, "no row for what did not happen");

    drop(ledger);
    let ledger = SqliteLedger::open(directory.path().join("state.db")).unwrap();
    let all = IssuedFilter::default();
    assert_eq!(
        ledger.issued(&all).unwrap(),
        [other.clone(), plain.clone(), certificate(1)],
        "newest first"
    );
    let find = |filter: IssuedFilter| ledger.issued(&filter).unwrap();
    assert_eq!(ledger.lineage(&other.lineage).unwrap(), std::slice::from_ref(&other));
    assert_eq!(
        find(IssuedFilter { fingerprint: Some(plain.fingerprint), ..all.clone() }),
        std::slice::from_ref(&plain)
    );
    assert_eq!(
        find(IssuedFilter { identity: certificate(1).identity, limit: Some(1), ..all.clone() }),
        [other]
    );
    assert!(find(IssuedFilter { issuer_key_id: Some([2; 32]), ..all.clone() }).is_empty());
    assert!(find(IssuedFilter { unexpired_at: Some(at(86_400)), ..all.clone() }).is_empty());
    assert_eq!(find(IssuedFilter { unexpired_at: Some(at(86_399)), ..all }).len(), 3);
}

#[test]
fn records_refuse_to_be_changed_or_removed() {
    let (_directory, ledger) = ledger();
    ledger.record_issued(&certificate(1), &row("issue")).unwrap();
    ledger.create_grant(&grant("g", 2), &row("grant")).unwrap();
    ledger.redeem(&redemption("g", 1), &mut |_| Ok(bundle(2))).unwrap();
    let domain: TrustDomain = "demo.example".parse().unwrap();
    ledger.next_bundle_sequence(&domain, &row("bundle")).unwrap();
    ledger.revoke(&[revocation(1)], &["grant/east".parse().unwrap()], &row("revoke")).unwrap();
    ledger.next_crl_number(&[1; 32]).unwrap();
    let before = all_rows(&ledger);

    for statement in [
        "DELETE FROM audit",
        "UPDATE audit SET detail = 'nothing happened' WHERE sequence = 1",
        "INSERT OR REPLACE INTO audit VALUES (1, 0, '', '', '', '', '', '', x'')",
        "DELETE FROM issued",
        "UPDATE issued SET lineage = 'x'",
        "DELETE FROM issued_name",
        "UPDATE issued_name SET name = 'x'",
        "DELETE FROM redemption",
        "UPDATE redemption SET site = 'x'",
        "DELETE FROM access_grant",
        "UPDATE access_grant SET redemptions_allowed = 99",
        "UPDATE access_grant SET expires = expires + 1",
        "DELETE FROM bundle",
        "UPDATE bundle SET sequence = 1",
        "DELETE FROM audit_head",
        "UPDATE audit_head SET at = 0",
        "DELETE FROM audit_tree",
        "UPDATE audit_tree SET size = size - 1",
        "DELETE FROM revocation",
        "UPDATE revocation SET reason = 'unspecified'",
        "INSERT OR REPLACE INTO revocation SELECT * FROM revocation",
        "DELETE FROM ended_lineage",
        "UPDATE ended_lineage SET at = 0",
        "DELETE FROM crl_number",
        "UPDATE crl_number SET number = 1",
    ] {
        let error = ledger.group.with_connection(|it| it.execute(statement, [])).unwrap_err();
        assert!(
            error.to_string().contains("never") || error.to_string().contains("only go up"),
            "{statement}: {error}"
        );
    }
    assert_eq!(all_rows(&ledger), before);
}

#[test]
fn bundle_sequences_count_for_each_trust_domain() {
    let (_directory, ledger) = ledger();
    let [one, two]: [TrustDomain; 2] =
        ["demo.example", "shop.example"].map(|domain| domain.parse().unwrap());
    assert_eq!(ledger.bundle_sequence(&one).unwrap(), 0);
    for expected in 1..=3 {
        assert_eq!(ledger.next_bundle_sequence(&one, &row("bundle")).unwrap(), expected);
    }
    assert_eq!(ledger.next_bundle_sequence(&two, &row("bundle")).unwrap(), 1);
    assert_eq!(ledger.bundle_sequence(&one).unwrap(), 3);
}

#[test]
fn audit_rows_are_read_in_pages() {
    let (_directory, ledger) = ledger();
    for number in 1..=5 {
        assert_eq!(ledger.audit(&row(&number.to_string())).unwrap(), number);
    }
    let page = |after, limit| -> Vec<u64> {
        let rows = ledger.audit_rows(&AuditRange::after(after, limit)).unwrap();
        rows.iter().map(|row| row.sequence).collect()
    };
    assert_eq!(page(0, 2), [1, 2]);
    assert_eq!(page(2, 9), [3, 4, 5]);
    assert_eq!(page(u64::MAX, 9), [0; 0]);
    let rows = ledger.audit_rows(&AuditRange { sequence: 4..=4, limit: 9 }).unwrap();
    assert_eq!(rows, [RecordedAudit { sequence: 4, row: row("4") }]);
}

#[test]
fn an_export_is_read_in_pages_up_to_the_head_that_it_began_with() {
    let (directory, ledger) = ledger();
    ledger.audit_all(&["1", "2", "3", "4", "5"].map(row)).unwrap();
    let mut log = AuditLog::open(directory.path().join("state.db")).unwrap();
    let mut page = |after, size, limit| {
        let AuditPage { rows, head } = log.page(after, size, limit).unwrap();
        let rows: Vec<u64> = rows.iter().map(|(row, _)| row.sequence).collect();
        (rows, head.map(|head| head.head.size))
    };
    assert_eq!(page(0, u64::MAX, 2), (vec![1, 2], Some(5)));
    ledger.audit(&row("6")).unwrap();
    assert_eq!(page(2, 5, 2), (vec![3, 4], Some(6)));
    assert_eq!(page(4, 5, 2), (vec![5], Some(6)), "what was written meanwhile is not in it");
    assert_eq!(page(5, 5, 2), (Vec::new(), Some(6)));
}

#[test]
fn several_audit_rows_are_written_together_or_not_at_all() {
    let (_directory, ledger) = ledger();
    ledger.audit_all(&[]).unwrap();
    ledger.audit_all(&["1", "2", "3"].map(row)).unwrap();
    let rows = ledger.audit_rows(&AuditRange::after(0, 9)).unwrap();
    let subjects: Vec<_> = rows.iter().map(|one| (one.sequence, one.row.clone())).collect();
    assert_eq!(subjects, [(1, row("1")), (2, row("2")), (3, row("3"))]);
    let refuse = "CREATE TRIGGER no BEFORE INSERT ON audit WHEN NEW.sequence = 5
                  BEGIN SELECT RAISE(ABORT, 'no'); END";
    ledger.group.with_connection(|connection| connection.execute_batch(refuse).unwrap());
    ledger.audit_all(&["4", "5"].map(row)).unwrap_err();
    assert_eq!(ledger.audit_rows(&AuditRange::after(0, 9)).unwrap().len(), 3);
    assert_eq!(ledger.audit_head().unwrap().map(|head| head.head.size), Some(3));
}

#[test]
fn files_that_are_no_ledger_of_ours_are_recognised_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let refused = || {
        let before = fs::read(&path).unwrap();
        let error = SqliteLedger::open(&path).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before, "not touched");
        error
    };

    fs::write(&path, "these are notes, not a database. ".repeat(40)).unwrap();
    assert!(matches!(refused(), StoreError::Corrupt { .. }));

    fs::remove_file(&path).unwrap();
    let foreign = Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE accounts (id INTEGER)").unwrap();
    drop(foreign);
    assert!(matches!(refused(), StoreError::NotOurs { .. }));

    fs::remove_file(&path).unwrap();
    drop(SqliteLedger::open(&path).unwrap());
    let newer = Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", schema::supported() + 1).unwrap();
    drop(newer);
    let error = refused();
    assert!(matches!(error, StoreError::TooNew { .. }));
    assert!(error.to_string().contains("newer handfast"), "{error}");

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = SqliteLedger::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::File(_)), "{error}");
    let error = SqliteLedger::open(directory.path().join("no/state.db")).unwrap_err();
    assert!(error.to_string().contains("no/state.db"), "{error}");
}

#[test]
fn revocations_are_kept_with_their_first_time_and_reason() {
    let (directory, ledger) = ledger();
    assert_eq!(ledger.revocations_after(0, 9).unwrap(), []);
    let lineage: Lineage = "grant/east".parse().unwrap();
    assert_eq!(ledger.lineage_ended(&lineage).unwrap(), None);
    let newest = ledger
        .revoke(&[revocation(1), revocation(2)], std::slice::from_ref(&lineage), &row("revoke"))
        .unwrap();
    assert_eq!(newest, 2);
    let again = Revocation { at: at(99), reason: RevocationReason::Superseded, ..revocation(1) };
    let later = AuditRow { at: at(99), ..row("again") };
    let newest =
        ledger.revoke(&[again, revocation(3)], std::slice::from_ref(&lineage), &later).unwrap();
    assert_eq!(newest, 3);
    drop(ledger);

    let ledger = SqliteLedger::open(directory.path().join("state.db")).unwrap();
    let expected = |number: u32| RecordedRevocation {
        sequence: number.into(),
        revocation: revocation(number),
    };
    assert_eq!(ledger.revocations_after(0, 2).unwrap(), [expected(1), expected(2)]);
    assert_eq!(ledger.revocations_after(2, 9).unwrap(), [expected(3)]);
    let found = |number| {
        let Revocation { issuer_key_id, serial, .. } = revocation(number);
        ledger.revocation(&issuer_key_id, &serial).unwrap()
    };
    assert_eq!((found(1), found(4)), (Some(expected(1)), None));
    assert_eq!(ledger.lineage_ended(&lineage).unwrap(), Some(at(0)), "the first time stays");
}

#[test]
fn crl_numbers_and_rotations_are_kept() {
    let (_directory, ledger) = ledger();
    for expected in 1..=3 {
        assert_eq!(ledger.next_crl_number(&[1; 32]).unwrap(), expected);
    }
    assert_eq!(ledger.next_crl_number(&[2; 32]).unwrap(), 1);
    let root: Name = "root".parse().unwrap();
    assert_eq!(ledger.rotation(&root).unwrap(), None);
    ledger.keep_rotation(&root, Some("prepared"), &row("rotate")).unwrap();
    ledger.keep_rotation(&root, Some("active"), &row("rotate")).unwrap();
    assert_eq!(ledger.rotation(&root).unwrap().as_deref(), Some("active"));
    ledger.keep_rotation(&root, None, &row("rotate")).unwrap();
    assert_eq!(ledger.rotation(&root).unwrap(), None);
    assert_eq!(all_rows(&ledger).len(), 3);
}

#[test]
fn certificates_are_found_by_serial_name_and_expiry_and_read_in_pages() {
    let (_directory, ledger) = ledger();
    for number in 1..=5 {
        let not_after = at(86_400 + i64::from(number));
        ledger.record_issued(&Issued { not_after, ..certificate(number) }, &row("issue")).unwrap();
    }
    let numbers = |filter: IssuedFilter| -> Vec<u64> {
        ledger.recorded_issued(&filter).unwrap().iter().map(|found| found.number).collect()
    };
    let all = IssuedFilter::default;
    assert_eq!(numbers(IssuedFilter { limit: Some(2), ..all() }), [5, 4]);
    let page = IssuedFilter { before_number: Some(4), limit: Some(2), ..all() };
    assert_eq!(numbers(page), [3, 2]);
    assert_eq!(numbers(IssuedFilter { serial: Some(certificate(3).serial), ..all() }), [3]);
    let name = |name: &str| IssuedFilter { name: Some(name.to_owned()), limit: Some(1), ..all() };
    assert_eq!(numbers(name("127.0.0.1")), [5]);
    assert_eq!(numbers(name("nobody")), [0; 0]);
    let expiring =
        IssuedFilter { unexpired_at: Some(at(86_402)), expires_before: Some(at(86_405)), ..all() };
    assert_eq!(numbers(expiring.clone()), [4, 3]);
    assert_eq!(numbers(IssuedFilter { before_number: Some(4), ..expiring }), [3]);
}

#[test]
fn a_ledger_of_schema_1_is_taken_over_with_its_history() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(schema::first()).unwrap();
    for number in 1..=2500 {
        old.execute(
            "INSERT INTO audit (at, actor, action, subject, outcome, detail)
             VALUES (?1, 'node', 'certificate.issue', ?1, 'ok', 'x')",
            [number],
        )
        .unwrap();
    }
    old.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    let error = AuditLog::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::TooOld { found: 1, .. }), "{error}");

    let ledger = SqliteLedger::open(&path).unwrap();
    let head = ledger.audit_head().unwrap().unwrap().head;
    assert_eq!((head.size, head.at), (2500, Timestamp::from_microsecond(2500).unwrap()));
    assert_eq!(ledger.audit(&row("new")).unwrap(), 2501);
    let verified = AuditLog::open(&path).unwrap().verify(Vec::new()).unwrap();
    assert_eq!((verified.rows, verified.flaws), (2501, Vec::new()));
    let error = ledger.group.with_connection(|it| it.execute("UPDATE audit SET at = 0", []));
    assert!(error.unwrap_err().to_string().contains("never changed"));
}

#[test]
fn damage_is_found_on_opening() {
    let (directory, ledger) = ledger();
    for number in 0..200 {
        ledger.record_issued(&certificate(number), &row("issue")).unwrap();
    }
    drop(ledger);
    let path = directory.path().join("state.db");
    let mut bytes = fs::read(&path).unwrap();
    // Every page but the first: the header is fine, what it leads to is not.
    for byte in bytes.iter_mut().skip(4096) {
        *byte ^= 0x55;
    }
    fs::write(&path, bytes).unwrap();
    let error = SqliteLedger::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("restore"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever text a certificate or a row carries comes back as it was.
    #[test]
    fn any_text_survives(
        names in prop::collection::vec(".*", 0..4),
        lineage in "[!-~]{1,255}",
        detail in ".*",
        micros in 0_i64..4_000_000_000_000_000,
        serial in "[1-7][0-9a-f]{1,38}",
    ) {
        let (_directory, ledger) = ledger();
        let serial = if serial.len() % 2 == 0 { serial } else { format!("{serial}0") };
        let issued = Issued {
            names,
            serial: serial.parse().unwrap(),
            lineage: lineage.parse::<Lineage>().unwrap(),
            not_after: Timestamp::from_microsecond(micros).unwrap(),
            ..certificate(1)
        };
        let row = AuditRow { detail, at: issued.not_after, ..row("x") };
        ledger.record_issued(&issued, &row).unwrap();
        prop_assert_eq!(ledger.issued(&IssuedFilter::default()).unwrap(), [issued]);
        prop_assert_eq!(&all_rows(&ledger)[0].row, &row);
    }

    #[test]
    fn lineages_are_visible_and_bounded(text in ".{0,300}") {
        let good = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        prop_assert_eq!(text.parse::<Lineage>().is_ok(), good);
    }
}
