//! `handfast cert import`: material of other makers becomes a supplied credential of this home, put in order;
//! or what is wrong with it is said, and what to type.

mod documents;

use std::path::{Path, PathBuf};

use handfast_pki::{Certificate, Host, Import, ImportFile, Name, Passphrase, Purpose, Severity};
use serde::Serialize;
use zeroize::Zeroizing;

use super::files::{NewFile, write_all};
use super::passphrase::PassphraseSource;
use super::view::CertificateView;
use super::{PurposeArgument, show};
use crate::clock;
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Page, Tone};

/// Arguments of `handfast cert import`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Certificates, keys, CAs and requests, in any order: PEM, DER, PKCS#12, or JSON of cfssl, Vault and kubectl
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What it is to be called in this home [default: the common name]
    #[arg(long)]
    name: Option<Name>,
    /// What it is wanted for [default: what it says itself]. A CA becomes an issuer
    #[arg(long, value_enum)]
    purpose: Option<PurposeArgument>,
    #[command(flatten)]
    passphrase: PassphraseSource,
    /// Only say what is there and what is wrong; write nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace the supplied credential of this name
    #[arg(long)]
    force: bool,
}

/// Reads, judges, and writes below `input/`.
pub(super) fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let import = read(&arguments.files, &arguments.passphrase, arguments.purpose.map(Into::into))?;
    let usable = import.is_usable();
    let mut found = Found::of(&import, &arguments.files);
    if usable && !arguments.dry_run {
        match name(arguments, &import) {
            Ok(name) => found.written = write(&name, &import, arguments, context)?,
            Err(failure) => return Err(failure.into()),
        }
    }
    context.output.show(&found, |page| found.draw(page))?;
    if usable {
        return Ok(());
    }
    let first = found.remarks.iter().find(|remark| remark.severity == "error");
    let mut failure =
        Failure::new(Exit::BadInput, "the material cannot be used, and nothing was imported");
    if let Some(first) = first {
        failure = failure.at(&first.place).because(&first.what);
    }
    if let Some(command) = &found.reissue {
        failure = failure.remedy(format!("have it issued anew: {command}"));
    }
    Err(failure.into())
}

/// Reads files into one import; asks for a passphrase if one is needed and somebody is there.
pub(super) fn read(
    paths: &[PathBuf],
    passphrase: &PassphraseSource,
    purpose: Option<Purpose>,
) -> anyhow::Result<Import> {
    let contents: Vec<(String, Zeroizing<Vec<u8>>)> = paths
        .iter()
        .map(|path| {
            let bytes = Zeroizing::new(show::read(path)?);
            let bytes = documents::pem_within(&bytes).unwrap_or(bytes);
            Ok((path.display().to_string(), bytes))
        })
        .collect::<anyhow::Result<_>>()?;
    let with = |passphrase: Option<&Passphrase>| {
        let files: Vec<ImportFile<'_>> =
            contents.iter().map(|(name, bytes)| ImportFile { name, bytes }).collect();
        Import::read(&files, passphrase, purpose, clock::now())
    };
    let given = passphrase.given()?;
    let import = with(given.as_ref());
    let locked = import
        .remarks
        .iter()
        .find(|remark| remark.code == "encrypted-key" && !remark.remedy.starts_with("convert"));
    if let (None, Some(remark)) = (&given, locked)
        && let Some(typed) = passphrase.to_open(&remark.place)?
    {
        return Ok(with(Some(&typed)));
    }
    Ok(import)
}

fn name(arguments: &Arguments, import: &Import) -> Result<Name, Failure> {
    if let Some(name) = &arguments.name {
        return Ok(name.clone());
    }
    let leaf = import.chain.as_ref().map(handfast_pki::Chain::leaf);
    let text = leaf.and_then(Certificate::common_name).unwrap_or_default();
    slug(text).ok_or_else(|| {
        Failure::new(Exit::Usage, "it is not said what the credential is to be called")
            .because(format!("no name can be made of its common name {text:?}"))
            .remedy("name it with --name")
    })
}

/// A name out of a text: lower case, with hyphens for what cannot stand in it.
fn slug(text: &str) -> Option<Name> {
    let slug: String = text
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect();
    slug.trim_matches(['-', '.']).chars().take(60).collect::<String>().parse().ok()
}

fn write(
    name: &Name,
    import: &Import,
    arguments: &Arguments,
    context: &Context,
) -> anyhow::Result<Vec<PathBuf>> {
    let Some(pem) = import.to_pem() else { return Ok(Vec::new()) };
    let parent = match import.purpose {
        Purpose::Ca => &context.home.input_issuers,
        Purpose::Client | Purpose::Server => &context.home.input_certs,
    };
    let directory = parent.join(name.as_str());
    let file =
        |name: &str, content, secret| NewFile { path: directory.join(name), content, secret };
    let mut files = Vec::new();
    if !pem.tls_key.is_empty() {
        files.push(file("tls.key", pem.tls_key.as_bytes(), true));
    }
    files.push(file("ca.crt", pem.ca_crt.as_bytes(), false));
    files.push(file("tls.crt", pem.tls_crt.as_bytes(), false));
    write_all(&files, arguments.force)
}

/// What was found, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Found {
    usable: bool,
    purpose: String,
    /// Leaf first, then what signed it, then the anchors.
    certificates: Vec<CertificateView>,
    has_key: bool,
    has_request: bool,
    remarks: Vec<RemarkView>,
    /// What to type to have the certificate issued by this home, for the same key.
    reissue: Option<String>,
    /// The files that were written.
    written: Vec<PathBuf>,
}

#[derive(Serialize)]
struct RemarkView {
    code: &'static str,
    severity: &'static str,
    place: String,
    what: String,
    remedy: String,
}

impl Found {
    fn of(import: &Import, paths: &[PathBuf]) -> Self {
        let chain = import.chain.iter().flat_map(handfast_pki::Chain::iter);
        let anchors = import.anchors.iter().flat_map(handfast_pki::TrustAnchors::iter);
        let mut certificates: Vec<&Certificate> = Vec::new();
        for certificate in chain.chain(anchors) {
            if !certificates.contains(&certificate) {
                certificates.push(certificate);
            }
        }
        Self {
            usable: import.is_usable(),
            purpose: import.purpose.to_string(),
            certificates: certificates.into_iter().map(CertificateView::of).collect(),
            has_key: import.key.is_some(),
            has_request: import.request.is_some(),
            remarks: import
                .remarks
                .iter()
                .map(|remark| RemarkView {
                    code: remark.code,
                    severity: match remark.severity {
                        Severity::Error => "error",
                        Severity::Notice => "notice",
                        Severity::Warning => "warning",
                    },
                    place: remark.place.clone(),
                    what: remark.what.clone(),
                    remedy: remark.remedy.clone(),
                })
                .collect(),
            reissue: reissue(import, paths),
            written: Vec::new(),
        }
    }

    fn draw(&self, page: &mut Page) {
        for (index, certificate) in self.certificates.iter().enumerate() {
            page.heading(&match index {
                0 => format!("Certificate ({})", self.purpose),
                _ => format!("Its issuer, {index} up"),
            });
            certificate.draw(page, clock::now());
        }
        page.gap();
        for remark in &self.remarks {
            let tone = match remark.severity {
                "error" => Tone::Bad,
                "warning" => Tone::Warn,
                _ => Tone::Faint,
            };
            let severity = tone.paint(remark.severity);
            page.line(format!("{severity} {}: {}: {}", remark.code, remark.place, remark.what));
            if !remark.remedy.is_empty() {
                page.line(format!("  what to do: {}", remark.remedy));
            }
        }
        if let Some(command) = &self.reissue {
            page.line(format!("To have it issued by this home, for the same key:\n  {command}"));
        }
        for file in &self.written {
            page.line(format!("written: {}", file.display()));
        }
        if self.usable && self.written.is_empty() {
            page.line(format!("{}: it can be imported as it is.", Tone::Good.paint("ok")));
        }
    }
}

/// The command that gives the holder of the key a certificate without the faults.
fn reissue(import: &Import, paths: &[PathBuf]) -> Option<String> {
    let leaf = import.chain.as_ref()?.leaf();
    let faulty = import.remarks.iter().any(|remark| {
        remark.severity >= Severity::Warning
            && remark.place == leaf.subject()
            && !matches!(
                remark.code,
                "no-root" | "missing-issuer" | "missing-intermediate" | "no-key"
            )
    });
    if !faulty || import.purpose == Purpose::Ca {
        return None;
    }
    let given = |wanted: &dyn Fn(&[u8]) -> bool| {
        paths.iter().find(|path| std::fs::read(path).is_ok_and(|bytes| wanted(&bytes)))
    };
    let contains = |bytes: &[u8], word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
    let source = if import.request.is_some() {
        given(&|bytes| contains(bytes, b"CERTIFICATE REQUEST")).map(|path| ("--csr", path))
    } else {
        given(&|bytes| contains(bytes, b"PRIVATE KEY")).map(|path| ("--key", path))
    };
    let (option, path) = source?;
    let name = leaf.common_name().and_then(slug)?;
    let profile = if import.purpose == Purpose::Client {
        format!("component --name {name}")
    } else {
        let named = leaf.dns_names().iter().cloned();
        let mut hosts: Vec<String> =
            named.chain(leaf.ip_addresses().iter().map(ToString::to_string)).collect();
        if hosts.is_empty() {
            hosts.extend(leaf.common_name().map(ToOwned::to_owned));
        }
        let hosts = hosts.iter().filter(|host| host.parse::<Host>().is_ok());
        hosts.fold("service-server".to_owned(), |line, host| line + " --host " + host)
    };
    let path = quoted(path);
    Some(format!("handfast cert issue {option} {path} --profile {profile} --out {name}"))
}

fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_common_names() {
        for (text, expect) in [
            ("greeter-client", Some("greeter-client")),
            ("My Service", Some("my-service")),
            ("CN with *", Some("cn-with")),
            ("", None),
            ("***", None),
        ] {
            assert_eq!(slug(text).map(|name| name.to_string()).as_deref(), expect, "{text}");
        }
    }

    #[test]
    fn paths_are_quoted_for_the_shell() {
        assert_eq!(quoted(Path::new("a/b.csr")), "a/b.csr");
        assert_eq!(quoted(Path::new("it's here")), r"'it'\''s here'");
    }
}
