//! One notice, sent once: connected, verified, posted and answered within a bound.

use std::io;
use std::time::Duration;

use handfast_pki::{Host, TrustAnchors};
use handfast_tls::{Attempt, ClientOptions, Clock, Fault, Floor};
use http_body_util::Full;
use hyper::{Request, StatusCode, header};
use jiff::Timestamp;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::address::HookAddress;
use super::message::Notice;
use crate::exchange::exchange;

/// Who is told.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Where.
    pub address: HookAddress,
    /// What the receiver's certificate must lead to; needed for `https`.
    pub anchors: Option<TrustAnchors>,
}

/// Sends `notice` to `receiver`; done when it has answered with a status of success (2xx). Takes no
/// longer than `bound`. Redirects are not followed: a receiver moves by being declared anew.
pub async fn deliver(
    receiver: &Receiver,
    notice: &Notice,
    now: Timestamp,
    bound: Duration,
) -> Result<(), DeliveryError> {
    let at = receiver.address.authority();
    match timeout(bound, post(receiver, notice, now, bound)).await {
        Ok(done) => done,
        Err(_) => Err(DeliveryError::TimedOut { at, seconds: bound.as_secs() }),
    }
}

async fn post(
    receiver: &Receiver,
    notice: &Notice,
    now: Timestamp,
    bound: Duration,
) -> Result<(), DeliveryError> {
    let address = &receiver.address;
    let at = address.authority();
    let odd = |reason: String| DeliveryError::Odd { at: at.clone(), reason };
    let body = serde_json::to_vec(notice).map_err(|error| odd(error.to_string()))?;
    let request = Request::post(address.target())
        .header(header::HOST, &at)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("handfast/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(body.into()))
        .map_err(|error| odd(error.to_string()))?;
    let connected = match address.host() {
        Host::Ip(ip) => TcpStream::connect((*ip, address.port())).await,
        Host::Dns(name) => TcpStream::connect((name.as_str(), address.port())).await,
    };
    let stream =
        connected.map_err(|source| DeliveryError::Unreachable { at: at.clone(), source })?;
    let answer = if address.is_encrypted() {
        // Without anchors of the user's nobody is trusted; the system's are never asked.
        let anchors = receiver.anchors.as_ref().ok_or(DeliveryError::NoAnchors)?;
        let options = ClientOptions {
            alpn: vec![ALPN.to_vec()],
            clock: Clock::fixed(now),
            // Receivers are other people's programs.
            floor: Floor::Tls12,
            ..ClientOptions::default()
        };
        let config = handfast_tls::client_config(None, anchors, &options)?;
        let host = address.host().to_string();
        let attempt = Attempt::client(host.clone(), now)
            .with_alpn(&[ALPN])
            .with_subject(format!("notifying {at}"));
        let stream = handfast_tls::connect(stream, config, &host, attempt, bound).await?;
        exchange(stream, request, ANSWER_BYTES).await
    } else {
        exchange(stream, request, ANSWER_BYTES).await
    };
    match answer {
        Ok((status, _)) if status.is_success() => Ok(()),
        Ok((status, _)) => Err(DeliveryError::Refused { at, status }),
        Err(error) => Err(odd(error.to_string())),
    }
}

/// Why a notice did not arrive. It is sent again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// There is nothing to verify the receiver with.
    #[error("the Notification has no `ca`, so its receiver cannot be verified; add it")]
    NoAnchors,
    /// The answer makes no sense.
    #[error("{at} cannot be understood: {reason}; check that `url` leads to a web hook")]
    Odd {
        /// Where.
        at: String,
        /// Why.
        reason: String,
    },
    /// The receiver said no.
    #[error("{at} answered with HTTP status {status}; check `url`, and the receiver's log")]
    Refused {
        /// Where.
        at: String,
        /// What it said.
        status: StatusCode,
    },
    /// No answer in time.
    #[error("{at} did not answer within {seconds} s; check that the receiver runs")]
    TimedOut {
        /// Where.
        at: String,
        /// The bound, in seconds.
        seconds: u64,
    },
    /// The handshake failed.
    #[error("{}", .0.one_line())]
    Tls(#[source] Box<Fault>),
    /// Nobody could be connected to.
    #[error("cannot reach {at}: {source}; check that the receiver runs")]
    Unreachable {
        /// Where.
        at: String,
        /// Why.
        source: io::Error,
    },
}

impl From<Fault> for DeliveryError {
    fn from(fault: Fault) -> Self {
        Self::Tls(Box::new(fault))
    }
}

const ALPN: &[u8] = b"http/1.1";
/// Most of an answer that is read; what it says beyond its status is of no interest.
const ANSWER_BYTES: usize = 64 * 1024;
