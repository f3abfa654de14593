//! Revocation lists that others publish, laid beside the certificates of supplied credentials: read,
//! checked against their issuers, and put before every verifier. The newest number of each issuer
//! counts, a delta is merged into the full list that it continues.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use handfast_api::status::{ProblemSeverity, ProblemView};
use handfast_authority::Report;
use handfast_pki::{Certificate, Credential, Crl, CrlSet, Fingerprint, Name};
use handfast_store::{CredentialStore as _, Kind, Source, revocation_lists};
use handfast_tls::RevocationList;
use jiff::Timestamp;

use super::core::Core;
use super::revocations::not_known_to_be_cut;
use crate::clock;

/// The lists of the last turn.
#[derive(Default)]
pub(super) struct Lists(Mutex<State>);

#[derive(Default)]
struct State {
    /// Of every file, so that what did not change is not read again.
    digest: Option<Fingerprint>,
    set: CrlSet,
    /// What was wrong with the files.
    problems: Vec<ProblemView>,
}

/// One file with the credential that it lies beside.
struct File {
    path: PathBuf,
    bytes: Vec<u8>,
    credential: Name,
    issuers: Vec<Certificate>,
}

impl Core {
    /// Takes over the lists of all credentials in use, and has connections judged again where something
    /// changed. Says what is wrong with them. Blocks.
    pub(super) fn take_over_lists(&self, report: &Report) -> Vec<ProblemView> {
        let own = self.authority().signers();
        self.revoked.view.set_own_issuers(own.iter().map(|issuer| issuer.certificate().key_id()));
        let (files, mut problems) = self.list_files(report);
        let digest = digest(&files);
        let mut state = self.lists.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.digest != Some(digest) {
            state.digest = Some(digest);
            state.replace(files);
            let lists = state.set.views().map(|(issuer_key_id, view)| RevocationList {
                issuer_key_id: *issuer_key_id,
                view: view.clone(),
            });
            self.revoked.view.set_lists(lists.collect::<Vec<_>>());
            if let Some(network) = self.network() {
                match network.revocations_changed() {
                    Ok(0) => {}
                    Ok(cut) => {
                        tracing::warn!(connections = cut, "cut because of a revocation list");
                    }
                    Err(unknown) => not_known_to_be_cut(unknown),
                }
            }
        }
        problems.extend(state.problems.iter().cloned());
        problems.extend(stale(&state.set, clock::now()));
        problems
    }

    fn list_files(&self, report: &Report) -> (Vec<File>, Vec<ProblemView>) {
        let mut files = Vec::new();
        let mut problems = Vec::new();
        for (name, credential) in &report.live {
            let stored = self.authority().store().load(Kind::Certificate, name);
            let Ok(Some(stored)) = stored else { continue };
            if stored.source != Source::Supplied {
                continue;
            }
            match revocation_lists(&stored.directory) {
                Ok(found) => files.extend(found.into_iter().map(|(path, bytes)| File {
                    path,
                    bytes,
                    credential: name.clone(),
                    issuers: issuers(credential),
                })),
                Err(error) => problems.push(problem(name, error.to_string(), READABLE)),
            }
        }
        (files, problems)
    }
}

impl State {
    fn replace(&mut self, files: Vec<File>) {
        let before = std::mem::take(&mut self.set);
        self.problems.clear();
        let mut issuers = Vec::new();
        for file in files {
            let place = file.path.display().to_string();
            let lists = match Crl::read_all(&file.bytes) {
                Ok(lists) => lists,
                Err(error) => {
                    let what = format!("revocation list `{place}`: {error}");
                    self.problems.push(problem(&file.credential, what, REPLACE));
                    Vec::new()
                }
            };
            for list in lists {
                let issuer = list.issuer().to_owned();
                let added = file
                    .issuers
                    .iter()
                    .map(|candidate| self.set.add(list.clone(), candidate))
                    .find(Result::is_ok);
                if added.is_none() {
                    let what = format!(
                        "revocation list `{place}` of {issuer} is signed by none of the CAs in `tls.crt` \
                         and `ca.crt` beside it"
                    );
                    self.problems.push(problem(&file.credential, what, REPLACE));
                }
            }
            issuers.extend(file.issuers);
        }
        // A list that is older than what was read before does not take its place, and what cannot be
        // used does not either. One that was taken away is gone.
        let broken = !self.problems.is_empty();
        let still: Vec<[u8; 32]> = self.set.views().map(|(issuer, _)| *issuer).collect();
        for (issuer_key_id, view) in before.views() {
            if !broken && !still.contains(issuer_key_id) {
                continue;
            }
            let signer = issuers.iter().find(|candidate| candidate.key_id() == *issuer_key_id);
            let Some(signer) = signer else { continue };
            for list in std::iter::once(view.full()).chain(view.delta()) {
                // It was added once; that it is not added again only means that it is older.
                let _ = self.set.add(list.clone(), signer).is_ok();
            }
        }
        for (_, view) in self.set.views() {
            tracing::info!(
                issuer = view.full().issuer(),
                number = %view.number(),
                until = %view.next_update(),
                "a revocation list is in force"
            );
        }
    }
}

/// Who may have signed a list that lies beside this credential.
fn issuers(credential: &Credential) -> Vec<Certificate> {
    let above = credential.chain().rest().iter();
    above.chain(credential.anchors().iter()).cloned().collect()
}

fn stale(set: &CrlSet, now: Timestamp) -> Vec<ProblemView> {
    set.views()
        .filter(|(_, view)| now > view.next_update())
        .map(|(_, view)| ProblemView {
            severity: ProblemSeverity::Warning,
            subject: format!("revocation list of {}", view.full().issuer()),
            file: None,
            line: None,
            message: format!(
                "number {} was to be replaced by {}: what was revoked since is not known here",
                view.number(),
                view.next_update()
            ),
            remedy:
                "put the issuer's newest list in its place; links with `revocation: require` are \
                     refused meanwhile"
                    .to_owned(),
        })
        .collect()
}

fn digest(files: &[File]) -> Fingerprint {
    let mut all = Vec::new();
    for file in files {
        all.extend_from_slice(file.path.as_os_str().as_encoded_bytes());
        all.extend_from_slice(Fingerprint::of(&file.bytes).as_bytes());
        for issuer in &file.issuers {
            all.extend_from_slice(issuer.fingerprint().as_bytes());
        }
    }
    Fingerprint::of(&all)
}

fn problem(credential: &Name, message: String, remedy: &str) -> ProblemView {
    ProblemView {
        severity: ProblemSeverity::Warning,
        subject: format!("credential {credential}"),
        file: None,
        line: None,
        message,
        remedy: remedy.to_owned(),
    }
}

const READABLE: &str = "make the file readable; the change is noticed at once";
const REPLACE: &str = "put a list of an issuer of this credential there, or remove the file; the change is noticed at once";
