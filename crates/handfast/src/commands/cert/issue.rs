//! `handfast cert issue`: a certificate for a component, an agent, an operator or a service, signed by this
//! home. The private key is made here, beside the user, and never given to the node.

use std::path::PathBuf;
use std::time::Duration;

use handfast_api::admin::{ClientError, IssueCertificate, IssuedCertificate};
use handfast_api::resources::{Resources, declared};
use handfast_authority::Declared;
use handfast_pki::{
    Csr, Host, IdentityKind, KeyAlgorithm, Name, PrivateKey, Profile, SpiffeId, Subject,
    TrustDomain,
};
use serde::Serialize;

use super::files::{NewFile, free, write_all};
use super::passphrase::PassphraseSource;
use super::show;
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node;
use crate::output;

/// Arguments of `handfast cert issue`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// What it is for: agent, component, operator, service-client or service-server [default: what the request says]
    #[arg(long)]
    profile: Option<Profile>,
    /// Who it is for; the identity is made of it, and it is the common name
    #[arg(long)]
    name: Option<String>,
    /// The identity in full, where it is not made of the name
    #[arg(long, value_name = "SPIFFE-ID")]
    identity: Option<SpiffeId>,
    /// A DNS name or IP address of a server; may be given several times
    #[arg(long, value_name = "HOST")]
    host: Vec<Host>,
    /// How long it lives [default: the site's leaf-ttl, a day]
    #[arg(long, value_name = "DURATION", value_parser = crate::commands::duration)]
    ttl: Option<Duration>,
    /// Which issuer of this home signs it [default: the service CA; the local CA for operators]
    #[arg(long, value_name = "NAME")]
    issuer: Option<Name>,
    /// A certificate request (PEM or DER), instead of making a key
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "key_algorithm"])]
    csr: Option<PathBuf>,
    /// A private key that exists, instead of making one
    #[arg(long, value_name = "FILE", conflicts_with = "key_algorithm")]
    key: Option<PathBuf>,
    /// The kind of key to make: ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072 or rsa-4096
    #[arg(long, value_name = "ALGORITHM", default_value = "ecdsa-p256")]
    key_algorithm: KeyAlgorithm,
    #[command(flatten)]
    passphrase: PassphraseSource,
    /// The directory for tls.crt, tls.key and ca.crt. Without it, the certificate of a request goes to standard output
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
}

/// Has it signed, by the running node or, without one, by the home itself.
pub(super) async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<()> {
    let holder = Holder::of(&arguments)?;
    let asked = holder.asked();
    let profile = arguments.profile.or_else(|| profile_of(asked.as_ref())).ok_or_else(|| {
        Failure::new(Exit::Usage, "it is not said what the certificate is for").remedy(
            "name it with --profile: agent, component, operator, service-client or service-server",
        )
    })?;
    if arguments.out.is_none() && matches!(holder, Holder::Made) {
        return Err(Failure::new(Exit::Usage, "there is no place for the private key")
            .because("a key is made, and --out is not given")
            .remedy("name a directory with --out, or a request of your own with --csr")
            .into());
    }
    if let Some(directory) = &arguments.out {
        let wanted = ["tls.crt", "tls.key", "ca.crt"].map(|file| directory.join(file));
        free(wanted.iter().map(PathBuf::as_path), arguments.force)?;
    }
    let hosts =
        if arguments.host.is_empty() { hosts_of(asked.as_ref()) } else { arguments.host.clone() };
    let name = arguments.name.clone().or_else(|| {
        asked.as_ref().map(|subject| subject.common_name.clone()).filter(|name| !name.is_empty())
    });
    let identity = match arguments.identity.clone().or_else(|| asked.as_ref()?.identity.clone()) {
        Some(identity) => Some(identity),
        None => made_of(profile, name.as_deref(), context).await?,
    };
    let subject = subject(name.as_deref(), identity.as_ref(), &hosts);
    let (csr, key) = holder.request(&subject, arguments.key_algorithm)?;
    let request = IssueCertificate {
        profile: profile.to_string(),
        csr: csr.to_pem(),
        identity: identity.map(|identity| identity.to_string()),
        hosts: hosts.iter().map(ToString::to_string).collect(),
        common_name: Some(subject.common_name),
        ttl: arguments.ttl.map(|ttl| format!("{}s", ttl.as_secs())),
        issuer: arguments.issuer.as_ref().map(ToString::to_string),
        why: arguments.why.clone(),
    };
    let issued = signed(request, context).await?;
    deliver(&arguments, issued, key.as_ref(), context)
}

/// Has a request signed: by the node that is meant or, where none runs, by the home itself.
pub(in crate::commands) async fn signed(
    request: IssueCertificate,
    context: &Context,
) -> anyhow::Result<IssuedCertificate> {
    match context.client().issue_certificate(&request).await {
        Err(ClientError::NoNode { .. }) => node::issue_offline(&context.home, request).await,
        answer => Ok(answer?),
    }
}

/// Who holds the key, and what is known of it.
enum Holder {
    /// Somebody who sent a request.
    Request(Box<Csr>),
    /// We do: a key that was there.
    Kept(PrivateKey),
    /// We do: a key to be made.
    Made,
}

impl Holder {
    fn of(arguments: &Arguments) -> anyhow::Result<Self> {
        let unusable = |path: &PathBuf, why: &dyn std::fmt::Display, what: &str| {
            Failure::new(Exit::BadInput, what).at(path.display()).because(why)
        };
        if let Some(path) = &arguments.csr {
            let bytes = show::read(path)?;
            let csr = if bytes.trim_ascii_start().starts_with(b"-----") {
                Csr::from_pem(&bytes)
            } else {
                Csr::from_der(&bytes)
            };
            let csr = csr.map_err(|error| {
                unusable(path, &error, "the certificate request cannot be used")
            })?;
            return Ok(Self::Request(Box::new(csr)));
        }
        let Some(path) = &arguments.key else { return Ok(Self::Made) };
        let bytes = zeroize::Zeroizing::new(show::read(path)?);
        let passphrase = arguments.passphrase.given()?;
        let key = PrivateKey::read(&bytes, passphrase.as_ref())
            .map_err(|error| unusable(path, &error, "the private key cannot be read"))?;
        Ok(Self::Kept(key))
    }

    /// The names in the request.
    fn asked(&self) -> Option<Subject> {
        match self {
            Self::Request(csr) => Some(csr.subject().clone()),
            Self::Kept(_) | Self::Made => None,
        }
    }

    fn request(
        self,
        subject: &Subject,
        algorithm: KeyAlgorithm,
    ) -> anyhow::Result<(Csr, Option<PrivateKey>)> {
        let key = match self {
            Self::Request(csr) => return Ok((*csr, None)),
            Self::Kept(key) => key,
            Self::Made => PrivateKey::generate(algorithm)?,
        };
        let csr = Csr::create(&key, subject).map_err(|error| {
            Failure::new(Exit::Usage, "no request can be made with these names").because(error)
        })?;
        Ok((csr, Some(key)))
    }
}

/// What a request says that it is for: a server if it names hosts, else by its identity.
fn profile_of(asked: Option<&Subject>) -> Option<Profile> {
    let asked = asked?;
    match asked.identity.as_ref().and_then(SpiffeId::kind) {
        _ if asked.has_hosts() => Some(Profile::ServiceServer),
        Some(IdentityKind::Agent) => Some(Profile::Agent),
        Some(IdentityKind::Component) => Some(Profile::Component),
        Some(IdentityKind::Operator) => Some(Profile::Operator),
        _ => None,
    }
}

fn hosts_of(asked: Option<&Subject>) -> Vec<Host> {
    let Some(asked) = asked else { return Vec::new() };
    let dns = asked.dns.iter().cloned().map(Host::Dns);
    dns.chain(asked.ips.iter().copied().map(Host::Ip)).collect()
}

/// The identity that a name stands for in this site's trust domain; servers need none.
async fn made_of(
    profile: Profile,
    name: Option<&str>,
    context: &Context,
) -> anyhow::Result<Option<SpiffeId>> {
    let kind = match profile {
        Profile::Agent => IdentityKind::Agent,
        Profile::Operator => IdentityKind::Operator,
        Profile::Component | Profile::ServiceClient => IdentityKind::Component,
        _ => return Ok(None),
    };
    let Some(text) = name else {
        return Err(Failure::new(Exit::Usage, "it is not said who the certificate is for")
            .remedy("name it with --name, or in full with --identity")
            .into());
    };
    let name: Name = text.parse().map_err(|error| {
        Failure::new(Exit::Usage, format!("no identity can be made of {text:?}"))
            .because(error)
            .remedy(
                "give a name of a-z, 0-9, '-' and '.' with --name, or the identity with --identity",
            )
    })?;
    let domain = trust_domain(context).await?;
    Ok(domain.map(|domain| SpiffeId::new(domain, kind, &name)))
}

/// The trust domain of the home, from its node or from its resources. Where there is none, the node says
/// what is missing.
pub(in crate::commands) async fn trust_domain(
    context: &Context,
) -> anyhow::Result<Option<TrustDomain>> {
    let status = match context.client().status().await {
        Err(ClientError::NoNode { .. }) => {
            let (resources, _) = Resources::load(&context.home.input_resources);
            return Ok(declared(&resources).0.and_then(|site| site.effective_trust_domain()));
        }
        status => status?,
    };
    let Some(site) = status.site.and_then(|site| site.parse::<Name>().ok()) else {
        return Ok(None);
    };
    let mut seen = Declared::new(site);
    seen.trust_domain = status.trust_domain.and_then(|domain| domain.parse().ok());
    Ok(seen.effective_trust_domain())
}

fn subject(name: Option<&str>, identity: Option<&SpiffeId>, hosts: &[Host]) -> Subject {
    let common_name = name
        .map(ToOwned::to_owned)
        .or_else(|| identity?.name().map(|name| name.to_string()))
        .or_else(|| hosts.first().map(|host| host.to_string().chars().take(64).collect()))
        .unwrap_or_default();
    let mut subject = Subject::new(common_name).with_hosts(hosts.iter().cloned());
    subject.identity = identity.cloned();
    subject
}

/// What `cert issue` did, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    #[serde(flatten)]
    issued: IssuedCertificate,
    /// The files that were written.
    files: Vec<PathBuf>,
}

fn deliver(
    arguments: &Arguments,
    issued: IssuedCertificate,
    key: Option<&PrivateKey>,
    context: &Context,
) -> anyhow::Result<()> {
    let Some(directory) = &arguments.out else {
        if context.output.format() == output::Format::Text {
            return output::print(&issued.certificate);
        }
        return context.output.show(&Done { issued, files: Vec::new() }, |_| {});
    };
    let pem = key.map(PrivateKey::to_pkcs8_pem);
    let mut files = Vec::new();
    let file =
        |name: &str, content, secret| NewFile { path: directory.join(name), content, secret };
    if let Some(pem) = &pem {
        files.push(file("tls.key", pem.as_bytes(), true));
    }
    files.push(file("ca.crt", issued.ca.as_bytes(), false));
    files.push(file("tls.crt", issued.certificate.as_bytes(), false));
    let files = write_all(&files, arguments.force)?;
    let done = Done { issued, files };
    context.output.show(&done, |page| {
        page.fields(&[
            ("identity", done.issued.identity.clone().unwrap_or_default()),
            ("hosts", done.issued.hosts.join(", ")),
            ("profile", done.issued.profile.clone()),
            ("serial", done.issued.serial.clone()),
            ("issued by", done.issued.issuer.clone()),
            ("valid until", done.issued.not_after.to_string()),
        ]);
        for file in &done.files {
            page.line(format!("written: {}", file.display()));
        }
    })
}
