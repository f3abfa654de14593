//! DER in small pieces, for what has no library of its own in the house: CRLs and OCSP messages are read
//! field by field without copying (strictly: definite and shortest lengths), and a few values are written.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pkcs8::der::asn1::{GeneralizedTime, UtcTime};
use pkcs8::der::{Decode, Header, Reader, SliceReader};
use x509_parser::extensions::X509Extension;
use x509_parser::prelude::FromDer;
use yasna::models::{ObjectIdentifier, TaggedDerValue};
use yasna::tags::{TAG_GENERALIZEDTIME, TAG_UTCTIME};
use yasna::{DERWriter, DERWriterSeq, Tag};

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The first octet of a constructed value with the context-specific tag `number`.
pub(crate) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// The first octet of a primitive value with the context-specific tag `number`.
pub(crate) const fn context_primitive(number: u8) -> u8 {
    0x80 | number
}

/// One encoded value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    /// The whole of it: tag, length and content.
    pub(crate) raw: &'a [u8],
    /// The content.
    pub(crate) content: &'a [u8],
    /// Where `raw` begins in what the [`Fields`] were made from.
    pub(crate) offset: usize,
}

impl<'a> Element<'a> {
    /// The first octet, which tells the kind of value.
    pub(crate) fn tag(&self) -> u8 {
        self.raw.first().copied().unwrap_or(0)
    }

    /// Where `content` begins in what the [`Fields`] were made from.
    pub(crate) fn content_offset(&self) -> usize {
        self.offset + self.raw.len() - self.content.len()
    }

    /// The values inside.
    pub(crate) fn fields(&self) -> Option<Fields<'a>> {
        Fields::new(self.content)
    }

    /// The moment, if this is a UTCTime or GeneralizedTime since 1970 as RFC 5280 writes them.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        let since_epoch = match self.tag() {
            UTC_TIME => UtcTime::from_der(self.raw).ok()?.to_unix_duration(),
            GENERALIZED_TIME => GeneralizedTime::from_der(self.raw).ok()?.to_unix_duration(),
            _ => return None,
        };
        let seconds = i64::try_from(since_epoch.as_secs()).ok()?;
        Some(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
    }

    /// The value of a non-negative INTEGER or ENUMERATED of one octet.
    pub(crate) fn small(&self) -> Option<u8> {
        match self.content {
            [value] if *value < 0x80 => Some(*value),
            _ => None,
        }
    }
}

/// The values that stand one after the other in a content.
pub(crate) struct Fields<'a> {
    reader: SliceReader<'a>,
}

impl<'a> Fields<'a> {
    /// The values in `content`; `None` if it is too long to be DER.
    pub(crate) fn new(content: &'a [u8]) -> Option<Self> {
        Some(Self { reader: SliceReader::new(content).ok()? })
    }

    /// The one value that `der` consists of.
    pub(crate) fn only(der: &'a [u8]) -> Option<Element<'a>> {
        let mut fields = Self::new(der)?;
        let element = fields.next()?;
        fields.at_end().then_some(element)
    }

    /// Whether nothing follows.
    pub(crate) fn at_end(&self) -> bool {
        self.reader.is_finished()
    }

    /// The next value, of whatever kind; `None` if there is none, or it is malformed.
    pub(crate) fn next(&mut self) -> Option<Element<'a>> {
        let offset = usize::try_from(self.reader.position()).ok()?;
        let length = usize::try_from(Header::peek(&self.reader).ok()?.length()).ok()?;
        let raw = self.reader.tlv_bytes().ok()?;
        let content = raw.get(raw.len().checked_sub(length)?..)?;
        Some(Element { raw, content, offset })
    }

    /// The next value, which must begin with `tag`.
    pub(crate) fn take(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|element| element.tag() == tag)
    }

    /// The next value if it begins with `tag`; the outer `None` is for a malformed one.
    #[expect(clippy::option_option, reason = "malformed and absent are two things")]
    pub(crate) fn optional(&mut self, tag: u8) -> Option<Option<Element<'a>>> {
        if self.at_end() || self.reader.peek_byte() != Some(tag) {
            return Some(None);
        }
        self.next().map(Some)
    }
}

/// The extensions in `list`, a SEQUENCE OF Extension.
pub(crate) fn extensions<'a>(list: &Element<'a>) -> Option<Vec<X509Extension<'a>>> {
    if list.tag() != SEQUENCE {
        return None;
    }
    let mut fields = list.fields()?;
    let mut found = Vec::new();
    while !fields.at_end() {
        let (rest, extension) = X509Extension::from_der(fields.next()?.raw).ok()?;
        if !rest.is_empty() {
            return None;
        }
        found.push(extension);
    }
    Some(found)
}

/// Writes a moment as RFC 5280 section 4.1.2.5 wants it: UTCTime through 2049, GeneralizedTime after.
pub(crate) fn write_time(writer: DERWriter<'_>, at: Timestamp) {
    let civil = at.to_zoned(TimeZone::UTC);
    if (1950..2050).contains(&civil.year()) {
        let text = civil.strftime("%y%m%d%H%M%SZ").to_string();
        let value = TaggedDerValue::from_tag_and_bytes(TAG_UTCTIME, text.into_bytes());
        writer.write_tagged_der(&value);
    } else {
        write_generalized_time(writer, at);
    }
}

/// Writes a moment as GeneralizedTime, which is all that OCSP knows (RFC 6960 section 4.2.2.1).
pub(crate) fn write_generalized_time(writer: DERWriter<'_>, at: Timestamp) {
    let text = at.to_zoned(TimeZone::UTC).strftime("%Y%m%d%H%M%SZ").to_string();
    let value = TaggedDerValue::from_tag_and_bytes(TAG_GENERALIZEDTIME, text.into_bytes());
    writer.write_tagged_der(&value);
}

/// Writes one extension with the content that `write` makes.
pub(crate) fn write_extension(
    writer: &mut DERWriterSeq<'_>,
    oid: &[u64],
    critical: bool,
    write: impl FnOnce(DERWriter<'_>),
) {
    writer.next().write_sequence(|extension| {
        extension.next().write_oid(&ObjectIdentifier::from_slice(oid));
        if critical {
            extension.next().write_bool(true);
        }
        extension.next().write_bytes(&yasna::construct_der(write));
    });
}

/// Writes NULL.
pub(crate) fn write_null(writer: DERWriter<'_>) {
    writer.write_null();
}

/// Writes the authorityKeyIdentifier extension, with the key identifier only.
pub(crate) fn write_key_id(writer: &mut DERWriterSeq<'_>, key_id: &[u8]) {
    write_extension(writer, &[2, 5, 29, 35], false, |writer| {
        writer.write_sequence(|identifier| {
            let identifier = identifier.next();
            identifier.write_tagged_implicit(Tag::context(0), |id| id.write_bytes(key_id));
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_change_their_form_in_2050() {
        for (text, tag) in
            [("2049-12-31T23:59:59Z", UTC_TIME), ("2050-01-01T00:00:00Z", GENERALIZED_TIME)]
        {
            let at: Timestamp = text.parse().unwrap();
            let der = yasna::construct_der(|writer| write_time(writer, at));
            assert_eq!(der[0], tag, "{text}");
            assert_eq!(Fields::only(&der).unwrap().time(), Some(at));
        }
    }

    proptest! {
        #[test]
        fn times_round_trip(seconds in 0_i64..253_402_207_200) {
            let at = Timestamp::from_second(seconds).unwrap();
            for write in [write_time, write_generalized_time] {
                let der = yasna::construct_der(|writer| write(writer, at));
                prop_assert_eq!(Fields::only(&der).unwrap().time(), Some(at));
            }
        }

        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut fields = Fields::new(&bytes).unwrap();
            while let Some(element) = fields.next() {
                let _ = (element.time(), element.small(), extensions(&element).map(|all| all.len()));
            }
        }
    }
}
