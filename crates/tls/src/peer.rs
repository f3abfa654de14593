//! Who is at the other end of a completed handshake. A `Peer` cannot be made from anything else:
//! that is rule 1 of the design in the type system.

use std::net::IpAddr;

use handfast_pki::{Certificate, Fingerprint, Serial, SpiffeId};
use jiff::Timestamp;
use rustls::CommonState;

/// The peer that proved, by its signature in CertificateVerify (RFC 8446, section 4.4.3), that it
/// holds the key of this leaf certificate.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Peer {
    /// Common name of the subject: to be read by people, and usable to authorise clients; it never
    /// names a server.
    pub common_name: Option<String>,
    /// DNS names in the SAN.
    pub dns: Vec<String>,
    /// SHA-256 over the certificate's DER.
    pub fingerprint: Fingerprint,
    /// The SPIFFE ID, if the leaf carries exactly one URI SAN and that is one.
    pub identity: Option<SpiffeId>,
    /// IP addresses in the SAN.
    pub ips: Vec<IpAddr>,
    /// Distinguished name of the issuer (RFC 4514).
    pub issuer: String,
    /// When the certificate, and with it this connection's right to live, ends.
    pub not_after: Timestamp,
    /// Start of the certificate's validity.
    pub not_before: Timestamp,
    /// Serial number of the certificate.
    pub serial: Serial,
    /// Distinguished name of the subject (RFC 4514).
    pub subject: String,
}

impl Peer {
    /// The peer of a connection; `None` while the handshake runs or if the peer is anonymous.
    ///
    /// Only the first certificate is read: rustls verified CertificateVerify with its key, and
    /// whatever else the peer sent served to build a path and proves nothing.
    pub fn of(state: &CommonState) -> Option<Self> {
        if state.is_handshaking() {
            return None;
        }
        let leaf = state.peer_certificates()?.first()?;
        let leaf = Certificate::from_der(leaf.to_vec()).ok()?;
        Some(Self {
            common_name: leaf.common_name().map(str::to_owned),
            dns: leaf.dns_names().iter().map(ToString::to_string).collect(),
            fingerprint: leaf.fingerprint(),
            identity: leaf.spiffe_id().ok().flatten(),
            ips: leaf.ip_addresses().to_vec(),
            issuer: leaf.issuer().to_string(),
            not_after: leaf.not_after(),
            not_before: leaf.not_before(),
            serial: leaf.serial().clone(),
            subject: leaf.subject().to_string(),
        })
    }

    /// The identity if there is one, else the subject: what to call the peer in a log.
    pub fn label(&self) -> String {
        match &self.identity {
            Some(identity) => identity.to_string(),
            None => crate::fault::printable(&self.subject),
        }
    }
}
