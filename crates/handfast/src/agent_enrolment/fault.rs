//! Why there is no new certificate of agents, and whether that can pass.

use std::path::PathBuf;

use handfast_api::grants::{ProblemCode, RedeemError, TokenError};
use handfast_store::{FileError, LoneError};
use handfast_tls::Fault;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum EnrolmentFault {
    /// What lies there cannot be used.
    #[error("the credential in {} cannot be used: {why}; remove the directory to enrol anew", directory.display())]
    Broken { directory: PathBuf, why: String },
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] LoneError),
    /// The other side refused, or cannot be reached.
    #[error(transparent)]
    Exchange(#[from] RedeemError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The token links sites.
    #[error(
        "the token {} links sites and enrols no agent: ask for one that `handfast token issue --agent` made",
        token.display()
    )]
    ForSites { token: PathBuf },
    /// No key or request could be made.
    #[error("no key could be made: {why}")]
    Key { why: String },
    /// What is in use is no agent's.
    #[error("the certificate in use is no agent's, so it is not renewed: name another directory")]
    NotAnAgent,
    /// The answer makes no sense.
    #[error(
        "the answer makes no sense: {why}; check that both sides run the same version of handfast"
    )]
    Odd { why: String },
    /// The new certificate failed its trial.
    #[error("the new certificate was not put to use: {0}")]
    Proof(#[source] Box<Fault>),
    /// The token cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It is not known where to renew.
    #[error("{} is gone, so it is not known where to renew: redeem a new token", file.display())]
    Unknown { file: PathBuf },
}

impl EnrolmentFault {
    /// Whether it says that nothing is renewed with this certificate any more. A site that knows no such question says that
    /// it does not know it, and means nothing by it.
    pub(super) fn ends_enrolment(&self) -> bool {
        let unknown = matches!(
            self,
            Self::Exchange(RedeemError::Refused { problem, .. }) if problem.error != ProblemCode::Refused
        );
        self.is_final() && !unknown
    }

    /// Whether the same request will never be granted.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Exchange(RedeemError::Refused { problem, .. }) => !problem.error.is_passing(),
            Self::Exchange(RedeemError::Tls(fault)) => {
                fault.code() == handfast_tls::FaultCode::Revoked
            }
            Self::NotAnAgent | Self::Unknown { .. } => true,
            _ => false,
        }
    }
}

impl From<Fault> for EnrolmentFault {
    fn from(fault: Fault) -> Self {
        Self::Proof(Box::new(fault))
    }
}
