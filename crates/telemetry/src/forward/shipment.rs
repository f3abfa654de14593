//! From a batch of records to calls: what goes over one method in one stream. Pure.

use bytes::Bytes;

use crate::grpc::{Code, Status};
use crate::protocol::claim::claims;
use crate::protocol::collection::collect;
use crate::protocol::method::{Handling, Method, Shape};
use crate::record::Record;

/// Records that are sent in one call: of one kind, and of one service, so that a refusal concerns nobody
/// else.
#[derive(Clone, Debug)]
pub(super) struct Shipment {
    pub(super) method: &'static Method,
    pub(super) service: String,
    pub(super) records: Vec<Record>,
}

impl Shipment {
    /// The messages, in order.
    pub(super) fn messages(&self) -> Vec<Bytes> {
        let bodies = self.records.iter().map(|record| &record.body);
        match self.method.handling {
            Handling::Collection(_) => vec![collect(bodies)],
            _ => bodies.cloned().collect(),
        }
    }

    /// Two halves, if there is something to halve.
    pub(super) fn halves(mut self) -> Result<(Self, Self), Self> {
        if self.records.len() < 2 {
            return Err(self);
        }
        let records = self.records.split_off(self.records.len() / 2);
        let second = Self { method: self.method, service: self.service.clone(), records };
        Ok((self, second))
    }
}

/// Sorts a batch into shipments; within one, records keep their order. A method that takes one message
/// gets a shipment for each.
pub(super) fn sort(records: impl IntoIterator<Item = Record>) -> Vec<Shipment> {
    let mut shipments: Vec<Shipment> = Vec::new();
    for record in records {
        let method = Method::reporting(record.kind);
        let together =
            method.shape != Shape::Unary || matches!(method.handling, Handling::Collection(_));
        let service = service(&record);
        let known = shipments
            .iter_mut()
            .rev()
            .take(OPEN)
            .find(|s| together && std::ptr::eq(s.method, method) && s.service == service);
        match known {
            Some(shipment) => shipment.records.push(record),
            None => shipments.push(Shipment { method, service, records: vec![record] }),
        }
    }
    shipments
}

/// The first service that a record names. What cannot be read was refused when it came.
fn service(record: &Record) -> String {
    let claims = claims(record.kind, &record.body).unwrap_or_default();
    claims.iter().next().map(|claim| claim.service.to_string()).unwrap_or_default()
}

/// What is to be done after a call has failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// The same again, after a pause: the backend is away, or has too much to do.
    Again,
    /// Somewhere in it is what the backend stumbles over: it is looked for by halving.
    Halve,
    /// It will never be taken: set aside.
    Never,
}

/// Judges a failure that has happened `times` times with the same shipment.
pub(super) fn verdict(status: &Status, times: u32) -> Verdict {
    match status.code {
        // A wrong token is mended at one of the two ends, and what waits is then wanted; a service that is
        // not ours to speak for never will be.
        Code::PermissionDenied if status.message.contains("wrong-identity") => Verdict::Never,
        Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange | Code::DataLoss => {
            Verdict::Halve
        }
        Code::Internal | Code::Unknown | Code::ResourceExhausted if times >= STUMBLES => {
            Verdict::Halve
        }
        _ => Verdict::Again,
    }
}

/// Shipments that are looked at for one to add to.
const OPEN: usize = 32;

/// So often the backend may stumble before it is looked for over what.
const STUMBLES: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
        let status = |code| Status::new(code, "");
        for code in
            [Code::Unavailable, Code::DeadlineExceeded, Code::PermissionDenied, Code::Cancelled]
        {
            assert_eq!(verdict(&status(code), 100), Verdict::Again, "{code}");
        }
        let refused = Status::new(Code::PermissionDenied, "wrong-identity: agent shop as bank");
        assert_eq!(verdict(&refused, 1), Verdict::Never);
        assert_eq!(verdict(&status(Code::Internal), 1), Verdict::Again);
        assert_eq!(verdict(&status(Code::Internal), STUMBLES), Verdict::Halve);
        assert_eq!(verdict(&status(Code::InvalidArgument), 1), Verdict::Halve);
    }
}
