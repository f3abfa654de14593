//! The admin API over a real socket.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;

use handfast_api::admin::{
    AdminSocket, Client, ClientError, IssueToken, RedeemToken, RefusalCode, Renew, SocketError,
};
use handfast_api::secret::Secret;
use handfast_api::serve::Limits;

use crate::clients::{credential, now, serve_admin};

#[tokio::test]
async fn every_call_is_answered() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("admin.sock");
    let server = serve_admin(&path, Limits::ADMIN).await;
    let client = Client::new(&path);

    let status = client.status().await.expect("answered");
    assert_eq!(status.site.as_deref(), Some("west"));
    assert_eq!(status.started_at, now());
    assert_eq!(status.credentials.total, 1);
    assert_eq!(client.links().await.expect("answered"), status.links);
    assert_eq!(client.listeners().await.expect("answered"), status.listeners);
    assert_eq!(client.connectors().await.expect("answered"), status.connectors);
    assert_eq!(client.credentials().await.expect("answered"), [credential()]);
    assert!(client.faults().await.expect("answered").problems.is_empty());

    let token = IssueToken { redemptions_allowed: Some(3), cost: Some(2), ..IssueToken::default() };
    let issued = client.issue_token(&token).await.expect("answered");
    assert_eq!((issued.redemptions_allowed, issued.link_cost), (3, 2));
    assert!(!issued.code.reveal().is_empty(), "the code travels");
    assert!(!format!("{issued:?}").contains(issued.code.reveal()), "and is not printed");

    let renew = Renew { names: vec!["a".to_owned()], all: false };
    assert_eq!(client.renew(&renew).await.expect("answered").renewals[0].name, "a");

    let redeem = RedeemToken {
        name: "t".to_owned(),
        url: "u".to_owned(),
        code: Secret::new("c"),
        ca: "a".to_owned(),
        link_cost: 1,
    };
    let refused = client.redeem_token(&redeem).await;
    let Err(ClientError::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.code, RefusalCode::RefusedByPeer);
    assert_eq!(refusal.to_string(), "west says: spent; ask for a new token");
    server.stop().await;
}

/// Scripts read these names.
#[test]
fn a_credential_has_exactly_the_promised_fields() {
    let value = serde_json::to_value(credential()).expect("written");
    let mut fields: Vec<_> = value.as_object().expect("an object").keys().cloned().collect();
    fields.sort_unstable();
    let mut promised = [
        "name",
        "identity",
        "serial",
        "issuer",
        "notBefore",
        "notAfter",
        "renewAt",
        "source",
        "state",
        "failures",
        "lastError",
        "key",
    ];
    promised.sort_unstable();
    assert_eq!(fields, promised);
    assert_eq!(value["source"], "managed");
    assert_eq!(value["state"], "valid");
    assert_eq!(value["notAfter"], "2026-11-21T12:00:00Z");
    assert!(value["renewAt"].is_null(), "what is not known is null, never left out");
}

#[tokio::test]
async fn the_socket_is_private_and_goes_away_with_the_node() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("admin.sock");
    let server = serve_admin(&path, Limits::ADMIN).await;
    let metadata = fs::symlink_metadata(&path).expect("there");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(home.path()).expect("listed").count(), 1, "no other file");
    server.stop().await;
    assert!(fs::symlink_metadata(&path).is_err());
}

#[tokio::test]
async fn no_node_is_told_apart_from_other_failures() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("admin.sock");
    let client = Client::new(&path);

    let missing = client.status().await;
    assert!(matches!(missing, Err(ClientError::NoNode { .. })), "{missing:?}");
    // A killed node leaves its socket file behind.
    drop(UnixListener::bind(&path).expect("bound"));
    let refused = client.status().await;
    assert!(matches!(refused, Err(ClientError::NoNode { .. })), "{refused:?}");

    // Somebody who closes at once, and somebody who says something else.
    fs::remove_file(&path).expect("removed");
    let listener = UnixListener::bind(&path).expect("bound");
    let odd = std::thread::spawn(move || {
        use std::io::Write;
        drop(listener.accept().expect("a client"));
        let (mut stream, _) = listener.accept().expect("a client");
        stream.write_all(b"SSH-2.0-OpenSSH\r\n").ok();
        let (mut stream, _) = listener.accept().expect("a client");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]").ok();
    });
    for _ in 0..3 {
        let answer = client.status().await;
        assert!(matches!(answer, Err(ClientError::Odd { .. })), "{answer:?}");
    }
    odd.join().expect("served");

    let long = home.path().join("x".repeat(120));
    let answer = Client::new(&long).status().await;
    assert!(matches!(answer, Err(ClientError::PathTooLong { .. })), "{answer:?}");
    let bound = AdminSocket::bind(&long).await;
    assert!(matches!(bound, Err(SocketError::PathTooLong { .. })), "{bound:?}");
}

#[tokio::test]
async fn a_silent_node_is_given_up() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("admin.sock");
    let _silent = UnixListener::bind(&path).expect("bound");
    let client = Client::new(&path).with_timeout(std::time::Duration::from_millis(100));
    let answer = client.status().await;
    assert!(matches!(answer, Err(ClientError::TimedOut { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("admin.sock");
    drop(UnixListener::bind(&path).expect("bound"));
    // What a node killed between binding and renaming would leave.
    drop(UnixListener::bind(home.path().join(".admin.new")).expect("bound"));
    let server = serve_admin(&path, Limits::ADMIN).await;
    Client::new(&path).status().await.expect("answered");

    let second = AdminSocket::bind(&path).await;
    assert!(matches!(second, Err(SocketError::InUse { .. })), "{second:?}");
    Client::new(&path).status().await.expect("the first one is untouched");
    server.stop().await;

    fs::write(&path, "a file of the user's").expect("written");
    let refused = AdminSocket::bind(&path).await;
    assert!(matches!(refused, Err(SocketError::NotASocket { .. })), "{refused:?}");
    assert_eq!(fs::read_to_string(&path).expect("untouched"), "a file of the user's");
}

/// The mode of the socket keeps others out; should somebody widen it, the kernel's word on the peer
/// still does.
#[tokio::test]
async fn another_user_is_refused_even_if_the_mode_lets_him_in() {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::process::CommandExt;

    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("admin.sock");
    let server = serve_admin(&path, Limits::ADMIN).await;
    if fs::metadata(&path).expect("there").uid() != 0 {
        println!("skipped: only root can become another user");
        return server.stop().await;
    }
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("widened");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("widened");
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_UNIX)\n\
        s.connect(sys.argv[1])\n\
        s.sendall(b'GET /v1/status HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n')\n\
        while True:\n    \
            part = s.recv(65536)\n    \
            sys.stdout.write(part.decode())\n    \
            if not part: break\n";
    let mut stranger = std::process::Command::new("python3");
    stranger.arg("-c").arg(script).arg(&path).uid(65534).gid(65534);
    let output = tokio::task::spawn_blocking(move || stranger.output());
    match output.await.expect("no panic") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: no python3 to act as the other user");
        }
        output => {
            let output = output.expect("ran");
            let answer = String::from_utf8_lossy(&output.stdout);
            assert!(answer.starts_with("HTTP/1.1 403 "), "{output:?}");
            assert!(answer.contains("not-allowed") && !answer.contains("west"), "{answer}");
        }
    }
    server.stop().await;
}
