//! A certificate in a file or in this home: linted, its chain checked, its key tried in a handshake in memory.

use std::net::IpAddr;

use handfast_api::status::FaultView;
use handfast_pki::{
    Certificate, Chain, Credential, LintContext, Purpose, Severity, TrustAnchors, lint,
    verify_chain,
};
use handfast_store::Stored;
use serde::Serialize;

use super::super::view::CertificateView;
use super::super::{intended, show};
use super::Arguments;
use super::revocation::{self, Finding, Path};
use crate::clock;
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Page, Tone};

/// Verifies a PEM file.
pub(super) async fn of_file(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let path = std::path::Path::new(&arguments.target);
    let chain = show::read_chain(path)?;
    let anchors = anchors(arguments)?;
    let key = match &arguments.key {
        None => None,
        Some(path) => Some((path, zeroize::Zeroizing::new(show::read(path)?))),
    };
    let mut verdict = Verdict::new(&arguments.target, &chain, arguments.purpose.map(Into::into));
    verdict.lint(&chain);
    verdict.chain(&chain, anchors.as_ref());
    verdict.name(&chain, arguments.name.as_deref());
    verdict.revocation(&chain, anchors.as_ref(), arguments).await?;
    if let Some((path, pem)) = key {
        // Without anchors the key is still compared; the chain's own top stands in for them.
        let top = anchors.unwrap_or_else(|| {
            TrustAnchors::new(chain.iter().last().unwrap_or(chain.leaf()).clone())
        });
        let passphrase = arguments.passphrase()?;
        let key = handfast_pki::PrivateKey::read(&pem, passphrase.as_ref()).map_err(|error| {
            Failure::new(Exit::BadInput, "the private key cannot be read")
                .at(path.display())
                .because(error)
        })?;
        let trusted = arguments.ca.is_some();
        verdict.key(Credential::new(chain, key, top), arguments.name.as_deref(), trusted);
    }
    verdict.conclude(context)
}

/// Verifies a credential of this home.
pub(super) async fn of_stored(
    arguments: &Arguments,
    stored: &Stored,
    context: &Context,
) -> anyhow::Result<()> {
    let target = stored.directory.display().to_string();
    let unusable = |why: String| {
        Failure::new(Exit::BadInput, format!("the credential `{}` cannot be used", stored.name))
            .at(&target)
            .because(why)
    };
    let pem =
        stored.pem.tls_crt.as_deref().ok_or_else(|| unusable("there is no tls.crt".to_owned()))?;
    let chain = Chain::from_pem(pem).map_err(|error| unusable(error.to_string()))?;
    let own = stored.pem.ca_crt.as_deref().map(TrustAnchors::from_pem).transpose();
    let anchors = match anchors(arguments)? {
        Some(given) => Some(given),
        None => own.map_err(|error| unusable(format!("ca.crt: {error}")))?,
    };
    let mut verdict = Verdict::new(&target, &chain, arguments.purpose.map(Into::into));
    verdict.lint(&chain);
    verdict.chain(&chain, anchors.as_ref());
    verdict.name(&chain, arguments.name.as_deref());
    verdict.revocation(&chain, anchors.as_ref(), arguments).await?;
    match stored.credential(arguments.passphrase()?.as_ref()) {
        Ok(credential) => verdict.key(Ok(credential), arguments.name.as_deref(), true),
        Err(error) => {
            verdict.problems.push(Problem::error("credential", error.to_string(), String::new()));
        }
    }
    verdict.conclude(context)
}

/// What was found, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    target: String,
    ok: bool,
    purpose: &'static str,
    /// Whether the chain was checked against a CA.
    chain_checked: bool,
    /// Whether a handshake with the key succeeded.
    handshake: Option<bool>,
    problems: Vec<Problem>,
    /// Whether the certificates are revoked, where it was asked for.
    revocation: Vec<Finding>,
    fault: Option<FaultView>,
    certificates: Vec<CertificateView>,
    #[serde(skip)]
    uses: Purpose,
}

#[derive(Serialize)]
struct Problem {
    code: String,
    severity: &'static str,
    what: String,
    remedy: String,
}

impl Problem {
    fn error(code: &str, what: String, remedy: String) -> Self {
        Self { code: code.to_owned(), severity: "error", what, remedy }
    }
}

impl Verdict {
    fn new(target: &str, chain: &Chain, purpose: Option<Purpose>) -> Self {
        let uses = purpose.unwrap_or_else(|| intended(chain.leaf()));
        Self {
            target: target.to_owned(),
            ok: true,
            purpose: match uses {
                Purpose::Ca => "ca",
                Purpose::Client => "client",
                Purpose::Server => "server",
            },
            chain_checked: false,
            handshake: None,
            problems: Vec::new(),
            revocation: Vec::new(),
            fault: None,
            certificates: chain.iter().map(CertificateView::of).collect(),
            uses,
        }
    }

    fn lint(&mut self, chain: &Chain) {
        let context = LintContext { purpose: self.uses, now: clock::now() };
        let mut findings = lint(chain.leaf(), context);
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        self.problems.extend(findings.into_iter().map(|finding| Problem {
            code: finding.code.to_string(),
            severity: match finding.severity {
                Severity::Error => "error",
                Severity::Notice => "notice",
                Severity::Warning => "warning",
            },
            what: finding.what,
            remedy: finding.remedy,
        }));
    }

    fn chain(&mut self, chain: &Chain, anchors: Option<&TrustAnchors>) {
        let Some(anchors) = anchors else { return };
        self.chain_checked = true;
        if let Err(error) = verify_chain(chain, anchors, self.uses, clock::now()) {
            self.problems.push(Problem::error("chain", error.to_string(), String::new()));
        }
    }

    /// By the CRLs that were given and, if that was asked for, by what the certificates name.
    async fn revocation(
        &mut self,
        chain: &Chain,
        anchors: Option<&TrustAnchors>,
        arguments: &Arguments,
    ) -> anyhow::Result<()> {
        let presented: Vec<Certificate> = chain.iter().cloned().collect();
        let anchors: Vec<Certificate> =
            anchors.iter().flat_map(|anchors| anchors.iter()).cloned().collect();
        let path = Path::of(&presented, &anchors);
        self.revocation = path.by_crls(&arguments.crl, clock::now())?;
        if arguments.online {
            self.revocation.extend(path.online(arguments.timeout, clock::now()).await);
        }
        let asked = arguments.online || !arguments.crl.is_empty();
        if let Some((code, what)) = revocation::problem(&self.revocation, asked) {
            self.problems.push(Problem::error(code, what, revocation::remedy(code).to_owned()));
        }
        Ok(())
    }

    /// Names are matched as clients match them: SANs only, never the common name (RFC 9525 section 6.3).
    fn name(&mut self, chain: &Chain, name: Option<&str>) {
        let Some(name) = name else { return };
        if !is_for(chain.leaf(), name) {
            let leaf = chain.leaf();
            let addresses = leaf.ip_addresses().iter().map(ToString::to_string);
            let names: Vec<String> = leaf.dns_names().iter().cloned().chain(addresses).collect();
            let names =
                if names.is_empty() { "no host at all".to_owned() } else { names.join(", ") };
            self.problems.push(Problem::error(
                "wrong-name",
                format!("it is not for {name}: its subject alternative names are {names}"),
                "dial it by one of its names, or issue it for this one".to_owned(),
            ));
        }
    }

    fn key(
        &mut self,
        credential: Result<Credential, handfast_pki::CredentialError>,
        name: Option<&str>,
        trusted: bool,
    ) {
        let credential = match credential {
            Ok(credential) => credential,
            Err(error) => {
                self.problems.push(Problem::error("key", error.to_string(), String::new()));
                return;
            }
        };
        if !trusted || self.uses == Purpose::Ca {
            return;
        }
        let names: Vec<String> = name.map(ToOwned::to_owned).into_iter().collect();
        let tried = handfast_tls::check(&credential, self.uses, &names, clock::now());
        self.handshake = Some(tried.is_ok());
        self.fault = tried.err().map(|fault| FaultView::from(&fault));
    }

    fn conclude(mut self, context: &Context) -> anyhow::Result<()> {
        let errors = self.problems.iter().filter(|problem| problem.severity == "error").count();
        self.ok = errors == 0 && self.fault.is_none();
        context.output.show(&self, |page| self.draw(page))?;
        if self.ok {
            return Ok(());
        }
        let first = self
            .problems
            .iter()
            .find(|problem| problem.severity == "error")
            .map(|problem| problem.what.clone());
        let why = first
            .or_else(|| self.fault.as_ref().map(|fault| fault.message.clone()))
            .unwrap_or_default();
        Err(Failure::new(
            Exit::Failed,
            format!("it would not be accepted as a {} certificate", self.uses),
        )
        .at(&self.target)
        .because(why)
        .into())
    }

    fn draw(&self, page: &mut Page) {
        if let Some(leaf) = self.certificates.first() {
            leaf.draw(page, clock::now());
        }
        page.gap();
        for problem in &self.problems {
            let tone = match problem.severity {
                "error" => Tone::Bad,
                "warning" => Tone::Warn,
                _ => Tone::Faint,
            };
            page.line(format!(
                "{} {}: {}",
                tone.paint(problem.severity),
                problem.code,
                problem.what
            ));
            if !problem.remedy.is_empty() {
                page.line(format!("  what to do: {}", problem.remedy));
            }
        }
        for finding in &self.revocation {
            page.line(finding.to_string());
        }
        if let Some(fault) = &self.fault {
            page.line(format!("{} in a handshake: {fault}", Tone::Bad.paint("error")));
        }
        if !self.chain_checked {
            page.line("Its chain was not checked: name the CA with --ca FILE.");
        }
        if self.ok {
            let proven = match (self.chain_checked, self.handshake) {
                (true, Some(true)) => "its chain holds, and a handshake with its key succeeded",
                (true, _) => "its chain holds",
                _ => "no error in the certificate itself",
            };
            page.line(format!(
                "{} as a {} certificate: {proven}.",
                Tone::Good.paint("ok"),
                self.uses
            ));
        }
    }
}

fn is_for(leaf: &Certificate, name: &str) -> bool {
    if let Ok(address) = name.parse::<IpAddr>() {
        return leaf.ip_addresses().contains(&address);
    }
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    leaf.dns_names().iter().any(|san| {
        let san = san.trim_end_matches('.').to_ascii_lowercase();
        match san.strip_prefix("*.") {
            Some(parent) => name
                .split_once('.')
                .is_some_and(|(first, rest)| !first.is_empty() && rest == parent),
            None => san == name,
        }
    })
}

fn anchors(arguments: &Arguments) -> anyhow::Result<Option<TrustAnchors>> {
    arguments.ca.as_deref().map(read_anchors).transpose()
}

/// Reads a file of CA certificates.
pub(super) fn read_anchors(path: &std::path::Path) -> anyhow::Result<TrustAnchors> {
    let pem = show::read(path)?;
    TrustAnchors::from_pem(&pem).map_err(|error| {
        Failure::new(Exit::BadInput, "the CA file cannot be read")
            .at(path.display())
            .because(error)
            .into()
    })
}
