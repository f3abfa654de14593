//! A trace drawn in text: a line for each span, its bar to scale. Nothing is said by colour alone, and
//! no line is wider than asked for.

use handfast_api::telemetry::{SegmentView, SpanView, Trace};
use jiff::Timestamp;

use super::tree::{Row, Tree};
use crate::commands::kept::{microseconds, shown};
use crate::commands::words;
use crate::output::{Page, Tone, columns, columns_of};

/// How it is drawn.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// Columns.
    pub(super) width: usize,
    /// Tags and events too.
    pub(super) details: bool,
}

pub(super) fn draw(page: &mut Page, trace: &Trace, tree: &Tree<'_>, manner: Manner) {
    summary(page, trace, tree);
    page.gap();
    let labels: Vec<String> = tree.rows.iter().map(|row| label(trace, row)).collect();
    let longest = labels.iter().map(|label| columns(label)).max().unwrap_or_default();
    let took = tree.rows.iter().map(|row| microseconds(row.end - row.start).len()).max();
    let took = took.unwrap_or_default().max(4);
    // A third at least for the bars, and never less than can be told apart.
    let room = manner.width.saturating_sub(took + GAPS);
    let name = longest.clamp(4, (room * 3 / 5).max(12));
    let bar = room.saturating_sub(name).max(NARROWEST);
    let scale = scale(tree.duration, bar);
    let head = format!("{} {:>took$}  {scale}", fitted("SPAN", name), "TIME");
    page.line(Tone::Faint.paint(head.trim_end()));
    for (row, label) in tree.rows.iter().zip(&labels) {
        let mut label = fitted(label, name);
        let mut drawn = bar_of(row, tree.duration, bar, page.is_terminal());
        if row.span.error {
            label = Tone::Bad.paint(&label);
            drawn = format!("{} {}", Tone::Bad.paint(&drawn), Tone::Bad.paint("!"));
        }
        let time = microseconds(row.end - row.start);
        page.line(format!("{label} {time:>took$}  {drawn}"));
        if manner.details {
            details(page, row, manner.width);
        }
    }
}

fn summary(page: &mut Page, trace: &Trace, tree: &Tree<'_>) {
    let mut services: Vec<&str> = trace.segments.iter().map(|it| it.service.as_str()).collect();
    services.sort_unstable();
    services.dedup();
    let errors = tree.rows.iter().filter(|row| row.span.error).count();
    let began = Timestamp::from_microsecond(tree.start).map(|at| at.to_string());
    let moved: Vec<String> = tree
        .moved
        .iter()
        .map(|(segment, by)| {
            let SegmentView { service, instance, .. } = &trace.segments[*segment];
            let way = if *by > 0 { "behind" } else { "ahead" };
            let by = words_of(by.saturating_abs());
            format!(
                "{} at {} is {by} {way}: drawn where it must have been",
                shown(service),
                shown(instance)
            )
        })
        .collect();
    let orphans = tree.rows.iter().filter(|row| row.orphan).count();
    let missing = match orphans {
        0 => String::new(),
        count => format!("{count} of the spans continue what is not kept here (marked ~)"),
    };
    let left_out: usize = trace.segments.iter().map(|it| it.left_out).sum();
    let left_out =
        if left_out == 0 { String::new() } else { format!("{left_out} spans, tags or events") };
    page.fields(&[
        ("trace", shown(&trace.trace_id)),
        ("began", began.unwrap_or_default()),
        ("duration", microseconds(tree.duration)),
        ("services", shown(&services.join(" "))),
        (
            "spans",
            format!(
                "{} in {} segments, {errors} with an error",
                tree.rows.len(),
                trace.segments.len()
            ),
        ),
        ("clock", moved.join("\n")),
        ("missing", missing),
        ("too many to show", left_out),
    ]);
}

fn words_of(us: i64) -> String {
    if us < 120_000_000 { microseconds(us) } else { words::span(us.unsigned_abs() / 1_000_000) }
}

/// Tree, service, what was done, with whom.
fn label(trace: &Trace, row: &Row<'_>) -> String {
    let mut label = String::new();
    if let Some((last, above)) = row.branches.split_last() {
        // The first level needs no lines.
        for more in above.iter().skip(1) {
            label.push_str(if *more { "│ " } else { "  " });
        }
        if !above.is_empty() {
            label.push_str(if *last { "├ " } else { "└ " });
        }
    }
    if row.orphan {
        label.push_str("~ ");
    }
    let SpanView { operation, peer, kind, layer, .. } = row.span;
    if row.new_service {
        label.push_str(&shown(&trace.segments[row.segment].service));
        label.push_str(": ");
    }
    label.push_str(&shown(if operation.is_empty() { kind } else { operation }));
    if !peer.is_empty() && kind == "Exit" {
        label.push_str(" > ");
        label.push_str(&shown(peer));
    }
    if layer != "Unknown" {
        label.push_str(" [");
        label.push_str(layer);
        label.push(']');
    }
    label
}

fn details(page: &mut Page, row: &Row<'_>, width: usize) {
    let SpanView { component, tags, logs, kind, refs, .. } = row.span;
    let mut lines = vec![format!("{kind} span {}, component {component}", shown(&row.span.id))];
    lines.extend(refs.iter().map(|it| format!("continues span {} of {}", it.span_id, it.service)));
    lines.extend(tags.iter().map(|tag| format!("{} = {}", tag.key, tag.value)));
    for log in logs {
        let fields: Vec<String> =
            log.fields.iter().map(|it| format!("{}={}", it.key, it.value)).collect();
        lines.push(format!("{} {}", log.time, fields.join(" ")));
    }
    for line in lines {
        page.line(
            Tone::Faint.paint(&format!("    {}", cut(&shown(&line), width.saturating_sub(4)))),
        );
    }
}

/// The bar of a span, to scale; at least one column, and never outside.
fn bar_of(row: &Row<'_>, whole: i64, columns: usize, terminal: bool) -> String {
    let (from, to) = (place(row.start, whole, columns), place(row.end, whole, columns));
    let from = from.min(columns - 1);
    let length = to.saturating_sub(from).clamp(1, columns - from);
    let block = if terminal { "█" } else { "=" };
    format!("{}{}", " ".repeat(from), block.repeat(length))
}

/// In which of so many columns a moment is.
fn place(at: i64, whole: i64, columns: usize) -> usize {
    let at = u128::from(at.clamp(0, whole.max(0)).unsigned_abs());
    let whole = u128::from(whole.max(1).unsigned_abs());
    usize::try_from((at * columns as u128 + whole / 2) / whole).unwrap_or(columns)
}

/// Above the bars: where they begin, and where they end.
fn scale(duration: i64, columns: usize) -> String {
    let end = microseconds(duration);
    let gap = columns.saturating_sub(1 + end.len());
    if gap == 0 { "0".to_owned() } else { format!("0{}{end}", " ".repeat(gap)) }
}

/// The text in exactly so many columns.
pub(super) fn fitted(text: &str, width: usize) -> String {
    let cut = cut(text, width);
    let pad = width.saturating_sub(columns(&cut));
    format!("{cut}{}", " ".repeat(pad))
}

pub(super) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for character in text.chars() {
        let wide = columns_of(character);
        if used + wide + 1 > width {
            break;
        }
        out.push(character);
        used += wide;
    }
    out.push('…');
    out
}

/// Between the columns, and for the mark of an error.
const GAPS: usize = 5;

/// Columns for the bars at least.
const NARROWEST: usize = 8;

#[cfg(test)]
#[path = "waterfall_tests.rs"]
mod tests;
