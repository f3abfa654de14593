//! `handfast cert lint`: what is wrong with each certificate of a file by itself.

use handfast_pki::{Certificate, Chain, LintContext, Purpose, Severity, lint};
use serde::Serialize;

use super::target::Target;
use super::{PurposeArgument, intended, show};
use crate::clock;
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Tone;

/// Arguments of `handfast cert lint`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A PEM or DER file, or the name of a credential of this home
    #[arg(value_name = "FILE|NAME")]
    target: String,
    /// What the first certificate is for [default: what it says itself]
    #[arg(long, value_enum)]
    purpose: Option<PurposeArgument>,
    /// Fail on warnings too
    #[arg(long)]
    strict: bool,
}

/// Lints; warnings are shown and tolerated.
pub(super) fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let chain = match Target::of(&arguments.target) {
        Target::File(path) => show::read_chain(&path)?,
        Target::Name(name) => show::chain_of(&show::load(&name, context)?)?,
        Target::Server { .. } => {
            return Err(Failure::new(Exit::Usage, "a server is verified, not linted")
                .remedy(context.command(&format!("cert verify {}", arguments.target)))
                .into());
        }
    };
    let purpose = arguments.purpose.map_or_else(|| intended(chain.leaf()), Into::into);
    let findings = findings(&chain, purpose);
    context.output.show(&findings, |page| {
        if findings.is_empty() {
            page.line(format!("{}: nothing is wrong.", Tone::Good.paint("ok")));
        }
        for finding in &findings {
            let tone = match finding.severity {
                "error" => Tone::Bad,
                "warning" => Tone::Warn,
                _ => Tone::Faint,
            };
            let severity = tone.paint(finding.severity);
            page.line(format!(
                "{severity} {}: {}: {}",
                finding.code, finding.subject, finding.what
            ));
            page.line(format!("  what to do: {}", finding.remedy));
        }
    })?;
    let bad = |finding: &&FindingView| {
        finding.severity == "error" || (arguments.strict && finding.severity == "warning")
    };
    let Some(first) = findings.iter().find(bad) else { return Ok(()) };
    let count = findings.iter().filter(bad).count();
    Err(Failure::new(Exit::Failed, format!("{count} findings that must not be"))
        .at(&arguments.target)
        .because(&first.what)
        .remedy(&first.remedy)
        .into())
}

fn findings(chain: &Chain, purpose: Purpose) -> Vec<FindingView> {
    let now = clock::now();
    let of = |certificate: &Certificate, purpose| {
        let subject = certificate.subject().to_owned();
        lint(certificate, LintContext { purpose, now }).into_iter().map(move |finding| {
            FindingView {
                subject: subject.clone(),
                code: finding.code.as_str(),
                severity: match finding.severity {
                    Severity::Error => "error",
                    Severity::Notice => "notice",
                    Severity::Warning => "warning",
                },
                what: finding.what,
                remedy: finding.remedy,
            }
        })
    };
    let above = chain.rest().iter().flat_map(|certificate| of(certificate, Purpose::Ca));
    of(chain.leaf(), purpose).chain(above).collect()
}

#[derive(Serialize)]
struct FindingView {
    subject: String,
    code: &'static str,
    severity: &'static str,
    what: String,
    remedy: String,
}
