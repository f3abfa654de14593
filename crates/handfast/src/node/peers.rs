//! Renewal over links: what other sites ask of us, and what we ask of them.

use std::sync::Arc;

use handfast_authority::{CsrRequest, EnrolmentAnswer, RenewRefusal, Report};
use handfast_network::PeerRequest;
use handfast_network::wire::control::Body;
use handfast_network::wire::{CredentialGrant, CredentialRequest, Refusal};
use handfast_pki::{Chain, Profile, TrustAnchors};
use tokio_util::sync::CancellationToken;

use super::core::Core;
use crate::clock;

impl Core {
    /// Answers other sites until the node stops.
    pub(super) async fn answer_peers(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            // The network is started by the first turn that knows the site.
            let requests = self.state().requests.take();
            let Some(mut requests) = requests else {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(std::time::Duration::from_millis(200)) => continue,
                }
            };
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    request = requests.recv() => match request {
                        Some(request) => self.answer(request).await,
                        None => break,
                    }
                }
            }
        }
    }

    async fn answer(self: &Arc<Self>, request: PeerRequest) {
        let PeerRequest { peer, link, body, responder } = request;
        let Some(identity) = peer.identity else { return };
        let csr_pem = match body {
            Body::CredentialRequest(CredentialRequest { csr_pem, .. }) => csr_pem,
            Body::TrustBundle(bundle) => {
                if let Some(link) = link {
                    self.bundle_received(&identity, link, bundle).await;
                }
                return;
            }
            // Who acknowledges what is in the network's status; a rotation may have waited for it.
            Body::BundleAcknowledged(_) => return self.nudge(),
            Body::Revocations(message) => {
                let Some(site) = identity.name() else { return };
                if let Some(ack) = self.hear_revocations(site, message).await {
                    responder.answer(Body::RevocationsAcknowledged(ack));
                }
                return;
            }
            _ => return,
        };
        let core = Arc::clone(self);
        let asked = identity.clone();
        let work = tokio::task::spawn_blocking(move || {
            let renewed = core.authority().renew_for_peer(&asked, csr_pem.as_bytes(), clock::now());
            let outcome = renewed.as_ref().map_or_else(RenewRefusal::code, |_| "ok");
            core.count_issuance(Profile::LinkClient, outcome);
            renewed
        });
        match work.await {
            Ok(Ok(renewed)) => {
                tracing::info!(%identity, serial = %renewed.chain.leaf().serial(), "renewed for another site");
                responder.answer(Body::CredentialGrant(CredentialGrant {
                    certificate_pem: renewed.chain.to_pem(),
                    ca_pem: renewed.anchors.to_pem(),
                }));
            }
            Ok(Err(refusal)) => {
                tracing::warn!(%identity, %refusal, "a renewal was refused");
                responder.refuse(Refusal {
                    code: refusal.code().to_owned(),
                    message: refusal.to_string(),
                    remedy: String::new(),
                });
            }
            Err(error) => {
                tracing::error!(%identity, %error, "a renewal was cut short");
                responder.refuse(Refusal {
                    code: "internal".to_owned(),
                    message: "the site failed while answering".to_owned(),
                    remedy: "none needed: the request is repeated".to_owned(),
                });
            }
        }
    }

    /// Sends what waits to be signed elsewhere, each once at a time; answers come back as a nudge.
    pub(super) fn ask_other_sites(self: &Arc<Self>, report: &Report) {
        let now = clock::now();
        for request in report.waiting.iter().filter(|request| request.send_at <= now) {
            if !self.state().asking.insert(request.credential.clone()) {
                continue;
            }
            let core = Arc::clone(self);
            let request = request.clone();
            tokio::spawn(async move {
                // A report that was made while the answer came in names the same question once more.
                let asked = if core.still_waits(&request).await {
                    core.ask(&request).await
                } else {
                    Ok(())
                };
                if let Err(why) = asked {
                    tracing::warn!(credential = %request.credential, link = %request.link, why, "not renewed");
                    core.authority().request_failed(&request.credential, why, clock::now());
                }
                core.state().asking.remove(&request.credential);
                core.nudge();
            });
        }
    }

    async fn still_waits(self: &Arc<Self>, request: &CsrRequest) -> bool {
        let core = Arc::clone(self);
        let request = request.clone();
        let work = tokio::task::spawn_blocking(move || core.authority().still_waits(&request));
        // Asking once too often does no harm.
        !matches!(work.await, Ok(Ok(false)))
    }

    /// Has one credential renewed by the site at the other end of its link.
    pub(super) async fn ask(self: &Arc<Self>, request: &CsrRequest) -> Result<(), String> {
        let network = self.network().ok_or("the network is not running")?;
        let body = Body::CredentialRequest(CredentialRequest {
            name: request.credential.to_string(),
            csr_pem: request.csr_pem.clone(),
        });
        let answer =
            network.request(request.link.clone(), body).await.map_err(|e| e.to_string())?;
        let grant = match answer {
            Body::CredentialGrant(grant) => grant,
            Body::Refusal(refusal) => return Err(refusal.message),
            _ => return Err("the other site's answer makes no sense".to_owned()),
        };
        let chain = Chain::from_pem(grant.certificate_pem.as_bytes()).map_err(|e| e.to_string())?;
        let anchors = TrustAnchors::from_pem(grant.ca_pem.as_bytes()).ok();
        let core = Arc::clone(self);
        let credential = request.credential.clone();
        let work = tokio::task::spawn_blocking(move || {
            core.authority().complete(&credential, EnrolmentAnswer { chain, anchors }, clock::now())
        });
        match work.await {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(_) => Err("storing the answer was cut short".to_owned()),
        }
    }
}
