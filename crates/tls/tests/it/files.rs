//! From files on disk to a server on a port: whatever is wrong with the files is a fault of ours
//! with the same codes, found before the port opens.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use handfast_pki::Credential;
use handfast_tls::{
    Attempt, Fault, FaultCode, Side, fault_of_credential, fault_of_file, server_config,
};
use rustls::ServerConfig;

use crate::forge::{Ca, Domain, Leaf, now};
use crate::meeting::{dial, dialling, link_server, listen, serve};

/// What a node does with a directory of `tls.crt`, `tls.key` and `ca.crt`.
fn load(directory: &Path) -> Result<Arc<ServerConfig>, Fault> {
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read(&path).map_err(|error| fault_of_file(error, &path))
    };
    let credential =
        Credential::from_pem(&read("tls.crt")?, &read("tls.key")?, &read("ca.crt")?, None)
            .map_err(|error| fault_of_credential(error, "credential handfast-site-server"))?;
    server_config(&credential, &link_server())
}

fn write(directory: &Path, domain: &Domain) -> (String, String) {
    let issued = domain.site.issue(&Leaf::server("west"));
    let (chain, key) = (issued.chain_pem(), issued.key_pem());
    fs::write(directory.join("tls.crt"), &chain).expect("write");
    fs::write(directory.join("tls.key"), &key).expect("write");
    fs::write(directory.join("ca.crt"), domain.anchors().to_pem()).expect("write");
    (chain, key)
}

#[tokio::test]
async fn broken_files_stop_the_port_and_good_ones_open_it() {
    let domain = Domain::new();
    let home = tempfile::tempdir().expect("directory");
    let directory = home.path();
    let (chain, key) = write(directory, &domain);
    let stranger = Ca::root("stranger").issue(&Leaf::server("west"));
    let with = |name: &str, content: &str| {
        fs::write(directory.join(name), content).expect("write");
        let fault = load(directory).expect_err(name);
        assert_eq!(fault.side(), Side::Ours, "{fault}");
        let good = if name == "tls.key" { &key } else { &chain };
        fs::write(directory.join(name), good).expect("write");
        fault
    };

    let fault = with("tls.key", &stranger.key_pem());
    assert_eq!(fault.code(), FaultCode::KeyMismatch, "{fault}");
    assert!(fault.remedy().contains("openssl pkey"), "{fault}");
    assert_eq!(with("tls.key", "").code(), FaultCode::NotPem);
    assert_eq!(with("tls.key", &chain).code(), FaultCode::NotPem);
    assert_eq!(with("tls.crt", "not a certificate").code(), FaultCode::NotPem);
    assert_eq!(with("tls.crt", &key).code(), FaultCode::NotPem);
    let cut = &chain[..chain.len() / 3];
    assert_eq!(with("tls.crt", cut).code(), FaultCode::NotPem);
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(with("tls.crt", garbage).code(), FaultCode::MalformedCertificate);

    fs::remove_file(directory.join("tls.key")).expect("remove");
    let fault = load(directory).expect_err("missing");
    assert_eq!(fault.code(), FaultCode::FileUnreadable, "{fault}");
    assert!(fault.evidence_of("file").is_some_and(|file| file.ends_with("tls.key")), "{fault}");
    assert!(fault.remedy().contains("ls -l"), "{fault}");
    assert!(!fault.to_string().contains(key.lines().nth(1).expect("body")));

    fs::write(directory.join("tls.key"), &key).expect("write");
    let server = load(directory).expect("good again");
    let listener = listen().await;
    let addr = listener.local_addr().expect("bound");
    let accepting = async move {
        let (socket, _) = listener.accept().await.expect("accept");
        serve(socket, server, Attempt::server(now())).await
    };
    let attempt = Attempt::client("localhost", now());
    let (server, client) =
        tokio::join!(accepting, dial(addr, dialling(&domain.client()), "localhost", attempt));
    assert!(server.is_ok() && client.is_ok());
}
