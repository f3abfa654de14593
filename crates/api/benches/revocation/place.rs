//! The site that is measured: a home on the disk of the build, settled, handing out revocation.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use handfast_authority::{
    Authority, Declared, DeclaredAccess, PublishedIssuer, Publisher, ResourceRef,
};
use handfast_pki::{Credential, Name, RevocationReason, Serial};
use handfast_store::{
    AuditRow, DirectoryStore, Home, IssuedFilter, Ledger, Revocation, SqliteLedger, WatchSettings,
};
use jiff::Timestamp;

type Site = Authority<DirectoryStore, SqliteLedger>;

/// The order of the fields is the order in which they must go.
pub(crate) struct Place {
    authority: Arc<Site>,
    publisher: Arc<Publisher>,
    _home: Home,
    revoked: Cell<u64>,
    now: Cell<Timestamp>,
    _directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(target).unwrap();
        let directory = tempfile::tempdir_in(target).unwrap();
        let home = Home::open(directory.path().join("home")).unwrap();
        let store = Arc::new(DirectoryStore::open(&home, WatchSettings::default()).unwrap());
        let ledger = Arc::new(SqliteLedger::open(&home.layout().state_db).unwrap());
        let prove = |_: &Name, _: &Credential| Ok(());
        let authority = Arc::new(Authority::new(store, ledger, prove));
        let mut declared = Declared::new("west".parse().unwrap());
        declared.trust_domain = Some("demo.example".parse().unwrap());
        declared.distribution = Some("http://127.0.0.1:8889".to_owned());
        declared.accesses.push(DeclaredAccess {
            resource: ResourceRef::new("RouterAccess", "west"),
            credential: "handfast-site-server".parse().unwrap(),
            hosts: vec!["127.0.0.1".parse().unwrap()],
        });
        let now = Timestamp::from_second(2_000_000_000).unwrap();
        let report = authority.reconcile(&declared, now);
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        let publisher = Arc::new(Publisher::new(Publisher::INTERVAL));
        let place = Self {
            authority,
            publisher,
            _home: home,
            revoked: Cell::new(0),
            now: Cell::new(now),
            _directory: directory,
        };
        place.publish();
        place
    }

    pub(crate) fn authority(&self) -> &Arc<Site> {
        &self.authority
    }

    pub(crate) fn publisher(&self) -> &Arc<Publisher> {
        &self.publisher
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now.get()
    }

    /// An hour later: lists are due.
    pub(crate) fn pass_an_hour(&self) {
        self.now.set(self.now.get() + Publisher::INTERVAL);
    }

    pub(crate) fn publish(&self) {
        let report = self.authority.publish_revocation(&self.publisher, self.now());
        assert!(report.failed.is_empty(), "{:?}", report.failed);
    }

    pub(crate) fn issuer(&self) -> Arc<PublishedIssuer> {
        Arc::clone(self.publisher.published().issuer("handfast-site-ca").unwrap())
    }

    /// Revokes so many certificates of the site CA that nobody has, with serial numbers as ours are.
    pub(crate) fn revoke(&self, count: u64) {
        let issuer_key_id = self.issuer().certificate.public_key().unwrap().key_id();
        let first = self.revoked.replace(self.revoked.get() + count);
        let rows: Vec<_> = (first..first + count)
            .map(|number| {
                let spread =
                    u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
                Revocation {
                    issuer_key_id,
                    serial: format!("{:032x}", spread >> 1).parse().unwrap(),
                    reason: RevocationReason::ALL[usize::try_from(number % 7).unwrap()],
                    at: self.now(),
                    not_after: Some(self.now() + std::time::Duration::from_secs(86_400)),
                    identity: None,
                    lineage: None,
                }
            })
            .collect();
        for page in rows.chunks(10_000) {
            let audit = AuditRow {
                at: self.now(),
                actor: "bench".to_owned(),
                action: "certificate.revoke".to_owned(),
                subject: format!("{} certificates", page.len()),
                outcome: "ok".to_owned(),
                detail: String::new(),
                why: String::new(),
            };
            self.authority.ledger().revoke(page, &[], &audit).unwrap();
        }
    }

    /// Serial numbers to ask for: a thousand revoked ones, and everything issued.
    pub(crate) fn issued(&self) -> Vec<Serial> {
        let issuer = self.issuer();
        let key_id = issuer.certificate.public_key().unwrap().key_id();
        let filter = IssuedFilter { issuer_key_id: Some(key_id), ..IssuedFilter::default() };
        let issued = self.authority.ledger().issued(&filter).unwrap();
        let revoked = self.authority.ledger().revocations_after(0, 1000).unwrap();
        let revoked = revoked.into_iter().map(|recorded| recorded.revocation.serial);
        issued.into_iter().map(|issued| issued.serial).chain(revoked).collect()
    }
}
