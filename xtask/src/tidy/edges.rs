//! Which crate may use which: the table of ARCHITECTURE.md against `cargo metadata`.
//!
//! The page is the only place where the edges are written down. What tests use is not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

/// For each crate of ours, by full name, what it may use.
type Edges = BTreeMap<String, BTreeSet<String>>;

pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let allowed = table(&super::read(&root.join("ARCHITECTURE.md"))?)?;
    Ok(wrong(&allowed, &serde_json::from_slice(&output.stdout)?))
}

/// The rows of the table headed `| crate | may use |`; `-` is nothing.
fn table(page: &str) -> Result<Edges> {
    let rows = page
        .lines()
        .skip_while(|line| *line != HEADING)
        .skip(2)
        .map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    let edges: Edges = rows
        .map(|(name, used)| {
            let used = used.split(", ").filter(|used| *used != "-").map(full_name).collect();
            (full_name(name), used)
        })
        .collect();
    anyhow::ensure!(!edges.is_empty(), "ARCHITECTURE.md has no table headed `{HEADING}`");
    Ok(edges)
}

fn full_name(name: &str) -> String {
    match name {
        "handfast" | "xtask" => name.to_owned(),
        short => format!("handfast-{short}"),
    }
}

fn wrong(allowed: &Edges, metadata: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    let mut there = BTreeSet::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        there.insert(name);
        let Some(may_use) = allowed.get(name) else {
            findings.push(format!("{name}: has no row in ARCHITECTURE.md's table of edges"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let counts = dependency["kind"].is_null() && allowed.contains_key(used);
            if counts && !may_use.contains(used) {
                findings.push(format!(
                    "{name} must not use {used}: ARCHITECTURE.md's table does not allow it"
                ));
            }
        }
    }
    let named = allowed.iter().flat_map(|(name, used)| std::iter::once(name).chain(used));
    for name in named.collect::<BTreeSet<_>>() {
        if !there.contains(name.as_str()) {
            findings
                .push(format!("ARCHITECTURE.md's table of edges names {name}, which is not there"));
        }
    }
    findings
}

const HEADING: &str = "| crate | may use |";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PAGE: &str = "\
text\n\n| crate | may use |\n|---|---|\n| pki | - |\n| store | pki |\n\n| other | table |\n";

    #[test]
    fn the_table_is_read_and_nothing_behind_it() {
        let edges = table(PAGE).unwrap();
        assert_eq!(edges.len(), 2);
        assert!(edges["handfast-pki"].is_empty());
        assert!(edges["handfast-store"].contains("handfast-pki"));
        assert!(table("no table").is_err());
    }

    #[test]
    fn an_edge_that_runs_upwards_is_found_and_one_for_tests_is_not() {
        let metadata = json!({"packages": [
            {"name": "handfast-pki", "dependencies": [
                {"name": "handfast-store", "kind": null},
                {"name": "handfast-store", "kind": "dev"},
                {"name": "rcgen", "kind": null},
            ]},
            {"name": "handfast-store", "dependencies": [{"name": "handfast-pki", "kind": null}]},
        ]});
        let findings = wrong(&table(PAGE).unwrap(), &metadata);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].contains("handfast-pki must not use handfast-store"));
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_found() {
        let metadata = json!({"packages": [
            {"name": "handfast-pki", "dependencies": []},
            {"name": "handfast-mystery", "dependencies": []},
        ]});
        let findings = wrong(&table(PAGE).unwrap(), &metadata);
        assert_eq!(findings.len(), 2, "{findings:?}");
    }
}
