//! Notices over real sockets: who is told, who is believed, and what happens when nobody answers.

use std::time::{Duration, Instant};

use handfast_api::notify::{Alert, Condition, DeliveryError, Notice, Outbox, Receiver, deliver};
use handfast_pki::TrustAnchors;
use handfast_testkit::authority::TestAuthority;
use handfast_testkit::hook::{Hook, Manner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::clients::{PATIENCE, now, server_config};

fn notice() -> Notice {
    let mut outbox = Outbox::new("west");
    outbox.update(
        &[Alert {
            condition: Condition::RenewalFailing,
            subject: "credential a".to_owned(),
            message: "the disk is full".to_owned(),
            remedy: "make room".to_owned(),
        }],
        now(),
    );
    outbox.next(Duration::ZERO, now()).expect("something to tell")
}

fn plain(url: &str) -> Receiver {
    Receiver { address: url.parse().expect("an address"), anchors: None }
}

/// Takes one notice over TLS with a certificate of `authority` for 127.0.0.1, and returns its text.
async fn tls_receiver(authority: &TestAuthority) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}/hook?key=abc", listener.local_addr().expect("bound"));
    let acceptor = TlsAcceptor::from(server_config(authority));
    let served = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a client");
        let Ok(mut stream) = acceptor.accept(socket).await else { return String::new() };
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        while !text.ends_with(b"}") {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => text.extend_from_slice(&buffer[..count]),
            }
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(answer).await.is_err() || stream.shutdown().await.is_err() {
            return String::new();
        }
        String::from_utf8(text).expect("text")
    });
    (url, served)
}

#[tokio::test]
async fn a_verified_receiver_gets_the_documented_body() {
    let authority = TestAuthority::new("demo.example", now());
    let (url, served) = tls_receiver(&authority).await;
    let receiver = Receiver {
        address: url.parse().expect("an address"),
        anchors: Some(authority.anchors().clone()),
    };
    deliver(&receiver, &notice(), now(), PATIENCE).await.expect("delivered");
    let request = served.await.expect("served");
    assert!(request.starts_with("POST /hook?key=abc HTTP/1.1\r\n"), "{request}");
    let (_, body) = request.split_once("\r\n\r\n").expect("a body");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let expected = serde_json::json!({
        "version": 1,
        "id": "west/renewal-failing/credential/a",
        "status": "firing",
        "condition": "renewal-failing",
        "site": "west",
        "subject": "credential a",
        "message": "the disk is full",
        "remedy": "make room",
        "since": "2026-11-21T12:00:00Z",
        "sentAt": "2026-11-21T12:00:00Z",
        "page": "docs/book/monitoring.md#renewal-failing",
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_receiver_that_cannot_be_verified_is_told_nothing() {
    let authority = TestAuthority::new("demo.example", now());
    let other = TestAuthority::new("demo.example", now());
    let anchors = |authority: &TestAuthority| -> TrustAnchors { authority.anchors().clone() };
    for anchors in [None, Some(anchors(&other))] {
        let (url, served) = tls_receiver(&authority).await;
        let without = anchors.is_none();
        let receiver = Receiver { address: url.parse().expect("an address"), anchors };
        let error = deliver(&receiver, &notice(), now(), PATIENCE).await.expect_err("not told");
        match error {
            DeliveryError::NoAnchors => assert!(without),
            DeliveryError::Tls(fault) => {
                assert_eq!(fault.code().to_string(), "unknown-issuer");
                assert!(!fault.one_line().contains("abc"));
            }
            other => panic!("{other}"),
        }
        assert_eq!(served.await.expect("served"), "", "not a byte of it");
    }
    // Verified, and another host than the certificate names.
    let (url, served) = tls_receiver(&authority).await;
    let receiver = Receiver {
        address: url.replace("127.0.0.1", "localhost").parse().expect("an address"),
        anchors: Some(authority.anchors().clone()),
    };
    let error = deliver(&receiver, &notice(), now(), PATIENCE).await.expect_err("not told");
    assert!(
        matches!(&error, DeliveryError::Tls(fault) if fault.code().to_string() == "wrong-name"),
        "{error}"
    );
    assert_eq!(served.await.expect("served"), "");
}

#[tokio::test]
async fn a_receiver_that_fails_hangs_or_hangs_up_costs_a_bounded_time() {
    let hook = Hook::start(Manner::Fails);
    let receiver = plain(&hook.url());
    let bound = Duration::from_millis(500);
    let error = deliver(&receiver, &notice(), now(), PATIENCE).await.expect_err("refused");
    assert!(error.to_string().contains("500"), "{error}");
    hook.set(Manner::HangsUp);
    let error = deliver(&receiver, &notice(), now(), PATIENCE).await.expect_err("no answer");
    assert!(!error.to_string().contains("a-secret-path"), "{error}");
    hook.set(Manner::Hangs);
    let start = Instant::now();
    let error = deliver(&receiver, &notice(), now(), bound).await.expect_err("no answer");
    assert!(matches!(error, DeliveryError::TimedOut { .. }), "{error}");
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    hook.set(Manner::Takes);
    deliver(&receiver, &notice(), now(), PATIENCE).await.expect("delivered");
    assert_eq!((hook.taken().len(), hook.asked()), (1, 4));
    let url = hook.url();
    drop(hook);
    // Its thread may take a moment to close the port.
    let closing = Instant::now();
    let gone = loop {
        match deliver(&plain(&url), &notice(), now(), PATIENCE).await {
            Err(error @ DeliveryError::Unreachable { .. }) => break error,
            other => assert!(closing.elapsed() < PATIENCE, "the port is still open: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(gone.to_string().contains("cannot reach 127.0.0.1:"), "{gone}");
}
