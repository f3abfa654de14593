//! Who asks: proven by the kernel or by TLS, never by what is asked.

use std::fmt;
use std::str::FromStr;

use handfast_pki::{IdentityKind, Serial, SpiffeId};
use jiff::Timestamp;

/// Somebody, or something, that may be allowed to do things.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Principal {
    /// A user of this machine on the admin socket, by the kernel's word (SO_PEERCRED).
    Local {
        /// The user's number.
        uid: u32,
    },
    /// The holder of an operator certificate, `spiffe://<trust domain>/operator/<name>`.
    Operator {
        /// The identity in the certificate.
        identity: SpiffeId,
    },
}

impl Principal {
    /// The principal of a verified certificate; `None` unless it is an operator's.
    pub fn operator(identity: SpiffeId) -> Option<Self> {
        (identity.kind() == Some(IdentityKind::Operator)).then_some(Self::Operator { identity })
    }
}

impl fmt::Display for Principal {
    /// `uid:1000`, or the SPIFFE ID: as the audit log has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { uid } => write!(f, "uid:{uid}"),
            Self::Operator { identity } => identity.fmt(f),
        }
    }
}

impl FromStr for Principal {
    type Err = PrincipalError;

    fn from_str(text: &str) -> Result<Self, PrincipalError> {
        let wrong = || PrincipalError { text: text.chars().take(200).collect() };
        match text.strip_prefix("uid:") {
            Some(uid) => uid.parse().map(|uid| Self::Local { uid }).map_err(|_| wrong()),
            None => text.parse().ok().and_then(Self::operator).ok_or_else(wrong),
        }
    }
}

/// A text that names nobody.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{text:?} is nobody who could ask; write uid:<number>, or spiffe://<trust domain>/operator/<name>"
)]
pub struct PrincipalError {
    /// The text, shortened to 200 characters.
    pub text: String,
}

/// How a call came in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Via {
    /// Over the admin port, with this certificate.
    Port {
        /// Its serial number.
        serial: Serial,
        /// Its end of validity.
        not_after: Timestamp,
    },
    /// Over the admin socket.
    Socket,
}

/// Who makes a call, and how it came in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    /// Who asks.
    pub principal: Principal,
    /// How the call came in.
    pub via: Via,
    /// The second person, where the two-person rule asked for one.
    pub approved_by: Option<Principal>,
}

impl Caller {
    /// A user of this machine.
    pub fn local(uid: u32) -> Self {
        Self { principal: Principal::Local { uid }, via: Via::Socket, approved_by: None }
    }

    /// What the audit log has as the actor: everybody who had a part in it.
    pub fn actor(&self) -> String {
        match &self.approved_by {
            None => self.principal.to_string(),
            Some(second) => format!("{}, approved by {second}", self.principal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_written_as_they_are_read() {
        for text in ["uid:0", "uid:1000", "spiffe://shop.example/operator/alice"] {
            let read: Principal = text.parse().expect(text);
            assert_eq!(read.to_string(), text);
        }
        for text in [
            "",
            "uid:",
            "uid:-1",
            "uid:root",
            "alice",
            "spiffe://shop.example/site/west",
            "spiffe://shop.example/agent/alice",
            "spiffe://shop.example/operator/",
            "spiffe://shop.example/operator/alice/more",
        ] {
            assert!(text.parse::<Principal>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_actor_names_both_persons() {
        let mut caller = Caller::local(0);
        assert_eq!(caller.actor(), "uid:0");
        caller.approved_by = "spiffe://shop.example/operator/bob".parse().ok();
        assert_eq!(caller.actor(), "uid:0, approved by spiffe://shop.example/operator/bob");
    }
}
