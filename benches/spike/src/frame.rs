//! The framing of `lean`: eight bytes (kind, 24 bits of length or value, stream id), then the body.

pub const FRAME: usize = 8;
pub const DATA: u8 = 0;
pub const FIN: u8 = 1;
pub const OPEN: u8 = 2;
pub const RESET: u8 = 3;
pub const WINDOW: u8 = 4;

/// Frames may start and end anywhere in a record.
#[derive(Default)]
pub struct Parser {
    header: [u8; FRAME],
    have: usize,
    pub body: usize,
    pub id: u32,
}

impl Parser {
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let take = (FRAME - self.have).min(bytes.len());
        self.header[self.have..self.have + take].copy_from_slice(&bytes[..take]);
        self.have += take;
        take
    }

    pub fn header(&mut self) -> Option<(u8, u32, usize)> {
        if self.have < FRAME {
            return None;
        }
        self.have = 0;
        let [kind, a, b, c, id @ ..] = self.header;
        Some((kind, u32::from_be_bytes(id), u32::from_be_bytes([0, a, b, c]) as usize))
    }
}

/// kind, 24 bits of length (or, for control frames, value), stream id.
pub fn frame(kind: u8, id: u32, value: usize) -> [u8; FRAME] {
    let [_, a, b, c] = u32::try_from(value).expect("24 bits").to_be_bytes();
    let [d, e, f, g] = id.to_be_bytes();
    [kind, a, b, c, d, e, f, g]
}

/// A stream id is a slot and, above 20 bits, a generation.
pub fn slot_of(id: u32) -> usize {
    (id & 0xf_ffff) as usize
}
