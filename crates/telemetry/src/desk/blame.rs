//! What is wrong with what comes, whoever sends it: counted by the reason, and put on record with the sender's name, so
//! that it can be found out who sends rubbish. A flood of it fills neither the list nor the log.

use handfast_tls::{Fault, FaultCode, Side};
use http::{Request, Response, StatusCode};

use super::{Desk, plain};
use crate::caller::Caller;
use crate::census::Refusal;
use crate::grpc::{Body, Code, Flaw, Status, failed, is_grpc};
use crate::protocol::method::Method;
use crate::sink::{Notice, Oddity};

impl Desk {
    /// Notes a call that was refused for what was sent; what was refused for another reason is not its sender's fault.
    pub(super) fn blame(&self, caller: &Caller, on: &str, status: &Status) {
        let Some(flaw) = status.flaw else { return };
        self.counts.flawed(flaw);
        let now = self.now();
        let fault =
            Fault::new(FaultCode::BadReport, Side::Peer, format!("collector {}", self.name))
                .saying(format!("what {} sent was refused: {}", caller.name(), status.message))
                .with("reason", flaw.as_str())
                .remedied_by(flaw.remedy());
        match self.repeats.note(&caller.account(), flaw.as_str(), now) {
            None => {}
            Some(1) => tracing::info!(on, fault = %fault.one_line(), "refused"),
            Some(times) => {
                tracing::info!(on, times, fault = %fault.one_line(), "refused again");
            }
        }
        self.census.refused(Refusal::new(now, fault, caller.name(), on));
    }

    /// Notes what was strange about records that were taken all the same.
    pub(super) fn notice(&self, caller: &Caller, noticed: &[Notice]) {
        for Notice { kind, oddity, records } in noticed {
            self.counts.odd(*oddity, *kind, *records);
            let repeated = self.repeats.note(&caller.account(), oddity.as_str(), self.now());
            let (Some(times), caller) = (repeated, caller.name()) else { continue };
            match oddity {
                Oddity::ClockSkewed => tracing::info!(
                    %caller, %kind, times,
                    "what it reports was of another time than it can be, and is kept under the time at which it came: \
                     compare `date -u` there and here"
                ),
                Oddity::Cut => tracing::info!(
                    %caller, %kind, times,
                    "what it reports has more or longer names and tags than it can be found by; it is kept whole"
                ),
            }
        }
    }

    /// The answer to a call that has more in its headers than any agent has.
    pub(super) fn too_many_headers<B>(
        &self,
        request: &Request<B>,
        caller: &Caller,
    ) -> Option<Response<Body>> {
        let each = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            name.as_str().len() + value.len() + HEADER_OVERHEAD
        };
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        let size = target + request.headers().iter().map(each).sum::<usize>();
        if size <= HEADER_BYTES {
            return None;
        }
        let status = Status::new(
            Code::ResourceExhausted,
            format!("headers of {size} bytes are not taken; the limit is {HEADER_BYTES}"),
        )
        .flawed(Flaw::TooLarge);
        self.blame(caller, known(request.uri().path()), &status);
        let mut response = if is_grpc(request) {
            failed(&status)
        } else {
            plain(StatusCode::OK, super::http_report::told(&status))
        };
        *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Some(response)
    }
}

/// A path, unless it is one that somebody has made up.
pub(super) fn known(path: &str) -> &str {
    let is = Method::at(path).is_some() || super::http_report::takes(path);
    if is { path } else { "a path that is unknown here" }
}

/// Bytes of the target and of all headers of a call.
const HEADER_BYTES: usize = 16 * 1024;

/// What a header counts beside its text (RFC 9113, section 6.5.2).
const HEADER_OVERHEAD: usize = 32;
