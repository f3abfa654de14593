//! The ledger as its users see it: the durable record of everything issued, granted, redeemed and
//! decided. How it is kept is for the implementations.

use handfast_pki::{Name, Serial, TrustDomain};
use jiff::Timestamp;

use crate::audit::head::SignedHead;
use crate::audit::{AuditRange, AuditRow, RecordedAudit};
use crate::error::StoreError;
use crate::grant::{
    Grant, GrantRecord, IssuedBundle, RedeemOutcome, RedeemedRecord, Redemption, RefusalReason,
};
use crate::issued::{Issued, IssuedFilter, Lineage, RecordedIssued};
use crate::revocation::{RecordedRevocation, RecordedStatement, Revocation};

/// The durable record. Everything is on disk when a method returns, and a method that fails has
/// changed nothing. Methods block: call them from a thread that may.
///
/// Whatever changes something takes the audit row that says so, and writes both or neither: what
/// cannot be recorded does not happen.
pub trait Ledger: Send + Sync + 'static {
    /// Records a certificate. [`StoreError::AlreadyRecorded`] if its issuer used the serial before.
    fn record_issued(&self, issued: &Issued, audit: &AuditRow) -> Result<(), StoreError>;

    /// Reads issued certificates with the numbers of their records, the newest first. A page of
    /// `limit` records goes on where the last number of the page before is `before_number`.
    fn recorded_issued(&self, filter: &IssuedFilter) -> Result<Vec<RecordedIssued>, StoreError>;

    /// Reads issued certificates, the newest first.
    fn issued(&self, filter: &IssuedFilter) -> Result<Vec<Issued>, StoreError> {
        Ok(self.recorded_issued(filter)?.into_iter().map(|recorded| recorded.issued).collect())
    }

    /// When the last leaf expires that was signed by this key. OCSP responders do not count, for they only
    /// serve the others.
    fn last_leaf_expiry(&self, issuer_key_id: &[u8; 32]) -> Result<Option<Timestamp>, StoreError>;

    /// Everything issued to one enrolment, the newest first.
    fn lineage(&self, lineage: &Lineage) -> Result<Vec<Issued>, StoreError> {
        self.issued(&IssuedFilter { lineage: Some(lineage.clone()), ..IssuedFilter::default() })
    }

    /// Records a grant. [`StoreError::AlreadyRecorded`] if there is one of the same name.
    fn create_grant(&self, grant: &Grant, audit: &AuditRow) -> Result<(), StoreError>;

    /// One grant with what has become of it.
    fn grant(&self, id: &Name) -> Result<Option<GrantRecord>, StoreError>;

    /// All grants, in the order they were made.
    fn grants(&self) -> Result<Vec<GrantRecord>, StoreError>;

    /// Ends a grant early: it counts as expired from `at` on. What was redeemed stays redeemed.
    fn withdraw_grant(&self, id: &Name, at: Timestamp, audit: &AuditRow) -> Result<(), StoreError>;

    /// Redeems a grant: looks it up, compares the code in constant time, checks the expiry and the
    /// count, calls `issue`, and records certificate, redemption and audit row, all in one
    /// transaction that excludes every other writer.
    ///
    /// The same `request_key` again gets the same answer, also after the grant has expired or was
    /// used up: its redemption has been accepted, and the answer may have been lost on the way.
    /// `issue` must not use the ledger. Refusals are audited up to a fixed number for each grant, so
    /// that nobody can fill the disk with them.
    fn redeem(
        &self,
        redemption: &Redemption,
        issue: &mut dyn FnMut(&Grant) -> Result<IssuedBundle, RefusalReason>,
    ) -> Result<RedeemOutcome, StoreError>;

    /// What was redeemed with a grant, in order.
    fn redemptions(&self, grant: &Name) -> Result<Vec<RedeemedRecord>, StoreError>;

    /// The sequence number of the newest trust bundle of a trust domain; 0 before the first.
    fn bundle_sequence(&self, trust_domain: &TrustDomain) -> Result<u64, StoreError>;

    /// Takes the next sequence number for the bundle of a trust domain. Numbers only go up.
    fn next_bundle_sequence(
        &self,
        trust_domain: &TrustDomain,
        audit: &AuditRow,
    ) -> Result<u64, StoreError>;

    /// Revokes certificates and ends enrolments, and returns the number of the newest revocation in
    /// the ledger. What is revoked or ended already stays as it is, with its first time and reason.
    /// Enrolments end at the time of the audit row.
    fn revoke(
        &self,
        certificates: &[Revocation],
        lineages: &[Lineage],
        audit: &AuditRow,
    ) -> Result<u64, StoreError>;

    /// As [`revoke`](Self::revoke), together with the signed statement of another authority that says
    /// so, in a form of the caller's own.
    fn keep_statement(
        &self,
        statement: &[u8],
        certificates: &[Revocation],
        lineages: &[Lineage],
        audit: &AuditRow,
    ) -> Result<u64, StoreError>;

    /// Statements kept after number `number`, in order, at most `limit` of them.
    fn statements_after(
        &self,
        number: u64,
        limit: u32,
    ) -> Result<Vec<RecordedStatement>, StoreError>;

    /// The revocation of one certificate, if it is revoked.
    fn revocation(
        &self,
        issuer_key_id: &[u8; 32],
        serial: &Serial,
    ) -> Result<Option<RecordedRevocation>, StoreError>;

    /// Revocations numbered higher than `sequence`, in order, at most `limit` of them.
    fn revocations_after(
        &self,
        sequence: u64,
        limit: u32,
    ) -> Result<Vec<RecordedRevocation>, StoreError>;

    /// Since when an enrolment is ended, if it is.
    fn lineage_ended(&self, lineage: &Lineage) -> Result<Option<Timestamp>, StoreError>;

    /// Takes the next number for a revocation list of this issuer (RFC 5280 section 5.2.3). Numbers
    /// start at 1 and only go up.
    fn next_crl_number(&self, issuer_key_id: &[u8; 32]) -> Result<u64, StoreError>;

    /// The record of the rotation of this authority, if one is kept.
    fn rotation(&self, authority: &Name) -> Result<Option<String>, StoreError>;

    /// Keeps the record of the rotation of this authority in place of the one before; `None`
    /// removes it.
    fn keep_rotation(
        &self,
        authority: &Name,
        record: Option<&str>,
        audit: &AuditRow,
    ) -> Result<(), StoreError>;

    /// What waits for a second person: identifiers and records, in a form of the caller's own.
    fn waiting(&self) -> Result<Vec<(String, String)>, StoreError>;

    /// Keeps what waits under this identifier; `None` removes it. A restore forgets all of it: what
    /// was approved since the backup must not be there to be approved again.
    fn keep_waiting(
        &self,
        id: &str,
        record: Option<&str>,
        audit: &AuditRow,
    ) -> Result<(), StoreError>;

    /// Adds an audit row and returns its number.
    fn audit(&self, row: &AuditRow) -> Result<u64, StoreError>;

    /// Adds audit rows in this order: all of them, or none.
    fn audit_all(&self, rows: &[AuditRow]) -> Result<(), StoreError>;

    /// The newest signed head of the audit log; nothing while the log is empty.
    fn audit_head(&self) -> Result<Option<SignedHead>, StoreError>;

    /// Reads audit rows, the oldest first.
    fn audit_rows(&self, range: &AuditRange) -> Result<Vec<RecordedAudit>, StoreError>;
}
