//! Handing out revocation: the lists and OCSP answers that the authority makes, over HTTP and stapled to our
//! own handshakes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use handfast_api::distribution::{
    Answer, DistributionLimits, DistributionServer, DistributionServerError, Distributor, Document,
};
use handfast_api::status::{ProblemSeverity, ProblemView};
use handfast_authority::{OcspAnswer, PublishReport};
use handfast_pki::Credential;
use handfast_pki::ocsp::{OcspRequest, Refusal};
use handfast_tls::Staple;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::core::{Core, Turning};
use crate::clock;

/// An open port for CRL and OCSP requests.
pub(super) struct DistributionPort {
    address: SocketAddr,
    shutdown: CancellationToken,
}

/// For how long the certificate of a CA may be kept: it is the same for its whole life, but a cache need not
/// remember it for years.
const ISSUER_KEPT: Duration = Duration::from_secs(24 * 3600);

/// When something that is tried again is tried again.
const SOON: Duration = Duration::from_secs(2);

impl DistributionPort {
    async fn open(address: SocketAddr, core: Arc<Core>) -> Result<Self, DistributionServerError> {
        let server = DistributionServer::bind(address, DistributionLimits::default()).await?;
        let shutdown = CancellationToken::new();
        let ended = shutdown.clone();
        tokio::spawn(async move { server.serve(Arc::new(Handouts(core)), ended).await });
        Ok(Self { address, shutdown })
    }

    pub(super) fn close(self) {
        self.shutdown.cancel();
    }
}

/// What the authority published.
struct Handouts(Arc<Core>);

impl Distributor for Handouts {
    fn list(&self, issuer: &str, delta: bool) -> Option<Document> {
        let published = self.0.publisher.published();
        let issuer = published.issuer(issuer)?;
        let list = if delta { &issuer.delta } else { &issuer.full };
        Some(Document {
            der: Arc::clone(&list.der),
            this_update: list.this_update,
            next_update: list.next_update,
        })
    }

    fn issuer(&self, issuer: &str) -> Option<Document> {
        let published = self.0.publisher.published();
        let certificate = &published.issuer(issuer)?.certificate;
        let kept = clock::now() + ISSUER_KEPT;
        Some(Document {
            der: Arc::from(certificate.der()),
            this_update: certificate.not_before(),
            next_update: kept.min(certificate.not_after()),
        })
    }

    fn kept_answer(&self, request: &OcspRequest) -> Option<Answer> {
        self.0.publisher.kept_answer(request, clock::now()).map(answer)
    }

    async fn answer(&self, request: OcspRequest) -> Answer {
        let core = Arc::clone(&self.0);
        let work = tokio::task::spawn_blocking(move || {
            core.authority().answer_ocsp(&core.publisher, &request, clock::now())
        });
        answer(work.await.unwrap_or_else(|_| Refusal::InternalError.into()))
    }

    fn now(&self) -> Timestamp {
        clock::now()
    }
}

fn answer(answer: OcspAnswer) -> Answer {
    Answer { der: answer.der, good: answer.good }
}

impl Core {
    /// Makes the lists that are due and staples fresh answers to what our servers present. To be called in
    /// every turn, after the configurations were built.
    pub(super) async fn hand_out(
        self: &Arc<Self>,
        address: Option<SocketAddr>,
        turning: &mut Turning,
    ) {
        let staples = turning.tls.staples.all();
        let core = Arc::clone(self);
        let on = address.is_some();
        let work = tokio::task::spawn_blocking(move || core.publish_and_staple(on, &staples));
        match work.await {
            Ok(Some(report)) => self.note_published(&report),
            Ok(None) => self.state().lists_fault = None,
            Err(_) => tracing::error!("the revocation lists could not be made"),
        }
        self.place_distribution_port(address, turning).await;
    }

    /// Staples answers to what was configured after the lists were made: the admin port's and the collectors'
    /// certificates.
    pub(super) async fn staple_rest(self: &Arc<Self>, turning: &Turning) {
        let mut staples = turning.tls.staples.all();
        staples.retain(|(_, staple)| !staple.is_set());
        if turning.distribution_port.is_none() || staples.is_empty() {
            return;
        }
        let core = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || core.staple(true, &staples));
        if work.await.is_err() {
            tracing::error!("nothing could be stapled");
        }
    }

    fn publish_and_staple(
        &self,
        on: bool,
        staples: &[(Arc<Credential>, Staple)],
    ) -> Option<PublishReport> {
        let now = clock::now();
        let report = on.then(|| self.authority().publish_revocation(&self.publisher, now));
        self.staple(on, staples);
        report
    }

    fn staple(&self, on: bool, staples: &[(Arc<Credential>, Staple)]) {
        let now = clock::now();
        for (credential, staple) in staples {
            let answer = on
                .then(|| self.authority().staple(&self.publisher, credential.leaf(), now))
                .flatten();
            // A response that is not renewed any more would outlive its end.
            if answer.is_some() || staple.is_set() {
                staple.set(answer.map(|der| der.to_vec()));
            }
        }
    }

    fn note_published(&self, report: &PublishReport) {
        let mut state = self.state();
        state.next_wake = Some(state.next_wake.map_or(report.next, |wake| wake.min(report.next)));
        let fault = report.failed.first().map(|(name, error)| ProblemView {
            severity: ProblemSeverity::Error,
            subject: "revocation lists".to_owned(),
            file: None,
            line: None,
            message: format!("the CRL of {name} could not be made: {error}"),
            remedy: "what was made before is handed out until it is out of date; put the CA right \
                     (`handfast cert list` shows it), and the list is made at once"
                .to_owned(),
        });
        if fault != state.lists_fault
            && let Some(fault) = &fault
        {
            tracing::error!("{}", fault.message);
        }
        if fault.is_some() {
            let again = clock::now() + SOON;
            state.next_wake = Some(state.next_wake.map_or(again, |wake| wake.min(again)));
        }
        state.lists_fault = fault;
    }

    async fn place_distribution_port(
        self: &Arc<Self>,
        wanted: Option<SocketAddr>,
        turning: &mut Turning,
    ) {
        let open = turning.distribution_port.as_ref().map(|port| port.address);
        if open == wanted {
            return;
        }
        if let Some(port) = turning.distribution_port.take() {
            port.close();
        }
        self.state().distribution_fault = None;
        let Some(address) = wanted else { return };
        match DistributionPort::open(address, Arc::clone(self)).await {
            Ok(port) => {
                tracing::info!(%address, "CRLs and OCSP are served");
                turning.distribution_port = Some(port);
            }
            Err(error) => {
                let mut state = self.state();
                if state.distribution_fault.is_none() {
                    tracing::error!(%error, "revocation is not handed out");
                }
                state.distribution_fault = Some(ProblemView {
                    severity: ProblemSeverity::Error,
                    subject: "revocation port".to_owned(),
                    file: None,
                    line: None,
                    message: format!("revocation is not handed out: {error}"),
                    remedy: "free the port, or set another `revocation-port` in the RouterAccess"
                        .to_owned(),
                });
                let again = clock::now() + SOON;
                state.next_wake = Some(state.next_wake.map_or(again, |wake| wake.min(again)));
            }
        }
    }
}
