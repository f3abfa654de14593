//! A page of text for people: headings, aligned fields, tables, notes; with colour only where the page goes to a terminal.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};

/// How a word is meant, for those who see colour. Nothing is said by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Broken, refused, expired.
    Bad,
    /// Secondary: units, explanations.
    Faint,
    /// Working, proven.
    Good,
    /// Waiting, or soon a problem.
    Warn,
}

impl Tone {
    const fn style(self) -> Style {
        match self {
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Faint => Style::new().dimmed(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warn => AnsiColor::Yellow.on_default(),
        }
    }

    const fn colour(self) -> Color {
        match self {
            Self::Bad => Color::Red,
            Self::Faint => Color::DarkGrey,
            Self::Good => Color::Green,
            Self::Warn => Color::Yellow,
        }
    }

    /// The text in this tone, as ANSI escapes (the output stream strips them where they do not belong).
    pub(crate) fn paint(self, text: &str) -> String {
        let style = self.style();
        format!("{style}{text}{style:#}")
    }

    /// The tone of a state word as nodes report them.
    pub(crate) fn of_state(state: &str) -> Option<Self> {
        match state {
            "active" | "ready" | "renewed" | "up" | "valid" => Some(Self::Good),
            "connecting"
            | "degraded"
            | "draining"
            | "not ready"
            | "not yet valid"
            | "prepared"
            | "renewal due"
            | "renewing"
            | "starting"
            | "waiting"
            | "waits for a connector" => Some(Self::Warn),
            "broken" | "down" | "expired" | "failed" | "missing" | "tainted" => Some(Self::Bad),
            _ => None,
        }
    }
}

/// Text being composed. Nothing is printed before [`Page::finish`].
pub(crate) struct Page {
    text: String,
    terminal: bool,
}

impl Page {
    pub(crate) fn new(terminal: bool) -> Self {
        Self { text: String::new(), terminal }
    }

    /// Whether it goes to a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// How many columns the terminal has, where there is one.
    pub(crate) fn width(&self) -> Option<u16> {
        if self.terminal { Table::new().width() } else { None }
    }

    /// One line.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref().trim_end());
        self.text.push('\n');
    }

    /// A blank line, if anything stands above.
    pub(crate) fn gap(&mut self) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    /// A heading with a blank line above.
    pub(crate) fn heading(&mut self, heading: &str) {
        self.gap();
        let bold = Style::new().bold();
        self.line(format!("{bold}{heading}{bold:#}"));
    }

    /// `name  value` lines, values aligned. Values of several lines are indented to their column; empty values are left out.
    pub(crate) fn fields(&mut self, fields: &[(&str, String)]) {
        let shown = || fields.iter().filter(|(_, value)| !value.is_empty());
        let width = shown().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in shown() {
            let mut lines = value.lines();
            let first = lines.next().unwrap_or_default();
            let first =
                Tone::of_state(first).map_or_else(|| first.to_owned(), |tone| tone.paint(first));
            let faint = Tone::Faint.style();
            self.line(format!("{faint}{name:width$}{faint:#}  {first}"));
            for line in lines {
                self.line(format!("{:width$}  {line}", ""));
            }
        }
    }

    /// A table. Without rows, `empty` is said instead.
    pub(crate) fn table(&mut self, header: &[&str], rows: &[Vec<String>], empty: &str) {
        if rows.is_empty() {
            self.line(empty);
        } else if self.terminal {
            self.drawn(header, rows);
        } else {
            self.aligned(header, rows);
        }
    }

    /// The finished text.
    pub(crate) fn finish(self) -> String {
        self.text
    }

    fn drawn(&mut self, header: &[&str], rows: &[Vec<String>]) {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        // The stream takes colours out again where `NO_COLOR` asks for that.
        table.enforce_styling();
        table
            .set_header(header.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
        for row in rows {
            table.add_row(row.iter().map(|text| match Tone::of_state(text) {
                Some(tone) => Cell::new(text).fg(tone.colour()),
                None => Cell::new(text),
            }));
        }
        self.line(table.trim_fmt());
    }

    fn aligned(&mut self, header: &[&str], rows: &[Vec<String>]) {
        let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut write = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(cells) {
                let cell = if cell.is_empty() { "-" } else { cell };
                let _ = write!(line, "{cell:width$}  ");
            }
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        };
        write(&mut header.iter().copied());
        for row in rows {
            write(&mut row.iter().map(String::as_str));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_aligned_columns_and_no_empty_cells() {
        let mut page = Page::new(false);
        page.table(
            &["NAME", "STATE"],
            &[vec!["west".into(), "up".into()], vec!["a-longer-name".into(), String::new()]],
            "none",
        );
        assert_eq!(page.finish(), "NAME           STATE\nwest           up\na-longer-name  -\n");
    }

    #[test]
    fn an_empty_table_says_so() {
        let mut page = Page::new(true);
        page.table(&["NAME"], &[], "no links yet");
        assert_eq!(page.finish(), "no links yet\n");
    }

    #[test]
    fn fields_align_and_indent_further_lines() {
        let mut page = Page::new(false);
        page.fields(&[("a", "1\n2".into()), ("long", "x".into()), ("none", String::new())]);
        let text = anstream::adapter::strip_str(&page.finish()).to_string();
        assert_eq!(text, "a     1\n      2\nlong  x\n");
    }

    #[test]
    fn a_terminal_gets_a_drawn_table() {
        let mut page = Page::new(true);
        page.table(&["NAME"], &[vec!["west".into()]], "none");
        let text = page.finish();
        assert!(text.contains("west") && text.contains("\x1b[1m"), "{text:?}");
    }
}
