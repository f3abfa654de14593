//! Revocation lists from files: read again when they change, checked against the CAs that are trusted, and put before
//! every handshake and every open connection. A list that is older than one that was read does not take its place.

use std::path::{Path, PathBuf};

use handfast_pki::{Certificate, Crl, CrlSet};
use handfast_store::read_bounded;
use handfast_tls::{RevocationList, Revocations};
use jiff::Timestamp;
use tokio::sync::watch;

use super::Trouble;
use crate::exit::Exit;
use crate::failure::Failure;

/// When the first of the lists is to be replaced, and whose that is.
pub(in crate::commands) type Due = watch::Receiver<Option<(Timestamp, String)>>;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub(in crate::commands) struct BrokenList {
    file: PathBuf,
    why: String,
}

impl From<BrokenList> for Failure {
    fn from(broken: BrokenList) -> Self {
        Self::new(Exit::BadInput, "a revocation list cannot be used")
            .at(broken.file.display())
            .because(broken.why)
            .remedy(
                "put a list there, PEM or DER, of a CA that is trusted here; or leave --crl away",
            )
    }
}

/// The lists in force.
pub(in crate::commands) struct Lists {
    files: Vec<PathBuf>,
    set: CrlSet,
    view: Revocations,
    trouble: watch::Sender<Option<String>>,
    due: watch::Sender<Option<(Timestamp, String)>>,
}

impl Lists {
    /// Of these files, none of which was read yet.
    pub(in crate::commands) fn of(files: Vec<PathBuf>) -> Self {
        let (trouble, due) = (watch::Sender::new(None), watch::Sender::new(None));
        Self { files, set: CrlSet::default(), view: Revocations::new(), trouble, due }
    }

    /// What is revoked, as every verifier is to see it.
    pub(in crate::commands) fn view(&self) -> Revocations {
        self.view.clone()
    }

    /// Why what lies there is not in force, now and later.
    pub(in crate::commands) fn trouble(&self) -> Trouble {
        self.trouble.subscribe()
    }

    pub(in crate::commands) fn due(&self) -> Due {
        self.due.subscribe()
    }

    /// Reads the files. What can be used is in force when this returns, with or without an error.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub(in crate::commands) fn read(
        &mut self,
        issuers: &[Certificate],
        now: Timestamp,
    ) -> Result<(), BrokenList> {
        let mut broken = None;
        let mut news = false;
        for file in &self.files {
            match take(&mut self.set, file, issuers) {
                Ok(newer) => news |= newer,
                Err(why) => broken = broken.or(Some(BrokenList { file: file.clone(), why })),
            }
        }
        if news {
            self.enforce(now);
        }
        broken.map_or(Ok(()), Err)
    }

    /// Reads them again while it runs: what is broken is said, and the last good one stays.
    pub(in crate::commands) fn read_again(&mut self, issuers: &[Certificate], now: Timestamp) {
        let broken = self.read(issuers, now).err().map(|broken| broken.to_string());
        if let Some(why) = &broken {
            tracing::error!(
                why,
                "what was changed cannot be used; the last good revocation list stays in force"
            );
        }
        self.trouble.send_replace(broken);
    }

    fn enforce(&self, now: Timestamp) {
        let lists = self.set.views().map(|(issuer_key_id, view)| RevocationList {
            issuer_key_id: *issuer_key_id,
            view: view.clone(),
        });
        self.view.set_lists(lists.collect::<Vec<_>>());
        for (_, view) in self.set.views() {
            let (issuer, number, until) = (view.full().issuer(), view.number(), view.next_update());
            if until < now {
                tracing::warn!(issuer, %number, %until, "a revocation list is in force that was to be replaced");
            } else {
                tracing::info!(issuer, %number, %until, "a revocation list is in force");
            }
        }
        let due =
            self.set.views().map(|(_, view)| (view.next_update(), view.full().issuer().to_owned()));
        self.due.send_replace(due.min());
    }
}

/// Whether there was anything new in it.
fn take(set: &mut CrlSet, file: &Path, issuers: &[Certificate]) -> Result<bool, String> {
    let bytes = read_bounded(file, LARGEST).map_err(|error| error.source.to_string())?;
    let bytes = bytes.ok_or("it is not there")?;
    let mut news = false;
    for list in Crl::read_all(&bytes).map_err(|error| error.to_string())? {
        let added = issuers.iter().find_map(|issuer| set.add(list.clone(), issuer).ok());
        news |= added.ok_or_else(|| {
            format!(
                "the list of {} is signed by none of the CAs that are trusted here",
                list.issuer()
            )
        })?;
    }
    Ok(news)
}

/// More than a million entries, in bytes.
const LARGEST: u64 = 64 << 20;
