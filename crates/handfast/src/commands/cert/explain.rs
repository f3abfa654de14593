//! `handfast cert explain`: a certificate or a fault code in plain words: what it is for, who trusts it, what
//! it may do, what is wrong with it and what to do.

use std::str::FromStr as _;

use handfast_pki::{Certificate, Eku, IdentityKind, LintContext, Purpose, Severity, lint};
use handfast_tls::FaultCode;
use handfast_tls::probe::{Probe, connect};
use jiff::Timestamp;
use serde::Serialize;

use super::target::Target;
use super::{intended, show};
use crate::clock;
use crate::commands::{Context, words};
use crate::output::Page;

/// Arguments of `handfast cert explain`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A PEM file, a TLS server, the name of a credential of this home, or the code of a fault
    #[arg(value_name = "FILE|HOST:PORT|NAME|FAULT-CODE")]
    target: String,
    /// For HOST:PORT: how long it may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = crate::commands::duration)]
    timeout: std::time::Duration,
}

/// Explains.
pub(super) async fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    if let Ok(code) = FaultCode::from_str(&arguments.target) {
        return fault(code, context);
    }
    let now = clock::now();
    let mut seen = None;
    let certificates: Vec<Certificate> = match Target::of(&arguments.target) {
        Target::File(path) => show::read_chain(&path)?.iter().cloned().collect(),
        Target::Name(name) => {
            show::chain_of(&show::load(&name, context)?)?.iter().cloned().collect()
        }
        Target::Server { host, port } => {
            let mut probe = Probe::new(&host, port, None);
            probe.limit = arguments.timeout;
            let report = connect(&probe, now).await;
            if let (true, Some(fault)) = (report.chain.is_empty(), report.fault.clone()) {
                return Err(fault.into());
            }
            seen = Some(match (&report.session, &report.fault) {
                (_, Some(fault)) => format!("the connection failed: {}", fault.one_line()),
                (Some(session), None) => {
                    format!("{} with {} and {}", session.version, session.cipher, session.group)
                }
                (None, None) => "no connection came about".to_owned(),
            });
            report.chain
        }
    };
    let explained = Explained {
        target: arguments.target.clone(),
        connection: seen,
        certificates: certificates.iter().map(|one| Sentences::of(one, now)).collect(),
    };
    context.output.show(&explained, |page| explained.draw(page))
}

/// A fault code, as its page in the documentation has it.
fn fault(code: FaultCode, context: &Context) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Fault<'a> {
        code: &'a str,
        summary: &'a str,
        text: &'a str,
    }
    let heading = format!("\n## `{code}`\n");
    let text = PAGE
        .split_once(&heading)
        .map(|(_, after)| after.split_once("\n## `").map_or(after, |(section, _)| section))
        .unwrap_or_default()
        .trim();
    let fault = Fault { code: code.as_str(), summary: code.summary(), text };
    context.output.show(&fault, |page| {
        page.line(format!("{}: {}", fault.code, fault.summary));
        page.gap();
        page.line(fault.text.replace("**", ""));
    })
}

/// The reference of fault codes; a test of `handfast-tls` keeps it complete.
const PAGE: &str = include_str!("../../../../../docs/faults.md");

/// What is said, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Explained {
    target: String,
    /// How the connection went, where one was made.
    connection: Option<String>,
    certificates: Vec<Sentences>,
}

/// One certificate in sentences.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sentences {
    what: String,
    may: Vec<String>,
    trusted_by: String,
    validity: String,
    wrong: Vec<Wrong>,
}

#[derive(Serialize)]
struct Wrong {
    code: &'static str,
    what: String,
    remedy: String,
}

impl Explained {
    fn draw(&self, page: &mut Page) {
        if let Some(connection) = &self.connection {
            page.line(format!("{}: {connection}", self.target));
            page.gap();
        }
        for (index, one) in self.certificates.iter().enumerate() {
            if index > 0 {
                page.gap();
            }
            page.line(format!("{}.", one.what));
            page.line(format!("It may {}.", list(&one.may)));
            page.line(format!("{}.", one.trusted_by));
            page.line(format!("{}.", one.validity));
            if one.wrong.is_empty() {
                page.line("Nothing is wrong with it by itself.");
            }
            for wrong in &one.wrong {
                page.line(format!("Wrong: {} [{}]", wrong.what, wrong.code));
                page.line(format!("  To do: {}", wrong.remedy));
            }
        }
    }
}

impl Sentences {
    fn of(certificate: &Certificate, now: Timestamp) -> Self {
        let purpose = intended(certificate);
        Self {
            what: what(certificate, purpose),
            may: may(certificate),
            trusted_by: trusted_by(certificate),
            validity: validity(certificate, now),
            wrong: lint(certificate, LintContext { purpose, now })
                .into_iter()
                .filter(|finding| finding.severity >= Severity::Warning)
                .map(|finding| Wrong {
                    code: finding.code.as_str(),
                    what: finding.what,
                    remedy: finding.remedy,
                })
                .collect(),
        }
    }
}

fn what(certificate: &Certificate, purpose: Purpose) -> String {
    let kind = match purpose {
        Purpose::Ca => "a CA certificate",
        Purpose::Client => "a client certificate",
        Purpose::Server => "a server certificate",
    };
    let identity = certificate.spiffe_id().ok().flatten();
    let holder = match identity
        .as_ref()
        .and_then(|identity| Some((identity.kind()?, identity.name()?)))
    {
        Some((IdentityKind::Agent, name)) => format!("the telemetry agent of {name}"),
        Some((IdentityKind::Component, name)) => format!("the component {name}"),
        Some((IdentityKind::Operator, name)) => format!("the operator {name}"),
        Some((IdentityKind::Site, name)) => format!("the site {name}"),
        None => format!("{:?}", certificate.common_name().unwrap_or_else(|| certificate.subject())),
    };
    let domain = identity
        .map(|identity| format!(" in the trust domain {}", identity.trust_domain()))
        .unwrap_or_default();
    format!(
        "This is {kind} (X.509 version {}) for {holder}{domain}, with a key of {}",
        certificate.version(),
        certificate.key_algorithm()
    )
}

fn may(certificate: &Certificate) -> Vec<String> {
    let mut may = Vec::new();
    if certificate.is_ca() {
        may.push(match certificate.path_len() {
            Some(0) => "sign certificates that sign nothing themselves".to_owned(),
            Some(count) => format!("sign certificates, with up to {count} further CAs below it"),
            None => "sign certificates, and CAs without limit".to_owned(),
        });
    }
    let usages = certificate.extended_key_usage().unwrap_or_default();
    let hosts = certificate.dns_names().iter().cloned();
    let hosts: Vec<String> =
        hosts.chain(certificate.ip_addresses().iter().map(ToString::to_string)).collect();
    if usages.contains(&Eku::ServerAuth) {
        may.push(if hosts.is_empty() {
            "act as a server, of no host at all".to_owned()
        } else {
            format!("act as the server of {}", list(&hosts))
        });
    }
    if usages.contains(&Eku::ClientAuth) {
        may.push("prove who it is to servers".to_owned());
    }
    if may.is_empty() {
        may.push("do nothing that it says itself; strict peers refuse it".to_owned());
    }
    may
}

fn trusted_by(certificate: &Certificate) -> String {
    if certificate.is_self_signed() {
        return "It signed itself: whoever has this very certificate among the trusted ones trusts it".to_owned();
    }
    format!(
        "{:?} signed it: whoever trusts that CA, or one above it, trusts it",
        certificate.issuer()
    )
}

fn validity(certificate: &Certificate, now: Timestamp) -> String {
    let (begin, end) = (certificate.not_before(), certificate.not_after());
    if now > end {
        return format!("It ended {} ({})", words::distance(end, now), words::whole_seconds(end));
    }
    if now < begin {
        return format!(
            "It begins {} ({})",
            words::distance(begin, now),
            words::whole_seconds(begin)
        );
    }
    format!("It is valid, and ends {} ({})", words::distance(end, now), words::whole_seconds(end))
}

/// `a`, `a and b`, `a, b and c`.
fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_code_has_its_page() {
        for code in FaultCode::ALL {
            assert!(PAGE.contains(&format!("\n## `{code}`\n")), "{code}");
        }
        let one = |text: &str| text.to_owned();
        assert_eq!(list(&[one("a"), one("b"), one("c")]), "a, b and c");
    }
}
