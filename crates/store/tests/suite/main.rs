//! The store from outside: real directories, real processes that are really killed, real mounts.
//! One program, so that it links once.

#![expect(clippy::unwrap_used, reason = "what cannot be unwrapped here is a failed test")]

mod backup;
mod child;
mod crash;
mod credentials;
mod disk;
mod home;
mod live;
mod material;
mod model;
mod tampering;
