//! Files that another process changes while they are read.

use std::fs;
use std::path::Path;

/// These files of a credential's directory, as they are there at one moment. One rename switches all of them, and whoever
/// reads one after the other may have some from before and some from after it: then they are read again.
pub fn of_one_moment<const N: usize>(directory: &Path, names: [&str; N]) -> [Option<Vec<u8>>; N] {
    let shown = || fs::read_link(directory.join("..data")).ok();
    loop {
        let before = shown();
        let files = names.map(|name| fs::read(directory.join(name)).ok());
        if shown() == before {
            return files;
        }
    }
}
