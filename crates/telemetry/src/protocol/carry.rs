//! What later elements of a stream leave out because the first one said it.
//!
//! An agent may send its service only with the first meter or log of a stream. Each element becomes a
//! record of its own, so what is missing is appended to it: protobuf allows that, and the rest of
//! the message stays as it came.

use bytes::Bytes;

use super::claim::name;
use super::wire::{Fields, Malformed, put_bytes, put_uint64};
use crate::RecordKind;

/// What one stream has said so far.
#[derive(Clone, Debug, Default)]
pub struct Carry {
    service: String,
    instance: String,
    timestamp: i64,
}

impl Carry {
    /// The element as it would be if it said everything itself. Kinds of which each says everything come
    /// back as they are.
    pub fn complete(&mut self, kind: RecordKind, element: Bytes) -> Result<Bytes, Malformed> {
        let (message, service, instance, timestamp) = match kind {
            RecordKind::Meter => ("MeterData", 3, 4, Some(5)),
            // A log without a time is of the time when it was received, says the protocol.
            RecordKind::Log => ("LogData", 2, 3, None),
            _ => return Ok(element),
        };
        let (mut said_service, mut said_instance, mut said_time) = ("", "", 0);
        for field in Fields::of(message, &element) {
            let field = field?;
            if field.number == service {
                said_service = name(&field, "service")?;
            } else if field.number == instance {
                said_instance = name(&field, "serviceInstance")?;
            } else if Some(field.number) == timestamp {
                said_time = field.int64("timestamp")?;
            }
        }
        self.remember(said_service, said_instance, said_time);
        let mut missing = Vec::new();
        if said_service.is_empty() && !self.service.is_empty() {
            put_bytes(&mut missing, service, self.service.as_bytes());
        }
        if said_instance.is_empty() && !self.instance.is_empty() {
            put_bytes(&mut missing, instance, self.instance.as_bytes());
        }
        if let Some(number) = timestamp
            && said_time == 0
            && self.timestamp != 0
        {
            put_uint64(&mut missing, number, self.timestamp.cast_unsigned());
        }
        if missing.is_empty() {
            return Ok(element);
        }
        Ok([&element, missing.as_slice()].concat().into())
    }

    /// What is said once is meant until something else is said.
    fn remember(&mut self, service: &str, instance: &str, timestamp: i64) {
        if !service.is_empty() && service != self.service {
            service.clone_into(&mut self.service);
            // The instance of one service is none of another's.
            self.instance.clear();
        }
        if !instance.is_empty() && instance != self.instance {
            instance.clone_into(&mut self.instance);
        }
        if timestamp != 0 {
            self.timestamp = timestamp;
        }
    }
}

#[cfg(test)]
mod tests {
    use handfast_proto::skywalking::v3::{LogData, MeterData};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn meter(service: &str, instance: &str, timestamp: i64) -> Bytes {
        let (service, service_instance) = (service.to_owned(), instance.to_owned());
        MeterData { metric: None, service, service_instance, timestamp }.encode_to_vec().into()
    }

    fn completed(carry: &mut Carry, element: Bytes) -> (String, String, i64) {
        let element = carry.complete(RecordKind::Meter, element).unwrap();
        let meter = MeterData::decode(element).unwrap();
        (meter.service, meter.service_instance, meter.timestamp)
    }

    #[test]
    fn what_the_first_said_is_meant_by_all() {
        let mut carry = Carry::default();
        let first = meter("shop", "shop-1", 7);
        // What is whole comes back as it was.
        assert_eq!(carry.complete(RecordKind::Meter, first.clone()).unwrap(), first);
        let shop = ("shop".to_owned(), "shop-1".to_owned(), 7);
        assert_eq!(completed(&mut carry, Bytes::new()), shop);
        assert_eq!(completed(&mut carry, meter("shop", "", 0)), shop);
        assert_eq!(completed(&mut carry, meter("", "", 8)), ("shop".into(), "shop-1".into(), 8));
        // Another service does not get the first one's instance.
        assert_eq!(completed(&mut carry, meter("cart", "", 0)), ("cart".into(), String::new(), 8));
    }

    #[test]
    fn nothing_is_made_up() {
        let mut carry = Carry::default();
        assert_eq!(completed(&mut carry, Bytes::new()), (String::new(), String::new(), 0));
        let log = LogData { service: "shop".into(), ..LogData::default() }.encode_to_vec();
        let mut carry = Carry::default();
        carry.complete(RecordKind::Log, log.into()).unwrap();
        let next = carry.complete(RecordKind::Log, Bytes::new()).unwrap();
        assert_eq!(LogData::decode(next).unwrap().service, "shop");
        let ping = Bytes::from_static(b"not looked at");
        assert_eq!(carry.complete(RecordKind::InstancePing, ping.clone()), Ok(ping));
    }

    proptest! {
        #[test]
        fn what_came_stays_in_front(service in "[a-z]{0,9}", instance in "[a-z]{0,9}", bytes: Vec<u8>) {
            let mut carry = Carry::default();
            carry.complete(RecordKind::Meter, meter(&service, &instance, 5)).unwrap();
            if let Ok(whole) = carry.complete(RecordKind::Meter, bytes.clone().into()) {
                prop_assert!(whole.starts_with(&bytes));
            }
        }
    }
}
