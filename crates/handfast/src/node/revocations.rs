//! Revocations: from the ledger into what verifiers look up and what other sites are told, and from
//! other sites into the ledger.
//!
//! The ledger is the truth; the view and the feed are read from it, at the start and after every
//! change. What cannot be read stops the network from being started: nothing fails open.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use handfast_authority::{
    Authority, ForeignError, ForeignRevoked, HeardRevocation, RevokeError, RevokeForeign,
    RevokeRequest, RevokedNow,
};
use handfast_network::wire::{Revocations as Message, RevocationsAcknowledged, SignedRevocations};
use handfast_network::{
    Believed, Position, RevocationFeed, STATED, StatedRevocation, Told, Unknown,
    believe_revocations, decode_statement, encode_statement, read_revocations, state_revocations,
};
use handfast_pki::{CertificateId, Issuer, Name};
use handfast_store::{CredentialStore, Ledger, RecordedRevocation, StoreError};
use handfast_tls::{Revocations, RevokedInfo};
use jiff::Timestamp;

use super::core::Core;
use crate::clock;

/// What the node knows to be revoked, in the two forms in which it is used.
#[derive(Default)]
pub(super) struct Revoked {
    /// For verifiers and live connections.
    pub(super) view: Revocations,
    /// For other sites.
    pub(super) feed: RevocationFeed,
    loaded: Mutex<Loaded>,
}

/// How much of the ledger was read.
#[derive(Default)]
struct Loaded {
    revocations: u64,
    statements: u64,
    /// Statements of others, and for each revocation the one that told of it.
    kept: Vec<SignedRevocations>,
    told_by: HashMap<CertificateId, usize>,
}

/// Rows read from the ledger at once.
const PAGE: u32 = 5_000;

/// What was revoked by request, and what that did here.
pub(super) struct RevokedHere {
    pub(super) revoked: RevokedNow,
    /// Connections of this node that were cut.
    pub(super) cut: usize,
}

impl Revoked {
    /// Reads what the ledger recorded since the last time. Blocks.
    pub(super) fn load<S: CredentialStore, L: Ledger>(
        &self,
        authority: &Authority<S, L>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let ledger = authority.ledger();
        let first = ledger.revocations_after(loaded.revocations, PAGE)?;
        if first.is_empty() {
            return Ok(());
        }
        loaded.read_statements(ledger.as_ref())?;
        let mut builder = Builder::new(authority.signers(), now);
        let mut page = first;
        while let Some(last) = page.last() {
            loaded.revocations = last.sequence;
            self.view.record(page.iter().map(|row| (id_of(row), info_of(row))));
            for row in &page {
                let ended = ended(ledger.as_ref(), row)?;
                builder.add(row, ended, loaded.told_by.get(&id_of(row)).copied());
            }
            page = ledger.revocations_after(loaded.revocations, PAGE)?;
        }
        self.feed.extend(builder.finish(&loaded.kept));
        Ok(())
    }
}

impl Loaded {
    fn read_statements(&mut self, ledger: &impl Ledger) -> Result<(), StoreError> {
        loop {
            let page = ledger.statements_after(self.statements, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            self.statements = last.number;
            for recorded in page {
                let Some(statement) = decode_statement(&recorded.statement) else {
                    tracing::error!(number = recorded.number, "a kept statement is unreadable");
                    continue;
                };
                let stated = read_revocations(&statement, None).unwrap_or_default();
                let index = self.kept.len();
                self.kept.push(statement);
                for each in stated {
                    self.told_by.entry(each.certificate).or_insert(index);
                }
            }
        }
    }
}

/// Whether the enrolment of a revoked certificate is ended.
fn ended(ledger: &impl Ledger, row: &RecordedRevocation) -> Result<bool, StoreError> {
    match &row.revocation.lineage {
        Some(lineage) => Ok(ledger.lineage_ended(lineage)?.is_some()),
        None => Ok(false),
    }
}

/// Where a row's statement comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// One of our issuers, which signs it now.
    Own(usize),
    /// A statement that was kept.
    Kept(usize),
}

/// Makes statements of rows that follow each other and have one origin.
struct Builder {
    signers: Vec<Issuer>,
    by_key: HashMap<[u8; 32], usize>,
    now: Timestamp,
    runs: Vec<(Origin, Vec<(u64, StatedRevocation)>)>,
}

impl Builder {
    fn new(signers: Vec<Issuer>, now: Timestamp) -> Self {
        let mut by_key = HashMap::new();
        for (index, signer) in signers.iter().enumerate() {
            by_key.entry(signer.certificate().key_id()).or_insert(index);
        }
        Self { signers, by_key, now, runs: Vec::new() }
    }

    fn add(&mut self, row: &RecordedRevocation, enrolment_ended: bool, kept: Option<usize>) {
        let revocation = &row.revocation;
        let own = self.by_key.get(&revocation.issuer_key_id).map(|index| Origin::Own(*index));
        // Without key and statement there is nobody whom another site would believe.
        let Some(origin) = own.or(kept.map(Origin::Kept)) else { return };
        let stated = StatedRevocation {
            certificate: id_of(row),
            reason: revocation.reason,
            at: revocation.at,
            not_after: revocation.not_after,
            enrolment_ended,
            identity: revocation.identity.clone(),
        };
        match self.runs.last_mut() {
            Some((last, run)) if *last == origin && run.len() < STATED => {
                run.push((row.sequence, stated));
            }
            _ => self.runs.push((origin, vec![(row.sequence, stated)])),
        }
    }

    fn finish(self, kept: &[SignedRevocations]) -> Vec<Told> {
        let Self { signers, now, runs, .. } = self;
        let mut told = Vec::with_capacity(runs.len());
        for (origin, run) in runs {
            let valid: Vec<StatedRevocation> = run
                .iter()
                .filter(|(_, stated)| stated.not_after.is_none_or(|end| end > now))
                .map(|(_, stated)| stated.clone())
                .collect();
            let statement = match origin {
                _ if valid.is_empty() => None,
                Origin::Kept(index) => kept.get(index).cloned(),
                Origin::Own(index) => match state_revocations(&signers[index], &valid) {
                    Ok(statement) => Some(statement),
                    Err(error) => {
                        tracing::error!(%error, "revocations cannot be told to other sites");
                        continue;
                    }
                },
            };
            let recorded =
                run.into_iter().map(|(number, stated)| (number, stated.certificate)).collect();
            told.push(Told { recorded, statement });
        }
        told
    }
}

fn id_of(row: &RecordedRevocation) -> CertificateId {
    CertificateId {
        issuer_key_id: row.revocation.issuer_key_id,
        serial: row.revocation.serial.clone(),
    }
}

/// New connections are refused without the data plane's doing; those that are open are cut when it comes to it.
pub(super) fn not_known_to_be_cut(unknown: Unknown) {
    tracing::error!(%unknown, "it is not known which connections were cut for what is revoked");
}

fn info_of(row: &RecordedRevocation) -> RevokedInfo {
    RevokedInfo { at: row.revocation.at, reason: row.revocation.reason }
}

impl Core {
    /// Takes over what the ledger has recorded since the last time, and has it enforced and told. Says
    /// how many connections of this node were cut. Blocks.
    pub(super) fn take_over_revocations(&self) -> Result<usize, StoreError> {
        let before = self.revoked.view.generation();
        self.revoked.load(self.authority(), clock::now())?;
        if self.revoked.view.generation() == before {
            return Ok(0);
        }
        let Some(network) = self.network() else { return Ok(0) };
        Ok(network.revocations_changed().unwrap_or_else(|unknown| {
            not_known_to_be_cut(unknown);
            0
        }))
    }

    /// Revokes what was issued here; durable, and enforced on this node, when it returns.
    pub(super) async fn revoke(
        self: &Arc<Self>,
        request: RevokeRequest,
    ) -> Result<RevokedHere, RevokeError> {
        let core = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let revoked = core.authority().revoke(&request, clock::now())?;
            let cut = core.take_over_revocations()?;
            Ok(RevokedHere { revoked, cut })
        });
        let outcome = match work.await {
            Ok(outcome) => outcome,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        // Credentials of our own that were revoked are made anew at once.
        self.nudge();
        outcome
    }

    /// Revokes what a CA of this home signed elsewhere; durable, and enforced on this node, when it returns. Says also how many
    /// connections were cut.
    pub(super) async fn revoke_foreign(
        self: &Arc<Self>,
        request: RevokeForeign,
    ) -> Result<(ForeignRevoked, usize), ForeignError> {
        let core = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let revoked = core.authority().revoke_foreign(&request, clock::now())?;
            Ok((revoked, core.take_over_revocations()?))
        });
        match work.await {
            Ok(outcome) => outcome,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Records what another site told, and says up to where that goes in its count. Nothing is
    /// acknowledged that is not on disk.
    pub(super) async fn hear_revocations(
        self: &Arc<Self>,
        site: Name,
        message: Message,
    ) -> Option<RevocationsAcknowledged> {
        let core = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || core.record_statements(&site, message));
        match work.await {
            Ok(Ok((ack, news))) => {
                if news > 0 {
                    // Our own credentials may be among it.
                    self.nudge();
                }
                Some(ack)
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "revocations of another site could not be recorded");
                None
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn record_statements(
        &self,
        site: &Name,
        message: Message,
    ) -> Result<(RevocationsAcknowledged, usize), StoreError> {
        let now = clock::now();
        let believed = self.believed();
        let mut news = 0;
        for statement in &message.statements {
            let stated = match believe_revocations(statement, &believed, now) {
                Ok(stated) => stated,
                Err(error) => {
                    tracing::debug!(%site, %error, "a statement of revocation was left out");
                    continue;
                }
            };
            let heard: Vec<HeardRevocation> = stated.into_iter().map(heard).collect();
            let from = format!("site {site}");
            let bytes = encode_statement(statement);
            let recorded = self.authority().record_heard(&bytes, &heard, &from, now)?;
            if recorded > 0 {
                tracing::warn!(%site, certificates = recorded, "revocations were heard");
            }
            news += recorded;
        }
        let cut = if news > 0 { self.take_over_revocations()? } else { 0 };
        if cut > 0 {
            tracing::warn!(connections = cut, "link connections were cut");
        }
        let Message { sequence, digest, .. } = message;
        let position = Position { sequence, digest: digest.clone() };
        self.revoked.feed.has_heard(site.clone(), position);
        Ok((RevocationsAcknowledged { sequence, digest }, news))
    }

    /// Whose word is taken: that of the CAs below any anchor that a credential in use came with, and
    /// that of our own issuers.
    fn believed(&self) -> Believed {
        let report = self.state().report.clone();
        let mut seen = BTreeSet::new();
        let mut anchors = Vec::new();
        for credential in report.iter().flat_map(|report| report.live.values()) {
            if seen.insert(credential.anchors().to_pem()) {
                anchors.push(credential.anchors().clone());
            }
        }
        let own = self.authority().signers();
        let own = own.iter().map(|issuer| issuer.certificate().key_id()).collect();
        Believed { anchors, own }
    }
}

fn heard(stated: StatedRevocation) -> HeardRevocation {
    let StatedRevocation { certificate, reason, at, not_after, enrolment_ended, identity } = stated;
    HeardRevocation { certificate, reason, at, not_after, enrolment_ended, identity }
}
