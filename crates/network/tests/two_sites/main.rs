//! Flows between two real sites over loopback sockets.

mod flows;
mod links;
mod pair;
