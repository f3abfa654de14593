//! Encryption of the keys at rest, switched on, off, or over to another secret.
//!
//! Every key file is rewritten whole, one after the other. A crash in between leaves some keys as
//! they were, and all of them readable: the secrets open both, and doing it again does the rest.

use handfast_pki::{KeyError, Name, PrivateKey};
use handfast_store::{AuditRow, CredentialStore, Kind, Ledger, Source, StoreError, Stored};
use jiff::Timestamp;

use crate::authority::{Authority, own_audit};
use crate::desired::desired;
use crate::keyring::{KeyPlace, KeySecrets, Sealed};
use crate::observed::Observed;
use crate::report::{Problem, ProblemCode};

/// Which managed keys are to be encrypted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protection {
    /// Those of issuers and of certificates. Programs that read a key file of ours must have the
    /// secret too then.
    Everything,
    /// Those of issuers.
    Issuers,
    /// None.
    Off,
}

/// What became of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Protected {
    /// The keys that were rewritten, each name once.
    pub changed: Vec<(Kind, Name)>,
    /// How many key files were as they should be.
    pub unchanged: usize,
}

/// Why keys were not rewritten. Unless it is the store that failed, none was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtectError {
    /// The library failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// One of the keys cannot be opened, so it cannot be written differently.
    #[error(
        "the key of {kind} `{name}` in `{directory}` cannot be opened ({source}): put the secret that \
         it was encrypted with on a second line of the key file, below the new one"
    )]
    Locked {
        /// Which sort.
        kind: Kind,
        /// Its name.
        name: Name,
        /// Where.
        directory: String,
        /// Why.
        source: KeyError,
    },
    /// There is nothing to encrypt with.
    #[error("there is nothing to encrypt the keys with: {why}")]
    NoSecret {
        /// Why.
        why: String,
    },
    /// The store or the ledger failed. Keys that were rewritten before stay so; do it again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Brings every managed key on disk into the form asked for, in all revisions that are kept.
    ///
    /// With the same form and another first secret among those given, keys go over to that one.
    ///
    /// # Errors
    ///
    /// [`ProtectError`]; a key that cannot be opened is found before anything is written.
    pub fn protect(
        &self,
        how: Protection,
        actor: &str,
        now: Timestamp,
    ) -> Result<Protected, ProtectError> {
        let _turn = self.reconciling();
        let secrets = self.keys.secrets();
        let secret = match (&secrets, how) {
            (_, Protection::Off) => None,
            (KeySecrets::Unavailable(why), _) => {
                return Err(ProtectError::NoSecret { why: why.clone() });
            }
            (secrets, _) => Some(secrets.current().cloned().ok_or_else(|| {
                let why = "the node was given no key secret".to_owned();
                ProtectError::NoSecret { why }
            })?),
        };
        let mut done = Protected::default();
        let mut work = Vec::new();
        for stored in self.kept_keys()? {
            let Some(bytes) = &stored.pem.tls_key else { continue };
            let sealed = match stored.kind {
                Kind::Certificate => how == Protection::Everything,
                Kind::Issuer => how != Protection::Off,
            };
            let fits = if sealed {
                self.keys.is_under_current(bytes)
            } else {
                !PrivateKey::is_encrypted(bytes)
            };
            if fits {
                done.unchanged += 1;
                continue;
            }
            let key = self.keys.open(bytes).map_err(|source| ProtectError::Locked {
                kind: stored.kind,
                name: stored.name.clone(),
                directory: stored.directory.display().to_string(),
                source,
            })?;
            work.push((stored, key, sealed));
        }
        if !work.is_empty() {
            self.ledger.audit(&row(how, work.len(), actor, now))?;
        }
        for (stored, key, sealed) in work {
            let text = match &secret {
                Some(secret) if sealed => key.to_encrypted_pem(secret)?,
                _ => key.to_pkcs8_pem(),
            };
            self.store.rewrite_key(stored.kind, &stored.name, stored.revision, &text)?;
            let name = (stored.kind, stored.name);
            if !done.changed.contains(&name) {
                done.changed.push(name);
            }
        }
        self.keys.switch(how == Protection::Off);
        self.keys.note_sealed(Sealed {
            certificates: how == Protection::Everything,
            issuers: how != Protection::Off,
        });
        Ok(done)
    }

    /// Every revision of every managed credential, requests that wait among them.
    fn kept_keys(&self) -> Result<Vec<Stored>, StoreError> {
        let wanted = self.declared().map(|declared| desired(&declared)).unwrap_or_default();
        let mut kept = Vec::new();
        for kind in [Kind::Issuer, Kind::Certificate] {
            let mut names = self.store.list(kind)?;
            let more = wanted.iter().filter(|each| each.kind == kind).map(|each| each.name.clone());
            names.extend(more);
            names.sort();
            names.dedup();
            for name in names {
                kept.extend(self.store.kept(kind, &name)?);
            }
        }
        Ok(kept)
    }

    /// Issuers whose keys lie open although they should not.
    pub(crate) fn unprotected(&self, observed: &[Observed]) -> Vec<Problem> {
        if !self.keys.is_on() {
            return Vec::new();
        }
        observed
            .iter()
            .filter(|seen| {
                seen.kind == Kind::Issuer
                    && seen.current.source() == Some(Source::Managed)
                    && seen.current.facts().is_some_and(|facts| facts.key == KeyPlace::Plain)
            })
            .map(|seen| Problem {
                code: ProblemCode::KeyUnprotected,
                name: seen.name.clone(),
                resource: None,
                what: format!(
                    "the key of issuer `{}` lies unencrypted, although the node was given a secret \
                     for it",
                    seen.name
                ),
                remedy: "Encrypt what is there with `handfast ca protect`.".to_owned(),
            })
            .collect()
    }
}

/// Which keys of ours lie encrypted.
pub(crate) fn sealed(observed: &[Observed]) -> Sealed {
    let any = |kind| {
        observed.iter().any(|seen| {
            seen.kind == kind
                && seen.current.source() == Some(Source::Managed)
                && seen.current.facts().is_some_and(|facts| facts.key == KeyPlace::Encrypted)
        })
    };
    Sealed { certificates: any(Kind::Certificate), issuers: any(Kind::Issuer) }
}

fn row(how: Protection, count: usize, actor: &str, now: Timestamp) -> AuditRow {
    let (what, subject) = match how {
        Protection::Everything => ("encrypted", "keys of issuers and certificates"),
        Protection::Issuers => ("encrypted", "keys of issuers"),
        Protection::Off => ("written unencrypted", "keys"),
    };
    let key = (Kind::Issuer, "all".parse().expect("a name"));
    AuditRow {
        actor: actor.to_owned(),
        subject: subject.to_owned(),
        ..own_audit("keys.protect", &key, format!("{count} key files {what}"), now)
    }
}
