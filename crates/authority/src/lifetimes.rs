//! How long credentials live: the settings `leaf-ttl`, `ca-ttl` and `renewal-grace` of a site, checked
//! together.
//!
//! Checked where they are read, so that nothing further in has to. It does not read the settings.

use std::time::Duration;

use crate::schedule::{left_at_renewal, life_leaving};

/// How long the credentials of a site live.
///
/// A value of this type keeps the rule that a leaf lives at most a sixth of its CA's life, which
/// leaves a CA enough time to be replaced before it has to cut short what it signs; and that a leaf is
/// renewed with at least the grace left, so that whoever renews may be away for as long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lifetimes {
    leaf: Duration,
    ca: Duration,
    root: Duration,
    grace: Duration,
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
        Ok(Self { leaf, ca, root: ROOT, grace: Duration::ZERO })
    }

    /// The same, if leaves live long enough to be renewed with at least `grace` left.
    ///
    /// # Errors
    ///
    /// [`LifetimesError::GraceOutlivesLeaf`].
    pub fn leaving(self, grace: Duration) -> Result<Self, LifetimesError> {
        let least = life_leaving(grace);
        if self.leaf < least {
            return Err(LifetimesError::GraceOutlivesLeaf {
                grace: text(grace),
                leaf: text(self.leaf),
                least_leaf: text(least),
                most: text(left_at_renewal(self.leaf)),
            });
        }
        Ok(Self { grace, ..self })
    }

    /// From the text of the settings; what is absent has its default.
    ///
    /// When only `leaf-ttl` is given, the CA keeps its default of 90 days if that is at least
    /// six leaves; otherwise both must be given. When `renewal-grace` is given without `leaf-ttl`,
    /// leaves live as long as it takes, and a day at least.
    ///
    /// # Errors
    ///
    /// As [`Lifetimes::new`] and [`Lifetimes::leaving`], and text that is not a duration such as `45s`,
    /// `24h` or `1h30m`.
    pub fn parse(
        leaf_ttl: Option<&str>,
        ca_ttl: Option<&str>,
        renewal_grace: Option<&str>,
    ) -> Result<Self, LifetimesError> {
        let ca = ca_ttl.map_or(Ok(DEFAULT_CA), |text| duration("ca-ttl", text))?;
        let grace =
            renewal_grace.map_or(Ok(Duration::ZERO), |text| duration("renewal-grace", text))?;
        let leaf = match leaf_ttl {
            Some(text) => duration("leaf-ttl", text)?,
            None => DEFAULT_LEAF.max(life_leaving(grace)),
        };
        let most_leaf = (ca / LEAVES_PER_CA).min(MAX_LEAF);
        if leaf_ttl.is_none() && leaf > most_leaf && leaf > DEFAULT_LEAF {
            return Err(LifetimesError::GraceTooLong {
                grace: text(grace),
                leaf: text(leaf),
                ca: text(ca),
                least_ca: text(leaf.saturating_mul(LEAVES_PER_CA)),
                most: text(left_at_renewal(most_leaf)),
            });
        }
        Self::new(leaf, ca)?.leaving(grace)
    }

    /// How much of its life a leaf has left at least when it is renewed, as the settings ask for; zero
    /// where they do not.
    pub fn grace(&self) -> Duration {
        self.grace
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
        Self { leaf: DEFAULT_LEAF, ca: DEFAULT_CA, root: ROOT, grace: Duration::ZERO }
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
    /// The leaf does not live long enough to be renewed with so much left.
    #[error(
        "setting renewal-grace is {grace} and leaf-ttl is {leaf}, of which a certificate may have no more \
         than {most} left when it is renewed: set leaf-ttl to {least_leaf} or more (or leave it out), or \
         renewal-grace to {most} or less"
    )]
    GraceOutlivesLeaf {
        /// The grace asked for.
        grace: String,
        /// The leaf life it meets.
        leaf: String,
        /// The shortest leaf life that leaves so much.
        least_leaf: String,
        /// What this leaf life leaves.
        most: String,
    },
    /// Leaves would have to live too long for their CA.
    #[error(
        "setting renewal-grace is {grace}, for which certificates have to live for {leaf}, and ca-ttl is {ca}, \
         of which they may live a sixth, and a year at most: set ca-ttl to {least_ca} or more, or \
         renewal-grace to {most} or less"
    )]
    GraceTooLong {
        /// The grace asked for.
        grace: String,
        /// The leaf life that it takes.
        leaf: String,
        /// The CA life it meets.
        ca: String,
        /// The shortest CA life over such leaves.
        least_ca: String,
        /// What is possible under this CA.
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
pub(crate) fn text(duration: Duration) -> String {
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
        let lifetimes = Lifetimes::parse(None, None, None).unwrap();
        assert_eq!(lifetimes, Lifetimes::default());
        assert_eq!(lifetimes.leaf(), DAY);
        assert_eq!(lifetimes.ca(), DAY * 90);
        assert_eq!(Lifetimes::new(lifetimes.leaf(), lifetimes.ca()), Ok(lifetimes));
    }

    #[test]
    fn a_leaf_longer_than_a_sixth_of_its_ca_is_refused_with_both_ways_out() {
        let error = Lifetimes::parse(Some("1h"), Some("5h"), None).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("50m") && message.contains("6h"), "{message}");
        assert!(Lifetimes::parse(Some("1h"), Some("6h"), None).is_ok());
    }

    #[test]
    fn a_grace_makes_leaves_live_as_long_as_it_takes() {
        let day = Lifetimes::parse(None, None, Some("24h")).unwrap();
        assert_eq!(
            (day.grace(), day.leaf(), day.ca()),
            (DAY, Duration::from_secs(90 * 3600), DAY * 90)
        );
        let short = Lifetimes::parse(None, None, Some("1h")).unwrap();
        assert_eq!(short.leaf(), DAY, "a day leaves six hours as it is");
        let both = Lifetimes::parse(Some("96h"), None, Some("1d")).unwrap();
        assert_eq!(both.leaf(), DAY * 4);
    }

    #[test]
    fn a_grace_that_cannot_be_kept_is_refused_with_both_ways_out() {
        let error = Lifetimes::parse(Some("48h"), None, Some("24h")).unwrap_err().to_string();
        assert!(error.contains("3d18h or more") && error.contains("12h48m or less"), "{error}");
        assert!(Lifetimes::parse(Some("48h"), None, Some("12h48m")).is_ok());
        let error = Lifetimes::parse(None, None, Some("5d")).unwrap_err().to_string();
        assert!(error.contains("112d12h or more") && error.contains("4d or less"), "{error}");
        assert!(Lifetimes::parse(None, None, Some("4d")).is_ok());
        assert!(Lifetimes::parse(None, Some("112d12h"), Some("5d")).is_ok());
        // A CA that is too short for a day's leaves is not the grace's fault.
        assert!(matches!(
            Lifetimes::parse(None, Some("2d"), Some("1h")),
            Err(LifetimesError::LeafOutlivesCa { .. })
        ));
        assert!(matches!(
            Lifetimes::parse(None, None, Some("soon")),
            Err(LifetimesError::NotADuration { setting: "renewal-grace", .. })
        ));
        assert!(Lifetimes::parse(None, None, Some("18446744073709551615s")).is_err());
    }

    #[test]
    fn too_short_too_long_and_nonsense_are_refused() {
        assert!(matches!(
            Lifetimes::parse(Some("9s"), None, None),
            Err(LifetimesError::LeafTooShort { .. })
        ));
        assert!(Lifetimes::parse(Some("10s"), Some("60s"), None).is_ok());
        assert!(matches!(
            Lifetimes::parse(Some("400d"), Some("3000d"), None),
            Err(LifetimesError::LeafTooLong { .. })
        ));
        assert!(matches!(
            Lifetimes::parse(None, Some("900d"), None),
            Err(LifetimesError::CaTooLong { .. })
        ));
        for nonsense in
            ["", "h", "12", "1x", "-3s", "1s1h", "1h1h", "99999999999999999999d", "1.5h"]
        {
            assert!(
                matches!(
                    Lifetimes::parse(Some(nonsense), None, None),
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
