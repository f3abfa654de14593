//! Access grants: the leave for another site or for telemetry agents to enrol, given out as a code.
//!
//! The code is known to whoever it is given to, and to nobody else: the ledger keeps a salted
//! hash. What becomes of a grant is in `redeem`.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use handfast_pki::{Entropy, Name, TrustAnchors};
use handfast_store::{Audience, AuditRow, CredentialStore, Grant, Ledger, StoreError, hash_code};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::authority::Authority;
use crate::making::MakingError;
use crate::schedule;

/// What a grant is to allow.
#[derive(Clone, Debug)]
pub struct GrantOptions {
    /// Its name, that of an AccessGrant resource; a random one if absent.
    pub name: Option<Name>,
    /// How many sites or agents may use it: 1 unless set, 1000 at most.
    pub redemptions_allowed: u32,
    /// How long it may be used: 15 minutes unless set, 90 days at most.
    pub valid_for: Duration,
    /// The cost of the links it sets up: 1 unless set.
    pub cost: u32,
    /// Who may use it. A grant for one site may also take the place of that site's present
    /// enrolment.
    pub audience: Audience,
    /// Who asked for it, for the audit row.
    pub actor: String,
}

impl Default for GrantOptions {
    fn default() -> Self {
        Self {
            name: None,
            redemptions_allowed: 1,
            valid_for: Duration::from_secs(15 * 60),
            cost: 1,
            audience: Audience::AnySite,
            actor: "node".to_owned(),
        }
    }
}

/// The secret half of a grant: 192 random bits as 32 characters that need no quoting anywhere.
#[derive(Clone)]
pub struct Code(Zeroizing<String>);

impl Code {
    /// The text to be put into a token.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn random(entropy: &mut dyn Entropy) -> Self {
        let mut bits = Zeroizing::new([0_u8; 24]);
        entropy.fill(&mut bits[..]);
        Self(Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(bits.as_slice())))
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(<redacted>)")
    }
}

/// Why no grant was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// The site's CA cannot sign, so a redemption could not be served.
    #[error("no grant was made, because it could not be redeemed: {0}")]
    CannotSign(#[from] MakingError),
    /// A count of zero or beyond the limit.
    #[error("{count} redemptions cannot be allowed: choose 1 to {most}")]
    Count {
        /// What was asked for.
        count: u32,
        /// What is possible.
        most: u32,
    },
    /// The grant is for the site that gives it.
    #[error("a grant for `{site}` can never be redeemed: that is this site. Name another site")]
    OwnName {
        /// The name.
        site: Name,
    },
    /// The ledger could not record it.
    #[error("no grant was made: {0}")]
    Store(#[from] StoreError),
    /// A time of zero or beyond the limit.
    #[error("a grant cannot be valid for {asked}: choose 1 s to {most}")]
    Window {
        /// What was asked for.
        asked: String,
        /// What is possible.
        most: String,
    },
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Gives out a grant; it is on disk when this returns.
    ///
    /// The code is in the answer and nowhere else: it cannot be had a second time.
    ///
    /// # Errors
    ///
    /// Options out of bounds, a name that is taken, a site CA that cannot sign, a ledger that
    /// cannot be written.
    pub fn issue_grant(
        &self,
        options: &GrantOptions,
        now: Timestamp,
    ) -> Result<(Grant, Code), GrantError> {
        if !(1..=MAX_REDEMPTIONS).contains(&options.redemptions_allowed) {
            return Err(GrantError::Count {
                count: options.redemptions_allowed,
                most: MAX_REDEMPTIONS,
            });
        }
        if options.valid_for < Duration::from_secs(1) || options.valid_for > MAX_WINDOW {
            return Err(GrantError::Window {
                asked: schedule::spoken(options.valid_for),
                most: schedule::spoken(MAX_WINDOW),
            });
        }
        let declared = self.declared().ok_or(MakingError::NotReconciled)?;
        match &options.audience {
            Audience::Agent(_) => drop(self.issuer(&declared.names.service_ca)?),
            Audience::Site(site) if *site == declared.site => {
                return Err(GrantError::OwnName { site: site.clone() });
            }
            Audience::AnySite | Audience::Site(_) => drop(self.site_issuer()?),
        }

        let mut salt = [0_u8; 16];
        let mut label = [0_u8; 8];
        let code = {
            let mut entropy = self.entropy();
            entropy.fill(&mut salt);
            entropy.fill(&mut label);
            Code::random(&mut **entropy)
        };
        let grant = Grant {
            id: options.name.clone().unwrap_or_else(|| random_name(label)),
            code_hash: hash_code(&salt, code.expose().as_bytes()),
            salt,
            redemptions_allowed: options.redemptions_allowed,
            expires: schedule::later(now, options.valid_for),
            cost: options.cost,
            audience: options.audience.clone(),
            created: now,
        };
        self.ledger.create_grant(&grant, &audit_row(&grant, options, now))?;
        Ok((grant, code))
    }

    /// The anchors that a token must carry, so that its redeemer trusts this site and no other.
    ///
    /// # Errors
    ///
    /// A site CA that is not there or cannot be used.
    pub fn trust_anchors(&self) -> Result<TrustAnchors, MakingError> {
        let (_, authority) = self.site_issuer()?;
        Ok(authority.anchors().clone())
    }
}

fn audit_row(grant: &Grant, options: &GrantOptions, now: Timestamp) -> AuditRow {
    let whom = match &options.audience {
        Audience::Agent(service) => format!(" for agents of {service}"),
        Audience::AnySite => String::new(),
        Audience::Site(site) => format!(" for site {site}"),
    };
    AuditRow {
        at: now,
        actor: options.actor.clone(),
        action: "grant.issue".to_owned(),
        subject: grant.id.to_string(),
        outcome: "ok".to_owned(),
        detail: format!(
            "{} redemptions until {}, cost {}{whom}",
            grant.redemptions_allowed, grant.expires, grant.cost
        ),
        why: String::new(),
    }
}

fn random_name(bits: [u8; 8]) -> Name {
    format!("grant-{:016x}", u64::from_be_bytes(bits)).parse().expect("hex digits make a name")
}

const MAX_REDEMPTIONS: u32 = 1000;
const MAX_WINDOW: Duration = Duration::from_secs(90 * 86_400);
