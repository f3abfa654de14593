//! What our verifiers say of a chain, without a handshake: for diagnosis, and for test vectors that come
//! without keys. That the peer holds the leaf's key is not shown by this; only a handshake shows it.

use handfast_pki::TrustAnchors;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;

use crate::fault::{Attempt, Fault, Role, fault_of};
use crate::handshake::server_name;
use crate::identity::IdentityRule;
use crate::options::unix_time;
use crate::refusal::watched;
use crate::revocation::RevocationCheck;
use crate::verifier::{Judge, Usage};

/// A chain, leaf first, and what it is to be judged by.
#[derive(Debug)]
pub struct Judgement<'a> {
    /// Our part in the handshake that this stands for: a [`Role::Client`] judges a server.
    pub role: Role,
    /// What is trusted, and nothing else.
    pub anchors: &'a TrustAnchors,
    /// The name that was dialled; looked at by clients only.
    pub name: Option<&'a str>,
    /// Which identities are allowed.
    pub identities: IdentityRule,
    /// What is revoked.
    pub revocation: RevocationCheck,
    /// The time.
    pub now: Timestamp,
}

impl Judgement<'_> {
    /// Judges what a peer presents.
    ///
    /// # Errors
    /// The fault that a handshake would have ended with.
    pub fn of(&self, chain: &[CertificateDer<'_>]) -> Result<(), Fault> {
        let attempt = match (self.role, self.name) {
            (Role::Client, Some(name)) => Attempt::client(name, self.now),
            (Role::Client, None) => Attempt::client("", self.now),
            (Role::Server, _) => Attempt::server(self.now),
        };
        let name = match (self.role, self.name) {
            (Role::Client, Some(name)) => Some(server_name(name, &attempt)?),
            _ => None,
        };
        let usage = match self.role {
            Role::Client => Usage::Server,
            Role::Server => Usage::Client,
        };
        let judge =
            Judge::new(self.anchors, self.identities.clone(), usage, self.revocation.clone())?;
        let [leaf, rest @ ..] = chain else {
            return Err(fault_of(&rustls::Error::NoCertificatesPresented, &attempt, None));
        };
        let (verdict, refusal) =
            watched(|| judge.judge(leaf, rest, name.as_ref(), unix_time(self.now)));
        verdict.map_err(|error| {
            let error = refusal.map_or(error, rustls::Error::from);
            fault_of(&error, &attempt, Some(chain))
        })
    }
}
