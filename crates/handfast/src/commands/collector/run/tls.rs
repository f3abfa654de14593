//! From files to configurations of TLS.

use std::path::Path;
use std::sync::Arc;

use handfast_pki::{Certificate, Chain, Credential, PrivateKey, TrustAnchors, TrustDomain};
use handfast_telemetry::caller::OwnDomain;
use handfast_telemetry::port::{Mode, PortTls};
use handfast_tls::{
    ClientAuth, ClientOptions, ClientTrust, Floor, RevocationCheck, Revocations, ServerOptions,
    client_config_trusting, server_config,
};
use rustls::ClientConfig;

use super::Broken;
use super::settings::{ClientFiles, ServerFiles};

/// What a port presents, and whom it trusts; with whose revocation lists are believed.
pub(super) fn port(
    files: &ServerFiles,
    mode: Mode,
    trust_domain: Option<&TrustDomain>,
    revocations: &Revocations,
) -> Result<(PortTls, Vec<Certificate>), Broken> {
    let chain = chain(&files.cert)?;
    let mut anchors: Option<TrustAnchors> = None;
    for file in &files.client_cas {
        let more = trusted(file)?;
        anchors = Some(match anchors {
            None => more,
            Some(known) => more.iter().cloned().fold(known, TrustAnchors::with),
        });
    }
    let asked = anchors.is_some();
    // Where no client is asked, nobody is judged by these.
    let anchors = anchors.unwrap_or_else(|| TrustAnchors::new(chain.leaf().clone()));
    let own_domain = chain.leaf().spiffe_id().ok().flatten().map(|id| id.trust_domain().clone());
    let own = trust_domain.cloned().or(own_domain);
    let issuers = chain.rest().iter().chain(anchors.iter()).cloned().collect();
    let credential = credential(&files.cert, &files.key, chain, anchors.clone())?;
    let options = ServerOptions {
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        client_auth: match (mode, asked) {
            (Mode::Mtls, _) => ClientAuth::Required,
            (_, true) => ClientAuth::Optional,
            (_, false) => ClientAuth::None,
        },
        // Agents of older runtimes speak no newer version.
        floor: Floor::Tls12,
        revocation: RevocationCheck::by(revocations.clone()),
        trust: Some(anchors.clone()),
        ..ServerOptions::default()
    };
    let config = server_config(&credential, &options)
        .map_err(|fault| Broken::new(&files.cert, fault.one_line()))?;
    let own = own
        .filter(|_| asked)
        .map(|trust_domain| OwnDomain { trust_domain, anchors: anchors.clone() });
    Ok((PortTls { config, anchors, own }, issuers))
}

/// How backends are dialled; with whose revocation lists are believed.
pub(super) fn client(
    files: &ClientFiles,
    revocations: &Revocations,
) -> Result<(Arc<ClientConfig>, Vec<Certificate>), Broken> {
    let anchors = trusted(&files.ca)?;
    let own = match &files.own {
        Some((cert, key)) => Some(credential(cert, key, chain(cert)?, anchors.clone())?),
        None => None,
    };
    let above = own.iter().flat_map(|own| own.chain().rest());
    let issuers = above.chain(anchors.iter()).cloned().collect();
    let options = ClientOptions {
        alpn: vec![b"h2".to_vec()],
        floor: Floor::Tls12,
        revocation: RevocationCheck::by(revocations.clone()),
        ..ClientOptions::default()
    };
    let blamed = files.own.as_ref().map_or(&files.ca, |(cert, _)| cert);
    let config = client_config_trusting(own.as_ref(), &ClientTrust::Anchors(anchors), &options)
        .map_err(|fault| Broken::new(blamed, fault.one_line()))?;
    Ok((config, issuers))
}

fn credential(
    cert: &Path,
    key: &Path,
    chain: Chain,
    anchors: TrustAnchors,
) -> Result<Credential, Broken> {
    let own = PrivateKey::read(&read(key)?, None).map_err(|error| Broken::new(key, error))?;
    Credential::new(chain, own, anchors).map_err(|error| Broken::new(cert, error))
}

fn chain(file: &Path) -> Result<Chain, Broken> {
    Chain::from_pem(&read(file)?).map_err(|error| Broken::new(file, error))
}

fn trusted(file: &Path) -> Result<TrustAnchors, Broken> {
    TrustAnchors::from_pem(&read(file)?).map_err(|error| Broken::new(file, error))
}

fn read(file: &Path) -> Result<Vec<u8>, Broken> {
    std::fs::read(file).map_err(|error| Broken::new(file, error))
}
