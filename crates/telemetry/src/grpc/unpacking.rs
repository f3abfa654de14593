//! What came in gzip, unpacked as far as it may go: a bomb goes off in its box, and nobody waits for it.

use std::io::Read as _;

use bytes::buf::Reader;
use bytes::{Buf as _, Bytes};
use flate2::read::MultiGzDecoder;

use super::flaw::Flaw;
use super::messages::too_large;
use super::status::{Code, Status};
use crate::workshop::{HEAVY, apart};

/// Unpacks at most `limit` bytes: `hold` is told how large it has become. What takes long
/// is unpacked in the workshop, piece by piece.
///
/// # Errors
/// `INVALID_ARGUMENT` if it is no gzip, `RESOURCE_EXHAUSTED` if more would come out; what `hold` says.
pub(crate) async fn gunzip(
    packed: Bytes,
    limit: usize,
    mut hold: impl FnMut(usize) -> Result<(), Status>,
) -> Result<Bytes, Status> {
    // How much comes out is not known before; but of much that comes in nothing might.
    let is_heavy = packed.len() >= HEAVY;
    let mut unpacking =
        Unpacking { packed: MultiGzDecoder::new(packed.reader()), plain: Vec::new(), limit };
    let mut all = !is_heavy && unpacking.more(HEAVY)?;
    hold(unpacking.plain.len())?;
    while !all {
        let outcome;
        (unpacking, outcome) = apart(move |_| {
            let outcome = unpacking.more(PIECE);
            (unpacking, outcome)
        })
        .await?;
        all = outcome?;
        hold(unpacking.plain.len())?;
    }
    Ok(unpacking.plain.into())
}

/// What is being unpacked.
struct Unpacking {
    packed: MultiGzDecoder<Reader<Bytes>>,
    plain: Vec<u8>,
    limit: usize,
}

impl Unpacking {
    /// Unpacks so many bytes more; true if that was all.
    fn more(&mut self, piece: usize) -> Result<bool, Status> {
        let left = self.limit.saturating_sub(self.plain.len()).saturating_add(1);
        let more = left.min(piece) as u64;
        let came = self.packed.by_ref().take(more).read_to_end(&mut self.plain);
        let came = came.map_err(|error| {
            Status::new(Code::InvalidArgument, format!("what came is no gzip: {error}"))
                .flawed(Flaw::Malformed)
        })?;
        if self.plain.len() > self.limit {
            return Err(too_large(self.plain.len(), self.limit));
        }
        // As much as was asked for: there may be more.
        Ok((came as u64) < more)
    }
}

/// Unpacked in pieces of this size: between two of them whoever was cut is noticed, and others have a turn.
const PIECE: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn a_bomb_goes_off_in_its_box() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&vec![0; 10_000_000]).expect("memory");
        let packed = Bytes::from(packed.finish().expect("memory"));
        assert!(packed.len() < 20_000);
        let status = gunzip(packed.clone(), 1_000_000, |_| Ok(())).await.expect_err("too large");
        assert_eq!(status.code, Code::ResourceExhausted);
        let mut held = Vec::new();
        let hold = |bytes| {
            held.push(bytes);
            Ok(())
        };
        let plain = gunzip(packed.clone(), 10_000_000, hold).await.expect("as large as may be");
        assert!(plain.len() == 10_000_000 && plain.iter().all(|byte| *byte == 0));
        assert!(held.is_sorted() && held.len() > 2, "{held:?}");
        let full = |bytes| {
            if bytes > 5_000_000 { Err(Status::new(Code::Aborted, "no room")) } else { Ok(()) }
        };
        assert_eq!(
            gunzip(packed, 10_000_000, full).await.expect_err("no room").code,
            Code::Aborted
        );
    }
}
