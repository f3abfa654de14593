//! Which ids are surely not in a chunk: a Bloom filter in blocks, so that an answer costs one line of memory. It lies
//! in the file of the chunk's index, and is read from there by itself.

/// Ids, as bits: 2 bytes for each, and one in a thousand that is not there looks as if it were.
#[derive(Debug)]
pub(super) struct Filter {
    blocks: Vec<[u32; LANES]>,
}

impl Filter {
    pub(super) fn of(ids: &[u128]) -> Self {
        let blocks = (ids.len() * BITS_OF_ID).div_ceil(32 * LANES).max(1);
        let mut filter = Self { blocks: vec![[0; LANES]; blocks] };
        for id in ids {
            let block = filter.block(*id);
            for (lane, bit) in filter.blocks[block].iter_mut().zip(bits(*id)) {
                *lane |= bit;
            }
        }
        filter
    }

    /// Whether the id may be among them; if not, it is not.
    pub(super) fn may_hold(&self, id: u128) -> bool {
        let block = &self.blocks[self.block(id)];
        block.iter().zip(bits(id)).all(|(lane, bit)| lane & bit != 0)
    }

    pub(super) fn write(&self, into: &mut Vec<u8>) {
        let begin = into.len();
        for lane in self.blocks.as_flattened() {
            into.extend_from_slice(&lane.to_le_bytes());
        }
        let check = crc32fast::hash(&into[begin..]);
        into.extend_from_slice(&check.to_le_bytes());
    }

    /// `None` if it is not what was written.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (bytes, check) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(bytes) != u32::from_le_bytes(*check) {
            return None;
        }
        let (lanes, rest) = bytes.as_chunks::<4>();
        let lanes: Vec<u32> = lanes.iter().map(|lane| u32::from_le_bytes(*lane)).collect();
        let (blocks, more) = lanes.as_chunks::<LANES>();
        (rest.is_empty() && more.is_empty() && !blocks.is_empty())
            .then(|| Self { blocks: blocks.to_vec() })
    }

    /// By the upper half of the id, which is a digest, so that all blocks are as full.
    fn block(&self, id: u128) -> usize {
        let blocks = self.blocks.len() as u128;
        usize::try_from(((id >> 64) * blocks) >> 64).unwrap_or_default()
    }
}

/// One bit in each lane, by the lower half of the id.
fn bits(id: u128) -> [u32; LANES] {
    let bytes = id.to_le_bytes();
    let (words, _) = bytes.as_chunks::<4>();
    let folded = words.iter().take(2).fold(0, |folded, word| folded ^ u32::from_le_bytes(*word));
    SALTS.map(|salt| 1 << (folded.wrapping_mul(salt) >> 27))
}

const BITS_OF_ID: usize = 16;
const LANES: usize = 8;

/// Odd numbers without a pattern, one for each lane.
const SALTS: [u32; LANES] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keep::digest::wide_digest;

    fn id(number: u64) -> u128 {
        wide_digest(&[&number.to_le_bytes()])
    }

    #[test]
    fn what_is_there_is_found_and_hardly_anything_else() {
        let ids: Vec<u128> = (0..60_000).map(id).collect();
        let filter = Filter::of(&ids);
        assert!(ids.iter().all(|id| filter.may_hold(*id)));
        let wrong = (60_000..160_000).filter(|number| filter.may_hold(id(*number))).count();
        assert!(wrong < 200, "{wrong} of 100,000");
        let mut bytes = Vec::new();
        filter.write(&mut bytes);
        assert!(bytes.len() < 2 * ids.len() + 64);
        let read = Filter::read(&bytes).unwrap();
        assert_eq!(read.blocks, filter.blocks);
        bytes[100] ^= 1;
        assert!(Filter::read(&bytes).is_none());
        assert!(Filter::read(&[]).is_none());
    }

    #[test]
    fn one_of_nothing_holds_nothing() {
        let filter = Filter::of(&[]);
        assert!((0..1000).all(|number| !filter.may_hold(id(number))));
    }
}
