//! Transport (a): HTTP/2 CONNECT streams over a pool of links, on tokio: the shape of ztunnel's HBONE.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::settings::Settings;

const ALPN: &[u8] = b"h2";
const CONNECTION_WINDOW: u32 = 16 << 20;
const FRAME: u32 = 64 * 1024;
const STREAMS: u32 = 10_000;
/// First buffer of a flow, and what it grows to once reads fill it.
const SMALL: usize = 4 * 1024;
const LARGE: usize = 64 * 1024;

pub fn run(settings: Settings) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.threads)
        .enable_all()
        .build()
        .expect("runtime");
    if settings.dials_link {
        runtime.block_on(side_a(settings));
    } else {
        runtime.block_on(side_b(settings));
    }
}

async fn side_a(settings: Settings) {
    let connector = TlsConnector::from(settings.client_config(ALPN));
    let mut pool = Vec::new();
    for _ in 0..settings.links.max(2) {
        let socket = loop {
            match TcpStream::connect(settings.link).await {
                Ok(socket) => break socket,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        socket.set_nodelay(true).expect("nodelay");
        let mut tls = connector.connect(Settings::server_name(), socket).await.expect("handshake");
        tls.get_mut().1.set_buffer_limit(Some(256 * 1024));
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(settings.window)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_send_buffer_size(1 << 20)
            .initial_max_send_streams(STREAMS as usize)
            .handshake::<_, Bytes>(tls)
            .await
            .expect("HTTP/2");
        tokio::spawn(async move { connection.await.expect("the link broke") });
        pool.push(sender);
    }
    let pool = Arc::new(pool);
    let turn = AtomicUsize::new(0);
    let listener = TcpListener::bind(settings.listen).await.expect("bind");
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let sender = pool[turn.fetch_add(1, Ordering::Relaxed) % pool.len()].clone();
        tokio::spawn(async move {
            let _ = socket.set_nodelay(true);
            let mut sender = sender.ready().await.expect("the link broke");
            let request = Request::builder().method(Method::CONNECT).uri("target:1").body(());
            let (response, send) =
                sender.send_request(request.expect("a request"), false).expect("a stream");
            let (read, write) = socket.into_split();
            let up = tokio::spawn(upstream(read, send));
            if let Ok(response) = response.await {
                let _ = downstream(response.into_body(), write).await;
            }
            let _ = up.await;
        });
    }
}

async fn side_b(settings: Settings) {
    let acceptor = TlsAcceptor::from(settings.server_config(ALPN));
    let listener = TcpListener::bind(settings.link).await.expect("bind");
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let _ = socket.set_nodelay(true);
        let (acceptor, settings) = (acceptor.clone(), settings.clone());
        tokio::spawn(async move {
            let Ok(mut tls) = acceptor.accept(socket).await else { return };
            tls.get_mut().1.set_buffer_limit(Some(256 * 1024));
            let mut connection = h2::server::Builder::new()
                .initial_window_size(settings.window)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_frame_size(FRAME)
                .max_send_buffer_size(1 << 20)
                .max_concurrent_streams(STREAMS)
                .handshake::<_, Bytes>(tls)
                .await
                .expect("HTTP/2");
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                tokio::spawn(async move {
                    let Ok(socket) = TcpStream::connect(settings.target).await else {
                        return respond.send_reset(h2::Reason::CONNECT_ERROR);
                    };
                    let _ = socket.set_nodelay(true);
                    let Ok(send) = respond.send_response(Response::new(()), false) else { return };
                    let (read, write) = socket.into_split();
                    let up = tokio::spawn(upstream(read, send));
                    let _ = downstream(request.into_body(), write).await;
                    let _ = up.await;
                });
            }
        });
    }
}

/// Socket to stream, until the socket ends.
async fn upstream(mut read: OwnedReadHalf, mut send: SendStream<Bytes>) -> Option<()> {
    let mut size = SMALL;
    loop {
        let mut buffer = BytesMut::with_capacity(size);
        let count = read.read_buf(&mut buffer).await.ok()?;
        if count == 0 {
            return send.send_data(Bytes::new(), true).ok();
        }
        if count == size {
            size = LARGE;
        }
        let mut bytes = buffer.freeze();
        while !bytes.is_empty() {
            send.reserve_capacity(bytes.len());
            let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await?.ok()?;
            let part = bytes.split_to(room.min(bytes.len()));
            send.send_data(part, false).ok()?;
        }
    }
}

/// Stream to socket, until the stream ends.
async fn downstream(mut body: RecvStream, mut write: OwnedWriteHalf) -> io::Result<()> {
    while let Some(bytes) = body.data().await {
        let bytes = bytes.map_err(io::Error::other)?;
        write.write_all(&bytes).await?;
        body.flow_control().release_capacity(bytes.len()).map_err(io::Error::other)?;
    }
    write.shutdown().await
}
