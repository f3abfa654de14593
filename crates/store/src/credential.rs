//! The credential store as its users see it: named credentials, revisions in two phases, a watch.
//! Where the bytes are kept is for the implementations; whether they are any good is for pki.

use std::fmt;
use std::path::PathBuf;

use handfast_pki::{
    Chain, Credential, CredentialError, CredentialPem, KeyError, Name, Passphrase, PrivateKey,
    TrustAnchors,
};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::error::StoreError;

/// Named credentials with revisions, shared by everything in a node that needs one.
///
/// A supplied credential (the user's) wins over a managed one (ours) of the same name, and is never
/// written. Everything is durable when a method returns. Methods block: call them from a thread that
/// may. The shape is that of a Kubernetes Secret with a resource version, so that an implementation
/// may live elsewhere: [`stage`](Self::stage) and [`promote`](Self::promote) are the write and the
/// compare-and-set.
pub trait CredentialStore: Send + Sync + 'static {
    /// The names of all credentials of a kind, supplied and managed, in order.
    fn list(&self, kind: Kind) -> Result<Vec<Name>, StoreError>;

    /// The current revision of a credential, the supplied one where there is one.
    ///
    /// The bytes are as found: a broken supplied credential is an answer, not an error.
    fn load(&self, kind: Kind, name: &Name) -> Result<Option<Stored>, StoreError>;

    /// The managed credential of this name, even while a supplied one hides it.
    fn load_managed(&self, kind: Kind, name: &Name) -> Result<Option<Stored>, StoreError>;

    /// Writes a new revision without making it current. What was staged before is discarded.
    fn stage(&self, kind: Kind, name: &Name, pem: &CredentialPem) -> Result<Revision, StoreError>;

    /// Makes the staged revision current: all its files switch at once. The revision that was
    /// current is kept as the previous one until the next promotion or
    /// [`discard_previous`](Self::discard_previous).
    ///
    /// Promoting what is already current does nothing. [`StoreError::Superseded`] if another
    /// revision is staged, or none.
    fn promote(&self, kind: Kind, name: &Name, revision: Revision) -> Result<(), StoreError>;

    /// Forgets a staged revision. Forgetting what is not there any more does nothing; the current
    /// and the previous revision are never touched.
    fn discard(&self, kind: Kind, name: &Name, revision: Revision) -> Result<(), StoreError>;

    /// What is staged: after a crash, what it left behind. Always complete, never half-written.
    fn staged(&self, kind: Kind, name: &Name) -> Result<Option<(Revision, Stored)>, StoreError>;

    /// The managed revision before the current one, if it is still kept.
    fn previous(&self, kind: Kind, name: &Name) -> Result<Option<Stored>, StoreError>;

    /// Drops the previous revision, once the current one has been proven.
    fn discard_previous(&self, kind: Kind, name: &Name) -> Result<(), StoreError>;

    /// Every managed revision of this name: previous, current, staged, as far as they are there.
    fn kept(&self, kind: Kind, name: &Name) -> Result<Vec<Stored>, StoreError>;

    /// Lays the previous revision aside: it is no revision any more, and stays until it is discarded. For
    /// a signing authority whose key has still to answer for what it signed. Without a previous revision
    /// nothing happens.
    fn lay_aside(&self, kind: Kind, name: &Name) -> Result<(), StoreError>;

    /// What was laid aside, the oldest first.
    fn aside(&self, kind: Kind, name: &Name) -> Result<Vec<Stored>, StoreError>;

    /// Deletes what was laid aside as this revision, if it is there.
    fn discard_aside(&self, kind: Kind, name: &Name, revision: Revision) -> Result<(), StoreError>;

    /// Writes the same key differently (encrypted, or open again) into a managed revision, which stays
    /// the same revision otherwise: the file is replaced whole, after it is on disk. Nothing happens
    /// if the revision is gone.
    fn rewrite_key(
        &self,
        kind: Kind,
        name: &Name,
        revision: Revision,
        tls_key: &Zeroizing<String>,
    ) -> Result<(), StoreError>;

    /// Removes a managed credential with all its revisions. Removing what is not there does
    /// nothing; a supplied credential stays.
    fn remove(&self, kind: Kind, name: &Name) -> Result<(), StoreError>;

    /// A counter that moves when the current content of any credential has changed, whoever
    /// changed it. It does not move when files were only touched.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Which sort of credential: what a peer is shown, or what signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A leaf with its key and anchors: `certs/<name>`.
    Certificate,
    /// A signing authority: `issuers/<name>`.
    Issuer,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Issuer => "issuer",
        })
    }
}

/// Whose a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Issued and renewed by us.
    Managed,
    /// The user's: read, checked, never written.
    Supplied,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Managed => "managed",
            Self::Supplied => "supplied",
        })
    }
}

/// One state of one credential. Managed revisions count upwards; the revision of a supplied
/// credential is drawn from its content and only good for comparing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub(crate) u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The files of a credential as they were found. `None` is a file that is not there.
#[derive(Clone, PartialEq, Eq)]
pub struct RawPem {
    /// `tls.crt`: the chain, leaf first. Missing where only trust is supplied.
    pub tls_crt: Option<Vec<u8>>,
    /// `tls.key`.
    pub tls_key: Option<Zeroizing<Vec<u8>>>,
    /// `ca.crt`: the anchors.
    pub ca_crt: Option<Vec<u8>>,
    /// `pkcs11.uri`: where the key is, for a supplied issuer whose key is in a token (RFC 7512).
    pub pkcs11_uri: Option<Vec<u8>>,
}

impl fmt::Debug for RawPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(Vec::len);
        f.debug_struct("RawPem")
            .field("tls_crt_len", &length(&self.tls_crt))
            .field("tls_key", &self.tls_key.as_ref().map(|_| "<redacted>"))
            .field("ca_crt_len", &length(&self.ca_crt))
            .field("pkcs11_uri_len", &length(&self.pkcs11_uri))
            .finish()
    }
}

/// A credential as it lies in the store.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its name: that of the directory or Secret.
    pub name: Name,
    /// Which sort it is.
    pub kind: Kind,
    /// Whose it is.
    pub source: Source,
    /// Its files, unparsed.
    pub pem: RawPem,
    /// Which state of it this is.
    pub revision: Revision,
    /// Where a person finds its files.
    pub directory: PathBuf,
}

impl Stored {
    /// Parses the files into a credential whose key fits its leaf.
    ///
    /// `passphrase` opens an encrypted `tls.key`. The error names the directory, for the resource
    /// that needs the credential to show.
    pub fn credential(&self, passphrase: Option<&Passphrase>) -> Result<Credential, StoredFault> {
        self.credential_opened_by(|key| PrivateKey::read(key, passphrase))
    }

    /// The same, with a key that somebody else knows how to read from the bytes of `tls.key`.
    pub fn credential_opened_by(
        &self,
        open: impl FnOnce(&[u8]) -> Result<PrivateKey, KeyError>,
    ) -> Result<Credential, StoredFault> {
        let missing = |file: &'static str| StoredFault::Missing { path: self.directory.join(file) };
        let tls_crt = self.pem.tls_crt.as_deref().ok_or_else(|| missing("tls.crt"))?;
        let tls_key = self.pem.tls_key.as_ref().ok_or_else(|| missing("tls.key"))?;
        let ca_crt = self.pem.ca_crt.as_deref().ok_or_else(|| missing("ca.crt"))?;
        let read = || {
            let chain = Chain::from_pem(tls_crt).map_err(CredentialError::Certificate)?;
            let key = open(tls_key).map_err(CredentialError::Key)?;
            let anchors = TrustAnchors::from_pem(ca_crt).map_err(CredentialError::Anchors)?;
            Credential::new(chain, key, anchors)
        };
        read().map_err(|source| StoredFault::Unusable { directory: self.directory.clone(), source })
    }
}

/// Why the files of a credential do not make one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoredFault {
    /// A file that a credential needs is not there.
    #[error("`{}` is missing; a credential needs tls.crt, tls.key and ca.crt", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The files are there, but do not make a credential.
    #[error("the credential in `{}` cannot be used: {source}", directory.display())]
    Unusable {
        /// Where its files are.
        directory: PathBuf,
        /// What is wrong with them.
        #[source]
        source: CredentialError,
    },
}
