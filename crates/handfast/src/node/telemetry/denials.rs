//! Denied reports on their way to the audit log: who was refused for whom is a row, and whoever tries a
//! million times is a row a minute with a number in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handfast_store::{AuditRow, Ledger as _};
use handfast_telemetry::desk::{Denial, Witness};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::super::core::Core;

/// What was denied since the last time it was written down.
#[derive(Clone, Default)]
pub(in crate::node) struct Denials(Arc<Mutex<BTreeMap<Key, Count>>>);

/// Station, caller, service; all further ones of a caller who made up many are one, without a name.
type Key = (String, String, String);

struct Count {
    first: Denial,
    times: u64,
    /// Until when no further row is written; nothing is counted twice.
    written: Option<Timestamp>,
}

impl Denials {
    /// What the desk of a station tells denials to.
    pub(super) fn witness(&self, station: &str) -> Witness {
        let (denials, station) = (self.clone(), station.to_owned());
        Arc::new(move |denial: Denial| {
            let mut counts = denials.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mut key = (station.clone(), denial.caller.clone(), denial.service.clone());
            if !counts.contains_key(&key) {
                let (station, caller, _) = &key;
                let first = (station.clone(), caller.clone(), String::new());
                let own =
                    counts.range(first..).take_while(|((s, c, _), _)| (s, c) == (station, caller));
                if own.take(SERVICES).count() == SERVICES {
                    key.2.clear();
                }
            }
            if let Some(count) = counts.get_mut(&key) {
                count.times += 1;
                return;
            }
            if counts.len() < KEYS {
                counts.insert(key, Count { first: denial, times: 1, written: None });
            }
        })
    }

    /// The rows that are due, and what is kept of them.
    fn due(&self, now: Timestamp) -> Vec<AuditRow> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::new();
        counts.retain(|(station, caller, service), count| {
            if count.written.is_some_and(|until| now < until) {
                return true;
            }
            if count.times == 0 {
                return false;
            }
            let Denial { at, instance, kind, service: first, .. } = &count.first;
            let (subject, as_whom) = if service.is_empty() {
                ("many services", format!("many services, {first:?} among them"))
            } else {
                (service.as_str(), service.clone())
            };
            rows.push(AuditRow {
                at: *at,
                actor: caller.clone(),
                action: "telemetry.report".to_owned(),
                subject: format!("{subject} at {station}"),
                outcome: "denied".to_owned(),
                detail: format!(
                    "it may not report as {as_whom} ({kind}, instance {instance:?}), tried {}",
                    if count.times == 1 {
                        "once".to_owned()
                    } else {
                        format!("{} times", count.times)
                    }
                ),
                why: String::new(),
            });
            count.times = 0;
            count.written = Some(now + EACH);
            true
        });
        rows
    }
}

impl Core {
    /// Writes denials down, until told to end.
    pub(in crate::node) async fn record_denials(self: Arc<Self>, shutdown: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        loop {
            let ended = tokio::select! {
                () = shutdown.cancelled() => true,
                _ = look.tick() => false,
            };
            let core = Arc::clone(&self);
            let writing = tokio::task::spawn_blocking(move || {
                for row in core.stations.denials.due(crate::clock::now()) {
                    if let Err(error) = core.authority().ledger().audit(&row) {
                        tracing::error!(%error, "a denied report cannot be recorded");
                    }
                }
            });
            if writing.await.is_err() || ended {
                return;
            }
        }
    }
}

/// Combinations that are counted at the same time; a caller who makes up more is only counted in
/// the metrics.
const KEYS: usize = 4096;

/// Services that a caller is told apart by; whoever makes up more fills neither the log nor the room of others.
const SERVICES: usize = 16;

const LOOK: Duration = Duration::from_millis(500);

/// One row for each combination in so long.
const EACH: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use handfast_telemetry::RecordKind;

    use super::*;

    #[test]
    fn a_flood_of_denials_is_a_row_at_once_and_one_a_minute() {
        let denials = Denials::default();
        let witness = denials.witness("Collector/west");
        let at = |second| Timestamp::from_second(second).expect("a moment");
        let deny = |second| {
            witness(Denial {
                at: at(second),
                caller: "spiffe://shop.example/agent/shop".to_owned(),
                instance: "shop-1".to_owned(),
                kind: RecordKind::Segment,
                service: "bank".to_owned(),
            });
        };
        deny(0);
        let rows = denials.due(at(1));
        assert_eq!(rows.len(), 1);
        assert!(rows[0].subject.contains("bank") && rows[0].detail.contains("tried once"));
        for _ in 0..1000 {
            deny(2);
        }
        assert!(denials.due(at(30)).is_empty());
        let rows = denials.due(at(62));
        assert_eq!(rows.len(), 1);
        assert!(rows[0].detail.contains("1000 times"), "{}", rows[0].detail);
        assert!(denials.due(at(130)).is_empty());
        assert!(denials.0.lock().expect("no panic").is_empty(), "forgotten when it is over");
    }

    #[test]
    fn who_makes_up_names_has_a_few_rows_and_hides_nobody() {
        let denials = Denials::default();
        let witness = denials.witness("Collector/west");
        let at = |second| Timestamp::from_second(second).expect("a moment");
        let deny = |caller: &str, service: String, second| {
            witness(Denial {
                at: at(second),
                caller: caller.to_owned(),
                instance: String::new(),
                kind: RecordKind::Segment,
                service,
            });
        };
        let mut rows = 0;
        for minute in 0..3 {
            for name in 0..10_000 {
                deny(
                    "spiffe://shop.example/agent/shop",
                    format!("made-up-{minute}-{name}"),
                    minute * 61,
                );
            }
            rows += denials.due(at(minute * 61)).len();
        }
        assert!(rows <= 3 * (SERVICES + 1), "{rows}");
        deny("spiffe://shop.example/agent/cart", "bank".to_owned(), 200);
        let told = denials.due(at(200));
        let cart = told.iter().find(|row| row.actor.ends_with("/cart")).expect("it is seen");
        assert_eq!(cart.subject, "bank at Collector/west");
    }
}
