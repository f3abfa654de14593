//! Frames of HTTP/2 that are allowed one by one and mean harm together, written by hand. The connection pays for them, and
//! nobody else.

use std::time::Duration;

use handfast_telemetry::port::Mode;
use handfast_telemetry::station::Station;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{SEGMENTS, Scene, accepted, grpc, plain_caller, report, segment};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// POST of a call that reports segments.
fn call() -> Vec<u8> {
    call_of(SEGMENTS)
}

/// POST of a call, with the headers that it needs and no others.
pub(crate) fn call_of(path: &str) -> Vec<u8> {
    let path = path.as_bytes();
    let mut block = vec![0x83, 0x86];
    for (name, value) in
        [(&[0x04][..], path), (&[0x01], b"x"), (&[0x0f, 0x10], b"application/grpc")]
    {
        block.extend(name);
        block.push(u8::try_from(value.len()).expect("short"));
        block.extend(value);
    }
    block
}

/// Sends what `frames` makes, number by number, until the other side has enough of it; whether it had.
async fn ended(collector: &Station, settings: &[u8], frames: impl Fn(u32) -> Vec<u8>) -> bool {
    let mut socket = TcpStream::connect(grpc(collector)).await.expect("connects");
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("written");
    socket.write_all(&frame(SETTINGS, 0, 0, settings)).await.expect("written");
    let (mut reading, mut writing) = socket.into_split();
    let mut told = Vec::new();
    let reads = async {
        // A reset is an end, too.
        let _ = reading.read_to_end(&mut told).await;
    };
    let writes = async {
        for number in 0..50_000 {
            if writing.write_all(&frames(number)).await.is_err() {
                return true;
            }
        }
        let _ = writing.shutdown().await;
        false
    };
    let both = async { tokio::join!(reads, writes).1 };
    let ended = tokio::time::timeout(Duration::from_secs(20), both).await;
    let goaway = || told_of(&told, GOAWAY);
    // Whoever is told to go away and then reset saw an end before all was written.
    ended.unwrap_or(false) || goaway()
}

/// Whether there is such a frame among them.
fn told_of(mut told: &[u8], kind: u8) -> bool {
    while let Some(head) = told.first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if head[3] == kind {
            return true;
        }
        told = told.get(9 + length..).unwrap_or_default();
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_end_their_connection_and_no_other() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Plaintext);
    let bystander = plain_caller(grpc(&collector));
    report(&bystander, &[segment("shop", "before")]).await.expect("well");
    let odd = |number: u32| 2 * number + 1;

    let reset = ended(&collector, &[], |number| {
        let mut frames = frame(HEADERS, END_HEADERS, odd(number), &call());
        frames.extend(frame(RST_STREAM, 0, odd(number), &8_u32.to_be_bytes()));
        frames
    });
    assert!(reset.await, "streams opened and reset at once");
    let endless = ended(&collector, &[], |number| match number {
        0 => frame(HEADERS, 0, 1, &call()),
        _ => frame(CONTINUATION, 0, 1, b""),
    });
    assert!(endless.await, "headers without an end");
    let large = ended(&collector, &[], |number| match number {
        0 => frame(HEADERS, 0, 1, &call()),
        _ => frame(
            CONTINUATION,
            0,
            1,
            &[&[0x00, 0x01, b'x', 0x7f, 0x81, 0x01][..], &[b'y'; 256]].concat(),
        ),
    });
    assert!(large.await, "headers of any size");
    let unread = ended(&collector, &[0, 4, 0, 0, 0, 0], |number| {
        let mut frames = frame(HEADERS, END_HEADERS, odd(number), &call());
        frames.extend(frame(DATA, END_STREAM, odd(number), &[0; 5]));
        frames
    });
    assert!(unread.await, "calls whose answers may not be sent");
    let open = ended(&collector, &[], |number| frame(HEADERS, END_HEADERS, odd(number), &call()));
    assert!(open.await, "more streams than are allowed");
    let empty = ended(&collector, &[], |number| match number {
        0 => frame(HEADERS, END_HEADERS, 1, &call()),
        _ => frame(DATA, 0, 1, b""),
    });
    assert!(empty.await, "data without data");
    // Pings are answered; whoever reads the answers may go on.
    assert!(!ended(&collector, &[], |_| frame(PING, 0, 0, &[7; 8])).await);

    report(&bystander, &[segment("shop", "after")]).await.expect("well");
    assert_eq!(bystander.status().dialled, 1, "over the same connection");
    assert_eq!(accepted(&collector, "segment"), 2);
}
