//! The kind Policy: which operators have which role.

use handfast_pki::{IdentityKind, Name, SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};

use super::Invalid;
use super::field::{parsed, parsed_list};
use crate::access::{Binding, Pattern, Role};

/// `spec` of a Policy.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Policy {
    /// The role they have.
    #[serde(with = "parsed")]
    pub role: Role,
    /// Who: names of operators of the site's trust domain, or whole identities
    /// (`spiffe://<trust domain>/operator/<name>`).
    #[serde(with = "parsed_list")]
    pub operators: Vec<Operator>,
    /// For the role `issuer`: the identities and DNS names it may have certificates signed for, with `*`
    /// for any text.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "parsed_list")]
    pub identities: Vec<Pattern>,
}

impl Policy {
    /// With the names resolved in `trust_domain`.
    pub fn binding(&self, name: &Name, trust_domain: &TrustDomain) -> Binding {
        let operators = self.operators.iter().map(|operator| operator.identity(trust_domain));
        Binding {
            name: name.clone(),
            operators: operators.collect(),
            role: self.role,
            identities: self.identities.clone(),
        }
    }

    pub(super) fn problems(&self) -> Vec<Invalid> {
        let mut problems = Vec::new();
        if self.operators.is_empty() {
            problems.push(Invalid::error(
                "operators",
                "`operators` is empty",
                "list the operators that have this role, such as `- alice`",
            ));
        }
        match (self.role, self.identities.is_empty()) {
            (Role::Issuer, true) => problems.push(Invalid::error(
                "identities",
                "an issuer without `identities` could issue nothing",
                "list the identities it may issue, such as \
                 `- spiffe://shop.example/component/web-*`, or `- \"*\"` for all",
            )),
            (Role::Issuer, false) | (_, true) => {}
            (role, false) => problems.push(Invalid::error(
                "identities",
                format!("`identities` bounds issuers only, not the role {role}"),
                "remove it, or use the role `issuer`",
            )),
        }
        problems
    }
}

/// An operator, by name or by identity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Operator {
    /// Of whichever trust domain.
    Identity(SpiffeId),
    /// Of the site's trust domain.
    Name(Name),
}

impl Operator {
    /// The identity that is meant, at a site of `trust_domain`.
    pub fn identity(&self, trust_domain: &TrustDomain) -> SpiffeId {
        match self {
            Self::Identity(identity) => identity.clone(),
            Self::Name(name) => SpiffeId::new(trust_domain.clone(), IdentityKind::Operator, name),
        }
    }
}

impl std::fmt::Display for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Identity(identity) => identity.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl std::str::FromStr for Operator {
    type Err = OperatorError;

    fn from_str(text: &str) -> Result<Self, OperatorError> {
        if !text.starts_with("spiffe:") {
            return text.parse().map(Self::Name).map_err(|_| OperatorError);
        }
        let identity: SpiffeId = text.parse().map_err(|_| OperatorError)?;
        match identity.kind() {
            Some(IdentityKind::Operator) => Ok(Self::Identity(identity)),
            _ => Err(OperatorError),
        }
    }
}

/// A text that names no operator.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an operator's name, such as alice, or spiffe://<trust domain>/operator/<name>")]
pub struct OperatorError;
