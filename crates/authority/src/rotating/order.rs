//! What an operator orders: a rotation, a forced one, one without its laggards, and the way back.

use handfast_pki::Name;
use handfast_store::{CredentialStore, Kind, Ledger, Source, StoreError};
use jiff::Timestamp;

use super::{certificate, fingerprint, is_unfinished};
use crate::authority::Authority;
use crate::declared::Declared;
use crate::desired::{DesiredCredential, SignedBy, desired};
use crate::rotation::{Cause, Phase, Rotation, Waiver};

/// An order to rotate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RotateOrder {
    /// The authority.
    pub authority: Name,
    /// Its key is in the wrong hands.
    pub forced: bool,
    /// The present phase may end without its laggards.
    pub without_laggards: bool,
    /// Who orders it.
    pub by: String,
    /// Why.
    pub why: String,
}

/// Why an order was not taken. Nothing changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// Another rotation has to end first.
    #[error(
        "`{authority}` cannot be rotated while `{other}` is: wait for it (`handfast ca status {other}`), or \
         take it back with `handfast ca rollback {other}`"
    )]
    Busy {
        /// What was asked for.
        authority: Name,
        /// What is under way.
        other: Name,
    },
    /// It cannot be done without saying why.
    #[error("{what} needs a reason that can be read later: add `--reason TEXT`")]
    NoReason {
        /// What was asked for.
        what: &'static str,
    },
    /// There is nothing to go on without, or back from.
    #[error("no rotation of `{authority}` is under way: `handfast ca status` shows what is")]
    NotUnderWay {
        /// What was asked for.
        authority: Name,
    },
    /// The store or the ledger failed.
    #[error("the order could not be recorded, so it was not taken: {0}")]
    Store(#[from] StoreError),
    /// The authority is the user's.
    #[error(
        "`{authority}` is supplied in `{directory}`, and what is supplied is never written: replace the \
         files there, and everything below it is re-issued at once"
    )]
    Supplied {
        /// What was asked for.
        authority: Name,
        /// Where it is.
        directory: String,
    },
    /// There is no such authority here.
    #[error("this site has no authority `{authority}`; it has: {known}")]
    Unknown {
        /// What was asked for.
        authority: Name,
        /// Those that there are.
        known: String,
    },
    /// It cannot sign.
    #[error("`{authority}` cannot be used at the moment: {why}")]
    Unusable {
        /// What was asked for.
        authority: Name,
        /// What is wrong with it.
        why: String,
    },
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Takes an order to rotate: writes it down, and no more. The next reconciliation begins.
    ///
    /// For a rotation that is under way, the order makes it urgent: a scheduled one does not wait for
    /// its time, a forced one not for who is away.
    ///
    /// # Errors
    ///
    /// [`RotateError`].
    pub fn rotate(
        &self,
        declared: &Declared,
        order: &RotateOrder,
        now: Timestamp,
    ) -> Result<(), RotateError> {
        let _turn = self.reconciling();
        if order.why.trim().is_empty() {
            if order.forced {
                return Err(RotateError::NoReason { what: "a forced rotation" });
            }
            if order.without_laggards {
                return Err(RotateError::NoReason { what: "going on without the laggards" });
            }
        }
        let wanted = desired(declared);
        let issuer = find(&wanted, &order.authority)?;
        let name = &issuer.name;
        let unusable =
            |why: &str| RotateError::Unusable { authority: name.clone(), why: why.to_owned() };
        let stored = self
            .store
            .load(Kind::Issuer, name)?
            .ok_or_else(|| unusable("it has not been made yet"))?;
        if stored.source == Source::Supplied {
            return Err(RotateError::Supplied {
                authority: name.clone(),
                directory: stored.directory.display().to_string(),
            });
        }
        let present = certificate(&stored).ok_or_else(|| unusable("its files cannot be read"))?;
        let last = self.rotation(name)?;
        let under_way = last.clone().filter(Rotation::is_under_way);
        let cause = if order.forced { Cause::Forced } else { Cause::Asked };
        let record = match under_way {
            Some(record) => Rotation {
                cause: if record.cause == Cause::Forced { Cause::Forced } else { cause },
                by: order.by.clone(),
                why: order.why.clone(),
                waiver: waiver(order, now).or_else(|| record.waiver.clone()),
                ..record
            },
            None if order.without_laggards && !order.forced => {
                return Err(RotateError::NotUnderWay { authority: name.clone() });
            }
            None => {
                self.make_way(&wanted, issuer, order, now)?;
                let revisions = self.revisions_of(name)?.ok_or_else(|| unusable("it is gone"))?;
                if let Some(why) = self.cannot_rotate(issuer, &revisions, &present) {
                    return Err(unusable(&why));
                }
                let fingerprint = present.fingerprint();
                Rotation::begin(fingerprint, last.as_ref(), cause, &order.by, &order.why, now)
            }
        };
        Ok(self.keep(name, &record, now)?)
    }

    /// Takes an order to go back: writes it down, and no more. The next reconciliation does it.
    ///
    /// # Errors
    ///
    /// [`RotateError`]; a rotation that has ended cannot be taken back.
    pub fn roll_back(
        &self,
        declared: &Declared,
        authority: &Name,
        by: &str,
        why: &str,
        now: Timestamp,
    ) -> Result<(), RotateError> {
        let _turn = self.reconciling();
        let wanted = desired(declared);
        let issuer = find(&wanted, authority)?;
        let staged = self.store.staged(Kind::Issuer, &issuer.name)?;
        let staged = staged.and_then(|(_, stored)| fingerprint(&stored));
        let record = self.rotation(&issuer.name)?;
        let back = record
            .map(|record| Rotation { new: record.new.or(staged), ..record })
            .and_then(|record| record.back(by, why, now));
        let Some(back) = back else {
            return Err(RotateError::NotUnderWay { authority: issuer.name.clone() });
        };
        self.take_back(issuer, back, now)?;
        Ok(())
    }

    /// The set of anchors changes with a way back from before the activation, and with it its number.
    fn take_back(
        &self,
        issuer: &DesiredCredential,
        back: Rotation,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sequence = match back.phase {
            Phase::RolledBack if back.new.is_some() => self.next_sequence(issuer, &back, now)?,
            _ => back.sequence,
        };
        self.keep(&issuer.name, &Rotation { sequence, ..back }, now)
    }

    /// Ends what stands in the way: prepared successors below or above, that sign nothing yet and can
    /// be prepared again.
    fn make_way(
        &self,
        wanted: &[DesiredCredential],
        issuer: &DesiredCredential,
        order: &RotateOrder,
        now: Timestamp,
    ) -> Result<(), RotateError> {
        for other in wanted.iter().filter(|each| each.kind == Kind::Issuer) {
            let related = other.signed_by == SignedBy::Issuer(issuer.name.clone())
                || issuer.signed_by == SignedBy::Issuer(other.name.clone());
            if !related {
                continue;
            }
            let Some(record) = self.rotation(&other.name)?.filter(Rotation::is_under_way) else {
                continue;
            };
            let waits = matches!(record.phase, Phase::Preparing | Phase::Prepared)
                && record.cause == Cause::Scheduled;
            let why = format!("`{}` is rotated", issuer.name);
            match record.back(&order.by, &why, now).filter(|_| waits) {
                Some(back) => self.take_back(other, back, now)?,
                None => {
                    return Err(RotateError::Busy {
                        authority: issuer.name.clone(),
                        other: other.name.clone(),
                    });
                }
            }
            // Its leftovers go before anything else is decided about it.
            if let Some(revisions) = self.revisions_of(&other.name)?
                && let Some(record) = self.rotation(&other.name)?
                && is_unfinished(&record, &revisions)
                && let Some((revision, _)) = self.store.staged(Kind::Issuer, &other.name)?
            {
                self.store.discard(Kind::Issuer, &other.name, revision)?;
            }
        }
        Ok(())
    }
}

fn waiver(order: &RotateOrder, now: Timestamp) -> Option<Waiver> {
    order.without_laggards.then(|| Waiver { by: order.by.clone(), why: order.why.clone(), at: now })
}

fn find<'a>(
    wanted: &'a [DesiredCredential],
    name: &Name,
) -> Result<&'a DesiredCredential, RotateError> {
    let issuers = || wanted.iter().filter(|each| each.kind == Kind::Issuer);
    issuers().find(|each| each.name == *name).ok_or_else(|| RotateError::Unknown {
        authority: name.clone(),
        known: issuers().map(|each| each.name.to_string()).collect::<Vec<_>>().join(", "),
    })
}
