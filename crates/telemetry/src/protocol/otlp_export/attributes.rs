//! Attributes: names with values, each name once, as OpenTelemetry wants it.

use std::collections::HashMap;

use handfast_proto::otlp::common::v1::any_value::Value;
use handfast_proto::otlp::common::v1::{AnyValue, ArrayValue, KeyValue};

use crate::protocol::view::Tag;

/// Attributes in the order in which they came. A name that comes again makes its value a row of values:
/// nothing is lost, and no receiver has to choose.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Attributes {
    list: Vec<KeyValue>,
    places: HashMap<String, usize>,
}

impl Attributes {
    pub(in crate::protocol) fn text(&mut self, key: &str, value: impl Into<String>) {
        self.add(key.to_owned(), Value::StringValue(value.into()));
    }

    /// Text, where there is some.
    pub(in crate::protocol) fn some(&mut self, key: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    /// Text, where there is some and nothing under this name yet.
    pub(in crate::protocol) fn missing(&mut self, key: &str, value: impl Into<String>) {
        if !self.has(key) {
            self.some(key, value);
        }
    }

    pub(in crate::protocol) fn has(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// That something is so.
    pub(in crate::protocol) fn flag(&mut self, key: &str) {
        self.add(key.to_owned(), Value::BoolValue(true));
    }

    pub(in crate::protocol) fn int(&mut self, key: &str, value: i64) {
        self.add(key.to_owned(), Value::IntValue(value));
    }

    /// A tag under the name that it has in the conventions, or under its own.
    pub(in crate::protocol) fn tag(&mut self, tag: Tag, names: &[(&str, &str)]) {
        let Tag { key, value } = tag;
        let named = names.iter().find(|(ours, _)| *ours == key).map(|(_, theirs)| *theirs);
        match named {
            Some(name) if name.ends_with("status_code") => match value.parse() {
                Ok(number) => self.int(name, number),
                Err(_) => self.text(name, value),
            },
            Some(name) => self.text(name, value),
            None => self.add(key, Value::StringValue(value)),
        }
    }

    /// An address with its port, told apart where it can be.
    pub(in crate::protocol) fn address(&mut self, key: &str, text: &str) {
        let split = text.rsplit_once(':').and_then(|(host, port)| {
            let host =
                host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            Some((host, port.parse::<u16>().ok()?))
        });
        match split {
            Some((host, port)) => {
                self.some(&format!("{key}.address"), host);
                self.int(&format!("{key}.port"), port.into());
            }
            None => self.some(&format!("{key}.address"), text),
        }
    }

    pub(in crate::protocol) fn finish(self) -> Vec<KeyValue> {
        self.list
    }

    fn add(&mut self, key: String, value: Value) {
        let value = AnyValue { value: Some(value) };
        let Some(place) = self.places.get(&key) else {
            self.places.insert(key.clone(), self.list.len());
            self.list.push(KeyValue { key, value: Some(value) });
            return;
        };
        let known = self.list[*place].value.get_or_insert_default();
        if let Some(Value::ArrayValue(row)) = &mut known.value {
            row.values.push(value);
        } else {
            let first = std::mem::take(known);
            known.value = Some(Value::ArrayValue(ArrayValue { values: vec![first, value] }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(fill: impl FnOnce(&mut Attributes)) -> Vec<(String, String)> {
        let mut attributes = Attributes::default();
        fill(&mut attributes);
        let shown = |value: AnyValue| match value.value {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => format!("#{number}"),
            Some(Value::ArrayValue(row)) => format!("{} values", row.values.len()),
            other => format!("{other:?}"),
        };
        let list = attributes.finish().into_iter();
        list.map(|pair| (pair.key, shown(pair.value.unwrap()))).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_name_that_comes_again_becomes_a_row() {
        let told = told(|attributes| {
            for value in ["1", "2", "3"] {
                attributes.text("a", value);
                attributes.some("b", "");
            }
        });
        assert_eq!(told, pairs(&[("a", "3 values")]));
    }

    #[test]
    fn an_address_is_told_apart_from_its_port() {
        for (text, expected) in [
            ("oap:11800", pairs(&[("s.address", "oap"), ("s.port", "#11800")])),
            ("[::1]:80", pairs(&[("s.address", "::1"), ("s.port", "#80")])),
            ("a:1,b:2,", pairs(&[("s.address", "a:1,b:2,")])),
            ("somewhere", pairs(&[("s.address", "somewhere")])),
            ("", Vec::new()),
        ] {
            assert_eq!(told(|attributes| attributes.address("s", text)), expected, "{text}");
        }
    }

    #[test]
    fn known_tags_have_the_names_of_the_conventions() {
        let names = [("status_code", "http.response.status_code"), ("url", "url.full")];
        let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
        let told = told(|attributes| {
            attributes.tag(tag("status_code", "404"), &names);
            attributes.tag(tag("url", "http://x/"), &names);
            attributes.tag(tag("mine", "1"), &names);
        });
        let expected =
            [("http.response.status_code", "#404"), ("url.full", "http://x/"), ("mine", "1")];
        assert_eq!(told, pairs(&expected));
    }
}
