//! The asking side of enrolment: a key made and staged here, a request sent by somebody else, an
//! answer checked and staged again. First enrolment by token and renewal over a link are the same.
//!
//! The key is on disk before the request leaves, and the same request is made from it after a
//! crash, so that an answer that was lost can be had again.

use handfast_pki::{
    Certificate, Chain, ChainError, Credential, CredentialError, Csr, IdentityKind, KeyError, Name,
    PrivateKey, Purpose, SpiffeId, Subject, TrustAnchors, verify_chain,
};
use handfast_store::{CredentialStore, Kind, Ledger, StoreError};
use jiff::Timestamp;

use crate::authority::Authority;
use crate::decide::{Key, rests, retry};
use crate::inspect::{self, Pending};
use crate::making::request_pem;
use crate::report::CsrRequest;

/// Another site's answer to a request.
#[derive(Clone, Debug)]
pub struct EnrolmentAnswer {
    /// The certificate and its issuers, leaf first.
    pub chain: Chain,
    /// The anchors the other site names now, if it does. Anchors with keys that are not trusted
    /// already are not taken from here.
    pub anchors: Option<TrustAnchors>,
}

/// Why a request could not be made, or its answer not be used. The request stays staged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolmentError {
    /// The answer does not lead to the anchors that were pinned, or cannot be used as a client.
    #[error("the other site's answer for `{credential}` was refused: {source}")]
    Chain {
        /// The credential.
        credential: Name,
        /// Why.
        source: ChainError,
    },
    /// The answer is for another key, or no credential at all.
    #[error("the other site's answer for `{credential}` does not fit the request: {source}")]
    Credential {
        /// The credential.
        credential: Name,
        /// Why.
        source: CredentialError,
    },
    /// The answer has another identity than the one asked for.
    #[error(
        "the other site's answer for `{credential}` is for {presented}, expected {expected}: \
         redeem a new token, and check the site that gave it"
    )]
    Identity {
        /// The credential.
        credential: Name,
        /// What it should be.
        expected: String,
        /// What it is.
        presented: String,
    },
    /// No key or request could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Nothing waits for an answer.
    #[error("`{credential}` does not wait for an answer: the answer was not used")]
    NotPending {
        /// The credential.
        credential: Name,
    },
    /// The request could not be written down.
    #[error("the request for `{credential}` cannot be made: {why}")]
    Request {
        /// The credential.
        credential: Name,
        /// Why.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The name is taken by a credential of the user's.
    #[error(
        "`{credential}` is supplied in `{directory}`, and supplied credentials are never replaced: \
         remove it there, or give the link another name"
    )]
    Supplied {
        /// The credential.
        credential: Name,
        /// Where it is.
        directory: String,
    },
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Begins to enrol `site` with another site, for the link and credential named: makes and
    /// stages a key, and returns the request to send.
    ///
    /// `anchors` are those of the token; the answer must lead to them. Calling it again before the
    /// answer was put to use returns a request with the same key, also after a crash, so that
    /// redeeming the same token again gets the same answer.
    ///
    /// # Errors
    ///
    /// A supplied credential under that name; failing disks.
    pub fn begin_enrolment(
        &self,
        link: &Name,
        credential: &Name,
        site: &Name,
        anchors: &TrustAnchors,
        now: Timestamp,
    ) -> Result<CsrRequest, EnrolmentError> {
        let _turn = self.reconciling();
        if let Some(stored) = self.store.load(Kind::Certificate, credential)?
            && stored.source == handfast_store::Source::Supplied
        {
            return Err(EnrolmentError::Supplied {
                credential: credential.clone(),
                directory: stored.directory.display().to_string(),
            });
        }
        let subject = Subject::new(site.as_str());
        let key = match self.staged_key(credential)? {
            Some(key) => key,
            None => PrivateKey::generate(self.key_algorithm)?,
        };
        self.stage_request(link, credential, &key, &subject, anchors, now)
    }

    /// Takes the other site's answer: checks it, and stages it. The next reconciliation that knows
    /// of the link proves it and puts it to use.
    ///
    /// # Errors
    ///
    /// An answer that does not fit the request, does not lead to the pinned anchors, or has
    /// another identity: nothing changes then, and the request stays.
    pub fn complete(
        &self,
        credential: &Name,
        answer: EnrolmentAnswer,
        now: Timestamp,
    ) -> Result<(), EnrolmentError> {
        let _turn = self.reconciling();
        let staged = self.store.staged(Kind::Certificate, credential)?;
        let Some(pending) =
            staged.as_ref().and_then(|(_, stored)| inspect::pending(stored, &self.keys))
        else {
            if self.has_leaf(credential, answer.chain.leaf())? {
                return Ok(());
            }
            return Err(EnrolmentError::NotPending { credential: credential.clone() });
        };
        check_answer(credential, &pending, &answer, now)?;
        let first = pending.is_first();
        let anchors = carried_over(&pending.anchors, answer.anchors);
        let complete = Credential::new(answer.chain, pending.key, anchors).map_err(|source| {
            EnrolmentError::Credential { credential: credential.clone(), source }
        })?;
        let leaf = complete.leaf();
        let detail =
            format!("serial {} of {}, until {}", leaf.serial(), leaf.issuer(), leaf.not_after());
        let files = self.sealed(Kind::Certificate, &complete)?;
        self.store.stage(Kind::Certificate, credential, &files)?;
        let key: Key = (Kind::Certificate, credential.clone());
        self.audit("certificate.receive", &key, detail, now)?;
        if first {
            self.forget_bundle(credential, now)?;
        }
        self.succeeded(&key);
        Ok(())
    }

    /// Notes that a request could not be answered, and why; it is sent again later and later.
    pub fn request_failed(&self, credential: &Name, what: impl Into<String>, now: Timestamp) {
        self.failed(&(Kind::Certificate, credential.clone()), what.into(), now);
    }

    /// Whether a request still waits for its answer, which may have come since the report that names it was made.
    ///
    /// # Errors
    ///
    /// Failing disks.
    pub fn still_waits(&self, request: &CsrRequest) -> Result<bool, StoreError> {
        let _turn = self.reconciling();
        let staged = self.store.staged(Kind::Certificate, &request.credential)?;
        let pending = staged.and_then(|(_, stored)| inspect::pending(&stored, &self.keys));
        Ok(pending.is_some_and(|pending| pending.key.key_id() == request.key_id))
    }

    /// Makes and stages a key and a request for the renewal of a link credential.
    pub(crate) fn stage_renewal(
        &self,
        credential: &Name,
        now: Timestamp,
    ) -> Result<(), EnrolmentError> {
        self.stage_request_for(credential, None, now)
    }

    /// The same, for a certificate that is to lead to other anchors than the present one.
    pub(crate) fn stage_renewal_under(
        &self,
        credential: &Name,
        anchors: &TrustAnchors,
        now: Timestamp,
    ) -> Result<(), EnrolmentError> {
        self.stage_request_for(credential, Some(anchors), now)
    }

    fn stage_request_for(
        &self,
        credential: &Name,
        anchors: Option<&TrustAnchors>,
        now: Timestamp,
    ) -> Result<(), EnrolmentError> {
        let not_pending = || EnrolmentError::NotPending { credential: credential.clone() };
        let stored =
            self.store.load_managed(Kind::Certificate, credential)?.ok_or_else(not_pending)?;
        let opened = stored.credential_opened_by(|key| self.keys.open(key));
        let current = opened.map_err(|error| EnrolmentError::Request {
            credential: credential.clone(),
            why: error.to_string(),
        })?;
        let leaf = current.leaf();
        let mut subject = Subject::new(leaf.common_name().unwrap_or("site"));
        if let Ok(Some(identity)) = leaf.spiffe_id() {
            subject = subject.with_identity(identity);
        }
        let key = PrivateKey::generate(self.key_algorithm)?;
        let anchors = anchors.unwrap_or(current.anchors());
        // The link is only said in the answer, which nobody wants here.
        self.stage_request(credential, credential, &key, &subject, anchors, now).map(drop)
    }

    /// The request that is staged, if one is.
    pub(crate) fn staged_request(
        &self,
        link: &Name,
        credential: &Name,
        now: Timestamp,
    ) -> Result<Option<CsrRequest>, StoreError> {
        let staged = self.store.staged(Kind::Certificate, credential)?;
        let pending = staged.and_then(|(_, stored)| inspect::pending(&stored, &self.keys));
        Ok(pending.map(|pending| {
            self.request(link, credential, pending.csr_pem, pending.key.key_id(), now)
        }))
    }

    fn stage_request(
        &self,
        link: &Name,
        credential: &Name,
        key: &PrivateKey,
        subject: &Subject,
        anchors: &TrustAnchors,
        now: Timestamp,
    ) -> Result<CsrRequest, EnrolmentError> {
        let csr = Csr::create(key, subject).map_err(|error| EnrolmentError::Request {
            credential: credential.clone(),
            why: error.to_string(),
        })?;
        let csr_pem = csr.to_pem();
        let tls_key = self.keys.seal(Kind::Certificate, key)?;
        let files = request_pem(tls_key, &csr_pem, anchors);
        self.store.stage(Kind::Certificate, credential, &files)?;
        Ok(self.request(link, credential, csr_pem, key.key_id(), now))
    }

    fn request(
        &self,
        link: &Name,
        credential: &Name,
        csr_pem: String,
        key_id: [u8; 32],
        now: Timestamp,
    ) -> CsrRequest {
        let key: Key = (Kind::Certificate, credential.clone());
        let memory = self.memory();
        let resting = memory.failures.get(&key).filter(|failure| rests(failure, None, now));
        let send_at = resting.map_or(now, |failure| retry(failure, None));
        CsrRequest { link: link.clone(), credential: credential.clone(), csr_pem, key_id, send_at }
    }

    /// The key that is staged, with or without its certificate.
    fn staged_key(&self, credential: &Name) -> Result<Option<PrivateKey>, StoreError> {
        let staged = self.store.staged(Kind::Certificate, credential)?;
        Ok(staged.and_then(|(_, stored)| self.keys.open(stored.pem.tls_key.as_ref()?).ok()))
    }

    /// Whether the answer was taken before.
    fn has_leaf(&self, credential: &Name, leaf: &Certificate) -> Result<bool, StoreError> {
        let staged = self.store.staged(Kind::Certificate, credential)?.map(|(_, stored)| stored);
        let current = self.store.load_managed(Kind::Certificate, credential)?;
        Ok(staged.into_iter().chain(current).any(|stored| {
            stored
                .credential_opened_by(|key| self.keys.open(key))
                .is_ok_and(|held| held.leaf().fingerprint() == leaf.fingerprint())
        }))
    }
}

fn check_answer(
    credential: &Name,
    pending: &Pending,
    answer: &EnrolmentAnswer,
    now: Timestamp,
) -> Result<(), EnrolmentError> {
    verify_chain(&answer.chain, &pending.anchors, Purpose::Client, now)
        .map_err(|source| EnrolmentError::Chain { credential: credential.clone(), source })?;
    let wrong = |expected: String, presented: &str| EnrolmentError::Identity {
        credential: credential.clone(),
        expected,
        presented: presented.to_owned(),
    };
    let asked = Csr::from_pem(pending.csr_pem.as_bytes()).map_err(|error| {
        EnrolmentError::Request { credential: credential.clone(), why: error.to_string() }
    })?;
    let asked = asked.subject();
    let leaf = answer.chain.leaf();
    let presented = match leaf.spiffe_id() {
        Ok(Some(identity)) => identity,
        Ok(None) => return Err(wrong(asked.common_name.clone(), "no identity at all")),
        Err(error) => return Err(wrong(asked.common_name.clone(), &error.to_string())),
    };
    match &asked.identity {
        // A renewal: the same identity, letter by letter.
        Some(identity) if *identity != presented => {
            Err(wrong(identity.to_string(), &presented.to_string()))
        }
        // A first enrolment: our name, in whatever trust domain the pinned anchors stand for.
        None if !is_site(&presented, &asked.common_name) => {
            Err(wrong(format!("site {}", asked.common_name), &presented.to_string()))
        }
        _ => Ok(()),
    }
}

fn is_site(identity: &SpiffeId, site: &str) -> bool {
    identity.kind() == Some(IdentityKind::Site)
        && identity.name().is_some_and(|name| name.as_str() == site)
}

/// The anchors to keep: those offered if each has a key that was trusted before (a CA that was
/// dated anew), else those that were pinned.
fn carried_over(pinned: &TrustAnchors, offered: Option<TrustAnchors>) -> TrustAnchors {
    let known = |anchor: &Certificate| {
        pinned.iter().any(|trusted| {
            trusted.spki_der() == anchor.spki_der() && trusted.subject() == anchor.subject()
        })
    };
    match offered {
        Some(offered) if offered.iter().all(known) => offered,
        _ => pinned.clone(),
    }
}
