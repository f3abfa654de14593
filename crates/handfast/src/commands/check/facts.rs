//! What checks are made from: read once, from the home's files and from its node, if one answers.
//! What cannot be read is a fact too; nothing here fails.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use handfast_api::admin::{AuthorityStatus, ClientError};
use handfast_api::resources::{ResourceFault, Resources};
use handfast_api::status::{CredentialStatus, Faults, NodeStatus};
use handfast_api::telemetry::StationView;
use handfast_authority::renew_at;
use handfast_pki::Chain;
use handfast_store::{
    AuditLog, CredentialStore as _, DirectoryStore, HomePaths, Kind, Ledger as _, Source,
    SqliteLedger,
};
use jiff::Timestamp;

use crate::clock;
use crate::commands::{Context, cert};

/// Everything that was found out.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) now: Timestamp,
    /// No node is meant to run.
    pub(super) offline: bool,
    pub(super) home: HomeFacts,
    pub(super) node: NodeFacts,
    /// What the node says of its authorities; nothing if it cannot be asked.
    pub(super) authorities: Option<Vec<AuthorityStatus>>,
    /// Its collectors and relays; none if it cannot be asked.
    pub(super) stations: Vec<StationView>,
    pub(super) credentials: Result<Vec<CredentialStatus>, String>,
    pub(super) issuers: Result<Vec<IssuerFacts>, String>,
    pub(super) ledger: LedgerFacts,
}

/// The home's files.
#[derive(Debug, Default)]
pub(super) struct HomeFacts {
    pub(super) root: PathBuf,
    /// Why it cannot be read.
    pub(super) unreadable: Option<String>,
    /// Why it cannot be written by whoever asks.
    pub(super) unwritable: Option<String>,
    /// Files and directories that others may read, with their modes.
    pub(super) loose: Vec<(PathBuf, u32)>,
    /// Supplied keys that a group may read.
    pub(super) grouped: Vec<PathBuf>,
    /// Room left on its file system, in bytes.
    pub(super) free: Option<u64>,
    pub(super) faults: Vec<ResourceFault>,
    pub(super) site: Option<String>,
    /// How much of its life each certificate is to have left when it is renewed; zero if nobody said.
    pub(super) grace: Duration,
    pub(super) resources: usize,
}

/// The node of this home.
#[derive(Debug)]
pub(super) enum NodeFacts {
    Answers(Box<NodeStatus>, Faults),
    /// Something is there and cannot be asked.
    Deaf(String),
    None,
}

/// A signing authority.
#[derive(Clone, Debug)]
pub(super) struct IssuerFacts {
    pub(super) name: String,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// When it is renewed; absent for a supplied one.
    pub(super) renew_at: Option<Timestamp>,
    pub(super) has_key: bool,
    pub(super) is_root: bool,
}

/// The ledger.
#[derive(Debug)]
pub(super) enum LedgerFacts {
    /// Not made yet.
    Absent,
    Broken(String),
    Good {
        /// Start of validity of the certificate that was issued last.
        newest: Option<Timestamp>,
        /// How many audit rows there are, or what is wrong with them.
        audit: Result<u64, String>,
    },
}

impl Facts {
    pub(super) async fn gather(context: &Context, offline: bool) -> Self {
        let client = context.client();
        let node = match client.status().await {
            Ok(status) => match client.faults().await {
                Ok(faults) => NodeFacts::Answers(Box::new(status), faults),
                Err(error) => NodeFacts::Deaf(error.to_string()),
            },
            Err(ClientError::NoNode { .. }) => NodeFacts::None,
            Err(error) => NodeFacts::Deaf(error.to_string()),
        };
        // A node that hangs is asked once: every further question would take as long as the first did.
        let answers = matches!(node, NodeFacts::Answers(..));
        let credentials = match answers.then_some(client.credentials()) {
            Some(asked) => asked.await.ok(),
            None => None,
        };
        let credentials = credentials
            .map_or_else(|| cert::from_files(context).map_err(|error| error.to_string()), Ok);
        let (authorities, stations) = if answers {
            (client.authorities().await.ok(), client.stations().await.unwrap_or_default())
        } else {
            (None, Vec::new())
        };
        Self {
            now: clock::now(),
            offline,
            authorities,
            stations,
            home: HomeFacts::of(&context.home),
            node,
            credentials,
            issuers: issuers(&context.home),
            ledger: ledger(&context.home.state_db),
        }
    }

    /// What the node says, if one answers.
    pub(super) fn status(&self) -> Option<&NodeStatus> {
        match &self.node {
            NodeFacts::Answers(status, _) => Some(status),
            NodeFacts::Deaf(_) | NodeFacts::None => None,
        }
    }
}

impl HomeFacts {
    fn of(paths: &HomePaths) -> Self {
        let mut facts = Self { root: paths.root.clone(), ..Self::default() };
        // Before the first start there is nothing but what the user declared.
        let kept = if paths.runtime.exists() { &paths.runtime } else { &paths.root };
        if let Err(error) = fs::read_dir(&paths.root).and_then(|_| fs::read_dir(kept)) {
            facts.unreadable = Some(error.to_string());
            return facts;
        }
        let access = rustix::fs::Access::READ_OK
            | rustix::fs::Access::WRITE_OK
            | rustix::fs::Access::EXEC_OK;
        facts.unwritable = rustix::fs::access(kept, access).err().map(|error| error.to_string());
        facts.free =
            rustix::fs::statvfs(kept).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        facts.look_for_loose(&paths.root, paths);
        facts.loose.sort();
        let (resources, faults) = Resources::load(&paths.input_resources);
        facts.site = resources.site.as_ref().map(|site| site.name.to_string());
        let settings = resources.site.as_ref().and_then(|site| site.spec.settings().ok());
        facts.grace = settings.map(|settings| settings.lifetimes.grace()).unwrap_or_default();
        facts.resources = resources.len();
        facts.faults = faults;
        facts
    }

    /// Who may read what he should not: directories of the home and everything the node keeps belong to
    /// its owner alone; among what is supplied, keys do.
    fn look_for_loose(&mut self, directory: &Path, paths: &HomePaths) {
        let Ok(entries) = fs::read_dir(directory) else { return };
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let mode = metadata.mode() & 0o777;
            let kind = metadata.file_type();
            let ours = path.starts_with(&paths.runtime);
            let is_key = path.file_name().is_some_and(|name| name == "tls.key");
            if kind.is_dir() {
                if ours && mode & 0o077 != 0 {
                    self.loose.push((path.clone(), mode));
                }
                if self.loose.len() < MOST_LOOSE {
                    self.look_for_loose(&path, paths);
                }
            } else if !kind.is_symlink() && !kind.is_socket() {
                if (ours && mode & 0o077 != 0) || (is_key && mode & 0o007 != 0) {
                    self.loose.push((path, mode));
                } else if is_key && mode & 0o070 != 0 {
                    self.grouped.push(path);
                }
            }
        }
    }
}

fn issuers(paths: &HomePaths) -> Result<Vec<IssuerFacts>, String> {
    let store = DirectoryStore::read_only(paths);
    let mut found = Vec::new();
    for name in store.list(Kind::Issuer).map_err(|error| error.to_string())? {
        let stored = store.load(Kind::Issuer, &name).map_err(|error| error.to_string())?;
        let Some(stored) = stored else { continue };
        let Some(pem) = &stored.pem.tls_crt else { continue };
        let chain = Chain::from_pem(pem).map_err(|error| format!("issuer `{name}`: {error}"))?;
        let leaf = chain.leaf();
        let (start, end) = (leaf.not_before(), leaf.not_after());
        found.push(IssuerFacts {
            name: name.to_string(),
            not_before: start,
            not_after: end,
            renew_at: (stored.source == Source::Managed)
                .then(|| renew_at(start, end, leaf.fingerprint().as_bytes())),
            has_key: stored.pem.tls_key.is_some(),
            is_root: leaf.subject() == leaf.issuer(),
        });
    }
    Ok(found)
}

fn ledger(path: &Path) -> LedgerFacts {
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return LedgerFacts::Absent,
        Err(error) => {
            return LedgerFacts::Broken(format!("cannot read {}: {error}", path.display()));
        }
    }
    let newest = SqliteLedger::open(path).and_then(|ledger| {
        let filter = handfast_store::IssuedFilter { limit: Some(1), ..Default::default() };
        ledger.issued(&filter)
    });
    match newest {
        Ok(newest) => LedgerFacts::Good {
            newest: newest.first().map(|one| one.not_before),
            audit: audit(path),
        },
        Err(error) => LedgerFacts::Broken(error.to_string()),
    }
}

/// Verifies the whole audit log.
fn audit(path: &Path) -> Result<u64, String> {
    let verified = AuditLog::open(path)
        .and_then(|mut log| log.verify(Vec::new()))
        .map_err(|error| error.to_string())?;
    match verified.flaws.first() {
        None => Ok(verified.rows),
        Some(flaw) => Err(flaw.to_string()),
    }
}

/// Enough to see that something is wrong throughout.
const MOST_LOOSE: usize = 100;
