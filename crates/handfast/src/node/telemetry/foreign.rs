//! A relay whose collector does not know it: its certificate was made by this site, and the collector is of another
//! trust domain. Said as a problem of the relay, with the way out. Pure.

use handfast_api::resources::{Relay, Resource};
use handfast_api::status::{ProblemSeverity, ProblemView};
use handfast_telemetry::forward::ForwarderStatus;
use handfast_telemetry::grpc::{Code, Status};
use handfast_telemetry::port::Mode;
use handfast_tls::FaultCode;

/// The problem, if the collector's last answer was that.
pub(in crate::node) fn problem(
    relay: &Resource<Relay>,
    forward: &ForwarderStatus,
) -> Option<ProblemView> {
    let made_here = relay.spec.tls_credentials.is_none() && relay.spec.mode == Mode::Mtls;
    if !made_here {
        return None;
    }
    let fault = forward.upstream.fault.as_ref().filter(|fault| {
        matches!(
            fault.code(),
            FaultCode::UnknownIssuer | FaultCode::WrongIdentity | FaultCode::WrongTrustDomain
        )
    });
    let refused = forward.refused.as_ref().filter(|status| knows_us_not(status));
    let answer = match (fault, refused) {
        (Some(fault), _) => fault.code().as_str(),
        (None, Some(_)) => FaultCode::WrongIdentity.as_str(),
        (None, None) => return None,
    };
    let service = &relay.spec.service;
    Some(ProblemView {
        severity: ProblemSeverity::Warning,
        subject: relay.reference(),
        file: Some(relay.origin.file.display().to_string()),
        line: Some(relay.origin.line),
        message: format!(
            "its certificate was made by this site, and the collector is of another trust domain: {answer}"
        ),
        remedy: format!(
            "at the collector's site: `handfast token issue FILE --agent {service}`; here: `handfast enrol DIR --token \
             FILE --keep` with a DIR under `input/certs`, and its name as `tlsCredentials` of the Relay \
             (`--tls-credentials` of `handfast relay create`)"
        ),
    })
}

/// Refused as somebody who may report as nothing. Who may report as something only spoke for another service.
fn knows_us_not(status: &Status) -> bool {
    let said = &status.message;
    status.code == Code::PermissionDenied
        && said.starts_with(FaultCode::WrongIdentity.as_str())
        && (said.contains("may-report-as=none") || !said.contains("may-report-as="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_may_report_as_nothing_is_unknown() {
        let status = |code, message: &str| Status::new(code, message);
        let denied = |message: &str| knows_us_not(&status(Code::PermissionDenied, message));
        assert!(denied("wrong-identity: x reported as shop (collector t); may-report-as=none; do"));
        assert!(denied("wrong-identity: x may not call this collector"));
        assert!(!denied("wrong-identity: x reported as bank; may-report-as=shop; do"));
        assert!(!denied("the token is missing or wrong"));
        assert!(!knows_us_not(&status(Code::Unavailable, "wrong-identity: may-report-as=none")));
    }
}
