//! Signing a CA's request where there is neither node nor home: the machine that keeps the root.
//!
//! What will be signed is shown first, as it will be; a request has no say in anything but its key and
//! its name.

use std::time::Duration;

use handfast_pki::{
    Certificate, Csr, Entropy, IssueError, IssueRequest, Issuer, KeyAlgorithm, Profile, Subject,
};
use jiff::Timestamp;

/// What a CA certificate will say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaTerms {
    /// The name.
    pub common_name: String,
    /// What kind of key it is for.
    pub key_algorithm: KeyAlgorithm,
    /// SHA-256 of the key's SubjectPublicKeyInfo.
    pub key_id: [u8; 32],
    /// How long it will live.
    pub ttl: Duration,
}

/// Why a request is not signed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CaRefusal {
    /// Names that a CA has no use for, and could pass for somebody by.
    #[error(
        "the request for {common_name:?} asks for {what}, which no CA certificate carries: it was not made \
         by `handfast ca request`, or was tampered with"
    )]
    CarriesNames {
        /// The name it asks for.
        common_name: String,
        /// What else it asks for.
        what: &'static str,
    },
    /// The issuer or the rules do not allow it.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// No name.
    #[error(
        "the request asks for no name (its subject has no CN): make it with `handfast ca request`"
    )]
    Nameless,
}

/// What would be signed for this request, if it may be: names, key and life.
///
/// # Errors
///
/// [`CaRefusal`].
pub fn ca_terms(csr: &Csr, ttl: Duration) -> Result<CaTerms, CaRefusal> {
    let Subject { common_name, identity, dns, ips } = csr.subject();
    if common_name.is_empty() {
        return Err(CaRefusal::Nameless);
    }
    let carries = |what| CaRefusal::CarriesNames { common_name: common_name.clone(), what };
    if identity.is_some() {
        return Err(carries("an identity"));
    }
    if !dns.is_empty() || !ips.is_empty() {
        return Err(carries("host names"));
    }
    Ok(CaTerms {
        common_name: common_name.clone(),
        key_algorithm: csr.public_key().algorithm(),
        key_id: csr.public_key().key_id(),
        ttl,
    })
}

/// Signs a request on these terms: a CA that signs leaves and no other CA, inside its issuer's life.
///
/// # Errors
///
/// [`CaRefusal`]; nothing was signed then.
pub fn sign_ca(
    issuer: &Issuer,
    csr: &Csr,
    terms: &CaTerms,
    now: Timestamp,
    entropy: &mut dyn Entropy,
) -> Result<Certificate, CaRefusal> {
    let subject = Subject::new(terms.common_name.as_str());
    let request = IssueRequest::new(Profile::SiteCa, subject, csr.spki_der()).with_ttl(terms.ttl);
    Ok(issuer.issue(&request, now, entropy)?)
}

#[cfg(test)]
mod tests {
    use handfast_pki::{IdentityKind, PrivateKey, SystemEntropy};
    use handfast_testkit::authority::TestAuthority;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::constant(1_800_000_000, 0)
    }

    fn request(subject: &Subject) -> Csr {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        Csr::create(&key, subject).unwrap()
    }

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_request_becomes_a_ca_that_signs_leaves_only() {
        let authority = TestAuthority::new("demo.example", now());
        let csr = request(&Subject::new("west site CA"));
        let terms = ca_terms(&csr, 90 * DAY).unwrap();
        let made = sign_ca(authority.root(), &csr, &terms, now(), &mut SystemEntropy).unwrap();
        assert_eq!((made.is_ca(), made.path_len()), (true, Some(0)));
        assert_eq!(made.spki_der(), csr.spki_der());
        assert_eq!(made.common_name(), Some("west site CA"));

        // A site CA signs no CA; nothing outlives its issuer.
        let no = sign_ca(authority.site_ca(), &csr, &terms, now(), &mut SystemEntropy);
        assert!(matches!(no, Err(CaRefusal::Issue(IssueError::PathLength { .. }))), "{no:?}");
        let long = ca_terms(&csr, 36_500 * DAY).unwrap();
        let no = sign_ca(authority.root(), &csr, &long, now(), &mut SystemEntropy);
        assert!(matches!(no, Err(CaRefusal::Issue(IssueError::BeyondIssuer { .. }))), "{no:?}");
    }

    #[test]
    fn a_request_that_asks_for_more_than_a_name_is_refused() {
        let authority = TestAuthority::new("demo.example", now());
        let hosts = Subject::new("x").with_hosts(["bank.example".parse().unwrap()]);
        let somebody =
            Subject::new("x").with_identity(authority.identity(IdentityKind::Site, "east"));
        for subject in [hosts, somebody] {
            let no = ca_terms(&request(&subject), DAY);
            assert!(matches!(no, Err(CaRefusal::CarriesNames { .. })), "{no:?}");
        }
    }
}
