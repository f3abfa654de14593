//! What a relay by itself is set to: options first, then the environment names of SkyWalking's Java agent, then
//! what is usual.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use handfast_api::resources::Quantity;
use handfast_api::skywalking::{AgentEnvironment, NamedFiles};
use handfast_telemetry::port::Mode;
use handfast_telemetry::upstream::Backend;

use super::super::super::lone::WhenFull;
use super::super::super::lone::token::TokenFrom;
use super::Arguments;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::LogFormat;

/// Everything that was said.
pub(super) struct Settings {
    pub(super) agent_dir: PathBuf,
    pub(super) authentication: TokenFrom,
    pub(super) backends: Vec<Backend>,
    pub(super) crl: Vec<PathBuf>,
    pub(super) data: PathBuf,
    pub(super) environment: AgentEnvironment,
    pub(super) http: SocketAddr,
    pub(super) listen: SocketAddr,
    pub(super) log_format: LogFormat,
    pub(super) metrics: Option<SocketAddr>,
    /// As it was asked for.
    pub(super) mode: Option<Mode>,
    pub(super) server_name: Option<String>,
    pub(super) spool_size: Quantity,
    pub(super) unix: Option<PathBuf>,
    pub(super) when_full: WhenFull,
    pub(super) with: With,
}

/// Where the certificate comes from.
pub(super) enum With {
    /// From files that somebody puts there.
    Files(NamedFiles),
    /// By a token, into a directory.
    Enrolment { directory: PathBuf, token: Option<PathBuf>, ask_every: Duration },
    /// None, and no TLS: that was asked for.
    Nothing,
}

/// The environment, without what is no text: nothing that is read here is.
pub(super) fn variables() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

impl Settings {
    pub(super) fn of(
        given: Arguments,
        variables: &BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let environment = AgentEnvironment::read(variables).map_err(|fault| {
            Failure::new(Exit::Usage, "the environment cannot be understood")
                .at(fault.variable)
                .because(&fault)
                .remedy("set it right, or unset it")
        })?;
        let backends = match given.backends {
            named if named.is_empty() => environment.backends.clone(),
            named => named,
        };
        if backends.is_empty() {
            return Err(usage("there is no backend to report to")
                .remedy("add --backend HOST:PORT, or set SW_AGENT_COLLECTOR_BACKEND_SERVICES"));
        }
        let variable = environment.authentication.clone();
        let authentication =
            TokenFrom::of(given.authentication, "SW_AGENT_AUTHENTICATION", variable);
        let named = NamedFiles { ca: given.ca, chain: given.cert, key: given.key };
        let enrolment = given.enrol_dir.map(|directory| (directory, given.token, given.ask_every));
        let with = with(given.mode, named, enrolment, &environment)?;
        Ok(Self {
            agent_dir: given.agent_dir,
            authentication,
            backends,
            crl: given.crl,
            data: given.data,
            environment,
            http: given.http,
            listen: given.listen,
            log_format: given.log_format,
            metrics: given.metrics,
            mode: given.mode,
            server_name: given.server_name.map(|name| name.to_string()),
            spool_size: given.spool_size,
            unix: given.unix,
            when_full: given.when_full,
            with,
        })
    }
}

fn with(
    mode: Option<Mode>,
    named: NamedFiles,
    enrolment: Option<(PathBuf, Option<PathBuf>, Duration)>,
    environment: &AgentEnvironment,
) -> Result<With, Failure> {
    let any_named = named.ca.is_some() || named.chain.is_some() || named.key.is_some();
    match (mode, enrolment) {
        (Some(Mode::Permissive), _) => {
            Err(usage("a relay that takes what it gets is none: there is no mode permissive here")
                .remedy("choose --mode mtls, tls or plaintext"))
        }
        (Some(Mode::Plaintext), enrolment) if any_named || enrolment.is_some() => {
            Err(usage("mode plaintext uses no certificates, and some are named")
                .remedy("leave --mode plaintext away, or the certificates"))
        }
        (Some(Mode::Plaintext), _) => Ok(With::Nothing),
        (Some(Mode::Tls), Some(_)) => {
            Err(usage("a certificate by token is there to be shown, and mode tls shows none")
                .remedy("leave --mode away, or name the CA with --ca instead of --enrol-dir"))
        }
        (_, Some((directory, token, ask_every))) => {
            let said = [
                ("SW_AGENT_SSL_TRUSTED_CA_PATH", &environment.trusted_ca),
                ("SW_AGENT_SSL_CERT_CHAIN_PATH", &environment.chain),
                ("SW_AGENT_SSL_KEY_PATH", &environment.key),
            ];
            if let Some((name, _)) = said.iter().find(|(_, path)| path.is_some()) {
                return Err(usage("the certificate is to come by token and from a file")
                    .at(name)
                    .remedy("unset the variable, or leave --enrol-dir away"));
            }
            Ok(With::Enrolment { directory, token, ask_every })
        }
        (_, None) => Ok(With::Files(named)),
    }
}

fn usage(what: &str) -> Failure {
    Failure::new(Exit::Usage, what)
}
