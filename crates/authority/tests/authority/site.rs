//! One site in a temporary home, with a clock of its own and a prover that can be told to refuse.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handfast_authority::{
    Authority, CredentialState, CsrRequest, Declared, DeclaredAccess, DeclaredLink,
    EnrolmentAnswer, GrantOptions, Lifetimes, RedeemRefusal, RedeemRequest, Redeemer, Report,
    ResourceRef,
};
use handfast_pki::{
    Chain, Credential, Csr, KeyAlgorithm, Name, PrivateKey, Purpose, Subject, TrustAnchors,
    verify_chain,
};
use handfast_store::{
    DirectoryStore, Home, IssuedBundle, IssuedFilter, Ledger, SqliteLedger, WatchSettings,
};
use jiff::Timestamp;
use tempfile::TempDir;
use zeroize::Zeroizing;

pub(crate) type Subjected = Authority<DirectoryStore, SqliteLedger>;

/// A site. The order of the fields is the order in which they must go.
pub(crate) struct Site {
    pub(crate) authority: Arc<Subjected>,
    _home: Home,
    pub(crate) declared: Declared,
    pub(crate) now: Timestamp,
    /// What the prover says: a refusal, or nothing.
    pub(crate) refusal: Arc<Mutex<Option<String>>>,
    directory: Arc<TempDir>,
}

/// A home that nobody uses.
pub(crate) struct Closed {
    directory: Arc<TempDir>,
}

impl Closed {
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn start() -> Timestamp {
    Timestamp::from_second(2_000_000_000).unwrap()
}

impl Site {
    /// A site with a trust domain of its own, and a place to link to at 127.0.0.1.
    pub(crate) fn new(site: &str) -> Self {
        let mut declared = Declared::new(name(site));
        declared.trust_domain = Some("demo.example".parse().unwrap());
        declared.accesses.push(DeclaredAccess {
            resource: ResourceRef::new("RouterAccess", site),
            credential: declared.names.site_server.clone(),
            hosts: vec!["127.0.0.1".parse().unwrap()],
        });
        Self::declared(declared)
    }

    /// A site that only links to others.
    pub(crate) fn edge(site: &str) -> Self {
        Self::declared(Declared::new(name(site)))
    }

    pub(crate) fn declared(declared: Declared) -> Self {
        let directory = Arc::new(TempDir::new().unwrap());
        let refusal = Arc::default();
        let (home, authority) = open(directory.path(), &refusal);
        Self { authority, _home: home, declared, now: start(), refusal, directory }
    }

    /// The same home after the process ended: nothing is remembered but what is on disk.
    pub(crate) fn restarted(self) -> Self {
        let Self { authority, _home: home, declared, now, refusal, directory } = self;
        drop(authority);
        drop(home);
        let (home, authority) = open(directory.path(), &refusal);
        Self { authority, _home: home, declared, now, refusal, directory }
    }

    /// Ends the process, as it were, and leaves the home.
    pub(crate) fn closed(self) -> Closed {
        Closed { directory: Arc::clone(&self.directory) }
    }

    pub(crate) fn short_lived(mut self, leaf: u64) -> Self {
        let leaf = Duration::from_secs(leaf);
        self.declared.settings = Lifetimes::new(leaf, leaf * 6).unwrap();
        self
    }

    pub(crate) fn reconcile(&self) -> Report {
        self.authority.reconcile(&self.declared, self.now)
    }

    /// Reconciles, and expects nothing to be wrong.
    pub(crate) fn settled(&self) -> Report {
        let report = self.reconcile();
        assert_eq!(report.problems, Vec::new());
        report
    }

    pub(crate) fn pass(&mut self, seconds: i64) {
        self.now = self.now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
    }

    pub(crate) fn refuse(&self, why: Option<&str>) {
        *self.refusal.lock().unwrap() = why.map(ToOwned::to_owned);
    }

    pub(crate) fn live(&self, credential: &str) -> Arc<Credential> {
        self.authority.live(&name(credential)).unwrap_or_else(|| panic!("no live {credential}"))
    }

    pub(crate) fn link(&mut self, link: &str) {
        self.declared.links.push(DeclaredLink {
            resource: ResourceRef::new("Link", link),
            name: name(link),
            credential: name(link),
        });
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn input(&self, kind: &str, credential: &str) -> PathBuf {
        self.path().join("input").join(kind).join(credential)
    }

    /// How many certificates the ledger has.
    pub(crate) fn issued(&self) -> usize {
        self.authority.ledger().issued(&IssuedFilter::default()).unwrap().len()
    }

    /// Gives out a grant and redeems it at once for another site.
    pub(crate) fn enrol(&self, options: &GrantOptions, csr: &Applicant) -> IssuedBundle {
        let (grant, code) = self.authority.issue_grant(options, self.now).unwrap();
        self.redeem(grant.id.as_str(), code.expose(), csr).unwrap()
    }

    pub(crate) fn redeem(
        &self,
        grant: &str,
        code: &str,
        applicant: &Applicant,
    ) -> Result<IssuedBundle, RedeemRefusal> {
        self.redeem_as(Redeemer::Site, grant, code, applicant)
    }

    pub(crate) fn redeem_as(
        &self,
        redeemer: Redeemer,
        grant: &str,
        code: &str,
        applicant: &Applicant,
    ) -> Result<IssuedBundle, RedeemRefusal> {
        let request = RedeemRequest {
            grant: grant.to_owned(),
            code: Zeroizing::new(code.as_bytes().to_vec()),
            redeemer,
            name: applicant.site.clone(),
            csr: applicant.csr.clone(),
            origin: "127.0.0.1:9".to_owned(),
        };
        self.authority.redeem(&request, &|grant| format!("cost {}", grant.cost), self.now)
    }
}

/// Who asks for a certificate.
#[derive(Clone)]
pub(crate) struct Applicant {
    pub(crate) site: String,
    pub(crate) csr: Vec<u8>,
}

impl Applicant {
    /// A site that asks for nothing but its name, with a new key.
    pub(crate) fn new(site: &str) -> Self {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let csr = Csr::create(&key, &Subject::new(site)).unwrap();
        Self { site: site.to_owned(), csr: csr.to_pem().into_bytes() }
    }

    pub(crate) fn of(site: &str, request: &CsrRequest) -> Self {
        Self { site: site.to_owned(), csr: request.csr_pem.clone().into_bytes() }
    }
}

pub(crate) fn chain(bundle: &IssuedBundle) -> Chain {
    Chain::from_pem(bundle.chain_pem.as_bytes()).unwrap()
}

pub(crate) fn anchors(bundle: &IssuedBundle) -> TrustAnchors {
    TrustAnchors::from_pem(bundle.anchors_pem.as_bytes()).unwrap()
}

pub(crate) fn answer(bundle: &IssuedBundle) -> EnrolmentAnswer {
    EnrolmentAnswer { chain: chain(bundle), anchors: Some(anchors(bundle)) }
}

/// The state of a credential in a report.
pub(crate) fn state(report: &Report, credential: &str) -> CredentialState {
    report
        .credentials
        .iter()
        .find(|facts| facts.name == name(credential))
        .unwrap_or_else(|| panic!("{credential} is not in {:#?}", report.credentials))
        .state
}

/// Every live credential works at this moment for what it is for.
pub(crate) fn assert_live_are_valid(report: &Report, now: Timestamp) {
    for (name, credential) in &report.live {
        let purpose = if credential.leaf().dns_names().is_empty()
            && credential.leaf().ip_addresses().is_empty()
        {
            Purpose::Client
        } else {
            Purpose::Server
        };
        verify_chain(credential.chain(), credential.anchors(), purpose, now)
            .unwrap_or_else(|error| panic!("{name} at {now}: {error}"));
    }
}

pub(crate) fn write_credential(directory: &Path, credential: &Credential) {
    let pem = credential.to_pem();
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("tls.crt"), &pem.tls_crt).unwrap();
    fs::write(directory.join("tls.key"), pem.tls_key.as_bytes()).unwrap();
    fs::write(directory.join("ca.crt"), &pem.ca_crt).unwrap();
}

/// Opens a home and an authority on it.
pub(crate) fn open(
    directory: &Path,
    refusal: &Arc<Mutex<Option<String>>>,
) -> (Home, Arc<Subjected>) {
    let home = Home::open(directory).unwrap();
    let store = DirectoryStore::open(&home, WatchSettings::default()).unwrap();
    let ledger = SqliteLedger::open(&home.layout().state_db).unwrap();
    let refusal = Arc::clone(refusal);
    let prover = move |_: &Name, _: &Credential| match &*refusal.lock().unwrap() {
        Some(why) => Err(why.clone()),
        None => Ok(()),
    };
    (home, Arc::new(Authority::new(Arc::new(store), Arc::new(ledger), prover)))
}
