//! `handfast ca create-root`: a root of its own directory, for a machine that stays offline.

use std::path::PathBuf;
use std::time::Duration;

use handfast_pki::{
    IssueRequest, Issuer, KeyAlgorithm, PrivateKey, Profile, SigningKey, Subject, SystemEntropy,
};
use serde::Serialize;

use super::keys;
use crate::clock;
use crate::commands::{duration, words};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Arguments of `handfast ca create-root`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The directory to make it in; it must not have a root yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The root's name, for people
    #[arg(long, value_name = "NAME", default_value = "handfast root")]
    name: String,
    /// How long it lives
    #[arg(long, value_name = "DURATION", default_value = "3650d", value_parser = duration)]
    ttl: Duration,
    /// What kind of key to make
    #[arg(long, value_name = "ALGORITHM", default_value_t = KeyAlgorithm::EcdsaP384, conflicts_with = "pkcs11")]
    key_algorithm: KeyAlgorithm,
    /// Encrypt the key with the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "pkcs11")]
    passphrase_file: Option<PathBuf>,
    /// For a key that is in a token already: its URI (RFC 7512)
    #[arg(long, value_name = "URI")]
    pkcs11: Option<String>,
}

/// What was made, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    directory: String,
    name: String,
    key_id: String,
    fingerprint: String,
    not_after: jiff::Timestamp,
    key: &'static str,
}

/// Makes it.
pub(super) fn run(arguments: &Arguments, output: Output) -> anyhow::Result<()> {
    let directory = std::path::absolute(&arguments.out)?;
    let passphrase = keys::passphrase(arguments.passphrase_file.as_ref())?;
    let mut software = None;
    let key: SigningKey = match &arguments.pkcs11 {
        Some(uri) => {
            let public = keys::public_in_token(uri, &directory)?;
            keys::in_token(uri, &directory, &public)?
        }
        None => software.insert(PrivateKey::generate(arguments.key_algorithm)?).clone().into(),
    };
    let subject = Subject::new(arguments.name.as_str());
    let request = IssueRequest::new(Profile::Root, subject, key.spki_der()).with_ttl(arguments.ttl);
    let root = Issuer::self_signed(&request, key, clock::now(), &mut SystemEntropy)
        .map_err(|error| Failure::new(Exit::Failed, "no root could be made").because(error))?;

    // The certificate last: a directory with it has all the rest.
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .recursive(true)
        .create(&directory)?;
    match (&software, &arguments.pkcs11) {
        (Some(key), _) => {
            let text = match &passphrase {
                Some(passphrase) => key.to_encrypted_pem(passphrase)?,
                None => key.to_pkcs8_pem(),
            };
            keys::write_new(&directory.join("tls.key"), text.as_bytes(), 0o600)?;
        }
        (None, Some(uri)) => {
            keys::write_new(&directory.join("pkcs11.uri"), format!("{uri}\n").as_bytes(), 0o600)?;
        }
        (None, None) => {}
    }
    let certificate = root.certificate();
    keys::write_new(&directory.join("tls.crt"), certificate.to_pem().as_bytes(), 0o644)?;
    let made = Made {
        directory: directory.display().to_string(),
        name: arguments.name.clone(),
        key_id: keys::hex(&root.key().key_id()),
        fingerprint: certificate.fingerprint().to_string(),
        not_after: certificate.not_after(),
        key: match (&arguments.pkcs11, &passphrase) {
            (Some(_), _) => "token",
            (None, Some(_)) => "encrypted",
            (None, None) => "plain",
        },
    };
    output.show(&made, |page| {
        page.fields(&[
            ("root", made.name.clone()),
            ("directory", made.directory.clone()),
            ("key", made.key.to_owned()),
            ("until", words::moment(Some(made.not_after), clock::now())),
            ("fingerprint", made.fingerprint.clone()),
        ]);
        page.line("Bring tls.crt, and nothing else, to each home that trusts it:");
        page.line("  input/issuers/handfast-root/tls.crt");
        if made.key == "plain" {
            page.line("The key is not encrypted: whoever can read tls.key can sign. --passphrase-file encrypts it.");
        }
    })
}
