//! What is worth waking somebody for, as a pure function of what the node knows.
//!
//! Stricter than `status`, which shows every problem: an alert is something that will end in an outage
//! if nobody acts, or that somebody should know of now.

use std::collections::VecDeque;
use std::time::Duration;

use handfast_api::notify::{Alert, Condition};
use handfast_api::status::ProblemView;
use handfast_authority::{AuthorityStanding, CredentialFacts, CredentialState, Report};
use handfast_store::Source;
use jiff::{SignedDuration, Timestamp};

/// What alerts are made from.
pub(super) struct Sight<'a> {
    pub(super) report: &'a Report,
    /// The problem of the disk, and that of time, where there is one.
    pub(super) disk: Option<ProblemView>,
    pub(super) time: Option<ProblemView>,
    /// Handshakes refused within [`FaultRate::WINDOW`], and the most frequent fault among all.
    pub(super) refused: u64,
    pub(super) most_frequent: Option<String>,
    /// How the authorities stand, and whom their rotations wait for.
    pub(super) authorities: &'a [AuthorityStanding],
    pub(super) now: Timestamp,
}

/// Everything that is wrong enough.
pub(super) fn alerts(sight: &Sight<'_>) -> Vec<Alert> {
    let mut alerts = Vec::new();
    for facts in &sight.report.credentials {
        alerts.extend(failing(facts));
        alerts.extend(expiring(facts, sight.now));
    }
    if let Some(skew) = &sight.report.skew {
        alerts.push(Alert {
            condition: Condition::Clock,
            subject: "clock skew".to_owned(),
            message: format!("the clock is behind: {}", skew.evidence),
            remedy: "set the clock right (`timedatectl`); nothing is issued until then".to_owned(),
        });
    }
    alerts.extend(sight.time.iter().map(|problem| of_problem(Condition::Clock, problem)));
    alerts.extend(sight.disk.iter().map(|problem| of_problem(Condition::HomeNotWritable, problem)));
    if sight.refused >= REFUSED {
        let most = sight.most_frequent.as_deref().unwrap_or("unknown");
        alerts.push(Alert {
            condition: Condition::FaultRate,
            subject: "handshakes".to_owned(),
            message: format!(
                "{} handshakes were refused within {} min, most of them ever as `{most}`",
                sight.refused,
                FaultRate::WINDOW.as_secs() / 60
            ),
            remedy: "`handfast status` shows who was refused lately, and why".to_owned(),
        });
    }
    alerts.extend(sight.authorities.iter().flat_map(|one| waiting(one, sight.now)));
    alerts
}

/// Whoever keeps a rotation waiting for longer than a site needs to link anew.
fn waiting(authority: &AuthorityStanding, now: Timestamp) -> Vec<Alert> {
    let since = authority.rotation.as_ref().filter(|one| one.is_under_way()).map(|one| one.since);
    let Some(since) = since.filter(|since| now.duration_since(*since) >= PATIENCE) else {
        return Vec::new();
    };
    let each = authority.laggards.iter().map(|laggard| Alert {
        condition: Condition::RotationLaggard,
        subject: format!("{} {}", authority.name, laggard.who),
        message: format!(
            "the rotation of {} has waited for {} since {since}: it lacks {}",
            authority.name,
            laggard.who,
            laggard.lacks.as_str()
        ),
        remedy: "bring it back, or let the rotation go on without it: see `handfast ca status`"
            .to_owned(),
    });
    each.collect()
}

fn of_problem(condition: Condition, problem: &ProblemView) -> Alert {
    Alert {
        condition,
        subject: problem.subject.clone(),
        message: problem.message.clone(),
        remedy: problem.remedy.clone(),
    }
}

fn failing(facts: &CredentialFacts) -> Option<Alert> {
    let failure = facts.failure.as_ref().filter(|failure| failure.count >= FAILURES)?;
    let until = facts.not_after.map(|end| format!(", and the present one ends at {end}"));
    Some(Alert {
        condition: Condition::RenewalFailing,
        subject: format!("credential {}", facts.name),
        message: format!(
            "its renewal failed {} times in a row{}: {}",
            failure.count,
            until.unwrap_or_default(),
            failure.what
        ),
        remedy: "it is tried again by itself; `handfast status` says what to do".to_owned(),
    })
}

fn expiring(facts: &CredentialFacts, now: Timestamp) -> Option<Alert> {
    let (start, end) = (facts.not_before?, facts.not_after?);
    let has_expired = facts.state == CredentialState::Expired;
    let is_near = match facts.source {
        Source::Supplied => facts.state == CredentialState::Expiring,
        // Renewed between 60 % and 73 % of its life: with a fifth left, that has not happened.
        Source::Managed => {
            facts.renew_at.is_some() && end.duration_since(now) < end.duration_since(start) / 5
        }
    };
    if !has_expired && !is_near {
        return None;
    }
    let left = end.duration_since(now).max(SignedDuration::ZERO).as_mins();
    Some(Alert {
        condition: Condition::CredentialExpiring,
        subject: format!("credential {}", facts.name),
        message: if has_expired {
            format!("it has expired at {end}")
        } else {
            format!("it expires at {end}, in {left} min")
        },
        remedy: match facts.source {
            Source::Managed => "`handfast status` says why it is not renewed",
            Source::Supplied => "lay a new one into its directory under `input/`",
        }
        .to_owned(),
    })
}

/// How many handshakes were refused lately.
#[derive(Debug, Default)]
pub(super) struct FaultRate(VecDeque<(Duration, u64)>);

impl FaultRate {
    /// The time that counts as lately.
    pub(super) const WINDOW: Duration = Duration::from_secs(300);

    /// Takes the total at a moment (since any start); returns what was added within the window.
    pub(super) fn observe(&mut self, passed: Duration, total: u64) -> u64 {
        // The last one from before the window stays: what was added is counted from there.
        while self.0.get(1).is_some_and(|(at, _)| *at + Self::WINDOW <= passed) {
            self.0.pop_front();
        }
        if self.0.back().is_none_or(|(at, _)| passed.saturating_sub(*at) >= STEP) {
            self.0.push_back((passed, total));
        }
        total.saturating_sub(self.0.front().map_or(0, |(_, first)| *first))
    }
}

/// Failures in a row from which on somebody is told; the third comes within a quarter of a minute.
const FAILURES: u32 = 3;
/// Refused handshakes within the window from which on somebody is told.
const REFUSED: u64 = 10;
/// How long a rotation may wait for somebody until somebody is told.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);
/// Samples are no closer than this, so that there are few.
const STEP: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use handfast_authority::rotation::{Cause, Lack, Phase, Rotation};
    use handfast_authority::{Failure, Tally};
    use handfast_store::Kind;

    use super::*;

    const HOUR: i64 = 3600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(2_000_000_000 + second).unwrap()
    }

    /// A managed one of a day, made at 0.
    fn credential(source: Source, state: CredentialState, failures: u32) -> CredentialFacts {
        CredentialFacts {
            kind: Kind::Certificate,
            name: "server".parse().unwrap(),
            identity: None,
            serial: None,
            issuer: None,
            not_before: Some(at(0)),
            not_after: Some(at(24 * HOUR)),
            renew_at: (source == Source::Managed).then(|| at(16 * HOUR)),
            source,
            state,
            fingerprint: None,
            key: None,
            failure: (failures > 0).then(|| Failure {
                count: failures,
                last: at(17 * HOUR),
                what: "the disk is full".into(),
            }),
            tally: Tally::default(),
        }
    }

    #[track_caller]
    fn check(credential: CredentialFacts, hour: i64, expect: &[(Condition, &str)]) {
        let mut report = crate::node::turn::empty_report();
        report.credentials.push(credential);
        let sight = Sight {
            report: &report,
            disk: None,
            time: None,
            refused: 9,
            most_frequent: None,
            authorities: &[],
            now: at(hour * HOUR),
        };
        let found = alerts(&sight);
        let conditions: Vec<_> = found.iter().map(|alert| alert.condition).collect();
        let expected: Vec<_> = expect.iter().map(|(condition, _)| *condition).collect();
        assert_eq!(conditions, expected, "{found:#?}");
        for (alert, (_, words)) in found.iter().zip(expect) {
            assert!(alert.message.contains(words), "{alert:#?}");
        }
    }

    #[test]
    fn credentials_that_nobody_renews_are_alerts_and_others_are_not() {
        use Condition::{CredentialExpiring, RenewalFailing};
        use CredentialState as State;
        let managed = |state, failures| credential(Source::Managed, state, failures);
        let supplied = |state| credential(Source::Supplied, state, 0);
        check(managed(State::Ready, 0), 10, &[]);
        check(managed(State::Expiring, 2), 17, &[]);
        check(managed(State::Expiring, 3), 17, &[(RenewalFailing, "3 times in a row")]);
        check(
            managed(State::Expiring, 9),
            20,
            &[(RenewalFailing, "the disk is full"), (CredentialExpiring, "in 240 min")],
        );
        check(managed(State::Expired, 0), 30, &[(CredentialExpiring, "has expired")]);
        check(supplied(State::Ready), 23, &[]);
        check(supplied(State::Expiring), 23, &[(CredentialExpiring, "in 60 min")]);
    }

    #[test]
    fn who_keeps_a_rotation_waiting_is_an_alert_after_a_while() {
        use handfast_authority::rotation::{Laggard, Who};
        let rotation = |minutes: i64| {
            let since = at(0) - SignedDuration::from_mins(minutes);
            Rotation {
                phase: Phase::Prepared,
                cause: Cause::Asked,
                by: "ann".to_owned(),
                why: String::new(),
                began: since,
                since,
                old_generation: 1,
                generation: 2,
                old: handfast_pki::Fingerprint::of(b"old"),
                new: None,
                sequence: 2,
                cross: None,
                waiver: None,
                heard: BTreeMap::new(),
            }
        };
        let laggard = Laggard {
            who: Who::Site("east".parse().unwrap()),
            reachable: false,
            seen: None,
            sequence: Some(1),
            lacks: Lack::Trust,
            expires: None,
        };
        for (minutes, told) in [(4, 0), (6, 1)] {
            let standing = AuthorityStanding {
                name: "handfast-root".parse().unwrap(),
                signed_by: None,
                source: Source::Managed,
                keys: Vec::new(),
                sequence: Some(2),
                rotation: Some(rotation(minutes)),
                kept: Vec::new(),
                laggards: vec![laggard.clone()],
                next_at: None,
                fault: None,
            };
            let alerts = waiting(&standing, at(0));
            assert_eq!(alerts.len(), told, "{alerts:#?}");
            for alert in alerts {
                assert_eq!(alert.subject, "handfast-root site east");
                assert!(alert.message.contains("it lacks trust"), "{alert:#?}");
            }
        }
    }

    #[test]
    fn many_refusals_within_the_window_are_an_alert_and_old_ones_are_forgotten() {
        let mut rate = FaultRate::default();
        let minute = |n: u64| Duration::from_secs(60 * n);
        assert_eq!(rate.observe(minute(0), 0), 0);
        assert_eq!(rate.observe(minute(1), 4), 4);
        assert_eq!(rate.observe(minute(2), 12), 12);
        assert_eq!(rate.observe(minute(6), 12), 8);
        assert_eq!(rate.observe(minute(8), 12), 0);
        for second in 0..10_000 {
            rate.observe(minute(10) + Duration::from_secs(second), 12);
        }
        assert!(rate.0.len() < 70, "{}", rate.0.len());
    }
}
