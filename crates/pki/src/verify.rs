//! Is this chain good, for this purpose, now? webpki decides for handshakes; our own walk explains a
//! refusal in words an operator can act on, and decides for CAs, which webpki does not judge.

use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, anchor_from_trusted_cert};

use crate::path::Path;
use crate::{
    Certificate, Chain, ConstraintViolation, Eku, Fingerprint, KeyUsage, SignatureAlgorithm,
    TrustAnchors,
};

/// What a certificate is meant to be used for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Purpose {
    /// Signing other certificates.
    Ca,
    /// Being the client of a TLS handshake.
    Client,
    /// Being the server of a TLS handshake.
    Server,
}

impl Purpose {
    /// The extended key usage a leaf needs for it.
    pub fn eku(self) -> Option<Eku> {
        match self {
            Self::Ca => None,
            Self::Client => Some(Eku::ClientAuth),
            Self::Server => Some(Eku::ServerAuth),
        }
    }
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ca => "CA",
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// Verifies `chain` against `anchors` for `purpose` at `now`, and says why not. Host names and
/// identities are not looked at: that is the handshake's business. Stricter than webpki in one point:
/// a leaf must state its extended key usage (rule 4).
pub fn verify_chain(
    chain: &Chain,
    anchors: &TrustAnchors,
    purpose: Purpose,
    now: Timestamp,
) -> Result<(), ChainError> {
    let Some(needed) = purpose.eku() else {
        return explained(chain, anchors, purpose, now);
    };
    match webpki_verdict(chain, anchors, purpose, now) {
        Ok(()) => usage(chain.leaf(), &needed),
        Err(verdict) => {
            // Most telling cause first; if our walk finds nothing, webpki's word stands.
            explained(chain, anchors, purpose, now)?;
            let subject = chain.leaf().subject().to_owned();
            Err(ChainError::Refused { subject, reason: verdict.to_string() })
        }
    }
}

/// Our own walk, with every check in the order in which an operator would want to hear of it.
fn explained(
    chain: &Chain,
    anchors: &TrustAnchors,
    purpose: Purpose,
    now: Timestamp,
) -> Result<(), ChainError> {
    let leaf = chain.leaf();
    let subject = || leaf.subject().to_owned();
    if leaf.version() != 3 {
        return Err(ChainError::OldVersion { subject: subject(), version: leaf.version() });
    }
    let path = Path::find(chain, anchors)?;
    path.check_time(now)?;
    match purpose.eku() {
        Some(_) if leaf.is_ca() => return Err(ChainError::CaAsLeaf { subject: subject() }),
        Some(needed) => usage(leaf, &needed)?,
        None if !leaf.is_ca() => return Err(ChainError::NotCa { subject: subject() }),
        None if leaf.key_usage().is_some_and(|usage| !usage.key_cert_sign()) => {
            return Err(ChainError::MayNotSign { subject: subject() });
        }
        None => {}
    }
    path.check_structure()?;
    for certificate in path.certificates() {
        if let (Some(needed), Some(stated)) = (purpose.eku(), certificate.extended_key_usage())
            && !stated.contains(&needed)
        {
            let subject = certificate.subject().to_owned();
            return Err(ChainError::WrongUsage { subject, needed, stated: list(&stated) });
        }
    }
    Ok(())
}

fn usage(leaf: &Certificate, needed: &Eku) -> Result<(), ChainError> {
    let subject = leaf.subject().to_owned();
    let needed = needed.clone();
    match leaf.extended_key_usage() {
        None => Err(ChainError::NoUsage { subject, needed }),
        Some(stated) if stated.contains(&needed) => Ok(()),
        Some(stated) => Err(ChainError::WrongUsage { subject, needed, stated: list(&stated) }),
    }
}

fn webpki_verdict(
    chain: &Chain,
    anchors: &TrustAnchors,
    purpose: Purpose,
    now: Timestamp,
) -> Result<(), webpki::Error> {
    // webpki takes whatever is trusted for a CA. One that is none stands for itself only.
    let leaf = chain.leaf();
    let anchors_der: Vec<_> = anchors
        .iter()
        .filter(|anchor| anchor.may_vouch() || *anchor == leaf)
        .map(Certificate::to_pki_types)
        .collect();
    // An anchor that webpki cannot read anchors nothing; the others still do.
    let trusted: Vec<_> =
        anchors_der.iter().filter_map(|der| anchor_from_trusted_cert(der).ok()).collect();
    let leaf = CertificateDer::from(leaf.der());
    // Nor does it look at the key usage of CAs (RFC 5280 section 6.1.4 (n)).
    let signs = |ca: &&Certificate| ca.key_usage().is_none_or(KeyUsage::key_cert_sign);
    let rest = chain.rest().iter().filter(signs).map(|ca| CertificateDer::from(ca.der()));
    let rest: Vec<_> = rest.collect();
    let usage = if purpose == Purpose::Server {
        webpki::KeyUsage::server_auth()
    } else {
        webpki::KeyUsage::client_auth()
    };
    let since_epoch = u64::try_from(now.as_second()).unwrap_or(0);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(since_epoch));
    EndEntityCert::try_from(&leaf)?
        .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &trusted, &rest, now, usage, None, None)
        .map(|_| ())
}

fn list(usages: &[Eku]) -> String {
    usages.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Why a chain is not good. `subject` is the certificate at fault.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A CA of the right name, but another key, is at hand.
    #[error(
        "{subject:?} is not signed by the {issuer:?} at hand (SHA-256 {issuer_fingerprint}): that CA was made anew, or two CAs share a name; use the trust bundle of the CA that issued it"
    )]
    BadSignature {
        /// The certificate at fault.
        subject: String,
        /// The CA of that name at hand.
        issuer: String,
        /// The fingerprint of that CA.
        issuer_fingerprint: Fingerprint,
    },
    /// A CA certificate where a leaf belongs.
    #[error(
        "{subject:?} is a CA certificate and cannot be used in a handshake: issue a leaf with it and use that"
    )]
    CaAsLeaf {
        /// The certificate at fault.
        subject: String,
    },
    /// Past its end.
    #[error("{subject:?} expired at {not_after} (it is now {now}): renew it")]
    Expired {
        /// The certificate at fault.
        subject: String,
        /// When it ended.
        not_after: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// A CA whose key usage lacks keyCertSign.
    #[error("{subject:?} may not sign certificates (its key usage lacks keyCertSign)")]
    MayNotSign {
        /// The certificate at fault.
        subject: String,
    },
    /// A name outside the constraints of a CA above.
    #[error(transparent)]
    NameConstraint {
        /// The constraint violated.
        source: ConstraintViolation,
    },
    /// No extended key usage at all.
    #[error(
        "{subject:?} does not say what it may be used for (no extended key usage): re-issue it with {needed}"
    )]
    NoUsage {
        /// The certificate at fault.
        subject: String,
        /// What is needed.
        needed: Eku,
    },
    /// Something that signed, or is to sign, but is no CA.
    #[error("{subject:?} is no CA certificate (CA:TRUE is missing) and cannot sign others")]
    NotCa {
        /// The certificate at fault.
        subject: String,
    },
    /// Before its beginning.
    #[error(
        "{subject:?} is valid only from {not_before}, and it is now {now}: a clock is wrong here or where it was issued"
    )]
    NotYetValid {
        /// The certificate at fault.
        subject: String,
        /// When it begins.
        not_before: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// X.509 version 1 or 2.
    #[error(
        "{subject:?} is an X.509 version {version} certificate, which carries no names and usages: re-issue it as version 3 (with `openssl x509 -req`, add -extfile)"
    )]
    OldVersion {
        /// The certificate at fault.
        subject: String,
        /// Its version.
        version: u32,
    },
    /// More CAs below a CA than it allows.
    #[error(
        "{subject:?} allows {limit} CA(s) below it, but {below} stand there: issue from a CA nearer to the root"
    )]
    PathLength {
        /// The CA whose limit is broken.
        subject: String,
        /// Its path length constraint.
        limit: u32,
        /// CAs below it.
        below: u32,
    },
    /// Refused by webpki for a reason that our own walk did not find.
    #[error("{subject:?} is refused: {reason}")]
    Refused {
        /// The leaf.
        subject: String,
        /// webpki's word for it.
        reason: String,
    },
    /// A self-signed leaf that is not itself an anchor.
    #[error(
        "{subject:?} is self-signed and not among the trust anchors (SHA-256 {fingerprint}): have it issued by a CA that is, or add it to ca.crt"
    )]
    SelfSigned {
        /// The certificate at fault.
        subject: String,
        /// Its fingerprint.
        fingerprint: Fingerprint,
    },
    /// More certificates than are ever walked.
    #[error("the way from {subject:?} to a trust anchor is longer than {limit} certificates")]
    TooLong {
        /// The leaf.
        subject: String,
        /// How many are walked.
        limit: usize,
    },
    /// A critical extension that must be understood and is not.
    #[error("{subject:?} carries the critical extension {extension}, which is not understood")]
    UnknownCriticalExtension {
        /// The certificate at fault.
        subject: String,
        /// The extension.
        extension: String,
    },
    /// No certificate of the issuer's name is at hand.
    #[error(
        "{subject:?} was issued by {issuer:?}, which is not trusted here and was not sent along; trusted are: {anchors}"
    )]
    UnknownIssuer {
        /// The certificate at fault.
        subject: String,
        /// Its issuer's name.
        issuer: String,
        /// The anchors that are trusted.
        anchors: String,
    },
    /// Signed in a way that is not accepted.
    #[error(
        "{subject:?} is signed with {algorithm}, which is not accepted: re-issue it with SHA-256"
    )]
    UnsupportedSignature {
        /// The certificate at fault.
        subject: String,
        /// How it is signed.
        algorithm: SignatureAlgorithm,
    },
    /// Extended key usage without what is needed.
    #[error(
        "{subject:?} may be used for {stated}, but {needed} is needed: use the right certificate"
    )]
    WrongUsage {
        /// The certificate at fault.
        subject: String,
        /// What is needed.
        needed: Eku,
        /// What it states.
        stated: String,
    },
}
