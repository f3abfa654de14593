//! Between the HTTP of a redemption and the authority's decision: what goes in, and which of its
//! words a stranger may read.

use handfast_authority::{RedeemRefusal, RedeemRequest};
use zeroize::Zeroizing;

use super::message::{Problem, ProblemCode};
use super::server::RedemptionRequest;

impl From<RedemptionRequest> for RedeemRequest {
    fn from(request: RedemptionRequest) -> Self {
        Self {
            grant: request.grant.to_string(),
            code: Zeroizing::new(request.code.reveal().as_bytes().to_vec()),
            site: request.site.to_string(),
            csr: request.csr.der().to_vec(),
            origin: request.from.to_string(),
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
            RedeemRefusal::Spent => Self::new(ProblemCode::Spent),
            RedeemRefusal::Unknown => Self::new(ProblemCode::Unknown),
            RedeemRefusal::WrongCode => Self::new(ProblemCode::WrongCode),
            _ => Self::new(ProblemCode::Internal),
        }
    }
}
