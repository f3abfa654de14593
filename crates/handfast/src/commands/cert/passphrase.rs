//! Passphrases: from a file, from the environment, or typed. Never from the command line, where everybody
//! on the machine could read them.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use handfast_pki::Passphrase;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::show;
use crate::exit::Exit;
use crate::failure::Failure;

/// Where the passphrase of a key or a PKCS#12 file comes from.
#[derive(clap::Args, Debug)]
pub(super) struct PassphraseSource {
    /// A file whose first line is the passphrase
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_env")]
    passphrase_file: Option<PathBuf>,
    /// The environment variable that holds the passphrase
    #[arg(long, value_name = "VARIABLE")]
    passphrase_env: Option<String>,
}

impl PassphraseSource {
    /// The passphrase, if the command line says where it is.
    pub(super) fn given(&self) -> anyhow::Result<Option<Passphrase>> {
        if let Some(path) = &self.passphrase_file {
            let text = Zeroizing::new(show::read(path)?);
            let line = text.split(|octet| *octet == b'\n').next().unwrap_or_default();
            return Ok(Some(Passphrase::new(line.strip_suffix(b"\r").unwrap_or(line))));
        }
        let Some(variable) = &self.passphrase_env else { return Ok(None) };
        match std::env::var_os(variable) {
            Some(value) => Ok(Some(Passphrase::new(value.into_encoded_bytes()))),
            None => Err(Failure::new(Exit::Usage, "there is no passphrase")
                .because(format!("the environment variable {variable} is not set"))
                .into()),
        }
    }

    /// The passphrase for something to be written: given, or typed twice.
    pub(super) fn new_one(&self) -> anyhow::Result<Passphrase> {
        let passphrase = if let Some(passphrase) = self.given()? {
            passphrase
        } else {
            let Some(first) = ask("New passphrase: ")? else {
                return Err(Failure::new(Exit::Usage, "there is no passphrase")
                    .because("none is given, and no terminal is there to ask at")
                    .remedy("give it with --passphrase-file FILE or --passphrase-env VARIABLE")
                    .into());
            };
            let again = ask("Once more: ")?.unwrap_or_default();
            if first != again {
                return Err(Failure::new(Exit::Usage, "the two passphrases differ").into());
            }
            Passphrase::new(first.as_bytes())
        };
        if passphrase.is_empty() {
            return Err(Failure::new(Exit::Usage, "an empty passphrase protects nothing").into());
        }
        Ok(passphrase)
    }

    /// The passphrase for something to be opened: given, or typed if there is a terminal.
    pub(super) fn to_open(&self, what: &str) -> anyhow::Result<Option<Passphrase>> {
        match self.given()? {
            Some(passphrase) => Ok(Some(passphrase)),
            None => Ok(ask(&format!("Passphrase of {what}: "))?
                .map(|text| Passphrase::new(text.as_bytes()))),
        }
    }
}

/// Asks at the terminal, without showing what is typed; `None` where there is no terminal.
fn ask(question: &str) -> anyhow::Result<Option<Zeroizing<String>>> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let Ok(mut terminal) = OpenOptions::new().read(true).write(true).open("/dev/tty") else {
        return Ok(None);
    };
    let failed = "the terminal cannot be read";
    terminal.write_all(question.as_bytes()).context(failed)?;
    let silence = Silence::on(&terminal)?;
    let mut line = Zeroizing::new(String::with_capacity(256));
    BufReader::new(&terminal).read_line(&mut line).context(failed)?;
    drop(silence);
    terminal.write_all(b"\n").context(failed)?;
    let length = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(length);
    Ok(Some(line))
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silence<'a> {
    terminal: &'a File,
    before: rustix::termios::Termios,
}

impl<'a> Silence<'a> {
    fn on(terminal: &'a File) -> anyhow::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // There is nothing to be done about a terminal that went away.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}
