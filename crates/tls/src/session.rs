//! What a completed handshake negotiated, in the words of the registries (RFC 8446, IANA).
//! It carries no keys and no peer: see `peer` for who is at the other end.

use std::fmt;

use rustls::{CipherSuite, CommonState, HandshakeKind, ProtocolVersion};

use crate::fault::{Attempt, Fault, alpn_fault};

/// The negotiated parameters of one TLS connection.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Session {
    /// The application protocol both agreed on (RFC 7301), if any.
    pub alpn: Option<Vec<u8>>,
    /// Cipher suite under its IANA name, such as `TLS_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// Key exchange group, such as `X25519MLKEM768`.
    pub group: String,
    /// True if an earlier session was resumed. Inside the fabric this is never so.
    pub resumed: bool,
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
}

impl Session {
    /// Reads the parameters off a connection; `None` while the handshake is still running.
    pub fn of(state: &CommonState) -> Option<Self> {
        if state.is_handshaking() {
            return None;
        }
        Some(Self {
            alpn: state.alpn_protocol().map(<[u8]>::to_vec),
            cipher: suite_name(state.negotiated_cipher_suite()?.suite()),
            group: state
                .negotiated_key_exchange_group()
                .and_then(|group| group.name().as_str())
                .unwrap_or("unknown")
                .to_owned(),
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
            version: version_name(state.protocol_version()?),
        })
    }

    /// The application protocol as text, with anything unprintable escaped.
    pub fn alpn_text(&self) -> Option<String> {
        self.alpn.as_deref().map(protocol_text)
    }

    /// Demands that `protocol` was negotiated.
    ///
    /// TLS lets a handshake succeed when one side offers no protocol at all (RFC 7301, section
    /// 3.2), so whoever needs a protocol has to look.
    ///
    /// # Errors
    /// A fault with code `http2-missing` if `protocol` is `h2`, else `alpn-mismatch`.
    pub fn require_alpn(&self, protocol: &[u8], attempt: &Attempt) -> Result<(), Fault> {
        if self.alpn.as_deref() == Some(protocol) {
            return Ok(());
        }
        Err(alpn_fault(protocol, self.alpn.as_deref(), attempt))
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.version, self.cipher, self.group)?;
        if let Some(alpn) = self.alpn_text() {
            write!(f, " {alpn}")?;
        }
        if self.resumed {
            write!(f, " (resumed)")?;
        }
        Ok(())
    }
}

/// An ALPN protocol identifier for people to read.
pub(crate) fn protocol_text(protocol: &[u8]) -> String {
    protocol.escape_ascii().to_string()
}

fn suite_name(suite: CipherSuite) -> String {
    match suite.as_str() {
        // rustls says `TLS13_`, the registry says `TLS_`.
        Some(name) => name.replacen("TLS13_", "TLS_", 1),
        None => format!("{:#06x}", u16::from(suite)),
    }
}

fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        _ => "unknown",
    }
}
