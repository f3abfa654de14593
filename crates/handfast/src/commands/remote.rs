//! A node elsewhere instead of the home's: which credential is shown there, and what cannot be done there.

use std::path::Path;

use handfast_api::admin::Remote;
use handfast_pki::{Credential, Name};
use handfast_store::{CredentialStore as _, DirectoryStore, HomePaths, Kind};

use super::{cert, collector, connector, listener, relay};
use crate::cli::{Command, Globals};
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;

/// The node that the global options name, if they name one.
pub(super) fn named(globals: &Globals, home: &HomePaths) -> anyhow::Result<Option<Remote>> {
    let Some(node) = &globals.node else { return Ok(None) };
    let Some(given) = &globals.client_cert else {
        return Err(Failure::new(Exit::Usage, "a node elsewhere wants to know who you are")
            .at(node)
            .because("no operator credential is named")
            .remedy("add --client-cert NAME (a credential of this home) or --client-cert DIR (with tls.crt, tls.key and ca.crt)")
            .into());
    };
    let credential = if given.contains('/') || Path::new(given).is_dir() {
        from_directory(Path::new(given))?
    } else {
        from_home(given, home)?
    };
    Ok(Some(Remote::new(node.clone(), &credential, clock::now())?))
}

fn from_directory(directory: &Path) -> anyhow::Result<Credential> {
    let read = |name: &str| {
        let path = directory.join(name);
        std::fs::read(&path).map_err(|error| unreadable(&path, &error))
    };
    let (certificate, key, anchors) = (read("tls.crt")?, read("tls.key")?, read("ca.crt")?);
    Ok(Credential::from_pem(&certificate, &key, &anchors, None)?)
}

fn from_home(name: &str, home: &HomePaths) -> anyhow::Result<Credential> {
    let unknown = |why: String| {
        Failure::new(Exit::BadInput, format!("there is no credential `{name}` in this home"))
            .at(home.root.display())
            .because(why)
            .remedy(
                "see `handfast cert list`, or name a directory with tls.crt, tls.key and ca.crt",
            )
    };
    let parsed: Name = name.parse().map_err(|error| unknown(format!("{error}")))?;
    let stored = DirectoryStore::read_only(home).load(Kind::Certificate, &parsed)?;
    let stored = stored.ok_or_else(|| unknown("neither supplied nor made here".to_owned()))?;
    Ok(stored.credential(None)?)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::BadInput, "the operator credential cannot be read")
        .at(path.display())
        .because(error)
        .remedy("--client-cert wants a directory with tls.crt, tls.key and ca.crt")
}

/// What is about files of a home cannot be done on a node elsewhere.
pub(super) fn check(command: &Command) -> anyhow::Result<()> {
    let here = match command {
        Command::Backup(_) => "backup",
        Command::Cert(cert::Verb::Export(_)) => "cert export",
        Command::Cert(cert::Verb::Import(_)) => "cert import",
        Command::Check(_) => "check",
        Command::Collector(
            collector::Verb::Create(_) | collector::Verb::Delete(_) | collector::Verb::Run(_),
        ) => "collector",
        Command::Connector(connector::Verb::Create(_) | connector::Verb::Delete(_)) => "connector",
        Command::Demo(_) => "demo",
        Command::Listener(listener::Verb::Create(_) | listener::Verb::Delete(_)) => "listener",
        Command::Relay(relay::Verb::Create(_) | relay::Verb::Delete(_)) => "relay",
        Command::Restore(_) => "restore",
        Command::Run(_) => "run",
        Command::Site(_) => "site",
        _ => return Ok(()),
    };
    Err(Failure::new(Exit::Usage, format!("`handfast {here}` is about a home of this machine"))
        .because("--node (or HANDFAST_NODE) names a node elsewhere, whose files cannot be read or edited from here")
        .remedy("leave --node away, or type it over there")
        .into())
}
