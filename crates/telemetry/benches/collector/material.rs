//! Certificates for all processes of a run, as files.

use std::path::Path;
use std::sync::Arc;

use handfast_pki::{Chain, Credential, IdentityKind, PrivateKey, Profile, Subject, TrustAnchors};
use handfast_testkit::authority::TestAuthority;
use handfast_tls::{ClientAuth, ClientOptions, ServerOptions, client_config, server_config};
use rustls::{ClientConfig, ServerConfig};

pub(crate) fn write(place: &Path) {
    let authority = TestAuthority::new("bench.example", handfast_testkit::eventually::now());
    let agent = Subject::new("shop").with_identity(authority.identity(IdentityKind::Agent, "shop"));
    let credentials = [
        ("server", authority.server("west", &["localhost", "127.0.0.1"])),
        ("agent", authority.issue(Profile::Agent, agent)),
    ];
    for (name, credential) in credentials {
        let key = credential.key().to_pkcs8_pem();
        std::fs::write(place.join(format!("{name}.key")), key.as_bytes()).unwrap();
        std::fs::write(place.join(format!("{name}.crt")), credential.chain().to_pem()).unwrap();
    }
    std::fs::write(place.join("ca.crt"), authority.anchors().to_pem()).unwrap();
}

fn read(place: &Path, name: &str) -> Credential {
    let file = |name: String| std::fs::read(place.join(name)).unwrap();
    let chain = Chain::from_pem(&file(format!("{name}.crt"))).unwrap();
    let key = PrivateKey::from_pem(&file(format!("{name}.key")), None).unwrap();
    Credential::new(chain, key, anchors(place)).unwrap()
}

pub(crate) fn anchors(place: &Path) -> TrustAnchors {
    TrustAnchors::from_pem(&std::fs::read(place.join("ca.crt")).unwrap()).unwrap()
}

pub(crate) fn server(place: &Path, client_auth: ClientAuth) -> Arc<ServerConfig> {
    let options =
        ServerOptions { alpn: vec![b"h2".to_vec()], client_auth, ..ServerOptions::default() };
    server_config(&read(place, "server"), &options).unwrap()
}

pub(crate) fn client(place: &Path) -> Arc<ClientConfig> {
    let options = ClientOptions { alpn: vec![b"h2".to_vec()], ..ClientOptions::default() };
    client_config(Some(&read(place, "agent")), &anchors(place), &options).unwrap()
}
