//! Sockets as both event loops want them.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use mio::Interest;
use mio::net::TcpListener;

pub fn both() -> Interest {
    Interest::READABLE | Interest::WRITABLE
}

pub fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotConnected | ErrorKind::WouldBlock)
}

/// A listening socket of this thread's own; the kernel spreads connections over them.
pub fn listen(address: SocketAddr) -> TcpListener {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM.nonblocking(),
        None,
    )
    .expect("socket");
    socket.set_reuse_address(true).expect("reuse address");
    socket.set_reuse_port(true).expect("reuse port");
    // Accepted sockets inherit it: one system call less for each connection.
    socket.set_tcp_nodelay(true).expect("nodelay");
    socket.bind(&address.into()).expect("bind");
    socket.listen(4096).expect("listen");
    TcpListener::from_std(socket.into())
}
