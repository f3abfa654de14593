//! Revocation by request: from the words of the admin API to the authority's, and back.

use std::sync::Arc;

use handfast_api::access::Principal;
use handfast_api::admin::{Refusal, RefusalCode, Revoke, Revoked, RevokedCertificate};
use handfast_authority::{
    ForeignError, ForeignRevoked, Revocable, RevokeError, RevokeForeign, RevokeRequest,
};
use handfast_network::NetworkStatus;
use handfast_pki::CertificateId;
use handfast_store::{Home, HomePaths, Ledger as _, RecordedRevocation, WatchSettings};

use crate::clock;
use crate::node::core::Core;
use crate::node::revocations::RevokedHere;

/// Rows that are read at once, and most that are listed.
const LISTED: usize = 100_000;
const PAGE: u32 = 5_000;

/// Revokes what is asked for.
pub(super) async fn revoke(
    core: &Arc<Core>,
    request: &Revoke,
    actor: &str,
) -> Result<Revoked, Refusal> {
    let what = what(core, request).await?;
    let reason = request.reason.parse().map_err(|error| invalid(&error))?;
    let why = request.note.clone().unwrap_or_default();
    let actor = actor.to_owned();
    let done = match what {
        What::Issued(what) => {
            let request = RevokeRequest { what, reason, actor, why };
            let RevokedHere { revoked, cut } =
                core.revoke(request).await.map_err(|error| refusal(&error))?;
            Done {
                certificates: revoked.certificates.iter().map(issued).collect(),
                enrolments_ended: revoked.lineages.len(),
                cut,
                sequence: revoked.sequence,
            }
        }
        What::Foreign(certificate) => {
            let request = RevokeForeign { certificate: certificate.clone(), reason, actor, why };
            let (revoked, cut) =
                core.revoke_foreign(request).await.map_err(|error| foreign_refusal(&error))?;
            Done {
                certificates: vec![foreign(&certificate, &revoked)],
                enrolments_ended: 0,
                cut,
                sequence: revoked.sequence,
            }
        }
    };
    let network = core.network_status_apart().await;
    tracing::warn!(certificates = done.certificates.len(), connections = done.cut, "revoked");
    Ok(Revoked {
        certificates: done.certificates,
        enrolments_ended: done.enrolments_ended,
        connections_cut: done.cut,
        sequence: done.sequence,
        sites_told: network.as_ref().map(told).unwrap_or_default(),
        network_unknown: network.err().map(|unknown| unknown.to_string()),
    })
}

/// What was done, whoever issued it.
struct Done {
    certificates: Vec<RevokedCertificate>,
    enrolments_ended: usize,
    cut: usize,
    sequence: u64,
}

fn issued(one: &handfast_authority::RevokedCertificate) -> RevokedCertificate {
    RevokedCertificate {
        serial: one.issued.serial.to_string(),
        issuer_key_id: one.id().issuer_hex(),
        identity: one.issued.identity.as_ref().map(ToString::to_string),
        reason: one.reason.to_string(),
        at: one.at,
        not_after: Some(one.issued.not_after),
        already: one.already,
    }
}

fn foreign(certificate: &CertificateId, revoked: &ForeignRevoked) -> RevokedCertificate {
    RevokedCertificate {
        serial: certificate.serial.to_string(),
        issuer_key_id: certificate.issuer_hex(),
        identity: None,
        reason: revoked.reason.to_string(),
        at: revoked.at,
        not_after: None,
        already: revoked.already,
    }
}

/// Revokes while no node runs: on record at once, enforced and told from the node's next start on.
pub(crate) async fn offline(home: &HomePaths, request: &Revoke) -> anyhow::Result<Revoked> {
    let lock = Home::open(&home.root)?;
    let core = Arc::new(Core::open(&lock, WatchSettings::default())?);
    core.without_network();
    let user = Principal::Local { uid: rustix::process::geteuid().as_raw() };
    let revoked = revoke(&core, request, &user.to_string()).await;
    drop(core);
    drop(lock);
    Ok(revoked?)
}

/// What this node knows to be revoked, the newest first; what has expired is left out.
pub(super) fn list(core: &Core) -> Result<Vec<RevokedCertificate>, Refusal> {
    let now = clock::now();
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let page = core.authority().ledger().revocations_after(after, PAGE).map_err(|error| {
            Refusal::new(RefusalCode::Internal, error.to_string(), "look for a failing disk")
        })?;
        let Some(last) = page.last() else { break };
        after = last.sequence;
        found.extend(
            page.iter()
                .filter(|row| row.revocation.not_after.is_none_or(|end| end > now))
                .map(shown),
        );
    }
    found.reverse();
    found.truncate(LISTED);
    Ok(found)
}

fn shown(row: &RecordedRevocation) -> RevokedCertificate {
    let revocation = &row.revocation;
    let id = CertificateId {
        issuer_key_id: revocation.issuer_key_id,
        serial: revocation.serial.clone(),
    };
    RevokedCertificate {
        serial: revocation.serial.to_string(),
        issuer_key_id: id.issuer_hex(),
        identity: revocation.identity.as_ref().map(ToString::to_string),
        reason: revocation.reason.to_string(),
        at: revocation.at,
        not_after: revocation.not_after,
        already: true,
    }
}

/// The sites that are linked and listen to revocations.
fn told(network: &NetworkStatus) -> Vec<String> {
    let listening = network.revocations.sites.iter().filter(|site| site.acknowledged.is_some());
    listening.map(|site| site.site.to_string()).collect()
}

/// What is to be revoked.
enum What {
    Issued(Revocable),
    /// A CA of this home signed it elsewhere.
    Foreign(CertificateId),
}

async fn what(core: &Arc<Core>, request: &Revoke) -> Result<What, Refusal> {
    let named = (&request.serial, &request.identity, &request.name);
    if let (Some(issuer), (Some(serial), None, None)) = (&request.issuer, named) {
        let serial = serial.parse().map_err(|error| invalid(&error))?;
        let (core, issuer) = (Arc::clone(core), issuer.clone());
        let meant = tokio::task::spawn_blocking(move || core.authority().issuer_meant(&issuer));
        let meant =
            meant.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let (_, issuer_key_id) = meant.map_err(|error| foreign_refusal(&error))?;
        let certificate = CertificateId { issuer_key_id, serial };
        return Ok(if request.not_issued_here {
            What::Foreign(certificate)
        } else {
            What::Issued(Revocable::Exactly(certificate))
        });
    }
    if request.issuer.is_some() || request.not_issued_here {
        return Err(invalid(
            &"an issuer goes with a serial number, and what was not issued here is named by both",
        ));
    }
    let meant = match named {
        (Some(serial), None, None) => {
            Revocable::Serial(serial.parse().map_err(|error| invalid(&error))?)
        }
        (None, Some(identity), None) => {
            Revocable::Identity(identity.parse().map_err(|error| invalid(&error))?)
        }
        (None, None, Some(name)) => Revocable::Name(name.clone()),
        _ => return Err(invalid(&"name exactly one of serial, identity and name")),
    };
    Ok(What::Issued(meant))
}

fn foreign_refusal(error: &ForeignError) -> Refusal {
    let (code, remedy) = match error {
        ForeignError::IssuedHere { .. } => {
            (RefusalCode::Conflict, "see `handfast cert list --issued --serial`")
        }
        ForeignError::SelfSigned { .. } => {
            (RefusalCode::Invalid, "`handfast ca rotate --help` tells how")
        }
        ForeignError::UnknownIssuer { .. } => {
            (RefusalCode::NotFound, "`handfast ca status` shows the CAs of this home")
        }
        _ => (RefusalCode::Internal, "look for a full or failing disk"),
    };
    Refusal::new(code, error.to_string(), remedy)
}

fn invalid(what: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::Invalid, what.to_string(), "see `handfast cert revoke --help`")
}

fn refusal(error: &RevokeError) -> Refusal {
    let (code, remedy) = match error {
        RevokeError::Unknown { .. } => {
            (RefusalCode::NotFound, "`handfast link status` shows the identities of linked sites")
        }
        RevokeError::Expired { .. } => (RefusalCode::Conflict, "there is nothing to revoke"),
        RevokeError::SelfSigned { .. } => {
            (RefusalCode::Invalid, "`handfast ca rotate --help` tells how")
        }
        _ => (RefusalCode::Internal, "look for a full or failing disk"),
    };
    Refusal::new(code, error.to_string(), remedy)
}
