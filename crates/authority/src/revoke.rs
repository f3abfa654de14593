//! Revoking: what is no longer to be believed, written down with the reason before anybody is told.
//!
//! How a revocation reaches connections, other sites and lists is for others; here it is decided
//! which certificates a request means, and that what was enrolled is not renewed any more.

use std::collections::BTreeSet;

use handfast_pki::{CertificateId, RevocationReason, Serial, SpiffeId};
use handfast_store::{
    AuditRow, CredentialStore, Issued, IssuedFilter, Ledger, Lineage, Revocation, StoreError,
};
use jiff::Timestamp;

use crate::authority::Authority;
use crate::making::key_digest;

/// What to revoke.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Revocable {
    /// One certificate, by the key that signed it and its serial number, as [`Revocable::Serial`].
    Exactly(CertificateId),
    /// Every certificate of this identity, and its enrolments.
    Identity(SpiffeId),
    /// One enrolment: its certificates, and its renewals.
    Lineage(Lineage),
    /// What was issued for the credential of this name in this home or, if there is none, under this
    /// name: a linked site, say.
    Name(String),
    /// One certificate. Its holder may go on renewing with another one of the enrolment.
    Serial(Serial),
}

impl std::fmt::Display for Revocable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(certificate) => write!(f, "serial {} of that CA", certificate.serial),
            Self::Identity(identity) => write!(f, "{identity}"),
            Self::Lineage(lineage) => write!(f, "enrolment {lineage}"),
            Self::Name(name) => f.write_str(name),
            Self::Serial(serial) => write!(f, "serial {serial}"),
        }
    }
}

/// A request to revoke.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RevokeRequest {
    /// What.
    pub what: Revocable,
    /// Why, in the words of RFC 5280.
    pub reason: RevocationReason,
    /// Who asks, for the audit row.
    pub actor: String,
    /// Why, in the words of whoever asks; may be empty.
    pub why: String,
}

/// What came of it; all of it is on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RevokedNow {
    /// The certificates, the newest first.
    pub certificates: Vec<RevokedCertificate>,
    /// The enrolments that end with it.
    pub lineages: Vec<Lineage>,
    /// The number of the newest revocation in the ledger.
    pub sequence: u64,
}

/// One certificate that is revoked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RevokedCertificate {
    /// The certificate's record.
    pub issued: Issued,
    /// Since when it is revoked, and why: the first time and reason stay.
    pub at: Timestamp,
    /// The reason.
    pub reason: RevocationReason,
    /// Whether it was revoked before.
    pub already: bool,
}

impl RevokedCertificate {
    /// What it is revoked by.
    pub fn id(&self) -> CertificateId {
        id_of(&self.issued)
    }
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// The ledger has no such certificate.
    #[error(
        "nothing was issued here for {what}: `handfast cert list --issued` shows what was. What a CA of this home \
         signed elsewhere, before it was imported, say, is revoked with --serial, --issuer and --not-issued-here"
    )]
    Unknown {
        /// What was asked for.
        what: String,
    },
    /// All of it has expired.
    #[error(
        "everything issued for {what} has expired, the last at {at}: nobody accepts it any more"
    )]
    Expired {
        /// What was asked for.
        what: String,
        /// When the last certificate ended.
        at: Timestamp,
    },
    /// A root cannot revoke itself: whoever doubts it does not believe its word either.
    #[error(
        "{what} is a self-signed CA: it is not revoked but taken out of the trust bundle, with \
         `handfast ca rotate`"
    )]
    SelfSigned {
        /// What was asked for.
        what: String,
    },
    /// The ledger failed.
    #[error("the revocation could not be recorded, so it did not happen; try again: {0}")]
    Store(#[from] StoreError),
}

impl RevokeError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "expired",
            Self::SelfSigned { .. } => "self-signed",
            Self::Store(_) => "unavailable",
            Self::Unknown { .. } => "unknown",
        }
    }
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Revokes what was issued here. Certificates, ended enrolments and the audit row are on disk, all
    /// or none, when this returns. Doing it again changes nothing, and answers alike.
    ///
    /// Credentials of this home go on: they are made anew with another key by the next
    /// reconciliation.
    ///
    /// # Errors
    /// [`RevokeError`]; nothing was revoked then.
    pub fn revoke(
        &self,
        request: &RevokeRequest,
        now: Timestamp,
    ) -> Result<RevokedNow, RevokeError> {
        // What the ledger keeps; the answer says the same today and tomorrow.
        let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
        // Nothing is renewed for others meanwhile: what is signed later finds its enrolment ended.
        let _turn = self.signing();
        let meant = self.meant(&request.what, now)?;
        let mut certificates = Vec::with_capacity(meant.len());
        for issued in meant {
            let before = self.ledger.revocation(&issued.issuer_key_id, &issued.serial)?;
            certificates.push(match before {
                Some(recorded) => RevokedCertificate {
                    at: recorded.revocation.at,
                    reason: recorded.revocation.reason,
                    already: true,
                    issued,
                },
                None => {
                    RevokedCertificate { at: now, reason: request.reason, already: false, issued }
                }
            });
        }
        let lineages = ended_with(&request.what, &certificates);
        let news: Vec<Revocation> = certificates
            .iter()
            .filter(|certificate| !certificate.already)
            .map(|certificate| revocation(&certificate.issued, request.reason, now))
            .collect();
        let audit = audit_row(request, &certificates, &lineages, now);
        let sequence = self.ledger.revoke(&news, &lineages, &audit)?;
        Ok(RevokedNow { certificates, lineages, sequence })
    }

    /// The certificates that are meant: all that have not expired.
    fn meant(&self, what: &Revocable, now: Timestamp) -> Result<Vec<Issued>, RevokeError> {
        let filter = match what {
            Revocable::Exactly(certificate) => IssuedFilter {
                issuer_key_id: Some(certificate.issuer_key_id),
                serial: Some(certificate.serial.clone()),
                ..IssuedFilter::default()
            },
            Revocable::Identity(identity) => {
                IssuedFilter { identity: Some(identity.clone()), ..IssuedFilter::default() }
            }
            Revocable::Lineage(lineage) => {
                IssuedFilter { lineage: Some(lineage.clone()), ..IssuedFilter::default() }
            }
            Revocable::Name(name) => self.named(name)?,
            Revocable::Serial(serial) => {
                IssuedFilter { serial: Some(serial.clone()), ..IssuedFilter::default() }
            }
        };
        let unexpired = IssuedFilter { unexpired_at: Some(now), ..filter.clone() };
        let found = self.ledger.issued(&unexpired)?;
        if found.is_empty() {
            let newest = IssuedFilter { limit: Some(1), ..filter };
            return Err(match self.ledger.issued(&newest)?.into_iter().next() {
                Some(last) => RevokeError::Expired { what: what.to_string(), at: last.not_after },
                None => RevokeError::Unknown { what: what.to_string() },
            });
        }
        // By its own key, a self-signed certificate would only revoke itself.
        let (own, rest): (Vec<Issued>, Vec<Issued>) = found.into_iter().partition(signs_itself);
        if rest.is_empty() && !own.is_empty() {
            return Err(RevokeError::SelfSigned { what: what.to_string() });
        }
        Ok(rest)
    }

    fn named(&self, name: &str) -> Result<IssuedFilter, StoreError> {
        if let Ok(lineage) = format!("own/{name}").parse::<Lineage>() {
            let own = IssuedFilter { lineage: Some(lineage), ..IssuedFilter::default() };
            let first = IssuedFilter { limit: Some(1), ..own.clone() };
            if !self.ledger.issued(&first)?.is_empty() {
                return Ok(own);
            }
        }
        Ok(IssuedFilter { name: Some(name.to_owned()), ..IssuedFilter::default() })
    }
}

/// The enrolments that end: never those of this home's own credentials, which are made anew, and none
/// for a single certificate.
fn ended_with(what: &Revocable, certificates: &[RevokedCertificate]) -> Vec<Lineage> {
    if matches!(what, Revocable::Exactly(_) | Revocable::Serial(_)) {
        return Vec::new();
    }
    let lineages: BTreeSet<&Lineage> =
        certificates.iter().map(|each| &each.issued.lineage).collect();
    lineages.into_iter().filter(|lineage| !is_own(lineage)).cloned().collect()
}

/// Whether it is the lineage of a credential that this home keeps for itself.
pub(crate) fn is_own(lineage: &Lineage) -> bool {
    lineage.as_str().starts_with("own/")
}

/// What a certificate is revoked by.
pub(crate) fn id_of(issued: &Issued) -> CertificateId {
    CertificateId { issuer_key_id: issued.issuer_key_id, serial: issued.serial.clone() }
}

/// The row of a revocation.
pub(crate) fn revocation(issued: &Issued, reason: RevocationReason, at: Timestamp) -> Revocation {
    Revocation {
        issuer_key_id: issued.issuer_key_id,
        serial: issued.serial.clone(),
        reason,
        at,
        not_after: Some(issued.not_after),
        identity: issued.identity.clone(),
        lineage: Some(issued.lineage.clone()),
    }
}

fn signs_itself(issued: &Issued) -> bool {
    issued.profile.is_ca()
        && handfast_pki::Chain::from_pem(issued.pem.as_bytes())
            .is_ok_and(|chain| key_digest(chain.leaf().spki_der()) == issued.issuer_key_id)
}

fn audit_row(
    request: &RevokeRequest,
    certificates: &[RevokedCertificate],
    lineages: &[Lineage],
    now: Timestamp,
) -> AuditRow {
    let serials: Vec<String> = certificates
        .iter()
        .filter(|certificate| !certificate.already)
        .take(AUDITED_SERIALS)
        .map(|certificate| certificate.issued.serial.to_string())
        .collect();
    let already = certificates.iter().filter(|certificate| certificate.already).count();
    AuditRow {
        at: now,
        actor: request.actor.clone(),
        action: "certificate.revoke".to_owned(),
        subject: request.what.to_string(),
        outcome: "ok".to_owned(),
        detail: format!(
            "{}: {} certificates ({}), {already} revoked before, {} enrolments ended",
            request.reason,
            certificates.len() - already,
            serials.join(", "),
            lineages.len()
        ),
        why: request.why.clone(),
    }
}

/// Serials named in the audit row; each revocation has a row of its own in the ledger.
const AUDITED_SERIALS: usize = 16;
