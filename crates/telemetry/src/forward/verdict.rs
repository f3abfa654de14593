//! What is to be done after a call has failed. Pure.
//!
//! Setting aside is for what will never be taken, and only where that is certain: a backend whose disk is
//! full answers `INTERNAL` to everything, a port that is somebody else's answers `UNIMPLEMENTED` to
//! everything, and neither may empty a spool.

use crate::grpc::{Code, Status};

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// Nothing is taken at the moment, whatever it is: everybody waits.
    Away,
    /// The same again, after a pause: the backend stumbled.
    Again,
    /// Somewhere in it is what the backend stumbles over: it is looked for by halving.
    Halve,
    /// It will never be taken: set aside.
    Never,
    /// The backend does not have the method: set aside, and what comes of the same too.
    NoMethod,
}

/// What is known of the call that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// How often the same shipment has failed, with this time.
    pub(super) times: u32,
    /// Records in it.
    pub(super) records: usize,
    /// Bytes in it.
    pub(super) bytes: usize,
    /// Whether others were taken since it failed first.
    pub(super) others_pass: bool,
}

impl Case {
    pub(super) fn verdict(self, status: &Status) -> Verdict {
        let stumbles = self.times >= STUMBLES;
        match status.code {
            Code::PermissionDenied if status.message.contains("wrong-identity") => Verdict::Never,
            Code::Unimplemented => Verdict::NoMethod,
            Code::InvalidArgument | Code::OutOfRange | Code::DataLoss => Verdict::Halve,
            Code::ResourceExhausted if is_too_large(status) => Verdict::Halve,
            // A quota, mostly. If it is a limit of size after all, smaller ones will fit; what is
            // small is not the reason.
            Code::ResourceExhausted if stumbles && self.bytes >= LARGE => Verdict::Halve,
            Code::DeadlineExceeded if stumbles && self.records > 1 => Verdict::Halve,
            // A wrong token is mended at one of the two ends, and what waits is then wanted.
            Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Cancelled => Verdict::Away,
            _ if !stumbles => Verdict::Again,
            _ if self.others_pass => Verdict::Halve,
            _ => Verdict::Away,
        }
    }
}

/// Whether a message was refused for its size, in the words of those who refuse: Go, Java, C, and us.
fn is_too_large(status: &Status) -> bool {
    const WORDS: [&str; 5] = [
        "larger than max",
        "exceeds maximum",
        "larger than limit",
        "message too large",
        "or more is not taken",
    ];
    let message = status.message.to_ascii_lowercase();
    WORDS.iter().any(|words| message.contains(words))
}

/// The status with what to do about it, where that is known better here than there. OAP refuses a token
/// without a word.
pub(super) fn with_remedy(status: Status) -> Status {
    let Status { code, flaw, message } = status;
    let remedy = match code {
        Code::PermissionDenied | Code::Unauthenticated => {
            "the token is wrong: `forward.authentication` of the Collector, or `authentication` of the Relay, \
             has to be the one that the backend asks for (an OAP: `SW_AUTHENTICATION`; an OTLP collector gets it as \
             `authorization: Bearer`)"
        }
        Code::Unimplemented => {
            "the backend knows no method of ours at all: is its address that of a collector, and \
             `forward.protocol` what it speaks?"
        }
        _ => return Status { code, flaw, message },
    };
    let message =
        if message.is_empty() { remedy.to_owned() } else { format!("{message} ({remedy})") };
    Status { code, flaw, message }
}

/// So often the backend may stumble before it is looked for over what.
pub(super) const STUMBLES: u32 = 5;

/// No server takes less in one message.
const LARGE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Case = Case { times: 1, records: 10, bytes: 1000, others_pass: false };
    const OFTEN: Case = Case { times: 100, ..ONE };

    fn verdict(case: Case, code: Code, message: &str) -> Verdict {
        case.verdict(&Status::new(code, message))
    }

    #[test]
    fn while_the_backend_is_away_nothing_is_given_up() {
        for code in
            [Code::Unavailable, Code::Cancelled, Code::PermissionDenied, Code::Unauthenticated]
        {
            for case in [ONE, OFTEN, Case { others_pass: true, ..OFTEN }] {
                assert_eq!(verdict(case, code, ""), Verdict::Away, "{code}");
            }
        }
    }

    #[test]
    fn who_may_not_speak_for_a_service_never_will() {
        let said = "wrong-identity: agent shop as bank";
        assert_eq!(verdict(ONE, Code::PermissionDenied, said), Verdict::Never);
    }

    #[test]
    fn a_method_that_is_not_there_is_not_looked_for_by_halving() {
        assert_eq!(verdict(ONE, Code::Unimplemented, "Method not found"), Verdict::NoMethod);
    }

    #[test]
    fn what_the_backend_stumbles_over_is_looked_for_only_if_others_pass() {
        for code in [Code::Internal, Code::Unknown, Code::FailedPrecondition, Code::Aborted] {
            assert_eq!(verdict(ONE, code, ""), Verdict::Again, "{code}");
            assert_eq!(verdict(OFTEN, code, ""), Verdict::Away, "{code}");
            let case = Case { others_pass: true, ..OFTEN };
            assert_eq!(verdict(case, code, ""), Verdict::Halve, "{code}");
        }
        assert_eq!(verdict(ONE, Code::InvalidArgument, ""), Verdict::Halve);
    }

    #[test]
    fn a_quota_is_waited_for_and_a_limit_of_size_is_not() {
        assert_eq!(verdict(OFTEN, Code::ResourceExhausted, "quota of /agent/x"), Verdict::Away);
        for said in [
            "grpc: received message larger than max (5242880 vs. 4194304)",
            "gRPC message exceeds maximum size 52428800: 60000000",
            "Received message larger than max (60000000 vs. 52428800)",
            "a message of 52428801 bytes or more is not taken; the limit is 52428800",
        ] {
            assert_eq!(verdict(ONE, Code::ResourceExhausted, said), Verdict::Halve, "{said}");
        }
        let large = Case { bytes: LARGE, ..OFTEN };
        assert_eq!(verdict(large, Code::ResourceExhausted, "no"), Verdict::Halve);
        assert_eq!(
            verdict(Case { times: 1, ..large }, Code::ResourceExhausted, "no"),
            Verdict::Away
        );
    }

    #[test]
    fn what_takes_too_long_is_sent_in_smaller_pieces_and_one_piece_is_tried_for_ever() {
        assert_eq!(verdict(ONE, Code::DeadlineExceeded, ""), Verdict::Away);
        assert_eq!(verdict(OFTEN, Code::DeadlineExceeded, ""), Verdict::Halve);
        let single = Case { records: 1, ..OFTEN };
        assert_eq!(verdict(single, Code::DeadlineExceeded, ""), Verdict::Away);
    }

    #[test]
    fn a_refused_token_is_told_with_what_to_do() {
        let told = with_remedy(Status::new(Code::PermissionDenied, "")).to_string();
        assert!(
            told.starts_with("PERMISSION_DENIED: the token is wrong: `forward.authentication`"),
            "{told}"
        );
        let told = with_remedy(Status::new(Code::Unavailable, "gone"));
        assert_eq!(told, Status::new(Code::Unavailable, "gone"));
    }
}
