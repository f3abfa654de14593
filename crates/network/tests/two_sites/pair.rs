//! Two sites in one process, linked over loopback, with a small authority of their own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use handfast_network::{
    Clock, ConnectorPlan, LinkAccess, LinkPlan, LinkState, ListenerPlan, Network, NetworkStatus,
    PeerRequest, Plan, Settings,
};
use handfast_pki::{
    Credential, Host, IdentityKind, IssueRequest, Issuer, KeyAlgorithm, Name, PrivateKey, Profile,
    SpiffeId, Subject, SystemEntropy, TrustAnchors, TrustDomain,
};
use handfast_tls::{ClientOptions, ServerOptions, client_config, server_config};
use jiff::Timestamp;
use rustls::{ClientConfig, ServerConfig};

/// Nothing here takes longer on a machine that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Root and site CA of one trust domain.
pub(crate) struct Domain {
    name: TrustDomain,
    ca: Issuer,
}

impl Domain {
    pub(crate) fn new(name: &str) -> Self {
        let name: TrustDomain = name.parse().unwrap();
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let subject = Subject::new(format!("{name} root"));
        let request = IssueRequest::new(Profile::Root, subject, key.spki_der());
        let root = Issuer::self_signed(&request, key, now(), &mut SystemEntropy).unwrap();
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let subject = Subject::new(format!("{name} site CA"));
        let request = IssueRequest::new(Profile::SiteCa, subject, key.spki_der());
        let certificate = root.issue(&request, now(), &mut SystemEntropy).unwrap();
        let ca =
            Issuer::from_parts(root.chain_for(certificate), key, root.anchors().clone()).unwrap();
        Self { name, ca }
    }

    fn credential(&self, profile: Profile, site: &str, hosts: &[&str]) -> Credential {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let site: Name = site.parse().unwrap();
        let identity = SpiffeId::new(self.name.clone(), IdentityKind::Site, &site);
        let hosts: Vec<Host> = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let subject = Subject::new(site.to_string()).with_identity(identity).with_hosts(hosts);
        let request = IssueRequest::new(profile, subject, key.spki_der());
        let leaf = self.ca.issue(&request, now(), &mut SystemEntropy).unwrap();
        Credential::new(self.ca.chain_for(leaf), key, self.ca.anchors().clone()).unwrap()
    }

    pub(crate) fn server(&self, site: &str) -> Arc<ServerConfig> {
        let credential = self.credential(Profile::SiteServer, site, &["127.0.0.1", "localhost"]);
        server_config(&credential, &ServerOptions::link(self.name.clone())).unwrap()
    }

    pub(crate) fn anchors(&self) -> TrustAnchors {
        self.ca.anchors().clone()
    }

    pub(crate) fn client(&self, site: &str) -> Arc<ClientConfig> {
        let credential = self.credential(Profile::LinkClient, site, &[]);
        let options = ClientOptions::link(self.name.clone());
        client_config(Some(&credential), self.ca.anchors(), &options).unwrap()
    }
}

/// A running network and the plan it was given last.
pub(crate) struct Site {
    pub(crate) network: Network,
    pub(crate) plan: Plan,
    pub(crate) requests: tokio::sync::mpsc::Receiver<PeerRequest>,
}

impl Site {
    pub(crate) fn new(name: &str) -> Self {
        let name: Name = name.parse().unwrap();
        let clock: Clock = Arc::new(now);
        let (network, requests) = Network::start(name.clone(), &Settings::new(clock)).unwrap();
        Self { network, plan: Plan::empty(name), requests }
    }

    pub(crate) fn apply(&self) {
        self.network.apply(self.plan.clone());
    }

    /// Opens the link port; says where.
    pub(crate) fn open(&mut self, domain: &Domain) -> SocketAddr {
        let tls = domain.server(self.plan.site.as_ref());
        let anchors = domain.anchors();
        self.plan.access = Some(LinkAccess {
            bind: ([127, 0, 0, 1], 0).into(),
            tls,
            anchors,
            retired: None,
            bundle: None,
        });
        self.apply();
        let status = self.until("the link port listens", |s| {
            s.access.as_ref().is_some_and(|a| a.bind.port() != 0)
        });
        let bind = status.access.unwrap().bind;
        if let Some(access) = &mut self.plan.access {
            access.bind = bind;
        }
        bind
    }

    pub(crate) fn link(&mut self, name: &str, to: SocketAddr, domain: &Domain) {
        let tls = domain.client(self.plan.site.as_ref());
        self.plan.links.retain(|link| link.name.as_ref() != name);
        self.plan.links.push(LinkPlan {
            name: name.parse().unwrap(),
            host: to.ip().to_string(),
            port: to.port(),
            cost: 1,
            tls,
            anchors: domain.anchors(),
            retired: None,
        });
        self.apply();
    }

    pub(crate) fn connector(&mut self, key: &str, target: SocketAddr) {
        self.plan.connectors.push(ConnectorPlan {
            name: key.parse().unwrap(),
            host: target.ip().to_string(),
            port: target.port(),
            routing_key: key.to_owned(),
        });
        self.apply();
    }

    /// Opens a listener; says where.
    pub(crate) fn listener(&mut self, key: &str) -> SocketAddr {
        self.plan.listeners.push(ListenerPlan {
            name: key.parse().unwrap(),
            host: "127.0.0.1".to_owned(),
            port: 0,
            routing_key: key.to_owned(),
        });
        self.apply();
        let status = self.network.status().unwrap();
        let listener = status.listeners.iter().find(|l| l.routing_key == key).unwrap();
        listener.bound.unwrap()
    }

    pub(crate) fn until(
        &self,
        what: &str,
        holds: impl Fn(&NetworkStatus) -> bool,
    ) -> NetworkStatus {
        let start = Instant::now();
        loop {
            let status = self.network.status().unwrap();
            if holds(&status) {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "never: {what}; at the end: {status:#?}");
            std::thread::yield_now();
        }
    }

    pub(crate) fn until_up(&self) {
        self.until("the link is up", |s| s.links.iter().any(|l| l.state == LinkState::Up));
    }

    pub(crate) fn until_served(&self, key: &str) {
        self.until("the service can be reached", |s| {
            s.listeners.iter().any(|l| l.routing_key == key && l.has_matching_connector)
        });
    }
}

/// East links to west, where `service` runs behind the routing key `svc`; returns the address at
/// which east's clients reach it.
pub(crate) fn linked(service: SocketAddr) -> (Site, Site, SocketAddr) {
    let domain = Domain::new("demo.example");
    let mut west = Site::new("west");
    let mut east = Site::new("east");
    let door = west.open(&domain);
    west.connector("svc", service);
    east.link("to-west", door, &domain);
    let front = east.listener("svc");
    east.until_served("svc");
    (west, east, front)
}

/// A server that handles each connection with `body` on a thread of its own.
pub(crate) fn serve(body: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let body = body.clone();
            std::thread::spawn(move || body(socket.unwrap()));
        }
    });
    address
}

/// Sends back what comes, and ends when the other side does.
pub(crate) fn echo(mut socket: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n) = socket.read(&mut buffer) {
        if n == 0 || socket.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// Bytes that repeat late, so that lost, doubled and swapped pieces show.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i ^ (i >> 8) ^ (i >> 16)).to_le_bytes()[0]).collect()
}

#[expect(clippy::disallowed_methods, reason = "a test's clock is the machine's")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
