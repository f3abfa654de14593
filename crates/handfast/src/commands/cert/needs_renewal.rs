//! `handfast cert needs-renewal`: one question with one exit code, for cron and systemd timers.

use std::path::Path;

use handfast_authority::renew_at;
use handfast_pki::{Certificate, Chain};
use handfast_store::Source;
use handfast_tls::probe::{Probe, connect};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::show;
use super::target::Target;
use crate::clock;
use crate::commands::{Context, words};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Tone;

/// Arguments of `handfast cert needs-renewal`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A PEM file, a TLS server, or the name of a credential of this home
    #[arg(value_name = "FILE|HOST:PORT|NAME")]
    target: String,
    /// How near its end is too near: a duration, or a part of its whole life [default: what handfast itself renews at, else 33%]
    #[arg(long, value_name = "DURATION|PERCENT", value_parser = margin)]
    expires_in: Option<Margin>,
    /// For HOST:PORT: how long it may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = crate::commands::duration)]
    timeout: std::time::Duration,
}

/// How near its end a certificate is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Margin {
    Left(SignedDuration),
    /// Percent of its life.
    Part(u32),
}

/// Reads `7d`, `36h`, `33%`.
pub(super) fn margin(text: &str) -> Result<Margin, String> {
    if let Some(percent) = text.strip_suffix('%') {
        return match percent.parse() {
            Ok(percent @ 0..=100) => Ok(Margin::Part(percent)),
            _ => Err("write a part like 33%, from 0% to 100%".to_owned()),
        };
    }
    match handfast_authority::parse_duration(text).map(SignedDuration::try_from) {
        Some(Ok(duration)) => Ok(Margin::Left(duration)),
        _ => Err("write a duration like 36h or 7d, or a part like 33%".to_owned()),
    }
}

impl Margin {
    /// When a certificate is due.
    fn due(self, certificate: &Certificate) -> Timestamp {
        let (begin, end) = (certificate.not_before(), certificate.not_after());
        let left = match self {
            Self::Left(left) => left,
            Self::Part(percent) => {
                let life = end.duration_since(begin).as_secs();
                SignedDuration::from_secs(life / 100 * i64::from(percent))
            }
        };
        end.checked_sub(left).unwrap_or(begin)
    }
}

/// Answers by the exit code, and in words.
pub(super) async fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let now = clock::now();
    let (certificates, managed) = match Target::of(&arguments.target) {
        Target::File(path) => (show::read_chain(&path)?.iter().cloned().collect(), false),
        Target::Server { host, port } => {
            let mut probe = Probe::new(&host, port, None);
            probe.limit = arguments.timeout;
            let report = connect(&probe, now).await;
            match (report.chain.is_empty(), report.fault) {
                // A server that refuses us has shown its certificate nevertheless.
                (false, _) => (report.chain, false),
                (true, Some(fault)) => return Err(fault.into()),
                (true, None) => return Err(no_certificate(&arguments.target).into()),
            }
        }
        Target::Name(name) => {
            let stored = show::load(&name, context)?;
            let pem = stored.pem.tls_crt.as_deref().ok_or_else(|| no_certificate(&name))?;
            let chain = Chain::from_pem(pem)?;
            (chain.iter().cloned().collect::<Vec<_>>(), stored.source == Source::Managed)
        }
    };
    let due_of = |certificate: &Certificate| match arguments.expires_in {
        Some(margin) => margin.due(certificate),
        None if managed => renew_at(
            certificate.not_before(),
            certificate.not_after(),
            certificate.fingerprint().as_bytes(),
        ),
        None => Margin::Part(33).due(certificate),
    };
    // What is handed out with the leaf fails with it. A managed chain is renewed from above.
    let looked_at = if managed { 1 } else { certificates.len() };
    let first = certificates
        .iter()
        .take(looked_at)
        .min_by_key(|certificate| due_of(certificate))
        .ok_or_else(|| no_certificate(&arguments.target))?;
    let due = due_of(first);
    let answer = Answer {
        target: arguments.target.clone(),
        needs_renewal: due <= now,
        subject: first.subject().to_owned(),
        not_after: first.not_after(),
        due,
    };
    context.output.show(&answer, |page| {
        let tone = if answer.needs_renewal { Tone::Warn } else { Tone::Good };
        let word = tone.paint(if answer.needs_renewal { "yes" } else { "no" });
        page.line(format!(
            "{word}: {} ends {}, and is due {}",
            answer.subject,
            words::moment(Some(answer.not_after), now),
            words::distance(answer.due, now)
        ));
    })?;
    Ok(if answer.needs_renewal { Exit::Success } else { Exit::No })
}

/// The answer, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    target: String,
    needs_renewal: bool,
    /// Which certificate of the chain is due first.
    subject: String,
    not_after: Timestamp,
    due: Timestamp,
}

fn no_certificate(target: &str) -> Failure {
    Failure::new(Exit::BadInput, "there is no certificate to look at")
        .at(Path::new(target).display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn margins_are_durations_or_parts() {
        assert_eq!(margin("7d"), Ok(Margin::Left(SignedDuration::from_hours(168))));
        assert_eq!(margin("33%"), Ok(Margin::Part(33)));
        for bad in ["", "%", "101%", "-1%", "7", "7x", "1.5%"] {
            assert!(margin(bad).is_err(), "{bad}");
        }
    }
}
