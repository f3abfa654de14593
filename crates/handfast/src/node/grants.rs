//! The grant port of a node, and what it answers.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use handfast_api::grants::{
    GrantLimits, GrantServer, GrantServerError, Granter, LinkOffer, Problem, ProblemCode,
    RedemptionReply, RedemptionRequest,
};
use handfast_api::status::{FaultView, RefusalView};
use handfast_authority::RedeemRequest;
use handfast_store::Grant;
use handfast_tls::Fault;
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
        let (from, site) = (request.from, request.site.clone());
        // Not dropped half-way when the connection is: what was begun is finished and durable.
        let work = tokio::task::spawn_blocking(move || decide(&core, request));
        let answer = work.await.unwrap_or_else(|_| Err(Problem::new(ProblemCode::Internal)));
        if answer.is_ok() {
            tracing::info!(%site, %from, "a token was redeemed");
        }
        answer
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
        serde_json::to_string(&link_offers(core, grant.cost)).unwrap_or_else(|_| "[]".to_owned())
    };
    let request = RedeemRequest::from(request);
    let bundle = core.authority().redeem(&request, &offers, clock::now()).map_err(|refusal| {
        // The log may say more than the stranger is told.
        tracing::warn!(origin = %request.origin, site = %request.site, %refusal, "a token was not redeemed");
        Problem::from(&refusal)
    })?;
    let links: Vec<LinkOffer> =
        serde_json::from_str(&bundle.context).map_err(|_| Problem::new(ProblemCode::Internal))?;
    let (site, trust_domain) = {
        let state = core.state();
        let declared =
            state.declared.as_ref().ok_or_else(|| Problem::new(ProblemCode::Unavailable))?;
        let trust_domain = declared
            .effective_trust_domain()
            .ok_or_else(|| Problem::new(ProblemCode::Unavailable))?;
        (declared.site.to_string(), trust_domain.to_string())
    };
    Ok(RedemptionReply {
        certificate: bundle.chain_pem,
        ca: bundle.anchors_pem,
        links,
        trust_domain,
        site,
    })
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
