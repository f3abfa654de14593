//! Where the secret comes from that keys at rest are encrypted with: a file, the environment, or a
//! credential of systemd. Read anew at every turn, so that a corrected file is noticed.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use handfast_authority::KeySecrets;
use handfast_pki::Passphrase;
use handfast_store::read_bounded;
use zeroize::Zeroizing;

/// Where to look, in the order of precedence.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeySource {
    /// `--key-file`, or `HANDFAST_KEY_FILE`.
    file: Option<PathBuf>,
    /// `HANDFAST_KEY`, the secret itself.
    passphrase: Option<Zeroizing<String>>,
    /// The systemd credential `handfast-key`, if there is one.
    credential: Option<PathBuf>,
}

impl KeySource {
    /// What the environment says; a file that is named on the command line comes first.
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self::from(file, |name| std::env::var_os(name))
    }

    fn from(file: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let passphrase = set("HANDFAST_KEY").and_then(|value| value.into_string().ok());
        let credential = set("CREDENTIALS_DIRECTORY")
            .map(|directory| PathBuf::from(directory).join("handfast-key"));
        Self {
            file: file.or_else(|| set("HANDFAST_KEY_FILE").map(PathBuf::from)),
            passphrase: passphrase.map(Zeroizing::new),
            credential: credential.filter(|path| path.exists()),
        }
    }

    /// The secrets as they are now.
    pub(crate) fn secrets(&self) -> KeySecrets {
        if let Some(path) = self.file.as_ref().or(self.credential.as_ref()) {
            if self.file.is_none() && self.passphrase.is_some() {
                return KeySecrets::Unavailable(
                    "both HANDFAST_KEY and the systemd credential `handfast-key` are given: take one \
                     away"
                        .to_owned(),
                );
            }
            return from_file(path).unwrap_or_else(|why| {
                KeySecrets::Unavailable(format!("`{}`: {why}", path.display()))
            });
        }
        match &self.passphrase {
            None => KeySecrets::None,
            Some(text) => lines(text.as_bytes())
                .unwrap_or_else(|why| KeySecrets::Unavailable(format!("HANDFAST_KEY: {why}"))),
        }
    }
}

fn from_file(path: &Path) -> Result<KeySecrets, String> {
    let bytes = read_bounded(path, LONGEST).map_err(|error| error.source.to_string())?;
    let bytes = Zeroizing::new(bytes.ok_or("there is no such file")?);
    let mode = std::fs::metadata(path).map_err(|error| error.to_string())?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err("everybody may read it; take that away with chmod o-rwx".to_owned());
    }
    lines(&bytes)
}

/// One secret a line: the first encrypts, the others only open. What is no text is one secret.
fn lines(bytes: &[u8]) -> Result<KeySecrets, String> {
    let secrets: Vec<&[u8]> = match std::str::from_utf8(bytes) {
        Err(_) => vec![bytes],
        Ok(text) => text
            .split('\n')
            .map(|line| line.trim_end_matches('\r').as_bytes())
            .filter(|line| !line.is_empty())
            .collect(),
    };
    match secrets.first() {
        None => Err("it is empty".to_owned()),
        Some(first) if first.len() < SHORTEST => Err(format!(
            "its first line has {} characters, and {SHORTEST} are the least: make one with `openssl \
             rand -base64 32`",
            first.len()
        )),
        Some(_) if secrets.len() > MOST => Err(format!("it has more than {MOST} lines")),
        Some(_) => Ok(KeySecrets::Given(secrets.into_iter().map(Passphrase::new).collect())),
    }
}

/// A key file is a few lines.
const LONGEST: u64 = 16 * 1024;
/// Shorter ones are guessed.
const SHORTEST: usize = 12;
/// Each one costs a tenth of a second for each key that it does not open.
const MOST: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn given(secrets: &[&str]) -> KeySecrets {
        KeySecrets::Given(secrets.iter().map(|secret| Passphrase::new(*secret)).collect())
    }

    #[test]
    fn a_file_gives_a_secret_a_line() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        let source =
            |path: &Path| KeySource { file: Some(path.to_owned()), ..KeySource::default() };
        let write = |text: &[u8], mode: u32| {
            std::fs::write(&path, text).expect("written");
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, mode).expect("set");
        };
        let refused = |part: &str| match source(&path).secrets() {
            KeySecrets::Unavailable(why) => assert!(why.contains(part), "{why}"),
            other => panic!("{other:?}"),
        };
        refused("there is no such file");
        write(b"a new secret\r\n\nan old secret\n", 0o640);
        assert_eq!(source(&path).secrets(), given(&["a new secret", "an old secret"]));
        write(b"a new secret", 0o644);
        refused("everybody may read it");
        write(b"short\nan old secret", 0o600);
        refused("5 characters");
        write(b"\n", 0o600);
        refused("empty");
        write(&[0xff; 32], 0o600);
        assert_eq!(
            source(&path).secrets(),
            KeySecrets::Given(vec![Passphrase::new(vec![0xff; 32])])
        );
    }

    #[test]
    fn what_is_named_comes_before_what_is_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("handfast-key");
        std::fs::write(&file, "from systemd").expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).expect("set");
        let source = |key: Option<&str>, found: bool| {
            KeySource::from(None, |name| match name {
                "HANDFAST_KEY" => key.map(OsString::from),
                "CREDENTIALS_DIRECTORY" if found => Some(directory.path().into()),
                _ => None,
            })
        };
        assert_eq!(source(None, false).secrets(), KeySecrets::None);
        assert_eq!(source(Some("from the shell"), false).secrets(), given(&["from the shell"]));
        assert_eq!(source(None, true).secrets(), given(&["from systemd"]));
        assert!(matches!(source(Some("both of them"), true).secrets(), KeySecrets::Unavailable(_)));
        assert!(!format!("{:?}", source(None, true).secrets()).contains("systemd"));
    }
}
