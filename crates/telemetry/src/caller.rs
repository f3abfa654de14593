//! Who is at the other end of a connection to a port: the transport it came by, and the identity that
//! its certificate proves. An identity of our own trust domain counts only if the chain leads to
//! our own anchors: another CA that is trusted too cannot speak for our agents.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use handfast_pki::{Chain, Purpose, SpiffeId, TrustAnchors, TrustDomain, verify_chain};
use handfast_tls::Peer;
use jiff::Timestamp;

/// How a connection is protected.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Transport {
    /// Not at all.
    Plaintext,
    /// TLS, the caller without a certificate.
    Tls,
    /// TLS, both with certificates.
    Mtls,
}

impl Transport {
    /// Its name in tables and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Tls => "tls",
            Self::Mtls => "mtls",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Our trust domain, and what its certificates lead to.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnDomain {
    /// Its name.
    pub trust_domain: TrustDomain,
    /// Its roots.
    pub anchors: TrustAnchors,
}

/// What a caller's certificate proves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Identity {
    /// Nothing: it has none, or was not asked for one.
    Anonymous,
    /// A certificate of another CA that is trusted here, with the names it carries.
    Foreign(ForeignIdentity),
    /// An identity of our own trust domain.
    Own(SpiffeId),
}

impl Identity {
    /// What the certificate of a peer proves, with the chain it sent. A SPIFFE ID of our own trust domain under
    /// another CA is no identity at all.
    pub fn of(peer: &Peer, chain: &Chain, own: Option<&OwnDomain>, now: Timestamp) -> Self {
        let claims_own = |id: &SpiffeId| own.is_some_and(|o| o.trust_domain == *id.trust_domain());
        let is_own = |id: &SpiffeId| {
            claims_own(id)
                && own.is_some_and(|own| {
                    verify_chain(chain, &own.anchors, Purpose::Client, now).is_ok()
                })
        };
        match &peer.identity {
            Some(id) if is_own(id) => Self::Own(id.clone()),
            id => Self::Foreign(ForeignIdentity {
                common_name: peer.common_name.clone(),
                dns: peer.dns.clone(),
                spiffe: id.clone().filter(|id| !claims_own(id)),
                subject: peer.subject.clone(),
            }),
        }
    }
}

/// The names in a certificate of another CA.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ForeignIdentity {
    /// Common name, which may authorise a client (and never names a server).
    pub common_name: Option<String>,
    /// DNS names in the SAN.
    pub dns: Vec<String>,
    /// The SPIFFE ID, of another trust domain.
    pub spiffe: Option<SpiffeId>,
    /// The subject, for people.
    pub subject: String,
}

impl ForeignIdentity {
    /// What it is called in records. A certificate without a subject is somebody all the same.
    fn label(&self) -> String {
        let name = match (self.subject.is_empty(), self.dns.first()) {
            (false, _) => self.subject.clone(),
            (true, Some(dns)) => format!("dns:{dns}"),
            (true, None) => "a certificate without a name".to_owned(),
        };
        // It stands in each record.
        name.chars().take(LABEL_CHARS).collect()
    }
}

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Where from; `None` over a Unix socket.
    pub address: Option<SocketAddr>,
    /// What its certificate proves.
    pub identity: Identity,
    /// How the connection is protected.
    pub transport: Transport,
    label: Bytes,
    watches: Arc<AtomicUsize>,
}

impl Caller {
    /// A caller without a certificate.
    pub fn anonymous(address: Option<SocketAddr>, transport: Transport) -> Self {
        let (identity, label) = (Identity::Anonymous, Bytes::new());
        Self { address, identity, transport, label, watches: Arc::default() }
    }

    /// The holder of a certificate that a handshake has proven.
    pub fn identified(address: Option<SocketAddr>, identity: Identity) -> Self {
        let label = match &identity {
            Identity::Anonymous => String::new(),
            Identity::Foreign(ForeignIdentity { spiffe: Some(id), .. }) | Identity::Own(id) => {
                id.to_string()
            }
            Identity::Foreign(foreign) => foreign.label(),
        };
        let (transport, label) = (Transport::Mtls, Bytes::from(label));
        Self { address, identity, transport, label, watches: Arc::default() }
    }

    /// The identity as it stands in records: a SPIFFE ID or a subject, empty for the anonymous.
    pub fn label(&self) -> &Bytes {
        &self.label
    }

    /// How many watches of our health its connection has open.
    pub(crate) fn watches(&self) -> &Arc<AtomicUsize> {
        &self.watches
    }

    /// Whose quota it uses: that of the identity, or of where it comes from. Of a network of IPv6 (/64) anybody has as
    /// many addresses as he likes, so it has one.
    pub fn account(&self) -> String {
        match (&self.identity, self.address.map(|address| address.ip().to_canonical())) {
            (Identity::Anonymous, Some(IpAddr::V6(address))) => {
                let network = Ipv6Addr::from_bits(address.to_bits() & (!0 << 64));
                format!("{network}/64")
            }
            _ => self.name(),
        }
    }

    /// What to call it in a sentence: the identity, or where it comes from.
    pub fn name(&self) -> String {
        match (&self.identity, self.address) {
            (Identity::Anonymous, Some(address)) => address.ip().to_canonical().to_string(),
            (Identity::Anonymous, None) => "unix".to_owned(),
            _ => String::from_utf8_lossy(&self.label).into_owned(),
        }
    }
}

/// More of a subject is cut off.
const LABEL_CHARS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_an_identity_an_address_or_a_network() {
        let from = |address: &str| {
            let address = SocketAddr::new(address.parse().expect("an address"), 1);
            Caller::anonymous(Some(address), Transport::Plaintext).account()
        };
        assert_eq!(from("10.0.0.1"), "10.0.0.1");
        assert_eq!(from("::ffff:10.0.0.1"), "10.0.0.1");
        assert_eq!(from("2001:db8::1:2:3:4"), "2001:db8::/64");
        assert_eq!(from("2001:db8::1:2:3:4"), from("2001:db8::"));
        assert_ne!(from("2001:db8::"), from("2001:db8:0:1::"));
        let foreign = |subject: &str, dns: &[&str]| {
            let dns = dns.iter().map(|name| (*name).to_owned()).collect();
            let names = ForeignIdentity { subject: subject.to_owned(), dns, ..Default::default() };
            Caller::identified(None, Identity::Foreign(names)).account()
        };
        assert_eq!(foreign("CN=a", &["b"]), "CN=a");
        assert_eq!(foreign("", &["b"]), "dns:b", "it is not anonymous");
        assert!(!foreign("", &[]).is_empty());
        assert_eq!(foreign(&"x".repeat(10_000), &[]).len(), LABEL_CHARS);
    }
}
