//! `handfast enrol`: the credential of telemetry agents by a token, into a directory, for agents that read files themselves;
//! with `--keep` it stays and renews.

use std::path::PathBuf;
use std::time::Duration;

use handfast_pki::Credential;
use jiff::Timestamp;
use serde::Serialize;

use super::words;
use crate::agent_enrolment::{AgentEnrolment, EnrolmentFault, Hints, Step, USUAL_EVERY, interval};
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{self, LogFormat};
use crate::output::Output;

/// Arguments of `handfast enrol`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    handfast enrol /etc/shop-agent --token shop.token\n  \
    handfast enrol /etc/shop-agent --token shop.token --keep\n  \
    handfast enrol /etc/shop-agent --now\n\n\
    Needs no home and no node. The key is made in the directory and never leaves it; tls.crt, tls.key and ca.crt there\n\
    are switched together. Running it again renews what is due, and does nothing else. Killed at any moment, it leaves the\n\
    old files or the new ones, whole: type it again with the same DIR and token, and what was redeemed is finished, not\n\
    redeemed twice. With --keep it asks the site when to renew, and so hears of the rotation of a CA; --now is for who does not.")]
pub(crate) struct Arguments {
    /// The directory for tls.crt, tls.key and ca.crt
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The token file, made with `handfast token issue --agent`; needed until there is a certificate
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// Stay, and renew before the certificate ends
    #[arg(long)]
    keep: bool,
    /// How often the site is asked whether to renew before the usual time, from 1s to 1h
    #[arg(long, value_name = "DURATION", default_value = USUAL_EVERY, value_parser = interval, requires = "keep")]
    ask_every: Duration,
    /// Renew at once, though it is not due
    #[arg(long)]
    now: bool,
}

/// Does what is due; with `--keep` until it is told to end.
pub(crate) async fn run(arguments: Arguments, output: Output) -> anyhow::Result<()> {
    let mut enrolment = AgentEnrolment::open(&arguments.directory, arguments.token.clone())?;
    if arguments.keep {
        node::start_log(LogFormat::Text);
        enrolment = enrolment.asking(Hints::every(arguments.ask_every));
    }
    let live = enrolment.live();
    // Whoever keeps one wants to see that it is there; after that it speaks when something happens.
    let mut first = true;
    if arguments.now {
        enrolment.hasten();
    }
    loop {
        let now = clock::now();
        let step = enrolment.step(now).await;
        let next = match step {
            Ok(Step::NeedsToken) if !arguments.keep => {
                return Err(Failure::new(Exit::BadInput, "there is no certificate, and no token to get one with")
                    .at(arguments.directory.display())
                    .remedy("name the token file with --token; `handfast token issue FILE --agent SERVICE` makes it")
                    .into());
            }
            Ok(step) => {
                let held = live.borrow().clone();
                let happened = step == Step::Enrolled || step == Step::Renewed;
                if (!arguments.keep || first || happened)
                    && let Some(held) = &held
                {
                    show(&step, held, &arguments, output)?;
                    first = false;
                }
                if step == Step::NeedsToken && first {
                    first = false;
                    tracing::warn!(
                        directory = %arguments.directory.display(),
                        "there is no certificate yet, and no token to get one with: name its file with --token (it may come later)"
                    );
                }
                match step {
                    Step::Waits(at) => at,
                    Step::NeedsToken => now + SOON,
                    Step::Enrolled | Step::Renewed => now,
                }
            }
            Err(fault) if !arguments.keep => return Err(told(fault)),
            Err(fault) => {
                tracing::warn!(%fault, "the agents' certificate is as it was");
                now
            }
        };
        if !arguments.keep {
            return Ok(());
        }
        let wait = Duration::try_from(next.duration_since(clock::now())).unwrap_or_default();
        tokio::select! {
            ended = tokio::signal::ctrl_c() => return Ok(ended?),
            () = terminated() => return Ok(()),
            () = tokio::time::sleep(wait.clamp(SHORTEST, LONGEST)) => {}
        }
    }
}

/// What is at the bottom of it decides the exit code and the remedy.
fn told(fault: EnrolmentFault) -> anyhow::Error {
    let what = "the agents' certificate is as it was";
    let bottom = match fault {
        EnrolmentFault::ForSites { token } => {
            return Failure::new(Exit::BadInput, "the token links sites and enrols no agent")
                .at(token.display())
                .remedy("ask for one that `handfast token issue FILE --agent SERVICE` made; for a link, `handfast token redeem FILE`")
                .into();
        }
        EnrolmentFault::Exchange(error) => error.into(),
        EnrolmentFault::File(error) => error.into(),
        EnrolmentFault::Proof(fault) => (*fault).into(),
        EnrolmentFault::Token(error) => error.into(),
        other => anyhow::Error::from(other),
    };
    bottom.context(what)
}

/// Returns when the process is told to end.
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signals) => drop(signals.recv().await),
        // Then only an interrupt ends it.
        Err(_) => std::future::pending().await,
    }
}

/// What `enrol` did, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    /// `enrolled`, `renewed` or `nothing`.
    #[serde(rename = "done")]
    step: &'static str,
    identity: String,
    serial: String,
    not_after: Timestamp,
    directory: PathBuf,
}

fn show(
    step: &Step,
    held: &Credential,
    arguments: &Arguments,
    output: Output,
) -> anyhow::Result<()> {
    let leaf = held.leaf();
    let identity = leaf.spiffe_id().ok().flatten();
    let done = Done {
        step: match step {
            Step::Enrolled => "enrolled",
            Step::Renewed => "renewed",
            Step::NeedsToken | Step::Waits(_) => "nothing",
        },
        identity: identity.map(|identity| identity.to_string()).unwrap_or_default(),
        serial: leaf.serial().to_string(),
        not_after: leaf.not_after(),
        directory: arguments.directory.clone(),
    };
    output.show(&done, |page| {
        page.fields(&[
            ("done", done.step.to_owned()),
            ("identity", done.identity.clone()),
            ("serial", done.serial.clone()),
            ("certificate until", words::moment(Some(done.not_after), clock::now())),
            ("files", done.directory.display().to_string()),
        ]);
    })
}

/// While there is no token, it is looked for this often.
const SOON: Duration = Duration::from_secs(2);

/// Clocks jump, and machines sleep: however far away the next thing is, it is looked this often.
const LONGEST: Duration = Duration::from_secs(15);

/// However near it is, not more often than this.
const SHORTEST: Duration = Duration::from_millis(50);
