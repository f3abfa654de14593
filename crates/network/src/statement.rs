//! Statements of revocation: made with an issuer's key, believed because of it. Values only; the
//! bytes of others are read here, bounded in number and size.

use handfast_pki::{
    Certificate, CertificateError, CertificateId, Chain, ChainError, Issuer, Purpose,
    RevocationReason, SerialError, SignError, SignatureError, SpiffeId, StatementContext,
    TrustAnchors, verify_chain,
};
use handfast_proto::link::v1::{RevokedCertificate, RevokedCertificates, SignedRevocations};
use jiff::Timestamp;
use prost::Message as _;

/// One revocation, as an issuer states it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StatedRevocation {
    /// Which certificate.
    pub certificate: CertificateId,
    /// Why.
    pub reason: RevocationReason,
    /// Since when, to the microsecond.
    pub at: Timestamp,
    /// When the certificate expires, if that is known.
    pub not_after: Option<Timestamp>,
    /// The enrolment that it belongs to is ended with it.
    pub enrolment_ended: bool,
    /// The identity it proved, if that is known.
    pub identity: Option<SpiffeId>,
}

/// Most certificates in one statement of ours.
pub const STATED: usize = 500;
/// Most certificates in a statement that is read.
const READ: usize = 10_000;
/// Most certificates on the way from an issuer to an anchor.
const WAY: usize = 8;
const CONTEXT: StatementContext = StatementContext("handfast revocations 1");

/// States that certificates of `issuer` are revoked. Those of other issuers are left out.
///
/// # Errors
/// If the issuer's key cannot be used at the moment.
pub fn state_revocations(
    issuer: &Issuer,
    revoked: &[StatedRevocation],
) -> Result<SignedRevocations, SignError> {
    let issuer_key_id = issuer.certificate().key_id();
    let certificates = revoked
        .iter()
        .filter(|revoked| revoked.certificate.issuer_key_id == issuer_key_id)
        .map(|revoked| RevokedCertificate {
            serial: revoked.certificate.serial.to_string(),
            reason: u32::from(revoked.reason.code()),
            at: revoked.at.as_microsecond(),
            not_after: revoked.not_after.map_or(0, Timestamp::as_microsecond),
            enrolment_ended: revoked.enrolment_ended,
            identity: revoked.identity.as_ref().map(ToString::to_string).unwrap_or_default(),
        })
        .collect();
    let revoked =
        RevokedCertificates { issuer_key_id: issuer_key_id.to_vec(), certificates }.encode_to_vec();
    let signature = issuer.sign_statement(CONTEXT, &revoked)?;
    let way = issuer.chain().iter().take(WAY);
    let issuer = way.map(|certificate| certificate.der().to_vec()).collect();
    Ok(SignedRevocations { revoked, signature, issuer })
}

/// A statement as it is kept on disk.
pub fn encode_statement(statement: &SignedRevocations) -> Vec<u8> {
    statement.encode_to_vec()
}

/// Reads what [`encode_statement`] made; nothing if it is something else.
pub fn decode_statement(bytes: &[u8]) -> Option<SignedRevocations> {
    SignedRevocations::decode(bytes).ok()
}

/// Whom a node believes.
#[derive(Clone, Debug, Default)]
pub struct Believed {
    /// Anchors of links; CAs below them are believed.
    pub anchors: Vec<TrustAnchors>,
    /// Keys of the node's own issuers.
    pub own: Vec<[u8; 32]>,
}

/// Why a statement is not believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// A certificate of the issuer's cannot be read.
    #[error("a certificate of the issuer cannot be read: {0}")]
    Certificate(#[from] CertificateError),
    /// What was signed is no list of revocations.
    #[error("what was signed is malformed: {0}")]
    Malformed(String),
    /// The signature is not the issuer's.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The issuer is none that anything is trusted for here.
    #[error("its issuer is not trusted here: {0}")]
    Untrusted(#[from] ChainError),
}

/// Reads a statement, and believes it if its issuer is a CA that `believed` leads to at `now`.
///
/// # Errors
/// Why it is not believed.
pub fn believe_revocations(
    statement: &SignedRevocations,
    believed: &Believed,
    now: Timestamp,
) -> Result<Vec<StatedRevocation>, StatementError> {
    let issuer = issuer_of(statement, believed, now)?;
    issuer.verify_statement(CONTEXT, &statement.revoked, &statement.signature)?;
    read_revocations(statement, Some(issuer.key_id()))
}

/// Reads a statement that was believed before.
///
/// # Errors
/// [`StatementError::Malformed`].
pub fn read_revocations(
    statement: &SignedRevocations,
    issuer_key_id: Option<[u8; 32]>,
) -> Result<Vec<StatedRevocation>, StatementError> {
    let malformed = |what: &str| StatementError::Malformed(what.to_owned());
    let revoked = RevokedCertificates::decode(statement.revoked.as_slice())
        .map_err(|error| StatementError::Malformed(error.to_string()))?;
    let key_id: [u8; 32] = revoked
        .issuer_key_id
        .as_slice()
        .try_into()
        .map_err(|_| malformed("the issuer's key is not named by 32 octets"))?;
    if issuer_key_id.is_some_and(|expected| expected != key_id) {
        return Err(malformed("it is about another issuer than the one who signed it"));
    }
    if revoked.certificates.len() > READ {
        return Err(malformed("more certificates than are read at once"));
    }
    revoked.certificates.iter().map(|certificate| stated(key_id, certificate)).collect()
}

fn stated(
    issuer_key_id: [u8; 32],
    certificate: &RevokedCertificate,
) -> Result<StatedRevocation, StatementError> {
    let serial = certificate
        .serial
        .parse()
        .map_err(|error: SerialError| StatementError::Malformed(error.to_string()))?;
    let moment = |micros| {
        Timestamp::from_microsecond(micros)
            .map_err(|error| StatementError::Malformed(error.to_string()))
    };
    let reason = u8::try_from(certificate.reason)
        .ok()
        .and_then(RevocationReason::from_code)
        .filter(|reason| RevocationReason::ALL.contains(reason));
    Ok(StatedRevocation {
        certificate: CertificateId { issuer_key_id, serial },
        // A reason of a later version is still a revocation.
        reason: reason.unwrap_or_default(),
        at: moment(certificate.at)?,
        not_after: match certificate.not_after {
            0 => None,
            micros => Some(moment(micros)?),
        },
        enrolment_ended: certificate.enrolment_ended,
        identity: certificate.identity.parse().ok(),
    })
}

/// The issuer's certificate, if the issuer is believed.
fn issuer_of(
    statement: &SignedRevocations,
    believed: &Believed,
    now: Timestamp,
) -> Result<Certificate, StatementError> {
    let mut way = Vec::new();
    for der in statement.issuer.iter().take(WAY) {
        way.push(Certificate::from_der(der.clone())?);
    }
    if way.is_empty() {
        return Err(StatementError::Malformed("it does not say who signed it".to_owned()));
    }
    let issuer = way.remove(0);
    if believed.own.contains(&issuer.key_id()) {
        return Ok(issuer);
    }
    let chain = Chain::new(issuer, way);
    let mut refusal = StatementError::Malformed("no anchor is trusted here".to_owned());
    for anchors in &believed.anchors {
        match verify_chain(&chain, anchors, Purpose::Ca, now) {
            Ok(()) => return Ok(chain.leaf().clone()),
            Err(error) => refusal = error.into(),
        }
    }
    Err(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use handfast_pki::{
        IssueRequest, KeyAlgorithm, PrivateKey, Profile, Serial, Subject, SystemEntropy,
    };
    use proptest::prelude::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_780_272_000).expect("a moment")
    }

    fn key() -> PrivateKey {
        PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key")
    }

    fn root(name: &str) -> Issuer {
        let key = key();
        let request = IssueRequest::new(Profile::Root, Subject::new(name), key.spki_der());
        Issuer::self_signed(&request, key, now(), &mut SystemEntropy).expect("a root")
    }

    fn site_ca(root: &Issuer) -> Issuer {
        let key = key();
        let request = IssueRequest::new(Profile::SiteCa, Subject::new("site CA"), key.spki_der());
        let certificate = root.issue(&request, now(), &mut SystemEntropy).expect("a CA");
        Issuer::from_parts(root.chain_for(certificate), key, root.anchors().clone())
            .expect("usable")
    }

    fn revoked(issuer: &Issuer, serial: u8) -> StatedRevocation {
        StatedRevocation {
            certificate: CertificateId {
                issuer_key_id: issuer.certificate().key_id(),
                serial: Serial::from_der_integer(&[serial]),
            },
            reason: RevocationReason::KeyCompromise,
            at: now(),
            not_after: Some(now()),
            enrolment_ended: true,
            identity: "spiffe://demo.example/site/east".parse().ok(),
        }
    }

    fn trusting(root: &Issuer) -> Believed {
        Believed { anchors: vec![root.anchors().clone()], own: vec![] }
    }

    #[test]
    fn an_issuer_below_a_trusted_anchor_is_believed_for_what_it_issued() {
        let root = root("ours");
        let ca = site_ca(&root);
        let all = [revoked(&ca, 1), revoked(&ca, 2), revoked(&root, 3)];
        let statement = state_revocations(&ca, &all).expect("signed");
        let heard = believe_revocations(&statement, &trusting(&root), now()).expect("believed");
        assert_eq!(heard, all[..2], "what another issued is not in its power to revoke");
        let statement = state_revocations(&root, &all).expect("signed");
        let heard = believe_revocations(&statement, &trusting(&root), now()).expect("believed");
        assert_eq!(heard, all[2..]);
    }

    #[test]
    fn nobody_else_is() {
        let (ours, theirs) = (root("ours"), root("theirs"));
        let (ca, stranger) = (site_ca(&ours), site_ca(&theirs));
        let stranger_says = state_revocations(&stranger, &[revoked(&stranger, 1)]).expect("signed");
        assert!(matches!(
            believe_revocations(&stranger_says, &trusting(&ours), now()),
            Err(StatementError::Untrusted(_))
        ));
        // The stranger signs what names our CA's key.
        let honest = state_revocations(&ca, &[revoked(&ca, 1)]).expect("signed");
        let signature = stranger.sign_statement(CONTEXT, &honest.revoked).expect("signed");
        let forged = SignedRevocations { signature, ..honest.clone() };
        assert_eq!(
            believe_revocations(&forged, &trusting(&ours), now()),
            Err(StatementError::Signature(SignatureError::Mismatch))
        );
        // A CA of ours that speaks about another of ours.
        let sister = site_ca(&ours);
        let signature = sister.sign_statement(CONTEXT, &honest.revoked).expect("signed");
        let issuer = vec![sister.certificate().der().to_vec()];
        let presuming = SignedRevocations { signature, issuer, ..honest.clone() };
        assert!(matches!(
            believe_revocations(&presuming, &trusting(&ours), now()),
            Err(StatementError::Malformed(_))
        ));
        // One word changed on the way.
        let mut changed = honest.clone();
        *changed.revoked.last_mut().expect("not empty") ^= 1;
        assert!(believe_revocations(&changed, &trusting(&ours), now()).is_err());
        assert!(believe_revocations(&honest, &trusting(&ours), now()).is_ok());
    }

    #[test]
    fn a_leaf_states_nothing() {
        let root = root("ours");
        let key = key();
        let request = IssueRequest::new(Profile::LinkClient, Subject::new("east"), key.spki_der());
        let leaf = site_ca(&root).issue(&request, now(), &mut SystemEntropy).expect("a leaf");
        let statement = SignedRevocations {
            issuer: vec![leaf.der().to_vec()],
            ..state_revocations(&root, &[revoked(&root, 1)]).expect("signed")
        };
        assert!(matches!(
            believe_revocations(&statement, &trusting(&root), now()),
            Err(StatementError::Untrusted(_))
        ));
    }

    #[test]
    fn a_restored_node_believes_its_own_key_whatever_it_trusts() {
        let ca = site_ca(&root("ours"));
        let statement = state_revocations(&ca, &[revoked(&ca, 1)]).expect("signed");
        let own = Believed { anchors: vec![], own: vec![ca.certificate().key_id()] };
        assert_eq!(believe_revocations(&statement, &own, now()).expect("believed").len(), 1);
        assert!(believe_revocations(&statement, &Believed::default(), now()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            revoked in proptest::collection::vec(any::<u8>(), 0..200),
            signature in proptest::collection::vec(any::<u8>(), 0..80),
            issuer in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..4),
        ) {
            let statement = SignedRevocations { revoked, signature, issuer };
            let _ = read_revocations(&statement, None).is_ok();
            prop_assert!(believe_revocations(&statement, &Believed::default(), now()).is_err());
        }
    }
}
