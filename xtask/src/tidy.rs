//! Policy that the compiler does not know: which crate may use which, what a source file owes its
//! reader, and that the documentation speaks of what is there.

mod edges;
mod pages;
mod sources;
mod wire;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// All findings, one line each.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = edges::check(root)?;
    findings.extend(sources::check(root)?);
    findings.extend(pages::check(root)?);
    findings.extend(wire::check(root)?);
    Ok(findings)
}

/// The repository's files with this ending, known to git or about to be: relative path and text.
fn files(root: &Path, ending: &str) -> Result<Vec<(String, String)>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .arg(format!("*.{ending}"))
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut files = Vec::new();
    for name in String::from_utf8(output.stdout)?.lines() {
        let path = root.join(name);
        // A file that was deleted and not yet committed is none.
        if path.exists() {
            files.push((name.to_owned(), read(&path)?));
        }
    }
    Ok(files)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert_eq!(check(root).unwrap(), Vec::<String>::new());
    }
}
