//! The demo as it is told: one step after the other, each with what it proved, shown when it happens.
//!
//! Knows nothing of sites or nodes; it times, records and prints.

use std::future::Future;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::Report;
use crate::output::{Output, Tone};

/// What a step found.
#[derive(Debug, Default)]
pub(super) struct Proof {
    detail: String,
    facts: Map<String, Value>,
    lines: Vec<(String, String)>,
    fault: Option<String>,
    log: Vec<String>,
}

impl Proof {
    /// `detail` is one sentence without a full stop: what is true now.
    pub(super) fn new(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..Self::default() }
    }

    /// A measured or observed fact, shown beneath the step and part of the JSON.
    pub(super) fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        let shown = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        self.lines.push((name.to_owned(), shown));
        self.facts.insert(camel_case(name), value);
        self
    }

    /// The refusal this step was there to provoke, word for word as its reader sees it.
    pub(super) fn fault(mut self, fault: impl Into<String>) -> Self {
        self.fault = Some(fault.into());
        self
    }

    /// Verbatim text shown beneath the step, line by line.
    pub(super) fn log(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.log.extend(lines);
        self
    }
}

/// `key exchange` as programs read it: `keyExchange`.
fn camel_case(name: &str) -> String {
    let mut upper = false;
    let mut text = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            ' ' => upper = true,
            letter if upper => {
                text.extend(letter.to_uppercase());
                upper = false;
            }
            letter => text.push(letter),
        }
    }
    text
}

/// One finished step, as `-o json` has it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    name: &'static str,
    ok: bool,
    detail: String,
    milliseconds: u64,
    #[serde(skip_serializing_if = "Map::is_empty")]
    facts: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<String>,
}

/// The steps so far.
pub(super) struct Story {
    output: Output,
    started: Instant,
    steps: Vec<Step>,
}

/// A step did not hold; what it was is recorded in the story.
#[derive(Debug)]
pub(super) struct Broken;

impl Story {
    pub(super) fn new(output: Output) -> Self {
        Self { output, started: Instant::now(), steps: Vec::new() }
    }

    /// Whether every step so far held.
    pub(super) fn holds(&self) -> bool {
        self.steps.iter().all(|step| step.ok)
    }

    /// The steps so far.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Time since the story began.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// A heading between steps, for people.
    pub(super) fn chapter(&self, title: &str) -> anyhow::Result<()> {
        let bold = anstyle::Style::new().bold();
        self.output.say(&format!("\n{bold}{title}{bold:#}"))
    }

    /// Does one step, shows how it went, records it.
    pub(super) async fn step<F>(
        &mut self,
        name: &'static str,
        title: &str,
        work: F,
    ) -> Result<(), Broken>
    where
        F: Future<Output = anyhow::Result<Proof>>,
    {
        let began = Instant::now();
        let spinner = self.spinner(title);
        let result = work.await;
        if let Some(spinner) = spinner {
            spinner.finish_and_clear();
        }
        let took = began.elapsed();
        let ok = result.is_ok();
        let proof = result.unwrap_or_else(|error| {
            let report = Report::of(&error);
            let text = anstream::adapter::strip_str(&report.text()).to_string();
            Proof { log: text.lines().map(ToOwned::to_owned).collect(), ..Proof::new(report.what) }
        });
        // A terminal that went away does not stop the demo: children still have to be stopped in order.
        let _ = self.tell(title, ok, took, &proof);
        self.steps.push(Step {
            name,
            ok,
            detail: proof.detail,
            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            facts: proof.facts,
            fault: proof.fault,
            lines: proof.log,
        });
        if ok { Ok(()) } else { Err(Broken) }
    }

    /// Records that the story ended early for a reason outside its steps.
    pub(super) fn interrupted(&mut self, why: &str) {
        let _ = self.tell("interrupted", false, Duration::ZERO, &Proof::new(why));
        self.steps.push(Step {
            name: "interrupted",
            ok: false,
            detail: why.to_owned(),
            milliseconds: 0,
            facts: Map::new(),
            fault: None,
            lines: Vec::new(),
        });
    }

    fn spinner(&self, title: &str) -> Option<ProgressBar> {
        self.output.is_interactive().then(|| {
            let spinner = ProgressBar::new_spinner().with_message(title.to_owned());
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg}") {
                spinner.set_style(style);
            }
            spinner.enable_steady_tick(Duration::from_millis(80));
            spinner
        })
    }

    fn tell(&self, title: &str, ok: bool, took: Duration, proof: &Proof) -> anyhow::Result<()> {
        let mark = if ok { Tone::Good.paint("✓") } else { Tone::Bad.paint("✗") };
        let took = Tone::Faint.paint(&format!("{:.2} s", took.as_secs_f64()));
        self.output.say(&format!("  {mark} {title}: {}  {took}", proof.detail))?;
        let width = proof.lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in &proof.lines {
            let name = Tone::Faint.paint(&format!("{name:width$}"));
            self.output.say(&format!("      {name}  {value}"))?;
        }
        for line in proof.fault.iter().flat_map(|fault| fault.lines()) {
            self.output.say(&format!("      {} {line}", Tone::Warn.paint("│")))?;
        }
        for line in &proof.log {
            self.output.say(&format!("      {line}"))?;
        }
        Ok(())
    }
}
