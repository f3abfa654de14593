//! Messages of gRPC on their way out: a byte that says they are not packed, their length, and what they are (gRPC over
//! HTTP/2, "Requests").

use bytes::{BufMut as _, Bytes, BytesMut};

use super::messages::HEAD;

/// Appends a message to a body.
pub fn encode(message: &[u8], into: &mut BytesMut) {
    into.reserve(HEAD + message.len());
    head(message.len(), into);
    into.put_slice(message);
}

/// Appends what stands before a message of this length.
pub(crate) fn head(length: usize, into: &mut BytesMut) {
    into.put_u8(0);
    // Nothing is made here that a message cannot be.
    into.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// Messages of a call on their way out. They are framed piece by piece while the connection takes them, so that a
/// report of many is not in memory a second time.
#[derive(Clone, Debug)]
pub struct Framing {
    messages: std::vec::IntoIter<Bytes>,
    /// A message whose head has gone.
    large: Option<Bytes>,
    /// Bytes that are left to send, heads included.
    pub(super) left: u64,
}

impl Framing {
    /// Of these messages, in their order.
    pub fn of(messages: Vec<Bytes>) -> Self {
        let left = messages.iter().map(|message| (HEAD + message.len()) as u64).sum();
        Self { messages: messages.into_iter(), large: None, left }
    }
}

impl Iterator for Framing {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let piece = self.large.take().or_else(|| self.gathered())?;
        self.left = self.left.saturating_sub(piece.len() as u64);
        Some(piece)
    }
}

impl Framing {
    /// Small messages copied together, up to the head of a large one, which follows as it is.
    fn gathered(&mut self) -> Option<Bytes> {
        let room = usize::try_from(self.left).map_or(GATHERED, |left| left.min(GATHERED));
        let mut gathered = BytesMut::with_capacity(room);
        while gathered.len() < GATHERED
            && let Some(message) = self.messages.next()
        {
            if message.len() >= LARGE {
                head(message.len(), &mut gathered);
                self.large = Some(message);
                break;
            }
            encode(&message, &mut gathered);
        }
        (!gathered.is_empty()).then(|| gathered.freeze())
    }
}

/// About as much goes into a frame of HTTP/2 or a few of them.
const GATHERED: usize = 64 << 10;

/// Sending a piece of its own costs less than copying so much.
const LARGE: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_framed_as_it_goes_is_what_is_framed_at_once(sizes in prop::collection::vec(
            prop_oneof![0..200_usize, LARGE - 2..LARGE + 2, 0..100_000_usize], 0..40,
        )) {
            let message = |(number, size): (u8, &usize)| Bytes::from(vec![number; *size]);
            let messages: Vec<Bytes> = (0_u8..).zip(&sizes).map(message).collect();
            let mut whole = BytesMut::new();
            for message in &messages {
                encode(message, &mut whole);
            }
            let mut framing = Framing::of(messages);
            let mut sent = Vec::new();
            while framing.left > 0 {
                prop_assert_eq!(framing.left, (whole.len() - sent.len()) as u64);
                let piece = framing.next().expect("there is more");
                prop_assert!(!piece.is_empty() && piece.len() < GATHERED + LARGE + HEAD || piece.len() >= LARGE);
                sent.extend_from_slice(&piece);
            }
            prop_assert!(framing.next().is_none());
            prop_assert_eq!(sent, whole.to_vec());
        }
    }

    #[test]
    fn a_large_message_is_not_copied() {
        let message = Bytes::from(vec![7; LARGE]);
        let pieces: Vec<Bytes> = Framing::of(vec![message.clone()]).collect();
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[1].as_ptr(), message.as_ptr());
    }
}
