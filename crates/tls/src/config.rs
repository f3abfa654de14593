//! Configurations of rustls from credentials: the only place in the house that builds them. What
//! goes in is checked first, so that broken material stops here with a fault and not in somebody's
//! handshake.
//!
//! Resumption is off on both sides, always: no tickets are sent or stored, no sessions kept. A
//! resumed session skips the verifier and with it expiry, revocation and a change of trust.

use std::sync::Arc;

use handfast_pki::{Credential, Purpose, TrustAnchors};
use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use crate::check::check;
use crate::fault::{Fault, FaultCode, Side, fault_of_own};
use crate::live::Live;
use crate::options::{ClientAuth, ClientOptions, Floor, ServerOptions};
use crate::provider::provider;
use crate::staple::Stapled;
use crate::trust::ClientTrust;
use crate::verifier::{ClientVerifier, Judge, PinnedVerifier, ServerVerifier, Usage};

/// A configuration that accepts connections with `credential`; client certificates are verified
/// against the trust anchors of the options or, without any, the credential's own, and nothing else.
///
/// # Errors
/// A fault of our side: the leaf is not for `serverAuth`, is a CA or X.509 v1, or the key does not
/// match.
pub fn server_config(
    credential: &Credential,
    options: &ServerOptions,
) -> Result<Arc<ServerConfig>, Fault> {
    fault_of_own(credential.leaf(), Purpose::Server, SERVER)?;
    let verifier: Arc<dyn ClientCertVerifier> = match options.client_auth {
        ClientAuth::None => Arc::new(NoClientAuth),
        ClientAuth::Optional => {
            Arc::new(ClientVerifier::asking(client_judge(credential, options)?))
        }
        ClientAuth::Required => {
            Arc::new(ClientVerifier::demanding(client_judge(credential, options)?))
        }
    };
    let clock = Arc::clone(&options.clock.0);
    let mut config = ServerConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(versions(options.floor))
        .and_then(|builder| {
            let key = CertifiedKey::from_der(
                credential.chain().to_pki_types(),
                credential.key().to_pki_types(),
                &provider(),
            )?;
            let stapled = Stapled::new(key, options.staple.clone());
            Ok(builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(stapled)))
        })
        .map_err(|error| unusable(&error, SERVER))?;
    config.alpn_protocols.clone_from(&options.alpn);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

fn client_judge(credential: &Credential, options: &ServerOptions) -> Result<Judge, Fault> {
    let anchors = options.trust.as_ref().unwrap_or(credential.anchors());
    Judge::new(anchors, options.identities.clone(), Usage::Client, options.revocation.clone())
}

/// A configuration that dials with `credential` (or anonymously), trusting `anchors` and nothing
/// else. The server's certificate has to match the dialled DNS name or IP address in its SANs.
///
/// # Errors
/// A fault of our side: the leaf is not for `clientAuth`, is a CA or X.509 v1, or the key does not
/// match.
pub fn client_config(
    credential: Option<&Credential>,
    anchors: &TrustAnchors,
    options: &ClientOptions,
) -> Result<Arc<ClientConfig>, Fault> {
    dialler(server_verifier(anchors, options)?, own_key(credential)?, options)
}

/// As [`client_config`], for whatever a client can be told to trust.
///
/// # Errors
/// As [`client_config`], and a fault if the server is to be pinned and no pin is given.
pub fn client_config_trusting(
    credential: Option<&Credential>,
    trust: &ClientTrust,
    options: &ClientOptions,
) -> Result<Arc<ClientConfig>, Fault> {
    let pins = match trust {
        ClientTrust::Anchors(anchors) => return client_config(credential, anchors, options),
        ClientTrust::System(system) => {
            return client_config(credential, system.anchors(), options);
        }
        ClientTrust::Pinned(pins) => pins.clone(),
    };
    if pins.is_empty() {
        return Err(Fault::new(FaultCode::PinMismatch, Side::Ours, CLIENT).saying(
            "the server is to be known by a pin, and none is given, so no server would do",
        ));
    }
    let verifier = PinnedVerifier::new(pins, options.identities.clone());
    dialler(Arc::new(verifier), own_key(credential)?, options)
}

fn own_key(credential: Option<&Credential>) -> Result<Option<CertifiedKey>, Fault> {
    let Some(credential) = credential else { return Ok(None) };
    fault_of_own(credential.leaf(), Purpose::Client, CLIENT)?;
    let (chain, key) = (credential.chain().to_pki_types(), credential.key().to_pki_types());
    let key = CertifiedKey::from_der(chain, key, &provider());
    key.map(Some).map_err(|error| unusable(&error, CLIENT))
}

/// The verifier of [`client_config`].
pub(crate) fn server_verifier(
    anchors: &TrustAnchors,
    options: &ClientOptions,
) -> Result<Arc<dyn ServerCertVerifier>, Fault> {
    let (rule, revocation) = (options.identities.clone(), options.revocation.clone());
    let judge = Judge::new(anchors, rule, Usage::Server, revocation)?;
    Ok(Arc::new(ServerVerifier(judge)))
}

/// A client configuration of any verifier and key: for [`client_config`] and for the probe.
pub(crate) fn dialler(
    verifier: Arc<dyn ServerCertVerifier>,
    key: Option<CertifiedKey>,
    options: &ClientOptions,
) -> Result<Arc<ClientConfig>, Fault> {
    let clock = Arc::clone(&options.clock.0);
    let builder = ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(versions(options.floor))
        .map_err(|error| unusable(&error, CLIENT))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match key {
        None => builder.with_no_client_auth(),
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
    };
    config.alpn_protocols.clone_from(&options.alpn);
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

impl Live<ServerConfig> {
    /// Makes `credential` live if it passes [`check`] at `now`, for every name in `names`. If it
    /// does not, the last good configuration goes on serving.
    ///
    /// # Errors
    /// The fault of the credential that was not taken.
    pub fn offer(
        &self,
        credential: &Credential,
        options: &ServerOptions,
        names: &[String],
        now: Timestamp,
    ) -> Result<(), Fault> {
        check(credential, Purpose::Server, names, now)?;
        self.set(server_config(credential, options)?);
        Ok(())
    }
}

impl Live<ClientConfig> {
    /// Makes `credential` live if it passes [`check`] at `now`. If it does not, the last good
    /// configuration goes on dialling.
    ///
    /// # Errors
    /// The fault of the credential that was not taken.
    pub fn offer(
        &self,
        credential: &Credential,
        options: &ClientOptions,
        now: Timestamp,
    ) -> Result<(), Fault> {
        check(credential, Purpose::Client, &[], now)?;
        self.set(client_config(Some(credential), credential.anchors(), options)?);
        Ok(())
    }
}

pub(crate) fn versions(floor: Floor) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_12: [&SupportedProtocolVersion; 2] =
        [&rustls::version::TLS13, &rustls::version::TLS12];
    match floor {
        Floor::Tls12 => &FROM_12,
        Floor::Tls13 => &FROM_12[..1],
    }
}

fn unusable(error: &rustls::Error, place: &str) -> Fault {
    let code = match error {
        rustls::Error::InconsistentKeys(_) => FaultCode::KeyMismatch,
        rustls::Error::InvalidCertificate(_) => FaultCode::MalformedCertificate,
        _ => FaultCode::UnsupportedAlgorithm,
    };
    Fault::new(code, Side::Ours, place).with("reason", error.to_string()).caused_by(error.clone())
}

const CLIENT: &str = "client credential";
const SERVER: &str = "server credential";
