//! Making credentials: sign, record, stage, prove, promote, in this order and never another.
//!
//! What is recorded before it is staged can be lost in a crash without harm: a certificate whose
//! key is gone serves nobody. What is staged is found again, and proven by the next reconciliation.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use handfast_pki::{
    Certificate, Chain, Credential, CredentialError, CredentialPem, Entropy, IssueError,
    IssueRequest, Issuer, KeyError, Name, Overrun, PrivateKey, Profile, Subject, TrustAnchors,
    verify_chain,
};
use handfast_store::{
    CredentialStore, Issued, Kind, Ledger, Lineage, Revision, StoreError, Stored,
};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::authority::{Authority, own_audit};
use crate::bundle::with_anchors;
use crate::decide::{Reason, key_of};
use crate::declared::Declared;
use crate::desired::{DesiredCredential, SignedBy, is_of_a_generation, of_generation};
use crate::inspect;
use crate::publish::pointers;

/// Why a credential could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakingError {
    /// The parts do not make a credential.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The issuer refused.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The issuer is missing or cannot sign.
    #[error("issuer `{name}` cannot sign: {why}")]
    Issuer {
        /// The issuer.
        name: Name,
        /// What is wrong with it.
        why: String,
    },
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Nothing was declared yet.
    #[error("this node is still starting")]
    NotReconciled,
    /// It was made, but does not work.
    #[error("the new certificate was not put to use, because its trial failed: {why}")]
    Proof {
        /// What the trial showed.
        why: String,
    },
    /// The store or the ledger failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One signature to be made.
pub(crate) struct Making<'a> {
    pub(crate) authority: &'a Issuer,
    /// The anchor above it, certified by the one before, for who does not know the new one yet.
    pub(crate) cross: Option<Certificate>,
    pub(crate) profile: Profile,
    pub(crate) subject: Subject,
    pub(crate) ttl: Duration,
    pub(crate) lineage: String,
    pub(crate) now: Timestamp,
    /// Under which base URL its revocation is handed out.
    pub(crate) distribution: Option<&'a str>,
}

/// What came of it.
pub(crate) struct Made {
    pub(crate) chain: Chain,
    pub(crate) issued: Issued,
}

impl Making<'_> {
    /// Signs for the holder of a key. The caller records it.
    pub(crate) fn sign(&self, spki: &[u8], entropy: &mut dyn Entropy) -> Result<Made, MakingError> {
        let issuer_key = key_digest(self.authority.certificate().spki_der());
        let distribution = self.distribution.map(|base| pointers(base, &issuer_key));
        let request = IssueRequest::new(self.profile, self.subject.clone(), spki)
            .with_ttl(self.ttl)
            .with_overrun(Overrun::Truncate)
            .with_distribution(distribution.unwrap_or_default());
        let leaf = self.authority.issue(&request, self.now, entropy)?;
        let chain = with_cross(self.authority.chain_for(leaf), self.cross.as_ref());
        let issued = record(&chain, self.profile, &self.subject, &self.lineage, issuer_key);
        Ok(Made { chain, issued })
    }
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// The site's CA, ready to sign, with what is declared.
    pub(crate) fn site_issuer(&self) -> Result<(Arc<Declared>, Issuer), MakingError> {
        let declared = self.declared().ok_or(MakingError::NotReconciled)?;
        let authority = self.issuer(&declared.names.site_ca)?;
        Ok((declared, authority))
    }

    /// Makes a credential that is signed in this home, and stages it.
    pub(crate) fn make(
        &self,
        wanted: &DesiredCredential,
        reason: Option<Reason>,
        now: Timestamp,
    ) -> Result<(), MakingError> {
        let key = self.key_for(wanted, reason)?;
        let why = reason.map_or_else(|| "it was missing".to_owned(), |reason| reason.to_string());
        let subject = self.subject_for(wanted, &key)?;
        self.make_with(wanted, subject, key, &why, now)
    }

    /// Makes an issuer's successor, with a new key, and stages it.
    pub(crate) fn make_successor(
        &self,
        wanted: &DesiredCredential,
        generation: u64,
        now: Timestamp,
    ) -> Result<(), MakingError> {
        let key = PrivateKey::generate(self.key_algorithm)?;
        let mut subject = wanted.subject.clone();
        if wanted.profile == Profile::Root {
            subject.common_name = of_generation(&subject.common_name, generation);
        }
        self.make_with(wanted, subject, key, "it is rotated", now)
    }

    /// The names of a new certificate. A root that is made anew with the same key keeps the name of that
    /// key, under which everything below it was signed.
    fn subject_for(
        &self,
        wanted: &DesiredCredential,
        key: &PrivateKey,
    ) -> Result<Subject, MakingError> {
        let mut subject = wanted.subject.clone();
        if wanted.profile == Profile::Root
            && let Some(stored) = self.store.load_managed(wanted.kind, &wanted.name)?
            && let Some(chain) =
                stored.pem.tls_crt.as_deref().and_then(|pem| Chain::from_pem(pem).ok())
            && chain.leaf().spki_der() == key.spki_der()
            && let Some(common_name) = chain.leaf().common_name()
            && is_of_a_generation(common_name, &subject.common_name)
        {
            common_name.clone_into(&mut subject.common_name);
        }
        Ok(subject)
    }

    fn make_with(
        &self,
        wanted: &DesiredCredential,
        subject: Subject,
        key: PrivateKey,
        why: &str,
        now: Timestamp,
    ) -> Result<(), MakingError> {
        let lineage = own_lineage(wanted.name.as_str()).to_string();
        let (chain, anchors, issued) = match &wanted.signed_by {
            SignedBy::Itself => {
                let request = IssueRequest::new(wanted.profile, subject.clone(), key.spki_der())
                    .with_ttl(wanted.ttl);
                let authority =
                    Issuer::self_signed(&request, key.clone(), now, &mut **self.entropy())?;
                let chain = authority.chain().clone();
                let own = key.key_id();
                let issued = record(&chain, wanted.profile, &subject, &lineage, own);
                (chain, authority.anchors().clone(), issued)
            }
            SignedBy::Issuer(signer) => {
                let authority = self.issuer(signer)?;
                let declared = self.declared();
                let cross = self.cross_for(signer)?.filter(|_| !wanted.profile.is_ca());
                let making = Making {
                    authority: &authority,
                    cross,
                    profile: wanted.profile,
                    subject,
                    ttl: wanted.ttl,
                    lineage,
                    now,
                    distribution: declared.as_ref().and_then(|d| d.distribution.as_deref()),
                };
                let made = making.sign(key.spki_der(), &mut **self.entropy())?;
                (made.chain, authority.anchors().clone(), made.issued)
            }
            SignedBy::RemoteSite(link) => {
                return Err(MakingError::Issuer {
                    name: link.clone(),
                    why: "another site signs it".to_owned(),
                });
            }
        };
        let detail = format!("serial {}, until {}: {why}", issued.serial, issued.not_after);
        let audit = own_audit("certificate.issue", &key_of(wanted), detail, now);
        self.ledger.record_issued(&issued, &audit)?;
        let credential = Credential::new(chain, key, anchors)?;
        self.store.stage(wanted.kind, &wanted.name, &self.sealed(wanted.kind, &credential)?)?;
        Ok(())
    }

    /// The files of a credential, with the key written as it has to lie on disk.
    pub(crate) fn sealed(
        &self,
        kind: Kind,
        credential: &Credential,
    ) -> Result<CredentialPem, KeyError> {
        let tls_key = self.keys.seal(kind, credential.key())?;
        let mut pem = credential.to_pem();
        pem.tls_key = tls_key;
        Ok(pem)
    }

    /// Stages the certificate in use once more, with the anchors that go with its signer now.
    pub(crate) fn re_anchored(&self, wanted: &DesiredCredential) -> Result<(), MakingError> {
        let SignedBy::Issuer(signer) = &wanted.signed_by else { return Ok(()) };
        let authority = self.issuer(signer)?;
        let stored = self.store.load_managed(wanted.kind, &wanted.name)?;
        let files = stored.and_then(|stored| with_anchors(&stored, authority.anchors()));
        match files {
            Some(files) => Ok(self.store.stage(wanted.kind, &wanted.name, &files).map(drop)?),
            None => Err(MakingError::Proof { why: "its files are gone".to_owned() }),
        }
    }

    /// Proves what is staged, as it lies on disk, and makes it current.
    pub(crate) fn prove_and_promote(
        &self,
        wanted: &DesiredCredential,
        now: Timestamp,
    ) -> Result<(), MakingError> {
        let Some((revision, stored)) = self.store.staged(wanted.kind, &wanted.name)? else {
            return Err(MakingError::Proof { why: "nothing is staged any more".to_owned() });
        };
        self.prove(wanted, &stored, now)?;
        self.promote(wanted, revision, now)
    }

    fn prove(
        &self,
        wanted: &DesiredCredential,
        stored: &Stored,
        now: Timestamp,
    ) -> Result<(), MakingError> {
        let credential = stored
            .credential_opened_by(|key| self.keys.open(key))
            .map_err(|error| MakingError::Proof { why: error.to_string() })?;
        let purpose = inspect::purpose(wanted.profile);
        verify_chain(credential.chain(), credential.anchors(), purpose, now)
            .map_err(|error| MakingError::Proof { why: error.to_string() })?;
        match wanted.kind {
            Kind::Certificate => self
                .prover
                .prove(&wanted.name, &credential)
                .map_err(|why| MakingError::Proof { why }),
            Kind::Issuer => inspect::signer(stored, &self.keys)
                .map(drop)
                .map_err(|fault| MakingError::Proof { why: fault.what }),
        }
    }

    fn promote(
        &self,
        wanted: &DesiredCredential,
        revision: Revision,
        now: Timestamp,
    ) -> Result<(), MakingError> {
        self.lay_previous_aside(wanted, now)?;
        self.store.promote(wanted.kind, &wanted.name, revision)?;
        tracing::info!(kind = %wanted.kind, name = %wanted.name, "a credential was put to use");
        Ok(())
    }

    /// The key for a new credential: a new one, except that what signs itself keeps its key, so
    /// that everything that trusts it goes on doing so. (A root with a new key is a rotation.)
    fn key_for(
        &self,
        wanted: &DesiredCredential,
        reason: Option<Reason>,
    ) -> Result<PrivateKey, MakingError> {
        if wanted.signed_by == SignedBy::Itself && reason.is_some() {
            let present = self.store.load_managed(wanted.kind, &wanted.name)?;
            if let Some(stored) = present {
                let opened = stored.credential_opened_by(|key| self.keys.open(key));
                let credential = opened.map_err(|error| MakingError::Issuer {
                    name: wanted.name.clone(),
                    why: error.to_string(),
                })?;
                return Ok(credential.key().clone());
            }
        }
        Ok(PrivateKey::generate(self.key_algorithm)?)
    }

    pub(crate) fn issuer(&self, name: &Name) -> Result<Issuer, MakingError> {
        let unusable = |why: String| MakingError::Issuer { name: name.clone(), why };
        let stored = self
            .store
            .load(Kind::Issuer, name)?
            .ok_or_else(|| unusable("it does not exist yet".to_owned()))?;
        let issuer = inspect::signer(&stored, &self.keys).map_err(|fault| unusable(fault.what))?;
        match self.anchors_for(name)? {
            None => Ok(issuer),
            Some(anchors) => {
                let (chain, key) = (issuer.chain().clone(), issuer.key().clone());
                Issuer::from_parts(chain, key, anchors).map_err(|error| unusable(error.to_string()))
            }
        }
    }
}

/// A chain with a cross certificate at its end.
pub(crate) fn with_cross(chain: Chain, cross: Option<&Certificate>) -> Chain {
    match cross {
        None => chain,
        Some(cross) => {
            let above = chain.rest().iter().chain([cross]).cloned().collect();
            Chain::new(chain.leaf().clone(), above)
        }
    }
}

/// The ledger's record of a certificate.
pub(crate) fn record(
    chain: &Chain,
    profile: Profile,
    subject: &Subject,
    lineage: &str,
    issuer_key_id: [u8; 32],
) -> Issued {
    let leaf = chain.leaf();
    let names = std::iter::once(subject.common_name.clone())
        .chain(subject.dns.iter().map(ToString::to_string))
        .chain(subject.ips.iter().map(ToString::to_string))
        .collect();
    Issued {
        issuer_key_id,
        serial: leaf.serial().clone(),
        identity: subject.identity.clone(),
        names,
        profile,
        not_before: leaf.not_before(),
        not_after: leaf.not_after(),
        lineage: lineage.parse::<Lineage>().expect("made of names and hex digits"),
        fingerprint: leaf.fingerprint(),
        pem: leaf.to_pem(),
    }
}

/// A credential's files with a request where the certificate will be.
pub(crate) fn request_pem(
    tls_key: Zeroizing<String>,
    csr_pem: &str,
    anchors: &TrustAnchors,
) -> CredentialPem {
    CredentialPem { tls_crt: csr_pem.to_owned(), tls_key, ca_crt: anchors.to_pem() }
}

/// SHA-256 of a SubjectPublicKeyInfo, by which keys are known.
pub(crate) fn key_digest(spki: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, spki).as_ref());
    hash
}

/// The lineage of a credential that this site makes for itself.
pub(crate) fn own_lineage(name: &str) -> Lineage {
    format!("own/{name}").parse().expect("names are short and visible ASCII")
}
