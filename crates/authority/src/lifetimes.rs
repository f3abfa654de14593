//! How long credentials live: the settings `leaf-ttl` and `ca-ttl` of a site, checked as a pair.
//!
//! Checked where they are read, so that nothing further in has to. It does not read the settings.

use std::time::Duration;

/// How long the credentials of a site live.
///
/// A value of this type keeps the rule that a leaf lives at most a sixth of its CA's life, which
/// leaves a CA enough time to be replaced before it has to cut short what it signs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lifetimes {
    leaf: Duration,
    ca: Duration,
    root: Duration,
}

impl Lifetimes {
    /// Leaves of `leaf`, CAs of `ca`, and a root of ten years.
    ///
    /// # Errors
    ///
    /// A leaf life under ten seconds or over a year, or over a sixth of the CA's life; a CA life
    /// over a sixth of the root's.
    pub fn new(leaf: Duration, ca: Duration) -> Result<Self, LifetimesError> {
        if leaf < MIN_LEAF {
            return Err(LifetimesError::LeafTooShort { leaf: text(leaf), least: text(MIN_LEAF) });
        }
        if leaf > MAX_LEAF {
            return Err(LifetimesError::LeafTooLong { leaf: text(leaf), most: text(MAX_LEAF) });
        }
        if leaf > ca / LEAVES_PER_CA {
            return Err(LifetimesError::LeafOutlivesCa {
                leaf: text(leaf),
                ca: text(ca),
                most: text(ca / LEAVES_PER_CA),
                least_ca: text(leaf * LEAVES_PER_CA),
            });
        }
        if ca > ROOT / LEAVES_PER_CA {
            return Err(LifetimesError::CaTooLong {
                ca: text(ca),
                most: text(ROOT / LEAVES_PER_CA),
            });
        }
        Ok(Self { leaf, ca, root: ROOT })
    }

    /// From the text of the two settings; what is absent has its default.
    ///
    /// When only `leaf-ttl` is given, the CA keeps its default of 90 days if that is at least
    /// six leaves; otherwise both must be given.
    ///
    /// # Errors
    ///
    /// As [`Lifetimes::new`], and text that is not a duration such as `45s`, `24h` or `1h30m`.
    pub fn parse(leaf_ttl: Option<&str>, ca_ttl: Option<&str>) -> Result<Self, LifetimesError> {
        let leaf = leaf_ttl.map_or(Ok(DEFAULT_LEAF), |text| duration("leaf-ttl", text))?;
        let ca = ca_ttl.map_or(Ok(DEFAULT_CA), |text| duration("ca-ttl", text))?;
        Self::new(leaf, ca)
    }

    /// Life of a leaf: 24 hours unless set.
    pub fn leaf(&self) -> Duration {
        self.leaf
    }

    /// Life of a site's CAs: 90 days unless set.
    pub fn ca(&self) -> Duration {
        self.ca
    }

    /// Life of a trust domain's root: ten years.
    pub fn root(&self) -> Duration {
        self.root
    }
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { leaf: DEFAULT_LEAF, ca: DEFAULT_CA, root: ROOT }
    }
}

/// A setting that cannot be followed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LifetimesError {
    /// The CA would outlive the room its root leaves.
    #[error("setting ca-ttl is {ca}, and a root of ten years leaves at most {most}: lower ca-ttl")]
    CaTooLong {
        /// What was asked for.
        ca: String,
        /// What is possible.
        most: String,
    },
    /// The leaf lives longer than a sixth of its CA.
    #[error(
        "setting leaf-ttl is {leaf} and ca-ttl is {ca}, but a certificate may live at most a \
         sixth of its CA's life, so that a CA can be replaced in time: set leaf-ttl to {most} or \
         less, or ca-ttl to {least_ca} or more"
    )]
    LeafOutlivesCa {
        /// The leaf life asked for.
        leaf: String,
        /// The CA life it meets.
        ca: String,
        /// The longest leaf life under that CA.
        most: String,
        /// The shortest CA life over that leaf.
        least_ca: String,
    },
    /// The leaf lives longer than we ever issue.
    #[error("setting leaf-ttl is {leaf}, the longest is {most}: lower leaf-ttl")]
    LeafTooLong {
        /// What was asked for.
        leaf: String,
        /// What is possible.
        most: String,
    },
    /// The leaf lives too short to be renewed in time.
    #[error("setting leaf-ttl is {leaf}, the shortest is {least}: raise leaf-ttl")]
    LeafTooShort {
        /// What was asked for.
        leaf: String,
        /// What is possible.
        least: String,
    },
    /// Not a duration.
    #[error(
        "setting {setting} is `{text}`, which is not a duration: write it like 45s, 24h or 90d"
    )]
    NotADuration {
        /// The setting's name.
        setting: &'static str,
        /// What stood there.
        text: String,
    },
}

fn duration(setting: &'static str, text: &str) -> Result<Duration, LifetimesError> {
    parse_duration(text).ok_or_else(|| LifetimesError::NotADuration {
        setting,
        text: text.chars().take(40).collect(),
    })
}

/// Reads `1d12h`, `24h`, `15m`, `45s`: whole numbers, each with a unit, largest unit first.
///
/// `None` for anything else, an empty text and an overflow among it.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = 0_u64;
    let mut number: Option<u64> = None;
    let mut last_unit = u64::MAX;
    for character in text.trim().chars() {
        if let Some(digit) = character.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(digit))?);
            continue;
        }
        let unit = match character {
            'd' => 86_400,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        if unit >= last_unit {
            return None;
        }
        last_unit = unit;
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    (number.is_none() && last_unit != u64::MAX).then(|| Duration::from_secs(total))
}

/// A duration in the notation that [`parse_duration`] reads.
fn text(duration: Duration) -> String {
    let mut seconds = duration.as_secs();
    let mut written = String::new();
    for (unit, letter) in [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')] {
        if seconds >= unit {
            written.push_str(&(seconds / unit).to_string());
            written.push(letter);
            seconds %= unit;
        }
    }
    if written.is_empty() { "0s".to_owned() } else { written }
}

/// How many leaf lives must fit into a CA's life.
pub const LEAVES_PER_CA: u32 = 6;
const DAY: Duration = Duration::from_secs(86_400);
const DEFAULT_LEAF: Duration = DAY;
const DEFAULT_CA: Duration = Duration::from_secs(90 * 86_400);
const ROOT: Duration = Duration::from_secs(3650 * 86_400);
const MIN_LEAF: Duration = Duration::from_secs(10);
const MAX_LEAF: Duration = Duration::from_secs(366 * 86_400);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn defaults_are_a_day_ninety_days_and_ten_years() {
        let lifetimes = Lifetimes::parse(None, None).unwrap();
        assert_eq!(lifetimes, Lifetimes::default());
        assert_eq!(lifetimes.leaf(), DAY);
        assert_eq!(lifetimes.ca(), DAY * 90);
        assert_eq!(Lifetimes::new(lifetimes.leaf(), lifetimes.ca()), Ok(lifetimes));
    }

    #[test]
    fn a_leaf_longer_than_a_sixth_of_its_ca_is_refused_with_both_ways_out() {
        let error = Lifetimes::parse(Some("1h"), Some("5h")).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("50m") && message.contains("6h"), "{message}");
        assert!(Lifetimes::parse(Some("1h"), Some("6h")).is_ok());
    }

    #[test]
    fn too_short_too_long_and_nonsense_are_refused() {
        assert!(matches!(
            Lifetimes::parse(Some("9s"), None),
            Err(LifetimesError::LeafTooShort { .. })
        ));
        assert!(Lifetimes::parse(Some("10s"), Some("60s")).is_ok());
        assert!(matches!(
            Lifetimes::parse(Some("400d"), Some("3000d")),
            Err(LifetimesError::LeafTooLong { .. })
        ));
        assert!(matches!(
            Lifetimes::parse(None, Some("900d")),
            Err(LifetimesError::CaTooLong { .. })
        ));
        for nonsense in
            ["", "h", "12", "1x", "-3s", "1s1h", "1h1h", "99999999999999999999d", "1.5h"]
        {
            assert!(
                matches!(
                    Lifetimes::parse(Some(nonsense), None),
                    Err(LifetimesError::NotADuration { setting: "leaf-ttl", .. })
                ),
                "{nonsense}"
            );
        }
    }

    proptest! {
        #[test]
        fn durations_survive_being_written(seconds in 1_u64..10_000_000_000) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(parse_duration(&text(duration)), Some(duration));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn what_is_accepted_keeps_the_rule(leaf in 0_u64..100_000_000, ca in 0_u64..1_000_000_000) {
            let (leaf, ca) = (Duration::from_secs(leaf), Duration::from_secs(ca));
            if let Ok(lifetimes) = Lifetimes::new(leaf, ca) {
                prop_assert!(lifetimes.leaf() * LEAVES_PER_CA <= lifetimes.ca());
                prop_assert!(lifetimes.ca() * LEAVES_PER_CA <= lifetimes.root());
            }
        }
    }
}
