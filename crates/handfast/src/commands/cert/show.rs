//! `handfast cert show`: every certificate of a credential of this home, or of a file, in full.

use std::path::Path;

use handfast_api::resources::nearest;
use handfast_pki::{Chain, Name};
use handfast_store::{CredentialStore as _, DirectoryStore, Kind, Stored};
use serde::Serialize;

use super::view::CertificateView;
use crate::clock;
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Arguments of `handfast cert show`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The name of a credential of this home, or a PEM file
    #[arg(value_name = "NAME|FILE")]
    target: String,
}

/// Prints it.
pub(super) fn run(arguments: Arguments, context: &Context) -> anyhow::Result<()> {
    let (from, chain) = find(&arguments.target, context)?;
    let certificates = chain.iter().map(CertificateView::of).collect();
    let shown = Shown { from, certificates };
    context.output.show(&shown, |page| {
        page.line(&shown.from);
        let now = clock::now();
        for (index, certificate) in shown.certificates.iter().enumerate() {
            let title = if index == 0 {
                "Certificate".to_owned()
            } else {
                format!("Its issuer, {index} up")
            };
            page.heading(&title);
            certificate.draw(page, now);
        }
    })
}

/// What `cert show` found, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    /// The file or directory it was read from.
    from: String,
    /// Leaf first.
    certificates: Vec<CertificateView>,
}

fn find(target: &str, context: &Context) -> anyhow::Result<(String, Chain)> {
    let path = Path::new(target);
    if path.is_file() {
        return Ok((target.to_owned(), read_chain(path)?));
    }
    let stored = load(target, context)?;
    Ok((stored.directory.display().to_string(), chain_of(&stored)?))
}

/// The certificates of a credential, leaf first.
pub(super) fn chain_of(stored: &Stored) -> anyhow::Result<Chain> {
    let from = stored.directory.display();
    let name = &stored.name;
    let Some(pem) = &stored.pem.tls_crt else {
        let what = format!("the credential `{name}` has no certificate");
        let failure = Failure::new(Exit::BadInput, what).at(from).because("there is no tls.crt");
        return Err(failure.into());
    };
    Chain::from_pem(pem).map_err(|error| {
        let what = format!("the certificate of `{name}` cannot be read");
        Failure::new(Exit::BadInput, what).at(from).because(error).into()
    })
}

/// Reads the certificates of a PEM file, leaf first.
pub(super) fn read_chain(path: &Path) -> anyhow::Result<Chain> {
    let pem = read(path)?;
    Chain::from_pem(&pem).map_err(|error| {
        Failure::new(Exit::BadInput, "the certificate cannot be read")
            .at(path.display())
            .because(error)
            .into()
    })
}

/// Reads a file that the user named.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        Failure::new(Exit::BadInput, "the file cannot be read")
            .at(path.display())
            .because(error)
            .remedy("check the path, and who may read it")
            .into()
    })
}

/// Finds a credential of this home by its name.
pub(super) fn load(target: &str, context: &Context) -> anyhow::Result<Stored> {
    let unknown = |why: String| {
        Failure::new(
            Exit::BadInput,
            format!("`{target}` is neither a file nor a credential of this home"),
        )
        .at(context.home.root.display())
        .because(why)
        .remedy(format!("see what there is: {}", context.command("cert list")))
    };
    let name: Name = target.parse().map_err(|error| unknown(format!("{error}")))?;
    let store = DirectoryStore::read_only(&context.home);
    let mut known = Vec::new();
    for kind in [Kind::Certificate, Kind::Issuer] {
        if let Some(stored) = store.load(kind, &name)? {
            return Ok(stored);
        }
        known.extend(store.list(kind)?);
    }
    let unknown = unknown("there is none of this name".to_owned());
    Err(match nearest(target, known.iter().map(Name::as_str)) {
        Some(near) => unknown.remedy(format!("did you mean `{near}`?")),
        None => unknown,
    }
    .into())
}
