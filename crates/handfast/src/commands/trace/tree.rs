//! The spans of a trace as a tree over all services, and their times on one clock.
//!
//! Each instance has a clock of its own. A span that begins before the one that caused it, or a call
//! that was answered before it came, cannot be: then the segment is moved into its cause, and by how much is
//! said. What agents made up (circles, parents that are not there, a million spans) still gives a tree in which
//! every span stands once.

use std::collections::HashMap;

use handfast_api::telemetry::{SpanView, Trace};

/// All spans, in the order in which they are drawn.
pub(super) struct Tree<'a> {
    pub(super) rows: Vec<Row<'a>>,
    /// Microseconds from the first span's beginning to the last one's end.
    pub(super) duration: i64,
    /// Microseconds since 1970 at which it begins.
    pub(super) start: i64,
    /// Segments that were moved: which, and by how many microseconds.
    pub(super) moved: Vec<(usize, i64)>,
}

/// One span in its place.
pub(super) struct Row<'a> {
    pub(super) span: &'a SpanView,
    /// Which segment of the trace it is in.
    pub(super) segment: usize,
    /// For each ancestor and itself, whether a sibling follows.
    pub(super) branches: Vec<bool>,
    /// Microseconds from the beginning of the trace.
    pub(super) start: i64,
    pub(super) end: i64,
    /// Whether its service is not that of the span above it.
    pub(super) new_service: bool,
    /// What it continues is not kept here.
    pub(super) orphan: bool,
}

impl<'a> Tree<'a> {
    pub(super) fn of(trace: &'a Trace) -> Self {
        let nodes: Vec<(usize, &SpanView)> = trace
            .segments
            .iter()
            .enumerate()
            .flat_map(|(segment, it)| it.spans.iter().map(move |span| (segment, span)))
            .collect();
        let (parents, orphans) = parents(trace, &nodes);
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        for (node, parent) in parents.iter().enumerate() {
            if let Some(parent) = parent {
                children[*parent].push(node);
            }
        }
        let begin = |node: &usize| micros(nodes[*node].1.start);
        for of in &mut children {
            of.sort_by_key(begin);
        }
        let mut roots: Vec<usize> = (0..nodes.len()).filter(|n| parents[*n].is_none()).collect();
        roots.sort_by_key(begin);

        let mut offsets = vec![None; trace.segments.len()];
        let mut seen = vec![false; nodes.len()];
        let mut rows: Vec<Row<'a>> = Vec::with_capacity(nodes.len());
        // In which row each is.
        let mut drawn = vec![0; nodes.len()];
        let mut next_circle = 0;
        let mut todo: Vec<(usize, Option<usize>, Vec<bool>)> = Vec::new();
        push(&mut todo, &roots, None, &[]);
        loop {
            while let Some((node, above, branches)) = todo.pop() {
                if std::mem::replace(&mut seen[node], true) {
                    continue;
                }
                let (segment, span) = nodes[node];
                let offset = *offsets[segment].get_or_insert_with(|| {
                    above
                        .map_or(0, |above| offset(nodes[above], &rows[drawn[above]], span, segment))
                });
                let (start, end) = (micros(span.start) + offset, ended(span) + offset);
                let other = |above: usize| {
                    trace.segments[nodes[above].0].service != trace.segments[segment].service
                };
                push(&mut todo, &children[node], Some(node), &branches);
                drawn[node] = rows.len();
                rows.push(Row {
                    span,
                    segment,
                    branches,
                    start,
                    end: end.max(start),
                    new_service: above.is_none_or(other),
                    orphan: orphans[node],
                });
            }
            // Spans that are each other's parents hang on nobody: the first of them begins a tree.
            while seen.get(next_circle) == Some(&true) {
                next_circle += 1;
            }
            if next_circle >= nodes.len() {
                break;
            }
            todo.push((next_circle, None, vec![false]));
        }
        let start = rows.iter().map(|row| row.start).min().unwrap_or_default();
        let end = rows.iter().map(|row| row.end).max().unwrap_or_default();
        for row in &mut rows {
            row.start -= start;
            row.end -= start;
        }
        let moved = offsets.into_iter().enumerate();
        let moved =
            moved.filter_map(|(segment, by)| by.filter(|by| *by != 0).map(|by| (segment, by)));
        Self { rows, duration: end - start, start, moved: moved.collect() }
    }
}

/// The parent of each span, and whether what it continues is missing.
fn parents(trace: &Trace, nodes: &[(usize, &SpanView)]) -> (Vec<Option<usize>>, Vec<bool>) {
    let mut within: HashMap<(usize, &str), usize> = HashMap::new();
    let mut by_segment: HashMap<(&str, &str), usize> = HashMap::new();
    let mut by_id: HashMap<&str, usize> = HashMap::new();
    for (node, (segment, span)) in nodes.iter().enumerate() {
        within.entry((*segment, &span.id)).or_insert(node);
        by_segment.entry((&trace.segments[*segment].segment_id, &span.id)).or_insert(node);
        by_id.entry(&span.id).or_insert(node);
    }
    let mut parents = Vec::with_capacity(nodes.len());
    let mut orphans = Vec::with_capacity(nodes.len());
    for (node, (segment, span)) in nodes.iter().enumerate() {
        let own = span.parent.as_deref().and_then(|id| within.get(&(*segment, id)).copied());
        let found = own.or_else(|| {
            span.refs.iter().find_map(|it| match it.segment_id.as_str() {
                "" => by_id.get(it.span_id.as_str()).copied(),
                id => by_segment.get(&(id, it.span_id.as_str())).copied(),
            })
        });
        let parent = found.filter(|parent| *parent != node);
        orphans.push(parent.is_none() && (!span.refs.is_empty() || span.parent.is_some()));
        parents.push(parent);
    }
    (parents, orphans)
}

/// By how much a segment is moved that was caused by a span of another.
fn offset(
    (above_segment, above): (usize, &SpanView),
    cause: &Row<'_>,
    span: &SpanView,
    segment: usize,
) -> i64 {
    if above_segment == segment {
        return 0;
    }
    let (start, end) = (micros(span.start), ended(span));
    let (outer, inner) = (cause.end - cause.start, end - start);
    // A message may be taken up long after it was sent; a call may not.
    let called =
        above.kind == "Exit" && above.layer != "MQ" && !span.refs.iter().any(|it| it.same_process);
    let early = cause.start - start;
    // Clocks that tell milliseconds are not wrong for one.
    let late = start - cause.end;
    if early > TICK || (called && late > TICK) {
        // On the way there as long as on the way back.
        return cause.start + (outer - inner).max(0) / 2 - start;
    }
    0
}

fn push(
    todo: &mut Vec<(usize, Option<usize>, Vec<bool>)>,
    nodes: &[usize],
    above: Option<usize>,
    branches: &[bool],
) {
    // The last comes first from a stack. No line is longer than it can be drawn.
    let depth = branches.len().min(DEEPEST);
    for (index, node) in nodes.iter().enumerate().rev() {
        let mut own = branches[..depth].to_vec();
        own.push(index + 1 < nodes.len());
        todo.push((*node, above, own));
    }
}

/// Microseconds since 1970, of times that agents made up too.
fn micros(at: jiff::Timestamp) -> i64 {
    at.as_microsecond()
}

fn ended(span: &SpanView) -> i64 {
    let start = micros(span.start);
    start
        .saturating_add(span.duration.max(0))
        .max(micros(span.end).min(start.saturating_add(LONGEST)))
}

/// What a clock that tells milliseconds may be off.
const TICK: i64 = 1_000;

/// Levels that are drawn; what is deeper stands beneath each other.
const DEEPEST: usize = 64;

/// A span is drawn no longer than a year.
const LONGEST: i64 = 365 * 86_400 * 1_000_000;
