//! Which directory is the node's home, when the user says so and when he does not.
//!
//! Opening, locking and laying out the home is `handfast-store`'s.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// The home to use: what `--home` or `HANDFAST_HOME` says, else `/var/lib/handfast` for root,
/// `$XDG_DATA_HOME/handfast` or `~/.local/share/handfast` for everybody else.
///
/// `None` means that nothing says where it could be (no `HOME`, no `XDG_DATA_HOME`).
pub(crate) fn choose(given: Option<PathBuf>) -> Option<PathBuf> {
    if let Some(given) = given {
        // Children and messages must mean the same directory as we do, wherever they run.
        return Some(std::path::absolute(&given).unwrap_or(given));
    }
    default_for(is_root(), |name| std::env::var_os(name))
}

fn default_for(root: bool, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if root {
        return Some(PathBuf::from("/var/lib/handfast"));
    }
    // The XDG specification: a relative value is to be ignored.
    let data = variable("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let data = data.or_else(|| {
        variable("HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .map(|home| home.join(".local/share"))
    });
    data.map(|data| data.join("handfast"))
}

/// Whether this process acts as root. The owner of `/proc/self` is the effective user.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(root: bool, variables: &[(&str, &str)], expect: Option<&str>) {
        let found = default_for(root, |name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        });
        assert_eq!(found, expect.map(PathBuf::from), "root={root} {variables:?}");
    }

    #[test]
    fn the_default_home_follows_user_and_xdg() {
        check(true, &[("HOME", "/root")], Some("/var/lib/handfast"));
        check(false, &[("HOME", "/home/ann")], Some("/home/ann/.local/share/handfast"));
        check(false, &[("HOME", "/home/ann"), ("XDG_DATA_HOME", "/data")], Some("/data/handfast"));
        check(
            false,
            &[("HOME", "/home/ann"), ("XDG_DATA_HOME", "rel")],
            Some("/home/ann/.local/share/handfast"),
        );
        check(false, &[], None);
    }

    #[test]
    fn a_given_home_becomes_absolute() {
        let home = choose(Some(PathBuf::from("west"))).expect("a home");
        assert!(home.is_absolute() && home.ends_with("west"));
    }
}
