//! Frames of a link connection: how flows and the control stream share one TLS connection.
//!
//! A frame is an 8-byte header and its payload, and lies whole within one TLS record, so a receiver
//! never joins pieces and a bulk sender can fill a record with exactly one frame. A record may hold
//! many small frames. Bytes only: no sockets, no state.
//!
//! ```text
//!  0       1       2       3       4                               8
//!  +-------+-------+---------------+-------------------------------+----------
//!  | kind  | flags | length (u16)  | stream (u32)                  | payload
//!  +-------+-------+---------------+-------------------------------+----------
//! ```

/// Bytes of a frame's header.
pub(crate) const HEADER: usize = 8;
/// Plaintext of one TLS record (RFC 8446 section 5.1), which is a whole frame at its largest.
pub(crate) const RECORD: usize = 16_384;
/// Largest payload of one frame.
pub(crate) const MAX_PAYLOAD: usize = RECORD - HEADER;
/// The sender will send no more on this stream (half-close), after this frame's payload.
pub(crate) const FIN: u8 = 1;
/// More of this control message follows in the next CONTROL frame.
pub(crate) const MORE: u8 = 1;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Opens a stream; the payload is the routing key. Data may follow at once.
    Open = 1,
    /// Bytes of a stream; flag [`FIN`].
    Data = 2,
    /// Ends a stream both ways at once; the payload is one byte, a [`ResetCode`].
    Reset = 3,
    /// Lets the peer send so many more bytes on the stream; the payload is a `u32`.
    Window = 4,
    /// Asks for a PONG with the same payload.
    Ping = 5,
    /// Answers a PING.
    Pong = 6,
    /// A piece of a control message; flag [`MORE`].
    Control = 7,
    /// The sender opens nothing new here and asks the peer not to; open streams go on.
    GoAway = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Open,
            2 => Self::Data,
            3 => Self::Reset,
            4 => Self::Window,
            5 => Self::Ping,
            6 => Self::Pong,
            7 => Self::Control,
            8 => Self::GoAway,
            _ => return None,
        })
    }
}

/// Why a stream was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ResetCode {
    /// The socket at the sender's edge was reset or failed.
    Broken = 1,
    /// The sender has no connector for the routing key.
    NoConnector = 2,
    /// The connector's target could not be reached.
    Unreachable = 3,
    /// More data came than the window allowed, or too many streams.
    Limit = 4,
}

impl ResetCode {
    pub(crate) fn from_byte(byte: u8) -> Self {
        match byte {
            2 => Self::NoConnector,
            3 => Self::Unreachable,
            4 => Self::Limit,
            _ => Self::Broken,
        }
    }
}

/// One frame, borrowed from the record that it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: &'a [u8],
}

/// A peer that does not speak the protocol; the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// A record ends within a frame.
    #[error("a frame does not end with its TLS record")]
    Straddles,
    /// The kind byte is none we know.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
}

/// Takes the frames of one record, in order; stops at the first that is malformed.
pub(crate) fn frames(record: &[u8]) -> Frames<'_> {
    Frames { rest: record }
}

/// See [`frames`].
pub(crate) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let Some((head, body)) = rest.split_first_chunk::<HEADER>() else {
            return Some(Err(FrameError::Straddles));
        };
        let Some(kind) = Kind::from_byte(head[0]) else {
            return Some(Err(FrameError::UnknownKind(head[0])));
        };
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let Some((payload, after)) = body.split_at_checked(length) else {
            return Some(Err(FrameError::Straddles));
        };
        self.rest = after;
        let stream = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        Some(Ok(Frame { kind, flags: head[1], stream, payload }))
    }
}

/// A frame's header. `length` is at most [`MAX_PAYLOAD`].
pub(crate) fn header(kind: Kind, flags: u8, length: usize, stream: u32) -> [u8; HEADER] {
    debug_assert!(length <= MAX_PAYLOAD);
    let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let stream = stream.to_be_bytes();
    [kind as u8, flags, length[0], length[1], stream[0], stream[1], stream[2], stream[3]]
}

/// Appends a whole frame. `payload` is at most [`MAX_PAYLOAD`] long.
pub(crate) fn push(out: &mut Vec<u8>, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&header(kind, flags, payload.len(), stream));
    out.extend_from_slice(payload);
}

/// How many of `frames`' first bytes are whole frames that fit in one record. `frames` holds whole
/// frames only, each of which fits.
pub(crate) fn fit_record(frames: &[u8]) -> usize {
    if frames.len() <= RECORD {
        return frames.len();
    }
    let mut end = 0;
    while let Some(head) = frames.get(end..end + HEADER) {
        let next = end + HEADER + usize::from(u16::from_be_bytes([head[2], head[3]]));
        if next > RECORD {
            break;
        }
        end = next;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_bulk_frame_fills_one_record() {
        let mut out = Vec::new();
        push(&mut out, Kind::Data, FIN, 7, &vec![1; MAX_PAYLOAD]);
        assert_eq!(out.len(), RECORD);
        let got: Vec<_> = frames(&out).collect();
        assert_eq!(got.len(), 1);
        let frame = got[0].unwrap();
        assert_eq!((frame.kind, frame.flags, frame.stream), (Kind::Data, FIN, 7));
    }

    #[test]
    fn a_truncated_frame_and_an_unknown_kind_are_refused() {
        let mut out = Vec::new();
        push(&mut out, Kind::Data, 0, 1, b"abc");
        assert_eq!(frames(&out[..out.len() - 1]).next(), Some(Err(FrameError::Straddles)));
        assert_eq!(frames(&out[..4]).next(), Some(Err(FrameError::Straddles)));
        out[0] = 99;
        assert_eq!(frames(&out).next(), Some(Err(FrameError::UnknownKind(99))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_panic_and_end(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let taken: usize = frames(&bytes).map_while(Result::ok).map(|f| HEADER + f.payload.len()).sum();
            prop_assert!(taken <= bytes.len());
        }

        #[test]
        fn what_was_pushed_comes_back(parts in proptest::collection::vec((0u32.., proptest::collection::vec(any::<u8>(), 0..300)), 0..40)) {
            let mut out = Vec::new();
            for (stream, payload) in &parts {
                push(&mut out, Kind::Data, 0, *stream, payload);
            }
            let back: Vec<_> = frames(&out).map(|f| f.map(|f| (f.stream, f.payload.to_vec()))).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(back, parts);
        }

        #[test]
        fn records_are_cut_between_frames(sizes in proptest::collection::vec(0usize..MAX_PAYLOAD, 1..30)) {
            let mut out = Vec::new();
            for size in &sizes {
                push(&mut out, Kind::Data, 0, 1, &vec![0; *size]);
            }
            let (mut at, mut seen) = (0, 0);
            while at < out.len() {
                let n = fit_record(&out[at..]);
                prop_assert!(n > 0 && n <= RECORD);
                for frame in frames(&out[at..at + n]) {
                    prop_assert_eq!(frame.unwrap().payload.len(), sizes[seen]);
                    seen += 1;
                }
                at += n;
            }
            prop_assert_eq!(seen, sizes.len());
        }
    }
}
