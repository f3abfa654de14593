//! A page of text for people: headings, aligned fields, tables, notes; with colour only where the page goes to a terminal.

use anstyle::{AnsiColor, Style};

use super::{columns, table};

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
        if self.terminal { columns::of_terminal() } else { None }
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
        } else {
            let width = self.width().map(usize::from);
            self.text.push_str(&table::lay_out(header, rows, width, self.terminal));
        }
    }

    /// The finished text.
    pub(crate) fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_lines_without_colour() {
        let mut page = Page::new(false);
        page.table(&["NAME", "STATE"], &[vec!["west".into(), "up".into()]], "none");
        assert_eq!(page.finish(), "NAME  STATE\nwest  up\n");
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
    fn a_terminal_gets_a_table_with_bold_titles() {
        let mut page = Page::new(true);
        page.table(&["NAME"], &[vec!["west".into()]], "none");
        let text = page.finish();
        assert!(text.contains("west") && text.contains("\x1b[1m"), "{text:?}");
    }
}
