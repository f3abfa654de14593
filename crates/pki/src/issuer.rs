//! A CA that signs: its chain, its key, and the rules it keeps when issuing.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;

use crate::issuance::{
    CA_LIVES_TIMES_LEAF, NOT_BEFORE_CUSHION, RcgenKey, Validity, proven, reason_of,
};
use crate::path::Path;
use crate::public_key::Encoded;
use crate::{
    Certificate, Chain, ChainError, Entropy, IssueError, IssueRequest, Overrun, PublicKeyError,
    Serial, SigningKey, TrustAnchors,
};

/// A CA certificate with its key and its way up to the trust anchors.
#[derive(Clone)]
pub struct Issuer {
    chain: Chain,
    key: SigningKey,
    anchors: TrustAnchors,
    /// The CA as rcgen wants it, parsed once; made when something is issued first.
    parsed: OnceLock<Arc<rcgen::Issuer<'static, RcgenKey<SigningKey>>>>,
}

impl Issuer {
    /// Makes a CA that signs itself (profile root, or site CA for a standalone site). `request` must
    /// carry the public half of `key`. The new CA is its own trust anchor.
    pub fn self_signed(
        request: &IssueRequest,
        key: impl Into<SigningKey>,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, IssueError> {
        let key = key.into();
        let public = request.check()?;
        if !request.profile.is_ca() {
            return Err(IssueError::NotSelfSigned { profile: request.profile });
        }
        if public != *key.public_key() {
            return Err(IssueError::KeyMismatch);
        }
        let validity = validity(now, request.ttl)?;
        let params = request.params(&public, &Serial::random(entropy), validity)?;
        let made = params.self_signed(&RcgenKey(&key)).map_err(signing)?;
        let certificate = proven(made.der(), None, &public)?;
        let anchors = TrustAnchors::new(certificate.clone());
        Ok(Self { chain: certificate.into(), key, anchors, parsed: OnceLock::new() })
    }

    /// Takes over a CA: its certificate (with intermediates above it), its key, and the anchors it
    /// leads up to. Checks everything but time: that is checked at each issuance.
    pub fn from_parts(
        chain: Chain,
        key: impl Into<SigningKey>,
        anchors: TrustAnchors,
    ) -> Result<Self, IssuerError> {
        let key = key.into();
        let ca = chain.leaf();
        let subject = || ca.subject().to_owned();
        if ca.version() != 3 {
            return Err(IssuerError::OldVersion { subject: subject(), version: ca.version() });
        }
        if !ca.is_ca() {
            return Err(IssuerError::NotCa { subject: subject() });
        }
        if ca.key_usage().is_some_and(|usage| !usage.key_cert_sign()) {
            return Err(IssuerError::MayNotSign { subject: subject() });
        }
        if ca.public_key()? != *key.public_key() {
            return Err(IssuerError::KeyMismatch { subject: subject() });
        }
        Path::find(&chain, &anchors)
            .and_then(|path| path.check_structure())
            .map_err(|source| IssuerError::Chain { source: Box::new(source) })?;
        Ok(Self { chain, key, anchors, parsed: OnceLock::new() })
    }

    /// The CA certificate.
    pub fn certificate(&self) -> &Certificate {
        self.chain.leaf()
    }

    /// The CA certificate and what signed it, as configured.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The anchors that the chain leads up to: the `ca.crt` of everything issued here.
    pub fn anchors(&self) -> &TrustAnchors {
        &self.anchors
    }

    /// The CA's key, wherever it is.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The chain to present with a certificate issued here: the leaf, this CA and its intermediates, but
    /// no self-signed certificate (a peer has it already or must not take it from us).
    pub fn chain_for(&self, leaf: Certificate) -> Chain {
        let above = self.chain.iter().filter(|ca| !ca.is_self_issued()).cloned().collect();
        Chain::new(leaf, above)
    }

    /// How long a leaf of this CA may live at most: a sixth of the CA's own life.
    pub fn max_leaf_ttl(&self) -> Duration {
        life(self.certificate()) / CA_LIVES_TIMES_LEAF
    }

    /// Signs a certificate: names, key and life from `request`, everything else from its profile. It is
    /// valid from a minute before `now`. What was signed is read back and verified before it is returned.
    pub fn issue(
        &self,
        request: &IssueRequest,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Certificate, IssueError> {
        let public = request.check()?;
        self.check_profile(request)?;
        let validity = self.validity(request, now)?;
        for ca in self.chain.iter().chain(self.anchors.iter()) {
            if let Some(constraints) = &ca.extensions().name_constraints {
                constraints.check(&request.subject, ca.subject())?;
            }
        }
        let params = request.params(&public, &Serial::random(entropy), validity)?;
        let ca = self.certificate();
        let made = params.signed_by(&Encoded(&public), self.parsed()?).map_err(signing)?;
        proven(made.der(), Some(ca), &public)
    }

    fn parsed(&self) -> Result<&rcgen::Issuer<'static, RcgenKey<SigningKey>>, IssueError> {
        if let Some(parsed) = self.parsed.get() {
            return Ok(parsed);
        }
        let der = self.certificate().to_pki_types();
        let parsed = rcgen::Issuer::from_ca_cert_der(&der, RcgenKey(self.key.clone()));
        let parsed = parsed.map_err(signing)?;
        Ok(self.parsed.get_or_init(|| Arc::new(parsed)))
    }

    fn check_profile(&self, request: &IssueRequest) -> Result<(), IssueError> {
        let ca = self.certificate();
        let issuer = || ca.subject().to_owned();
        if !request.profile.is_ca() {
            let (limit, issuer_life) = (self.max_leaf_ttl(), life(ca));
            if request.ttl > limit {
                let asked = request.ttl;
                return Err(IssueError::LifeTooLong {
                    asked,
                    limit,
                    issuer: issuer(),
                    issuer_life,
                });
            }
            return Ok(());
        }
        if request.profile == crate::Profile::Root {
            return Err(IssueError::RootByOther);
        }
        // Every CA above, the anchor included, must leave room for one more.
        let path = Path::find(&self.chain, &self.anchors);
        let room = path.is_ok_and(|path| {
            path.certificates()
                .iter()
                .zip(0_u32..)
                .all(|(above, below)| above.path_len().is_none_or(|path_len| path_len > below))
        });
        if room { Ok(()) } else { Err(IssueError::PathLength { issuer: issuer() }) }
    }

    fn validity(&self, request: &IssueRequest, now: Timestamp) -> Result<Validity, IssueError> {
        let ca = self.certificate();
        let issuer = || ca.subject().to_owned();
        if now > ca.not_after() {
            let not_after = ca.not_after();
            return Err(IssueError::IssuerExpired { issuer: issuer(), not_after });
        }
        if now < ca.not_before() {
            let not_before = ca.not_before();
            return Err(IssueError::IssuerNotYetValid { issuer: issuer(), not_before });
        }
        let Validity { not_before, not_after } = validity(now, request.ttl)?;
        let not_before = not_before.max(ca.not_before());
        if not_after <= ca.not_after() {
            return Ok(Validity { not_before, not_after });
        }
        match request.overrun {
            Overrun::Refuse => Err(IssueError::BeyondIssuer {
                issuer: issuer(),
                issuer_not_after: ca.not_after(),
                not_after,
            }),
            Overrun::Truncate => Ok(Validity { not_before, not_after: ca.not_after() }),
        }
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("certificate", self.certificate())
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

fn validity(now: Timestamp, ttl: Duration) -> Result<Validity, IssueError> {
    let overflow = |_| IssueError::NoLife;
    let now = Timestamp::from_second(now.as_second()).map_err(overflow)?;
    let not_before = now.checked_sub(NOT_BEFORE_CUSHION).map_err(overflow)?;
    let not_after = now.checked_add(Duration::from_secs(ttl.as_secs())).map_err(overflow)?;
    Ok(Validity { not_before, not_after })
}

fn life(certificate: &Certificate) -> Duration {
    let span = certificate.not_after().duration_since(certificate.not_before());
    Duration::try_from(span).unwrap_or_default()
}

fn signing(error: rcgen::Error) -> IssueError {
    IssueError::Signing { reason: reason_of(error) }
}

/// Why a CA cannot be used for signing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// It does not lead up to the anchors given with it.
    #[error("the CA certificate does not lead up to its trust anchors: {source}")]
    Chain {
        /// Where it breaks.
        source: Box<ChainError>,
    },
    /// Key and certificate do not belong together.
    #[error(
        "the private key does not belong to the CA certificate {subject:?}: supply the two that were made together"
    )]
    KeyMismatch {
        /// The certificate's subject.
        subject: String,
    },
    /// Key usage without keyCertSign.
    #[error(
        "{subject:?} may not sign certificates (its key usage lacks keyCertSign): supply a CA that may"
    )]
    MayNotSign {
        /// The certificate's subject.
        subject: String,
    },
    /// Basic constraints without CA:TRUE.
    #[error("{subject:?} is no CA certificate (CA:TRUE is missing): supply one that is")]
    NotCa {
        /// The certificate's subject.
        subject: String,
    },
    /// Not version 3.
    #[error(
        "{subject:?} is an X.509 version {version} certificate, which no verifier of today accepts as a CA: make a version 3 one"
    )]
    OldVersion {
        /// The certificate's subject.
        subject: String,
        /// Its version.
        version: u32,
    },
    /// The CA's key is of a kind that we cannot sign with.
    #[error("the CA certificate cannot be used: {0}")]
    PublicKey(#[from] PublicKeyError),
}
