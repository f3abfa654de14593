//! `handfast ca rotate`: orders a rotation, and with `--wait` follows it to its end.

use std::time::{Duration, Instant};

use handfast_api::admin::{AuthorityStatus, Rotate, Taint};

use super::{Role, status};
use crate::commands::{Context, duration};
use crate::exit::Exit;
use crate::failure::Failure;

/// Arguments of `handfast ca rotate`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Which one
    authority: Role,
    /// The key is in the wrong hands: do not wait for who is away, and cut what it vouches for
    #[arg(long, requires = "reason", conflicts_with = "proceed_without_laggards")]
    forced: bool,
    /// Let the present phase of a rotation that is under way go on without those it waits for
    #[arg(long, requires = "reason")]
    proceed_without_laggards: bool,
    /// Why; it is kept in the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    following: Following,
}

/// How long a command follows a rotation.
#[derive(clap::Args, Debug)]
pub(super) struct Following {
    /// Follow it until it has ended
    #[arg(long)]
    wait: bool,
    /// How long to follow it; it goes on by itself after that
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    timeout: Duration,
}

/// Orders, and follows.
pub(super) async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<()> {
    let authority = arguments.authority.as_str().to_owned();
    let reason = arguments.reason.unwrap_or_default();
    let client = context.client();
    let ordered = if arguments.forced {
        client.taint(&Taint { authority, reason }).await?
    } else {
        let without_laggards = arguments.proceed_without_laggards;
        client.rotate(&Rotate { authority, without_laggards, reason }).await?
    };
    follow(ordered, &arguments.following, context).await
}

/// Says how an order goes: once, or until it has ended.
pub(super) async fn follow(
    ordered: AuthorityStatus,
    following: &Following,
    context: &Context,
) -> anyhow::Result<()> {
    let mut latest = ordered;
    if following.wait {
        let deadline = Instant::now() + following.timeout;
        let mut said = String::new();
        while let Some(rotation) = &latest.rotation {
            let waiting: Vec<String> = rotation
                .waits_for
                .iter()
                .map(|laggard| format!("{} {}", laggard.kind, laggard.name))
                .collect();
            let mut line = format!("{}: {}", latest.name, status::headline(rotation));
            if !waiting.is_empty() {
                line = format!("{line}; waits for {}", waiting.join(", "));
            }
            if line != said {
                context.output.say(&line)?;
                said = line;
            }
            if !rotation.under_way {
                break;
            }
            if Instant::now() >= deadline {
                return Err(Failure::new(
                    Exit::TimedOut,
                    format!("the rotation of `{}` has not ended yet", latest.name),
                )
                .because(said)
                .remedy(format!(
                    "it goes on by itself; see whom it waits for: {}",
                    context.command(&format!("ca status {}", latest.role))
                ))
                .into());
            }
            tokio::time::sleep(LOOK).await;
            let name = latest.name.clone();
            let all = context.client().authorities().await?;
            if let Some(found) = all.into_iter().find(|one| one.name == name) {
                latest = found;
            }
        }
    }
    context.output.show(&latest, |page| status::draw(page, std::slice::from_ref(&latest)))
}

const LOOK: Duration = Duration::from_millis(50);
