//! Redeeming a grant: a site shows the code and a request, and gets the certificate of its link; an agent does, and
//! gets that of its service.
//!
//! Transport, body and rate limits are the caller's. Only the key and the proof that it is held
//! are taken from the request; names in it are not looked at. One that asks to be a CA, or for an identity that is
//! another's, is refused instead of being given less, so that somebody hears of it.

use std::collections::BTreeSet;

use handfast_pki::{
    Certificate, Csr, CsrError, CsrRefusal, IdentityKind, Issuer, Name, NameError, Profile,
    SpiffeId, Subject,
};
use handfast_store::{
    Applicant, Audience, CredentialStore, Grant, IssuedBundle, IssuedFilter, Ledger, Lineage,
    RedeemOutcome, Redemption, RefusalReason, StoreError,
};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::authority::Authority;
use crate::declared::Declared;
use crate::issue::Shared;
use crate::making::{Making, MakingError, key_digest};

/// What a redeemer sends.
#[derive(Clone)]
pub struct RedeemRequest {
    /// The grant, as named in the token's URL.
    pub grant: String,
    /// The code, as presented.
    pub code: Zeroizing<Vec<u8>>,
    /// What the redeemer is.
    pub redeemer: Redeemer,
    /// Its name for itself: the site's, or the service that the agent reports as.
    pub name: String,
    /// Its request, PEM or DER (RFC 2986).
    pub csr: Vec<u8>,
    /// Where it comes from, for the audit row.
    pub origin: String,
}

/// What redeems a grant, by its own word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Redeemer {
    /// A telemetry agent, or a relay that speaks for some.
    Agent,
    /// A site that wants to link.
    Site,
}

/// Why a redemption was refused. Nothing was consumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedeemRefusal {
    /// The request is not one, or does not prove that the key is held.
    #[error("the certificate request cannot be used: {0}")]
    BadRequest(#[from] CsrError),
    /// The name of the site or the service is not one.
    #[error("the name cannot be used: {0}")]
    BadSiteName(#[from] NameError),
    /// The grant's time is over.
    #[error(
        "the token has expired: ask the site that gave it for a new one, and redeem it in time \
         (its clock decides)"
    )]
    Expired,
    /// The authority cannot sign at the moment.
    #[error("the site that gave the token cannot sign at the moment, try again later: {0}")]
    NotReady(#[from] MakingError),
    /// The code was good, but the request is not one to be served.
    #[error("{}", .0.message)]
    Refused(RefusalReason),
    /// What was redeemed with this key was revoked since.
    #[error(
        "what was redeemed with this token was revoked at {at}: ask the site that gave the token why, and \
         for a new one"
    )]
    Revoked {
        /// When.
        at: Timestamp,
    },
    /// The grant was used as often as it may be.
    #[error(
        "the token was redeemed already and allows no more: ask the site that gave it for a new one"
    )]
    Spent,
    /// The ledger failed.
    #[error("the redemption could not be recorded, so it did not happen; try again later: {0}")]
    Store(#[from] StoreError),
    /// There is no such grant.
    #[error(
        "the site does not know this token: check that its `url` names the site that gave it, \
         or ask for a new one"
    )]
    Unknown,
    /// The code is not that of the grant.
    #[error(
        "the token's code is wrong: check that the file is complete and unchanged, or ask for a new one"
    )]
    WrongCode,
}

impl RedeemRefusal {
    /// A stable word for programs.
    pub fn code(&self) -> &str {
        match self {
            Self::BadRequest(_) => "bad-request",
            Self::BadSiteName(_) => "bad-site-name",
            Self::Expired => "expired",
            Self::NotReady(_) => "not-ready",
            Self::Refused(reason) => &reason.code,
            Self::Revoked { .. } => "revoked",
            Self::Spent => "spent",
            Self::Store(_) => "unavailable",
            Self::Unknown => "unknown",
            Self::WrongCode => "wrong-code",
        }
    }

    /// Whether the same request may succeed later, unchanged.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::NotReady(_) | Self::Store(_))
    }
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Serves a redemption. The certificate, the use of the grant and the audit row are on disk,
    /// all or none, when this returns.
    ///
    /// The same key asking again under the same grant gets the same answer, and uses nothing.
    /// `context` makes the rest of the answer (the links) from the grant; it is kept with it.
    ///
    /// # Errors
    ///
    /// [`RedeemRefusal`]; none of them consumes the grant.
    pub fn redeem(
        &self,
        request: &RedeemRequest,
        context: &dyn Fn(&Grant) -> String,
        now: Timestamp,
    ) -> Result<IssuedBundle, RedeemRefusal> {
        let grant_id: Name = request.grant.parse().map_err(|_| RedeemRefusal::Unknown)?;
        let csr = read_request(&request.csr)?;
        let name: Name = request.name.parse()?;
        let _turn = self.signing_for(&name);
        let declared = self.declared().ok_or(MakingError::NotReconciled)?;
        let (applicant, kind, signer) = match request.redeemer {
            Redeemer::Agent => {
                (Applicant::Agent(name.clone()), IdentityKind::Agent, &declared.names.service_ca)
            }
            Redeemer::Site => {
                (Applicant::Site(name.clone()), IdentityKind::Site, &declared.names.site_ca)
            }
        };
        let authority = self.issuer(signer)?;
        let identity =
            declared.effective_trust_domain().map(|domain| SpiffeId::new(domain, kind, &name));
        let (enrolled, revoked) = match &identity {
            None => (None, None),
            Some(identity) => {
                (self.enrolled_until(identity, now)?, self.enrolment_ended(identity)?)
            }
        };

        let redemption = Redemption {
            grant_id,
            code: request.code.to_vec(),
            request_key: key_digest(csr.spki_der()),
            applicant: applicant.clone(),
            origin: request.origin.clone(),
            now,
        };
        let admission = Admission {
            declared: &declared,
            authority: &authority,
            cross: self.cross_for(signer)?,
            applicant,
            identity,
            enrolled,
            revoked,
            now,
        };
        let outcome = self.ledger.redeem(&redemption, &mut |grant| {
            let identity = admission.admit(grant)?;
            wishes(&csr, &identity).map_err(|wish| refusal(wish_code(&wish), wish.to_string()))?;
            let mut bundle = admission.sign(grant, identity, &csr, &mut Shared(&self.entropy))?;
            bundle.context = context(grant);
            Ok(bundle)
        })?;
        match outcome {
            RedeemOutcome::Expired => Err(RedeemRefusal::Expired),
            RedeemOutcome::Redeemed(bundle) => Ok(bundle),
            RedeemOutcome::Repeated(bundle) => {
                let issued = &bundle.issued;
                let recorded = self.ledger.revocation(&issued.issuer_key_id, &issued.serial)?;
                match recorded {
                    Some(recorded) => Err(RedeemRefusal::Revoked { at: recorded.revocation.at }),
                    None => Ok(bundle),
                }
            }
            RedeemOutcome::Refused(reason) => Err(RedeemRefusal::Refused(reason)),
            RedeemOutcome::Spent => Err(RedeemRefusal::Spent),
            RedeemOutcome::Unknown => Err(RedeemRefusal::Unknown),
            RedeemOutcome::WrongCode => Err(RedeemRefusal::WrongCode),
        }
    }

    /// Until when the site of this identity holds a link certificate of ours, if it does.
    fn enrolled_until(
        &self,
        identity: &SpiffeId,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let held = self.ledger.issued(&IssuedFilter {
            identity: Some(identity.clone()),
            unexpired_at: Some(now),
            ..IssuedFilter::default()
        })?;
        let links = held.iter().filter(|issued| issued.profile == Profile::LinkClient);
        Ok(links.map(|issued| issued.not_after).max())
    }

    /// When an enrolment of this identity was revoked last, if one was.
    fn enrolment_ended(&self, identity: &SpiffeId) -> Result<Option<Timestamp>, StoreError> {
        let held = self.ledger.issued(&IssuedFilter {
            identity: Some(identity.clone()),
            limit: Some(ENROLMENTS),
            ..IssuedFilter::default()
        })?;
        let lineages: BTreeSet<&Lineage> = held.iter().map(|issued| &issued.lineage).collect();
        let mut last = None;
        for lineage in lineages {
            last = last.max(self.ledger.lineage_ended(lineage)?);
        }
        Ok(last)
    }
}

/// Enrolments of one identity that are looked at for an end; older ones ended before.
const ENROLMENTS: u32 = 64;

/// Who is let in, once the code was found to be right.
struct Admission<'a> {
    declared: &'a Declared,
    authority: &'a Issuer,
    cross: Option<Certificate>,
    applicant: Applicant,
    /// Who it will be; nothing where this site has no trust domain.
    identity: Option<SpiffeId>,
    /// Until when a site is enrolled already.
    enrolled: Option<Timestamp>,
    /// When an enrolment of the identity was revoked last.
    revoked: Option<Timestamp>,
    now: Timestamp,
}

impl Admission<'_> {
    /// The identity that the applicant gets, or why it gets none. That the grant is for it was
    /// checked by the ledger.
    fn admit(&self, grant: &Grant) -> Result<SpiffeId, RefusalReason> {
        let (applicant, name) = (&self.applicant, self.applicant.name());
        // A code that it held before must not undo its revocation.
        if let Some(at) = self.revoked.filter(|at| grant.created <= *at) {
            return Err(refusal(
                "revoked",
                format!(
                    "the {applicant} was revoked at {at}, after this token was made: ask the site that \
                     gave it why, and for a new token made for `{name}`"
                ),
            ));
        }
        if let Applicant::Site(site) = applicant {
            self.admit_site(grant, site)?;
        }
        self.identity.clone().ok_or_else(|| {
            let own = &self.declared.site;
            refusal("no-trust-domain", format!("site `{own}` has no trust domain: set one there"))
        })
    }

    fn admit_site(&self, grant: &Grant, site: &Name) -> Result<(), RefusalReason> {
        if *site == self.declared.site {
            return Err(refusal(
                "own-name",
                format!(
                    "the site that gave the token is itself named `{site}`: two sites cannot \
                     share a name. Create your site under another one"
                ),
            ));
        }
        if let (Audience::AnySite, Some(until)) = (&grant.audience, self.enrolled) {
            return Err(refusal(
                "name-taken",
                format!(
                    "a site named `{site}` is enrolled already, with a certificate until \
                     {until}: create your site under another name or, if this is the same site \
                     set up anew, ask for a token made for `{site}`"
                ),
            ));
        }
        Ok(())
    }

    fn sign(
        &self,
        grant: &Grant,
        identity: SpiffeId,
        csr: &Csr,
        entropy: &mut dyn handfast_pki::Entropy,
    ) -> Result<IssuedBundle, RefusalReason> {
        let digest = key_digest(csr.spki_der());
        let label =
            digest.iter().take(8).fold(0_u64, |label, byte| (label << 8) | u64::from(*byte));
        let name = self.applicant.name();
        let (profile, enrolment) = match self.applicant {
            Applicant::Agent(_) => (Profile::Agent, format!("agent/{name}")),
            Applicant::Site(_) => (Profile::LinkClient, name.to_string()),
        };
        let making = Making {
            authority: self.authority,
            cross: self.cross.clone(),
            profile,
            subject: Subject::new(name.as_str()).with_identity(identity),
            ttl: self.declared.settings.leaf(),
            lineage: format!("grant/{}/{enrolment}/{label:016x}", grant.id),
            now: self.now,
            distribution: self.declared.distribution.as_deref(),
        };
        let made = making
            .sign(csr.spki_der(), entropy)
            .map_err(|error| refusal("issuance-failed", error.to_string()))?;
        Ok(IssuedBundle {
            chain_pem: made.chain.to_pem(),
            anchors_pem: self.authority.anchors().to_pem(),
            issued: made.issued,
            context: String::new(),
        })
    }
}

/// Reads a request in PEM or DER, and checks that its sender holds the key.
pub(crate) fn read_request(bytes: &[u8]) -> Result<Csr, CsrError> {
    if bytes.trim_ascii_start().starts_with(b"-----") {
        Csr::from_pem(bytes)
    } else {
        Csr::from_der(bytes)
    }
}

/// Whether a request asks for more than the certificate of `identity`: to be a CA, or to be somebody else.
pub(crate) fn wishes(csr: &Csr, identity: &SpiffeId) -> Result<(), CsrRefusal> {
    csr.check(&Subject { identity: Some(identity.clone()), ..csr.subject().clone() })
}

/// The stable word for a wish that is not granted.
pub(crate) fn wish_code(wish: &CsrRefusal) -> &'static str {
    match wish {
        CsrRefusal::AsksForCa => "asks-for-ca",
        _ => "wrong-name",
    }
}

fn refusal(code: &str, message: String) -> RefusalReason {
    RefusalReason { code: code.to_owned(), message }
}
