//! What was logged during a trace, below its drawing: a line for each, by time, no wider than asked for.

use handfast_api::telemetry::{LogLine, Trace};

use super::tree::Tree;
use super::waterfall::{cut, fitted};
use crate::commands::kept::{microseconds, shown};
use crate::output::{Page, Tone, columns};

pub(super) fn draw(page: &mut Page, trace: &Trace, tree: &Tree<'_>, width: usize) {
    if trace.logs.is_empty() {
        return;
    }
    page.heading("Logs");
    let rows: Vec<[String; 4]> = trace.logs.iter().map(|line| row(line, tree)).collect();
    let widest = |column: usize, most: usize| {
        let all = rows.iter().map(|row| columns(&row[column]));
        all.max().unwrap_or_default().min(most)
    };
    let (at, service, level) = (widest(0, width), widest(1, width / 4), widest(2, 8));
    for [when, who, how, what] in &rows {
        let pad = " ".repeat(at.saturating_sub(columns(when)));
        let head = format!("{pad}{when}  {}  {}", fitted(who, service), fitted(how, level));
        let line = cut(format!("{head}  {what}").trim_end(), width);
        page.line(if grave(how) { Tone::Bad.paint(&line) } else { line });
    }
    if trace.more_logs {
        let id = shown(&trace.trace_id);
        page.line(format!("and more: handfast log ls --trace {id} --limit 10000"));
    }
}

/// When, counted from the beginning of the trace; who; how grave; what.
fn row(line: &LogLine, tree: &Tree<'_>) -> [String; 4] {
    let after = line.time.as_microsecond().saturating_sub(tree.start);
    let sign = if after < 0 { "-" } else { "+" };
    let when = format!("{sign}{}", microseconds(after.saturating_abs()));
    [when, shown(&line.service), shown(&line.level), shown(line.text.trim())]
}

fn grave(level: &str) -> bool {
    ["error", "fatal", "critical", "severe"].iter().any(|word| level.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn line(ms: i64, service: &str, level: &str, text: &str) -> LogLine {
        LogLine {
            time: Timestamp::from_millisecond(ms).expect("a moment"),
            service: service.to_owned(),
            instance: format!("{service}-1"),
            endpoint: String::new(),
            trace_id: "t".to_owned(),
            segment_id: String::new(),
            span_id: String::new(),
            level: level.to_owned(),
            text: text.to_owned(),
            tags: Vec::new(),
        }
    }

    fn drawn(logs: Vec<LogLine>, more_logs: bool, width: usize) -> String {
        let trace = Trace { trace_id: "t".to_owned(), segments: Vec::new(), logs, more_logs };
        let tree = Tree { rows: Vec::new(), duration: 0, start: 1_000_000, moved: Vec::new() };
        let mut page = Page::new(false);
        draw(&mut page, &trace, &tree, width);
        anstream::adapter::strip_str(&page.finish()).to_string()
    }

    #[test]
    fn lines_stand_by_time_after_the_beginning_and_no_wider_than_asked() {
        assert_eq!(drawn(Vec::new(), false, 80), "");
        let text = drawn(
            vec![
                line(990, "shop", "INFO", "early"),
                line(1_250, "bank", "ERROR", "no money\nat\x1b[2J all"),
                line(3_000, "warehouse", "", &"long ".repeat(100)),
            ],
            true,
            60,
        );
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines[1], "  -10 ms  shop       INFO   early", "{text}");
        assert_eq!(lines[2], " +250 ms  bank       ERROR  no money at\u{fffd}[2J all", "{text}");
        assert!(lines[3].starts_with("+2000 ms  warehouse         long"), "{text}");
        assert!(lines[4].contains("handfast log ls --trace t "), "{text}");
        assert!(lines.iter().take(4).all(|line| columns(line) <= 60), "{text}");
    }
}
