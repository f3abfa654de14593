//! From a batch of records to calls: what goes over one method in one stream. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Dialect;
use crate::protocol::claim::claims;
use crate::protocol::collection::collect;
use crate::protocol::method::{Handling, Method, Shape};
use crate::protocol::otlp_export::{Unexportable, export};
use crate::record::{Record, RecordKind};

/// Records that are sent in one call: of one kind, and of one service, so that a refusal concerns nobody
/// else.
#[derive(Clone, Debug)]
pub(super) struct Shipment {
    pub(super) method: &'static Method,
    pub(super) service: String,
    parcels: Vec<Parcel>,
    bytes: usize,
}

/// A record, and what is sent for it.
#[derive(Clone, Debug)]
struct Parcel {
    record: Record,
    body: Bytes,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub(super) shipments: Vec<Shipment>,
    /// Records that the dialect has no words for, by kind.
    pub(super) without_words: BTreeMap<RecordKind, u64>,
    /// Records that could not be told in it.
    pub(super) untold: Vec<(Record, Unexportable)>,
}

impl Shipment {
    fn new(method: &'static Method, service: String) -> Self {
        Self { method, service, parcels: Vec::new(), bytes: 0 }
    }

    fn add(&mut self, parcel: Parcel) {
        self.bytes += parcel.body.len();
        self.parcels.push(parcel);
    }

    /// The messages, in order.
    pub(super) fn messages(&self) -> Vec<Bytes> {
        let bodies = self.parcels.iter().map(|parcel| &parcel.body);
        match self.method.handling {
            Handling::Collection(_) => vec![collect(bodies)],
            _ => bodies.cloned().collect(),
        }
    }

    /// How many records there are.
    pub(super) fn count(&self) -> usize {
        self.parcels.len()
    }

    /// Bytes of what is sent.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The records as they came.
    pub(super) fn into_records(self) -> Vec<Record> {
        self.parcels.into_iter().map(|parcel| parcel.record).collect()
    }

    /// Two halves, if there is something to halve.
    pub(super) fn halves(mut self) -> Result<(Self, Self), Self> {
        if self.parcels.len() < 2 {
            return Err(self);
        }
        let mut second = Self::new(self.method, self.service.clone());
        for parcel in self.parcels.split_off(self.parcels.len() / 2) {
            self.bytes -= parcel.body.len();
            second.add(parcel);
        }
        Ok((self, second))
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        // Each message of a stream has the limit for itself; a collection is one message.
        !matches!(self.method.handling, Handling::Collection(_)) || self.bytes + bytes <= COLLECTION
    }
}

/// Sorts a batch into shipments; within one, records keep their order. A method that takes one message
/// gets a shipment for each.
pub(super) fn sort(records: impl IntoIterator<Item = Record>, dialect: Dialect) -> Sorted {
    let mut sorted = Sorted::default();
    let Sorted { shipments, without_words, untold } = &mut sorted;
    for record in records {
        let (kind, body) = match dialect {
            Dialect::SkyWalking => (record.kind, record.body.clone()),
            Dialect::Otlp => match export(&record) {
                Ok(Some(exported)) => (exported.kind, exported.body),
                Ok(None) => {
                    *without_words.entry(record.kind).or_default() += 1;
                    continue;
                }
                Err(why) => {
                    untold.push((record, why));
                    continue;
                }
            },
        };
        let method = Method::reporting(kind);
        let together =
            method.shape != Shape::Unary || matches!(method.handling, Handling::Collection(_));
        let service = service(&record);
        let fits = |shipment: &&mut Shipment| {
            std::ptr::eq(shipment.method, method)
                && shipment.service == service
                && shipment.has_room_for(body.len())
        };
        let known = shipments.iter_mut().rev().take(OPEN).filter(|_| together).find(fits);
        let parcel = Parcel { record, body };
        if let Some(shipment) = known {
            shipment.add(parcel);
        } else {
            let mut shipment = Shipment::new(method, service);
            shipment.add(parcel);
            shipments.push(shipment);
        }
    }
    sorted
}

/// The first service that a record names. What cannot be read was refused when it came.
pub(super) fn service(record: &Record) -> String {
    let claims = claims(record.kind, &record.body).unwrap_or_default();
    claims.iter().next().map(|claim| claim.service.to_string()).unwrap_or_default()
}

/// Shipments that are looked at for one to add to.
const OPEN: usize = 32;

/// Bytes of the parts of a collection: less than the 4 MiB that servers of gRPC take in one message
/// unless they are told otherwise.
const COLLECTION: usize = 3 << 20;

#[cfg(test)]
mod tests {
    use handfast_proto::skywalking::v3::{InstancePingPkg, SegmentObject, SpanObject};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::protocol::collection::Parts;

    fn record(kind: RecordKind, body: Vec<u8>) -> Record {
        let received = "2026-11-25T12:00:00Z".parse().unwrap();
        Record { body: body.into(), kind, received, reporter: Bytes::new() }
    }

    fn segment(service: &str, id: &str, padding: usize) -> Record {
        let segment = SegmentObject {
            trace_segment_id: id.to_owned(),
            service: service.to_owned(),
            spans: vec![SpanObject {
                operation_name: "x".repeat(padding),
                ..SpanObject::default()
            }],
            ..SegmentObject::default()
        };
        record(RecordKind::Segment, segment.encode_to_vec())
    }

    fn ping(service: &str) -> Record {
        let ping = InstancePingPkg { service: service.to_owned(), ..InstancePingPkg::default() };
        record(RecordKind::InstancePing, ping.encode_to_vec())
    }

    proptest! {
        #[test]
        fn whatever_is_sorted_and_halved_goes_out_once_and_in_order(
            services in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..50),
            otlp: bool,
        ) {
            let records: Vec<Record> =
                services.iter().enumerate().map(|(n, s)| segment(s, &n.to_string(), 1)).collect();
            let dialect = if otlp { Dialect::Otlp } else { Dialect::SkyWalking };
            let sorted = sort(records.clone(), dialect);
            prop_assert!(sorted.untold.is_empty() && sorted.without_words.is_empty());
            let mut sent = Vec::new();
            for shipment in sorted.shipments {
                let service = shipment.service.clone();
                let whole = shipment.count();
                let halves = match shipment.halves() {
                    Ok((first, second)) => vec![first, second],
                    Err(single) => vec![single],
                };
                prop_assert_eq!(halves.iter().map(Shipment::count).sum::<usize>(), whole);
                for half in halves {
                    let bodies: usize = half.parcels.iter().map(|parcel| parcel.body.len()).sum();
                    prop_assert_eq!(half.bytes(), bodies);
                    let messages = half.messages();
                    if otlp {
                        prop_assert_eq!(messages.len(), 1);
                        let parts = Parts::of("ExportTraceServiceRequest", messages[0].clone());
                        prop_assert_eq!(parts.count(), half.count());
                    } else {
                        prop_assert_eq!(messages.len(), half.count());
                    }
                    sent.extend(half.into_records().into_iter().map(|r| (service.clone(), r)));
                }
            }
            for service in ["a", "b", "c"] {
                let of = sent.iter().filter(|(s, _)| s == service).map(|(_, r)| r.clone());
                let expected = records.iter().zip(&services).filter(|(_, s)| **s == service);
                prop_assert_eq!(of.collect::<Vec<_>>(), expected.map(|(r, _)| r.clone()).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_method_of_one_message_gets_a_call_for_each() {
        let sorted = sort([ping("a"), ping("a"), segment("a", "1", 1)], Dialect::SkyWalking);
        let counts: Vec<usize> = sorted.shipments.iter().map(Shipment::count).collect();
        assert_eq!(counts, [1, 1, 1]);
    }

    #[test]
    fn what_has_no_words_is_counted_and_what_cannot_be_told_is_named() {
        let broken = record(RecordKind::Segment, b"\x1a\x02\x0f\x0f".to_vec());
        let sorted = sort([ping("a"), broken.clone(), segment("a", "1", 1)], Dialect::Otlp);
        assert_eq!(sorted.shipments.len(), 1);
        assert_eq!(sorted.without_words, BTreeMap::from([(RecordKind::InstancePing, 1)]));
        assert_eq!(sorted.untold.len(), 1);
        assert_eq!(sorted.untold[0].0, broken);
    }

    #[test]
    fn a_request_stays_below_what_servers_take() {
        let records = (0..9).map(|n| segment("a", &n.to_string(), 1 << 20));
        let sorted = sort(records, Dialect::Otlp);
        assert!(sorted.shipments.iter().all(|shipment| shipment.messages()[0].len() < 4 << 20));
        assert_eq!(sorted.shipments.iter().map(Shipment::count).sum::<usize>(), 9);
    }
}
