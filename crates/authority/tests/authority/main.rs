//! The authority from outside: decisions on made-up worlds, and everything it does on a real
//! directory store and a real ledger, killed and wrong clocks included.
#![expect(clippy::unwrap_used, reason = "a failed helper fails its test; that is its report")]

mod agents;
mod decisions;
mod enrolment;
mod grants;
mod hard_times;
mod hints;
mod issuing;
mod killed;
mod killed_rotating;
mod publishing;
mod reconciling;
mod rotations;
mod site;
mod storm;
mod supplied;
mod unrecorded;
