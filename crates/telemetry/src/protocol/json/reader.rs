//! JSON (RFC 8259), a value at a time: whoever reads says what is wanted next.

use std::borrow::Cow;

/// Where a body stands.
#[derive(Clone, Debug)]
pub(in crate::protocol) struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// What is wrong, before it is known in which field.
pub(in crate::protocol) type Read<T> = Result<T, Fail>;

/// A fault, and the field that it lies in, once somebody knew.
#[derive(Clone, Copy, Debug)]
pub(in crate::protocol) struct Fail {
    fault: JsonFault,
    at: usize,
    place: Option<(&'static str, &'static str)>,
}

/// Why a body in JSON cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}.{field}, byte {at}: {fault}")]
pub struct JsonError {
    /// The message that the fault lies in.
    pub message: &'static str,
    /// Its field.
    pub field: &'static str,
    /// How many bytes of the body were read.
    pub at: usize,
    /// What is wrong there.
    pub fault: JsonFault,
}

/// What is wrong with a body in JSON.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonFault {
    /// Not what the grammar or the message has there.
    #[error("expected {0}")]
    Expected(&'static str),
    /// More after the end.
    #[error("there is more after the end")]
    More,
    /// Nested too deeply.
    #[error("nests deeper than {0}")]
    TooDeep(usize),
    /// The body is no text.
    #[error("is not valid UTF-8")]
    Utf8,
}

impl<'a> Reader<'a> {
    pub(in crate::protocol) fn of(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// The first byte of what comes next, white space aside.
    pub(in crate::protocol) fn peek(&mut self) -> Option<u8> {
        let rest = self.rest();
        self.at += rest.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.rest().first().copied()
    }

    /// Nothing comes any more.
    pub(in crate::protocol) fn end(&mut self) -> Read<()> {
        if self.peek().is_none() { Ok(()) } else { Err(self.fail(JsonFault::More)) }
    }

    /// An object. Who is told of a member reads its value.
    pub(in crate::protocol) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Read<()>,
    ) -> Read<()> {
        self.enter(b'{', "an object")?;
        if !self.takes(b'}') {
            loop {
                let name = self.string()?;
                self.expect(b':', "a colon")?;
                member(self, &name)?;
                if self.takes(b'}') {
                    break;
                }
                self.expect(b',', "a comma or the end of the object")?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// An array. Who is told of an element reads it.
    pub(in crate::protocol) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Read<()>,
    ) -> Read<()> {
        self.enter(b'[', "an array")?;
        if !self.takes(b']') {
            loop {
                element(self)?;
                if self.takes(b']') {
                    break;
                }
                self.expect(b',', "a comma or the end of the array")?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// A string, borrowed where nothing in it is escaped.
    pub(in crate::protocol) fn string(&mut self) -> Read<Cow<'a, str>> {
        self.expect(b'"', "a string")?;
        let mut owned = String::new();
        loop {
            let plain = self.plain();
            let ended = match self.rest().first() {
                Some(b'"') => true,
                Some(b'\\') => false,
                _ => return Err(self.expected("the end of the string")),
            };
            self.at += 1;
            if ended && owned.is_empty() {
                return Ok(Cow::Borrowed(plain));
            }
            owned.push_str(plain);
            if ended {
                return Ok(Cow::Owned(owned));
            }
            owned.push(self.escaped()?);
        }
    }

    /// A number, as it is written.
    pub(in crate::protocol) fn number(&mut self) -> Read<&'a str> {
        self.peek();
        let start = self.at;
        self.follows(b"-");
        if !self.follows(b"0") {
            self.digits()?;
        }
        if self.follows(b".") {
            self.digits()?;
        }
        if self.follows(b"eE") {
            self.follows(b"+-");
            self.digits()?;
        }
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    /// One of `true`, `false` and `null`.
    pub(in crate::protocol) fn word(&mut self, word: &'static str) -> Read<()> {
        self.peek();
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(self.expected(word));
        }
        self.at += word.len();
        Ok(())
    }

    /// Any value, which nobody wants.
    pub(in crate::protocol) fn pass_over(&mut self) -> Read<()> {
        match self.peek() {
            Some(b'{') => self.object(|reader, _| reader.pass_over()),
            Some(b'[') => self.array(Self::pass_over),
            Some(b'"') => self.string().map(drop),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.number().map(drop),
        }
    }

    pub(in crate::protocol) fn expected(&self, what: &'static str) -> Fail {
        self.fail(JsonFault::Expected(what))
    }

    fn fail(&self, fault: JsonFault) -> Fail {
        Fail { fault, at: self.at, place: None }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Up to where a string ends or something is escaped.
    fn plain(&mut self) -> &'a str {
        let start = self.at;
        let stops = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        self.at += self.rest().iter().position(stops).unwrap_or(self.rest().len());
        // Both ends lie beside ASCII, so between characters.
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn escaped(&mut self) -> Read<char> {
        let Some(byte) = self.rest().first() else { return Err(self.expected("what is escaped")) };
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(*byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(self.expected("one of \"\\/bfnrtu after a backslash")),
        })
    }

    fn unicode(&mut self) -> Read<char> {
        let first = self.four_digits()?;
        // Beyond 16 bits a character is two halves.
        let code = if (0xd800..0xdc00).contains(&first) && self.rest().starts_with(b"\\u") {
            self.at += 2;
            let second = self.four_digits()?;
            if !(0xdc00..0xe000).contains(&second) {
                return Err(self.expected("the other half of a character"));
            }
            0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| self.expected("a whole character"))
    }

    fn four_digits(&mut self) -> Read<u32> {
        let digits = self.rest().first_chunk::<4>().copied().unwrap_or_default();
        let mut code = 0;
        for digit in digits {
            let digit = char::from(digit).to_digit(16);
            code = code << 4 | digit.ok_or_else(|| self.expected("four hexadecimal digits"))?;
        }
        self.at += 4;
        Ok(code)
    }

    fn digits(&mut self) -> Read<()> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(self.expected("a value")) } else { Ok(()) }
    }

    /// Takes the next byte if it is one of these.
    fn follows(&mut self, bytes: &[u8]) -> bool {
        let follows = self.rest().first().is_some_and(|byte| bytes.contains(byte));
        self.at += usize::from(follows);
        follows
    }

    fn takes(&mut self, byte: u8) -> bool {
        self.peek();
        self.follows(&[byte])
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Read<()> {
        if self.takes(byte) { Ok(()) } else { Err(self.expected(what)) }
    }

    fn enter(&mut self, byte: u8, what: &'static str) -> Read<()> {
        self.expect(byte, what)?;
        if self.depth == MAX_DEPTH {
            return Err(self.fail(JsonFault::TooDeep(MAX_DEPTH)));
        }
        self.depth += 1;
        Ok(())
    }
}

impl Fail {
    /// The error it is, in this field if nobody knew better.
    pub(in crate::protocol) fn error(
        self,
        message: &'static str,
        field: &'static str,
    ) -> JsonError {
        let (message, field) = self.place.unwrap_or((message, field));
        JsonError { message, field, at: self.at, fault: self.fault }
    }

    /// Says in which field it lies, unless somebody further in said so.
    pub(in crate::protocol) fn within(
        mut self,
        message: &'static str,
        field: &'static str,
    ) -> Self {
        self.place.get_or_insert((message, field));
        self
    }
}

/// Objects and arrays within each other. Attributes of OpenTelemetry may nest, three levels at a time.
const MAX_DEPTH: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn understood(text: &str) -> bool {
        let mut reader = Reader::of(text);
        reader.pass_over().and_then(|()| reader.end()).is_ok()
    }

    #[test]
    fn texts_are_what_they_say() {
        let read = |text: &str| Reader::of(text).string().map(Cow::into_owned).ok();
        assert_eq!(
            read(r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z""#).unwrap(),
            "a\"\\/\u{8}\u{c}\n\r\té😀z"
        );
        for half in [
            r#""\ud83d""#,
            r#""\ud83dx""#,
            r#""\ud83d\u0041""#,
            r#""\ude00""#,
            r#""\u12""#,
            "\"\n\"",
            "\"a",
        ] {
            assert_eq!(read(half), None, "{half}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(understood(&nested(MAX_DEPTH)));
        let deep = nested(MAX_DEPTH + 1);
        let fail = Reader::of(&deep).pass_over().unwrap_err();
        assert_eq!(fail.fault, JsonFault::TooDeep(MAX_DEPTH));
    }

    proptest! {
        #[test]
        fn serde_json_agrees_about_what_is_json(text in r#"[\[\]{}:,"0-9eE+\-.a-ntu\\ \n\u{0}]{0,24}"#) {
            // A number beyond a double is grammar to us and too large to it.
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            let theirs = theirs.is_ok() || theirs.is_err_and(|fault| fault.to_string().contains("out of range"));
            prop_assert_eq!(understood(&text), theirs, "{}", text);
        }

        #[test]
        fn what_serde_json_writes_is_understood(texts in prop::collection::vec(any::<String>(), 0..8), numbers: Vec<f64>) {
            let written = serde_json::json!({ "texts": texts, "numbers": numbers, "none": null, "is": true });
            let pretty = serde_json::to_string_pretty(&written).unwrap();
            prop_assert!(understood(&pretty));
            let mut read = Vec::new();
            let mut reader = Reader::of(&pretty);
            reader
                .object(|reader, name| match name {
                    "texts" => reader.array(|reader| {
                        read.push(reader.string()?.into_owned());
                        Ok(())
                    }),
                    _ => reader.pass_over(),
                })
                .unwrap();
            prop_assert_eq!(read, texts);
        }
    }
}
