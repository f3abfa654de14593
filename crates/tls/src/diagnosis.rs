//! From webpki's reason to a cause with evidence: which certificate of the chain it was, by how
//! much, what was presented and what was expected. It decides nothing: it explains a refusal.

use handfast_pki::{Certificate, Eku, TrustAnchors};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, OtherError};

use crate::fault::{FaultCode, Side};
use crate::refusal::Refusal;
use crate::verifier::{MAX_PRESENTED, Usage};

/// Explains why a presented chain (leaf first, possibly empty if it is not known) was refused.
pub(crate) fn diagnose(
    reason: &CertificateError,
    chain: &[CertificateDer<'_>],
    trust: Option<(&TrustAnchors, Usage)>,
    expected_name: Option<&str>,
    now: Timestamp,
) -> Refusal {
    let parsed: Vec<Certificate> = chain
        .iter()
        .take(MAX_PRESENTED)
        .map_while(|der| Certificate::from_der(der.to_vec()).ok())
        .collect();
    let case = Case { chain: &parsed, trust, expected_name, now };
    let refusal = case.explain(reason);
    match parsed.first() {
        Some(leaf) => describe(refusal, leaf),
        None => refusal,
    }
}

/// Adds what identifies the presented certificate, for every cause alike.
pub(crate) fn describe(refusal: Refusal, leaf: &Certificate) -> Refusal {
    let identity = leaf.uris().join(", ");
    let refusal = refusal
        .with("subject", leaf.subject())
        .with("issuer", leaf.issuer())
        .with("not-before", leaf.not_before().to_string())
        .with("not-after", leaf.not_after().to_string())
        .with("serial", leaf.serial().to_string())
        .with("fingerprint", leaf.fingerprint().to_string());
    let known = refusal.evidence.iter().any(|(key, _)| key.starts_with("presented-"));
    if identity.is_empty() || known { refusal } else { refusal.with("identity", identity) }
}

struct Case<'a> {
    chain: &'a [Certificate],
    trust: Option<(&'a TrustAnchors, Usage)>,
    expected_name: Option<&'a str>,
    now: Timestamp,
}

impl Case<'_> {
    fn explain(&self, reason: &CertificateError) -> Refusal {
        use CertificateError as E;
        match reason {
            E::BadEncoding | E::UnhandledCriticalExtension => self.unreadable(reason),
            E::BadSignature => self.bad_signature(),
            E::Expired | E::ExpiredContext { .. } => self.expired(),
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => self.wrong_usage(),
            E::NotValidForName | E::NotValidForNameContext { .. } => self.wrong_name(),
            E::NotValidYet | E::NotValidYetContext { .. } => self.not_yet_valid(),
            E::Other(OtherError(inner)) => match inner.downcast_ref::<webpki::Error>() {
                Some(error) => self.explain_webpki(error),
                None => other(reason),
            },
            E::Revoked => {
                Refusal::new(FaultCode::Revoked, Side::Peer, "the peer's certificate is revoked")
            }
            E::UnknownIssuer => self.unknown_issuer(),
            E::UnsupportedSignatureAlgorithmContext { .. }
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Refusal::new(
                FaultCode::UnsupportedAlgorithm,
                Side::Peer,
                "the peer's chain is signed with an algorithm that is not accepted",
            )
            .with("signed-with", self.signed_with()),
            _ => other(reason),
        }
    }

    fn explain_webpki(&self, error: &webpki::Error) -> Refusal {
        use webpki::Error as W;
        match error {
            W::CaUsedAsEndEntity => Refusal::new(
                FaultCode::CaAsLeaf,
                Side::Peer,
                "the peer presented a CA certificate as its own",
            )
            .with("basic-constraints", "CA:TRUE"),
            W::EndEntityUsedAsCa => Refusal::new(
                FaultCode::UnknownIssuer,
                Side::Peer,
                "the peer's certificate was signed by a certificate that is not a CA, or may not sign others",
            )
            .with("presented-chain", self.listing()),
            W::EmptyEkuExtension => self.wrong_usage(),
            W::MaximumPathBuildCallsExceeded
            | W::MaximumPathDepthExceeded
            | W::MaximumSignatureChecksExceeded
            | W::PathLenConstraintViolated => Refusal::new(
                FaultCode::ChainTooLong,
                Side::Peer,
                if matches!(error, W::PathLenConstraintViolated) {
                    "a CA in the peer's chain may not have that many CAs below it"
                } else {
                    "the peer's certificate chain is longer or more tangled than is allowed"
                },
            )
            .with("presented-certificates", self.chain.len().to_string())
            .with("presented-chain", self.listing())
            .with("path-lengths", self.path_lengths()),
            W::NameConstraintViolation | W::MaximumNameConstraintComparisonsExceeded => {
                Refusal::new(
                    FaultCode::NameConstraint,
                    Side::Peer,
                    "a CA in the peer's chain may not issue for the names in the certificate",
                )
                .with("presented-names", self.names())
            }
            W::UnsupportedCertVersion => self.version_one(),
            other => malformed().with("reason", other.to_string()),
        }
    }

    fn unreadable(&self, reason: &CertificateError) -> Refusal {
        match self.chain.first() {
            Some(leaf) if leaf.version() < 3 => self.version_one(),
            _ => malformed().with("reason", reason.to_string()),
        }
    }

    fn version_one(&self) -> Refusal {
        // The oldest certificate of the chain is the culprit; the leaf need not be it.
        let old = self.chain.iter().find(|certificate| certificate.version() < 3);
        let refusal = Refusal::new(
            FaultCode::V1Certificate,
            Side::Peer,
            "the peer presented an X.509 v1 certificate, which cannot say what it may be used for",
        );
        match old {
            Some(certificate) => refusal.with("version", certificate.version().to_string()),
            None => refusal,
        }
    }

    fn bad_signature(&self) -> Refusal {
        // webpki finds issuers by name. A stranger's CA that bears the name of ours fails here
        // too, but then the key identifiers differ and the honest cause is an unknown issuer.
        let orphan = self.chain.iter().find(|certificate| !self.has_issuer_by_key(certificate));
        if let Some(orphan) = orphan.filter(|orphan| orphan.authority_key_id().is_some()) {
            return self
                .issuer_not_trusted("the peer's certificate was issued by a CA that bears the name of a trusted one but has another key")
                .with("authority-key-id", hex(orphan.authority_key_id()));
        }
        Refusal::new(
            FaultCode::BadSignature,
            Side::Peer,
            "a certificate in the peer's chain carries a signature that does not verify",
        )
        .with("presented-chain", self.listing())
    }

    /// True if somebody presented or trusted has the key that `certificate` says signed it.
    fn has_issuer_by_key(&self, certificate: &Certificate) -> bool {
        let Some(wanted) = certificate.authority_key_id() else { return true };
        let trusted = self.trust.into_iter().flat_map(|(anchors, _)| anchors.iter());
        self.chain.iter().chain(trusted).any(|candidate| candidate.subject_key_id() == Some(wanted))
    }

    fn unknown_issuer(&self) -> Refusal {
        if let Some(refusal) = self.issued_by_a_trusted_leaf() {
            return refusal;
        }
        let top = self.chain.last();
        let what = match (self.chain, top) {
            ([leaf], _) if leaf.subject() == leaf.issuer() => {
                "the peer's certificate is self-signed and not trusted here".to_owned()
            }
            (_, Some(top)) => format!(
                "the peer's certificate was issued by a CA that is not trusted here: {}",
                top.issuer()
            ),
            _ => "the peer's certificate was issued by a CA that is not trusted here".to_owned(),
        };
        let refusal = self.issuer_not_trusted(&what);
        let missing = top.is_some_and(|top| top.subject() != top.issuer() && self.chain.len() == 1);
        if missing && self.trust.is_some() {
            return refusal.with(
                "note",
                "the peer sent its leaf only; if its issuer is an intermediate, the peer has to send that too",
            );
        }
        refusal
    }

    /// What is trusted here bears the issuer's name, but may not vouch for anybody.
    fn issued_by_a_trusted_leaf(&self) -> Option<Refusal> {
        let (anchors, _) = self.trust?;
        let mut none = anchors.iter().filter(|anchor| !anchor.may_vouch());
        let culprit =
            none.find(|anchor| self.chain.iter().any(|below| below.names_issuer(anchor)))?;
        let what = format!(
            "what is trusted here as {} is not a CA that may sign others: it vouches for nothing but itself",
            culprit.subject()
        );
        Some(
            Refusal::new(FaultCode::UnknownIssuer, Side::Ours, what)
                .with("presented-chain", self.listing())
                .with("basic-constraints", if culprit.is_ca() { "CA:TRUE" } else { "CA:FALSE" })
                .with(
                    "key-usage",
                    culprit.key_usage().map_or_else(|| "none".to_owned(), |u| u.to_string()),
                ),
        )
    }

    fn issuer_not_trusted(&self, what: &str) -> Refusal {
        let refusal = Refusal::new(FaultCode::UnknownIssuer, Side::Either, what)
            .with("presented-chain", self.listing());
        match self.trust {
            Some((anchors, _)) => {
                let trusted: Vec<String> = anchors
                    .iter()
                    .take(SHOWN_ANCHORS)
                    .map(|anchor| anchor.subject().to_string())
                    .collect();
                refusal.with("trusted-here", trusted.join(" | "))
            }
            None => refusal,
        }
    }

    fn expired(&self) -> Refusal {
        let anchors = self.trust.into_iter().flat_map(|(anchors, _)| anchors.iter());
        let culprit = self.chain.iter().chain(anchors).find(|c| self.now > c.not_after());
        let Some(culprit) = culprit else {
            return Refusal::new(FaultCode::Expired, Side::Peer, "the peer's certificate expired");
        };
        let ago = span(self.now.as_second() - culprit.not_after().as_second());
        let what = if self.is_leaf(culprit) {
            format!("the peer's certificate expired {ago} ago")
        } else {
            format!("the CA certificate {} above the peer's expired {ago} ago", culprit.subject())
        };
        Refusal::new(FaultCode::Expired, Side::Peer, what)
            .with("expired-for", ago)
            .with("checked-at", self.now.to_string())
    }

    fn not_yet_valid(&self) -> Refusal {
        let anchors = self.trust.into_iter().flat_map(|(anchors, _)| anchors.iter());
        let culprit = self.chain.iter().chain(anchors).find(|c| self.now < c.not_before());
        let Some(culprit) = culprit else {
            return Refusal::new(
                FaultCode::NotYetValid,
                Side::Either,
                "the peer's certificate is not valid yet",
            );
        };
        let skew = span(culprit.not_before().as_second() - self.now.as_second());
        let whose = if self.is_leaf(culprit) {
            "the peer's certificate"
        } else {
            "a CA above the peer's certificate"
        };
        Refusal::new(
            FaultCode::NotYetValid,
            Side::Either,
            format!("{whose} becomes valid only in {skew}: one of the two clocks is wrong"),
        )
        .with("skew", skew)
        .with("checked-at", self.now.to_string())
    }

    fn is_leaf(&self, certificate: &Certificate) -> bool {
        self.chain.first().is_some_and(|leaf| leaf.fingerprint() == certificate.fingerprint())
    }

    fn wrong_usage(&self) -> Refusal {
        let wanted = self.trust.map_or("this use", |(_, usage)| usage.eku_name());
        let present = self.chain.first().map_or_else(|| "unknown".to_owned(), usages);
        Refusal::new(
            FaultCode::WrongEku,
            Side::Peer,
            format!("the peer's certificate is for {present}, not for {wanted}"),
        )
        .with("required-usage", wanted)
        .with("presented-usage", present)
    }

    fn wrong_name(&self) -> Refusal {
        let expected = self.expected_name.unwrap_or("the dialled name");
        let names = self.names();
        let refusal = Refusal::new(
            FaultCode::WrongName,
            Side::Either,
            format!("the peer's certificate is not for {expected}"),
        )
        .with("expected-name", expected)
        .with("presented-names", names);
        let common_name = self.chain.first().and_then(Certificate::common_name);
        if common_name.is_some_and(|cn| self.expected_name == Some(cn)) {
            return refusal.with("note", "the common name matches, but only SANs count (RFC 9525)");
        }
        refusal
    }

    fn names(&self) -> String {
        self.chain.first().map_or_else(
            || "unknown".to_owned(),
            |leaf| {
                let mut names: Vec<String> =
                    leaf.dns_names().iter().map(|name| format!("DNS:{name}")).collect();
                names.extend(leaf.ip_addresses().iter().map(|ip| format!("IP:{ip}")));
                names.extend(leaf.uris().iter().map(|uri| format!("URI:{uri}")));
                if names.is_empty() { "none (no SAN)".to_owned() } else { names.join(", ") }
            },
        )
    }

    fn listing(&self) -> String {
        let subjects: Vec<String> = self.chain.iter().map(|c| c.subject().to_string()).collect();
        if subjects.is_empty() { "unknown".to_owned() } else { subjects.join(" <- ") }
    }

    fn path_lengths(&self) -> String {
        let anchors = self.trust.into_iter().flat_map(|(anchors, _)| anchors.iter());
        let lengths: Vec<String> = self
            .chain
            .iter()
            .chain(anchors)
            .filter_map(|c| c.path_len().map(|length| format!("{}: {length}", c.subject())))
            .collect();
        if lengths.is_empty() { "unlimited".to_owned() } else { lengths.join(" | ") }
    }

    fn signed_with(&self) -> String {
        let algorithms: Vec<String> =
            self.chain.iter().map(|c| c.signature_algorithm().to_string()).collect();
        algorithms.join(" <- ")
    }
}

fn malformed() -> Refusal {
    Refusal::new(
        FaultCode::MalformedCertificate,
        Side::Peer,
        "the peer's certificate cannot be understood",
    )
}

fn other(reason: &CertificateError) -> Refusal {
    Refusal::new(
        FaultCode::HandshakeFailed,
        Side::Either,
        "the peer's certificate was not accepted",
    )
    .with("reason", reason.to_string())
}

/// The extended key usages of a certificate, for people.
pub(crate) fn usages(certificate: &Certificate) -> String {
    match certificate.extended_key_usage() {
        None => "anything (no extended key usage)".to_owned(),
        Some(usages) if usages.is_empty() => "nothing".to_owned(),
        Some(usages) => {
            let names: Vec<String> = usages.iter().map(Eku::to_string).collect();
            names.join(", ")
        }
    }
}

/// A length of time in its two largest units: `3d 4h`, `12s`.
pub(crate) fn span(seconds: i64) -> String {
    let seconds = seconds.unsigned_abs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(parts.len() - 1);
    let shown: Vec<String> = parts[first..]
        .iter()
        .take(2)
        .filter(|(count, unit)| *count > 0 || *unit == "s" && seconds == 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    shown.join(" ")
}

fn hex(bytes: Option<&[u8]>) -> String {
    use std::fmt::Write as _;
    bytes.unwrap_or_default().iter().take(32).fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// How many trust anchors are named in evidence.
const SHOWN_ANCHORS: usize = 5;

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans_show_the_two_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (12, "12s"),
            (60, "1min"),
            (3_661, "1h 1min"),
            (86_400, "1d"),
            (86_400 * 3 + 4 * 3_600 + 59, "3d 4h"),
            (-90, "1min 30s"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
