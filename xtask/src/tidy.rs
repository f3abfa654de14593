//! The checks: crate edges as ARCHITECTURE.md draws them, and what every source file owes a reader.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

/// What each crate may use of the others, outside of its tests. The table of ARCHITECTURE.md.
const EDGES: &[(&str, &[&str])] = &[
    ("handfast-pki", &[]),
    ("handfast-proto", &[]),
    ("handfast-store", &["handfast-pki"]),
    ("handfast-tls", &["handfast-pki"]),
    ("handfast-authority", &["handfast-pki", "handfast-store"]),
    ("handfast-network", &["handfast-pki", "handfast-proto", "handfast-tls"]),
    (
        "handfast-api",
        &["handfast-authority", "handfast-network", "handfast-pki", "handfast-store", "handfast-tls"],
    ),
    (
        "handfast",
        &[
            "handfast-api",
            "handfast-authority",
            "handfast-network",
            "handfast-pki",
            "handfast-proto",
            "handfast-store",
            "handfast-tls",
        ],
    ),
    ("handfast-testkit", &["handfast-pki", "handfast-proto", "handfast-store", "handfast-tls"]),
    ("xtask", &[]),
];

/// Lines of a source file, tests included, above which it is surely more than one idea.
const LONGEST: usize = 900;

/// All findings, one line each.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = edges(root)?;
    for file in sources(root)? {
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let shown = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        findings.extend(owed(&shown, &text));
    }
    Ok(findings)
}

fn edges(root: &Path) -> Result<Vec<String>> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(wrong_edges(&serde_json::from_slice(&output.stdout)?))
}

fn wrong_edges(metadata: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
            findings.push(format!("{name}: no row in the table of crate edges (xtask/src/tidy.rs)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let ours = EDGES.iter().any(|(known, _)| *known == used);
            if ours && dependency["kind"].is_null() && !allowed.contains(&used) {
                findings.push(format!("{name} must not use {used}: imports run downwards only"));
            }
        }
    }
    findings
}

fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    anyhow::ensure!(output.status.success(), "git ls-files failed");
    let list = String::from_utf8(output.stdout)?;
    Ok(list.lines().map(|line| root.join(line)).filter(|path| path.exists()).collect())
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
    fn an_edge_that_runs_upwards_is_found_and_one_for_tests_is_not() {
        let metadata = serde_json::json!({"packages": [
            {"name": "handfast-pki", "dependencies": [
                {"name": "handfast-store", "kind": null},
                {"name": "handfast-tls", "kind": "dev"},
                {"name": "rcgen", "kind": null},
            ]},
            {"name": "handfast-mystery", "dependencies": []},
        ]});
        let findings = wrong_edges(&metadata);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].contains("handfast-pki must not use handfast-store"));
    }

    #[test]
    fn a_file_without_a_heading_is_found() {
        assert_eq!(owed("a.rs", "fn main() {}\n").len(), 1);
        assert_eq!(owed("a.rs", "//! Says what it is for.\nfn main() {}\n"), Vec::<String>::new());
    }

    #[test]
    fn this_repository_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert_eq!(check(root).unwrap(), Vec::<String>::new());
    }
}
