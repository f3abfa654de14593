//! Results on standard output: tables and colour on a terminal, plain aligned text in a pipe, JSON or YAML on request.
//!
//! Colour obeys `NO_COLOR`, `CLICOLOR` and `CLICOLOR_FORCE` (anstream does). Errors do not pass here: [`crate::failure`].

mod columns;
mod page;
mod table;

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

pub(crate) use columns::{columns, columns_of};
pub(crate) use page::{Page, Tone};

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For programs: one JSON document
    Json,
    /// For people: tables on a terminal, aligned text in a pipe
    #[default]
    Text,
    /// For programs and people: one YAML document
    Yaml,
}

/// Standard output, in the format the user chose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
    terminal: bool,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, terminal: io::stdout().is_terminal() }
    }

    /// The format the user chose.
    pub(crate) fn format(self) -> Format {
        self.format
    }

    /// Whether people read along: text, on a terminal.
    pub(crate) fn is_interactive(self) -> bool {
        self.terminal && self.format == Format::Text
    }

    /// Prints one result: `value` for programs, the page `text` draws for people.
    pub(crate) fn show<T: Serialize + ?Sized>(
        self,
        value: &T,
        text: impl FnOnce(&mut Page),
    ) -> anyhow::Result<()> {
        let rendered = match self.format {
            Format::Json => {
                let mut json = serde_json::to_string_pretty(value)?;
                json.push('\n');
                json
            }
            Format::Text => {
                let mut page = Page::new(self.terminal);
                text(&mut page);
                page.finish()
            }
            Format::Yaml => serde_saphyr::to_string(&value)?,
        };
        print(&rendered)
    }

    /// The same, with a sentence that is no part of the result: below the page on a terminal, else on standard error as
    /// `note: ...`, so that what is read by programs stays as it is.
    pub(crate) fn show_noting<T: Serialize + ?Sized>(
        self,
        value: &T,
        note: Option<&str>,
        text: impl FnOnce(&mut Page),
    ) -> anyhow::Result<()> {
        self.show(value, |page| {
            text(page);
            note.filter(|_| self.is_interactive()).iter().for_each(|note| page.line(note));
        })?;
        if let Some(note) = note.filter(|_| !self.is_interactive()) {
            // Whoever closed standard error does not want to know.
            let _ = writeln!(anstream::stderr().lock(), "note: {note}");
        }
        Ok(())
    }

    /// Prints a line of progress for people; programs that asked for JSON or YAML do not see it.
    pub(crate) fn say(self, line: &str) -> anyhow::Result<()> {
        if self.format == Format::Text { print(&format!("{line}\n")) } else { Ok(()) }
    }
}

/// Writes to standard output. A reader that went away (`handfast cert list | head -1`) is not an error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to standard output"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
