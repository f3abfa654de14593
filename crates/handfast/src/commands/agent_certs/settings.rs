//! What is pasted into a backend and into agents, by language: names and paths in, lines out. Which agent can do what
//! is said beside it.

use std::path::Path;

use handfast_pki::{Host, Name};
use serde::Serialize;

/// What the settings are made of.
pub(super) struct Place<'a> {
    /// Where the files lie, in full.
    pub(super) directory: &'a Path,
    pub(super) service: &'a Name,
    /// Where agents dial.
    pub(super) host: &'a Host,
    pub(super) port: u16,
}

/// Lines for one program.
#[derive(Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Paste {
    /// A short word for programs: `oap`, `java`, `go`, ...
    #[serde(rename = "for")]
    pub(super) program: &'static str,
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    pub(super) note: String,
}

/// The settings of the backend, and then of each agent.
pub(super) fn pastes(place: &Place<'_>) -> Vec<Paste> {
    vec![oap(place), java(place), go(place), php(place), rust(place), python(place), node(place)]
}

fn oap(place: &Place<'_>) -> Paste {
    Paste {
        program: "oap",
        title: "OAP (environment)".to_owned(),
        lines: vec![
            "SW_RECEIVER_GRPC_HOST=0.0.0.0".to_owned(),
            format!("SW_RECEIVER_GRPC_PORT={}", place.port),
            "SW_RECEIVER_GRPC_SSL_ENABLED=true".to_owned(),
            format!("SW_RECEIVER_GRPC_SSL_KEY_PATH={}", place.file("server.pem")),
            format!("SW_RECEIVER_GRPC_SSL_CERT_CHAIN_PATH={}", place.file("server.crt")),
            format!("SW_RECEIVER_GRPC_SSL_TRUSTED_CAS_PATH={}", place.file("ca.crt")),
        ],
        note: "The sharing server alone can demand client certificates. It reads changed files by itself within ten \
               seconds."
            .to_owned(),
    }
}

fn java(place: &Place<'_>) -> Paste {
    let mut lines = place.copies("AGENT_FOLDER/ca/");
    lines.extend([
        place.backends(),
        "SW_AGENT_SSL_TRUSTED_CA_PATH=/ca/ca.crt".to_owned(),
        "SW_AGENT_SSL_KEY_PATH=/ca/client.pem".to_owned(),
        "SW_AGENT_SSL_CERT_CHAIN_PATH=/ca/client.crt".to_owned(),
        place.name("SW_AGENT_NAME"),
    ]);
    Paste {
        program: "java",
        title: "Java agent".to_owned(),
        lines,
        note: "The paths count from the agent's folder, with the slash too. If key or certificate is missing it goes on \
               without: look for \"Failed to enable mTLS\" in its log. New files need a restart."
            .to_owned(),
    }
}

fn go(place: &Place<'_>) -> Paste {
    Paste {
        program: "go",
        title: "Go agent".to_owned(),
        lines: vec![
            format!("SW_AGENT_REPORTER_GRPC_BACKEND_SERVICE={}", place.authority()),
            "SW_AGENT_REPORTER_GRPC_TLS_ENABLE=true".to_owned(),
            format!("SW_AGENT_REPORTER_GRPC_TLS_CA_PATH={}", place.file("ca.crt")),
            format!("SW_AGENT_REPORTER_GRPC_TLS_CLIENT_KEY_PATH={}", place.file("client.pem")),
            format!(
                "SW_AGENT_REPORTER_GRPC_TLS_CLIENT_CERT_CHAIN_PATH={}",
                place.file("client.crt")
            ),
            place.name("SW_AGENT_NAME"),
        ],
        note: "The files are read once, at the start.".to_owned(),
    }
}

fn php(place: &Place<'_>) -> Paste {
    Paste {
        program: "php",
        title: "PHP agent (php.ini)".to_owned(),
        lines: vec![
            format!("skywalking_agent.server_addr = {}", place.authority()),
            "skywalking_agent.enable_tls = On".to_owned(),
            format!("skywalking_agent.ssl_trusted_ca_path = {}", place.file("ca.crt")),
            format!("skywalking_agent.ssl_key_path = {}", place.file("client.pem")),
            format!("skywalking_agent.ssl_cert_chain_path = {}", place.file("client.crt")),
            format!("skywalking_agent.service_name = {}", place.service),
        ],
        note: "The files are read once, at the start.".to_owned(),
    }
}

fn rust(place: &Place<'_>) -> Paste {
    Paste {
        program: "rust",
        title: "Rust agent (crate skywalking)".to_owned(),
        lines: vec![
            "let tls = ClientTlsConfig::new()".to_owned(),
            format!(
                "    .ca_certificate(Certificate::from_pem(std::fs::read(\"{}\")?))",
                place.file("ca.crt")
            ),
            format!(
                "    .identity(Identity::from_pem(std::fs::read(\"{}\")?, std::fs::read(\"{}\")?));",
                place.file("client.crt"),
                place.file("client.pem")
            ),
            format!(
                "let channel = Endpoint::from_static(\"https://{}\").tls_config(tls)?.connect().await?;",
                place.authority()
            ),
            "let reporter = GrpcReporter::new(channel);".to_owned(),
        ],
        note: "It has no settings of its own: the program hands it a channel of tonic.".to_owned(),
    }
}

fn python(place: &Place<'_>) -> Paste {
    let mut lines = vec![place.backends(), "SW_AGENT_FORCE_TLS=true".to_owned()];
    lines.push(format!("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH={}", place.file("ca.crt")));
    lines.extend(place.agent_files());
    lines.push(place.name("SW_AGENT_NAME"));
    Paste {
        program: "python",
        title: "Python agent".to_owned(),
        lines,
        note: "Release 1.3.0 knows no SW_AGENT_SSL_* names: it gets as far as one-way TLS, by the first three lines. For \
               mutual TLS with it, and for files that change, put a relay beside it."
            .to_owned(),
    }
}

fn node(place: &Place<'_>) -> Paste {
    let mut lines = vec![place.backends(), "SW_AGENT_SECURE=true".to_owned()];
    lines.push(format!("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH={}", place.file("ca.crt")));
    lines.extend(place.agent_files());
    lines.push(place.name("SW_AGENT_NAME"));
    Paste {
        program: "node",
        title: "Node.js agent".to_owned(),
        lines,
        note: "Release 0.9.0 knows no SW_AGENT_SSL_* names: it gets as far as one-way TLS, by the first three lines. For \
               mutual TLS with it, and for files that change, put a relay beside it."
            .to_owned(),
    }
}

impl Place<'_> {
    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn authority(&self) -> String {
        match self.host {
            Host::Ip(address) if address.is_ipv6() => format!("[{address}]:{}", self.port),
            host => format!("{host}:{}", self.port),
        }
    }

    fn backends(&self) -> String {
        format!("SW_AGENT_COLLECTOR_BACKEND_SERVICES={}", self.authority())
    }

    fn name(&self, variable: &str) -> String {
        format!("{variable}={}", self.service)
    }

    fn copies(&self, to: &str) -> Vec<String> {
        let files = ["ca.crt", "client.crt", "client.pem"].map(|file| self.file(file));
        vec![format!("# cp {} {to}", files.join(" "))]
    }

    fn agent_files(&self) -> [String; 3] {
        [
            format!("SW_AGENT_SSL_TRUSTED_CA_PATH={}", self.file("ca.crt")),
            format!("SW_AGENT_SSL_KEY_PATH={}", self.file("client.pem")),
            format!("SW_AGENT_SSL_CERT_CHAIN_PATH={}", self.file("client.crt")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_the_files_the_place_and_the_service() {
        let (service, host) = ("shop".parse().unwrap(), "oap.example".parse().unwrap());
        let place =
            Place { directory: Path::new("/certs"), service: &service, host: &host, port: 11801 };
        let all = pastes(&place);
        let programs: Vec<&str> = all.iter().map(|paste| paste.program).collect();
        assert_eq!(programs, ["oap", "java", "go", "php", "rust", "python", "node"]);
        let lines = |program: &str| {
            let paste = all.iter().find(|paste| paste.program == program);
            paste.expect("a paste").lines.join("\n")
        };
        for line in [
            "SW_RECEIVER_GRPC_PORT=11801",
            "SW_RECEIVER_GRPC_SSL_ENABLED=true",
            "SW_RECEIVER_GRPC_SSL_KEY_PATH=/certs/server.pem",
            "SW_RECEIVER_GRPC_SSL_CERT_CHAIN_PATH=/certs/server.crt",
            "SW_RECEIVER_GRPC_SSL_TRUSTED_CAS_PATH=/certs/ca.crt",
        ] {
            assert!(lines("oap").lines().any(|one| one == line), "{line}");
        }
        for program in &programs[1..] {
            let text = lines(program);
            for word in ["oap.example:11801", "ca.crt", "client.crt", "client.pem"] {
                assert!(text.contains(word), "{program}: {word}\n{text}");
            }
            assert!(!text.contains("server.pem"), "{program} is given a server's key\n{text}");
        }
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        let (service, host) = ("shop".parse().unwrap(), "::1".parse().unwrap());
        let place = Place { directory: Path::new("/c"), service: &service, host: &host, port: 1 };
        assert_eq!(place.backends(), "SW_AGENT_COLLECTOR_BACKEND_SERVICES=[::1]:1");
    }
}
