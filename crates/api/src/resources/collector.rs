//! The kind Collector: where telemetry is received, from whom, and where it goes.

use std::net::SocketAddr;

use handfast_pki::{Fingerprint, Host, Name};
use handfast_telemetry::port::Mode;
use handfast_telemetry::quota::Quota;
use handfast_telemetry::rules::{Glob, Rule, Rules};
use handfast_telemetry::upstream::Backend;
use serde::{Deserialize, Serialize};

use super::field::{is_false, parsed, parsed_list, parsed_option, port};
use super::quantity::Quantity;
use super::{Invalid, Span};
use crate::secret::Secret;

/// `spec` of a Collector.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Collector {
    /// The address its ports listen on; every address if it is left out.
    #[serde(skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub host: Option<Host>,
    /// The names under which agents reach it: they stand in its certificate.
    #[serde(skip_serializing_if = "Vec::is_empty", with = "parsed_list")]
    pub hosts: Vec<Host>,
    /// Its server credential; `handfast-collector-<name>`, made by the site, if it is left out.
    #[serde(skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub tls_credentials: Option<Name>,
    /// Further credentials or issuers whose CA certificates clients may chain to.
    #[serde(skip_serializing_if = "Vec::is_empty", with = "parsed_list")]
    pub trust: Vec<Name>,
    /// The port for gRPC: 11800 with mutual TLS if nothing is said of either port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<CollectorPort>,
    /// The port for HTTP: 12800 with mutual TLS if nothing is said of either port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<CollectorPort>,
    /// Ports apart from those above, with modes of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sharing: Option<Sharing>,
    /// Who may report as whom. Without a binding that is about it, `/agent/<service>` reports as
    /// `<service>` only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<Binding>,
    /// What each identity may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quotas: Option<Quotas>,
    /// How long and how much is kept; 7 days and 10Gi if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
    /// Send everything on instead of keeping it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward: Option<Forward>,
    /// The token that every call has to bring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Secret>,
    /// Take headers with somebody's trace context off calls that are passed on.
    #[serde(skip_serializing_if = "is_false")]
    pub strip_trace_context: bool,
}

/// A port of a collector.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CollectorPort {
    /// The port to listen on.
    #[serde(with = "port")]
    pub port: u16,
    /// `plaintext`, `tls`, `permissive` or `mtls`.
    #[serde(default = "mutual", with = "parsed")]
    pub mode: Mode,
}

/// `spec.sharing`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Sharing {
    /// The port for gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<CollectorPort>,
    /// The port for HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<CollectorPort>,
}

/// An entry of `spec.identities`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Binding {
    /// A pattern: `/agent/relay-*`, `spiffe://other.example/*`, `dns:*.example`, `cn:agent-1`.
    #[serde(with = "parsed")]
    pub identity: Glob,
    /// Patterns of the services it may report as.
    #[serde(with = "parsed_list")]
    pub services: Vec<Glob>,
    /// Patterns of the instances; any if it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "parsed_list")]
    pub instances: Vec<Glob>,
}

/// `spec.quotas`: what one identity may use; without limit where nothing is said.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Quotas {
    /// Messages per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_second: Option<u64>,
    /// Bytes of messages per second.
    #[serde(skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub bytes_per_second: Option<Quantity>,
    /// Calls at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<u32>,
}

/// `spec.store`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Store {
    /// For how long.
    #[serde(skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub retention: Option<Span>,
    /// How much.
    #[serde(skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub max_size: Option<Quantity>,
}

/// `spec.forward`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Forward {
    /// What is spoken there.
    #[serde(default)]
    pub protocol: ForwardProtocol,
    /// Where to: `host:port`, in the order of preference. The next one is used when one cannot be reached, or
    /// answers again and again that it cannot serve; after a minute or two the first is tried again. A
    /// name is resolved at each dialling.
    #[serde(with = "parsed_list")]
    pub backends: Vec<Backend>,
    /// TLS towards the backends; plaintext if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ForwardTls>,
    /// The token that the backends ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Secret>,
    /// What may wait for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spool: Option<Spool>,
}

/// `spec.forward.protocol`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardProtocol {
    /// Each record in the protocol it came in, to an OAP or another collector; over gRPC.
    #[default]
    Oap,
    /// OpenTelemetry's over gRPC. Segments go as spans, logs and events as log records, meters and the
    /// state of JVMs as metrics; what has no counterpart (profiles, properties and signs of life of instances,
    /// what a browser, a mesh or the kernel saw) is counted and not sent, and agents that ask for tasks get
    /// none. Ids are derived from the agents' own, which stand in `sw8.trace_id` and
    /// `sw8.segment_id`.
    Otlp,
}

/// `spec.forward.tls`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ForwardTls {
    /// The credential to present and to trust by; supplied under `input/certs`, or one of the site.
    #[serde(skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub tls_credentials: Option<Name>,
    /// The name to verify instead of the dialled one.
    #[serde(skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub server_name: Option<Host>,
    /// SHA-256 of the backend's certificate, for one without SANs or of X.509 v1: accepted byte for byte, and
    /// then neither names nor validity are looked at.
    #[serde(skip_serializing_if = "Vec::is_empty", with = "parsed_list")]
    pub pin: Vec<Fingerprint>,
}

/// What may wait on the disk for a backend.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Spool {
    /// How much; 10Gi if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub max_size: Option<Quantity>,
    /// What happens when it is full.
    #[serde(skip_serializing_if = "WhenFull::is_default")]
    pub when_full: WhenFull,
}

/// `whenFull`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum WhenFull {
    /// The oldest goes, and is counted.
    DropOldest,
    /// Nothing more is taken: agents keep what they have, and come again.
    #[default]
    Refuse,
}

impl WhenFull {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Collector {
    /// The ports, by name.
    pub fn ports(&self) -> Vec<(&'static str, CollectorPort)> {
        let mut ports = Vec::new();
        if self.grpc.is_none() && self.http.is_none() {
            ports.push(("grpc", CollectorPort { port: 11800, mode: Mode::Mtls }));
            ports.push(("http", CollectorPort { port: 12800, mode: Mode::Mtls }));
        }
        ports.extend(self.grpc.clone().map(|port| ("grpc", port)));
        ports.extend(self.http.clone().map(|port| ("http", port)));
        if let Some(sharing) = &self.sharing {
            ports.extend(sharing.grpc.clone().map(|port| ("sharing-grpc", port)));
            ports.extend(sharing.http.clone().map(|port| ("sharing-http", port)));
        }
        ports
    }

    /// The names in its certificate: those declared, and the address it listens on.
    pub fn names(&self) -> Vec<Host> {
        let mut names = self.hosts.clone();
        if let Some(host) = &self.host
            && !matches!(host, Host::Ip(ip) if ip.is_unspecified())
            && !names.contains(host)
        {
            names.push(host.clone());
        }
        if names.is_empty() {
            names.extend("localhost".parse::<Host>());
            names.push(Host::Ip(std::net::Ipv4Addr::LOCALHOST.into()));
        }
        names
    }

    /// Who may report as whom.
    pub fn rules(&self) -> Rules {
        let rule = |binding: &Binding| Rule {
            identity: binding.identity.clone(),
            instances: binding.instances.clone(),
            services: binding.services.clone(),
        };
        Rules { rules: self.identities.iter().map(rule).collect() }
    }

    /// What each identity may use.
    pub fn quota(&self) -> Quota {
        let Some(quotas) = &self.quotas else { return Quota::default() };
        Quota {
            bytes_per_second: quotas.bytes_per_second.map_or(0, Quantity::bytes),
            messages_per_second: quotas.messages_per_second.unwrap_or(0),
            streams: quotas.streams.unwrap_or(0),
        }
    }

    pub(super) fn problems(&self) -> Vec<Invalid> {
        let mut problems = Vec::new();
        let mut taken = std::collections::BTreeSet::new();
        for (name, port) in self.ports() {
            if !taken.insert(port.port) {
                problems.push(Invalid::error(
                    "port",
                    format!("port {} of `{name}` is that of another of its ports", port.port),
                    "give each a port of its own",
                ));
            }
        }
        if self.store.is_some() && self.forward.is_some() {
            problems.push(Invalid::error(
                "forward",
                "a collector keeps what it takes or sends it on, not both",
                "remove `store` or `forward`, or declare a second Collector",
            ));
        }
        if let Some(forward) = &self.forward {
            problems.extend(forward.problems());
        }
        if self.authentication.as_ref().is_some_and(|token| !visible(token.reveal())) {
            problems.push(bad_token());
        }
        problems
    }
}

impl Forward {
    fn problems(&self) -> Vec<Invalid> {
        let mut problems = Vec::new();
        if self.backends.is_empty() {
            problems.push(no_backends());
        }
        if let Some(tls) = &self.tls
            && tls.tls_credentials.is_none()
            && tls.pin.is_empty()
        {
            problems.push(Invalid::error(
                "tls",
                "`tls` says neither by which CA nor by which pin the backend is trusted",
                "name a credential in `tlsCredentials`, or the SHA-256 of the backend's certificate in `pin`",
            ));
        }
        if self.authentication.as_ref().is_some_and(|token| !visible(token.reveal())) {
            problems.push(bad_token());
        }
        problems
    }
}

/// `spec` of a Relay.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Relay {
    /// The service whose agents stand behind it: its certificate is `/agent/<service>`.
    #[serde(with = "parsed")]
    pub service: Name,
    /// Where collectors are: `host:port`, in the order of preference.
    #[serde(with = "parsed_list")]
    pub backends: Vec<Backend>,
    /// Where agents report; `127.0.0.1:11800` and `127.0.0.1:12800` if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<RelayListen>,
    /// The name of the collector to verify instead of the dialled one, where it is dialled at a listener
    /// of the site.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub server_name: Option<Host>,
    /// The credential it presents; `handfast-relay-<name>`, made by the site, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub tls_credentials: Option<Name>,
    /// `mtls` (never less than that), `tls` (without a certificate of its own) or `plaintext`.
    #[serde(default = "mutual", with = "parsed")]
    pub mode: Mode,
    /// The token that the collector asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Secret>,
    /// What may wait for the collector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spool: Option<Spool>,
}

/// `spec.listen` of a Relay.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct RelayListen {
    /// Address and port for gRPC.
    #[serde(skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub grpc: Option<SocketAddr>,
    /// Address and port for HTTP.
    #[serde(skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub http: Option<SocketAddr>,
    /// A Unix socket for gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unix: Option<String>,
}

impl Relay {
    /// Where agents report.
    pub fn listen(&self) -> RelayListen {
        self.listen.clone().unwrap_or_else(|| RelayListen {
            grpc: Some(([127, 0, 0, 1], 11800).into()),
            http: Some(([127, 0, 0, 1], 12800).into()),
            unix: None,
        })
    }

    pub(super) fn problems(&self) -> Vec<Invalid> {
        let mut problems = Vec::new();
        if self.backends.is_empty() {
            problems.push(no_backends());
        }
        if self.mode == Mode::Permissive {
            problems.push(Invalid::error(
                "mode",
                "a relay dials in one mode; `permissive` is for ports",
                "write `mtls`, `tls` or `plaintext`",
            ));
        }
        let listen = self.listen();
        for address in listen.grpc.iter().chain(&listen.http) {
            if !address.ip().is_loopback() {
                problems.push(Invalid::warning(
                    "listen",
                    format!("{address} takes reports in the clear from other machines"),
                    "listen on a loopback address, or let a Collector with TLS take reports from elsewhere",
                ));
            }
        }
        if self.authentication.as_ref().is_some_and(|token| !visible(token.reveal())) {
            problems.push(bad_token());
        }
        problems
    }
}

fn mutual() -> Mode {
    Mode::Mtls
}

fn no_backends() -> Invalid {
    Invalid::error("backends", "`backends` is empty", "list at least one as host:port")
}

fn bad_token() -> Invalid {
    Invalid::error(
        "authentication",
        "`authentication` holds characters that cannot be sent in a header",
        "use visible ASCII characters",
    )
}

fn visible(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}
