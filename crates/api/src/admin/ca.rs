//! Bodies of the calls about authorities: how they stand, rotating them, going back.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::access::{About, Target};
use crate::status::CredentialSource;

/// One authority, as `GET /v1/authorities` lists it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuthorityStatus {
    /// Its name.
    pub name: String,
    /// What it is: `root`, `site`, `local` or `service`.
    pub role: String,
    /// Who signs it; absent for one that signs itself, a trust anchor.
    pub signed_by: Option<String>,
    /// Whose it is.
    pub source: CredentialSource,
    /// Its keys, the newest first.
    pub keys: Vec<AuthorityKey>,
    /// Keys of before that sign nothing but revocations of what they signed.
    #[serde(default)]
    pub kept_keys: Vec<KeptKey>,
    /// The number of the trust bundle that it is in; absent where other sites are told none.
    pub bundle_sequence: Option<u64>,
    /// Its rotation: the one under way, or the last one.
    pub rotation: Option<RotationStatus>,
    /// When the next step comes by itself.
    pub next_step_at: Option<Timestamp>,
    /// What keeps its rotation from going on, if something fails.
    pub fault: Option<String>,
}

/// One key of an authority.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuthorityKey {
    /// Its number: 1 for the authority's first.
    pub generation: u64,
    /// `prepared`, `active`, `draining` or `tainted`.
    pub state: String,
    /// SHA-256 of the authority's certificate with it, in hex with colons.
    pub fingerprint: String,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
}

/// A key of an authority that signs nothing new and still answers for what it signed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct KeptKey {
    /// SHA-256 of the authority's certificate with it, in hex with colons.
    pub fingerprint: String,
    /// When the last of what it signed expires. Then it is deleted.
    pub until: Timestamp,
}

/// A rotation, under way or over.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// `preparing`, `prepared`, `draining`; over: `revoked`, `rolled-back`.
    pub phase: String,
    /// Whether it has not ended.
    pub under_way: bool,
    /// `asked`, `forced` or `scheduled`.
    pub cause: String,
    /// Who asked for it.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
    /// When it began.
    pub began_at: Timestamp,
    /// When this phase began.
    pub since: Timestamp,
    /// The number of the key that replaces another.
    pub generation: u64,
    /// The number of the key that is replaced.
    pub old_generation: u64,
    /// Whom this phase waits for.
    pub waits_for: Vec<LaggardStatus>,
    /// How long this phase may take from its beginning while all is well with those it waits for: longer where agents are
    /// among them, which ask every so often and are not told.
    #[serde(default)]
    pub may_take_seconds: u64,
    /// Who let this phase go on without its laggards, and why.
    pub waived: Option<String>,
}

/// A consumer of an authority that a rotation waits for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LaggardStatus {
    /// `agents` (of a service, enrolled by a token), `credential` or `site`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether it can be reached now.
    pub reachable: bool,
    /// When it was last seen, if it is away.
    pub last_seen: Option<Timestamp>,
    /// The newest trust bundle that it acknowledged.
    pub sequence: Option<u64>,
    /// What it has not done yet: `trust` the new key, or show a `credential` signed by it.
    pub lacks: String,
    /// When nobody waits for it any more, because its last certificate expires.
    pub expires: Option<Timestamp>,
}

/// `POST /v1/rotations`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Rotate {
    /// `root`, `site`, `local` or `service`.
    pub authority: String,
    /// Let the present phase of a rotation that is under way go on without its laggards.
    pub without_laggards: bool,
    /// Why. Needed for the one above.
    pub reason: String,
}

/// `POST /v1/taints`: the key is in the wrong hands. What it signed is re-issued without waiting for who
/// is away, and what it vouches for is cut.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Taint {
    /// `root`, `site`, `local` or `service`.
    pub authority: String,
    /// Why; never empty.
    pub reason: String,
}

/// `POST /v1/rollbacks`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct RollBack {
    /// `root`, `site`, `local` or `service`.
    pub authority: String,
    /// Why.
    pub reason: String,
}

impl About for Rotate {
    fn about(&self) -> Vec<Target> {
        vec![Target::Authority(self.authority.clone())]
    }
}

impl About for Taint {
    fn about(&self) -> Vec<Target> {
        vec![Target::Authority(self.authority.clone())]
    }
}

impl About for RollBack {
    fn about(&self) -> Vec<Target> {
        vec![Target::Authority(self.authority.clone())]
    }
}
