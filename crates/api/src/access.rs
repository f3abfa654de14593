//! Who may do what: principals, targets, roles, policies, and the decision, which is a pure function
//! of all of them.
//!
//! A [`Caller`] comes from a connection (the kernel's word on a local peer, or a verified operator
//! certificate) and from nothing else. What it asks for is an [`Action`](crate::admin::Action) on one
//! or more [`Target`]s. [`Policies`] decide: built-in ones for the roles, one for each resource of the
//! kind Policy, and the user's own in Cedar. Nothing here keeps state or writes the audit log: the node
//! does.

mod approvals;
mod binding;
mod built_in;
mod decision;
mod files;
mod policies;
mod principal;
mod role;
mod target;
mod two_person;

pub use approvals::{ApprovalError, Approvals, Waiting};
pub use binding::{Binding, Pattern, PatternError};
pub use built_in::schema;
pub use decision::{Decision, Question};
pub use files::{MAX_POLICY_BYTES, MAX_POLICY_FILES, PolicyFile, read_files};
pub use policies::{Policies, PolicyFault, Sources};
pub use principal::{Caller, Principal, PrincipalError, Via};
pub use role::{Role, UnknownRole};
pub use target::{About, Target, TargetError};
pub use two_person::TwoPersonRule;
