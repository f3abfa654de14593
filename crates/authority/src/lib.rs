//! Decides and signs: from what is declared to the credentials that must exist, made, renewed and
//! kept, and from an access grant to another site's certificate.
//!
//! [`Authority`] works on a credential store and a ledger and answers with values. It opens no
//! socket, builds no TLS configuration and runs no task: requests to other sites come out of it as
//! [`CsrRequest`]s and the answers go back in, a new credential is proven by whatever implements
//! [`Prove`], and time is a parameter. What it decides by are pure functions of state and time
//! ([`desired`], [`decide`], [`renew_at`]).
//!
//! Three rules hold everywhere. What is the user's is never written. What is new takes the place
//! of what is old only after it was proven, and what is old stays on disk until then. And what is
//! answered is on disk before.

mod agent;
mod aside;
mod authority;
mod bundle;
mod ceremony;
mod decide;
mod declared;
mod desired;
mod enrol;
mod foreign;
mod grant;
mod heard;
pub mod hint;
mod inspect;
mod issue;
mod keyring;
mod lifetimes;
mod making;
mod names;
mod observed;
mod offline;
mod peer;
mod protect;
mod publish;
mod reconcile;
mod redeem;
mod refused;
mod renewal;
mod report;
mod revoke;
mod rotating;
pub mod rotation;
mod schedule;
mod skew;
mod survey;

pub use agent::PresentedAgent;
pub use aside::KeptKey;
pub use authority::{Authority, Prove};
pub use bundle::{Bundle, BundleRefusal, ReceivedBundle};
pub use ceremony::{CeremonyError, InstalledCa, RequestedCa};
pub use decide::{Action, Failure, Key, Reason, Situation, decide, wake_at};
pub use declared::{
    Declared, DeclaredAccess, DeclaredAgent, DeclaredLink, DeclaredService, ResourceRef,
};
pub use desired::{DesiredCredential, NameConflict, SignedBy, conflicts, desired};
pub use enrol::{EnrolmentAnswer, EnrolmentError};
pub use foreign::{ForeignError, ForeignRevoked, RevokeForeign};
pub use grant::{Code, GrantError, GrantOptions};
pub use heard::HeardRevocation;
pub use issue::{IssueFor, IssueRefusal, IssuedFor, PolicyViolation};
pub use keyring::{KeyPlace, KeySecrets, Tokens};
pub use lifetimes::{LEAVES_PER_CA, Lifetimes, LifetimesError, parse_duration};
pub use making::MakingError;
pub use names::CredentialNames;
pub use observed::{Current, Facts, Observed, Staged, Warning};
pub use offline::{CaRefusal, CaTerms, ca_terms, sign_ca};
pub use protect::{ProtectError, Protected, Protection};
pub use publish::{
    Document, OcspAnswer, PublishError, PublishReport, Published, PublishedIssuer, Publisher,
};
pub use reconcile::{RenewNowError, Selection};
pub use redeem::{RedeemRefusal, RedeemRequest, Redeemer};
pub use renewal::{RenewRefusal, Renewed};
pub use report::{
    Change, CredentialFacts, CredentialState, CsrRequest, Problem, ProblemCode, Report, Tally,
};
pub use revoke::{Revocable, RevokeError, RevokeRequest, RevokedCertificate, RevokedNow};
pub use rotating::{AuthorityStanding, KeyStanding, KeyState, RotateError, RotateOrder, SiteSeen};
pub use schedule::{
    ISSUANCE_CUSHION, issued_at, left_at_renewal, life_leaving, lifetime, moment_between, renew_at,
    renewal_window, retry_at,
};
pub use skew::{Skew, detect};
