//! Redeeming another site's token: a key made here, a certificate signed there, a link declared.
//!
//! The key is on disk before anything is sent, so that doing it again after a crash gets the same
//! answer. The link is declared in the node's own directory only after the certificate is stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handfast_api::admin::{RedeemToken, RedeemedToken, Refusal, RefusalCode};
use handfast_api::grants::{ProblemCode, RedeemError, Redeeming, RedemptionReply, redeem};
use handfast_api::resources::edit::{self, Existing};
use handfast_api::resources::{Endpoint, Link, Resource, Resources};
use handfast_api::status::FaultView;
use handfast_authority::{EnrolmentAnswer, EnrolmentError};
use handfast_pki::{Chain, Csr, Name, TrustAnchors};
use handfast_store::Applicant;

use super::core::Core;
use crate::clock;

/// For one redemption, the other site's part included.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between attempts for tokens that lie among the resources.
const AGAIN: Duration = Duration::from_secs(10);
/// The label that tells a link credential (design section 5).
const TOKEN_LABEL: (&str, &str) = ("handfast.dev/type", "connection-token");

/// Attempts to redeem tokens that lie among the resources.
#[derive(Default)]
pub(super) struct Attempts(BTreeMap<Name, Instant>);

impl Core {
    /// Redeems a token; one at a time.
    pub(super) async fn redeem(
        self: &Arc<Self>,
        token: &RedeemToken,
    ) -> Result<RedeemedToken, Refusal> {
        let link: Name = token.name.parse().map_err(|error| {
            invalid(format!("the token's name {:?} cannot be used: {error}", token.name))
        })?;
        let Some(site) = self.site() else {
            return Err(Refusal::new(
                RefusalCode::NotReady,
                "this home has no site yet, and a certificate is for a site",
                "type `handfast site create NAME` first",
            ));
        };
        let anchors = TrustAnchors::from_pem(token.ca.as_bytes())
            .map_err(|error| invalid(format!("the token's `ca` cannot be used: {error}")))?;
        let now = clock::now();
        let repeated = self.link_is_declared(&link);
        let request = {
            let core = Arc::clone(self);
            let (link, site, anchors) = (link.clone(), site.clone(), anchors.clone());
            blocking(move || core.authority().begin_enrolment(&link, &link, &site, &anchors, now))
                .await?
                .map_err(|error| enrolment(&error))?
        };
        let csr = Csr::from_pem(request.csr_pem.as_bytes()).map_err(|error| {
            Refusal::new(RefusalCode::Internal, error.to_string(), "redeem the token again")
        })?;
        let redeeming = Redeeming {
            url: &token.url,
            code: &token.code,
            ca: &token.ca,
            applicant: &Applicant::Site(site.clone()),
            csr: &csr,
            now,
            timeout: PATIENCE,
        };
        let reply = redeem(redeeming).await.map_err(|error| refused(&error))?;
        let chain = Chain::from_pem(reply.certificate.as_bytes())
            .map_err(|error| odd(format!("its certificate cannot be used: {error}")))?;
        let leaf = chain.leaf().clone();
        let Ok(Some(identity)) = leaf.spiffe_id() else {
            return Err(odd("its certificate carries no identity".to_owned()));
        };
        {
            let core = Arc::clone(self);
            let answer = EnrolmentAnswer {
                chain,
                anchors: TrustAnchors::from_pem(reply.ca.as_bytes()).ok(),
            };
            let credential = link.clone();
            blocking(move || core.authority().complete(&credential, answer, clock::now()))
                .await?
                .map_err(|error| enrolment(&error))?;
        }
        self.declare_link(&link, token, &reply)?;
        self.turn(None).await;
        Ok(RedeemedToken {
            links: vec![link.to_string()],
            remote_site: reply.site,
            trust_domain: identity.trust_domain().to_string(),
            identity: identity.to_string(),
            not_after: leaf.not_after(),
            repeated,
        })
    }

    fn link_is_declared(&self, link: &Name) -> bool {
        self.state().resources.links.contains_key(link)
    }

    fn declare_link(
        &self,
        name: &Name,
        token: &RedeemToken,
        reply: &RedemptionReply,
    ) -> Result<(), Refusal> {
        let offer = reply
            .links
            .iter()
            .find(|offer| offer.role == "inter-router")
            .ok_or_else(|| odd("it names no endpoint to link to".to_owned()))?;
        let host = offer
            .host
            .parse()
            .map_err(|error| odd(format!("its endpoint {:?} is no host: {error}", offer.host)))?;
        let spec = Link {
            endpoints: vec![Endpoint {
                name: Some("inter-router".to_owned()),
                host,
                port: offer.port,
                group: None,
            }],
            tls_credentials: Some(name.clone()),
            cost: token.link_cost.max(1),
            settings: BTreeMap::new(),
        };
        let mut link = Resource::new(name.clone(), spec);
        link.labels.insert(TOKEN_LABEL.0.to_owned(), TOKEN_LABEL.1.to_owned());
        edit::write(&self.own_resources(), &link, "handfast token redeem", Existing::Replace)
            .map(drop)
            .map_err(|error| {
                Refusal::new(
                    RefusalCode::Internal,
                    format!("the link cannot be written down: {error}"),
                    "make room or set the permissions right, and redeem the token again: it gets the \
                     same answer",
                )
            })
    }

    /// Redeems tokens that lie among the resources and have no link yet, a while apart.
    pub(super) fn redeem_declared(
        self: &Arc<Self>,
        resources: &Resources,
        attempts: &mut Attempts,
    ) {
        attempts.0.retain(|name, _| resources.access_tokens.contains_key(name));
        for token in resources.access_tokens.values() {
            let now = Instant::now();
            let tried = attempts.0.get(&token.name);
            // What enrols agents links nothing; it is for `handfast enrol`.
            if token.spec.agent().is_ok_and(|agent| agent.is_some())
                || resources.links.contains_key(&token.name)
                || tried.is_some_and(|at| now.duration_since(*at) < AGAIN)
            {
                continue;
            }
            attempts.0.insert(token.name.clone(), now);
            let request = RedeemToken {
                name: token.name.to_string(),
                url: token.spec.url.clone(),
                code: token.spec.code.clone(),
                ca: token.spec.ca.clone(),
                link_cost: token.spec.link_cost,
            };
            let core = Arc::clone(self);
            tokio::spawn(async move {
                match core.redeem(&request).await {
                    Ok(done) => {
                        tracing::info!(site = %done.remote_site, "a declared token was redeemed");
                    }
                    Err(refusal) => {
                        tracing::error!(token = %request.name, %refusal, "a declared token was not redeemed");
                    }
                }
            });
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        Refusal::new(RefusalCode::Internal, "the work was cut short", "see the log, and try again")
    })
}

fn invalid(message: String) -> Refusal {
    Refusal::new(RefusalCode::Invalid, message, "ask the other site for a new token")
}

fn odd(what: String) -> Refusal {
    Refusal::new(
        RefusalCode::RefusedByPeer,
        format!("the other site's answer makes no sense: {what}"),
        "check that both sites run the same version of handfast",
    )
}

fn enrolment(error: &EnrolmentError) -> Refusal {
    let code = match error {
        EnrolmentError::Supplied { .. } => RefusalCode::Conflict,
        EnrolmentError::Chain { .. }
        | EnrolmentError::Credential { .. }
        | EnrolmentError::Identity { .. } => RefusalCode::RefusedByPeer,
        _ => RefusalCode::Internal,
    };
    Refusal::new(
        code,
        error.to_string(),
        "nothing was changed; redeem the token again when it is mended",
    )
}

fn refused(error: &RedeemError) -> Refusal {
    match error {
        RedeemError::Refused { problem, .. } => {
            let code = if problem.error == ProblemCode::TimedOut {
                RefusalCode::TimedOut
            } else {
                RefusalCode::RefusedByPeer
            };
            Refusal::new(
                code,
                format!("{} [{}]", problem.message, word(problem.error)),
                problem.remedy.clone(),
            )
        }
        RedeemError::Tls(fault) => Refusal::new(
            RefusalCode::RefusedByPeer,
            fault.what().to_owned(),
            fault.remedy().to_owned(),
        )
        .with_fault(FaultView::from(fault.as_ref())),
        RedeemError::Unreachable { fault, .. } => {
            Refusal::new(RefusalCode::Unreachable, error.to_string(), fault.remedy().to_owned())
                .with_fault(FaultView::from(fault.as_ref()))
        }
        RedeemError::TimedOut { .. } => Refusal::new(
            RefusalCode::TimedOut,
            error.to_string(),
            "try again; the same attempt is not counted twice",
        ),
        _ => Refusal::new(
            RefusalCode::Invalid,
            error.to_string(),
            "ask the other site for a new token",
        ),
    }
}

/// The stable word of a problem, as it travels.
fn word(code: ProblemCode) -> String {
    match serde_json::to_value(code) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "refused".to_owned(),
    }
}
