//! Messages of a call, cut into whatever chunks a network makes of them: what comes out is what a reading of the whole
//! at once finds, and the same status ends it.
#![no_main]

use std::convert::Infallible;
use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzEncoder, MultiGzDecoder};
use handfast_telemetry::grpc::{Code, Coding, Messages};
use hyper::body::{Body, Frame};
use libfuzzer_sys::fuzz_target;

/// Most that a message may have.
const LIMIT: usize = 4096;

/// Messages with how each is written and, of packed ones, how often over; what is behind them; whether the call says
/// gzip; and how long the chunks are.
type Input = (Vec<(Form, Vec<u8>, u8)>, Vec<u8>, bool, Vec<u8>);

type Form = u8;

fn write((form, bytes, times): &(Form, Vec<u8>, u8), into: &mut Vec<u8>) {
    let (flag, bytes) = match form % 3 {
        0 => (0, bytes.clone()),
        // Said to be packed, whatever it is.
        1 => (1, bytes.clone()),
        _ => {
            let bytes = bytes[..bytes.len().min(1024)].repeat(usize::from(*times));
            let mut packed = Vec::new();
            let mut packer = GzEncoder::new(&bytes[..], Compression::fast());
            packer.read_to_end(&mut packed).expect("memory");
            (1, packed)
        }
    };
    into.push(flag);
    into.extend(u32::try_from(bytes.len()).expect("short").to_be_bytes());
    into.extend(bytes);
}

/// Chunks that are all there.
struct Chunks(std::vec::IntoIter<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// As they come.
fn read(chunks: Vec<Bytes>, coding: Coding) -> (Vec<Bytes>, Option<Code>) {
    let chunks = Chunks(chunks.into_iter());
    let mut messages = Messages::new(chunks, coding, LIMIT, Duration::from_secs(1));
    let mut all = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let end = runtime.expect("a runtime").block_on(async {
        loop {
            match messages.next(&mut all).await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(status) => return Some(status.code),
            }
        }
    });
    (all, end)
}

/// All at once.
fn expected(mut bytes: &[u8], coding: Coding) -> (Vec<Bytes>, Option<Code>) {
    let mut all = Vec::new();
    loop {
        let Some((head, behind)) = bytes.split_first_chunk::<5>() else {
            return (all, (!bytes.is_empty()).then_some(Code::Internal));
        };
        let [flag, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        if flag > 1 {
            return (all, Some(Code::Internal));
        }
        if length > LIMIT {
            return (all, Some(Code::ResourceExhausted));
        }
        let Some((message, behind)) = behind.split_at_checked(length) else {
            return (all, Some(Code::Internal));
        };
        bytes = behind;
        if flag == 0 {
            all.push(Bytes::copy_from_slice(message));
            continue;
        }
        if coding == Coding::Identity {
            return (all, Some(Code::Internal));
        }
        let mut plain = Vec::new();
        let unpacked = MultiGzDecoder::new(message).take(LIMIT as u64 + 1).read_to_end(&mut plain);
        if plain.len() > LIMIT {
            return (all, Some(Code::ResourceExhausted));
        }
        if unpacked.is_err() {
            return (all, Some(Code::InvalidArgument));
        }
        all.push(plain.into());
    }
}

fuzz_target!(|input: Input| {
    let (messages, behind, gzip, cuts) = input;
    let mut bytes = Vec::new();
    for message in &messages {
        write(message, &mut bytes);
    }
    bytes.extend(behind);
    let coding = if gzip { Coding::Gzip } else { Coding::Identity };

    let whole = Bytes::from(bytes);
    let mut rest = whole.clone();
    let mut chunks = Vec::new();
    // Some of them empty; and one chunk where nothing is said.
    if cuts.iter().any(|cut| *cut > 0) {
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let cut = cuts.next().map_or(0, |cut| usize::from(*cut));
            chunks.push(rest.split_to(cut.min(rest.len())));
        }
    } else {
        chunks.push(rest);
    }
    assert_eq!(read(chunks, coding), expected(&whole, coding));
});
