//! Who is refused again and again, or sends what is strange: told at once, and then once a minute with a number, however often it comes.
//! There are agents that know no back-off, and strangers that mean it: neither may fill a log.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// What was said lately of whom.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<BTreeMap<Key, Said>>);

/// An address or an identity, or all that are too many to tell apart; and why.
type Key = (Option<String>, &'static str);

#[derive(Debug)]
struct Said {
    at: Timestamp,
    /// Refused since without a word.
    silent: u64,
}

impl Repeats {
    /// One more; how many there were since the last word, this one included, if it is time for another.
    pub(super) fn note(&self, from: &str, why: &'static str, now: Timestamp) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (Some(from.to_owned()), why);
        if all.len() >= SOURCES && !all.contains_key(&key) {
            all.retain(|_, said| said.silent > 0 || !said.is_over(now));
            if all.len() >= SOURCES {
                all.retain(|_, said| !said.is_over(now));
            }
            if all.len() >= SOURCES {
                key = (None, why);
            }
        }
        let Some(said) = all.get_mut(&key) else {
            all.insert(key, Said { at: now, silent: 0 });
            return Some(1);
        };
        said.silent += 1;
        if !said.is_over(now) {
            return None;
        }
        said.at = now;
        Some(std::mem::take(&mut said.silent))
    }
}

impl Said {
    /// Whether it was said so long ago that it may be said again. A clock that went back is no reason to be silent.
    fn is_over(&self, now: Timestamp) -> bool {
        let since = now.duration_since(self.at);
        since.is_negative() || since.unsigned_abs() >= EACH
    }
}

/// Who and why are told apart so often; what is more shares one line a minute for each reason.
const SOURCES: usize = 1024;

/// One line for each in so long.
const EACH: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a moment")
    }

    fn address(number: u32) -> String {
        std::net::Ipv4Addr::from(number).to_string()
    }

    #[test]
    fn it_is_told_at_once_and_then_once_a_minute_with_a_number() {
        let repeats = Repeats::default();
        assert_eq!(repeats.note(&address(1), "expired", at(0)), Some(1));
        for _ in 0..400 {
            assert_eq!(repeats.note(&address(1), "expired", at(59)), None);
        }
        assert_eq!(repeats.note(&address(2), "expired", at(59)), Some(1), "another address");
        assert_eq!(repeats.note(&address(1), "revoked", at(59)), Some(1), "another fault");
        assert_eq!(repeats.note(&address(1), "expired", at(60)), Some(401));
        assert_eq!(repeats.note(&address(1), "expired", at(61)), None);
        assert_eq!(repeats.note(&address(1), "expired", at(0)), Some(2), "the clock went back");
    }

    #[test]
    fn many_addresses_are_told_apart_up_to_a_number_and_the_rest_is_one_line() {
        let repeats = Repeats::default();
        let told = |second| {
            (0..5000).filter_map(|n| repeats.note(&address(n), "expired", at(second))).count()
        };
        assert_eq!(told(0), SOURCES + 1);
        assert_eq!(told(1), 0);
        assert!(repeats.0.lock().expect("no panic").len() <= SOURCES + 1);
        assert!(told(90) <= SOURCES + 1);
    }
}
