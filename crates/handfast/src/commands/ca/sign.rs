//! `handfast ca sign`: requests of CAs, signed with a key that is kept elsewhere. No home, no node, no
//! network; a record of its own.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handfast_authority::{CaTerms, ca_terms, sign_ca};
use handfast_pki::{Certificate, Chain, Csr, Issuer, SigningKey, SystemEntropy, TrustAnchors};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::keys;
use crate::clock;
use crate::commands::{duration, words};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};

/// Arguments of `handfast ca sign`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The file with the requests
    file: PathBuf,
    /// Where the certificates go
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The directory of the signing CA: tls.crt, tls.key or pkcs11.uri, and ca.crt for one that has another above it
    #[arg(long, value_name = "DIR", required_unless_present = "cert")]
    issuer_dir: Option<PathBuf>,
    /// The certificate of the signing CA, with those above it
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with = "issuer_dir")]
    cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The file with the passphrase of the key
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// How long the certificates live
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = duration)]
    ttl: Duration,
    /// The record of what was signed [default: signed.jsonl beside the certificate of the signing CA]
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Sign without asking
    #[arg(long)]
    yes: bool,
}

/// One line of the record.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Signed {
    at: Timestamp,
    name: String,
    key_id: String,
    serial: String,
    issuer: String,
    not_after: Timestamp,
    certificate: String,
}

/// Signs them.
pub(super) fn run(arguments: &Arguments, output: Output) -> anyhow::Result<()> {
    let issuer = issuer(arguments)?;
    let requests = Csr::several_from_pem(&keys::read(&arguments.file)?).map_err(|error| {
        Failure::new(Exit::BadInput, "the requests cannot be used")
            .at(arguments.file.display())
            .because(error)
            .remedy("bring the file anew from where it was made: `handfast ca request`")
    })?;
    let refused = |error: handfast_authority::CaRefusal| {
        Failure::new(Exit::Refused, "the request is not signed")
            .at(arguments.file.display())
            .because(error)
    };
    let mut work: Vec<(Csr, CaTerms)> = Vec::new();
    for csr in requests {
        let terms = ca_terms(&csr, arguments.ttl).map_err(refused)?;
        work.push((csr, terms));
    }
    let record = arguments.record.clone().unwrap_or_else(|| record_beside(arguments));
    let before = read_record(&record)?;
    if !arguments.yes {
        ask(&issuer, &work, &before, output)?;
    }
    if arguments.out.symlink_metadata().is_ok() {
        // Before anything is signed that would have no place to go.
        return Err(Failure::new(Exit::Failed, "there is a file of that name already")
            .at(arguments.out.display())
            .remedy("name another with --out, or move this one away")
            .into());
    }
    let now = clock::now();
    let mut made: Vec<Certificate> = Vec::new();
    for (csr, terms) in &work {
        made.push(sign_ca(&issuer, csr, terms, now, &mut SystemEntropy).map_err(refused)?);
    }
    let signed: Vec<Signed> = work
        .iter()
        .zip(&made)
        .map(|((_, terms), certificate)| Signed {
            at: now,
            name: terms.common_name.clone(),
            key_id: keys::hex(&terms.key_id),
            serial: certificate.serial().to_string(),
            issuer: certificate.issuer().to_owned(),
            not_after: certificate.not_after(),
            certificate: certificate.to_pem(),
        })
        .collect();
    append_record(&record, &signed)?;
    let mut text: String = made.iter().map(Certificate::to_pem).collect();
    // What is above, but not what signs itself: that is trusted where it lies already, or not at all.
    text.extend(issuer.chain().iter().filter(|ca| !ca.is_self_issued()).map(Certificate::to_pem));
    keys::write_new(&arguments.out, text.as_bytes(), 0o644)?;
    output.show(&signed, |page| {
        for one in &signed {
            let until = words::moment(Some(one.not_after), now);
            page.line(format!("{} is signed, serial {}, until {until}.", one.name, one.serial));
        }
        page.line(format!("Bring {} back, and type there:", arguments.out.display()));
        page.line(format!("  handfast ca install {}", arguments.out.display()));
    })
}

fn issuer(arguments: &Arguments) -> anyhow::Result<Issuer> {
    let certificate = certificate_path(arguments);
    let unusable = |error: String| {
        Failure::new(Exit::BadInput, "the signing CA cannot be used")
            .at(certificate.display())
            .because(error)
    };
    let chain =
        Chain::from_pem(&keys::read(&certificate)?).map_err(|error| unusable(error.to_string()))?;
    let passphrase = keys::passphrase(arguments.passphrase_file.as_ref())?;
    let beside = |file: &str| arguments.issuer_dir.as_ref().map(|directory| directory.join(file));
    let uri = beside("pkcs11.uri").filter(|path| path.exists());
    let key: SigningKey = match (&uri, &arguments.key) {
        (Some(path), _) => {
            let text = keys::read(path)?;
            let uri = std::str::from_utf8(&text).map_err(|error| unusable(error.to_string()))?;
            let expected =
                chain.leaf().public_key().map_err(|error| unusable(error.to_string()))?;
            let directory = path.parent().unwrap_or(Path::new("."));
            keys::in_token(uri.trim(), &std::path::absolute(directory)?, &expected)?
        }
        (None, Some(key)) => keys::from_file(key, passphrase.as_ref())?.into(),
        (None, None) => {
            let path = beside("tls.key").unwrap_or_default();
            keys::from_file(&path, passphrase.as_ref())?.into()
        }
    };
    let anchors = if let Some(path) = beside("ca.crt").filter(|path| path.exists()) {
        TrustAnchors::from_pem(&keys::read(&path)?)
    } else {
        // The last one above is what this chain leads up to.
        let last = chain.iter().last().unwrap_or(chain.leaf());
        TrustAnchors::from_pem(last.to_pem().as_bytes())
    };
    let anchors = anchors.map_err(|error| unusable(error.to_string()))?;
    Issuer::from_parts(chain.clone(), key, anchors)
        .map_err(|error| unusable(error.to_string()).into())
}

fn certificate_path(arguments: &Arguments) -> PathBuf {
    match (&arguments.cert, &arguments.issuer_dir) {
        (Some(path), _) => path.clone(),
        (None, Some(directory)) => directory.join("tls.crt"),
        (None, None) => PathBuf::from("tls.crt"),
    }
}

fn record_beside(arguments: &Arguments) -> PathBuf {
    certificate_path(arguments).with_file_name("signed.jsonl")
}

/// Shows what will be signed, and asks.
fn ask(
    issuer: &Issuer,
    work: &[(Csr, CaTerms)],
    before: &[Signed],
    output: Output,
) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() || output.format() != Format::Text {
        return Err(Failure::new(Exit::Usage, "nobody can be asked whether to sign")
            .because("this is not a terminal, or the answer is for a program")
            .remedy("look at the requests, and add --yes")
            .into());
    }
    let mut error = anstream::stderr();
    writeln!(error, "{} signs:", issuer.certificate().subject())?;
    for (_, terms) in work {
        let id = keys::hex(&terms.key_id);
        writeln!(error, "  CA     {}", terms.common_name)?;
        writeln!(error, "  key    {} {}", terms.key_algorithm, keys::grouped(&id))?;
        writeln!(
            error,
            "  for    {} days, to sign certificates and no other CA",
            terms.ttl.as_secs() / 86_400
        )?;
        if let Some(known) = before.iter().rev().find(|known| known.key_id == id) {
            writeln!(
                error,
                "  note   this key was signed before, on {}, as {}",
                known.at, known.name
            )?;
        }
        writeln!(error)?;
    }
    write!(error, "Compare the keys with those that `handfast ca request` showed. Sign? [y/N] ")?;
    error.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, "nothing was signed").because("the answer was no").into())
}

fn read_record(path: &Path) -> anyhow::Result<Vec<Signed>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = keys::read(path)?;
    let lines = text.split(|octet| *octet == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            serde_json::from_slice(line).map_err(|error| {
                Failure::new(Exit::BadInput, "the record of what was signed is damaged")
                    .at(path.display())
                    .because(error)
                    .remedy("keep it for analysis, and name another with --record")
                    .into()
            })
        })
        .collect()
}

/// What is signed is on record before anybody gets it.
fn append_record(path: &Path, signed: &[Signed]) -> anyhow::Result<()> {
    let mut text = Vec::new();
    for one in signed {
        serde_json::to_writer(&mut text, one)?;
        text.push(b'\n');
    }
    let write = || {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        file.write_all(&text)?;
        file.sync_all()
    };
    write().map_err(|error| {
        Failure::new(Exit::Home, "nothing is handed out, because it could not be recorded")
            .at(path.display())
            .because(error)
            .into()
    })
}
