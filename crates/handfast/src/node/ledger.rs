//! Reading the ledger for whoever asks: what was issued, and what was done. By the node that holds it or, for what was
//! issued, by a command while none runs.

use std::sync::Arc;

use handfast_api::admin::{
    AuditSearch, ExportAudit, ExportPage, FindIssued, IssuedView, Refusal, RefusalCode, VerifyAudit,
};
use handfast_api::audit::{AuditRowView, ExportEnd, ExportedRow, VerificationView};
use handfast_store::{
    AuditLog, AuditPage, AuditPublicKey, Home, HomePaths, Ledger, SignedHead, SqliteLedger,
    StoreError,
};
use jiff::Timestamp;

use super::core::Core;
use crate::clock;

impl Core {
    /// What the site has issued.
    pub(super) async fn issued(
        self: &Arc<Self>,
        search: FindIssued,
    ) -> Result<Vec<IssuedView>, Refusal> {
        let core = Arc::clone(self);
        apart(move || find(core.authority().ledger().as_ref(), &search, clock::now())).await
    }

    /// Rows of the audit log.
    pub(super) async fn audit_rows(
        self: &Arc<Self>,
        search: AuditSearch,
    ) -> Result<Vec<AuditRowView>, Refusal> {
        let path = self.paths.state_db.clone();
        apart(move || {
            let rows = AuditLog::open(path).and_then(|mut log| log.rows(&search.filter()));
            let rows = rows.map_err(|error| unreadable(&error))?;
            Ok(rows.iter().map(|recorded| AuditRowView::of(recorded, &recorded.leaf())).collect())
        })
        .await
    }

    /// A page of an export of the audit log.
    pub(super) async fn export_audit(
        self: &Arc<Self>,
        question: ExportAudit,
    ) -> Result<ExportPage, Refusal> {
        let path = self.paths.state_db.clone();
        apart(move || {
            let (after, size) = (question.after.unwrap_or(0), question.size.unwrap_or(u64::MAX));
            let read = || {
                let mut log = AuditLog::open(path)?;
                let page = log.page(after, size, ExportAudit::MOST)?;
                Ok((page, log.keys()?))
            };
            let (AuditPage { rows, head }, keys) =
                read().map_err(|error: StoreError| unreadable(&error))?;
            let filter = question.filter();
            let covered = head.as_ref().map_or(0, |head| head.head.size);
            Ok(ExportPage {
                more: rows.last().is_some_and(|(last, _)| last.sequence < covered.min(size)),
                rows: rows.iter().map(|(row, leaf)| ExportedRow::of(row, leaf, &filter)).collect(),
                end: head.map(|head| ExportEnd {
                    head: head.to_string(),
                    keys: keys.iter().map(AuditPublicKey::to_pem).collect(),
                }),
                size: covered,
            })
        })
        .await
    }

    /// Whether the audit log is whole.
    pub(super) async fn verify_audit(
        self: &Arc<Self>,
        question: VerifyAudit,
    ) -> Result<VerificationView, Refusal> {
        let heads = question.head.as_deref().map(head).transpose()?;
        let heads = heads.into_iter().map(|head| ("the head that was given".to_owned(), head));
        let heads: Vec<_> = heads.collect();
        let path = self.paths.state_db.clone();
        apart(move || {
            let verified = AuditLog::open(path).and_then(|mut log| log.verify(heads));
            Ok(VerificationView::from(&verified.map_err(|error| unreadable(&error))?))
        })
        .await
    }
}

/// What a home has issued whose node does not run. Nothing where there is no ledger yet.
pub(crate) fn issued_offline(
    home: &HomePaths,
    search: &FindIssued,
) -> anyhow::Result<Vec<IssuedView>> {
    if !home.state_db.exists() {
        return Ok(Vec::new());
    }
    let _lock = Home::open(&home.root)?;
    let ledger = SqliteLedger::open(&home.state_db)?;
    Ok(find(&ledger, search, clock::now())?)
}

fn find(
    ledger: &impl Ledger,
    search: &FindIssued,
    now: Timestamp,
) -> Result<Vec<IssuedView>, Refusal> {
    let filter = search.filter(now)?;
    let read = || -> Result<Vec<IssuedView>, StoreError> {
        let mut found = Vec::new();
        for recorded in ledger.recorded_issued(&filter)? {
            let issued = &recorded.issued;
            let revoked = ledger.revocation(&issued.issuer_key_id, &issued.serial)?;
            let ended = ledger.lineage_ended(&issued.lineage)?.is_some();
            let revocation = revoked.as_ref().map(|recorded| &recorded.revocation);
            found.push(IssuedView::of(&recorded, revocation, ended));
        }
        Ok(found)
    };
    read().map_err(|error| unreadable(&error))
}

fn head(text: &str) -> Result<SignedHead, Refusal> {
    format!("{}\n", text.trim()).parse().map_err(|error| {
        Refusal::new(
            RefusalCode::Invalid,
            format!("the head to compare with cannot be read: {error}"),
            "give it as `handfast audit verify -o json` has it",
        )
    })
}

async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        Err(Refusal::new(RefusalCode::Internal, "the reading was cut short", "try again"))
    })
}

fn unreadable(error: &StoreError) -> Refusal {
    Refusal::new(RefusalCode::Internal, error.to_string(), "look for a failing disk")
}
