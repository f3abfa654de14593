//! `handfast cert verify`: would this be accepted, and if not, why?
//!
//! Three kinds of targets: a PEM file, a credential of this home by name, and a live TLS server as HOST:PORT.

mod file;
mod revocation;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use handfast_pki::Passphrase;

use super::target::Target;
use super::{PurposeArgument, show};
use crate::commands::Context;

/// Arguments of `handfast cert verify`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A PEM file, a TLS server, or the name of a credential of this home
    #[arg(value_name = "FILE|HOST:PORT|NAME")]
    target: String,
    /// The CA certificates to trust [default for a credential: its own ca.crt]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// For HOST:PORT: the client certificate to present
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// A CRL to look the certificates up in; may be given several times
    #[arg(long, value_name = "FILE")]
    crl: Vec<PathBuf>,
    /// Ask the OCSP responders and fetch the CRLs that the certificates name, over HTTP
    #[arg(long)]
    online: bool,
    /// The private key of the certificate
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A file whose first line opens the encrypted key
    #[arg(long, value_name = "FILE", requires = "key")]
    passphrase_file: Option<PathBuf>,
    /// The host name or address a server's certificate must be for [default for HOST:PORT: HOST]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What the certificate is for [default: what it says itself]
    #[arg(long, value_enum)]
    purpose: Option<PurposeArgument>,
    /// For HOST:PORT: the application protocol to ask for, like handfast-link/1 or h2
    #[arg(long, value_name = "PROTOCOL")]
    alpn: Option<String>,
    /// For HOST:PORT and --online: how long it may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = crate::commands::duration)]
    timeout: Duration,
}

/// Finds out.
pub(super) async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<()> {
    match Target::of(&arguments.target) {
        Target::File(_) => file::of_file(&arguments, context).await,
        Target::Name(name) => {
            file::of_stored(&arguments, &show::load(&name, context)?, context).await
        }
        Target::Server { host, port } => server::run(&arguments, &host, port, context).await,
    }
}

impl Arguments {
    fn passphrase(&self) -> anyhow::Result<Option<Passphrase>> {
        let Some(path) = &self.passphrase_file else { return Ok(None) };
        let text = zeroize::Zeroizing::new(show::read(path)?);
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Ok(Some(Passphrase::new(line)))
    }
}
