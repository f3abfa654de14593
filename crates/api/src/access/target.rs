//! What is asked for is about something: the site as a whole, an authority, a credential, an
//! identity. Policies may decide by it.

use std::fmt;
use std::str::FromStr;

/// What an action is about.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Target {
    /// A signing authority, by the word that commands use: `root`, `site`, `local`, `service`.
    Authority(String),
    /// A credential of this site, by its name.
    Credential(String),
    /// Whoever a certificate is or was signed for: its identity or, without one, its first name.
    Identity(String),
    /// A certificate by its serial number, before anybody looked up whose it is.
    Serial(String),
    /// The site as a whole.
    Site,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(name) => write!(f, "authority/{name}"),
            Self::Credential(name) => write!(f, "credential/{name}"),
            Self::Identity(identity) => write!(f, "identity/{identity}"),
            Self::Serial(serial) => write!(f, "serial/{serial}"),
            Self::Site => f.write_str("site"),
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    /// Reads what [`Display`](fmt::Display) writes; a SPIFFE ID alone is an identity.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let read = match text.split_once('/') {
            None if text == "site" => Some(Self::Site),
            Some(("authority", name)) => named(name).map(Self::Authority),
            Some(("credential", name)) => named(name).map(Self::Credential),
            Some(("identity", name)) => named(name).map(Self::Identity),
            Some(("serial", name)) => named(name).map(Self::Serial),
            Some(("spiffe:", _)) => Some(Self::Identity(text.to_owned())),
            _ => None,
        };
        read.ok_or_else(|| TargetError { text: text.chars().take(200).collect() })
    }
}

/// A text that names nothing an action could be about.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{text:?} is nothing that can be asked about; write site, authority/<name>, credential/<name>, \
     identity/<identity> or a SPIFFE ID"
)]
pub struct TargetError {
    /// The text, shortened to 200 characters.
    pub text: String,
}

/// A request says what it is about, so that nothing reaches a node before it was decided upon.
pub trait About {
    /// Everything it is about; it is allowed only if it is for each. Never empty: what is about
    /// nothing in particular is about [`Target::Site`].
    fn about(&self) -> Vec<Target>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_written_as_they_are_read() {
        for text in [
            "site",
            "authority/root",
            "credential/handfast-site-server",
            "identity/spiffe://shop.example/component/web",
            "identity/\"quoted\"",
            "serial/5a",
        ] {
            assert_eq!(text.parse::<Target>().expect(text).to_string(), text);
        }
        let identity = "spiffe://shop.example/component/web";
        assert_eq!(identity.parse(), Ok(Target::Identity(identity.to_owned())));
        for text in ["", "root", "authority/", "sites"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
