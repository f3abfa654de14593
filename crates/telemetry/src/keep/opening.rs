//! What is done when a store is opened: indexes are found or made, and the segments that came last are
//! remembered.

use std::path::Path;
use std::sync::Arc;

use super::index_file::ENDING;
use super::part::Part;
use super::reader::Parts;
use super::window::Window;
use super::{KeepError, KeepSettings, Taking};
use crate::journal::JournalError;
use crate::journal::chunk::{self, Chunk};

pub(super) fn open(
    directory: &Path,
    chunks: &[Chunk],
    settings: &KeepSettings,
) -> Result<(Arc<Parts>, Taking), KeepError> {
    remove_orphans(directory, chunks)?;
    let parts = Arc::new(Parts::new(directory));
    let mut unindexed = Vec::new();
    for (number, chunk) in chunks.iter().enumerate() {
        let newest = number + 1 == chunks.len();
        match Part::sealed(directory, *chunk, true).filter(|_| !newest) {
            Some(part) => drop(parts.put(part)),
            None => unindexed.push((*chunk, newest)),
        }
    }
    let mut window = Window::new(settings.recent_segments);
    remember(&mut window, &parts.all())?;
    let mut open = None;
    for (chunk, newest) in unindexed {
        let part = parts.put(Part::read(directory, chunk, &mut window, true)?);
        if newest {
            open = Some(part);
        } else {
            part.seal();
        }
    }
    Ok((parts, Taking { window, open }))
}

/// Fills the window with the ids that came last, in the order in which they came.
fn remember(window: &mut Window, parts: &[Arc<Part>]) -> Result<(), KeepError> {
    let mut ids: Vec<(i64, Vec<u128>)> = Vec::new();
    let mut wanted = window.half();
    for part in parts.iter().rev() {
        let received = part.times().last_received;
        if wanted == 0 {
            window.forget_until(received);
            continue;
        }
        let of_part: Vec<u128> =
            part.with(|index| index.rows().map(|row| row.id).filter(|id| *id != 0).collect())?;
        wanted = wanted.saturating_sub(of_part.len());
        ids.push((received, of_part));
    }
    for (received, ids) in ids.into_iter().rev() {
        for id in ids {
            window.insert(id, received);
        }
    }
    Ok(())
}

/// Removes indexes whose chunk is gone, and those that were never finished.
fn remove_orphans(directory: &Path, chunks: &[Chunk]) -> Result<(), KeepError> {
    let failed = |error| JournalError::file("list", directory)(error);
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let of_chunk = |chunk: &Chunk| path == chunk::path(directory, chunk.base, ENDING);
        let orphan = ending == ENDING && !chunks.iter().any(of_chunk);
        if orphan || ending == super::index_file::UNFINISHED {
            std::fs::remove_file(&path).map_err(JournalError::file("remove", &path))?;
        }
    }
    Ok(())
}
