//! `handfast ca rotate`: orders a rotation, and with `--wait` follows it to its end.

use std::time::{Duration, Instant};

use handfast_api::admin::{AuthorityStatus, Rotate, RotationStatus, Taint};

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
    /// How long to follow it, whatever it waits for; it goes on by itself after that [default: 5m for each step, 40m for one
    /// that waits for agents, 20m by force]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
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
        let started = Instant::now();
        let (mut phase, mut phase_seen) = (String::new(), started);
        let mut said = String::new();
        while let Some(rotation) = &latest.rotation {
            if phase != rotation.phase {
                (phase, phase_seen) = (rotation.phase.clone(), Instant::now());
            }
            let line = progress(&latest.name, rotation);
            if line != said {
                context.output.say(&line)?;
                said = line;
            }
            if !rotation.under_way {
                break;
            }
            if is_over(following.timeout, started.elapsed(), phase_seen.elapsed(), rotation) {
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
            tokio::time::sleep(pause(phase_seen.elapsed())).await;
            let name = latest.name.clone();
            let all = context.client().authorities().await?;
            if let Some(found) = all.into_iter().find(|one| one.name == name) {
                latest = found;
            }
        }
    }
    context.output.show(&latest, |page| status::draw(page, std::slice::from_ref(&latest)))
}

/// One line about the step that a rotation is at, whom that waits for, and for how long where it is longer than people expect.
fn progress(authority: &str, rotation: &RotationStatus) -> String {
    let mut line = format!("{authority}: {}", status::headline(rotation));
    if rotation.waits_for.is_empty() {
        return line;
    }
    let waiting: Vec<String> = rotation
        .waits_for
        .iter()
        .map(|laggard| format!("{} {}", laggard.kind, laggard.name))
        .collect();
    line = format!("{line}; waits for {}", waiting.join(", "));
    if rotation.waits_for.iter().any(|laggard| laggard.kind == "agents") {
        let minutes = rotation.may_take_seconds.div_ceil(60);
        line = format!("{line}: agents ask every so often, so it may take up to {minutes} min");
    }
    line
}

/// Whether it has been followed for long enough: for as long as was said, or else for as long as the node says that each step
/// may take. Both are measured here: the clocks of two machines may differ.
fn is_over(
    timeout: Option<Duration>,
    followed: Duration,
    phase_followed: Duration,
    rotation: &RotationStatus,
) -> bool {
    match timeout {
        Some(timeout) => followed >= timeout,
        None => phase_followed >= Duration::from_secs(rotation.may_take_seconds),
    }
}

/// A step takes a moment, or minutes: then nobody minds a second.
fn pause(phase_followed: Duration) -> Duration {
    (phase_followed / 20).clamp(SHORTEST_LOOK, LONGEST_LOOK)
}

const SHORTEST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use handfast_api::admin::LaggardStatus;

    use super::*;

    fn waiting(kind: &str, may_take_seconds: u64) -> RotationStatus {
        let at = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        RotationStatus {
            phase: "draining".to_owned(),
            under_way: true,
            cause: "asked".to_owned(),
            by: "ann".to_owned(),
            reason: String::new(),
            began_at: at,
            since: at,
            generation: 2,
            old_generation: 1,
            waits_for: vec![LaggardStatus {
                kind: kind.to_owned(),
                name: "shop".to_owned(),
                reachable: true,
                last_seen: None,
                sequence: None,
                lacks: "credential".to_owned(),
                expires: None,
            }],
            may_take_seconds,
            waived: None,
        }
    }

    #[test]
    fn it_is_followed_as_long_as_the_node_says_or_as_long_as_was_asked_for() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let rotation = waiting("agents", 2400);
        assert!(!is_over(None, minutes(70), minutes(39), &rotation));
        assert!(is_over(None, minutes(70), minutes(40), &rotation));
        assert!(is_over(Some(minutes(5)), minutes(5), minutes(1), &rotation));
        assert!(!is_over(Some(minutes(90)), minutes(80), minutes(80), &rotation));
    }

    #[test]
    fn whoever_waits_is_told_for_whom_and_how_long_agents_may_take() {
        let line = progress("handfast-root", &waiting("agents", 2400));
        assert!(line.contains("waits for agents shop") && line.contains("up to 40 min"), "{line}");
        let line = progress("handfast-root", &waiting("site", 300));
        assert!(line.ends_with("waits for site shop"), "{line}");
    }
}
