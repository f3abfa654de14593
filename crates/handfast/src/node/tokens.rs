//! Tokens that this site gives out: asked for over the admin API, or declared as AccessGrants.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use handfast_api::admin::{IssueToken, IssuedToken, Refusal, RefusalCode};
use handfast_api::grants::{GrantUrl, write_token};
use handfast_api::resources::Resources;
use handfast_api::secret::Secret;
use handfast_api::status::{ProblemSeverity, ProblemView};
use handfast_authority::{GrantError, GrantOptions, parse_duration};
use handfast_pki::{Entropy as _, IdentityKind, Name, SpiffeId, SystemEntropy};
use handfast_store::{Audience, StoreError};

use super::core::Core;
use super::plan::chosen_access;
use crate::clock;

impl Core {
    /// Makes a grant and the token for it. `actor` is for the audit row.
    pub(super) async fn issue_token(
        self: &Arc<Self>,
        request: IssueToken,
        actor: &str,
    ) -> Result<IssuedToken, Refusal> {
        let resources = Arc::clone(&self.state().resources);
        let access = chosen_access(&resources).ok_or_else(no_access)?;
        let host = access.spec.hosts().into_iter().next().ok_or_else(no_access)?;
        let port = access.spec.grant_port().ok_or_else(no_access)?;
        if let Some(fault) = self.state().grant_fault.clone() {
            return Err(Refusal::new(RefusalCode::NotReady, fault.message, fault.remedy));
        }
        let credential = &access.spec.tls_credentials;
        let live =
            self.state().report.as_ref().is_some_and(|report| report.live.contains_key(credential));
        if !live {
            return Err(Refusal::new(
                RefusalCode::NotReady,
                format!("the grant port is closed: its credential `{credential}` cannot be used"),
                "see why with `handfast status`, and ask again when it is mended",
            ));
        }
        let options = self.options(&request, actor)?;
        let core = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let (grant, code) = core.authority().issue_grant(&options, clock::now())?;
            let anchors = core.authority().trust_anchors()?;
            Ok::<_, GrantError>((grant, code, anchors))
        });
        let (grant, code, anchors) = work
            .await
            .map_err(|_| {
                Refusal::new(RefusalCode::Internal, "the work was cut short", "try again")
            })?
            .map_err(|error| not_granted(&error))?;
        tracing::info!(grant = %grant.id, expires = %grant.expires, "a token was issued");
        Ok(IssuedToken {
            name: grant.id.to_string(),
            url: GrantUrl::new(host, port, &grant.id).to_string(),
            code: Secret::new(code.expose()),
            ca: anchors.to_pem(),
            link_cost: grant.cost,
            redemptions_allowed: grant.redemptions_allowed,
            expiration_time: grant.expires,
            agent: match grant.audience {
                Audience::Agent(service) => Some(service.to_string()),
                Audience::AnySite | Audience::Site(_) => None,
            },
        })
    }

    /// Whom a token is asked for.
    fn audience(&self, request: &IssueToken) -> Result<Audience, Refusal> {
        let Some(agent) = &request.agent else {
            return match &request.site {
                Some(site) => Ok(Audience::Site(parsed("site", site)?)),
                None => Ok(Audience::AnySite),
            };
        };
        let invalid = |what: String, remedy: &str| Refusal::new(RefusalCode::Invalid, what, remedy);
        if request.site.is_some() {
            return Err(invalid(
                "`site` and `agent` are both given, and a token is for one of them".to_owned(),
                "ask for two tokens",
            ));
        }
        let identity: SpiffeId = agent.parse().map_err(|error| {
            invalid(format!("{error}"), "write spiffe://TRUST-DOMAIN/agent/SERVICE")
        })?;
        let domain = self.state().declared.as_ref().and_then(|d| d.effective_trust_domain());
        match identity.name() {
            Some(service)
                if identity.kind() == Some(IdentityKind::Agent)
                    && domain.as_ref() == Some(identity.trust_domain()) =>
            {
                Ok(Audience::Agent(service))
            }
            _ => Err(invalid(
                format!("{identity} is no agent of this site's trust domain"),
                "write spiffe://TRUST-DOMAIN/agent/SERVICE, with the trust domain that `handfast status` shows",
            )),
        }
    }

    fn options(&self, request: &IssueToken, actor: &str) -> Result<GrantOptions, Refusal> {
        let mut options = GrantOptions { actor: actor.to_owned(), ..GrantOptions::default() };
        options.name = match &request.name {
            Some(name) => Some(parsed("name", name)?),
            None => self.grant_name(),
        };
        options.audience = self.audience(request)?;
        if let Some(count) = request.redemptions_allowed {
            options.redemptions_allowed = count;
        }
        if let Some(window) = &request.expiration_window {
            options.valid_for = parse_duration(window).ok_or_else(|| {
                let what = format!("the expiration window {window:?} is no duration");
                Refusal::new(RefusalCode::Invalid, what, "write it like 15m, 1h or 90s")
            })?;
        }
        options.cost = request.cost.unwrap_or(1).max(1);
        Ok(options)
    }

    /// Says which site it is of, because the link that it makes is called the same.
    fn grant_name(&self) -> Option<Name> {
        let site = self.site()?;
        let mut bytes = [0; 4];
        SystemEntropy.fill(&mut bytes);
        let number = u32::from_be_bytes(bytes);
        format!("{:.50}-{number:08x}", site.as_str()).parse().ok()
    }

    /// Makes the token of each declared AccessGrant, once, in `runtime/tokens/<name>.yaml`.
    pub(super) async fn issue_declared(self: &Arc<Self>, resources: &Resources) {
        for grant in resources.access_grants.values() {
            let file = self.token_file(&grant.name);
            if file.exists() {
                continue;
            }
            let audience = grant.spec.audience().unwrap_or_default();
            let domain = self.state().declared.as_ref().and_then(|d| d.effective_trust_domain());
            let request = IssueToken {
                name: Some(grant.name.to_string()),
                redemptions_allowed: Some(grant.spec.redemptions_allowed),
                expiration_window: grant.spec.expiration_window.as_ref().map(ToString::to_string),
                cost: None,
                site: match &audience {
                    Audience::Site(site) => Some(site.to_string()),
                    Audience::Agent(_) | Audience::AnySite => None,
                },
                agent: match (&audience, domain) {
                    (Audience::Agent(service), Some(domain)) => {
                        Some(SpiffeId::new(domain, IdentityKind::Agent, service).to_string())
                    }
                    _ => None,
                },
            };
            // The place first: a code that could not be written down would be lost.
            let place = DirBuilder::new().mode(0o700).recursive(true).create(self.tokens());
            if let Err(error) = place {
                tracing::error!(%error, grant = %grant.name, "there is no place for a token");
                continue;
            }
            let made = match self.issue_token(request, "AccessGrant").await {
                Ok(token) => write_token(&file, &token).map_err(|error| {
                    (
                        error.to_string(),
                        "make room, and declare the grant under another name".to_owned(),
                    )
                }),
                Err(refusal) => Err((refusal.message, refusal.remedy)),
            };
            match made {
                Ok(()) => {
                    tracing::info!(grant = %grant.name, file = %file.display(), "the token is there");
                }
                Err((message, remedy)) => self.state().problems.push(ProblemView {
                    severity: ProblemSeverity::Warning,
                    subject: grant.reference(),
                    file: Some(grant.origin.file.display().to_string()),
                    line: Some(grant.origin.line),
                    message: format!("its token cannot be made: {message}"),
                    remedy,
                }),
            }
        }
    }

    fn token_file(&self, grant: &Name) -> PathBuf {
        self.tokens().join(format!("{grant}.yaml"))
    }

    fn tokens(&self) -> PathBuf {
        self.paths.runtime.join("tokens")
    }
}

/// A name in a request.
pub(super) fn parsed(what: &str, text: &str) -> Result<Name, Refusal> {
    text.parse().map_err(|error| {
        Refusal::new(
            RefusalCode::Invalid,
            format!("the {what} {text:?} cannot be used: {error}"),
            "use lower-case letters, digits, `-` and `.`",
        )
    })
}

fn no_access() -> Refusal {
    Refusal::new(
        RefusalCode::NotReady,
        "this site has no link access, so no other site could use a token",
        "type `handfast site create NAME --enable-link-access --link-host HOST`",
    )
}

fn not_granted(error: &GrantError) -> Refusal {
    let (code, remedy) = match error {
        GrantError::Store(StoreError::AlreadyRecorded { .. }) => {
            (RefusalCode::Conflict, "choose another name, or leave it out")
        }
        GrantError::Store(_) => (RefusalCode::Internal, "see the node's log"),
        GrantError::CannotSign(_) => (RefusalCode::NotReady, "type `handfast status` to see why"),
        _ => (RefusalCode::Invalid, "change the request"),
    };
    Refusal::new(code, error.to_string(), remedy)
}
