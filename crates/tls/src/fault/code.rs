//! The stable codes of faults. A code never changes its meaning and is never reused: scripts,
//! alerts and `docs/faults.md` depend on it.

use std::fmt;
use std::str::FromStr;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $summary:literal;)+) => {
        /// The cause of a failed connection or of refused TLS material.
        ///
        /// The text form ([`as_str`](Self::as_str)) is stable; `docs/faults.md` has a section for each.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum FaultCode {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl FaultCode {
            /// Every code, in alphabetical order of the variants.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable text form, such as `unknown-issuer`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The cause in a few words, for tables.
            pub fn summary(self) -> &'static str {
                match self { $(Self::$variant => $summary,)+ }
            }
        }
    };
}

codes! {
    /// The two sides have no application protocol (ALPN, RFC 7301) in common.
    AlpnMismatch = "alpn-mismatch", "no application protocol in common";
    /// What a caller of telemetry sends is refused, whoever it is: malformed, too large, too slow, too much.
    BadReport = "bad-report", "what is reported cannot be taken";
    /// A certificate in the chain carries a signature that does not verify.
    BadSignature = "bad-signature", "a certificate's signature does not verify";
    /// A CA certificate was presented as an end-entity certificate.
    CaAsLeaf = "ca-as-leaf", "a CA certificate is used as a leaf";
    /// The chain has more certificates than a path length or our bound allows.
    ChainTooLong = "chain-too-long", "the certificate chain is too long";
    /// The connection was reset or closed in the middle of the handshake.
    ConnectionReset = "connection-reset", "the connection was cut during the handshake";
    /// The certificate's `notAfter` has passed.
    Expired = "expired", "the certificate has expired";
    /// A file that holds TLS material is missing or cannot be read.
    FileUnreadable = "file-unreadable", "a file cannot be read";
    /// The handshake failed for a cause without a code of its own.
    HandshakeFailed = "handshake-failed", "the handshake failed";
    /// The host name does not resolve.
    HostNotFound = "host-not-found", "the host name does not resolve";
    /// HTTP/2 is needed and the other side does not offer it.
    Http2Missing = "http2-missing", "the other side does not offer HTTP/2";
    /// The private key does not belong to the certificate.
    KeyMismatch = "key-mismatch", "the key does not match the certificate";
    /// A certificate cannot be decoded, or uses a feature that cannot be honoured.
    MalformedCertificate = "malformed-certificate", "the certificate cannot be understood";
    /// A CA's name constraints forbid a name in the certificate.
    NameConstraint = "name-constraint", "a CA's name constraints forbid the certificate";
    /// A client certificate is required and none was presented.
    NoCertificate = "no-certificate", "no certificate was presented";
    /// The certificate has no SPIFFE ID where one is required.
    NoIdentity = "no-identity", "the certificate carries no identity";
    /// A file is readable but is not PEM, or holds no block of the expected kind.
    NotPem = "not-pem", "a file is not PEM or holds something else";
    /// The certificate's `notBefore` is in the future, or a clock is wrong.
    NotYetValid = "not-yet-valid", "the certificate is not valid yet";
    /// The process may not do what it was asked to do, such as bind a low port.
    PermissionDenied = "permission-denied", "the operating system said no";
    /// The server's certificate is not the one that is pinned.
    PinMismatch = "pin-mismatch", "the server is not the one that is pinned";
    /// Plaintext was spoken to a port that speaks TLS.
    PlaintextToTls = "plaintext-to-tls", "plaintext was spoken to a TLS port";
    /// Another process listens on the port already.
    PortInUse = "port-in-use", "the port is in use";
    /// The two sides have no protocol version, cipher suite or key exchange in common.
    ProtocolMismatch = "protocol-mismatch", "no TLS version or algorithm in common";
    /// The other side sent bytes that break the TLS protocol.
    ProtocolViolation = "protocol-violation", "the other side broke the TLS protocol";
    /// The peer refused us with an alert that names no certain cause.
    RefusedByPeer = "refused-by-peer", "the peer refused us";
    /// It cannot be told whether the certificate is revoked, and the settings demand to know.
    RevocationUnknown = "revocation-unknown", "it is not known whether the certificate is revoked";
    /// The certificate was revoked by its issuer.
    Revoked = "revoked", "the certificate is revoked";
    /// The handshake did not complete in time.
    TimedOut = "timed-out", "the handshake took too long";
    /// TLS was spoken to a port that answers in plaintext.
    TlsToPlaintext = "tls-to-plaintext", "TLS was spoken to a plaintext port";
    /// The certificate carries more than one URI SAN, so its identity is ambiguous.
    TwoUriSans = "two-uri-sans", "the certificate carries more than one identity";
    /// The certificate was issued by a CA that is not trusted here.
    UnknownIssuer = "unknown-issuer", "the certificate's issuer is not trusted";
    /// Nothing answers at the address.
    Unreachable = "unreachable", "nothing answers at the address";
    /// A signature or key algorithm is not accepted.
    UnsupportedAlgorithm = "unsupported-algorithm", "a signature or key algorithm is not accepted";
    /// The certificate is X.509 version 1 or 2, which cannot say what it may be used for.
    V1Certificate = "v1-certificate", "the certificate is X.509 v1";
    /// The certificate's extended key usage does not allow this use.
    WrongEku = "wrong-eku", "the certificate may not be used for this";
    /// The identity is of the right trust domain but not one that is allowed here.
    WrongIdentity = "wrong-identity", "the identity is not allowed here";
    /// The certificate does not name the host that was dialled.
    WrongName = "wrong-name", "the certificate is for another host";
    /// The identity belongs to another trust domain.
    WrongTrustDomain = "wrong-trust-domain", "the identity is of another trust domain";
}

impl fmt::Display for FaultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FaultCode {
    type Err = UnknownFaultCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| UnknownFaultCode(text.to_owned()))
    }
}

/// The text is not a fault code of this version.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a fault code; docs/faults.md lists them all")]
pub struct UnknownFaultCode(String);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::FaultCode;

    #[test]
    fn codes_are_unique_round_trip_and_are_kebab_case() {
        let texts: BTreeSet<&str> = FaultCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), FaultCode::ALL.len());
        for code in FaultCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!(code.as_str().chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-')));
        }
        assert!("no-such-code".parse::<FaultCode>().is_err());
    }

    #[test]
    fn the_reference_page_has_one_section_per_code_and_no_other() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/faults.md");
        let page = std::fs::read_to_string(page).expect("docs/faults.md");
        let sections: Vec<&str> =
            page.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`')).collect();
        let codes: Vec<&str> = FaultCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(
            sections, codes,
            "docs/faults.md and FaultCode differ, or are ordered differently"
        );
        for section in page.split("\n## `").skip(1) {
            let title = section.lines().next().unwrap_or_default();
            for part in ["**Meaning.**", "**How to see it.**", "**What to do.**"] {
                assert!(section.contains(part), "docs/faults.md: {title} lacks {part}");
            }
        }
    }
}
