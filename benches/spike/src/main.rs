//! `spike TRANSPORT a|b`: one side of a pair of proxies, `client --tcp--> a ==mTLS link==> b --tcp--> target`.
//!
//! TRANSPORT is `h2` (HTTP/2 CONNECT streams over pooled links), `lean` (a framing of our own over a
//! few links) or `perflow` (a TLS connection for every flow). It exists to choose one of them; it is
//! not the product: it trusts its peer once the handshake is done and stops on the first surprise.

mod flow;
mod frame;
mod h2_connect;
mod lean;
mod link;
mod perflow;
mod record;
mod settings;
mod socket;

use settings::Settings;

fn main() {
    let transport = std::env::args().nth(1).unwrap_or_default();
    let settings = Settings::read(&std::env::args().nth(2).unwrap_or_default());
    match transport.as_str() {
        "h2" => h2_connect::run(settings),
        "lean" => lean::run(settings),
        "perflow" => perflow::run(settings),
        other => panic!("transport {other:?} is not h2, lean or perflow"),
    }
}
