//! `handfast demo`: two sites on this machine, linked, proven, attacked and renewed, with nothing but the commands and
//! files a user has.
//!
//! This file is the order of events and the way out. The acts are in [`linking`], [`refusals`], [`telemetry`],
//! [`renewal`], [`rotation`] and [`revocation`].

mod child;
mod linking;
mod ports;
mod refusals;
mod renewal;
mod revocation;
mod rotation;
mod service;
mod shell;
mod stage;
mod story;
mod telemetry;
mod traffic;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Exit;
use crate::output::{Format, Output, Page};
use stage::Stage;
use story::{Broken, Proof, Step, Story};

pub(crate) use service::{ServiceArguments, serve};

/// Arguments of `handfast demo`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  handfast demo\n  handfast demo --keep\n  handfast demo -o json | jq .ok\n\n\
    Uses free ports on 127.0.0.1 and a directory of its own under the temporary directory; leaves nothing behind \
    unless --keep is given. Exits with 0 only if every step held."
)]
pub(crate) struct Arguments {
    /// Leave both nodes and the service running, and print how to use and how to stop them
    #[arg(long)]
    keep: bool,
}

/// Plays the demo.
pub(crate) async fn run(arguments: Arguments, output: Output) -> anyhow::Result<Exit> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut stage = Stage::set()?;
    let mut story = Story::new(output);
    output.say(&format!("Two sites on this machine, in {}", stage.directory().display()))?;

    let interrupted = tokio::select! {
        // What broke is in the story.
        _ = play(&mut story, &mut stage) => None,
        _ = interrupt.recv() => Some("interrupted by Ctrl-C"),
        _ = terminate.recv() => Some("interrupted by SIGTERM"),
        _ = hangup.recv() => Some("interrupted: the terminal is gone"),
    };
    if let Some(why) = interrupted {
        story.interrupted(why);
    }

    stage.shell.note("kill $(jobs -p)   # ends the nodes".to_owned());
    let typed = stage.shell.typed();
    let alias = format!("alias handfast={}", stage.shell.binary().display());
    let mut kept = None;
    if arguments.keep && story.holds() {
        kept = Some(Kept::of(&stage));
        stage.keep();
    } else {
        let title = "both nodes drained and ended, the directory removed";
        let struck = async { stage.strike().await.map(|()| Proof::new("nothing is left behind")) };
        // If it did not hold, that is in the story.
        let _ = story.step("cleanup", title, struck).await;
    }

    let ok = story.holds();
    let seconds = story.elapsed().as_secs_f64();
    if output.format() == Format::Text {
        let mut page = Page::new(output.is_interactive());
        if ok {
            by_hand(&mut page, &alias, &typed);
            if let Some(kept) = &kept {
                still_running(&mut page, kept);
            }
        }
        page.line("");
        page.line(match (ok, interrupted.is_some()) {
            (true, _) => format!("Every step held. {seconds:.1} s"),
            (false, true) => format!("Interrupted after {seconds:.1} s."),
            (false, false) => format!("A step did not hold: see ✗ above. {seconds:.1} s"),
        });
        crate::output::print(&page.finish())?;
    } else {
        let told =
            Told { ok, seconds, steps: story.steps(), commands: &typed, kept: kept.as_ref() };
        output.show(&told, |_| ())?;
    }
    Ok(if ok { Exit::Success } else { Exit::Failed })
}

async fn play(story: &mut Story, stage: &mut Stage) -> Result<(), Broken> {
    // Whether anybody reads along does not change what is done.
    let _ = story.chapter("Two sites link");
    linking::play(story, stage).await?;
    let _ = story.chapter("Strangers are refused, and told why");
    refusals::play(story, stage).await?;
    let _ = story.chapter("A program reports over the link, to a collector that knows who speaks");
    telemetry::play(story, stage).await?;
    let _ = story.chapter("Certificates are renewed while requests run");
    renewal::play(story, stage).await?;
    let _ = story.chapter("The root of all trust is replaced while requests run");
    rotation::play(story, stage).await?;
    let _ = story.chapter("One site is revoked in the middle of a conversation");
    revocation::play(story, stage).await
}

/// The whole demo, as `-o json` has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    ok: bool,
    seconds: f64,
    steps: &'a [Step],
    commands: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<&'a Kept>,
}

/// What `--keep` left running.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    directory: String,
    pids: Vec<u32>,
    logs: Vec<String>,
    url: String,
    stop: String,
}

impl Kept {
    fn of(stage: &Stage) -> Self {
        let directory = stage.directory().display().to_string();
        let pids = stage.pids();
        let words: Vec<String> = pids.iter().map(ToString::to_string).collect();
        Self {
            // The directory goes when nobody writes there any more.
            stop: format!(
                "kill {0}; for p in {0}; do while kill -0 $p 2>/dev/null; do sleep 0.1; done; done; rm -r {directory}",
                words.join(" ")
            ),
            directory,
            pids,
            logs: stage.logs().iter().map(|log| log.display().to_string()).collect(),
            url: format!("http://127.0.0.1:{}/", stage.ports.listener),
        }
    }
}

fn by_hand(page: &mut Page, alias: &str, typed: &[String]) {
    page.line("");
    page.heading("The same by hand, in an empty directory");
    page.line(format!("  {alias}"));
    for line in typed {
        page.line(format!("  {line}"));
    }
}

fn still_running(page: &mut Page, kept: &Kept) {
    page.heading("Still running");
    page.line(format!("  cd {}", kept.directory));
    page.line("  handfast --home east link status");
    page.line(format!("  curl {}", kept.url));
    for log in &kept.logs {
        page.line(format!("  less {log}"));
    }
    page.heading("Stop it with");
    page.line(format!("  {}", kept.stop));
}
