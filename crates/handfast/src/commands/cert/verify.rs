//! `handfast cert verify`: would this be accepted, and if not, why?
//!
//! Three kinds of targets: a PEM file, a credential of this home by name, and a live TLS server as HOST:PORT.

mod file;
mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use handfast_pki::{Passphrase, Purpose};

use super::show;
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
    /// For HOST:PORT: how long it may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = crate::commands::duration)]
    timeout: Duration,
}

/// What a certificate is to be used for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum PurposeArgument {
    Ca,
    Client,
    Server,
}

impl From<PurposeArgument> for Purpose {
    fn from(purpose: PurposeArgument) -> Self {
        match purpose {
            PurposeArgument::Ca => Self::Ca,
            PurposeArgument::Client => Self::Client,
            PurposeArgument::Server => Self::Server,
        }
    }
}

/// Finds out.
pub(super) async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<()> {
    if Path::new(&arguments.target).is_file() {
        return file::of_file(&arguments, context);
    }
    if let Some((host, port)) = host_and_port(&arguments.target) {
        return server::run(&arguments, host, port, context).await;
    }
    let stored = show::load(&arguments.target, context)?;
    file::of_stored(&arguments, &stored, context)
}

/// Splits `host:port` and `[address]:port`. A name of a credential has no colon, so nothing is ambiguous.
fn host_and_port(target: &str) -> Option<(&str, u16)> {
    let (host, port) = target.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some(())?;
    Some((host, port.parse().ok().filter(|port| *port > 0)?))
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

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn servers_are_told_from_names() {
        assert_eq!(host_and_port("localhost:443"), Some(("localhost", 443)));
        assert_eq!(host_and_port("[::1]:443"), Some(("::1", 443)));
        for other in ["handfast-site-server", ":443", "host:", "host:0", "host:70000", "a:b"] {
            assert_eq!(host_and_port(other), None, "{other}");
        }
    }
}
