//! Text that must not be printed: token codes. Zeroised when dropped, redacted by `Debug`.
//!
//! It does serialise, because a token file and a redemption have to carry it; everything else that
//! could show it (logs, error messages, status) sees only `<redacted>`.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A secret of UTF-8 text.
#[derive(Clone, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Secret(Zeroized);

impl Secret {
    /// Wraps `text`; the caller's own copies are the caller's to erase.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroized(Zeroizing::new(text.into())))
    }

    /// The text itself. Named so that every place that reveals a secret can be found.
    pub fn reveal(&self) -> &str {
        &self.0.0
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.0.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "Never shown again." })
    }
}

#[derive(Clone, Default, Eq, PartialEq)]
struct Zeroized(Zeroizing<String>);

impl Serialize for Zeroized {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Zeroized {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_never_shows_the_text() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "<redacted>");
        assert_eq!(secret.reveal(), "hunter2");
    }
}
