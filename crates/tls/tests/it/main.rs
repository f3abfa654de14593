//! Handshakes over real loopback sockets: what is accepted, what is refused, and what both sides
//! say about it. One binary, so that it links once.

mod acceptance;
mod alerts;
mod choices;
mod files;
mod foreign;
mod forge;
mod identity;
mod live;
mod meeting;
mod names;
mod openssl;
mod probing;
mod revocation;
mod time;
mod trust;
