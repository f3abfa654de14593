//! What to say about the credentials: problems with their remedies, and the facts for `cert list`.
//!
//! Pure, like the decisions, and made from the same situation.

use std::collections::{BTreeMap, BTreeSet};

use handfast_pki::{Name, Profile};
use handfast_store::{Kind, Source, StoreError};
use jiff::Timestamp;

use crate::ceremony;
use crate::decide::{Failure, Key, Situation, key_of, longest_below, retry, warn_at};
use crate::declared::ResourceRef;
use crate::desired::{DesiredCredential, NameConflict, SignedBy};
use crate::observed::{Current, Facts, Observed, Staged};
use crate::report::{CredentialFacts, CredentialState, Problem, ProblemCode, Tally};
use crate::rotation::scheduled;
use crate::schedule;
use crate::skew::Skew;

/// Everything that is not as it should be.
pub(crate) fn problems(situation: &Situation<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(skew) = situation.skew {
        problems.extend(skewed(situation, skew));
    }
    for wanted in situation.desired {
        let seen = seen(situation, wanted);
        let failure = situation.failures.get(&key_of(wanted));
        let found = findings(situation, wanted, seen, failure);
        for (code, what, remedy) in found {
            let problem = |resource: Option<ResourceRef>| Problem {
                code,
                name: wanted.name.clone(),
                resource,
                what: what.clone(),
                remedy: remedy.clone(),
            };
            if wanted.needed_by.is_empty() {
                problems.push(problem(None));
            }
            problems.extend(wanted.needed_by.iter().cloned().map(Some).map(problem));
        }
    }
    problems
}

/// The facts of every credential that is wanted or there, by name.
pub(crate) fn credentials(
    situation: &Situation<'_>,
    tallies: &BTreeMap<Key, Tally>,
) -> Vec<CredentialFacts> {
    let mut all: Vec<CredentialFacts> = situation
        .observed
        .iter()
        .filter_map(|seen| {
            let wanted = situation
                .desired
                .iter()
                .find(|each| each.kind == seen.kind && each.name == seen.name);
            describe(situation, wanted, seen, tallies)
        })
        .collect();
    all.sort_by(|a, b| (&a.name, a.kind).cmp(&(&b.name, b.kind)));
    all
}

/// A name that two purposes claim.
pub(crate) fn conflict(conflict: &NameConflict) -> Problem {
    Problem {
        code: ProblemCode::NameConflict,
        name: conflict.name.clone(),
        resource: Some(conflict.resource.clone()),
        what: format!(
            "credential `{}` is already in use as the site's {} certificate",
            conflict.name, conflict.taken_for
        ),
        remedy: "Give the resource another name in `tlsCredentials`.".to_owned(),
    }
}

/// What resources use by its name, nobody makes, and cannot be read now: what was good last stays in use, until
/// the node starts again.
pub(crate) fn broken_though_used(
    used: &BTreeSet<Name>,
    wanted: &[DesiredCredential],
    observed: &[Observed],
) -> Vec<Problem> {
    let known = |seen: &Observed| {
        wanted.iter().any(|each| each.kind == seen.kind && each.name == seen.name)
    };
    let told = observed.iter().filter(|seen| used.contains(&seen.name) && !known(seen));
    told.filter_map(|seen| {
        let Current::Broken { what, remedy, .. } = &seen.current else { return None };
        Some(Problem {
            code: ProblemCode::CredentialBroken,
            name: seen.name.clone(),
            resource: None,
            what: format!(
                "{what}; what was good last stays in use, and is gone when the node starts again"
            ),
            remedy: remedy.clone(),
        })
    })
    .collect()
}

/// A staged request that the store would not give back.
pub(crate) fn unreadable(wanted: &DesiredCredential, error: &StoreError) -> Problem {
    Problem {
        code: ProblemCode::IssuanceFailed,
        name: wanted.name.clone(),
        resource: wanted.needed_by.first().cloned(),
        what: format!("the renewal request for `{}` cannot be read: {error}", wanted.name),
        remedy: "Check the disk and the permissions of the node's home.".to_owned(),
    }
}

fn seen<'a>(situation: &Situation<'a>, wanted: &DesiredCredential) -> Option<&'a Observed> {
    situation.observed.iter().find(|seen| seen.kind == wanted.kind && seen.name == wanted.name)
}

fn skewed(situation: &Situation<'_>, skew: &Skew) -> Option<Problem> {
    let name = situation.desired.first()?.name.clone();
    Some(Problem {
        code: ProblemCode::ClockSkew,
        name,
        resource: None,
        what: format!(
            "the clock of this machine says {}, at least {} before the truth it told earlier: {}",
            situation.now,
            schedule::spoken(skew.behind),
            skew.evidence
        ),
        remedy: "Nothing is renewed meanwhile. Set the clock (NTP). If it is right now and was \
                 ahead before, renew everything with `handfast cert renew --all`."
            .to_owned(),
    })
}

/// What sort of problem, what it is, what to do.
pub(crate) type Finding = (ProblemCode, String, String);

fn findings(
    situation: &Situation<'_>,
    wanted: &DesiredCredential,
    seen: Option<&Observed>,
    failure: Option<&Failure>,
) -> Vec<Finding> {
    let current = seen.map_or(&Current::Missing, |seen| &seen.current);
    let now = situation.now;
    let mut found = Vec::new();
    match current {
        Current::Missing => found.extend(missing(situation, wanted, seen, failure)),
        Current::Broken { source, what, remedy, .. } => {
            let remedy = if wanted.signed_by == SignedBy::Itself && *source == Source::Managed {
                "Restore its files from a backup: a new key would end the trust in everything it \
                 signed. To start anew all the same, remove its directory."
                    .to_owned()
            } else {
                remedy.clone()
            };
            found.push((ProblemCode::CredentialBroken, what.clone(), remedy));
        }
        Current::Locked { what, remedy, .. } => {
            found.push((ProblemCode::KeyLocked, what.clone(), remedy.clone()));
        }
        Current::Usable { source, facts, warnings } => {
            found.extend(ceremony::due(situation, wanted, seen, facts));
            if let Some(at) = facts.revoked {
                found.push(revoked(wanted, *source, at));
            } else if facts.not_after <= now {
                found.push(expired(wanted, *source, facts));
            } else if *source == Source::Supplied && warn_at(facts) <= now {
                found.push((
                    ProblemCode::CredentialExpiring,
                    format!(
                        "supplied credential `{}` expires at {}, in {}",
                        wanted.name,
                        facts.not_after,
                        schedule::spoken(schedule::span(now, facts.not_after))
                    ),
                    "Replace its files before; the change is noticed at once.".to_owned(),
                ));
            }
            found.extend(warnings.iter().map(|warning| {
                let what = format!("credential `{}`: {}", wanted.name, warning.what);
                (ProblemCode::CredentialWarning, what, warning.remedy.clone())
            }));
        }
    }
    if let (Some(failure), Some(facts)) = (failure, current.facts()) {
        found.push(failing(wanted, failure, facts, situation));
    }
    found
}

fn missing(
    situation: &Situation<'_>,
    wanted: &DesiredCredential,
    seen: Option<&Observed>,
    failure: Option<&Failure>,
) -> Option<Finding> {
    let name = &wanted.name;
    if let SignedBy::RemoteSite(link) = &wanted.signed_by {
        let begun = seen.is_some_and(|seen| seen.staged != Staged::Nothing);
        let what = if begun {
            format!(
                "link `{link}` has no credential `{name}` yet: its token was not redeemed whole"
            )
        } else {
            format!("link `{link}` has no credential `{name}`")
        };
        let remedy = "Redeem a token of the other site with `handfast token redeem FILE` (the \
                      same file again, if that was interrupted), or supply the credential under \
                      `input/certs`.";
        return Some((ProblemCode::CredentialMissing, what, remedy.to_owned()));
    }
    if let Some(failure) = failure {
        let again = retry(failure, None);
        return Some((
            ProblemCode::IssuanceFailed,
            format!("credential `{name}` could not be made: {}", failure.what),
            format!("It is tried again at {again}; attempts so far: {}.", failure.count),
        ));
    }
    let SignedBy::Issuer(signer) = &wanted.signed_by else { return None };
    if let Some(finding) = ceremony::missing(situation, wanted, seen) {
        return Some(finding);
    }
    let authority = situation
        .observed
        .iter()
        .find(|seen| seen.kind == Kind::Issuer && seen.name == *signer)
        .and_then(|seen| seen.current.usable());
    let why = match authority {
        None => "is not there or cannot be used",
        Some(facts) if !facts.can_sign => "has no key here",
        Some(facts) if facts.not_after <= situation.now => "has expired",
        // Nobody needs it: a root whose CAs are all supplied.
        Some(_) => return None,
    };
    Some((
        ProblemCode::CredentialMissing,
        format!("credential `{name}` is missing, and its issuer `{signer}` {why}"),
        format!(
            "Supply the credential under `input/`, or the issuer with its key under \
             `input/issuers/{signer}`."
        ),
    ))
}

fn revoked(wanted: &DesiredCredential, source: Source, at: Timestamp) -> Finding {
    let remedy = match (source, &wanted.signed_by) {
        (Source::Supplied, _) => "Replace its files; the change is noticed at once.",
        (Source::Managed, SignedBy::RemoteSite(_)) => {
            "Ask the other site why. To link again, redeem a new token that it makes for this site: \
             `handfast token issue FILE --site NAME` there, `handfast token redeem FILE` here."
        }
        (Source::Managed, _) => {
            "Another one is made as soon as its issuer can sign; see the other problems."
        }
    };
    (
        ProblemCode::CredentialRevoked,
        format!("credential `{}` was revoked at {at}", wanted.name),
        remedy.to_owned(),
    )
}

fn expired(wanted: &DesiredCredential, source: Source, facts: &Facts) -> Finding {
    let remedy = match (source, &wanted.signed_by) {
        (Source::Supplied, _) => "Replace its files; the change is noticed at once.",
        (Source::Managed, SignedBy::RemoteSite(_)) => {
            "It was not renewed in time, and an expired one cannot ask. Redeem a new token of the \
             other site."
        }
        (Source::Managed, _) => {
            "It is renewed as soon as its issuer can sign; see the other problems."
        }
    };
    (
        ProblemCode::CredentialExpired,
        format!("credential `{}` has expired at {}", wanted.name, facts.not_after),
        remedy.to_owned(),
    )
}

fn failing(
    wanted: &DesiredCredential,
    failure: &Failure,
    facts: &Facts,
    situation: &Situation<'_>,
) -> Finding {
    let code = match wanted.signed_by {
        SignedBy::RemoteSite(_) => ProblemCode::RenewalUnanswered,
        SignedBy::Issuer(_) | SignedBy::Itself => ProblemCode::IssuanceFailed,
    };
    let left = schedule::span(situation.now, facts.not_after);
    (
        code,
        format!(
            "credential `{}` was not renewed ({} attempts, the last at {}): {}",
            wanted.name, failure.count, failure.last, failure.what
        ),
        format!(
            "The present one serves for another {}; the next attempt is at {}.",
            schedule::spoken(left),
            retry(failure, Some(facts))
        ),
    )
}

fn describe(
    situation: &Situation<'_>,
    wanted: Option<&DesiredCredential>,
    seen: &Observed,
    tallies: &BTreeMap<Key, Tally>,
) -> Option<CredentialFacts> {
    let facts = seen.current.facts();
    let key = (seen.kind, seen.name.clone());
    let failing = situation.failures.contains_key(&key);
    let source = seen.current.source().unwrap_or(Source::Managed);
    let now = situation.now;
    let state = match (&seen.current, facts) {
        // A root that nobody needs, or what another site's interrupted redemption left.
        (Current::Missing, _) => match wanted {
            Some(wanted) if wanted.profile == Profile::Root && !failing => return None,
            Some(_) if failing => CredentialState::Failed,
            Some(_) => CredentialState::Pending,
            None => return None,
        },
        (_, Some(facts)) if facts.revoked.is_some() => CredentialState::Revoked,
        (_, Some(facts)) if facts.not_after <= now => CredentialState::Expired,
        (Current::Broken { .. }, _) => CredentialState::Broken,
        (Current::Locked { .. }, _) => CredentialState::Locked,
        (Current::Usable { facts, .. }, _) => state(source, facts, seen, failing, situation),
    };
    Some(CredentialFacts {
        kind: seen.kind,
        name: seen.name.clone(),
        identity: facts.and_then(|facts| {
            facts.identity.as_ref().map(ToString::to_string).or_else(|| facts.common_name.clone())
        }),
        serial: facts.map(|facts| facts.serial.clone()),
        issuer: facts.map(|facts| facts.issuer.clone()),
        not_before: facts.map(|facts| facts.not_before),
        not_after: facts.map(|facts| facts.not_after),
        renew_at: facts
            .filter(|_| source == Source::Managed && wanted.is_some())
            .map(|facts| replaced_at(situation, seen, facts)),
        source,
        state,
        fingerprint: facts.map(|facts| facts.fingerprint.to_string()),
        key: facts.map(|facts| facts.key),
        failure: situation.failures.get(&key).cloned(),
        tally: tallies.get(&key).copied().unwrap_or_default(),
    })
}

/// When a certificate is renewed, or an issuer's successor begins to sign.
fn replaced_at(situation: &Situation<'_>, seen: &Observed, facts: &Facts) -> Timestamp {
    match seen.kind {
        Kind::Certificate => facts.renew_at(),
        Kind::Issuer => {
            let longest = longest_below(situation.desired, &seen.name).unwrap_or_default();
            scheduled(facts.not_before, facts.not_after, longest).1
        }
    }
}

fn state(
    source: Source,
    facts: &Facts,
    seen: &Observed,
    failing: bool,
    situation: &Situation<'_>,
) -> CredentialState {
    let now = situation.now;
    if source == Source::Managed && seen.kind == Kind::Issuer && situation.held.contains(&seen.name)
    {
        // Its successor is the rotation's concern, and told there.
        return if failing { CredentialState::Expiring } else { CredentialState::Ready };
    }
    match source {
        Source::Supplied if warn_at(facts) <= now => CredentialState::Expiring,
        Source::Managed if facts.renew_at() <= now && failing => CredentialState::Expiring,
        Source::Managed if seen.staged != Staged::Nothing => CredentialState::Renewing,
        Source::Managed if facts.renew_at() <= now => CredentialState::Expiring,
        Source::Managed | Source::Supplied => CredentialState::Ready,
    }
}
