//! What every source file owes its reader: a heading, a size that can be read, nothing unfinished.

use std::path::Path;

use anyhow::Result;

/// Lines of a source file, tests included, above which it is surely more than one idea.
const LONGEST: usize = 900;

pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let files = super::files(root, "rs")?;
    Ok(files.iter().flat_map(|(file, text)| owed(file, text)).collect())
}

fn owed(file: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") && !text.starts_with("#![") {
        findings.push(format!("{file}: does not open with a `//!` that says what it is for"));
    }
    let lines = text.lines().count();
    if lines > LONGEST {
        findings.push(format!("{file}: {lines} lines; split it by idea"));
    }
    // Spelt in two halves, so that this file does not find itself.
    for (word, why) in [
        (concat!("#[ig", "nore"), "an ignored test proves nothing"),
        (concat!("#[should_", "panic"), "say what the error is instead"),
        (concat!("todo", "!("), "unfinished"),
        (concat!("unimplemented", "!("), "unfinished"),
    ] {
        if text.contains(word) {
            findings.push(format!("{file}: has `{word}`: {why}"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_heading_is_found() {
        assert_eq!(owed("a.rs", "fn main() {}\n").len(), 1);
        assert_eq!(owed("a.rs", "//! Says what it is for.\nfn main() {}\n"), Vec::<String>::new());
    }

    #[test]
    fn what_is_too_long_or_unfinished_is_found() {
        let long = format!("//! Long.\n{}", "\n".repeat(LONGEST));
        assert_eq!(owed("a.rs", &long).len(), 1);
        let unfinished = format!("//! Short.\nfn later() {{ {}) }}\n", concat!("todo", "!("));
        assert_eq!(owed("a.rs", &unfinished).len(), 1);
    }
}
