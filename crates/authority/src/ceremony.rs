//! CAs whose signer's key is elsewhere: a root that is kept offline, or somebody else's CA.
//!
//! The key is made and staged here, the request goes out as a file, the certificate comes back as
//! one. What comes back is believed only as far as it fits the key, the anchors and its purpose. Until
//! then, and if it never comes, the CA in use goes on signing.

use std::time::Duration;

use handfast_pki::{
    Certificate, Chain, ChainReadError, Credential, CredentialError, Csr, CsrError, Issuer,
    KeyError, Name, PrivateKey, Profile, Purpose, TrustAnchors, verify_chain,
};
use handfast_store::{AuditRow, CredentialStore, Kind, Ledger, Source, StoreError};
use jiff::Timestamp;

use crate::authority::{Authority, own_audit};
use crate::decide::{Key, Situation, key_of};
use crate::declared::Declared;
use crate::desired::{DesiredCredential, SignedBy, desired};
use crate::inspect;
use crate::lifetimes::LEAVES_PER_CA;
use crate::making::{key_digest, own_lineage, record, request_pem};
use crate::observed::{Facts, Observed, Staged};
use crate::report::ProblemCode;
use crate::schedule;
use crate::survey::Finding;

/// A request for a CA certificate, to be signed elsewhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestedCa {
    /// The issuer it is for.
    pub name: Name,
    /// The name it asks for.
    pub common_name: String,
    /// The request, PEM (RFC 2986).
    pub csr_pem: String,
    /// SHA-256 of the requested key's SubjectPublicKeyInfo, to be compared by telephone.
    pub key_id: [u8; 32],
}

/// A CA certificate that came back and was put to use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InstalledCa {
    /// The issuer.
    pub name: Name,
    /// Its certificate.
    pub certificate: Certificate,
    /// Whether it was in use already.
    pub was_there: bool,
}

/// Why a request was not made, or a certificate not installed. Nothing changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CeremonyError {
    /// The file holds no certificates.
    #[error("the file cannot be used: {0}")]
    Certificates(#[from] ChainReadError),
    /// The parts do not make a credential.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The key could not be made, or not be written down.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It would end too soon to sign with.
    #[error(
        "the certificate for `{name}` lives {} in all, too short to sign certificates of {}: have it \
         signed again for at least {} (`handfast ca sign --ttl`), or shorten the settings for leaves",
        schedule::spoken(*life), schedule::spoken(*leaf), schedule::spoken(*leaf * LEAVES_PER_CA)
    )]
    LifeTooShort {
        /// The issuer.
        name: Name,
        /// How long it lives.
        life: Duration,
        /// How long a leaf is to live.
        leaf: Duration,
    },
    /// There is no root to have anything signed by.
    #[error(
        "issuer `{root}` is not there: put the root's certificate into `input/issuers/{root}/tls.crt` first"
    )]
    NoRoot {
        /// The root.
        root: Name,
    },
    /// None of the certificates is for a key that waits here.
    #[error(
        "none of the certificates in the file is for a key that waits here ({}): bring the answer to \
         the request that this home made last (`handfast ca request`)",
        waiting_text(waiting)
    )]
    NotOurs {
        /// The issuers that wait.
        waiting: Vec<Name>,
    },
    /// The request could not be made.
    #[error(transparent)]
    Request(#[from] CsrError),
    /// The root can sign by itself.
    #[error(
        "the key of `{root}` is in this home, which signs `{name}` by itself: renew it with `handfast \
         cert renew {name}`"
    )]
    RootIsHere {
        /// The issuer asked for.
        name: Name,
        /// Its signer.
        root: Name,
    },
    /// A standalone site has no root above its CAs.
    #[error(
        "this site stands alone and its CAs sign themselves: declare a trust domain, and put the \
         root's certificate into `input/issuers`"
    )]
    Standalone,
    /// The store or the ledger failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The user looks after it.
    #[error(
        "`{name}` is supplied in `{directory}`, and supplied credentials are never written: replace the \
         files there, or remove them to have the key made here"
    )]
    Supplied {
        /// The issuer.
        name: Name,
        /// Where.
        directory: String,
    },
    /// There is no such CA.
    #[error("this site has no CA `{name}`: it has {}", waiting_text(known))]
    Unknown {
        /// What was asked for.
        name: Name,
        /// Those it has.
        known: Vec<Name>,
    },
    /// The certificate does not do.
    #[error("the certificate for `{name}` cannot be used: {why}")]
    Unusable {
        /// The issuer.
        name: Name,
        /// Why.
        why: String,
    },
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Makes requests for the CAs named, or for all that only a key elsewhere can sign.
    ///
    /// Asked again before the answer was installed, the requests have the same keys.
    ///
    /// # Errors
    ///
    /// [`CeremonyError`]; keys that were staged before stay.
    pub fn request_cas(
        &self,
        declared: &Declared,
        names: &[Name],
        actor: &str,
        now: Timestamp,
    ) -> Result<Vec<RequestedCa>, CeremonyError> {
        let _turn = self.reconciling();
        let wanted = desired(declared);
        let mut requested = Vec::new();
        for wanted in chosen(&wanted, names)? {
            let SignedBy::Issuer(root) = &wanted.signed_by else {
                return Err(CeremonyError::Standalone);
            };
            let (_, anchors) = self.above(root, &wanted.name)?;
            if let Some(stored) = self.store.load(Kind::Issuer, &wanted.name)?
                && stored.source == Source::Supplied
            {
                if names.is_empty() {
                    continue;
                }
                return Err(CeremonyError::Supplied {
                    name: wanted.name.clone(),
                    directory: stored.directory.display().to_string(),
                });
            }
            requested.push(self.request_ca(wanted, &anchors, actor, now)?);
        }
        Ok(requested)
    }

    fn request_ca(
        &self,
        wanted: &DesiredCredential,
        anchors: &TrustAnchors,
        actor: &str,
        now: Timestamp,
    ) -> Result<RequestedCa, CeremonyError> {
        let staged = self.store.staged(Kind::Issuer, &wanted.name)?;
        let pending = staged.and_then(|(_, stored)| inspect::pending(&stored, &self.keys));
        let (key, again) = match pending {
            Some(pending) => (pending.key, true),
            None => (PrivateKey::generate(self.key_algorithm)?, false),
        };
        let csr = Csr::create(&key, &wanted.subject)?;
        let csr_pem = csr.to_pem();
        if !again {
            let detail =
                format!("a key was made, and a request for {:?}", csr.subject().common_name);
            self.ledger.audit(&by(actor, "ca.request", &key_of(wanted), detail, now))?;
        }
        let tls_key = self.keys.seal(Kind::Issuer, &key)?;
        self.store.stage(Kind::Issuer, &wanted.name, &request_pem(tls_key, &csr_pem, anchors))?;
        Ok(RequestedCa {
            name: wanted.name.clone(),
            common_name: wanted.subject.common_name.clone(),
            csr_pem,
            key_id: key.key_id(),
        })
    }

    /// Takes the certificates that came back, and puts each to use whose key waits here. The CA in use
    /// before stays on disk as the previous one.
    ///
    /// Installing the same file again does nothing, and finishes what was interrupted.
    ///
    /// # Errors
    ///
    /// [`CeremonyError`]; what was put to use before the one that failed stays so.
    pub fn install_cas(
        &self,
        declared: &Declared,
        file: &[u8],
        actor: &str,
        now: Timestamp,
    ) -> Result<Vec<InstalledCa>, CeremonyError> {
        let _turn = self.reconciling();
        let certificates: Vec<Certificate> = Chain::from_pem(file)?.iter().cloned().collect();
        let wanted = desired(declared);
        let mut installed = Vec::new();
        let mut waiting = Vec::new();
        for wanted in chosen(&wanted, &[]).unwrap_or_default() {
            if let Some(certificate) = self.current_among(&wanted.name, &certificates)? {
                let name = wanted.name.clone();
                installed.push(InstalledCa { name, certificate, was_there: true });
                continue;
            }
            let Some(key) = self.waiting_key(&wanted.name)? else { continue };
            let fits = |each: &&Certificate| each.spki_der() == key.spki_der();
            let Some(certificate) = certificates.iter().find(fits) else {
                waiting.push(wanted.name.clone());
                continue;
            };
            let SignedBy::Issuer(root) = &wanted.signed_by else { continue };
            let (_, anchors) = self.above(root, &wanted.name)?;
            let chain = chain_of(certificate, &certificates);
            let longest = declared.settings.leaf();
            check(&wanted.name, &chain, &key, &anchors, longest, now)?;
            self.put_to_use(wanted, chain, key, anchors, actor, now)?;
            let name = wanted.name.clone();
            installed.push(InstalledCa {
                name,
                certificate: certificate.clone(),
                was_there: false,
            });
        }
        if installed.is_empty() {
            return Err(CeremonyError::NotOurs { waiting });
        }
        Ok(installed)
    }

    fn put_to_use(
        &self,
        wanted: &DesiredCredential,
        chain: Chain,
        key: PrivateKey,
        anchors: TrustAnchors,
        actor: &str,
        now: Timestamp,
    ) -> Result<(), CeremonyError> {
        let leaf = chain.leaf();
        let detail =
            format!("serial {} of {}, until {}", leaf.serial(), leaf.issuer(), leaf.not_after());
        let audit = by(actor, "ca.install", &key_of(wanted), detail, now);
        let signer = chain
            .rest()
            .iter()
            .chain(anchors.iter())
            .find(|above| leaf.verify_signed_by(above).is_ok())
            .map_or([0; 32], |above| key_digest(above.spki_der()));
        let lineage = own_lineage(wanted.name.as_str()).to_string();
        let issued = record(&chain, Profile::SiteCa, &wanted.subject, &lineage, signer);
        match self.ledger.record_issued(&issued, &audit) {
            // Interrupted after this the last time.
            Ok(()) | Err(StoreError::AlreadyRecorded { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let credential = Credential::new(chain, key, anchors)?;
        let files = self.sealed(Kind::Issuer, &credential)?;
        let revision = self.store.stage(Kind::Issuer, &wanted.name, &files)?;
        self.lay_previous_aside(wanted, now)?;
        self.store.promote(Kind::Issuer, &wanted.name, revision)?;
        self.succeeded(&key_of(wanted));
        Ok(())
    }

    /// The signer above a CA, which must be known here and must not have its key here.
    fn above(&self, root: &Name, name: &Name) -> Result<(Chain, TrustAnchors), CeremonyError> {
        let no_root = || CeremonyError::NoRoot { root: root.clone() };
        let stored = self.store.load(Kind::Issuer, root)?.ok_or_else(no_root)?;
        if inspect::signer(&stored, &self.keys).is_ok() {
            return Err(CeremonyError::RootIsHere { name: name.clone(), root: root.clone() });
        }
        inspect::issuer_chain(&stored)
            .map_err(|why| CeremonyError::Unusable { name: root.clone(), why })
    }

    /// The key that waits for a certificate, with its request or with its certificate already.
    fn waiting_key(&self, name: &Name) -> Result<Option<PrivateKey>, CeremonyError> {
        let Some((_, stored)) = self.store.staged(Kind::Issuer, name)? else { return Ok(None) };
        stored.pem.tls_key.as_ref().map(|key| self.keys.open(key)).transpose().map_err(Into::into)
    }

    fn current_among(
        &self,
        name: &Name,
        certificates: &[Certificate],
    ) -> Result<Option<Certificate>, CeremonyError> {
        let Some(stored) = self.store.load_managed(Kind::Issuer, name)? else { return Ok(None) };
        let Ok((chain, _)) = inspect::issuer_chain(&stored) else { return Ok(None) };
        let current = chain.leaf().fingerprint();
        Ok(certificates.iter().find(|each| each.fingerprint() == current).cloned())
    }
}

/// That a CA has to be renewed by a ceremony, said in time: after half of its life, and again,
/// louder, when less than a sixth is left.
pub(crate) fn due(
    situation: &Situation<'_>,
    wanted: &DesiredCredential,
    seen: Option<&Observed>,
    facts: &Facts,
) -> Option<Finding> {
    let signer = offline(situation, wanted)?;
    let seen = seen?;
    if seen.current.source() != Some(Source::Managed) || facts.not_after <= situation.now {
        return None;
    }
    let issued = schedule::issued_at(facts.not_before, facts.not_after);
    let life = schedule::span(issued, facts.not_after);
    let left = schedule::span(situation.now, facts.not_after);
    let code = if left <= life / LEAVES_PER_CA {
        ProblemCode::CeremonyOverdue
    } else if left <= life / 2 {
        ProblemCode::CeremonyDue
    } else {
        return None;
    };
    let what = format!(
        "issuer `{}` ends at {}, in {}, and only the key of {} can renew it, which is not here",
        wanted.name,
        facts.not_after,
        schedule::spoken(left),
        signer.common_name.as_deref().unwrap_or("its root"),
    );
    Some((code, what, remedy(wanted, seen)))
}

/// That a CA is missing and only a ceremony can make it.
pub(crate) fn missing(
    situation: &Situation<'_>,
    wanted: &DesiredCredential,
    seen: Option<&Observed>,
) -> Option<Finding> {
    let signer = offline(situation, wanted)?;
    let what = format!(
        "issuer `{}` is not there, and only the key of {} can sign it, which is not here",
        wanted.name,
        signer.common_name.as_deref().unwrap_or("its root"),
    );
    let remedy = match seen {
        Some(seen) => remedy(wanted, seen),
        None => ceremony(&wanted.name),
    };
    Some((ProblemCode::CredentialMissing, what, remedy))
}

/// The signer of a CA, if it is known here and signs elsewhere.
fn offline<'a>(situation: &Situation<'a>, wanted: &DesiredCredential) -> Option<&'a Facts> {
    let SignedBy::Issuer(signer) = &wanted.signed_by else { return None };
    if wanted.kind != Kind::Issuer {
        return None;
    }
    situation
        .observed
        .iter()
        .find(|seen| seen.kind == Kind::Issuer && seen.name == *signer)
        .and_then(|seen| seen.current.usable())
        .filter(|facts| !facts.can_sign)
}

fn remedy(wanted: &DesiredCredential, seen: &Observed) -> String {
    if matches!(seen.staged, Staged::Request | Staged::Locked) {
        return format!(
            "A request waits for its answer: have it signed where that key is (`handfast ca sign`), \
             and type `handfast ca install FILE` here. To get the request again: `handfast ca \
             request {} --out FILE`.",
            wanted.name
        );
    }
    ceremony(&wanted.name)
}

fn ceremony(name: &Name) -> String {
    format!(
        "Type `handfast ca request {name} --out ca.csr` here, `handfast ca sign ca.csr --issuer-dir \
         DIR --out ca.pem` where that key is, and `handfast ca install ca.pem` here."
    )
}

/// The CAs of a site that another key signs: those named, or all.
fn chosen<'a>(
    wanted: &'a [DesiredCredential],
    names: &[Name],
) -> Result<Vec<&'a DesiredCredential>, CeremonyError> {
    let cas: Vec<_> = wanted.iter().filter(|each| each.profile == Profile::SiteCa).collect();
    if cas.iter().any(|ca| ca.signed_by == SignedBy::Itself) {
        return Err(CeremonyError::Standalone);
    }
    if names.is_empty() {
        return Ok(cas);
    }
    let find = |name: &Name| {
        cas.iter().find(|ca| ca.name == *name).copied().ok_or_else(|| CeremonyError::Unknown {
            name: name.clone(),
            known: cas.iter().map(|ca| ca.name.clone()).collect(),
        })
    };
    names.iter().map(find).collect()
}

/// The certificate with those of the file that lead up from it. What signs itself is an anchor or
/// nothing, and anchors are not taken from a file that came by hand.
fn chain_of(leaf: &Certificate, certificates: &[Certificate]) -> Chain {
    let mut above: Vec<Certificate> = Vec::new();
    let mut below = leaf;
    while let Some(next) = certificates.iter().find(|each| {
        below.names_issuer(each)
            && !each.is_self_issued()
            && below.verify_signed_by(each).is_ok()
            && !above.contains(each)
    }) {
        above.push(next.clone());
        below = next;
    }
    Chain::new(leaf.clone(), above)
}

fn check(
    name: &Name,
    chain: &Chain,
    key: &PrivateKey,
    anchors: &TrustAnchors,
    leaf: Duration,
    now: Timestamp,
) -> Result<(), CeremonyError> {
    let unusable = |why: String| CeremonyError::Unusable { name: name.clone(), why };
    let issuer = Issuer::from_parts(chain.clone(), key.clone(), anchors.clone())
        .map_err(|error| unusable(error.to_string()))?;
    verify_chain(chain, anchors, Purpose::Ca, now).map_err(|error| unusable(error.to_string()))?;
    if issuer.max_leaf_ttl() < leaf {
        let life = issuer.max_leaf_ttl() * LEAVES_PER_CA;
        return Err(CeremonyError::LifeTooShort { name: name.clone(), life, leaf });
    }
    Ok(())
}

fn by(actor: &str, action: &str, key: &Key, detail: String, now: Timestamp) -> AuditRow {
    AuditRow { actor: actor.to_owned(), ..own_audit(action, key, detail, now) }
}

fn waiting_text(names: &[Name]) -> String {
    if names.is_empty() {
        return "no key waits".to_owned();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
