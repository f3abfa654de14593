//! Drawings of traces: of two services, of clocks that are apart, and of what nobody should send.

use handfast_api::telemetry::RefView;

use super::super::tree::Tree;
use super::*;

fn at(us: i64) -> Timestamp {
    Timestamp::from_microsecond(1_764_072_000_000_000 + us).expect("a moment")
}

fn span(id: &str, parent: Option<&str>, kind: &str, from: i64, took: i64) -> SpanView {
    SpanView {
        id: id.to_owned(),
        parent: parent.map(ToOwned::to_owned),
        start: at(from),
        end: at(from + took),
        duration: took,
        operation: format!("op{id}"),
        peer: if kind == "Exit" { "bank:80".to_owned() } else { String::new() },
        kind: kind.to_owned(),
        layer: "Http".to_owned(),
        component: "2".to_owned(),
        error: false,
        tags: Vec::new(),
        logs: Vec::new(),
        refs: Vec::new(),
    }
}

fn segment(id: &str, service: &str, spans: Vec<SpanView>) -> SegmentView {
    SegmentView {
        segment_id: id.to_owned(),
        service: service.to_owned(),
        instance: format!("{service}-1"),
        reporter: String::new(),
        spans,
        left_out: 0,
    }
}

fn continues(segment: &str, span: &str) -> RefView {
    RefView {
        trace_id: "t".to_owned(),
        segment_id: segment.to_owned(),
        span_id: span.to_owned(),
        service: "shop".to_owned(),
        instance: String::new(),
        endpoint: String::new(),
        address: String::new(),
        same_process: false,
    }
}

/// A shop that asks a bank, whose clock is so many microseconds off.
fn shop_and_bank(off: i64) -> Trace {
    let mut charge = span("0", None, "Entry", 300_000 + off, 400_000);
    charge.refs.push(continues("s1", "1"));
    charge.error = true;
    let shop = vec![
        span("1", Some("0"), "Exit", 200_000, 600_000),
        span("0", None, "Entry", 0, 1_000_000),
    ];
    Trace {
        trace_id: "t".to_owned(),
        segments: vec![segment("s1", "shop", shop), segment("s2", "bank", vec![charge])],
        logs: Vec::new(),
        more_logs: false,
    }
}

fn drawn(trace: &Trace, width: usize) -> String {
    let mut page = Page::new(false);
    draw(&mut page, trace, &Tree::of(trace), Manner { width, details: false });
    anstream::adapter::strip_str(&page.finish()).to_string()
}

#[test]
fn spans_hang_on_their_callers_and_bars_are_to_scale() {
    let text = drawn(&shop_and_bank(0), 60);
    let lines: Vec<&str> = text.lines().collect();
    let rows = &lines[lines.len() - 3..];
    assert!(rows[0].starts_with("shop: op0 [Http]"), "{text}");
    assert!(rows[1].starts_with("└ op1 > bank:80 [Http]"), "{text}");
    assert!(rows[2].starts_with("  └ bank: op0 [Http]") && rows[2].ends_with('!'), "{text}");
    let bar = |row: &str| row.chars().filter(|it| *it == '=').count();
    let (whole, half) = (bar(rows[0]), bar(rows[1]));
    assert!(half.abs_diff(whole * 6 / 10) <= 1, "{text}");
    assert!(bar(rows[2]).abs_diff(whole * 4 / 10) <= 1, "{text}");
    assert!(text.contains("services  bank shop"), "{text}");
    assert!(!text.contains("clock"), "{text}");
    for width in [40, 60, 80, 200] {
        let text = drawn(&shop_and_bank(0), width);
        let table = text.split("\n\n").nth(1).expect("a table");
        assert!(table.lines().all(|line| columns(line) <= width), "{width}: {text}");
    }
}

#[test]
fn a_clock_that_is_behind_or_ahead_is_set_right_and_said() {
    for off in [-5_000_000, 5_000_000] {
        let trace = shop_and_bank(off);
        let tree = Tree::of(&trace);
        assert_eq!(tree.duration, 1_000_000, "nothing reaches beyond the caller");
        let (cause, charge) = (&tree.rows[1], &tree.rows[2]);
        assert!(cause.start <= charge.start && charge.end <= cause.end);
        let text = drawn(&trace, 100);
        let word = if off < 0 {
            "bank at bank-1 is 5000 ms behind"
        } else {
            "bank at bank-1 is 5000 ms ahead"
        };
        assert!(text.contains(word), "{text}");
    }
    // A message is taken up when there is time.
    let mut trace = shop_and_bank(5_000_000);
    trace.segments[0].spans[0].layer = "MQ".to_owned();
    assert!(Tree::of(&trace).moved.is_empty());
}

#[test]
fn circles_missing_parents_and_controls_are_drawn_all_the_same() {
    let mut one = span("0", None, "Entry", 0, 10);
    one.refs.push(continues("s2", "0"));
    let mut two = span("0", None, "Entry", 0, 10);
    two.refs.push(continues("s1", "0"));
    let mut lost = span("9", None, "Entry", 5, 10);
    lost.refs.push(continues("nowhere", "3"));
    lost.operation = "a\x1b[2Jb".to_owned();
    let trace = Trace {
        trace_id: "t".to_owned(),
        segments: vec![
            segment("s1", "a", vec![one]),
            segment("s2", "b", vec![two]),
            segment("s3", "c", vec![lost]),
        ],
        logs: Vec::new(),
        more_logs: false,
    };
    assert_eq!(Tree::of(&trace).rows.len(), 3);
    let text = drawn(&trace, 80);
    assert!(text.contains("~ c: a\u{fffd}[2Jb"), "{text}");
    assert!(text.contains("1 of the spans continue what is not kept here"), "{text}");
}

#[test]
fn ten_thousand_levels_are_drawn_without_a_deep_stack() {
    let spans = (0..10_000).map(|id| {
        let parent = (id > 0).then(|| (id - 1).to_string());
        span(&id.to_string(), parent.as_deref(), "Local", id, 20_000 - id)
    });
    let trace = Trace {
        trace_id: "t".to_owned(),
        segments: vec![segment("s", "deep", spans.collect())],
        logs: Vec::new(),
        more_logs: false,
    };
    let text = drawn(&trace, 80);
    let table = text.split("\n\n").nth(1).expect("a table");
    assert_eq!(table.lines().count(), 10_001);
    assert!(table.lines().all(|line| columns(line) <= 80));
}
