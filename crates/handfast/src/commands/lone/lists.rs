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
    /// Why what lies there is not in force, as it was read last.
    found: Option<String>,
    /// There are lists in force that nobody was told of.
    news: bool,
    trouble: watch::Sender<Option<String>>,
    due: watch::Sender<Option<(Timestamp, String)>>,
}

impl Lists {
    /// Of these files, none of which was read yet.
    pub(in crate::commands) fn of(files: Vec<PathBuf>) -> Self {
        let (trouble, due) = (watch::Sender::new(None), watch::Sender::new(None));
        let (set, view) = (CrlSet::default(), Revocations::new());
        Self { files, set, view, found: None, news: false, trouble, due }
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

    /// Reads the files. Whoever is met from now on is judged by what can be used of them, with or without an error.
    /// Followed by [`tell`](Self::tell).
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub(in crate::commands) fn read(&mut self, issuers: &[Certificate]) -> Result<(), BrokenList> {
        let mut broken = None;
        let mut news = false;
        for file in &self.files {
            match take(&mut self.set, file, issuers) {
                Ok(newer) => news |= newer,
                Err(why) => broken = broken.or(Some(BrokenList { file: file.clone(), why })),
            }
        }
        if news {
            self.enforce();
        }
        broken.map_or(Ok(()), Err)
    }

    /// Reads them again while it runs: what is broken is said, and the last good one stays.
    pub(in crate::commands) fn read_again(&mut self, issuers: &[Certificate]) {
        self.found = self.read(issuers).err().map(|broken| broken.to_string());
        if let Some(why) = &self.found {
            tracing::error!(
                why,
                "what was changed cannot be used; the last good revocation list stays in force"
            );
        }
    }

    /// Says which lists are in force, and shows what was read last to whoever asks for [`trouble`](Self::trouble) and
    /// [`due`](Self::due). For when open connections are judged by them too.
    pub(in crate::commands) fn tell(&mut self, now: Timestamp) {
        self.trouble.send_replace(self.found.clone());
        if !std::mem::take(&mut self.news) {
            return;
        }
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

    fn enforce(&mut self) {
        let lists = self.set.views().map(|(issuer_key_id, view)| RevocationList {
            issuer_key_id: *issuer_key_id,
            view: view.clone(),
        });
        self.view.set_lists(lists.collect::<Vec<_>>());
        self.news = true;
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
