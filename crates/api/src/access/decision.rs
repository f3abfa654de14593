//! The question and its answer, in our own words.

use crate::access::{Caller, Principal, Target, Via};
use crate::admin::Action;

/// May this principal do this to that?
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// For what.
    pub action: Action,
    /// About what.
    pub target: &'a Target,
    /// Whether the call came over the admin socket; else over the admin port.
    pub locally: bool,
    /// Whether a second person has approved it.
    pub approved: bool,
}

impl<'a> Question<'a> {
    /// The question that a call asks, for one of its targets.
    pub fn of(caller: &'a Caller, action: Action, target: &'a Target) -> Self {
        Self {
            principal: &caller.principal,
            action,
            target,
            locally: caller.via == Via::Socket,
            approved: caller.approved_by.is_some(),
        }
    }
}

/// The answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// Whether it is allowed. Nothing is, unless a policy permits it and none forbids it.
    pub allowed: bool,
    /// The policies that decided: those that permit, or those that forbid. Empty when none permits.
    pub policies: Vec<String>,
    /// In words, for people and the audit log.
    pub reason: String,
}

impl Decision {
    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self { allowed: false, policies: Vec::new(), reason: reason.into() }
    }
}
