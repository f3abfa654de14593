//! What a run is told by its environment, and the two TLS configurations made from it.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

#[derive(Clone)]
pub struct Settings {
    /// Side `a` takes clients and dials the link; side `b` takes links and dials the target.
    pub dials_link: bool,
    pub listen: SocketAddr,
    pub link: SocketAddr,
    pub target: SocketAddr,
    /// Event loops (`THREADS`, 2).
    pub threads: usize,
    /// Links for each event loop, or in the pool of `h2` (`LINKS`, 1; `h2` 2).
    pub links: usize,
    /// Bytes a stream may have under way in one direction (`WINDOW`, 1 MiB).
    pub window: u32,
    /// Records by `record.rs` after rustls has made the handshake (`RECORDS=own`), or by rustls.
    pub own_records: bool,
    /// Resume TLS sessions (`RESUME=1`); only `perflow` makes enough handshakes to notice.
    pub resume: bool,
    pki: String,
}

impl Settings {
    pub fn read(side: &str) -> Self {
        let address = |name: &str| {
            let text = std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
            text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}"))
        };
        let number = |name: &str, default: usize| {
            std::env::var(name).map_or(default, |text| text.parse().expect(name))
        };
        Self {
            dials_link: match side {
                "a" => true,
                "b" => false,
                other => panic!("side {other:?} is not a or b"),
            },
            listen: address("LISTEN"),
            link: address("LINK"),
            target: address("TARGET"),
            threads: number("THREADS", 2),
            links: number("LINKS", 1),
            window: u32::try_from(number("WINDOW", 1 << 20)).expect("WINDOW"),
            own_records: std::env::var("RECORDS").is_ok_and(|v| v == "own"),
            resume: number("RESUME", 0) != 0,
            pki: std::env::var("PKI").expect("PKI is not set"),
        }
    }

    pub fn server_name() -> ServerName<'static> {
        ServerName::try_from("site-b").expect("a constant name")
    }

    pub fn client_config(&self, alpn: &[u8]) -> Arc<ClientConfig> {
        let (chain, key) = self.identity("a");
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3 suites")
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain, key)
            .expect("client credential");
        config.alpn_protocols = vec![alpn.to_vec()];
        config.enable_secret_extraction = self.own_records;
        if !self.resume {
            config.resumption = rustls::client::Resumption::disabled();
        }
        Arc::new(config)
    }

    pub fn server_config(&self, alpn: &[u8]) -> Arc<ServerConfig> {
        let (chain, key) = self.identity("b");
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider())
            .build()
            .expect("client verifier");
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3 suites")
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .expect("server credential");
        config.alpn_protocols = vec![alpn.to_vec()];
        config.enable_secret_extraction = self.own_records;
        if self.resume {
            config.ticketer = aws_lc_rs::Ticketer::new().expect("ticketer");
        } else {
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        }
        Arc::new(config)
    }

    fn identity(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::from_pem_file(format!("{}/{name}.crt", self.pki));
        let key = PrivateKeyDer::from_pem_file(format!("{}/{name}.key", self.pki));
        (vec![chain.expect("certificate")], key.expect("private key"))
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(format!("{}/ca.crt", self.pki)).expect("ca.crt");
        roots.add(ca).expect("ca.crt");
        Arc::new(roots)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
