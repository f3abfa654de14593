//! Redeeming another site's token, renewing what an agent got by one, and asking when to: TLS 1.3 to the host in its URL,
//! trusting only the CA in it, one request, no redirects.

use std::io;
use std::time::Duration;

use handfast_pki::{Credential, Csr, Host, TrustAnchors};
use handfast_store::Applicant;
use handfast_tls::{Attempt, ClientOptions, Clock, Fault, fault_of_io, timed_out};
use http_body_util::Full;
use hyper::{Request, StatusCode, header};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls;

use super::message::{HintReply, Problem, RedemptionBody, RedemptionReply, RenewalBody};
use super::server::HTTP_ALPN;
use super::url::{GrantUrl, GrantUrlError, HINT_PATH, RENEWAL_PATH};
use crate::exchange::exchange;
use crate::secret::Secret;

/// What is redeemed, and for whom.
#[derive(Clone, Debug)]
pub struct Redeeming<'a> {
    /// URL of the token.
    pub url: &'a str,
    /// Code of the token.
    pub code: &'a Secret,
    /// PEM in the token: what the granting site's server must chain to.
    pub ca: &'a str,
    /// Who we are: a site, or agents of a service.
    pub applicant: &'a Applicant,
    /// Our certificate request. Store its key first: a repetition with the same key gets the same
    /// answer, one with another key finds the token spent.
    pub csr: &'a Csr,
    /// The moment, for checking the server's certificate and for faults.
    pub now: Timestamp,
    /// For everything together; half of it for connecting.
    pub timeout: Duration,
}

/// Redeems a token. Nothing is stored; that is the caller's, before and after.
pub async fn redeem(redeeming: Redeeming<'_>) -> Result<RedemptionReply, RedeemError> {
    let url: GrantUrl = redeeming.url.parse()?;
    let (site, agent) = match redeeming.applicant {
        Applicant::Agent(service) => (None, Some(service.to_string())),
        Applicant::Site(site) => (Some(site.to_string()), None),
    };
    let body =
        RedemptionBody { code: redeeming.code.clone(), site, agent, csr: redeeming.csr.to_pem() };
    let asking = Asking {
        url: &url,
        path: url.path(),
        ca: redeeming.ca,
        credential: None,
        what: "redeeming a token",
        now: redeeming.now,
        timeout: redeeming.timeout,
    };
    asking.ask(Some(&body), ANSWER_BYTES).await
}

/// What an agent renews, and where.
#[derive(Clone, Debug)]
pub struct Renewing<'a> {
    /// URL of the token that it enrolled with: the same host and port renew.
    pub url: &'a str,
    /// PEM of what the server there must chain to: that of the token, or what the last answer said.
    pub ca: &'a str,
    /// What is to be renewed; it authenticates the request.
    pub credential: &'a Credential,
    /// The request for the new certificate. Store its key first: a repetition with the same key gets the same answer.
    pub csr: &'a Csr,
    /// The moment, for checking the server's certificate and for faults.
    pub now: Timestamp,
    /// For everything together; half of it for connecting.
    pub timeout: Duration,
}

/// Renews an agent's certificate. Nothing is stored; that is the caller's, before and after.
pub async fn renew(renewing: Renewing<'_>) -> Result<RedemptionReply, RedeemError> {
    let url: GrantUrl = renewing.url.parse()?;
    let asking = Asking {
        url: &url,
        path: RENEWAL_PATH,
        ca: renewing.ca,
        credential: Some(renewing.credential),
        what: "renewing a certificate",
        now: renewing.now,
        timeout: renewing.timeout,
    };
    asking.ask(Some(&RenewalBody { csr: renewing.csr.to_pem() }), ANSWER_BYTES).await
}

/// Which certificate is asked about, and where.
#[derive(Clone, Debug)]
pub struct HintQuestion<'a> {
    /// URL of the token that the agent enrolled with: the same host and port tell.
    pub url: &'a str,
    /// PEM of what the server there must chain to, as for [`Renewing`].
    pub ca: &'a str,
    /// The certificate; showing it is the whole question.
    pub credential: &'a Credential,
    /// The moment, for checking the server's certificate and for faults.
    pub now: Timestamp,
    /// For everything together; half of it for connecting.
    pub timeout: Duration,
}

/// Asks when an agent's certificate should be renewed. The window that is answered is one: it does not end before it starts.
pub async fn ask_for_hint(question: HintQuestion<'_>) -> Result<HintReply, RedeemError> {
    let url: GrantUrl = question.url.parse()?;
    let asking = Asking {
        url: &url,
        path: HINT_PATH,
        ca: question.ca,
        credential: Some(question.credential),
        what: "asking when to renew a certificate",
        now: question.now,
        timeout: question.timeout,
    };
    let reply: HintReply = asking.ask(None::<&()>, HINT_BYTES).await?;
    reply.checked().map_err(|reason| RedeemError::Odd { at: url.authority(), reason })
}

/// One request to a grant port.
struct Asking<'a> {
    url: &'a GrantUrl,
    path: &'a str,
    ca: &'a str,
    credential: Option<&'a Credential>,
    what: &'a str,
    now: Timestamp,
    timeout: Duration,
}

impl Asking<'_> {
    /// Sends the body, or asks without one.
    async fn ask<B: Serialize, R: DeserializeOwned>(
        &self,
        body: Option<&B>,
        answer_bytes: usize,
    ) -> Result<R, RedeemError> {
        match timeout(self.timeout, self.ask_patiently(body, answer_bytes)).await {
            Ok(result) => result,
            Err(_) => Err(RedeemError::TimedOut {
                at: self.url.authority(),
                seconds: self.timeout.as_secs(),
            }),
        }
    }

    async fn ask_patiently<B: Serialize, R: DeserializeOwned>(
        &self,
        body: Option<&B>,
        answer_bytes: usize,
    ) -> Result<R, RedeemError> {
        let at = self.url.authority();
        let anchors = TrustAnchors::from_pem(self.ca.as_bytes())
            .map_err(|error| RedeemError::Ca { reason: error.to_string() })?;
        let options = ClientOptions {
            alpn: vec![HTTP_ALPN.to_vec()],
            clock: Clock::fixed(self.now),
            ..ClientOptions::default()
        };
        let config = handfast_tls::client_config(self.credential, &anchors, &options)?;

        let host = self.url.host().to_string();
        let attempt = Attempt::client(host.clone(), self.now)
            .with_alpn(&[HTTP_ALPN])
            .with_subject(format!("{} at {at}", self.what));
        let connecting = async {
            match self.url.host() {
                Host::Ip(address) => TcpStream::connect((*address, self.url.port())).await,
                Host::Dns(name) => TcpStream::connect((name.as_str(), self.url.port())).await,
            }
        };
        let half = self.timeout / 2;
        let stream = match timeout(half, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(&at, error, &attempt)),
            Err(_) => return Err(RedeemError::Tls(Box::new(timed_out(half, &attempt)))),
        };
        let stream =
            handfast_tls::connect(stream, config, &host, attempt.clone(), self.timeout).await?;

        let odd = |reason: String| RedeemError::Odd { at: at.clone(), reason };
        let request = match body {
            None => Request::get(self.path).header(header::HOST, &at).body(Full::default()),
            Some(body) => {
                let body = serde_json::to_vec(body).map_err(|error| odd(error.to_string()))?;
                Request::post(self.path)
                    .header(header::HOST, &at)
                    .header(header::CONTENT_TYPE, "application/json")
                    .body(Full::new(body.into()))
            }
        };
        let request = request.map_err(|error| odd(error.to_string()))?;
        let exchanged = exchange(stream, request, answer_bytes).await;
        let (status, bytes) =
            exchanged.map_err(|error| match refused_in_tls(&error, &attempt) {
                // In TLS 1.3 a client learns with its first read that its certificate was refused.
                Some(fault) => RedeemError::Tls(Box::new(fault)),
                None => odd(error.to_string()),
            })?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&bytes)
                .map_err(|error| odd(format!("unexpected answer: {error}")));
        }
        if status.is_redirection() {
            return Err(odd("it redirects elsewhere, which is never followed".to_owned()));
        }
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Err(RedeemError::Refused { at, problem: Box::new(problem) }),
            Err(_) => Err(odd(format!("it answered with HTTP status {status}"))),
        }
    }
}

/// The TLS fault behind an exchange that failed, if one is.
fn refused_in_tls(error: &(dyn std::error::Error + 'static), attempt: &Attempt) -> Option<Fault> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && let Some(inner) = error.get_ref()
            && inner.is::<rustls::Error>()
        {
            return Some(fault_of_io(error, attempt));
        }
        cause = error.source();
    }
    None
}

fn unreachable(at: &str, source: io::Error, attempt: &Attempt) -> RedeemError {
    RedeemError::Unreachable {
        at: at.to_owned(),
        fault: Box::new(fault_of_io(&source, attempt)),
        source,
    }
}

/// Why a token was not redeemed. Except for [`RedeemError::Refused`] with a code that is final, the
/// same attempt (same key) may be repeated.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RedeemError {
    /// The CA in the token cannot be used.
    #[error("the token's `ca` holds no usable CA certificate: {reason}; ask for a new token")]
    Ca {
        /// Why.
        reason: String,
    },
    /// The answer makes no sense.
    #[error(
        "{at} cannot be understood: {reason}; check that the token's `url` leads to a handfast site"
    )]
    Odd {
        /// Where.
        at: String,
        /// Why.
        reason: String,
    },
    /// The granting site said no.
    #[error("{at} refused the token: {problem}")]
    Refused {
        /// Where.
        at: String,
        /// Its words.
        #[source]
        problem: Box<Problem>,
    },
    /// No answer in time.
    #[error(
        "{at} did not answer within {seconds} s; check that the granting site runs and is not overloaded, then redeem the same token again"
    )]
    TimedOut {
        /// Where.
        at: String,
        /// The bound, in seconds.
        seconds: u64,
    },
    /// The handshake failed.
    #[error("{0}")]
    Tls(#[source] Box<Fault>),
    /// Nobody could be connected to.
    #[error(
        "cannot reach {at}: {source}; check that the granting site runs and that this host and port can be reached from here"
    )]
    Unreachable {
        /// Where.
        at: String,
        /// The same as a fault.
        fault: Box<Fault>,
        /// Why.
        source: io::Error,
    },
    /// The URL in the token cannot be used.
    #[error("the token's `url` cannot be used: {0}; ask for a new token")]
    Url(#[from] GrantUrlError),
}

impl From<Fault> for RedeemError {
    fn from(fault: Fault) -> Self {
        Self::Tls(Box::new(fault))
    }
}

/// Largest answer that is read, in bytes.
const ANSWER_BYTES: usize = 256 * 1024;

/// The same of the answer to when to renew, which has two moments, a word and a number; or a problem in sentences.
const HINT_BYTES: usize = 4 * 1024;
