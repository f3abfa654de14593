//! Notices to a web hook of the user's: what is wrong is sent when it begins and when it ends, as JSON
//! over HTTPS (or plain HTTP to this machine).
//!
//! `outbox` decides what is sent when, purely; [`deliver`](deliver()) sends one notice, once. Whoever
//! runs both never waits for a receiver with anything else.

mod address;
mod deliver;
mod message;
mod outbox;

pub use address::{HookAddress, HookAddressError};
pub use deliver::{DeliveryError, Receiver, deliver};
pub use message::{Alert, Condition, Notice, NoticeStatus};
pub use outbox::{MOST_ALERTS, Outbox};
