//! What waits for a second person: on disk before anybody is told that it waits, and gone from there before it
//! is done.

use std::sync::Arc;

use handfast_api::access::{ApprovalError, Caller, Waiting};
use handfast_api::admin::{Action, Held, PendingApproval, Permit, Refusal, RefusalCode};
use handfast_pki::{Entropy as _, SystemEntropy};
use handfast_store::{AuditRow, Ledger as _};

use super::{Access, decided, kept, unrecorded};
use crate::clock;
use crate::node::core::Core;

/// A call that waits. The same call again, by the same person, is the same.
pub(super) struct Kept(pub(super) Held);

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        (&self.0.path, &self.0.body) == (&other.0.path, &other.0.body)
    }
}

impl Access {
    /// Takes up what waited for a second person when the node ended.
    pub(in crate::node) fn remember(&mut self, kept: Vec<(String, String)>) {
        for (id, text) in kept {
            if let Some(waiting) = kept::read(&text) {
                self.approvals.put_back(id, waiting);
            } else {
                tracing::error!(id, "what waits for a second person cannot be read");
            }
        }
    }
}

impl Core {
    /// Keeps a call until somebody else approves it.
    pub(in crate::node) fn hold(&self, held: Held) -> Result<PendingApproval, Refusal> {
        let now = clock::now();
        let mut bytes = [0; 4];
        SystemEntropy.fill(&mut bytes);
        let [a, b, c, d] = bytes;
        let id = format!("{:08x}", u32::from_be_bytes([a, b, c, d]));
        let person = held.requested_by.principal.clone();
        let mut access = self.access();
        let (id, waiting) =
            access.approvals.hold(id, Kept(held), person, now).map_err(|error| not_held(&error))?;
        let pending = pending(&id, waiting);
        let detail = format!("waits for a second person as {id}, until {}", pending.expires_at);
        let row = row(&waiting.what.0, "pending", detail);
        // Under the lock: nobody approves what is not on disk yet, and nobody is told of it.
        let kept = kept::write(waiting);
        if let Err(error) = self.authority().ledger().keep_waiting(&id, Some(&kept), &row) {
            access.approvals.forget(&id);
            return Err(unrecorded(&error));
        }
        tracing::info!(
            id,
            action = pending.action,
            by = pending.requested_by,
            "waits for a second person"
        );
        Ok(pending)
    }

    /// What waits.
    pub(in crate::node) fn approvals(&self) -> Vec<PendingApproval> {
        self.access()
            .approvals
            .list(clock::now())
            .map(|(id, waiting)| pending(id, waiting))
            .collect()
    }

    /// Hands over what waits, if `second` may approve it.
    pub(in crate::node) async fn approve(
        self: &Arc<Self>,
        second: &Caller,
        id: &str,
    ) -> Result<Held, Refusal> {
        let now = clock::now();
        let held = {
            let access = self.access();
            access.approvals.get(id, now).map(|waiting| waiting.what.0.clone())
        };
        let unknown = ApprovalError::Unknown { id: id.chars().take(40).collect() };
        let held = held.ok_or_else(|| not_held(&unknown))?;
        // Who could not do it alone, under another rule, cannot approve it.
        let _: Permit = self.authorize(second, held.action, &held.targets).await?;
        let core = Arc::clone(self);
        let (second, id) = (second.clone(), id.to_owned());
        let work = tokio::task::spawn_blocking(move || core.approve_now(&second, &id));
        work.await.unwrap_or_else(|_| {
            Err(Refusal::new(RefusalCode::Internal, "the approval was cut short", "try again"))
        })
    }

    fn approve_now(&self, second: &Caller, id: &str) -> Result<Held, Refusal> {
        let mut access = self.access();
        match access.approvals.approve(id, &second.principal, clock::now()) {
            Ok(waiting) => {
                let held = waiting.what.0.clone();
                let both = Caller {
                    approved_by: Some(second.principal.clone()),
                    ..held.requested_by.clone()
                };
                let detail = format!("request {id} is carried out");
                let row = decided(&both, held.action, &held.targets, "approved", detail);
                // It goes from the disk with the row: whatever happens then, it is done once at most.
                if let Err(error) = self.authority().ledger().keep_waiting(id, None, &row) {
                    access.approvals.put_back(id.to_owned(), waiting);
                    return Err(unrecorded(&error));
                }
                Ok(held)
            }
            Err(error @ ApprovalError::SamePerson { .. }) => {
                drop(access);
                let row = decided(second, Action::ApprovalGive, &[], "denied", error.to_string());
                self.authority().ledger().audit(&row).map_err(|error| unrecorded(&error))?;
                Err(not_held(&error))
            }
            Err(error) => Err(not_held(&error)),
        }
    }

    /// Lets go of what nobody approved in time.
    pub(super) fn forget_what_expired(&self) {
        let expired = self.access().approvals.expire(clock::now());
        for (id, waiting) in expired {
            let row = row(&waiting.what.0, "expired", format!("nobody approved {id} in time"));
            if let Err(error) = self.authority().ledger().keep_waiting(&id, None, &row) {
                tracing::error!(%error, id, "an expired request could not be recorded");
                // Told again at the next turn; it can no longer be approved meanwhile.
                self.access().approvals.put_back(id, waiting);
            }
        }
    }
}

/// The audit row of a call that waits, or waited.
fn row(held: &Held, outcome: &str, detail: String) -> AuditRow {
    decided(&held.requested_by, held.action, &held.targets, outcome, detail)
}

fn pending(id: &str, waiting: &Waiting<Kept>) -> PendingApproval {
    let held = &waiting.what.0;
    PendingApproval {
        id: id.to_owned(),
        action: held.action.to_string(),
        targets: held.targets.iter().map(ToString::to_string).collect(),
        requested_by: waiting.requested_by.to_string(),
        requested_at: waiting.requested_at,
        expires_at: waiting.expires_at,
    }
}

fn not_held(error: &ApprovalError) -> Refusal {
    let (code, remedy) = match error {
        ApprovalError::SamePerson { .. } => {
            (RefusalCode::NotAllowed, "have another operator run `handfast approve`")
        }
        ApprovalError::Unknown { .. } => (RefusalCode::NotFound, "see `handfast approve list`"),
        _ => (RefusalCode::Conflict, "approve what waits, or wait until it expires"),
    };
    Refusal::new(code, error.to_string(), remedy)
}
