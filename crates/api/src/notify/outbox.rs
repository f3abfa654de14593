//! What one receiver is still to be told, as a pure function of what is wrong and of time.
//!
//! It holds states, not events: a trouble that comes, goes and comes again while the receiver is away
//! takes one place, and is told as it is when the receiver is back. So it is bounded by the number of
//! troubles, and nothing is told twice. Time is what has passed since some start; clocks are not asked.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::message::{Alert, Condition, Notice, NoticeStatus};

type Key = (Condition, String);

/// What one receiver knows, and what it is still to be told.
#[derive(Debug)]
pub struct Outbox {
    site: String,
    known: BTreeMap<Key, Known>,
    /// Attempts in a row that failed.
    failures: u32,
    /// Nothing is sent before.
    rest_until: Duration,
    left_out: u64,
}

#[derive(Debug)]
struct Known {
    alert: Alert,
    since: Timestamp,
    is_so: bool,
    /// What the receiver was told last, and when.
    told: Option<(NoticeStatus, Duration)>,
}

impl Known {
    fn status(&self) -> NoticeStatus {
        if self.is_so { NoticeStatus::Firing } else { NoticeStatus::Resolved }
    }

    /// When the receiver is to be told; nothing if it knows.
    fn due(&self) -> Option<Duration> {
        match (self.told, self.status()) {
            (None, NoticeStatus::Firing) => Some(Duration::ZERO),
            (Some((told, at)), status) if told != status => Some(at + CALM),
            (Some((NoticeStatus::Firing, at)), _) => Some(at + AGAIN),
            // It came and went before anybody was told, or its end is known.
            (None | Some((NoticeStatus::Resolved, _)), _) => None,
        }
    }
}

impl Outbox {
    /// A receiver that knows nothing yet.
    pub fn new(site: impl Into<String>) -> Self {
        Self {
            site: site.into(),
            known: BTreeMap::new(),
            failures: 0,
            rest_until: Duration::ZERO,
            left_out: 0,
        }
    }

    /// Takes what is wrong now, all of it.
    pub fn update(&mut self, alerts: &[Alert], now: Timestamp) {
        for known in self.known.values_mut() {
            known.is_so = false;
        }
        for alert in alerts {
            let is_full = self.known.len() >= MOST_ALERTS;
            match self.known.get_mut(&alert.key()) {
                Some(known) => {
                    let was_over =
                        known.told.is_some_and(|(told, _)| told == NoticeStatus::Resolved);
                    if was_over {
                        known.since = now;
                    }
                    known.is_so = true;
                    known.alert = alert.clone();
                }
                None if is_full => self.left_out += 1,
                None => {
                    let known = Known { alert: alert.clone(), since: now, is_so: true, told: None };
                    self.known.insert(alert.key(), known);
                }
            }
        }
        // What is over, and known to be over or never told, is forgotten.
        self.known.retain(|_, known| {
            known.is_so || known.told.is_some_and(|(told, _)| told == NoticeStatus::Firing)
        });
    }

    /// When [`Outbox::next`] will have something; nothing while there is nothing to tell.
    pub fn due(&self) -> Option<Duration> {
        let first = self.known.values().filter_map(Known::due).min()?;
        Some(first.max(self.rest_until))
    }

    /// The notice to send now, if one is due.
    pub fn next(&self, passed: Duration, now: Timestamp) -> Option<Notice> {
        if passed < self.rest_until {
            return None;
        }
        let (key, known) = self
            .known
            .iter()
            .filter_map(|(key, known)| Some((known.due()?, key, known)))
            .filter(|(due, ..)| *due <= passed)
            .min_by_key(|(due, ..)| *due)
            .map(|(_, key, known)| (key, known))?;
        Some(Notice {
            version: 1,
            id: id(&self.site, key),
            status: known.status(),
            condition: known.alert.condition,
            site: self.site.clone(),
            subject: known.alert.subject.clone(),
            message: known.alert.message.clone(),
            remedy: known.alert.remedy.clone(),
            since: known.since,
            sent_at: now,
            page: format!("docs/book/monitoring.md#{}", known.alert.condition),
        })
    }

    /// The receiver has taken this notice.
    pub fn sent(&mut self, notice: &Notice, passed: Duration) {
        self.failures = 0;
        self.rest_until = Duration::ZERO;
        let key = (notice.condition, notice.subject.clone());
        if let Some(known) = self.known.get_mut(&key) {
            known.told = Some((notice.status, passed));
        }
    }

    /// The receiver has not taken it. It is tried again later and later, with nothing in between.
    pub fn failed(&mut self, passed: Duration) {
        self.failures = self.failures.saturating_add(1);
        let pause = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(16)).min(LONGEST_PAUSE);
        self.rest_until = passed + pause;
    }

    /// Attempts in a row that failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How many notices wait, due or not.
    pub fn waiting(&self) -> usize {
        self.known
            .values()
            .filter(|known| known.due().is_some())
            .filter(|known| known.told.is_none_or(|(told, _)| told != known.status()))
            .count()
    }

    /// How many alerts there was no room for.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

fn id(site: &str, (condition, subject): &Key) -> String {
    format!("{site}/{condition}/{subject}").replace(' ', "/")
}

/// Alerts that are remembered for a receiver. More at once is one big trouble, and told by these.
pub const MOST_ALERTS: usize = 256;
/// Between two notices about one thing: what flaps is not told each time.
const CALM: Duration = Duration::from_secs(30);
/// What is not mended is told again.
const AGAIN: Duration = Duration::from_secs(24 * 3600);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(subject: &str) -> Alert {
        Alert {
            condition: Condition::RenewalFailing,
            subject: subject.to_owned(),
            message: "not renewed".to_owned(),
            remedy: "look".to_owned(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const fn after(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_trouble_is_told_once_and_its_end_once() {
        let mut outbox = Outbox::new("west");
        outbox.update(&[], at(0));
        assert_eq!(outbox.due(), None);
        outbox.update(&[alert("a b")], at(5));
        let notice = outbox.next(after(5), at(6)).unwrap();
        assert_eq!(notice.id, "west/renewal-failing/a/b");
        assert_eq!(
            (notice.status, notice.since, notice.sent_at),
            (NoticeStatus::Firing, at(5), at(6))
        );
        outbox.sent(&notice, after(5));
        outbox.update(&[alert("a b")], at(20));
        assert_eq!(outbox.next(after(20), at(20)), None, "it is known");
        outbox.update(&[], at(100));
        let over = outbox.next(after(100), at(100)).unwrap();
        assert_eq!((over.status, over.since), (NoticeStatus::Resolved, at(5)));
        assert_eq!(over.id, notice.id);
        outbox.sent(&over, after(100));
        outbox.update(&[], at(101));
        assert_eq!((outbox.due(), outbox.known.len()), (None, 0));
    }

    #[test]
    fn what_is_not_mended_is_told_again_after_a_day() {
        let mut outbox = Outbox::new("west");
        outbox.update(&[alert("a")], at(0));
        let notice = outbox.next(after(0), at(0)).unwrap();
        outbox.sent(&notice, after(0));
        assert_eq!(outbox.waiting(), 0);
        assert_eq!(outbox.due(), Some(AGAIN));
        assert!(outbox.next(AGAIN, at(86_400)).is_some());
    }

    #[test]
    fn what_flaps_is_told_now_and_then_and_as_it_is() {
        let mut outbox = Outbox::new("west");
        outbox.update(&[alert("a")], at(0));
        let first = outbox.next(after(0), at(0)).unwrap();
        outbox.sent(&first, after(0));
        for second in 1..30 {
            let alerts = if second % 2 == 0 { vec![alert("a")] } else { Vec::new() };
            outbox.update(&alerts, at(second));
            assert_eq!(outbox.next(after(second.unsigned_abs()), at(second)), None);
        }
        // It ended up being over.
        assert_eq!(outbox.next(after(30), at(30)).unwrap().status, NoticeStatus::Resolved);
        // It never was for a receiver that knows nothing of it.
        let mut late = Outbox::new("west");
        late.update(&[alert("a")], at(0));
        late.update(&[], at(1));
        assert_eq!(late.due(), None);
    }

    #[test]
    fn a_receiver_that_fails_is_tried_later_and_later_and_loses_nothing() {
        let mut outbox = Outbox::new("west");
        outbox.update(&[alert("a"), alert("b")], at(0));
        let mut passed = after(0);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert!(outbox.next(passed, at(0)).is_some());
            outbox.failed(passed);
            assert_eq!(outbox.next(passed, at(0)), None, "not at once");
            let due = outbox.due().unwrap();
            pauses.push(due.saturating_sub(passed).as_secs());
            passed = due;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(outbox.waiting(), 2);
        for _ in 0..2 {
            let notice = outbox.next(passed, at(0)).unwrap();
            outbox.sent(&notice, passed);
        }
        assert_eq!((outbox.next(passed, at(0)), outbox.waiting(), outbox.failures()), (None, 0, 0));
    }

    #[test]
    fn it_is_bounded() {
        let mut outbox = Outbox::new("west");
        let alerts: Vec<Alert> = (0..MOST_ALERTS + 10).map(|n| alert(&n.to_string())).collect();
        outbox.update(&alerts, at(0));
        assert_eq!((outbox.waiting(), outbox.left_out()), (MOST_ALERTS, 10));
    }
}
