//! The certificates that this site presents: usable, renewed in time, and long-lived enough to outlast
//! an authority that is away.

use std::time::Duration;

use handfast_api::status::{CredentialSource, CredentialState, CredentialStatus};
use jiff::Timestamp;

use super::facts::Facts;
use super::report::{Check, Group};
use crate::commands::words;

const GROUP: Group = Group::Credentials;

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let all = match &facts.credentials {
        Ok(all) if all.is_empty() => {
            return vec![Check::skipped("credentials-usable", GROUP, "there are none yet")];
        }
        Ok(all) => all,
        Err(why) => {
            return vec![Check::failed(
                "credentials-usable",
                GROUP,
                format!("they cannot be read: {why}"),
                "mend what is named; `handfast cert list` shows the rest",
            )];
        }
    };
    let mut checks = usable(all);
    checks.extend(renewed(all, facts.now));
    checks.extend(supplied(all, facts.now));
    checks.extend(endurance(all, facts.home.grace));
    checks
}

fn usable(all: &[CredentialStatus]) -> Vec<Check> {
    let id = "credentials-usable";
    let bad: Vec<Check> = all
        .iter()
        .filter(|one| {
            matches!(
                one.state,
                CredentialState::Broken
                    | CredentialState::Expired
                    | CredentialState::Locked
                    | CredentialState::Missing
                    | CredentialState::NotYetValid
                    | CredentialState::Revoked
            )
        })
        .map(|one| {
            let why =
                one.last_error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
            Check::failed(
                id,
                GROUP,
                format!("{} is {}{why}", one.name, words::credential(one.state)),
                "`handfast status` says why, and what to do",
            )
        })
        .collect();
    if bad.is_empty() {
        return vec![Check::ok(id, GROUP, format!("all of {} credentials can be used", all.len()))];
    }
    bad
}

fn renewed(all: &[CredentialStatus], now: Timestamp) -> Vec<Check> {
    let id = "credentials-renewed";
    let late: Vec<Check> = all
        .iter()
        .filter(|one| {
            one.source == CredentialSource::Managed && one.state != CredentialState::Expired
        })
        .filter(|one| {
            one.failures >= FAILURES
                || one.renew_at.is_some_and(|at| now.duration_since(at).as_secs() > LATE)
        })
        .map(|one| {
            let end = one.not_after.map(|end| format!(", ends {}", words::distance(end, now)));
            let why =
                one.last_error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
            Check::warning(
                id,
                GROUP,
                format!("{} is not renewed in time{}{why}", one.name, end.unwrap_or_default()),
                "it is tried again by itself; mend what is named",
            )
        })
        .collect();
    if !late.is_empty() {
        return late;
    }
    let next = all.iter().filter_map(|one| one.renew_at).min();
    let next = next.map(|at| format!("; the next is due {}", words::distance(at, now)));
    vec![Check::ok(id, GROUP, format!("renewals are on time{}", next.unwrap_or_default()))]
}

fn supplied(all: &[CredentialStatus], now: Timestamp) -> Vec<Check> {
    let id = "credentials-supplied";
    let yours: Vec<_> = all.iter().filter(|one| one.source == CredentialSource::Supplied).collect();
    if yours.is_empty() {
        return Vec::new();
    }
    let ending: Vec<Check> = yours
        .iter()
        .filter_map(|one| Some((one, one.not_after?)))
        .filter(|(one, end)| {
            one.state == CredentialState::RenewalDue
                || (*end > now && end.duration_since(now).as_secs() < WEEK)
        })
        .map(|(one, end)| {
            Check::warning(
                id,
                GROUP,
                format!("{} is yours to renew, and ends {}", one.name, words::distance(end, now)),
                "lay a new one into its directory under `input/`; it is taken up at once",
            )
        })
        .collect();
    if ending.is_empty() {
        return vec![Check::ok(
            id,
            GROUP,
            format!("none of {} supplied credentials ends within a week", yours.len()),
        )];
    }
    ending
}

/// For how long renewals may fail before the first credential expires.
fn endurance(all: &[CredentialStatus], grace: Duration) -> Option<Check> {
    let id = "credentials-endurance";
    let (shortest, seconds) = all
        .iter()
        // A responder is made anew by its own CA, and is no use without it.
        .filter(|one| one.source != CredentialSource::Memory)
        .filter_map(|one| {
            let span = one.not_after?.duration_since(one.renew_at?);
            Some((one.name.as_str(), span.as_secs()))
        })
        .min_by_key(|(_, seconds)| *seconds)?;
    let span = words::span(seconds.unsigned_abs());
    let fact = format!("an authority that is away is outlasted for {span} at least ({shortest})");
    if !grace.is_zero() {
        let asked = words::span(grace.as_secs());
        if seconds.unsigned_abs() < grace.as_secs() {
            return Some(Check::warning(
                id,
                GROUP,
                format!("{fact}, and `renewal-grace` asks for {asked}"),
                "one that was made before the setting is renewed by itself, and at once by `handfast cert \
                 renew --all`; what another site signs lives as long as the settings of that site say",
            ));
        }
        return Some(Check::ok(id, GROUP, format!("{fact}; `renewal-grace` asks for {asked}")));
    }
    Some(if seconds < SHORT {
        Check::warning(
            id,
            GROUP,
            fact,
            "give certificates a longer life with the Site's `renewal-grace`, so that a night's outage is none",
        )
    } else {
        Check::ok(id, GROUP, fact)
    })
}

/// Failures in a row that are no accident any more.
const FAILURES: u32 = 3;
/// Seconds.
const LATE: i64 = 600;
const SHORT: i64 = 3600;
const WEEK: i64 = 7 * 86_400;
