//! What is there: the facts of the credentials in the store, as far as decisions need them.
//!
//! Values only. Reading a store into them is done elsewhere, and so is judging what the user
//! supplied; nothing here can fail.

use std::collections::BTreeSet;
use std::net::IpAddr;

use handfast_pki::{CertificateId, DnsName, Fingerprint, Name, SpiffeId};
use handfast_store::{Kind, Source};
use jiff::Timestamp;

use crate::keyring::KeyPlace;
use crate::schedule;

/// What the store holds under one name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Observed {
    /// Which sort of credential.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// The revision in use.
    pub current: Current,
    /// What waits to be proven or answered; always ours.
    pub staged: Staged,
}

/// The revision in use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Current {
    /// There is something, but it cannot be used.
    Broken {
        /// Whose it is.
        source: Source,
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        remedy: String,
        /// Its facts, where they could be read.
        facts: Option<Box<Facts>>,
    },
    /// There, and nothing is known to be wrong with it, but its key cannot be had now: it is encrypted
    /// and the secret is missing, or the token is away. It is never made anew for that.
    Locked {
        /// Whose it is.
        source: Source,
        /// Why.
        what: String,
        /// What to do about it.
        remedy: String,
        /// What it says.
        facts: Box<Facts>,
    },
    /// There is nothing.
    Missing,
    /// It can be used.
    Usable {
        /// Whose it is.
        source: Source,
        /// What it says.
        facts: Box<Facts>,
        /// For a supplied credential: what is not ideal about it.
        warnings: Vec<Warning>,
    },
}

impl Current {
    /// Whose it is, if it is there.
    pub fn source(&self) -> Option<Source> {
        match self {
            Self::Broken { source, .. }
            | Self::Locked { source, .. }
            | Self::Usable { source, .. } => Some(*source),
            Self::Missing => None,
        }
    }

    /// What it says, if that could be read.
    pub fn facts(&self) -> Option<&Facts> {
        match self {
            Self::Broken { facts, .. } => facts.as_deref(),
            Self::Locked { facts, .. } | Self::Usable { facts, .. } => Some(facts),
            Self::Missing => None,
        }
    }

    pub(crate) fn facts_mut(&mut self) -> Option<&mut Facts> {
        match self {
            Self::Broken { facts, .. } => facts.as_deref_mut(),
            Self::Locked { facts, .. } | Self::Usable { facts, .. } => Some(facts),
            Self::Missing => None,
        }
    }

    /// What it says, if it can be used.
    pub fn usable(&self) -> Option<&Facts> {
        match self {
            Self::Usable { facts, .. } => Some(facts),
            Self::Broken { .. } | Self::Locked { .. } | Self::Missing => None,
        }
    }

    /// Whether it is the user's.
    pub fn is_supplied(&self) -> bool {
        self.source() == Some(Source::Supplied)
    }
}

/// Something about a supplied credential that the user should know, though it works.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// What.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// What lies staged, left there by this process or by one that was killed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Staged {
    /// A credential that only has to be proven.
    Complete(Box<Facts>),
    /// Something whose key cannot be opened without a secret that is missing: it is left alone.
    Locked,
    /// Nothing.
    Nothing,
    /// A key and a request for somebody else to sign: another site, or a CA elsewhere.
    Request,
    /// Something that is neither.
    Unreadable,
}

/// What decisions need to know of a credential that could be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// SHA-256 of the leaf.
    pub fingerprint: Fingerprint,
    /// Its serial number, in hex.
    pub serial: String,
    /// Its issuer's name, for people.
    pub issuer: String,
    /// The identity it proves.
    pub identity: Option<SpiffeId>,
    /// Its common name.
    pub common_name: Option<String>,
    /// Its DNS names.
    pub dns: BTreeSet<DnsName>,
    /// Its IP addresses.
    pub ips: BTreeSet<IpAddr>,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// What it would be revoked by, where its signer came along.
    pub id: Option<CertificateId>,
    /// Since when it is revoked, if it is.
    pub revoked: Option<Timestamp>,
    /// The certificate that signed it, where it came along; its own for a self-signed one.
    pub signer: Option<Fingerprint>,
    /// SHA-256 of that one's SubjectPublicKeyInfo.
    pub signer_key: Option<[u8; 32]>,
    /// The anchors it came with.
    pub anchors: BTreeSet<Fingerprint>,
    /// Whether it can sign others: for issuers, whether the key is there.
    pub can_sign: bool,
    /// Where the key is.
    pub key: KeyPlace,
}

impl Facts {
    /// When a managed credential with these facts is renewed.
    pub fn renew_at(&self) -> Timestamp {
        schedule::renew_at(self.not_before, self.not_after, self.fingerprint.as_bytes())
    }
}
