//! Trust bundles: the anchors that go with everything an authority signs, told to whoever trusts it,
//! and taken from whoever signs for us.
//!
//! A bundle is a function of the authority's revisions on disk and the record of its rotation: one
//! anchor in peace, the old and the new one while a successor is prepared or the old one drains. Its
//! number is the ledger's.

use std::collections::{BTreeMap, BTreeSet};

use handfast_pki::{
    Certificate, Chain, CredentialPem, Fingerprint, Name, Purpose, TrustAnchors, TrustDomain,
    verify_chain,
};
use handfast_store::{AuditRow, CredentialStore, Kind, Ledger, Source, StoreError, Stored};
use jiff::Timestamp;

use crate::authority::Authority;
use crate::declared::Declared;
use crate::desired::{DesiredCredential, SignedBy, desired};
use crate::enrol::EnrolmentError;
use crate::inspect;
use crate::making::key_digest;
use crate::rotation::{Phase, Rotation};

/// What the sites that hold link credentials of this one are to trust.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle {
    /// The trust domain it is of.
    pub trust_domain: TrustDomain,
    /// Grows with every change of the set; 0 for a set that never changed.
    pub sequence: u64,
    /// The set.
    pub anchors: TrustAnchors,
    /// Anchors that left the set in order: they count for nothing new, while connections made under
    /// them may finish.
    pub retired: Option<TrustAnchors>,
    /// SHA-256 of the SubjectPublicKeyInfo of the CA that signs link credentials now.
    pub signer: [u8; 32],
}

/// A bundle that came over a link, from the site that signs the link's credential.
#[derive(Clone, Debug)]
pub struct ReceivedBundle {
    /// The trust domain it is of; the caller has compared it with the peer's.
    pub trust_domain: TrustDomain,
    /// Its number.
    pub sequence: u64,
    /// The set.
    pub anchors: TrustAnchors,
    /// The key of the CA that signs link credentials now; see [`Bundle::signer`].
    pub signer: Option<[u8; 32]>,
    /// Who sent it, as its certificate says.
    pub from: String,
}

/// Why a bundle was not taken. What is trusted stays as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleRefusal {
    /// The renewal that has to come first cannot be asked for.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    /// The link has no managed credential, or one of another trust domain.
    #[error(
        "`{credential}` is not a credential of {trust_domain} that is managed here, so its trust \
         anchors are not replaced: put the new ones into its files yourself"
    )]
    NotOurs {
        /// The credential.
        credential: Name,
        /// The bundle's trust domain.
        trust_domain: TrustDomain,
    },
    /// A newer one was taken before.
    #[error(
        "bundle {sequence} of {trust_domain} is older than the one in use ({known}): if the other \
         site was restored from a backup or made anew, redeem a new token of it"
    )]
    Old {
        /// The bundle's number.
        sequence: u64,
        /// The bundle's trust domain.
        trust_domain: TrustDomain,
        /// The newest number known.
        known: u64,
    },
    /// The store or the ledger failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The credential did not pass its trial with the new anchors.
    #[error(
        "`{credential}` was not put to use with the new anchors, because its trial failed: {why}"
    )]
    Trial {
        /// The credential.
        credential: Name,
        /// What the trial showed.
        why: String,
    },
}

/// The anchors that go with what each issuer signs, by issuer; nothing for issuers whose anchor is
/// the user's, or is not there.
pub(crate) type Trust = BTreeMap<Name, BTreeSet<Fingerprint>>;

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// What the sites that link here are to trust; nothing while this site cannot sign.
    pub fn bundle(&self, declared: &Declared) -> Option<Bundle> {
        let trust_domain = declared.effective_trust_domain()?;
        let wanted = desired(declared);
        let signer = &declared.names.site_ca;
        let anchor = self.anchor_above(&wanted, signer)?;
        let ca = self.store.load(Kind::Issuer, signer).ok()??;
        let signer = Chain::from_pem(ca.pem.tls_crt.as_deref()?).ok()?;
        Some(Bundle {
            sequence: self.ledger.bundle_sequence(&trust_domain).ok()?,
            trust_domain,
            anchors: self.anchors_below(&anchor).ok()??,
            retired: self.memory().retired.get(&anchor).cloned(),
            signer: key_digest(signer.leaf().spki_der()),
        })
    }

    /// The anchors that go with everything below the issuer `anchor`, which signs itself.
    pub(crate) fn anchors_below(&self, anchor: &Name) -> Result<Option<TrustAnchors>, StoreError> {
        let Some(current) = self.store.load(Kind::Issuer, anchor)? else { return Ok(None) };
        let Some(certificate) = self_signed(&current) else { return Ok(None) };
        if current.source == Source::Supplied {
            return Ok(None);
        }
        let Some(record) = self.rotation(anchor)? else {
            return Ok(Some(TrustAnchors::new(certificate)));
        };
        if !matches!(record.phase, Phase::Prepared | Phase::Draining) {
            return Ok(Some(TrustAnchors::new(certificate)));
        }
        let staged = self.store.staged(Kind::Issuer, anchor)?.map(|(_, stored)| stored);
        let previous = self.store.previous(Kind::Issuer, anchor)?;
        let mut found: Vec<Certificate> = std::iter::once(Some(certificate.clone()))
            .chain([staged, previous].iter().map(|stored| stored.as_ref().and_then(self_signed)))
            .flatten()
            .filter(|each| {
                each.fingerprint() == record.old || Some(each.fingerprint()) == record.new
            })
            .collect();
        found.sort_by_key(Certificate::not_before);
        let found = found.into_iter().fold(None, |all: Option<TrustAnchors>, each| {
            Some(match all {
                None => TrustAnchors::new(each),
                Some(all) => all.with(each),
            })
        });
        Ok(Some(found.unwrap_or_else(|| TrustAnchors::new(certificate))))
    }

    /// The anchors that go with what the issuer `name` signs, if they are ours to say.
    pub(crate) fn anchors_for(&self, name: &Name) -> Result<Option<TrustAnchors>, StoreError> {
        let Some(declared) = self.declared() else { return Ok(None) };
        match self.anchor_above(&desired(&declared), name) {
            Some(anchor) => self.anchors_below(&anchor),
            None => Ok(None),
        }
    }

    /// The issuer at the top of the way up from `name`, which signs itself; nothing where one on the
    /// way is the user's, who says what goes with it.
    pub(crate) fn anchor_above(&self, wanted: &[DesiredCredential], name: &Name) -> Option<Name> {
        let mut name = name;
        // Root, CA: the way is two steps at most; the bound is for a table gone wrong.
        for _ in 0..8 {
            let found =
                wanted.iter().find(|each| each.kind == Kind::Issuer && each.name == *name)?;
            let stored = self.store.load(Kind::Issuer, name).ok()??;
            if stored.source == Source::Supplied {
                return None;
            }
            match &found.signed_by {
                SignedBy::Itself => return Some(name.clone()),
                SignedBy::Issuer(signer) => name = signer,
                SignedBy::RemoteSite(_) => return None,
            }
        }
        None
    }

    /// What goes with every issuer that is wanted.
    pub(crate) fn trust(&self, wanted: &[DesiredCredential]) -> Trust {
        let mut trust = Trust::new();
        for issuer in wanted.iter().filter(|each| each.kind == Kind::Issuer) {
            let Some(anchor) = self.anchor_above(wanted, &issuer.name) else { continue };
            let known = trust.get(&anchor).cloned();
            let fingerprints = known.or_else(|| {
                let anchors = self.anchors_below(&anchor).ok()??;
                Some(anchors.iter().map(Certificate::fingerprint).collect())
            });
            if let Some(fingerprints) = fingerprints {
                trust.insert(issuer.name.clone(), fingerprints);
            }
        }
        trust
    }

    /// The record of an authority's rotation, under way or over.
    pub(crate) fn rotation(&self, authority: &Name) -> Result<Option<Rotation>, StoreError> {
        Ok(self.ledger.rotation(authority)?.as_deref().and_then(Rotation::from_text))
    }

    /// Takes a bundle for the link credential of this name: the same certificate goes into use with
    /// the new anchors, after its trial. Where the certificate itself is not good under them, a
    /// renewal under them is asked for first. Taking the same one again changes nothing.
    ///
    /// # Errors
    ///
    /// [`BundleRefusal`]; the anchors stay as they were then.
    pub fn take_bundle(
        &self,
        credential: &Name,
        bundle: &ReceivedBundle,
        now: Timestamp,
    ) -> Result<(), BundleRefusal> {
        let _turn = self.reconciling();
        let not_ours = || BundleRefusal::NotOurs {
            credential: credential.clone(),
            trust_domain: bundle.trust_domain.clone(),
        };
        let stored =
            self.store.load(Kind::Certificate, credential)?.filter(|s| s.source == Source::Managed);
        let stored = stored.ok_or_else(not_ours)?;
        let current =
            stored.credential_opened_by(|key| self.keys.open(key)).map_err(|_| not_ours())?;
        let domain = current.leaf().spiffe_id().ok().flatten();
        if domain.is_none_or(|id| *id.trust_domain() != bundle.trust_domain) {
            return Err(not_ours());
        }
        let known = self.bundle_known(credential)?;
        if known.is_some_and(|known| known > bundle.sequence) {
            return Err(BundleRefusal::Old {
                sequence: bundle.sequence,
                trust_domain: bundle.trust_domain.clone(),
                known: known.unwrap_or(0),
            });
        }
        if let Some(signer) = bundle.signer {
            self.memory().signers.insert(credential.clone(), signer);
        }
        let same = current.anchors().len() == bundle.anchors.len()
            && current.anchors().iter().all(|anchor| bundle.anchors.contains(anchor));
        if same && known == Some(bundle.sequence) {
            return Ok(());
        }
        let staged = self.store.staged(Kind::Certificate, credential)?;
        if !same && verify_chain(current.chain(), &bundle.anchors, Purpose::Client, now).is_err() {
            // Asked for already, to be good under these very anchors?
            let waiting =
                staged.as_ref().and_then(|(_, stored)| inspect::pending(stored, &self.keys));
            if waiting.is_none_or(|pending| pending.anchors != bundle.anchors) {
                self.stage_renewal_under(credential, &bundle.anchors, now)?;
            }
            return Ok(());
        }
        if !same {
            self.re_anchor(credential, &stored, &bundle.anchors)?;
            if let Some((_, waiting)) = staged {
                self.stage_again(credential, &waiting, &bundle.anchors)?;
            }
        }
        let anchors: Vec<String> =
            bundle.anchors.iter().map(|anchor| anchor.fingerprint().to_string()).collect();
        let record = format!("bundle 1\nsequence {}\n", bundle.sequence);
        self.ledger.keep_rotation(
            credential,
            Some(&record),
            &AuditRow {
                at: now,
                actor: bundle.from.clone(),
                action: "bundle.take".to_owned(),
                subject: format!("{} {credential}", Kind::Certificate),
                outcome: "ok".to_owned(),
                detail: format!(
                    "bundle {} of {}: {}",
                    bundle.sequence,
                    bundle.trust_domain,
                    anchors.join(", ")
                ),
                why: String::new(),
            },
        )?;
        Ok(())
    }

    /// The newest bundle taken for a link credential.
    fn bundle_known(&self, credential: &Name) -> Result<Option<u64>, StoreError> {
        Ok(self
            .ledger
            .rotation(credential)?
            .and_then(|record| record.strip_prefix("bundle 1\nsequence ")?.trim_end().parse().ok()))
    }

    /// Forgets which bundle was taken: after an enrolment anew, the other site's word counts afresh.
    pub(crate) fn forget_bundle(
        &self,
        credential: &Name,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.memory().signers.remove(credential);
        if self.bundle_known(credential)?.is_none() {
            return Ok(());
        }
        let key = (Kind::Certificate, credential.clone());
        let detail = "enrolled anew".to_owned();
        let audit = crate::authority::own_audit("bundle.forget", &key, detail, now);
        self.ledger.keep_rotation(credential, None, &audit)
    }

    fn re_anchor(
        &self,
        credential: &Name,
        stored: &Stored,
        anchors: &TrustAnchors,
    ) -> Result<(), BundleRefusal> {
        let trial = |why: String| BundleRefusal::Trial { credential: credential.clone(), why };
        let files =
            with_anchors(stored, anchors).ok_or_else(|| trial("files are missing".into()))?;
        let revision = self.store.stage(Kind::Certificate, credential, &files)?;
        let staged = self.store.staged(Kind::Certificate, credential)?;
        let proven = staged
            .filter(|(found, _)| *found == revision)
            .ok_or_else(|| "what was staged is gone".to_owned())
            .and_then(|(_, stored)| {
                let opened = stored.credential_opened_by(|key| self.keys.open(key));
                opened.map_err(|error| error.to_string())
            })
            .and_then(|made| self.prover.prove(credential, &made));
        if let Err(why) = proven {
            self.store.discard(Kind::Certificate, credential, revision)?;
            return Err(trial(why));
        }
        self.store.promote(Kind::Certificate, credential, revision)?;
        Ok(())
    }

    /// What waited beside the current revision waits again, to be good under the new anchors.
    fn stage_again(
        &self,
        credential: &Name,
        waiting: &Stored,
        anchors: &TrustAnchors,
    ) -> Result<(), StoreError> {
        match with_anchors(waiting, anchors) {
            Some(files) => self.store.stage(Kind::Certificate, credential, &files).map(drop),
            None => Ok(()),
        }
    }
}

/// The files of a credential, or of a request for one, with other anchors.
pub(crate) fn with_anchors(stored: &Stored, anchors: &TrustAnchors) -> Option<CredentialPem> {
    Some(CredentialPem {
        tls_crt: String::from_utf8(stored.pem.tls_crt.clone()?).ok()?,
        tls_key: String::from_utf8(stored.pem.tls_key.as_ref()?.to_vec()).ok()?.into(),
        ca_crt: anchors.to_pem(),
    })
}

fn self_signed(stored: &Stored) -> Option<Certificate> {
    let chain = Chain::from_pem(stored.pem.tls_crt.as_deref()?).ok()?;
    Some(chain.leaf().clone()).filter(Certificate::is_self_signed)
}
