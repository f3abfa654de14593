//! What cannot be recorded does not happen: a ledger that fails to write, as on a full disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use handfast_authority::{
    Authority, GrantError, GrantOptions, ProblemCode, RedeemRefusal, RedeemRequest, Redeemer,
    RenewRefusal, Selection,
};
use handfast_pki::{Credential, Name, Serial, TrustDomain};
use handfast_store::{
    AuditRange, AuditRow, CredentialStore, DirectoryStore, Grant, GrantRecord, Home, Issued,
    IssuedBundle, IssuedFilter, Kind, Ledger, Lineage, RecordedAudit, RecordedIssued,
    RecordedRevocation, RecordedStatement, RedeemOutcome, RedeemedRecord, Redemption,
    RefusalReason, Revocation, SignedHead, SqliteLedger, StoreError, WatchSettings,
};
use jiff::Timestamp;
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::site::{Applicant, Site, name, start};

/// A ledger whose disk can be full, or whose process is killed at one of its writes.
pub(crate) struct Bounded {
    pub(crate) ledger: SqliteLedger,
    pub(crate) full: AtomicBool,
    /// Moments left to live, if they are counted: there is one before and one after each write.
    pub(crate) moments: Option<AtomicU64>,
}

impl Bounded {
    fn room(&self) -> Result<(), StoreError> {
        if self.full.load(Ordering::SeqCst) {
            return Err(StoreError::DiskFull { path: PathBuf::from("state.db") });
        }
        Ok(())
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&SqliteLedger) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.room()?;
        self.live();
        let done = work(&self.ledger);
        self.live();
        done
    }

    /// Goes on, or is killed.
    fn live(&self) {
        let Some(moments) = &self.moments else { return };
        if moments.fetch_sub(1, Ordering::SeqCst) == 1 {
            let own = std::process::id().to_string();
            let _ = std::process::Command::new("kill").args(["-9", &own]).status();
            loop {
                std::thread::park();
            }
        }
    }
}

impl Ledger for Bounded {
    fn record_issued(&self, issued: &Issued, audit: &AuditRow) -> Result<(), StoreError> {
        self.write(|ledger| ledger.record_issued(issued, audit))
    }

    fn recorded_issued(&self, filter: &IssuedFilter) -> Result<Vec<RecordedIssued>, StoreError> {
        self.ledger.recorded_issued(filter)
    }

    fn last_leaf_expiry(&self, issuer_key_id: &[u8; 32]) -> Result<Option<Timestamp>, StoreError> {
        self.ledger.last_leaf_expiry(issuer_key_id)
    }

    fn create_grant(&self, grant: &Grant, audit: &AuditRow) -> Result<(), StoreError> {
        self.write(|ledger| ledger.create_grant(grant, audit))
    }

    fn grant(&self, id: &Name) -> Result<Option<GrantRecord>, StoreError> {
        self.ledger.grant(id)
    }

    fn grants(&self) -> Result<Vec<GrantRecord>, StoreError> {
        self.ledger.grants()
    }

    fn withdraw_grant(&self, id: &Name, at: Timestamp, audit: &AuditRow) -> Result<(), StoreError> {
        self.write(|ledger| ledger.withdraw_grant(id, at, audit))
    }

    fn redeem(
        &self,
        redemption: &Redemption,
        issue: &mut dyn FnMut(&Grant) -> Result<IssuedBundle, RefusalReason>,
    ) -> Result<RedeemOutcome, StoreError> {
        self.write(|ledger| ledger.redeem(redemption, issue))
    }

    fn redemptions(&self, grant: &Name) -> Result<Vec<RedeemedRecord>, StoreError> {
        self.ledger.redemptions(grant)
    }

    fn bundle_sequence(&self, trust_domain: &TrustDomain) -> Result<u64, StoreError> {
        self.ledger.bundle_sequence(trust_domain)
    }

    fn next_bundle_sequence(
        &self,
        trust_domain: &TrustDomain,
        audit: &AuditRow,
    ) -> Result<u64, StoreError> {
        self.write(|ledger| ledger.next_bundle_sequence(trust_domain, audit))
    }

    fn revoke(
        &self,
        certificates: &[Revocation],
        lineages: &[Lineage],
        audit: &AuditRow,
    ) -> Result<u64, StoreError> {
        self.write(|ledger| ledger.revoke(certificates, lineages, audit))
    }

    fn keep_statement(
        &self,
        statement: &[u8],
        certificates: &[Revocation],
        lineages: &[Lineage],
        audit: &AuditRow,
    ) -> Result<u64, StoreError> {
        self.write(|ledger| ledger.keep_statement(statement, certificates, lineages, audit))
    }

    fn statements_after(
        &self,
        number: u64,
        limit: u32,
    ) -> Result<Vec<RecordedStatement>, StoreError> {
        self.ledger.statements_after(number, limit)
    }

    fn revocation(
        &self,
        issuer_key_id: &[u8; 32],
        serial: &Serial,
    ) -> Result<Option<RecordedRevocation>, StoreError> {
        self.ledger.revocation(issuer_key_id, serial)
    }

    fn revocations_after(
        &self,
        sequence: u64,
        limit: u32,
    ) -> Result<Vec<RecordedRevocation>, StoreError> {
        self.ledger.revocations_after(sequence, limit)
    }

    fn lineage_ended(&self, lineage: &Lineage) -> Result<Option<Timestamp>, StoreError> {
        self.ledger.lineage_ended(lineage)
    }

    fn next_crl_number(&self, issuer_key_id: &[u8; 32]) -> Result<u64, StoreError> {
        self.write(|ledger| ledger.next_crl_number(issuer_key_id))
    }

    fn rotation(&self, authority: &Name) -> Result<Option<String>, StoreError> {
        self.ledger.rotation(authority)
    }

    fn keep_rotation(
        &self,
        authority: &Name,
        record: Option<&str>,
        audit: &AuditRow,
    ) -> Result<(), StoreError> {
        self.write(|ledger| ledger.keep_rotation(authority, record, audit))
    }

    fn waiting(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.ledger.waiting()
    }

    fn keep_waiting(
        &self,
        id: &str,
        record: Option<&str>,
        audit: &AuditRow,
    ) -> Result<(), StoreError> {
        self.write(|ledger| ledger.keep_waiting(id, record, audit))
    }

    fn audit(&self, row: &AuditRow) -> Result<u64, StoreError> {
        self.write(|ledger| ledger.audit(row))
    }

    fn audit_all(&self, rows: &[AuditRow]) -> Result<(), StoreError> {
        self.write(|ledger| ledger.audit_all(rows))
    }

    fn audit_head(&self) -> Result<Option<SignedHead>, StoreError> {
        self.ledger.audit_head()
    }

    fn audit_rows(&self, range: &AuditRange) -> Result<Vec<RecordedAudit>, StoreError> {
        self.ledger.audit_rows(range)
    }
}

#[test]
fn a_full_disk_signs_nothing_answers_nothing_and_loses_nothing() {
    let directory = TempDir::new().unwrap();
    let home = Home::open(directory.path()).unwrap();
    let store = Arc::new(DirectoryStore::open(&home, WatchSettings::default()).unwrap());
    let ledger = Arc::new(Bounded {
        ledger: SqliteLedger::open(&home.layout().state_db).unwrap(),
        full: AtomicBool::new(false),
        moments: None,
    });
    let prover = |_: &Name, _: &Credential| Ok(());
    let west = Authority::new(Arc::clone(&store), Arc::clone(&ledger), prover);
    let declared = Site::new("west").declared.clone();
    let now = start();
    assert_eq!(west.reconcile(&declared, now).problems, Vec::new());
    let (grant, code) = west.issue_grant(&GrantOptions::default(), now).unwrap();
    let applicant = Applicant::new("east");
    let request = RedeemRequest {
        grant: grant.id.to_string(),
        code: Zeroizing::new(code.expose().as_bytes().to_vec()),
        redeemer: Redeemer::Site,
        name: "east".to_owned(),
        csr: applicant.csr.clone(),
        origin: "here".to_owned(),
    };
    let identity = "spiffe://demo.example/site/east".parse().unwrap();
    let server = name("handfast-site-server");
    let live = west.live(&server).unwrap();

    ledger.full.store(true, Ordering::SeqCst);
    let report = west.renew_now(&declared, &Selection::All, now).unwrap();
    assert!(report.changed.is_empty());
    let problem = report.problems.iter().find(|problem| problem.name == server).unwrap();
    assert_eq!(problem.code, ProblemCode::IssuanceFailed);
    assert!(problem.what.contains("disk is full"), "{problem}");
    assert!(store.staged(Kind::Certificate, &server).unwrap().is_none());
    assert!(Arc::ptr_eq(&live, &report.live[&server]));
    let refused = west.redeem(&request, &|_| String::new(), now).unwrap_err();
    assert!(matches!(&refused, RedeemRefusal::Store(_)) && refused.is_temporary(), "{refused}");
    let refused = west.issue_grant(&GrantOptions::default(), now).unwrap_err();
    assert!(matches!(refused, GrantError::Store(_)), "{refused}");

    ledger.full.store(false, Ordering::SeqCst);
    west.redeem(&request, &|_| String::new(), now).unwrap();
    let again = report.next_wake;
    let report = west.reconcile(&declared, again);
    assert_eq!(report.problems, Vec::new());
    assert!(
        report.changed.iter().any(|change| change.name == server),
        "what was asked for is done"
    );

    ledger.full.store(true, Ordering::SeqCst);
    let before = ledger.issued(&IssuedFilter::default()).unwrap().len();
    let refused = west.renew_for_peer(&identity, &Applicant::new("east").csr, now).unwrap_err();
    assert!(matches!(refused, RenewRefusal::Store(_)), "{refused}");
    assert_eq!(ledger.issued(&IssuedFilter::default()).unwrap().len(), before);
}
