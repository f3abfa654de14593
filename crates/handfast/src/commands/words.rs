//! States, sizes, times and faults as words for people. Programs get the values themselves.

use handfast_api::status::{
    CredentialSource, CredentialState, EdgeState, FaultView, KeyPlace, LinkDirection, LinkState,
    NodeState,
};
use jiff::Timestamp;

use crate::output::Page;

/// How a listener, connector or access is.
pub(super) fn edge(state: EdgeState) -> &'static str {
    match state {
        EdgeState::Failed => "failed",
        EdgeState::Ready => "ready",
        EdgeState::Waiting => "waiting",
    }
}

/// How a link is.
pub(super) fn link(state: LinkState) -> &'static str {
    match state {
        LinkState::Connecting => "connecting",
        LinkState::Down => "down",
        LinkState::NotReady => "not ready",
        LinkState::Up => "up",
    }
}

/// Who dialled a link.
pub(super) fn direction(direction: LinkDirection) -> &'static str {
    match direction {
        LinkDirection::Incoming => "incoming",
        LinkDirection::Outgoing => "outgoing",
    }
}

/// What a node is doing.
pub(super) fn node(state: NodeState) -> &'static str {
    match state {
        NodeState::Degraded => "degraded",
        NodeState::Draining => "draining",
        NodeState::Ready => "ready",
        NodeState::Starting => "starting",
    }
}

/// How a credential is.
pub(super) fn credential(state: CredentialState) -> &'static str {
    match state {
        CredentialState::Broken => "broken",
        CredentialState::Expired => "expired",
        CredentialState::Locked => "locked",
        CredentialState::Missing => "missing",
        CredentialState::NotYetValid => "not yet valid",
        CredentialState::RenewalDue => "renewal due",
        CredentialState::Renewing => "renewing",
        CredentialState::Revoked => "revoked",
        CredentialState::Valid => "valid",
    }
}

/// Who looks after a credential.
pub(super) fn source(source: CredentialSource) -> &'static str {
    match source {
        CredentialSource::Managed => "managed",
        CredentialSource::Memory => "memory",
        CredentialSource::Supplied => "supplied",
    }
}

/// Where a key is.
pub(super) fn key(place: KeyPlace) -> &'static str {
    match place {
        KeyPlace::Absent => "elsewhere",
        KeyPlace::Encrypted => "encrypted",
        KeyPlace::Memory => "memory",
        KeyPlace::Plain => "file",
        KeyPlace::Token => "token",
    }
}

/// A number of bytes, to three digits.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A moment, and how far away it is: `2026-11-22T01:02:03Z (in 23 h)`.
pub(super) fn moment(moment: Option<Timestamp>, now: Timestamp) -> String {
    moment
        .map(|moment| format!("{} ({})", whole_seconds(moment), distance(moment, now)))
        .unwrap_or_default()
}

/// How far a moment is away: `in 23 h`, `5 min ago`.
pub(super) fn distance(moment: Timestamp, now: Timestamp) -> String {
    let seconds = moment.as_second() - now.as_second();
    if seconds == 0 {
        return "now".to_owned();
    }
    let span = span(seconds.unsigned_abs());
    if seconds < 0 { format!("{span} ago") } else { format!("in {span}") }
}

/// A moment without fractions of a second.
pub(super) fn whole_seconds(moment: Timestamp) -> String {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment).to_string()
}

/// A fault beneath a table, under the name of what it is about.
pub(super) fn fault(page: &mut Page, subject: &str, fault: Option<&FaultView>) {
    if let Some(fault) = fault {
        page.heading(subject);
        page.line(fault.to_string());
    }
}

/// So many of a thing whose plural has an s: `1 link`, `2 links`.
pub(super) fn several(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A time in seconds, in one unit.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits() {
        for (count, expect) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (15_400, "15.0 KiB"),
            (1_048_576, "1.00 MiB"),
            (1_024_000, "0.98 MiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(bytes(count), expect);
        }
    }

    #[test]
    fn moments_say_how_far_away_they_are() {
        let now = Timestamp::from_second(1_000_000).expect("in range");
        let at = |offset: i64| Timestamp::from_second(1_000_000 + offset).expect("in range");
        assert_eq!(distance(at(0), now), "now");
        assert_eq!(distance(at(60), now), "in 60 s");
        assert_eq!(distance(at(-3_600), now), "60 min ago");
        assert_eq!(distance(at(86_400), now), "in 24 h");
        assert_eq!(distance(at(864_000), now), "in 10 d");
        assert!(moment(Some(at(0)), now).starts_with("1970-01-12T13:46:40Z"));
        assert_eq!(moment(None, now), "");
    }
}
