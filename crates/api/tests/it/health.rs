//! `/healthz` and `/metrics` over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use handfast_api::health::{Health, HealthError, HealthServer, NothingMeasured};
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

    async fn measured(&self, collector: &str) -> Result<String, NothingMeasured> {
        match collector {
            "shop" => Ok("# TYPE queue gauge\nqueue 3\n".to_owned()),
            "broken" => Err(NothingMeasured::Unreadable("no disk".to_owned())),
            _ => Err(NothingMeasured::NoSuchStore),
        }
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
    let (status, text) = get(address, "/metrics/telemetry/shop").await;
    assert_eq!(status, Some(200));
    assert!(text.contains("text/plain; version=0.0.4") && text.ends_with("queue 3\n"), "{text}");
    let (status, text) = get(address, "/metrics/telemetry/bank").await;
    assert_eq!(status, Some(404));
    assert!(text.contains("no collector of this name"), "{text}");
    assert_eq!(get(address, "/metrics/telemetry/broken").await.0, Some(503));
    assert_eq!(get(address, "/metrics/telemetry/%73hop").await.0, Some(200));
    for path in ["/", "/metrics/telemetry", "/metrics/telemetry/", "/metrics/telemetry/a/b"] {
        assert_eq!(get(address, path).await.0, Some(404), "{path}");
    }
    running.stop().await;
}
