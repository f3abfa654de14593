//! Messages in and out of a body: a flag, a length, the bytes. Whole messages that lie within one
//! chunk are slices of it; nothing is copied.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tokio::time::{Instant, timeout};

use super::flaw::Flaw;
use super::status::{Code, Status};
use super::unpacking::gunzip;
use crate::workshop::HEAVY;

/// Largest message that is taken, compressed or not, in bytes: what agents and OAP agree on.
pub const MESSAGE_LIMIT: usize = 50 * 1024 * 1024;

/// How the messages of a body are compressed (`grpc-encoding`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Coding {
    /// gzip (RFC 1952).
    Gzip,
    /// Not at all.
    #[default]
    Identity,
}

impl Coding {
    /// The coding of a request or answer.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` if it is one that we do not read.
    pub fn of(headers: &http::HeaderMap) -> Result<Self, Status> {
        match headers.get("grpc-encoding").map(http::HeaderValue::as_bytes) {
            None | Some(b"identity") => Ok(Self::Identity),
            Some(b"gzip") => Ok(Self::Gzip),
            Some(other) => Err(Status::new(
                Code::Unimplemented,
                format!(
                    "messages compressed by {} cannot be read; use gzip or none",
                    other.escape_ascii()
                ),
            )
            .flawed(Flaw::Malformed)),
        }
    }
}

/// Whoever has to know how much is held in memory of messages that are not whole, or that were not yet taken.
pub trait Room {
    /// So many bytes are held now.
    ///
    /// # Errors
    /// That is too much: what the sender is told.
    fn hold(&mut self, bytes: usize) -> Result<(), Status>;
}

/// Room for whatever comes, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unbounded;

impl Room for Unbounded {
    fn hold(&mut self, _: usize) -> Result<(), Status> {
        Ok(())
    }
}

/// Takes the messages out of a body.
#[derive(Debug)]
pub struct Messages<B, R = Unbounded> {
    body: B,
    coding: Coding,
    limit: usize,
    patience: Duration,
    /// The beginning of a message that has not all come.
    part: BytesMut,
    /// What was given out by the last [`next`](Self::next), and is done with when the next one comes.
    given: usize,
    /// What was unpacked since somebody else had a turn.
    unpacked: usize,
    room: R,
    /// How long the rest of it has been waited for.
    waited: Duration,
    /// What came with it after the end of the body.
    trailers: Option<http::HeaderMap>,
}

impl<B> Messages<B> {
    /// Messages of at most `limit` bytes. A message that has begun to come must be there after `patience`, and a
    /// second more for each 64 KiB of it that have come; between messages a stream may be silent for as long as it likes.
    pub fn new(body: B, coding: Coding, limit: usize, patience: Duration) -> Self {
        let (part, waited) = (BytesMut::new(), Duration::ZERO);
        let (given, unpacked, room, trailers) = (0, 0, Unbounded, None);
        Self { body, coding, limit, patience, part, given, unpacked, room, waited, trailers }
    }

    /// The same, held in a room.
    pub fn within<R: Room>(self, room: R) -> Messages<B, R> {
        let Self { body, coding, limit, patience, part, given, unpacked, waited, trailers, .. } =
            self;
        Messages { body, coding, limit, patience, part, given, unpacked, room, waited, trailers }
    }
}

impl<B, R> Messages<B, R>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
    R: Room,
{
    /// Adds the messages that the next chunk completes to `into`; false at the end of the body. A message may be lost
    /// if this is dropped before it is done.
    ///
    /// # Errors
    /// What the sender is told: too large, cut off, too slow, not to be unpacked.
    pub async fn next(&mut self, into: &mut Vec<Bytes>) -> Result<bool, Status> {
        self.given = 0;
        self.room.hold(self.part.len())?;
        loop {
            let before = into.len();
            let frame = if self.part.is_empty() {
                self.waited = Duration::ZERO;
                self.body.frame().await
            } else {
                self.rest().await?
            };
            match frame {
                None if self.part.is_empty() => return Ok(false),
                None => {
                    return Err(malformed("the stream ended within a message"));
                }
                Some(Err(error)) => {
                    return Err(Status::new(
                        Code::Cancelled,
                        format!("the stream broke off: {error}"),
                    ));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => self.take(chunk, into).await?,
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
            if into.len() > before {
                return Ok(true);
            }
        }
    }

    /// More of the message that has begun to come. Only what it is waited for counts, not what we were busy with: whoever
    /// sends a byte now and then has no more time than whoever sends none.
    async fn rest(&mut self) -> Result<Option<Result<Frame<Bytes>, B::Error>>, Status> {
        let earned = Duration::from_secs(self.part.len() as u64 / SLOWEST);
        let left = (self.patience + earned).saturating_sub(self.waited);
        let begin = Instant::now();
        let frame = timeout(left, self.body.frame()).await;
        self.waited += begin.elapsed();
        frame.map_err(|_| {
            Status::new(
                Code::DeadlineExceeded,
                format!("the rest of a message did not come within {} s", self.waited.as_secs()),
            )
            .flawed(Flaw::TooSlow)
        })
    }

    /// The one message of a unary call.
    ///
    /// # Errors
    /// As for [`next`](Self::next); also if there is none, or more than one.
    pub async fn only(&mut self) -> Result<Bytes, Status> {
        let mut messages = Vec::with_capacity(1);
        while self.next(&mut messages).await? {
            if messages.len() > 1 {
                break;
            }
        }
        match messages.pop() {
            Some(message) if messages.is_empty() => Ok(message),
            Some(_) => Err(malformed("the call takes one message, and got more")),
            None => Err(malformed("the call takes one message, and got none")),
        }
    }

    /// What they are held in.
    pub fn room(&mut self) -> &mut R {
        &mut self.room
    }

    /// What they are taken out of.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// What came after the last message, once the body has ended.
    pub fn trailers(&self) -> Option<&http::HeaderMap> {
        self.trailers.as_ref()
    }

    async fn take(&mut self, mut chunk: Bytes, into: &mut Vec<Bytes>) -> Result<(), Status> {
        if !self.part.is_empty() {
            self.fill(&mut chunk, HEAD);
            if self.part.len() < HEAD {
                return Ok(());
            }
            let whole = HEAD + self.length(&self.part[..HEAD])?;
            self.fill(&mut chunk, whole);
            if self.part.len() < whole {
                return self.room.hold(self.part.len());
            }
            self.waited = Duration::ZERO;
            let mut message = self.part.split().freeze();
            self.part = BytesMut::new();
            let packed = message.first() == Some(&1);
            message.advance(HEAD);
            into.push(self.unpack(message, packed).await?);
        }
        while chunk.len() >= HEAD {
            let length = self.length(&chunk[..HEAD])?;
            if chunk.len() - HEAD < length {
                break;
            }
            let packed = chunk[0] == 1;
            chunk.advance(HEAD);
            let message = chunk.split_to(length);
            into.push(self.unpack(message, packed).await?);
        }
        self.part.extend_from_slice(&chunk);
        self.room.hold(self.given + self.part.len())
    }

    /// Moves bytes of the chunk to the part until it has `wanted`. Room grows with what has come, not
    /// with what a stranger says will come.
    fn fill(&mut self, chunk: &mut Bytes, wanted: usize) {
        let missing = wanted.saturating_sub(self.part.len()).min(chunk.len());
        self.part.extend_from_slice(&chunk.split_to(missing));
    }

    fn length(&self, head: &[u8]) -> Result<usize, Status> {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if head[0] > 1 {
            return Err(malformed("the stream is not one of gRPC messages"));
        }
        if length > self.limit {
            return Err(too_large(length, self.limit));
        }
        Ok(length)
    }

    async fn unpack(&mut self, message: Bytes, packed: bool) -> Result<Bytes, Status> {
        let plain = match (packed, self.coding) {
            (false, _) => message,
            (true, Coding::Gzip) => {
                let (given, room) = (self.given + message.len(), &mut self.room);
                let plain = gunzip(message, self.limit, |bytes| room.hold(given + bytes)).await?;
                // Many that are small take as long as one that is large.
                self.unpacked += plain.len();
                if self.unpacked >= HEAVY {
                    self.unpacked = 0;
                    tokio::task::yield_now().await;
                }
                plain
            }
            (true, Coding::Identity) => {
                return Err(malformed(
                    "a message is compressed, and the call does not say how (`grpc-encoding`)",
                ));
            }
        };
        self.given += plain.len();
        Ok(plain)
    }
}

pub(super) fn too_large(length: usize, limit: usize) -> Status {
    Status::new(
        Code::ResourceExhausted,
        format!("a message of {length} bytes or more is not taken; the limit is {limit}"),
    )
    .flawed(Flaw::TooLarge)
}

/// The stream is none of messages as gRPC frames them.
fn malformed(what: &str) -> Status {
    Status::new(Code::Internal, what).flawed(Flaw::Malformed)
}

/// Bytes of a message that come in a second at least, once its time is over.
const SLOWEST: u64 = 64 * 1024;

/// Flag and length before each message.
pub(super) const HEAD: usize = 5;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::BufMut as _;
    use proptest::prelude::*;

    use super::*;
    use crate::grpc::encode;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A body of chunks that are all there.
    struct Chunks(std::vec::IntoIter<Bytes>);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            std::task::Poll::Ready(self.0.next().map(|chunk| Ok(Frame::data(chunk))))
        }
    }

    fn read(chunks: Vec<Bytes>, coding: Coding, limit: usize) -> Result<Vec<Bytes>, Status> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let mut messages = Messages::new(Chunks(chunks.into_iter()), coding, limit, PATIENCE);
            let mut all = Vec::new();
            while messages.next(&mut all).await? {}
            Ok(all)
        })
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_they_are_cut(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20),
            cuts in proptest::collection::vec(1_usize..64, 1..40),
        ) {
            let mut body = BytesMut::new();
            for message in &messages {
                encode(message, &mut body);
            }
            let mut rest = body.freeze();
            let mut chunks = Vec::new();
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let cut = *cuts.next().expect("endless");
                chunks.push(rest.split_to(cut.min(rest.len())));
            }
            let read = read(chunks, Coding::Identity, 1000).expect("whole messages");
            let expected: Vec<Bytes> = messages.into_iter().map(Bytes::from).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn any_bytes_end_in_messages_or_a_status(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..10),
        ) {
            let chunks = chunks.into_iter().map(Bytes::from).collect();
            if let Ok(messages) = read(chunks, Coding::Gzip, 100) {
                prop_assert!(messages.iter().all(|message| message.len() <= 100));
            }
        }
    }

    #[test]
    fn a_length_alone_costs_no_memory_and_too_much_is_refused() {
        let mut head = BytesMut::new();
        head.put_u8(0);
        head.put_u32(1001);
        let status = read(vec![head.freeze()], Coding::Identity, 1000).expect_err("too large");
        assert_eq!(status.code, Code::ResourceExhausted);
    }

    #[test]
    fn a_message_that_stops_half_way_is_not_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (sender, body) = crate::grpc::stream(2);
            let mut messages = Messages::new(body, Coding::Identity, 1000, PATIENCE);
            sender.send(Frame::data(Bytes::from_static(&[0, 0, 0]))).await.expect("room");
            let status = messages.next(&mut Vec::new()).await.expect_err("too slow");
            assert_eq!(status.code, Code::DeadlineExceeded);
        });
    }

    #[test]
    fn a_byte_now_and_then_buys_no_time() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (sender, body) = crate::grpc::stream(2);
            let mut messages = Messages::new(body, Coding::Identity, 1 << 20, PATIENCE);
            let sending = tokio::spawn(async move {
                let head = Bytes::from_static(&[0, 0, 1, 0, 0]);
                sender.send(Frame::data(head)).await.expect("room");
                while sender.send(Frame::data(Bytes::from_static(&[7]))).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(9)).await;
                }
            });
            let begin = Instant::now();
            let status = messages.next(&mut Vec::new()).await.expect_err("too slow");
            assert_eq!(status.code, Code::DeadlineExceeded);
            assert_eq!(begin.elapsed().as_secs(), PATIENCE.as_secs());
            drop(messages);
            sending.await.expect("no panic");
        });
    }

    #[test]
    fn a_large_message_over_a_slow_line_has_the_time_that_it_needs() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (sender, body) = crate::grpc::stream(2);
            let mut messages = Messages::new(body, Coding::Identity, 16 << 20, PATIENCE);
            let piece = Bytes::from(vec![7; 1 << 20]);
            let sending = tokio::spawn(async move {
                let head = Bytes::from_static(&[0, 0, 0xa0, 0, 0]);
                sender.send(Frame::data(head)).await.expect("room");
                // Ten times 1 MiB, each in eight seconds.
                for _ in 0..10 {
                    tokio::time::sleep(Duration::from_secs(8)).await;
                    sender.send(Frame::data(piece.clone())).await.expect("room");
                }
            });
            let mut whole = Vec::new();
            assert_eq!(messages.next(&mut whole).await, Ok(true));
            assert_eq!(whole[0].len(), 10 << 20);
            sending.await.expect("no panic");
        });
    }
}
