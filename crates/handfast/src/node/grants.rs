//! The grant port of a node, and what it answers.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use handfast_api::grants::{
    GrantLimits, GrantServer, GrantServerError, Granter, HintReply, LinkOffer, Problem,
    ProblemCode, RedemptionReply, RedemptionRequest, RenewalRequest,
};
use handfast_api::status::{FaultView, RefusalView};
use handfast_authority::{PresentedAgent, RedeemRefusal, RedeemRequest, Redeemer, RenewRefusal};
use handfast_pki::Profile;
use handfast_store::{Audience, Grant};
use handfast_tls::{Fault, Peer};
use jiff::Timestamp;
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::core::Core;
use super::plan::chosen_access;
use crate::clock;

/// An open grant port.
pub(super) struct GrantPort {
    address: SocketAddr,
    tls: Arc<ArcSwap<ServerConfig>>,
    shutdown: CancellationToken,
}

/// Refusals that are kept to be shown.
const REFUSALS: usize = 64;

impl GrantPort {
    pub(super) async fn open(
        address: SocketAddr,
        tls: Arc<ServerConfig>,
        core: Arc<Core>,
    ) -> Result<Self, GrantServerError> {
        let server = GrantServer::bind(address, GrantLimits::default()).await?;
        let tls = Arc::new(ArcSwap::new(tls));
        let shutdown = CancellationToken::new();
        let presented = Arc::clone(&tls);
        let granter = Arc::new(Answers(core));
        let ended = shutdown.clone();
        tokio::spawn(async move {
            server.serve(granter, move || Some(presented.load_full()), ended).await;
        });
        Ok(Self { address, tls, shutdown })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection sees this certificate.
    pub(super) fn present(&self, tls: Arc<ServerConfig>) {
        self.tls.store(tls);
    }

    pub(super) fn close(self) {
        self.shutdown.cancel();
    }
}

/// Redemptions, decided by the authority.
struct Answers(Arc<Core>);

impl Granter for Answers {
    async fn redeem(&self, request: RedemptionRequest) -> Result<RedemptionReply, Problem> {
        let core = Arc::clone(&self.0);
        let (from, applicant) = (request.from, request.applicant.clone());
        // Not dropped half-way when the connection is: what was begun is finished and durable.
        let work = tokio::task::spawn_blocking(move || decide(&core, request));
        let answer = work.await.unwrap_or_else(|_| Err(Problem::new(ProblemCode::Internal)));
        if answer.is_ok() {
            tracing::info!(%applicant, %from, "a token was redeemed");
        }
        answer
    }

    async fn renew(&self, request: RenewalRequest) -> Result<RedemptionReply, Problem> {
        let core = Arc::clone(&self.0);
        let work = tokio::task::spawn_blocking(move || renew(&core, &request));
        work.await.unwrap_or_else(|_| Err(Problem::new(ProblemCode::Internal)))
    }

    async fn hint(&self, peer: Peer) -> Result<HintReply, Problem> {
        let core = Arc::clone(&self.0);
        let work = tokio::task::spawn_blocking(move || hint(&core, &peer));
        work.await.unwrap_or_else(|_| Err(Problem::new(ProblemCode::Internal)))
    }

    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn refused(&self, from: SocketAddr, fault: Fault) {
        tracing::warn!(peer = %from, fault = %fault.one_line(), "refused at the grant port");
        keep_refusal(
            &self.0,
            RefusalView {
                at: clock::now(),
                peer: from.to_string(),
                on: "grant port".to_owned(),
                fault: FaultView::from(&fault),
            },
        );
    }
}

/// Keeps a refusal to be shown; the oldest goes when there are too many.
pub(super) fn keep_refusal(core: &Core, refusal: RefusalView) {
    let mut state = core.state();
    if state.refusals.len() == REFUSALS {
        state.refusals.remove(0);
    }
    state.refusals.push(refusal);
}

fn decide(core: &Core, request: RedemptionRequest) -> Result<RedemptionReply, Problem> {
    let offers = |grant: &Grant| {
        let links = match grant.audience {
            Audience::Agent(_) => Vec::new(),
            Audience::AnySite | Audience::Site(_) => link_offers(core, grant.cost),
        };
        serde_json::to_string(&links).unwrap_or_else(|_| "[]".to_owned())
    };
    let request = RedeemRequest::from(request);
    let profile = match request.redeemer {
        Redeemer::Agent => Profile::Agent,
        Redeemer::Site => Profile::LinkClient,
    };
    let redeemed = core.authority().redeem(&request, &offers, clock::now());
    core.count_issuance(profile, redeemed.as_ref().map_or_else(RedeemRefusal::code, |_| "ok"));
    let bundle = redeemed.map_err(|refusal| {
        // The log may say more than the stranger is told.
        tracing::warn!(origin = %request.origin, name = %request.name, %refusal, "a token was not redeemed");
        Problem::from(&refusal)
    })?;
    let links: Vec<LinkOffer> =
        serde_json::from_str(&bundle.context).map_err(|_| Problem::new(ProblemCode::Internal))?;
    let port_ca = match request.redeemer {
        Redeemer::Agent => core.authority().trust_anchors().ok().map(|anchors| anchors.to_pem()),
        Redeemer::Site => None,
    };
    let (site, trust_domain) = whose(core)?;
    Ok(RedemptionReply {
        certificate: bundle.chain_pem,
        ca: bundle.anchors_pem,
        port_ca,
        links,
        trust_domain,
        site,
    })
}

fn renew(core: &Core, request: &RenewalRequest) -> Result<RedemptionReply, Problem> {
    let RenewalRequest { peer, csr, from } = request;
    let presented = presented(peer)?;
    let identity = presented.identity.clone();
    let renewed = core.authority().renew_for_agent(&presented, csr.der(), clock::now());
    let outcome = renewed.as_ref().map_or_else(RenewRefusal::code, |_| "ok");
    core.count_issuance(Profile::Agent, outcome);
    let renewed = renewed.map_err(|refusal| {
        tracing::warn!(%identity, %from, %refusal, "a renewal was refused");
        Problem::from(&refusal)
    })?;
    let serial = renewed.chain.leaf().serial();
    tracing::info!(%identity, %from, %serial, "renewed for an agent");
    // A rotation may have waited for this one.
    if core.state().authorities.iter().any(|one| !one.laggards.is_empty()) {
        core.nudge();
    }
    let (site, trust_domain) = whose(core)?;
    Ok(RedemptionReply {
        certificate: renewed.chain.to_pem(),
        ca: renewed.anchors.to_pem(),
        port_ca: core.authority().trust_anchors().ok().map(|anchors| anchors.to_pem()),
        links: Vec::new(),
        trust_domain,
        site,
    })
}

/// Whoever is refused here is refused at each question: that is no news.
fn hint(core: &Core, peer: &Peer) -> Result<HintReply, Problem> {
    let hint = core.authority().renewal_hint(&presented(peer)?, clock::now());
    hint.map(HintReply::from).map_err(|refusal| {
        tracing::debug!(peer = peer.label(), %refusal, "not told when to renew");
        Problem::from(&refusal)
    })
}

fn presented(peer: &Peer) -> Result<PresentedAgent, Problem> {
    let identity = peer.identity.clone();
    let identity = identity.ok_or_else(|| Problem::new(ProblemCode::Unauthenticated))?;
    Ok(PresentedAgent { identity, serial: peer.serial.clone() })
}

/// This site and its trust domain.
fn whose(core: &Core) -> Result<(String, String), Problem> {
    let state = core.state();
    let unavailable = || Problem::new(ProblemCode::Unavailable);
    let declared = state.declared.as_ref().ok_or_else(unavailable)?;
    let trust_domain = declared.effective_trust_domain().ok_or_else(unavailable)?;
    Ok((declared.site.to_string(), trust_domain.to_string()))
}

/// Every host under which this site can be linked to.
fn link_offers(core: &Core, cost: u32) -> Vec<LinkOffer> {
    let resources = Arc::clone(&core.state().resources);
    let Some(access) = chosen_access(&resources) else { return Vec::new() };
    let Some(port) = access.spec.link_port() else { return Vec::new() };
    access
        .spec
        .hosts()
        .into_iter()
        .map(|host| LinkOffer {
            name: None,
            host: host.to_string(),
            port,
            role: "inter-router".to_owned(),
            cost,
        })
        .collect()
}
