//! Queries in which a field may come several times: `?tag=a=1&tag=b=2`.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Error, MapAccess, Visitor};

/// The fields of a query in their order.
#[derive(Debug)]
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    pub(super) fn of<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }

    /// Takes out a field that may come once.
    pub(super) fn take<T: FromStr<Err: fmt::Display>, E: Error>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, E> {
        let mut values = self.take_all::<T, E>(name)?;
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(E::duplicate_field(name)),
        }
    }

    /// Takes out a field that may come several times.
    pub(super) fn take_all<T: FromStr<Err: fmt::Display>, E: Error>(
        &mut self,
        name: &'static str,
    ) -> Result<Vec<T>, E> {
        let (taken, left) =
            std::mem::take(&mut self.0).into_iter().partition(|(key, _)| key == name);
        self.0 = left;
        let taken: Vec<(String, String)> = taken;
        let parsed = taken.iter().map(|(_, value)| {
            value.parse().map_err(|error| E::custom(format_args!("`{name}`: {error}")))
        });
        parsed.collect()
    }

    /// Nothing may be left.
    pub(super) fn end<E: Error>(self, known: &'static [&'static str]) -> Result<(), E> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(E::unknown_field(key, known)),
        }
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Pairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a query")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry::<String, String>()? {
            if pairs.len() == MOST {
                return Err(A::Error::custom(format_args!("more than {MOST} fields")));
            }
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}

/// A tag to search by: `key=value`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct TagPair(pub(super) String, pub(super) String);

impl FromStr for TagPair {
    type Err = NoTag;

    fn from_str(text: &str) -> Result<Self, NoTag> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self(key.to_owned(), value.to_owned())),
            _ => Err(NoTag),
        }
    }
}

/// A text that is no tag.
#[derive(Debug, thiserror::Error)]
#[error("a tag is written as key=value")]
pub(super) struct NoTag;

/// Fields in one query.
const MOST: usize = 32;
