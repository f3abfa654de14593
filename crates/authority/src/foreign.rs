//! Revoking what a CA of this home signed elsewhere: before it was imported, say, or on a machine that is gone. The ledger does not
//! know it, so it has to be named by its issuer and serial number, and somebody has to say that he knows better.

use handfast_pki::{CertificateId, Name, RevocationReason, Serial};
use handfast_store::{
    AuditRow, CredentialStore, IssuedFilter, Kind, Ledger, Revocation, StoreError,
};
use jiff::Timestamp;

use crate::authority::Authority;
use crate::inspect;

/// A request to revoke what the ledger does not know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RevokeForeign {
    /// What.
    pub certificate: CertificateId,
    /// Why, in the words of RFC 5280.
    pub reason: RevocationReason,
    /// Who asks, for the audit row.
    pub actor: String,
    /// Why, in the words of whoever asks; may be empty.
    pub why: String,
}

/// What came of it; it is on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForeignRevoked {
    /// Since when it is revoked, and why: the first time and reason stay.
    pub at: Timestamp,
    /// The reason.
    pub reason: RevocationReason,
    /// Whether it was revoked before.
    pub already: bool,
    /// The number of the newest revocation in the ledger.
    pub sequence: u64,
}

/// Why it was not revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// It is known here.
    #[error(
        "serial {serial} was issued here, by the same key, for {what}: it is revoked without \
         --not-issued-here"
    )]
    IssuedHere {
        /// Its number.
        serial: Serial,
        /// Whom for.
        what: String,
    },
    /// It is the CA's own certificate.
    #[error(
        "serial {serial} is the CA's own, self-signed certificate: it is not revoked but taken out of the trust \
         bundle, with `handfast ca rotate`"
    )]
    SelfSigned {
        /// Its number.
        serial: Serial,
    },
    /// The ledger failed.
    #[error("the revocation could not be recorded, so it did not happen; try again: {0}")]
    Store(#[from] StoreError),
    /// Nobody here could say that it is revoked.
    #[error(
        "this home has no key of a CA {issuer}, so nobody would believe it: name a CA of `handfast ca status`, or the SHA-256 of \
         its public key in hex"
    )]
    UnknownIssuer {
        /// What was asked for.
        issuer: String,
    },
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// The CA of this home that is meant by a name or by a key (SHA-256 of its `SubjectPublicKeyInfo`, in hex): its name, and its
    /// key. By name, the key in use; by key, also one of before that answers for what it signed.
    ///
    /// # Errors
    ///
    /// [`ForeignError::UnknownIssuer`] if there is none whose key is here; a failing disk.
    pub fn issuer_meant(&self, text: &str) -> Result<(Name, [u8; 32]), ForeignError> {
        for name in self.store.list(Kind::Issuer)? {
            let mut of_name = Vec::new();
            of_name.extend(self.store.load(Kind::Issuer, &name)?);
            if name.as_str() != text {
                of_name.extend(self.store.previous(Kind::Issuer, &name)?);
                of_name.extend(self.store.aside(Kind::Issuer, &name)?);
            }
            for stored in of_name {
                let Ok(signer) = inspect::signer(&stored, &self.keys) else { continue };
                let key = signer.certificate().key_id();
                let id = CertificateId {
                    issuer_key_id: key,
                    serial: signer.certificate().serial().clone(),
                };
                if name.as_str() == text || id.issuer_hex().eq_ignore_ascii_case(text) {
                    return Ok((name, key));
                }
            }
        }
        Err(ForeignError::UnknownIssuer { issuer: text.chars().take(SHOWN).collect() })
    }

    /// Revokes a certificate that the ledger does not know, under the key that signed it. The revocation and its audit row are on
    /// disk when this returns. Doing it again changes nothing, and answers alike.
    ///
    /// It is listed for as long as there are lists of that key: nobody here knows when it expires.
    ///
    /// # Errors
    ///
    /// [`ForeignError`]; nothing was revoked then.
    pub fn revoke_foreign(
        &self,
        request: &RevokeForeign,
        now: Timestamp,
    ) -> Result<ForeignRevoked, ForeignError> {
        let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
        let CertificateId { issuer_key_id, serial } = &request.certificate;
        let _turn = self.signing();
        let (issuer, _) = self.issuer_meant(&request.certificate.issuer_hex())?;
        let of_serial = IssuedFilter {
            issuer_key_id: Some(*issuer_key_id),
            serial: Some(serial.clone()),
            limit: Some(1),
            ..IssuedFilter::default()
        };
        if let Some(known) = self.ledger.issued(&of_serial)?.into_iter().next() {
            let what = known.identity.map(|identity| identity.to_string());
            let what = what.or_else(|| known.names.first().cloned()).unwrap_or_default();
            return Err(ForeignError::IssuedHere { serial: serial.clone(), what });
        }
        let itself = |signer: &handfast_pki::Issuer| {
            let own = signer.certificate();
            own.key_id() == *issuer_key_id && own.serial() == serial && own.names_issuer(own)
        };
        if self.signers().iter().any(itself) {
            return Err(ForeignError::SelfSigned { serial: serial.clone() });
        }
        let before = self.ledger.revocation(issuer_key_id, serial)?;
        let already = before.is_some();
        let (at, reason) = before.map_or((now, request.reason), |recorded| {
            (recorded.revocation.at, recorded.revocation.reason)
        });
        let news = (!already).then(|| Revocation {
            issuer_key_id: *issuer_key_id,
            serial: serial.clone(),
            reason,
            at,
            not_after: None,
            identity: None,
            lineage: None,
        });
        let audit = AuditRow {
            at: now,
            actor: request.actor.clone(),
            action: "certificate.revoke".to_owned(),
            subject: format!("serial {serial} of {issuer}"),
            outcome: "ok".to_owned(),
            detail: format!(
                "{}: not issued here, as far as the ledger knows{}",
                request.reason,
                if already { "; revoked before" } else { "" }
            ),
            why: request.why.clone(),
        };
        let sequence = self.ledger.revoke(news.as_slice(), &[], &audit)?;
        Ok(ForeignRevoked { at, reason, already, sequence })
    }
}

/// Of what was asked for and is no CA, so much is shown.
const SHOWN: usize = 80;
