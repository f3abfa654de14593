//! `/healthz` and `/metrics` over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use handfast_api::health::{Health, HealthError, HealthServer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::clients::{Running, read_to_end, status_of};

#[derive(Default)]
struct Node {
    healthy: AtomicBool,
}

impl Health for Node {
    fn healthy(&self) -> Result<(), String> {
        if self.healthy.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("link west is down".to_owned())
        }
    }

    fn metrics(&self) -> String {
        "# TYPE up gauge\nup 1\n# EOF\n".to_owned()
    }
}

async fn get(address: std::net::SocketAddr, path: &str) -> (Option<u16>, String) {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let answer = read_to_end(&mut stream).await;
    (status_of(&answer), String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn health_and_metrics_are_served_on_loopback_only() {
    let everywhere = HealthServer::bind("0.0.0.0:0".parse().expect("an address")).await;
    assert!(matches!(everywhere, Err(HealthError::NotLoopback { .. })));

    let server =
        HealthServer::bind("127.0.0.1:0".parse().expect("an address")).await.expect("bound");
    let address = server.local_addr().expect("an address");
    let taken = HealthServer::bind(address).await;
    assert!(matches!(taken, Err(HealthError::Bind { .. })));

    let node = Arc::new(Node::default());
    let running = Running::new(|stop| server.serve(Arc::clone(&node), stop));
    let (status, text) = get(address, "/healthz").await;
    assert_eq!(status, Some(503));
    assert!(text.ends_with("link west is down\n"), "{text}");
    node.healthy.store(true, Ordering::Relaxed);
    assert_eq!(get(address, "/healthz").await.0, Some(200));
    let (status, text) = get(address, "/metrics").await;
    assert_eq!(status, Some(200));
    assert!(text.contains("application/openmetrics-text") && text.ends_with("# EOF\n"), "{text}");
    assert_eq!(get(address, "/").await.0, Some(404));
    running.stop().await;
}
