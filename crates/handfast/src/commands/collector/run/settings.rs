//! What a collector by itself is set to: options first, then the environment names of SkyWalking's
//! receiver, then what is usual.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use handfast_api::resources::{ForwardProtocol, Quantity, Span};
use handfast_api::secret::Secret;
use handfast_pki::TrustDomain;
use handfast_telemetry::port::Mode;
use handfast_telemetry::quota::Quota;
use handfast_telemetry::rules::{Glob, Rule};
use handfast_telemetry::upstream::Backend;

use super::super::super::lone::WhenFull;
use super::super::super::lone::token::TokenFrom;
use super::Arguments;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::LogFormat;

/// Everything that was said.
pub(super) struct Settings {
    pub(super) data: PathBuf,
    pub(super) grpc: PortSettings,
    pub(super) http: PortSettings,
    pub(super) trust_domain: Option<TrustDomain>,
    pub(super) rules: Vec<Rule>,
    /// The token that callers bring.
    pub(super) authentication: TokenFrom,
    pub(super) crl: Vec<PathBuf>,
    pub(super) quota: Quota,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) retention: Option<Span>,
    pub(super) max_size: Option<Quantity>,
    pub(super) forward: Vec<Backend>,
    pub(super) forward_tls: Option<ClientFiles>,
    pub(super) forward_protocol: ForwardProtocol,
    pub(super) forward_server_name: Option<String>,
    /// The token for the backends.
    pub(super) forward_authentication: TokenFrom,
    pub(super) when_full: WhenFull,
    pub(super) log_format: LogFormat,
}

/// One port.
pub(super) struct PortSettings {
    pub(super) address: SocketAddr,
    pub(super) mode: Mode,
    pub(super) files: Option<ServerFiles>,
}

/// The files of a server.
#[derive(Clone)]
pub(super) struct ServerFiles {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) client_cas: Vec<PathBuf>,
}

/// The files of a client.
pub(super) struct ClientFiles {
    pub(super) ca: PathBuf,
    /// Certificate and key.
    pub(super) own: Option<(PathBuf, PathBuf)>,
}

/// What is asked for a variable.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Settings {
    pub(super) fn of(given: Arguments, environment: Environment<'_>) -> Result<Self, Failure> {
        let files = given.cert.clone().zip(given.key.clone()).map(|(cert, key)| ServerFiles {
            cert,
            key,
            client_cas: given.client_ca.clone(),
        });
        let port = |address: Option<SocketAddr>, prefix: &str, usual: u16| {
            port(address, given.mode, files.clone(), prefix, usual, environment)
        };
        let token = |file: Option<PathBuf>, name: &'static str| {
            let variable = environment(name).filter(|token| !token.is_empty());
            TokenFrom::of(file, name, variable.map(Secret::new))
        };
        // Who forwards nothing needs no token for it, whatever else is set for agents here.
        let forward_authentication = if given.forward.is_empty() {
            TokenFrom::Nowhere
        } else {
            token(given.forward_authentication, "SW_AGENT_AUTHENTICATION")
        };
        let forward_own = given.forward_cert.zip(given.forward_key);
        Ok(Self {
            grpc: port(given.grpc, "SW_RECEIVER_GRPC", 11800)?,
            http: port(given.http, "SW_RECEIVER_SHARING_REST", 12800)?,
            data: given.data,
            trust_domain: given.trust_domain,
            rules: given.allow,
            authentication: token(given.authentication, "SW_AUTHENTICATION"),
            crl: given.crl,
            quota: Quota {
                bytes_per_second: given.quota_bytes.map_or(0, Quantity::bytes),
                messages_per_second: given.quota_messages.unwrap_or(0),
                streams: given.quota_streams.unwrap_or(0),
            },
            metrics: given.metrics,
            retention: given.retention,
            max_size: given.max_size,
            forward: given.forward,
            forward_tls: given.forward_ca.map(|ca| ClientFiles { ca, own: forward_own }),
            forward_protocol: given.forward_protocol,
            forward_server_name: given.forward_server_name.map(|name| name.to_string()),
            forward_authentication,
            when_full: given.when_full,
            log_format: given.log_format,
        })
    }

    /// The files that tokens are in.
    pub(super) fn token_files(&self) -> Vec<PathBuf> {
        [&self.authentication, &self.forward_authentication]
            .into_iter()
            .filter_map(TokenFrom::file)
            .collect()
    }

    /// The files of certificates.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = Vec::new();
        for server in [&self.grpc.files, &self.http.files].into_iter().flatten() {
            files.extend([server.cert.clone(), server.key.clone()]);
            files.extend(server.client_cas.clone());
        }
        if let Some(client) = &self.forward_tls {
            files.push(client.ca.clone());
            files.extend(client.own.iter().flat_map(|(cert, key)| [cert.clone(), key.clone()]));
        }
        files.sort();
        files.dedup();
        files
    }
}

fn port(
    address: Option<SocketAddr>,
    mode: Option<Mode>,
    files: Option<ServerFiles>,
    prefix: &str,
    usual: u16,
    environment: Environment<'_>,
) -> Result<PortSettings, Failure> {
    let variable = |name: &str| {
        let name = format!("{prefix}_{name}");
        environment(&name).filter(|value| !value.trim().is_empty()).map(|value| (name, value))
    };
    let address = if let Some(address) = address {
        address
    } else {
        let host: Option<IpAddr> = parsed(variable("HOST"))?;
        let port: Option<u16> = parsed(variable("PORT"))?;
        // OAP writes 0 for a port that is not apart.
        let port = port.filter(|port| *port != 0).unwrap_or(usual);
        SocketAddr::new(host.unwrap_or(IpAddr::from([0, 0, 0, 0])), port)
    };
    let enabled: Option<bool> = parsed(variable("SSL_ENABLED"))?;
    let cas = variable("SSL_TRUSTED_CAS_PATH");
    if let Some((name, _)) = &cas
        && enabled != Some(true)
        && files.is_none()
        && mode != Some(Mode::Plaintext)
    {
        return Err(wrong(
            name,
            format!(
                "it asks for clients' certificates, and without {prefix}_SSL_ENABLED=true this port would be plaintext"
            ),
        ));
    }
    let files = match files {
        None if enabled == Some(true) => {
            let path = |name: &str| {
                variable(name).map(|(_, value)| PathBuf::from(value)).ok_or_else(|| {
                    wrong(&format!("{prefix}_{name}"), "TLS is enabled, and this file is not named")
                })
            };
            Some(ServerFiles {
                cert: path("SSL_CERT_CHAIN_PATH")?,
                key: path("SSL_KEY_PATH")?,
                client_cas: cas.map(|(_, value)| PathBuf::from(value)).into_iter().collect(),
            })
        }
        files => files,
    };
    let usual = match &files {
        None => Mode::Plaintext,
        Some(files) if files.client_cas.is_empty() => Mode::Tls,
        Some(_) => Mode::Mtls,
    };
    let mode = mode.unwrap_or(usual);
    match &files {
        None if mode.speaks_tls() => {
            Err(Failure::new(Exit::Usage, format!("mode {mode} needs a certificate"))
                .remedy("add --cert FILE --key FILE, and --client-ca FILE for mutual TLS"))
        }
        Some(files) if mode == Mode::Mtls && files.client_cas.is_empty() => {
            Err(Failure::new(Exit::Usage, "mode mtls needs to know which CAs sign clients")
                .remedy("add --client-ca FILE"))
        }
        _ => Ok(PortSettings { address, mode, files }),
    }
}

fn parsed<T: FromStr<Err: Display>>(
    variable: Option<(String, String)>,
) -> Result<Option<T>, Failure> {
    let Some((name, value)) = variable else { return Ok(None) };
    value.trim().parse().map(Some).map_err(|error| wrong(&name, error))
}

fn wrong(name: &str, why: impl Display) -> Failure {
    Failure::new(Exit::Usage, "the environment cannot be understood")
        .at(name)
        .because(why)
        .remedy("set it right, unset it, or give the option instead: handfast collector run --help")
}

/// What is spoken to backends, on the command line.
pub(in crate::commands) fn protocol(text: &str) -> Result<ForwardProtocol, String> {
    match text {
        "oap" => Ok(ForwardProtocol::Oap),
        "otlp" => Ok(ForwardProtocol::Otlp),
        _ => Err("write oap or otlp".to_owned()),
    }
}

/// A binding on the command line: `/agent/relay-*=shop,bank`, with `;instances=*@10.1.7.*` behind it where only these
/// instances are meant.
pub(in crate::commands) fn rule(text: &str) -> Result<Rule, String> {
    let shape =
        "write a binding like /agent/relay-*=shop,bank or /agent/relay-*=shop;instances=*@10.1.7.*";
    let globs = |text: &str| -> Result<Vec<Glob>, String> {
        let glob = |text: &str| text.trim().parse::<Glob>().map_err(|error| error.to_string());
        text.split(',').map(glob).collect()
    };
    let (binding, instances) = match text.split_once(INSTANCES) {
        Some((binding, instances)) => (binding, globs(instances)?),
        None => (text, Vec::new()),
    };
    let (identity, services) = binding.rsplit_once('=').ok_or(shape)?;
    // A word that is not known behind it would bind something else, and more, than was meant.
    if binding.contains(';') {
        return Err(format!("behind the services only {INSTANCES}PATTERN,... may stand: {shape}"));
    }
    let identity = identity.trim().parse::<Glob>().map_err(|error| error.to_string())?;
    Ok(Rule { identity, instances, services: globs(services)? })
}

/// What stands between the services of a binding and the instances.
const INSTANCES: &str = ";instances=";

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
