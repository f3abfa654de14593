//! Between the HTTP of a redemption and the authority's decision: what goes in, and which of its
//! words a stranger may read.

use handfast_authority::hint::{HintReason, RenewalHint};
use handfast_authority::{RedeemRefusal, RedeemRequest, Redeemer, RenewRefusal};
use handfast_store::Applicant;
use zeroize::Zeroizing;

use super::message::{HintReply, HintWhy, Problem, ProblemCode, SuggestedWindow};
use super::server::RedemptionRequest;

impl From<RedemptionRequest> for RedeemRequest {
    fn from(request: RedemptionRequest) -> Self {
        Self {
            grant: request.grant.to_string(),
            code: Zeroizing::new(request.code.reveal().as_bytes().to_vec()),
            redeemer: match request.applicant {
                Applicant::Agent(_) => Redeemer::Agent,
                Applicant::Site(_) => Redeemer::Site,
            },
            name: request.applicant.name().to_string(),
            csr: request.csr.der().to_vec(),
            origin: request.from.to_string(),
        }
    }
}

impl From<RenewalHint> for HintReply {
    fn from(hint: RenewalHint) -> Self {
        Self {
            suggested_window: SuggestedWindow { start: hint.start, end: hint.end },
            why: match hint.why {
                HintReason::Life => HintWhy::Life,
                HintReason::Rotation => HintWhy::Rotation,
                HintReason::Taint => HintWhy::Taint,
            },
            retry_after_seconds: hint.ask_after.as_secs(),
        }
    }
}

impl From<&RedeemRefusal> for Problem {
    /// What the log may say of this node's own state (paths, the database) is left out.
    fn from(refusal: &RedeemRefusal) -> Self {
        match refusal {
            RedeemRefusal::BadRequest(_) | RedeemRefusal::BadSiteName(_) => {
                Self::new(ProblemCode::Invalid).because(refusal.to_string())
            }
            RedeemRefusal::Expired => Self::new(ProblemCode::Expired),
            RedeemRefusal::NotReady(_) => Self::new(ProblemCode::Unavailable),
            RedeemRefusal::Refused(reason) => {
                Self::new(ProblemCode::Refused).because(reason.message.clone())
            }
            RedeemRefusal::Revoked { .. } => {
                Self::new(ProblemCode::Refused).because(refusal.to_string())
            }
            RedeemRefusal::Spent => Self::new(ProblemCode::Spent),
            RedeemRefusal::Unknown => Self::new(ProblemCode::Unknown),
            RedeemRefusal::WrongCode => Self::new(ProblemCode::WrongCode),
            _ => Self::new(ProblemCode::Internal),
        }
    }
}

impl From<&RenewRefusal> for Problem {
    fn from(refusal: &RenewRefusal) -> Self {
        match refusal {
            RenewRefusal::BadRequest(_) => {
                Self::new(ProblemCode::Invalid).because(refusal.to_string())
            }
            RenewRefusal::NotReady(_) => Self::new(ProblemCode::Unavailable),
            RenewRefusal::Store(_) => Self::new(ProblemCode::Internal),
            _ => Self::new(ProblemCode::Refused).because(refusal.to_string()).remedied_by(
                "ask the operator of the site for a new token (`handfast token issue --agent`)",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use handfast_authority::RedeemRefusal;
    use handfast_store::{RefusalReason, StoreError};

    use super::{Problem, ProblemCode};

    #[test]
    fn refusals_keep_their_kind() {
        let reason = RefusalReason {
            code: "other-site".to_owned(),
            message: "the grant is for site north".to_owned(),
        };
        for (refusal, code) in [
            (RedeemRefusal::Expired, ProblemCode::Expired),
            (RedeemRefusal::Spent, ProblemCode::Spent),
            (RedeemRefusal::Unknown, ProblemCode::Unknown),
            (RedeemRefusal::WrongCode, ProblemCode::WrongCode),
            (RedeemRefusal::Refused(reason), ProblemCode::Refused),
        ] {
            let problem = Problem::from(&refusal);
            assert_eq!(problem.error, code);
            assert!(!problem.message.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
        }
    }

    #[test]
    fn strangers_learn_nothing_of_our_disk() {
        let path = "/var/lib/handfast/runtime/state.db".into();
        let problem = Problem::from(&RedeemRefusal::Store(StoreError::DiskFull { path }));
        assert_eq!(problem.error, ProblemCode::Internal);
        assert!(problem.error.is_passing());
        assert!(!problem.to_string().contains("state.db"), "{problem}");
    }
}
