//! A token for every call, from a file that may change or from the environment.

use std::path::PathBuf;

use handfast_api::secret::Secret;
use handfast_store::read_bounded;
use tokio::sync::watch;

use super::Trouble;
use crate::exit::Exit;
use crate::failure::Failure;

/// Where a token is.
#[derive(Clone)]
pub(in crate::commands) enum TokenFrom {
    File(PathBuf),
    Nowhere,
    /// In the variable of this name.
    Variable(&'static str, Secret),
}

/// A token as it was good last.
pub(in crate::commands) struct Token {
    from: TokenFrom,
    good: Option<Secret>,
    /// Why what lies there is not in use, as it was read last.
    found: Option<String>,
    trouble: watch::Sender<Option<String>>,
}

impl TokenFrom {
    /// The file that was named, else the variable.
    pub(in crate::commands) fn of(
        file: Option<PathBuf>,
        name: &'static str,
        variable: Option<Secret>,
    ) -> Self {
        match (file, variable) {
            (Some(file), _) => Self::File(file),
            (None, Some(secret)) => Self::Variable(name, secret),
            (None, None) => Self::Nowhere,
        }
    }

    /// The file that is to be watched.
    pub(in crate::commands) fn file(&self) -> Option<PathBuf> {
        match self {
            Self::File(file) => Some(file.clone()),
            Self::Nowhere | Self::Variable(..) => None,
        }
    }

    fn read(&self) -> Result<Option<Secret>, Failure> {
        let (secret, exit) = match self {
            Self::Nowhere => return Ok(None),
            Self::Variable(_, secret) => (secret.clone(), Exit::Usage),
            Self::File(file) => {
                let unusable = |why: &dyn std::fmt::Display| {
                    Failure::new(Exit::BadInput, "the token cannot be read")
                        .at(file.display())
                        .because(why)
                        .remedy("write the token into that file, and nothing else")
                };
                let bytes = read_bounded(file, LARGEST).map_err(|error| unusable(&error.source))?;
                let bytes = bytes.ok_or_else(|| unusable(&"it is not there"))?;
                let text = std::str::from_utf8(&bytes).map_err(|error| unusable(&error))?.trim();
                (Secret::new(text), Exit::BadInput)
            }
        };
        let text = secret.reveal();
        if text.is_empty() || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(Failure::new(exit, "the token cannot be sent")
                .at(self.place())
                .because("it is empty, or holds characters that no header may have")
                .remedy("give the token as the other side has it"));
        }
        Ok(Some(secret))
    }

    fn place(&self) -> String {
        match self {
            Self::File(file) => file.display().to_string(),
            Self::Variable(name, _) => (*name).to_owned(),
            Self::Nowhere => String::new(),
        }
    }
}

impl Token {
    /// As it is now.
    pub(in crate::commands) fn open(from: TokenFrom) -> Result<Self, Failure> {
        let good = from.read()?;
        Ok(Self { from, good, found: None, trouble: watch::Sender::new(None) })
    }

    pub(in crate::commands) fn get(&self) -> Option<&Secret> {
        self.good.as_ref()
    }

    /// Why what lies there is not in use, now and later.
    pub(in crate::commands) fn trouble(&self) -> Trouble {
        self.trouble.subscribe()
    }

    /// Reads it again; one that cannot be used is said, and the last good one stays. Followed by [`tell`](Self::tell).
    pub(in crate::commands) fn read_again(&mut self) {
        match self.from.read() {
            Ok(good) => {
                self.good = good;
                self.found = None;
            }
            Err(failure) => {
                let file = self.from.place();
                tracing::error!(
                    file,
                    "what was changed cannot be used; the last good token stays in use"
                );
                self.found = Some(format!("{file}: {failure}"));
            }
        }
    }

    /// Shows what was read last to whoever asks for [`trouble`](Self::trouble), once it is used.
    pub(in crate::commands) fn tell(&self) {
        self.trouble.send_replace(self.found.clone());
    }
}

/// No token is near that, in bytes.
const LARGEST: u64 = 16 * 1024;
