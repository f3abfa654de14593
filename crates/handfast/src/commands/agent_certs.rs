//! `handfast agent-certs`: the five files that the documentation of SkyWalking asks for, as X.509 v3 with SANs and one
//! usage each, and the settings to paste. The keys are made here; what signs is the home's authority.

mod settings;

use std::path::{Path, PathBuf};
use std::time::Duration;

use handfast_api::admin::{IssueCertificate, IssuedCertificate};
use handfast_pki::{Csr, Host, IdentityKind, KeyAlgorithm, Name, PrivateKey, Profile};
use handfast_pki::{SpiffeId, Subject, TrustDomain};
use jiff::Timestamp;
use serde::Serialize;

use self::settings::{Paste, Place, pastes};
use super::cert::files::{NewFile, free, write_all};
use super::cert::issue::{signed, trust_domain};
use super::{Context, words};
use crate::clock;
use crate::exit::Exit;
use crate::failure::{Failure, Report};

/// Arguments of `handfast agent-certs`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    handfast agent-certs certs/ --service shop --hosts oap.example,10.0.0.7\n  \
    handfast agent-certs certs/ --service shop --hosts localhost,127.0.0.1 --ttl 7d --key-type rsa -o json\n\n\
    Makes ca.crt, client.crt, client.pem, server.crt and server.pem. The identity of the client is /agent/SERVICE of\n\
    this home's trust domain, that of the server is a component of it. Works without a running node too; every certificate is in the ledger and the audit log.")]
pub(crate) struct Arguments {
    /// The directory for the files; it is made if it is not there
    #[arg(value_name = "OUTDIR")]
    directory: PathBuf,
    /// The service that the agents report as
    #[arg(long, value_name = "NAME")]
    service: Name,
    /// DNS names and IP addresses that the agents dial, separated by commas
    #[arg(long, value_name = "HOST,...", value_delimiter = ',', required = true)]
    hosts: Vec<Host>,
    /// The port that the backend takes agents at, for the settings that are printed
    #[arg(long, value_name = "PORT", default_value_t = SHARING_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// How long the certificates live [default: the site's leaf-ttl, a day]
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    ttl: Option<Duration>,
    /// The kind of keys to make
    #[arg(long, value_enum, default_value_t = KeyType::Ecdsa)]
    key_type: KeyType,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
}

/// The kinds of keys that every agent can use.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum KeyType {
    /// ECDSA on P-256
    Ecdsa,
    /// RSA of 3072 bits
    Rsa,
}

impl From<KeyType> for KeyAlgorithm {
    fn from(kind: KeyType) -> Self {
        match kind {
            KeyType::Ecdsa => Self::EcdsaP256,
            KeyType::Rsa => Self::Rsa3072,
        }
    }
}

/// The port that OAP's documentation gives the receiver with mutual TLS.
const SHARING_PORT: u16 = 11801;

/// Has both certificates signed, writes the files, prints the settings.
pub(crate) async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<()> {
    let place = |name: &str| arguments.directory.join(name);
    free(FILES.map(place).iter().map(PathBuf::as_path), arguments.force)?;
    let Some(domain) = trust_domain(context).await? else {
        return Err(Failure::new(Exit::Failed, "this home has no site yet, so nothing signs here")
            .at(context.home.root.display())
            .remedy(format!("create one first: {}", context.command("site create NAME")))
            .into());
    };

    let server_identity = server_identity(&domain, &arguments.service);
    let identity = SpiffeId::new(domain, IdentityKind::Agent, &arguments.service);
    let needs = bounds(&identity, &server_identity, &arguments.hosts);
    let server = Subject::new(server_name(&arguments.service, &arguments.hosts))
        .with_hosts(arguments.hosts.iter().cloned())
        .with_identity(server_identity);
    let client = Subject::new(arguments.service.as_str()).with_identity(identity);
    // The server's first: that is what an issuer is most often not allowed, and then nothing is made in vain.
    let (server, server_key) = made(Profile::ServiceServer, &server, &arguments, context)
        .await
        .map_err(|error| explained(error, &needs))?;
    let (client, client_key) = made(Profile::Agent, &client, &arguments, context)
        .await
        .map_err(|error| explained(error, &needs))?;

    let (client_pem, server_pem) = (client_key.to_pkcs8_pem(), server_key.to_pkcs8_pem());
    let file = |name, content, secret| NewFile { path: place(name), content, secret };
    let files = write_all(
        &[
            file("client.pem", client_pem.as_bytes(), true),
            file("server.pem", server_pem.as_bytes(), true),
            file("ca.crt", anchors(&client, &server).as_bytes(), false),
            file("client.crt", client.certificate.as_bytes(), false),
            file("server.crt", server.certificate.as_bytes(), false),
        ],
        arguments.force,
    )?;
    let done = Done {
        settings: pastes(&Place {
            directory: &absolute(&arguments.directory),
            service: &arguments.service,
            host: &arguments.hosts[0],
            port: arguments.port,
        }),
        files,
        client: Made::of(&client),
        server: Made::of(&server),
    };
    context.output.show(&done, |page| {
        let until = |made: &Made| words::moment(Some(made.not_after), clock::now());
        page.fields(&[
            ("client", done.client.identity.clone().unwrap_or_default()),
            ("  serial", done.client.serial.clone()),
            ("  until", until(&done.client)),
            ("server", done.server.hosts.join(", ")),
            ("  serial", done.server.serial.clone()),
            ("  until", until(&done.server)),
        ]);
        for file in &done.files {
            page.line(format!("written: {}", file.display()));
        }
        page.line(
            "Nobody renews these files: make them anew (--force) before they expire, or let a relay keep its own.",
        );
        for paste in &done.settings {
            page.heading(&paste.title);
            for line in &paste.lines {
                page.line(format!("  {line}"));
            }
            page.line(&paste.note);
        }
    })
}

/// What the server is called for people. Nobody is let in by it; it differs from the client's, for some software takes
/// certificates of one subject for each other.
fn server_name(service: &Name, hosts: &[Host]) -> String {
    let first: String =
        hosts.first().map(ToString::to_string).unwrap_or_default().chars().take(64).collect();
    if first == service.as_str() { format!("{first:.50} server") } else { first }
}

/// A component, that nobody takes for an agent. Agents check the host names beside it; `collector run` learns from it which
/// trust domain is its own, so that `/agent/shop` of that and of no other reports as `shop`.
fn server_identity(domain: &TrustDomain, service: &Name) -> SpiffeId {
    // A service may have the longest name that there is.
    let name = format!("collector.{service}").parse();
    let name = name.as_ref().unwrap_or(service);
    SpiffeId::new(domain.clone(), IdentityKind::Component, name)
}

async fn made(
    profile: Profile,
    subject: &Subject,
    arguments: &Arguments,
    context: &Context,
) -> anyhow::Result<(IssuedCertificate, PrivateKey)> {
    let key = PrivateKey::generate(arguments.key_type.into())?;
    let csr = Csr::create(&key, subject).map_err(|error| {
        Failure::new(Exit::Usage, "no request can be made with these names").because(error)
    })?;
    let request = IssueCertificate {
        profile: profile.to_string(),
        csr: csr.to_pem(),
        identity: subject.identity.as_ref().map(ToString::to_string),
        hosts: if profile.is_server() {
            arguments.hosts.iter().map(ToString::to_string).collect()
        } else {
            Vec::new()
        },
        common_name: Some(subject.common_name.clone()),
        ttl: arguments.ttl.map(|ttl| format!("{}s", ttl.as_secs())),
        issuer: None,
        why: arguments.why.clone(),
    };
    Ok((signed(request, context).await?, key))
}

/// What an issuer has to be bounded to so that he may make both certificates.
fn bounds(client: &SpiffeId, server: &SpiffeId, hosts: &[Host]) -> Vec<String> {
    let mut bounds = vec![client.to_string(), server.to_string()];
    bounds.extend(hosts.iter().map(ToString::to_string));
    bounds
}

/// A refusal for want of bounds says all of them: who asks for the two certificates one after the other would be sent to
/// his security admin twice.
fn explained(error: anyhow::Error, needs: &[String]) -> anyhow::Error {
    let report = Report::of(&error);
    let of_bounds = report.remedy.is_some_and(|remedy| remedy.contains("`identities`"));
    if report.exit != Exit::Refused.code() || !of_bounds {
        return error;
    }
    let needs: Vec<String> = needs.iter().map(|name| format!("\"{name}\"")).collect();
    Failure::new(Exit::Refused, "the certificates may not be made by this operator")
        .because(report.what)
        .remedy(format!(
            "ask a security admin for a Policy with `role: issuer` and all of these among its `identities`: {}",
            needs.join(", ")
        ))
        .into()
}

/// What both lead up to; a rotation may have begun between the two.
fn anchors(client: &IssuedCertificate, server: &IssuedCertificate) -> String {
    if client.ca == server.ca { client.ca.clone() } else { format!("{}{}", client.ca, server.ca) }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// What `agent-certs` did, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    client: Made,
    server: Made,
    files: Vec<PathBuf>,
    settings: Vec<Paste>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    identity: Option<String>,
    hosts: Vec<String>,
    serial: String,
    lineage: String,
    not_after: Timestamp,
}

impl Made {
    fn of(issued: &IssuedCertificate) -> Self {
        Self {
            identity: issued.identity.clone(),
            hosts: issued.hosts.clone(),
            serial: issued.serial.clone(),
            lineage: issued.lineage.clone(),
            not_after: issued.not_after,
        }
    }
}

const FILES: [&str; 5] = ["ca.crt", "client.crt", "client.pem", "server.crt", "server.pem"];
