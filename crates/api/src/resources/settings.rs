//! The free-form `settings` maps: typed reading of the keys we know, a warning for those nobody does.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use super::{Invalid, suggest};

/// The value of `key` as a type; absent keys are `None`.
pub(super) fn parsed<T>(
    settings: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<Option<T>, Invalid>
where
    T: FromStr<Err: Display>,
{
    let Some(text) = settings.get(key) else { return Ok(None) };
    text.parse().map(Some).map_err(|error: T::Err| {
        Invalid::error(
            key,
            format!("setting `{key}` is {text:?}: {error}"),
            "correct the value, or remove the setting to use the default",
        )
    })
}

/// One warning per key that has no effect, because a mistyped key would otherwise go unnoticed.
pub(super) fn unknown(settings: &BTreeMap<String, String>, known: &[&'static str]) -> Vec<Invalid> {
    settings
        .keys()
        .filter(|key| !known.contains(&key.as_str()))
        .map(|key| {
            let remedy = match suggest::nearest(key, known.iter().copied()) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "remove it, or check its spelling".to_owned(),
            };
            Invalid::warning("settings", format!("setting `{key}` has no effect here"), remedy)
        })
        .collect()
}

/// What is done about a certificate of which it cannot be told whether it is revoked: the setting
/// `revocation` of links and accesses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RevocationPolicy {
    /// It is refused.
    Require,
    /// It is accepted; lists that are out of date are shown as a problem.
    #[default]
    Warn,
}

impl FromStr for RevocationPolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        match text {
            "require" => Ok(Self::Require),
            "warn" => Ok(Self::Warn),
            _ => Err(UnknownPolicy),
        }
    }
}

/// The text is no [`RevocationPolicy`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is `require` or `warn`")]
pub struct UnknownPolicy;
