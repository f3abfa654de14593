//! Why a verifier of ours refused a certificate, kept in full although TLS itself only carries an
//! alert number. How the reason reaches the caller without spoiling the alert is explained at
//! [`watched`].

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use rustls::{CertificateError, OtherError};

use crate::fault::{FaultCode, Side};

/// The precise reason why a certificate was refused inside a handshake.
///
/// It travels inside [`rustls::Error`]; [`fault_of`](crate::fault_of) makes a fault of it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code}: {what}")]
pub struct Refusal {
    pub(crate) code: FaultCode,
    pub(crate) side: Side,
    pub(crate) what: String,
    pub(crate) evidence: Vec<(&'static str, String)>,
}

impl Refusal {
    pub(crate) fn new(code: FaultCode, side: Side, what: impl Into<String>) -> Self {
        Self { code, side, what: what.into(), evidence: Vec::new() }
    }

    #[must_use]
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.evidence.push((key, value.into()));
        self
    }

    /// The stable cause.
    pub fn code(&self) -> FaultCode {
        self.code
    }

    /// The refusal that rides in an error of rustls, if any.
    pub fn in_error(error: &rustls::Error) -> Option<&Self> {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))
            | rustls::Error::Other(OtherError(inner)) => inner.downcast_ref(),
            _ => None,
        }
    }
}

impl From<Refusal> for rustls::Error {
    fn from(refusal: Refusal) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

/// What the current thread watches for.
enum Watch {
    Off,
    On(Option<Refusal>),
}

thread_local! {
    static WATCH: RefCell<Watch> = const { RefCell::new(Watch::Off) };
}

/// Runs a step of a handshake and hands back the refusal that one of our verifiers made in it.
///
/// rustls derives the alert that it sends from the error that a verifier returns, and only its own
/// variants become `unknown_ca` or `certificate_expired`; an error of ours becomes a bare
/// `certificate_unknown`. So while a step is watched the verifier returns the variant with the
/// right alert and leaves the full reason here. Where nobody watches, the reason rides in the
/// error itself: evidence is never lost, only the alert is less exact.
///
/// Verifiers run synchronously inside the call that feeds them bytes, on the calling thread, so a
/// refusal can never be taken for that of another connection.
///
/// ```text
/// let (status, refusal) = watched(|| connection.process_tls_records(buffer));
/// if let Err(error) = status.state {
///     let error = refusal.map_or(error, rustls::Error::from);
///     report(fault_of(&error, &attempt, None));
/// }
/// ```
pub fn watched<T>(step: impl FnOnce() -> T) -> (T, Option<Refusal>) {
    /// Restores the outer watch, also if the step panics.
    struct Restore(Watch);
    impl Drop for Restore {
        fn drop(&mut self) {
            WATCH.set(std::mem::replace(&mut self.0, Watch::Off));
        }
    }

    let restore = Restore(WATCH.replace(Watch::On(None)));
    let result = step();
    let refusal = match WATCH.replace(Watch::Off) {
        Watch::On(refusal) => refusal,
        Watch::Off => None,
    };
    drop(restore);
    (result, refusal)
}

/// [`watched`] for a handshake that is a future: every poll of it is watched.
pub async fn watched_async<F: Future>(handshake: F) -> (F::Output, Option<Refusal>) {
    let mut handshake = pin!(handshake);
    let mut refusal = None;
    let result = poll_fn(|context| {
        let (poll, seen) = watched(|| handshake.as_mut().poll(context));
        if seen.is_some() {
            refusal = seen;
        }
        poll
    })
    .await;
    (result, refusal)
}

/// What a verifier returns: `native` if the step is watched, else an error that carries `refusal`.
pub(crate) fn refuse(refusal: Refusal, native: rustls::Error) -> rustls::Error {
    WATCH.with_borrow_mut(|watch| match watch {
        Watch::On(slot) => {
            *slot = Some(refusal);
            native
        }
        Watch::Off => refusal.into(),
    })
}

#[cfg(test)]
mod tests {
    use rustls::{CertificateError, Error};

    use super::{Refusal, refuse, watched};
    use crate::fault::{FaultCode, Side};

    fn refusal() -> Refusal {
        Refusal::new(FaultCode::UnknownIssuer, Side::Either, "no")
    }

    fn native() -> Error {
        CertificateError::UnknownIssuer.into()
    }

    #[test]
    fn a_watched_refusal_keeps_the_exact_alert_and_the_reason() {
        let (error, seen) = watched(|| refuse(refusal(), native()));
        assert_eq!(error, native());
        assert_eq!(seen.expect("refused").code(), FaultCode::UnknownIssuer);
        let ((), seen) = watched(|| ());
        assert!(seen.is_none(), "nothing is left over for the next watch");
    }

    #[test]
    fn an_unwatched_refusal_rides_in_the_error() {
        let error = refuse(refusal(), native());
        assert_eq!(Refusal::in_error(&error).expect("rides").code(), FaultCode::UnknownIssuer);
    }

    #[test]
    fn watches_nest_and_survive_a_panic() {
        let ((inner, outer_error), outer) = watched(|| {
            let (_, inner) = watched(|| refuse(refusal(), native()));
            let panicked = std::panic::catch_unwind(|| {
                watched(|| -> () { std::panic::resume_unwind(Box::new(1)) })
            });
            assert!(panicked.is_err());
            (inner, refuse(refusal(), native()))
        });
        assert!(inner.is_some() && outer.is_some());
        assert_eq!(outer_error, native());
        assert!(Refusal::in_error(&refuse(refusal(), native())).is_some());
    }
}
