//! What the data plane is told to do: sites, links, listeners and connectors as values.
//!
//! A [`Plan`] is the whole wish; applying one after another changes only what differs.

use std::net::SocketAddr;
use std::sync::Arc;

use handfast_pki::{Name, TrustAnchors, TrustDomain};
use rustls::{ClientConfig, ServerConfig};

/// Everything that a node's network should be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// This site's name; a peer that presents the same one is refused.
    pub site: Name,
    /// Where other sites may link to, if anywhere.
    pub access: Option<LinkAccess>,
    /// Links that this site dials, by name.
    pub links: Vec<LinkPlan>,
    /// Where clients reach services.
    pub listeners: Vec<ListenerPlan>,
    /// Where services are.
    pub connectors: Vec<ConnectorPlan>,
}

impl Plan {
    /// A network of nothing.
    pub fn empty(site: Name) -> Self {
        Self { site, access: None, links: vec![], listeners: vec![], connectors: vec![] }
    }
}

/// An open door for links.
#[derive(Clone, Debug)]
pub struct LinkAccess {
    /// Where to listen.
    pub bind: SocketAddr,
    /// Presents the site's server certificate and demands a site's client certificate. A new value
    /// serves the next handshake; open connections go on.
    pub tls: Arc<ServerConfig>,
    /// What `tls` trusts. When it changes, open connections are judged again by the new anchors, and
    /// those that they would refuse are cut.
    pub anchors: TrustAnchors,
    /// What counts for no new handshake any more, while connections made under it may finish.
    pub retired: Option<TrustAnchors>,
    /// What sites that link here are told to trust.
    pub bundle: Option<BundlePlan>,
}

/// What the sites that hold credentials of this one are to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundlePlan {
    /// The trust domain it is of.
    pub trust_domain: TrustDomain,
    /// Grows with every change of the set.
    pub sequence: u64,
    /// The set.
    pub anchors: TrustAnchors,
    /// See [`LinkAccess::retired`].
    pub retired: Option<TrustAnchors>,
    /// SHA-256 of the SubjectPublicKeyInfo of the CA that signs link credentials now.
    pub signer: [u8; 32],
}

/// A link that this site dials.
#[derive(Clone, Debug)]
pub struct LinkPlan {
    /// The link's name, unique in a plan.
    pub name: Name,
    /// Host name or IP address; the server's certificate has to carry it.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Cost of using the link, from 1.
    pub cost: u32,
    /// Presents the link's client certificate and verifies the server. A new value makes the link
    /// dial afresh; flows on the connections before it go on there until they end.
    pub tls: Arc<ClientConfig>,
    /// What `tls` trusts; see [`LinkAccess::anchors`].
    pub anchors: TrustAnchors,
    /// See [`LinkAccess::retired`].
    pub retired: Option<TrustAnchors>,
}

impl LinkPlan {
    /// Whether the two differ in what needs a new connection.
    pub(crate) fn same_connection(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port && Arc::ptr_eq(&self.tls, &other.tls)
    }
}

/// Where clients reach a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerPlan {
    /// The listener's name, unique in a plan.
    pub name: Name,
    /// IP address or host name to bind.
    pub host: String,
    /// Port; 0 picks one, which the status shows.
    pub port: u16,
    /// The name under which the service is known in the network.
    pub routing_key: String,
}

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectorPlan {
    /// The connector's name, unique in a plan.
    pub name: Name,
    /// IP address or host name of the server.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The name under which the service is known in the network.
    pub routing_key: String,
}
