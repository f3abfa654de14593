//! What a user reads when a command fails: what, where, why, what to do; and which exit code it is.
//!
//! Errors travel as `anyhow::Error`. A [`Failure`] anywhere in the chain carries the exit code and the remedy; errors
//! of the crates below are recognised by type, in [`classify`], and by nothing else (never by their text).

mod classify;

use std::fmt;
use std::io::Write as _;

use serde::Serialize;

use crate::exit::Exit;
use crate::output::{Format, Tone};

/// A failure whose remedy and exit code are known where it happens.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    exit: Exit,
    what: String,
    place: Option<String>,
    why: Option<String>,
    remedy: Option<String>,
}

impl Failure {
    /// `what` is one clause without a full stop, as it stands after `error: `.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), place: None, why: None, remedy: None }
    }

    /// The file, address or name it happened at.
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        self.place = Some(place.to_string());
        self
    }

    /// The cause.
    pub(crate) fn because(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    /// What the user can do about it.
    pub(crate) fn remedy(mut self, remedy: impl fmt::Display) -> Self {
        self.remedy = Some(remedy.to_string());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

/// A failure as it is shown: [`Report::text`] for people, as it is serialised for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// The word of the exit code.
    pub(crate) error: &'static str,
    /// The exit code.
    pub(crate) exit: u8,
    /// What failed.
    pub(crate) what: String,
    /// Where: a file, an address, a name.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
    /// The fault code, where a connection or a certificate is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<String>,
    /// The evidence of the fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) evidence: Vec<(String, String)>,
}

impl Report {
    /// Reads an error chain, outermost context first.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        let failure = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
        let known = classify::of(error);
        let mut texts = known
            .explained
            .clone()
            .unwrap_or_else(|| error.chain().map(ToString::to_string).collect());
        if let Some(why) = failure.and_then(|failure| failure.why.clone()) {
            texts.push(why);
        }
        let mut texts = distinct(texts);
        let what = if texts.is_empty() { String::new() } else { texts.remove(0) };
        let exit = failure.map_or(known.exit, |failure| failure.exit);
        Self {
            error: exit.word(),
            exit: exit.code(),
            what,
            place: failure.and_then(|failure| failure.place.clone()).or(known.place),
            why: (!texts.is_empty()).then(|| texts.join(": ")),
            remedy: failure.and_then(|failure| failure.remedy.clone()).or(known.remedy),
            fault: known.fault,
            evidence: known.evidence,
        }
    }

    /// The report for people. Lines of several lines keep their indentation.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} {}\n", Tone::Bad.paint("error:"), indent(&self.what, 7));
        let lines = [("where", &self.place), ("why", &self.why), ("fault", &self.fault)]
            .into_iter()
            .filter_map(|(label, value)| value.as_deref().map(|value| (label, value)))
            .chain(self.evidence.iter().map(|(key, value)| (key.as_str(), value.as_str())))
            .chain(self.remedy.as_deref().map(|remedy| ("to do", remedy)))
            .collect::<Vec<_>>();
        let width = lines.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        for (label, value) in lines {
            let label = Tone::Faint.paint(&format!("{label:width$}"));
            text.push_str("  ");
            text.push_str(&label);
            text.push_str("  ");
            text.push_str(&indent(value, width + 4));
            text.push('\n');
        }
        text
    }
}

/// Prints the error on standard error, in the user's format, and says how to exit.
pub(crate) fn show(error: &anyhow::Error, format: Format) -> Exit {
    let report = Report::of(error);
    let text = match format {
        Format::Json => serde_json::to_string_pretty(&report).map(|json| json + "\n").ok(),
        Format::Text => None,
        Format::Yaml => serde_saphyr::to_string(&report).ok(),
    };
    // Where nobody listens on standard error, the exit code still speaks.
    let _ = anstream::stderr().write_all(text.unwrap_or_else(|| report.text()).as_bytes());
    Exit::ALL.into_iter().find(|exit| exit.code() == report.exit).unwrap_or(Exit::Failed)
}

/// Causes often repeat what their context has said already: such lines are dropped.
fn distinct(texts: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for text in texts {
        let text = text.trim_end().to_owned();
        if !text.is_empty() && !kept.iter().any(|seen| seen.contains(&text)) {
            kept.push(text);
        }
    }
    kept
}

fn indent(text: &str, by: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{:by$}", ""))
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    fn check(error: anyhow::Error, expect: &str) {
        let text = anstream::adapter::strip_str(&Report::of(&error).text()).to_string();
        assert_eq!(text, expect);
    }

    #[test]
    fn what_where_why_and_what_to_do_stand_beneath_each_other() {
        let failure = Failure::new(Exit::BadInput, "the token cannot be used")
            .at("west.token")
            .because("line 3: unknown field `codee`\nline 4: no `url`")
            .remedy("ask for a new one");
        check(
            failure.into(),
            "error: the token cannot be used\n  where  west.token\n  why    line 3: unknown field `codee`\n         line 4: no `url`\n  to do  ask for a new one\n",
        );
    }

    #[test]
    fn a_context_comes_first_and_keeps_code_and_remedy_of_what_it_wraps() {
        let failure = Failure::new(Exit::TimedOut, "no answer within 5 s").remedy("try again");
        let error = Err::<(), _>(failure).context("cannot redeem west.token").unwrap_err();
        let report = Report::of(&error);
        assert_eq!(report.exit, Exit::TimedOut.code());
        check(
            error,
            "error: cannot redeem west.token\n  why    no answer within 5 s\n  to do  try again\n",
        );
    }

    #[test]
    fn a_cause_that_its_context_has_quoted_is_not_repeated() {
        let cause = std::io::Error::from(std::io::ErrorKind::NotFound);
        let text = format!("cannot read x: {cause}");
        let error = anyhow::Error::new(cause).context(text.clone());
        check(error, &format!("error: {text}\n"));
    }
}
