//! How single fields are read and written: through the `FromStr`/`Display` of their type, so that a
//! wrong value is refused with its line and nothing is left to check afterwards.

use std::fmt;

use serde::Deserializer;
use serde::de::{self, Unexpected, Visitor};

/// `#[serde(with = "field::parsed")]` for any type that is parsed from text.
pub(super) mod parsed {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::{Deserialize, Error, Unexpected};
    use serde::{Deserializer, Serializer};

    pub(in crate::resources) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(in crate::resources) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: T::Err| {
            D::Error::invalid_value(Unexpected::Str(&text), &error.to_string().as_str())
        })
    }
}

/// The same for `Option` fields; combine with `default` and `skip_serializing_if`.
pub(super) mod parsed_option {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "the shape serde asks for")]
    pub(in crate::resources) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::resources) fn deserialize<'de, T, D>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        super::parsed::deserialize(deserializer).map(Some)
    }
}

/// The same for lists.
pub(super) mod parsed_list {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::{Deserialize, Error, Unexpected};
    use serde::{Deserializer, Serializer};

    pub(in crate::resources) fn serialize<T: Display, S: Serializer>(
        values: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(ToString::to_string))
    }

    pub(in crate::resources) fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        Vec::<String>::deserialize(deserializer)?
            .into_iter()
            .map(|text| {
                text.parse().map_err(|error: T::Err| {
                    D::Error::invalid_value(Unexpected::Str(&text), &error.to_string().as_str())
                })
            })
            .collect()
    }
}

/// A TCP port that is written as a number (listeners, connectors, roles).
pub(super) mod port {
    use serde::{Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
    pub(in crate::resources) fn serialize<S: Serializer>(
        port: &u16,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(*port)
    }

    pub(in crate::resources) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u16, D::Error> {
        super::any_port(deserializer)
    }
}

/// A TCP port that may be left out.
pub(super) mod port_option {
    use serde::{Deserializer, Serializer};

    #[expect(
        clippy::ref_option,
        clippy::trivially_copy_pass_by_ref,
        reason = "the shape serde asks for"
    )]
    pub(in crate::resources) fn serialize<S: Serializer>(
        port: &Option<u16>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match port {
            Some(port) => serializer.serialize_u16(*port),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::resources) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u16>, D::Error> {
        super::any_port(deserializer).map(Some)
    }
}

/// A TCP port that Skupper writes as text (endpoints).
pub(super) mod port_text {
    use serde::{Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
    pub(in crate::resources) fn serialize<S: Serializer>(
        port: &u16,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(port)
    }

    pub(in crate::resources) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u16, D::Error> {
        super::any_port(deserializer)
    }
}

/// A count that must be at least 1 (cost, redemptions).
pub(super) mod positive {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
    pub(in crate::resources) fn serialize<S: Serializer>(
        value: &u32,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(*value)
    }

    pub(in crate::resources) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u32, D::Error> {
        let value = i64::deserialize(deserializer)?;
        u32::try_from(value).ok().filter(|value| *value >= 1).ok_or_else(|| {
            D::Error::invalid_value(
                serde::de::Unexpected::Signed(value),
                &"a whole number of at least 1",
            )
        })
    }
}

/// Reads a port written as a number or as text.
fn any_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    struct PortVisitor;

    impl Visitor<'_> for PortVisitor {
        type Value = u16;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(PORT)
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<u16, E> {
            u16::try_from(value)
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(value), &PORT))
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<u16, E> {
            match u64::try_from(value) {
                Ok(value) => self.visit_u64(value),
                Err(_) => Err(E::invalid_value(Unexpected::Signed(value), &PORT)),
            }
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<u16, E> {
            match text.parse::<u64>() {
                Ok(value) => self.visit_u64(value),
                Err(_) => Err(E::invalid_value(Unexpected::Str(text), &PORT)),
            }
        }
    }

    deserializer.deserialize_any(PortVisitor)
}

/// Skips `false` when writing, as Skupper's `omitempty` does.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
pub(super) fn is_false(value: &bool) -> bool {
    !*value
}

const PORT: &str = "a port between 1 and 65535";
