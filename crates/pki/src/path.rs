//! The way from a certificate up to a trust anchor, walked by ourselves so that a refusal can be
//! explained. The verdict on handshakes stays webpki's (see [`crate::verify_chain`]).

use jiff::Timestamp;

use crate::extension::Defect;
use crate::{Certificate, Chain, ChainError, SignatureError, Subject, TrustAnchors};

/// A leaf, what signed it, and so on up to and including a trust anchor. Every signature on the way has
/// been checked.
#[derive(Clone, Debug)]
pub(crate) struct Path<'a> {
    certificates: Vec<&'a Certificate>,
}

impl<'a> Path<'a> {
    /// More certificates than this between leaf and anchor are refused, as webpki does.
    const MAX_LEN: usize = 8;

    /// Walks up from the leaf. Certificates after the leaf may come in any order; those not needed
    /// are passed over. At most [`Chain::MAX_LEN`] of them are looked at: a peer may send any number.
    pub(crate) fn find(chain: &'a Chain, anchors: &'a TrustAnchors) -> Result<Self, ChainError> {
        let mut certificates = vec![chain.leaf()];
        let mut current = chain.leaf();
        loop {
            if anchors.contains(current) {
                return Ok(Self { certificates });
            }
            let (issuer, anchored) = Self::issuer_of(current, chain, anchors, &certificates)?;
            certificates.push(issuer);
            if anchored {
                return Ok(Self { certificates });
            }
            if certificates.len() > Self::MAX_LEN {
                let subject = chain.leaf().subject().to_owned();
                return Err(ChainError::TooLong { subject, limit: Self::MAX_LEN });
            }
            current = issuer;
        }
    }

    /// What signed `current`, and whether that is an anchor.
    fn issuer_of(
        current: &Certificate,
        chain: &'a Chain,
        anchors: &'a TrustAnchors,
        seen: &[&Certificate],
    ) -> Result<(&'a Certificate, bool), ChainError> {
        let anchors_of_name = anchors.iter().map(|anchor| (anchor, true));
        let sent = chain.rest().iter().take(Chain::MAX_LEN).map(|sent| (sent, false));
        let mut nearest = None;
        for (candidate, anchored) in anchors_of_name.chain(sent) {
            if !current.names_issuer(candidate) || seen.contains(&candidate) {
                continue;
            }
            match current.verify_signed_by(candidate) {
                Ok(()) => return Ok((candidate, anchored)),
                Err(error) => nearest = Some((candidate, error)),
            }
        }
        let subject = current.subject().to_owned();
        Err(match nearest {
            Some((_, SignatureError::Unsupported { algorithm })) => {
                ChainError::UnsupportedSignature { subject, algorithm }
            }
            Some((candidate, _)) => ChainError::BadSignature {
                subject,
                issuer: candidate.subject().to_owned(),
                issuer_fingerprint: candidate.fingerprint(),
            },
            None if current.is_self_issued() && current == chain.leaf() => {
                ChainError::SelfSigned { subject, fingerprint: current.fingerprint() }
            }
            None => ChainError::UnknownIssuer {
                subject,
                issuer: current.issuer().to_owned(),
                anchors: anchors.describe(),
            },
        })
    }

    /// From the leaf up to the anchor; the two are the same if the leaf is an anchor.
    pub(crate) fn certificates(&self) -> &[&'a Certificate] {
        &self.certificates
    }

    fn leaf(&self) -> &'a Certificate {
        self.certificates[0]
    }

    /// The CAs below the anchor. (The anchor is trusted for its name and key; its dates are lint's.)
    fn intermediates(&self) -> &[&'a Certificate] {
        let end = self.certificates.len().saturating_sub(1).max(1);
        self.certificates.get(1..end).unwrap_or_default()
    }

    /// Checks that every certificate but the anchor is valid at `now`.
    pub(crate) fn check_time(&self, now: Timestamp) -> Result<(), ChainError> {
        let leaf = std::iter::once(self.leaf());
        for certificate in leaf.chain(self.intermediates().iter().copied()) {
            let subject = || certificate.subject().to_owned();
            if now < certificate.not_before() {
                let not_before = certificate.not_before();
                return Err(ChainError::NotYetValid { subject: subject(), not_before, now });
            }
            if now > certificate.not_after() {
                let not_after = certificate.not_after();
                return Err(ChainError::Expired { subject: subject(), not_after, now });
            }
        }
        Ok(())
    }

    /// Checks everything that does not depend on time or on what the leaf is used for: versions, that
    /// CAs may sign, path lengths, critical extensions, name constraints.
    pub(crate) fn check_structure(&self) -> Result<(), ChainError> {
        for certificate in &self.certificates {
            let unknown = certificate.extensions().defects.iter().find_map(|d| match d {
                Defect::UnknownCritical(extension) => Some(extension.clone()),
                _ => None,
            });
            if let Some(extension) = unknown {
                let subject = certificate.subject().to_owned();
                return Err(ChainError::UnknownCriticalExtension { subject, extension });
            }
        }
        // A CA at the foot of the path is there to sign, so it counts as one below the others.
        let first = u32::from(self.leaf().is_ca());
        for (ca, below) in self.certificates.iter().skip(1).zip(first..) {
            let subject = || ca.subject().to_owned();
            // An anchor is trusted as configured, even as version 1; a CA that was sent is not.
            let anchor = Some(ca) == self.certificates.last();
            if ca.version() != 3 && !anchor {
                return Err(ChainError::OldVersion { subject: subject(), version: ca.version() });
            }
            if !(ca.is_ca() || anchor && ca.version() != 3) {
                return Err(ChainError::NotCa { subject: subject() });
            }
            if ca.key_usage().is_some_and(|usage| !usage.key_cert_sign()) {
                return Err(ChainError::MayNotSign { subject: subject() });
            }
            if ca.path_len().is_some_and(|path_len| path_len < below) {
                let limit = ca.path_len().unwrap_or(0);
                return Err(ChainError::PathLength { subject: subject(), limit, below });
            }
        }
        self.check_constraints()
    }

    fn check_constraints(&self) -> Result<(), ChainError> {
        let names = names_of(self.leaf());
        for ca in self.certificates.iter().skip(1) {
            if let Some(constraints) = &ca.extensions().name_constraints {
                constraints
                    .check(&names, ca.subject())
                    .map_err(|source| ChainError::NameConstraint { source })?;
            }
        }
        Ok(())
    }
}

/// The names of a certificate that constraints apply to. Malformed ones cannot be judged; the verifier
/// proper refuses them.
fn names_of(certificate: &Certificate) -> Subject {
    Subject {
        common_name: String::new(),
        identity: certificate.spiffe_id().ok().flatten(),
        dns: certificate.dns_names().iter().filter_map(|name| name.parse().ok()).collect(),
        ips: certificate.ip_addresses().to_vec(),
    }
}
