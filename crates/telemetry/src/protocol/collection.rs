//! Messages that are nothing but several others: taken apart and put together without being encoded
//! anew, so that each part stays as it came.
//!
//! All of them are alike: the parts are field 1. Segments and meters have their collections;
//! OpenTelemetry's export requests are collections too, of what each resource says.

use bytes::Bytes;

use super::wire::{Fault, Fields, Malformed, put_bytes};

/// The parts of a collection, cut out of its bytes.
#[derive(Clone, Debug)]
pub struct Parts {
    message: &'static str,
    rest: Bytes,
    taken: usize,
}

impl Parts {
    /// Of a message that is a collection; its name is for faults.
    pub fn of(message: &'static str, collection: Bytes) -> Self {
        Self { message, rest: collection, taken: 0 }
    }

    fn read(&mut self) -> Result<Option<Bytes>, Malformed> {
        let mut fields = Fields::of(self.message, &self.rest);
        while let Some(field) = fields.next() {
            let field = field?;
            if field.number != 1 {
                continue;
            }
            let part = field.bytes("(part)")?;
            if self.taken == MAX_PARTS {
                return Err(field.malformed("(part)", Fault::TooMany(MAX_PARTS)));
            }
            self.taken += 1;
            let part = self.rest.slice_ref(part);
            self.rest = self.rest.slice_ref(fields.rest());
            return Ok(Some(part));
        }
        self.rest.clear();
        Ok(None)
    }
}

impl Iterator for Parts {
    type Item = Result<Bytes, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let part = self.read().transpose();
        if matches!(part, Some(Err(_))) {
            self.rest.clear();
        }
        part
    }
}

/// The collection of these parts.
pub fn collect<'a>(parts: impl IntoIterator<Item = &'a Bytes>) -> Bytes {
    let mut collection = Vec::new();
    for part in parts {
        put_bytes(&mut collection, 1, part);
    }
    collection.into()
}

/// Parts of one collection. A part of no bytes costs its sender two, and us a record.
pub const MAX_PARTS: usize = 16_384;

#[cfg(test)]
mod tests {
    use handfast_proto::skywalking::v3::{SegmentCollection, SegmentObject};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_what_prost_decodes(ids in prop::collection::vec("[a-z0-9]{0,40}", 0..20)) {
            let segments: Vec<_> = ids
                .into_iter()
                .map(|trace_segment_id| SegmentObject { trace_segment_id, ..Default::default() })
                .collect();
            let whole = Bytes::from(SegmentCollection { segments: segments.clone() }.encode_to_vec());
            let parts: Vec<Bytes> =
                Parts::of("SegmentCollection", whole.clone()).collect::<Result<_, _>>().unwrap();
            let decoded: Vec<_> =
                parts.iter().map(|part| SegmentObject::decode(part.clone()).unwrap()).collect();
            prop_assert_eq!(decoded, segments);
            // Cut out, not copied.
            let range = whole.as_ptr_range();
            prop_assert!(parts.iter().all(|part| part.is_empty() || range.contains(&part.as_ptr())));
            prop_assert_eq!(collect(&parts), whole);
        }

        #[test]
        fn arbitrary_bytes_end(bytes: Vec<u8>) {
            let limit = bytes.len();
            prop_assert!(Parts::of("SegmentCollection", bytes.into()).count() <= limit);
        }
    }

    #[test]
    fn there_are_not_too_many() {
        let collection = Bytes::from(b"\x0a\0".repeat(MAX_PARTS + 1));
        let mut parts = Parts::of("SegmentCollection", collection);
        assert_eq!(parts.by_ref().take(MAX_PARTS).flatten().count(), MAX_PARTS);
        let told = parts.next().unwrap().unwrap_err().to_string();
        assert_eq!(told, "SegmentCollection.(part) holds more than 16384");
        assert!(parts.next().is_none());
    }
}
