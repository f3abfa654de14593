//! `handfast cert export`: a credential of this home in the form that other software reads.

use std::path::PathBuf;

use handfast_api::admin::{ClientError, RecordExport};
use handfast_pki::{
    Certificate, Chain, Credential, Encryption, Pkcs12, SystemEntropy, TrustAnchors,
};
use handfast_store::{Kind, Stored};
use serde::Serialize;
use zeroize::Zeroizing;

use super::files::{NewFile, free, write_all};
use super::passphrase::PassphraseSource;
use super::show;
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node;

/// Arguments of `handfast cert export`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The name of a credential of this home
    name: String,
    /// The form of the file
    #[arg(long, value_enum, default_value_t = Form::Pem)]
    format: Form,
    /// Which part [default: key and chain; for der the certificate]
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// The file to write; `-` is standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseSource,
    /// For pkcs12: 3DES and SHA-1, for Java before 8u301 and other old software
    #[arg(long)]
    legacy: bool,
    /// For pkcs12: what Java calls the entry [default: the credential's name]
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

/// The form of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// One part in binary form
    Der,
    /// Not written; Java reads pkcs12
    Jks,
    /// Text, what most software reads
    Pem,
    /// One file with key, chain and CA, encrypted: for Java, .NET, Windows and browsers
    Pkcs12,
}

/// Which part of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The CA certificates that peers are checked against; with pkcs12 a Java trust store
    Ca,
    /// The certificate without what signed it
    Certificate,
    /// The certificate and what signed it
    Chain,
    /// The private key, as PKCS#8
    Key,
}

/// Has the export recorded, then writes the file.
pub(super) async fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    if arguments.format == Form::Jks {
        return Err(Failure::new(Exit::Usage, "JKS is not written")
            .because("Java has read PKCS#12 since version 8, and has written nothing else since version 9")
            .remedy("export it with --format pkcs12 (with --legacy for Java before 8u301), and name PKCS12 as the store type where Java asks")
            .into());
    }
    let stored = show::load(&arguments.name, context)?;
    let signs = stored.kind == Kind::Issuer;
    let part = arguments.only.or((arguments.format == Form::Der).then_some(Part::Certificate));
    if signs && matches!(part, None | Some(Part::Key)) {
        return Err(Failure::new(Exit::Failed, "the key of an issuer is not exported")
            .at(stored.directory.display())
            .because("whoever holds it can be anybody")
            .remedy("export what others need of it: --only ca, or --only certificate")
            .into());
    }
    let content = content(arguments, &stored, part)?;
    let secret = matches!(part, None | Some(Part::Key));
    let mut export = RecordExport {
        name: stored.name.to_string(),
        what: in_words(arguments, part),
        private_key: secret,
        reason: arguments.reason.clone(),
        failed: None,
    };
    if arguments.out.as_os_str() != "-" {
        free([arguments.out.as_path()], arguments.force)?;
    }
    record(&export, context).await?;
    let written = if arguments.out.as_os_str() == "-" {
        write_out(&content)
    } else {
        let file = NewFile { path: arguments.out.clone(), content: &content, secret };
        write_all(&[file], arguments.force).map(drop)
    };
    if let Err(error) = written {
        export.failed = Some(format!("{error:#}"));
        // That it was about to be done stands in the log already.
        drop(record(&export, context).await);
        return Err(error);
    }
    if arguments.out.as_os_str() == "-" {
        return Ok(());
    }
    let done =
        Done { name: stored.name.to_string(), file: arguments.out.clone(), octets: content.len() };
    context.output.show(&done, |page| page.line(format!("written: {}", done.file.display())))
}

/// Writes the export into the audit log: by the node or, while none runs, by ourselves.
async fn record(export: &RecordExport, context: &Context) -> anyhow::Result<()> {
    let recorded = match context.client().record_export(export).await {
        Err(ClientError::NoNode { .. }) => {
            node::export::record_export_offline(&context.home, export).map(drop)
        }
        answer => answer.map(drop).map_err(Into::into),
    };
    recorded.map_err(|error: anyhow::Error| {
        error.context("the export is not on record, so nothing is exported")
    })
}

fn in_words(arguments: &Arguments, part: Option<Part>) -> String {
    let part = match part {
        None => "key, chain and CA",
        Some(Part::Ca) => "CA certificates",
        Some(Part::Certificate) => "the certificate",
        Some(Part::Chain) => "the chain",
        Some(Part::Key) => "the key",
    };
    let form = match arguments.format {
        Form::Der => "DER",
        Form::Jks => "JKS",
        Form::Pem => "PEM",
        Form::Pkcs12 => "PKCS#12, encrypted",
    };
    let to = match arguments.out.as_os_str() {
        out if out == "-" => "standard output".to_owned(),
        _ => std::path::absolute(&arguments.out)
            .unwrap_or_else(|_| arguments.out.clone())
            .display()
            .to_string(),
    };
    format!("{part} as {form}, to {to}")
}

/// What was exported, for programs.
#[derive(Serialize)]
struct Done {
    name: String,
    file: PathBuf,
    octets: usize,
}

fn content(
    arguments: &Arguments,
    stored: &Stored,
    part: Option<Part>,
) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let unusable = |why: String| {
        Failure::new(Exit::BadInput, format!("the credential `{}` cannot be used", stored.name))
            .at(stored.directory.display())
            .because(why)
    };
    let chain = || -> anyhow::Result<Chain> {
        let pem =
            stored.pem.tls_crt.as_deref().ok_or_else(|| unusable("there is no tls.crt".into()))?;
        Ok(Chain::from_pem(pem).map_err(|error| unusable(error.to_string()))?)
    };
    let anchors = || -> anyhow::Result<TrustAnchors> {
        let pem =
            stored.pem.ca_crt.as_deref().ok_or_else(|| unusable("there is no ca.crt".into()))?;
        Ok(TrustAnchors::from_pem(pem).map_err(|error| unusable(error.to_string()))?)
    };
    // A passphrase given for PEM or DER opens the stored key; for PKCS#12 it closes the new file.
    let opens =
        if arguments.format == Form::Pkcs12 { None } else { arguments.passphrase.given()? };
    let credential = || -> anyhow::Result<Credential> { Ok(stored.credential(opens.as_ref())?) };
    let bytes: Zeroizing<Vec<u8>> = match (arguments.format, part) {
        (Form::Pem, None) => {
            let pem = credential()?.to_pem();
            let mut text =
                Zeroizing::new(Vec::with_capacity(pem.tls_key.len() + pem.tls_crt.len()));
            text.extend_from_slice(pem.tls_key.as_bytes());
            text.extend_from_slice(pem.tls_crt.as_bytes());
            text
        }
        (Form::Pem, Some(Part::Ca)) => Zeroizing::new(anchors()?.to_pem().into_bytes()),
        (Form::Pem, Some(Part::Certificate)) => {
            Zeroizing::new(chain()?.leaf().to_pem().into_bytes())
        }
        (Form::Pem, Some(Part::Chain)) => Zeroizing::new(chain()?.to_pem().into_bytes()),
        (Form::Pem, Some(Part::Key)) => {
            Zeroizing::new(credential()?.key().to_pkcs8_pem().as_bytes().to_vec())
        }
        (Form::Der, Some(Part::Key)) => credential()?.key().to_pkcs8_der(),
        (Form::Der, Some(Part::Certificate)) => Zeroizing::new(chain()?.leaf().der().to_vec()),
        (Form::Der, Some(Part::Ca)) => {
            let anchors = anchors()?;
            let mut all = anchors.iter().map(Certificate::der);
            match (all.next(), all.next()) {
                (Some(only), None) => Zeroizing::new(only.to_vec()),
                _ => return Err(several(arguments)),
            }
        }
        (Form::Der, _) => return Err(several(arguments)),
        (Form::Jks | Form::Pkcs12, part) => pkcs12(arguments, stored, part, &anchors)?,
    };
    Ok(bytes)
}

fn pkcs12(
    arguments: &Arguments,
    stored: &Stored,
    part: Option<Part>,
    anchors: &dyn Fn() -> anyhow::Result<TrustAnchors>,
) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let encryption = if arguments.legacy { Encryption::Legacy } else { Encryption::Modern };
    let alias = arguments.alias.clone().unwrap_or_else(|| stored.name.to_string());
    let written = match part {
        None => {
            let credential = stored.credential(None)?;
            let passphrase = arguments.passphrase.new_one()?;
            Pkcs12::write(&credential, &alias, &passphrase, encryption, &mut SystemEntropy)
        }
        Some(Part::Ca) => {
            let anchors = anchors()?;
            let passphrase = arguments.passphrase.new_one()?;
            Pkcs12::write_trust(&anchors, &alias, &passphrase, encryption, &mut SystemEntropy)
        }
        Some(_) => {
            return Err(Failure::new(
                Exit::Usage,
                "PKCS#12 holds a whole credential, or the CAs alone",
            )
            .remedy("leave --only out, or say --only ca")
            .into());
        }
    };
    Ok(written?)
}

fn several(arguments: &Arguments) -> anyhow::Error {
    Failure::new(Exit::Usage, "DER holds one certificate or one key")
        .remedy(format!(
            "export several with --format pem: handfast cert export {} --format pem",
            arguments.name
        ))
        .into()
}

fn write_out(content: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(content).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to standard output"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
