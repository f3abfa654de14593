//! That the documentation speaks of what is there: links lead to files, and the metrics that are
//! listed are those that a node serves.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;

/// Where metrics are made (this file, and those in the directory of its name), and where they are
/// described.
const METRICS: (&str, &str) = ("crates/handfast/src/node/metrics", "docs/operating.md");

pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for (file, text) in super::files(root, "md")? {
        findings.extend(dead_links(root, &file, &text));
    }
    let (source, page) = METRICS;
    let made = super::files(root, "rs")?
        .iter()
        .filter(|(file, _)| file.starts_with(source))
        .flat_map(|(_, text)| metric_names(text, '"'))
        .collect::<BTreeSet<_>>();
    let told = metric_names(&super::read(&root.join(page))?, '`');
    findings.extend(made.difference(&told).map(|name| format!("{page}: does not list `{name}`")));
    findings.extend(told.difference(&made).map(|name| format!("{page}: `{name}` is in no node")));
    let served = super::read(&root.join(page))?;
    for ending in ["json", "md", "yaml"] {
        for (file, text) in super::files(root, ending)? {
            if ending == "md" || file.starts_with("deploy/") {
                findings.extend(unserved(&file, &text, &served));
            }
        }
    }
    Ok(findings)
}

/// Relative links of a page that lead nowhere. Anchors within a page are not looked at.
fn dead_links(root: &Path, file: &str, text: &str) -> Vec<String> {
    let here = Path::new(file).parent().unwrap_or(Path::new(""));
    targets(text)
        .filter_map(|target| {
            let path = target.split('#').next().unwrap_or_default();
            let outside = path.contains("://") || path.starts_with("mailto:");
            let dead = !path.is_empty() && !outside && !root.join(flat(&here.join(path))).exists();
            dead.then(|| format!("{file}: links to {target}, which is not there"))
        })
        .collect()
}

/// What stands between `](` and `)`.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// The path without `.` and `..`.
fn flat(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut flat, component| {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(flat.pop()),
            other => flat.push(other),
        }
        flat
    })
}

/// Names between `quote`s that begin with `handfast_`, as they are registered: without the ending
/// that the text format adds for unit and kind, and without labels.
fn metric_names(text: &str, quote: char) -> BTreeSet<String> {
    text.split(quote)
        .filter(|word| word.starts_with("handfast_"))
        .map(|word| word.split('{').next().unwrap_or(word))
        .map(|name| name.trim_end_matches("_total").trim_end_matches("_bytes"))
        .map(|name| name.trim_end_matches("_seconds").to_owned())
        .collect()
}

/// Metrics that a file asks Prometheus for and the page does not list, under the very name that is served.
fn unserved(file: &str, text: &str, page: &str) -> Vec<String> {
    let mut names: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("handfast_"))
        // What Rust calls its crates.
        .filter(|word| !is_a_crate(word))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
        .iter()
        .filter(|name| !page.contains(&format!("| `{name}` |")))
        .map(|name| format!("{file}: asks for `{name}`, which no node serves"))
        .collect()
}

fn is_a_crate(word: &str) -> bool {
    let crates = ["api", "authority", "network", "pki", "proto", "store", "testkit", "tls"];
    word.strip_prefix("handfast_").is_some_and(|name| crates.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_a_missing_file_is_found_and_others_are_not() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = "[a](../Cargo.toml#x) [b](https://a.example/) [c](#here) [d](no.md)";
        let findings = dead_links(root, "src/a.md", text);
        assert_eq!(findings, ["src/a.md: links to no.md, which is not there"]);
    }

    #[test]
    fn a_query_for_a_metric_that_nobody_serves_is_found() {
        let page = "| `handfast_link_sent_bytes_total` | link | Sent. |";
        let asked = "rate(handfast_link_sent_bytes_total[5m]) + handfast_link_sent, HANDFAST_LOG=handfast_tls";
        assert_eq!(
            unserved("a.json", asked, page),
            ["a.json: asks for `handfast_link_sent`, which no node serves"]
        );
    }

    #[test]
    fn metric_names_are_compared_as_they_are_registered() {
        let made =
            metric_names(r#"gauge("handfast_link_up", "1 while up"); "handfast_link_sent""#, '"');
        let told =
            metric_names("`handfast_link_up{link}` and `handfast_link_sent_bytes_total`", '`');
        assert_eq!(made, told);
    }
}
