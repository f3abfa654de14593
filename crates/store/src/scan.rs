//! What lies below some directories, as one digest, and which directories to watch for changes of it.
//! Opens nothing that could block, follows links, and forgets the bytes at once.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, Digest, SHA256, digest};
use zeroize::Zeroizing;

use crate::atomic::read_bounded;

/// The content at one moment.
pub(crate) struct Scan {
    /// Different when any name or content is.
    pub(crate) digest: [u8; 32],
    /// Every directory in which a change can happen, without links in the path: those that were
    /// listed, and those that a followed link leads through.
    pub(crate) directories: BTreeSet<PathBuf>,
}

/// Reads everything below `roots`.
///
/// Names that start with a dot are passed over: temporary files, editors' files, and the hidden
/// directories of mounted Secrets, whose content is seen through the links that lead there. An empty
/// directory is nothing. What cannot be read goes into the digest as such, so that becoming readable is a change too.
pub(crate) fn scan(roots: &[PathBuf]) -> Scan {
    let mut walk = Walk { context: Context::new(&SHA256), directories: BTreeSet::new() };
    for root in roots {
        if !root.is_dir()
            && let Some(parent) = root.ancestors().skip(1).find(|parent| parent.is_dir())
        {
            walk.directories.extend(parent.canonicalize());
        }
        walk.visit(root, 0);
    }
    Scan { digest: bytes_of(&walk.context.finish()), directories: walk.directories }
}

struct Walk {
    context: Context,
    directories: BTreeSet<PathBuf>,
}

impl Walk {
    fn visit(&mut self, path: &Path, depth: usize) {
        self.note_links(path);
        match fs::metadata(path) {
            Err(error) => self.add("error", path, format!("{:?}", error.kind()).as_bytes()),
            Ok(found) if found.is_dir() => self.visit_directory(path, depth),
            Ok(found) if found.is_file() => match read_bounded(path, FILE_LIMIT) {
                Ok(Some(bytes)) => {
                    let bytes = Zeroizing::new(bytes);
                    self.add("file", path, digest(&SHA256, &bytes).as_ref());
                }
                Ok(None) => self.add("error", path, b"NotFound"),
                Err(error) => self.add("error", path, error.to_string().as_bytes()),
            },
            Ok(_) => self.add("special", path, b""),
        }
    }

    fn visit_directory(&mut self, path: &Path, depth: usize) {
        if depth == DEPTH_LIMIT {
            return;
        }
        self.directories.extend(path.canonicalize());
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.add("error", path, format!("{:?}", error.kind()).as_bytes()),
        };
        let names: BTreeSet<_> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
            .filter(|name| !name.as_bytes().starts_with(b"."))
            .collect();
        for name in names {
            self.visit(&path.join(name), depth + 1);
        }
    }

    /// Every directory a link leads through can change what the link shows.
    fn note_links(&mut self, path: &Path) {
        let mut at = path.to_owned();
        for _ in 0..LINK_LIMIT {
            let (Ok(target), Some(parent)) = (fs::read_link(&at), at.parent()) else { break };
            at = parent.join(target);
            self.directories.extend(at.parent().and_then(|parent| parent.canonicalize().ok()));
        }
    }

    fn add(&mut self, what: &str, path: &Path, content: &[u8]) {
        for part in [what.as_bytes(), path.as_os_str().as_bytes(), content] {
            self.context.update(&(part.len() as u64).to_be_bytes());
            self.context.update(part);
        }
    }
}

fn bytes_of(digest: &Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// `certs/<name>/<file>` and one spare.
const DEPTH_LIMIT: usize = 3;
/// Links to links; the kernel gives up at 40.
const LINK_LIMIT: usize = 8;
/// Larger files are refused by everything that reads them, and count as unreadable. Revocation lists are
/// the largest there are.
const FILE_LIMIT: u64 = crate::supplied::LIST_LIMIT;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn digest_of(root: &Path) -> [u8; 32] {
        scan(&[root.to_owned()]).digest
    }

    #[test]
    fn content_and_names_count_but_times_and_hidden_files_do_not() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir(root.join("east")).unwrap();
        fs::write(root.join("east/tls.crt"), b"one").unwrap();
        let one = digest_of(root);

        fs::write(root.join("east/tls.crt"), b"one").unwrap();
        fs::write(root.join("east/.tls.crt.swp"), b"x").unwrap();
        fs::create_dir(root.join("east/..tmp-4")).unwrap();
        fs::create_dir(root.join("empty")).unwrap();
        assert_eq!(digest_of(root), one);

        fs::write(root.join("east/tls.crt"), b"two").unwrap();
        let two = digest_of(root);
        assert_ne!(two, one);
        fs::rename(root.join("east/tls.crt"), root.join("east/tls.pem")).unwrap();
        assert_ne!(digest_of(root), two);
        fs::rename(root.join("east/tls.pem"), root.join("east/tls.crt")).unwrap();
        assert_eq!(digest_of(root), two);
    }

    #[test]
    fn links_are_followed_and_their_directories_watched() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(outside.path().join("live")).unwrap();
        fs::create_dir_all(outside.path().join("archive")).unwrap();
        fs::write(outside.path().join("archive/chain1.pem"), b"one").unwrap();
        fs::write(outside.path().join("archive/chain2.pem"), b"two").unwrap();
        let live = outside.path().join("live/chain.pem");
        symlink("../archive/chain1.pem", &live).unwrap();
        fs::create_dir(root.path().join("shop")).unwrap();
        symlink(&live, root.path().join("shop/tls.crt")).unwrap();

        let before = scan(&[root.path().to_owned()]);
        for watched in
            [root.path().join("shop"), outside.path().join("live"), outside.path().join("archive")]
        {
            let watched = watched.canonicalize().unwrap();
            assert!(before.directories.contains(&watched), "{}", watched.display());
        }
        fs::remove_file(&live).unwrap();
        assert_ne!(digest_of(root.path()), before.digest, "a dangling link");
        symlink("../archive/chain2.pem", &live).unwrap();
        assert_ne!(digest_of(root.path()), before.digest);
    }

    #[test]
    fn a_missing_root_is_watched_for_by_its_parent() {
        let parent = tempfile::tempdir().unwrap();
        let scan = scan(&[parent.path().join("input/certs")]);
        assert!(scan.directories.contains(&parent.path().canonicalize().unwrap()));
    }

    #[test]
    fn loops_and_pipes_come_to_an_end() {
        let root = tempfile::tempdir().unwrap();
        symlink(root.path(), root.path().join("again")).unwrap();
        symlink("self", root.path().join("self")).unwrap();
        symlink("/dev/zero", root.path().join("zero")).unwrap();
        let one = digest_of(root.path());
        assert_eq!(digest_of(root.path()), one);
    }
}
