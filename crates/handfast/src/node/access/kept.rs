//! A call that waits for a second person, as the ledger keeps it.

use handfast_api::access::{Caller, Principal, Target, Via, Waiting};
use handfast_api::admin::Held;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::waiting::Kept;

/// The text in the ledger.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Record {
    action: String,
    targets: Vec<String>,
    path: String,
    body: String,
    requested_by: String,
    /// The certificate that was shown on the admin port; nothing for the admin socket.
    certificate: Option<Shown>,
    requested_at: Timestamp,
    expires_at: Timestamp,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Shown {
    serial: String,
    not_after: Timestamp,
}

/// As it is kept.
pub(super) fn write(waiting: &Waiting<Kept>) -> String {
    let held = &waiting.what.0;
    let record = Record {
        action: held.action.to_string(),
        targets: held.targets.iter().map(ToString::to_string).collect(),
        path: held.path.clone(),
        body: String::from_utf8_lossy(&held.body).into_owned(),
        requested_by: waiting.requested_by.to_string(),
        certificate: match &held.requested_by.via {
            Via::Port { serial, not_after } => {
                Some(Shown { serial: serial.to_string(), not_after: *not_after })
            }
            Via::Socket => None,
        },
        requested_at: waiting.requested_at,
        expires_at: waiting.expires_at,
    };
    serde_json::to_string(&record).expect("strings and times")
}

/// What was kept; `None` for what [`write()`] did not write.
pub(super) fn read(text: &str) -> Option<Waiting<Kept>> {
    let record: Record = serde_json::from_str(text).ok()?;
    let principal: Principal = record.requested_by.parse().ok()?;
    let via = match record.certificate {
        Some(shown) => Via::Port { serial: shown.serial.parse().ok()?, not_after: shown.not_after },
        None => Via::Socket,
    };
    let targets: Option<Vec<Target>> =
        record.targets.iter().map(|target| target.parse().ok()).collect();
    let held = Held {
        action: record.action.parse().ok()?,
        targets: targets?,
        path: record.path,
        body: record.body.into_bytes().into(),
        requested_by: Caller { principal: principal.clone(), via, approved_by: None },
    };
    Some(Waiting {
        what: Kept(held),
        requested_by: principal,
        requested_at: record.requested_at,
        expires_at: record.expires_at,
    })
}

#[cfg(test)]
mod tests {
    use handfast_api::admin::Action;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let at = Timestamp::from_second(2_000_000_000).expect("a time");
        let by_port = Via::Port { serial: "5a01".parse().expect("a serial"), not_after: at };
        for via in [Via::Socket, by_port] {
            let principal: Principal =
                "spiffe://shop.example/operator/sam".parse().expect("an operator");
            let caller =
                Caller { principal: principal.clone(), via: via.clone(), approved_by: None };
            let waiting = Waiting {
                what: Kept(Held {
                    action: Action::AuthorityRotate,
                    targets: vec![Target::Authority("root".to_owned()), Target::Site],
                    path: "/v1/rotations".to_owned(),
                    body: br#"{"authority":"root"}"#.as_slice().into(),
                    requested_by: caller,
                }),
                requested_by: principal,
                requested_at: at,
                expires_at: at,
            };
            let text = write(&waiting);
            let back = read(&text).expect("read");
            assert!(back.what == waiting.what);
            assert_eq!(back.what.0.requested_by, waiting.what.0.requested_by);
            assert_eq!(back.what.0.targets, waiting.what.0.targets);
            assert_eq!(write(&back), text);
            assert!(read(&text.replace("authority.rotate", "authority.nonsense")).is_none());
            assert!(read(text.trim_end_matches('}')).is_none());
        }
        assert!(read("").is_none());
    }
}
