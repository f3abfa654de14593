//! Which identities may be at the other end: rule 1 and 2 of the design as a value. It judges a
//! leaf certificate that webpki has already found valid; it never looks at the rest of a chain.

use std::collections::BTreeSet;

use handfast_pki::{Certificate, IdentityKind, Name, SpiffeId, TrustDomain};

use crate::fault::{FaultCode, Side};
use crate::refusal::Refusal;

/// What a peer's identity has to be. The default demands nothing beyond a valid chain.
///
/// As soon as any field demands something, the leaf must carry **exactly one** URI SAN and that
/// must be a SPIFFE ID (SPIFFE X509-SVID, section 2), and its extended key usage must be present:
/// inside the fabric a certificate says what it is for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct IdentityRule {
    /// Kinds that are allowed; empty means every kind, unknown ones included.
    pub kinds: Vec<IdentityKind>,
    /// Names that are allowed; `None` means every name.
    pub names: Option<BTreeSet<Name>>,
    /// The trust domain that the identity must belong to.
    pub trust_domain: Option<TrustDomain>,
}

impl IdentityRule {
    /// Demands nothing: for edges towards foreign software.
    pub fn any() -> Self {
        Self::default()
    }

    /// Demands an identity of `trust_domain`.
    pub fn within(trust_domain: TrustDomain) -> Self {
        Self { trust_domain: Some(trust_domain), ..Self::default() }
    }

    /// Allows only identities of `kind` (in addition to kinds allowed before).
    #[must_use]
    pub fn kind(mut self, kind: IdentityKind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Allows only identities of these names.
    #[must_use]
    pub fn names(mut self, names: impl IntoIterator<Item = Name>) -> Self {
        self.names = Some(names.into_iter().collect());
        self
    }

    /// True if a certificate without an identity is refused.
    pub fn demands_identity(&self) -> bool {
        self.trust_domain.is_some() || !self.kinds.is_empty() || self.names.is_some()
    }

    /// Judges the leaf that proved possession of its key.
    pub(crate) fn admit(&self, leaf: &Certificate) -> Result<(), Refusal> {
        if !self.demands_identity() {
            return Ok(());
        }
        let identity = sole_identity(leaf)?;
        if let Some(wanted) = &self.trust_domain
            && identity.trust_domain() != wanted
        {
            return Err(Refusal::new(
                FaultCode::WrongTrustDomain,
                Side::Peer,
                format!(
                    "the peer belongs to trust domain {}, not {wanted}",
                    identity.trust_domain()
                ),
            )
            .with("expected-trust-domain", wanted.to_string())
            .with("presented-identity", identity.to_string()));
        }
        let kind_fits =
            self.kinds.is_empty() || identity.kind().is_some_and(|kind| self.kinds.contains(&kind));
        let name_fits = self
            .names
            .as_ref()
            .is_none_or(|names| identity.name().is_some_and(|name| names.contains(&name)));
        if kind_fits && name_fits {
            return Ok(());
        }
        Err(Refusal::new(
            FaultCode::WrongIdentity,
            Side::Peer,
            format!("the peer is {identity}, which is not allowed here"),
        )
        .with("presented-identity", identity.to_string())
        .with("allowed", self.allowed()))
    }

    fn allowed(&self) -> String {
        let kinds = if self.kinds.is_empty() {
            "any kind".to_owned()
        } else {
            let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.as_str()).collect();
            kinds.join(" or ")
        };
        match &self.names {
            None => kinds,
            Some(names) => {
                let names: Vec<&str> = names.iter().map(Name::as_str).collect();
                format!("{kinds} named {}", names.join(" or "))
            }
        }
    }
}

/// The one identity of a leaf.
fn sole_identity(leaf: &Certificate) -> Result<SpiffeId, Refusal> {
    let uris = leaf.uris();
    if uris.len() > 1 {
        return Err(Refusal::new(
            FaultCode::TwoUriSans,
            Side::Peer,
            format!(
                "the peer's certificate carries {} URI SANs, so its identity is ambiguous",
                uris.len()
            ),
        )
        .with("presented-uris", uris.join(", ")));
    }
    match leaf.spiffe_id() {
        Ok(Some(identity)) => Ok(identity),
        Ok(None) => Err(Refusal::new(
            FaultCode::NoIdentity,
            Side::Peer,
            "the peer's certificate carries no SPIFFE ID",
        )),
        Err(error) => Err(Refusal::new(
            FaultCode::NoIdentity,
            Side::Peer,
            format!("the peer's certificate carries no usable SPIFFE ID: {error}"),
        )
        .with("presented-uris", uris.join(", "))),
    }
}
