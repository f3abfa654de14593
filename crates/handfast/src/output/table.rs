//! A table as text: aligned columns, and in a terminal that is too narrow for all of them those that do not fit below
//! their row, each with its title. A word is never broken, so that what is copied from a table is whole.
//!
//! What does not happen here: deciding whether there is a terminal, and how wide it is.

use anstyle::Style;

use super::columns::columns;
use super::page::Tone;

/// Lays a table out. In a `width`, what does not fit goes below its row; without one every row is one line, for programs
/// that read lines. `styled` is for people: titles bold, states in their colour.
pub(super) fn lay_out(
    header: &[&str],
    rows: &[Vec<String>],
    width: Option<usize>,
    styled: bool,
) -> String {
    let widths = widths(header, rows);
    let below = below(&widths, width);
    let kept = |column: &usize| !below.contains(column);
    let indent = below.iter().map(|&column| columns(header[column])).max().unwrap_or_default();
    let mut text = String::new();
    let titles = (0..header.len()).filter(kept).map(|column| (header[column], widths[column]));
    line(&mut text, titles, |title| if styled { bold(title) } else { title.to_owned() });
    for row in rows {
        let cells = || row.iter().map(String::as_str).enumerate();
        let first = cells().filter(|(column, _)| kept(column));
        line(&mut text, first.map(|(column, cell)| (cell, widths[column])), |cell| {
            match Tone::of_state(cell) {
                Some(tone) if styled => tone.paint(cell),
                _ => cell.to_owned(),
            }
        });
        for (column, cell) in cells().filter(|(column, cell)| !kept(column) && !cell.is_empty()) {
            let title = header[column].to_lowercase();
            let pad = " ".repeat(indent.saturating_sub(columns(&title)));
            let title = if styled { Tone::Faint.paint(&title) } else { title };
            let room = width.unwrap_or(usize::MAX).saturating_sub(BELOW + indent + GAP);
            let hanging = format!("\n{}", " ".repeat(BELOW + indent + GAP));
            let cell = wrapped(cell, room).join(&hanging);
            let lead = " ".repeat(BELOW);
            let gap = " ".repeat(GAP);
            text.extend([&lead, &title, &pad, &gap, &cell, "\n"]);
        }
    }
    text
}

/// How wide each column is: as its widest cell.
fn widths(header: &[&str], rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths: Vec<usize> = header.iter().map(|title| columns(title)).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(columns(cell));
        }
    }
    widths
}

/// The columns that have to go below, in their order: the widest first, until the others fit. The first column says what
/// the row is about, so it stays.
fn below(widths: &[usize], width: Option<usize>) -> Vec<usize> {
    let Some(width) = width else { return Vec::new() };
    let mut below: Vec<usize> = Vec::new();
    loop {
        let kept = || (0..widths.len()).filter(|column| !below.contains(column));
        let whole = kept().map(|column| widths[column] + GAP).sum::<usize>();
        let widest = kept().skip(1).max_by_key(|&column| widths[column]);
        match widest {
            Some(widest) if whole.saturating_sub(GAP) > width => below.push(widest),
            _ => break,
        }
    }
    below.sort_unstable();
    below
}

/// One line of cells, each as wide as its column. `-` stands for nothing, so that there is something in every column.
fn line<'a>(
    text: &mut String,
    cells: impl Iterator<Item = (&'a str, usize)>,
    painted: impl Fn(&str) -> String,
) {
    let mut gap = 0;
    for (cell, width) in cells {
        let cell = if cell.is_empty() { "-" } else { cell };
        text.push_str(&" ".repeat(gap));
        text.push_str(&painted(cell));
        gap = width.saturating_sub(columns(cell)) + GAP;
    }
    text.push('\n');
}

/// The text in lines of `room` columns; what is longer without a space in it stays whole.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is one at least");
        if last.is_empty() {
            last.push_str(word);
        } else if columns(last) + 1 + columns(word) <= room {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn bold(text: &str) -> String {
    let style = Style::new().bold();
    format!("{style}{text}{style:#}")
}

/// Between two columns.
const GAP: usize = 2;

/// By how much what stands below its row is indented.
const BELOW: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [&str; 4] = ["NAME", "IDENTITY", "STATE", "EXPIRES"];

    fn row(name: &str, identity: &str) -> Vec<String> {
        [name, identity, "valid", "in 23 h"].map(str::to_owned).to_vec()
    }

    fn rows() -> Vec<Vec<String>> {
        vec![row("handfast-site-server", "spiffe://shop.example/site/west"), row("web", "")]
    }

    #[test]
    fn without_a_width_a_row_is_a_line() {
        assert_eq!(
            lay_out(&HEADER, &rows(), None, false),
            "NAME                  IDENTITY                         STATE  EXPIRES\n\
             handfast-site-server  spiffe://shop.example/site/west  valid  in 23 h\n\
             web                   -                                valid  in 23 h\n"
        );
    }

    #[test]
    fn what_fits_is_a_table() {
        assert_eq!(
            lay_out(&HEADER, &rows(), Some(69), false),
            lay_out(&HEADER, &rows(), None, false)
        );
    }

    #[test]
    fn what_does_not_fit_goes_below_its_row_with_its_title() {
        assert_eq!(
            lay_out(&HEADER, &rows(), Some(68), false),
            "NAME                  STATE  EXPIRES\n\
             handfast-site-server  valid  in 23 h\n    \
             identity  spiffe://shop.example/site/west\n\
             web                   valid  in 23 h\n"
        );
    }

    #[test]
    fn words_are_wrapped_and_never_broken() {
        let rows = [["80", "it was refused: spiffe://shop.example/agent/shop, and for good"]
            .map(str::to_owned)
            .to_vec()];
        assert_eq!(
            lay_out(&["ID", "REASON"], &rows, Some(30), false),
            "ID\n80\n    reason  it was refused:\n            spiffe://shop.example/agent/shop,\n            \
             and for good\n"
        );
    }

    #[test]
    fn people_see_titles_and_states() {
        let text = lay_out(&HEADER, &rows(), None, true);
        assert!(text.contains("\x1b[1mNAME\x1b[0m") && text.contains("\x1b[32mvalid"), "{text:?}");
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            lay_out(&HEADER, &rows(), None, false)
        );
    }

    #[test]
    fn nothing_is_lost_at_any_width() {
        for width in 1..90 {
            let text = lay_out(&HEADER, &rows(), Some(width), false);
            for cell in rows().iter().flatten() {
                let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(words.contains(cell.as_str()), "{width}: {cell} in\n{text}");
            }
            // Of what has no space in it the longest is the identity, below its row.
            assert!(text.lines().all(|line| columns(line) <= width.max(45)), "{width}:\n{text}");
        }
    }
}
