//! What a relay's TLS is made of, by the habits of the Java agent: which files are there, and what that means. A pure
//! decision; `files` looks.
//!
//! | CA | key and chain | `SW_AGENT_FORCE_TLS` | |
//! |---|---|---|---|
//! | - | - | - | plaintext |
//! | - | - | yes | TLS, the system's trust |
//! | there | - | any | TLS, this CA |
//! | there | both | any | mutual TLS, this CA |
//! | - | both | yes | mutual TLS, the system's trust |
//! | - | both | - | refused: nothing says whom the certificate may be shown to |
//! | any | one of them | any | refused: it would be less than what was meant |
//! | broken, or named and missing | any | any | refused |

use std::path::{Path, PathBuf};

use handfast_pki::{Chain, Credential, PrivateKey, TrustAnchors};
use handfast_telemetry::upstream::Backend;
use handfast_tls::{ClientOptions, ClientTrust, Fault, Floor, SystemTrust, client_config_trusting};
use thiserror::Error;
use zeroize::Zeroizing;

use super::AgentEnvironment;
use crate::secret::Secret;

/// How to report: whom to trust, what to show, where to.
#[derive(Clone, Debug)]
pub struct Material {
    /// What the collector is known by.
    pub trust: MaterialTrust,
    /// What is shown to it.
    pub identity: Option<Credential>,
    /// The token for every call.
    pub authentication: Option<Secret>,
    /// Where it is.
    pub backends: Vec<Backend>,
}

/// What a collector is known by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MaterialTrust {
    /// By these CAs.
    Ca(TrustAnchors),
    /// By nothing: no TLS.
    Plain,
    /// By the CAs of the operating system.
    System(SystemTrust),
}

impl Material {
    /// What to dial with; `None` for no TLS.
    pub fn client_trust(&self) -> Option<ClientTrust> {
        match &self.trust {
            MaterialTrust::Ca(anchors) => Some(ClientTrust::Anchors(anchors.clone())),
            MaterialTrust::Plain => None,
            MaterialTrust::System(system) => Some(ClientTrust::System(system.clone())),
        }
    }

    /// What this protects less than `before` did, if anything: a file that vanishes while a relay runs turns nothing off.
    ///
    /// # Errors
    /// [`MaterialFault::Gone`].
    pub fn no_weaker_than(&self, before: &Self) -> Result<(), MaterialFault> {
        let gone = |what| Err(MaterialFault::Gone { what });
        match (&before.trust, &self.trust) {
            (MaterialTrust::Ca(_) | MaterialTrust::System(_), MaterialTrust::Plain) => gone("TLS"),
            (MaterialTrust::Ca(_), MaterialTrust::System(_)) => gone("the CA"),
            _ if before.identity.is_some() && self.identity.is_none() => gone("the certificate"),
            _ => Ok(()),
        }
    }

    /// Decides by the table above. `system` reads the system's bundle, where that is needed.
    ///
    /// What comes out has been made into a TLS configuration once, so it can be dialled with.
    ///
    /// # Errors
    /// What is missing, broken or half there, by its file.
    pub fn decide(
        environment: &AgentEnvironment,
        seen: &Sighted,
        system: impl FnOnce() -> Result<SystemTrust, Fault>,
    ) -> Result<Self, MaterialFault> {
        let ca = match there(&seen.ca)? {
            None => None,
            Some(pem) => Some(TrustAnchors::from_pem(pem).map_err(|e| seen.ca.broken(&e))?),
        };
        let pair = match (there(&seen.key)?, there(&seen.chain)?) {
            (None, None) => None,
            (Some(_), None) => return Err(half(&seen.key, &seen.chain)),
            (None, Some(_)) => return Err(half(&seen.chain, &seen.key)),
            (Some(key), Some(chain)) => {
                let key = PrivateKey::read(key, None).map_err(|error| seen.key.broken(&error))?;
                Some((Chain::from_pem(chain).map_err(|error| seen.chain.broken(&error))?, key))
            }
        };
        let trust = match (ca, environment.force_tls, &pair) {
            (Some(anchors), ..) => MaterialTrust::Ca(anchors),
            (None, true, _) => MaterialTrust::System(system().map_err(Box::new)?),
            (None, false, None) => MaterialTrust::Plain,
            (None, false, Some(_)) => {
                return Err(MaterialFault::NobodyToTrust {
                    chain: seen.chain.path.clone(),
                    ca: seen.ca.path.clone(),
                });
            }
        };
        let anchors = match &trust {
            MaterialTrust::Ca(anchors) => Some(anchors),
            MaterialTrust::Plain => None,
            MaterialTrust::System(system) => Some(system.anchors()),
        };
        let identity = match (pair, anchors) {
            (Some((chain, key)), Some(anchors)) => Some(
                Credential::new(chain, key, anchors.clone())
                    .map_err(|error| seen.chain.broken(&error))?,
            ),
            _ => None,
        };
        let material = Self {
            trust,
            identity,
            authentication: environment.authentication.clone(),
            backends: environment.backends.clone(),
        };
        if let Some(trust) = material.client_trust() {
            let options = ClientOptions { floor: Floor::Tls12, ..ClientOptions::default() };
            client_config_trusting(material.identity.as_ref(), &trust, &options)
                .map_err(|fault| seen.chain.broken(&fault.one_line()))?;
        }
        Ok(material)
    }
}

/// The files of a relay's TLS as they were seen.
#[derive(Clone, Debug)]
pub struct Sighted {
    /// The CA that the collector chains to.
    pub ca: Sought,
    /// Our private key.
    pub key: Sought,
    /// Our certificate and its issuers.
    pub chain: Sought,
}

/// One file that was looked for.
#[derive(Clone, Debug)]
pub struct Sought {
    /// Where.
    pub path: PathBuf,
    /// Whether somebody named it; else it is where such a file lies by habit.
    pub named: bool,
    /// What was found.
    pub seen: Seen,
}

/// What was found of a file.
#[derive(Clone)]
pub enum Seen {
    /// Its content.
    Content(Zeroizing<Vec<u8>>),
    /// It is not there.
    Missing,
    /// It is there, and cannot be read.
    Unreadable(String),
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Content(bytes) => write!(f, "Content(<{} bytes>)", bytes.len()),
            Self::Missing => f.write_str("Missing"),
            Self::Unreadable(why) => f.debug_tuple("Unreadable").field(why).finish(),
        }
    }
}

impl Sought {
    fn broken(&self, why: &dyn std::fmt::Display) -> MaterialFault {
        MaterialFault::Broken { file: self.path.clone(), why: why.to_string() }
    }
}

fn there(file: &Sought) -> Result<Option<&[u8]>, MaterialFault> {
    match &file.seen {
        Seen::Content(bytes) => Ok(Some(bytes.as_slice())),
        Seen::Missing if file.named => Err(MaterialFault::Missing { file: file.path.clone() }),
        Seen::Missing => Ok(None),
        Seen::Unreadable(why) => Err(file.broken(why)),
    }
}

fn half(there: &Sought, missing: &Sought) -> MaterialFault {
    MaterialFault::Half { there: there.path.clone(), missing: missing.path.clone() }
}

/// Why there is nothing to report with.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MaterialFault {
    /// A file is there and is not what it should be.
    #[error("{} cannot be used: {why}", file.display())]
    Broken {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What was in use is not there any more.
    #[error(
        "{what} that was in use is gone from the files: put it back, or start anew to report without it"
    )]
    Gone {
        /// What.
        what: &'static str,
    },
    /// One half of an identity.
    #[error(
        "{} is there and {} is not: a client certificate needs both. Add the missing one, or remove the other for TLS without one",
        there.display(), missing.display()
    )]
    Half {
        /// What is there.
        there: PathBuf,
        /// What is not.
        missing: PathBuf,
    },
    /// A file that somebody named is not there.
    #[error("{} is not there, and an option or a variable names it: put it there (what a variable says counts from the agent's folder), or name none", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// An identity, and nothing that says to whom it may be shown.
    #[error(
        "{} is there, but nothing says what the collector is known by: add {}, or set SW_AGENT_FORCE_TLS=true for the system's trust",
        chain.display(), ca.display()
    )]
    NobodyToTrust {
        /// The certificate.
        chain: PathBuf,
        /// Where a CA would be.
        ca: PathBuf,
    },
    /// The system's trust cannot be read.
    #[error("{0}")]
    System(#[from] Box<Fault>),
}

impl MaterialFault {
    /// The file that it is about, if it is about one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Broken { file, .. } | Self::Missing { file } => Some(file),
            Self::Half { missing, .. } => Some(missing),
            Self::NobodyToTrust { ca, .. } => Some(ca),
            Self::Gone { .. } | Self::System(_) => None,
        }
    }
}
