//! Bodies of the admin API, in both directions.
#![no_main]

use handfast_api::admin::{IssueToken, RedeemToken, Refusal, Renew};
use handfast_api::status::{CredentialStatus, Faults, NodeStatus};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = serde_json::from_slice::<IssueToken>(bytes) {
        let written = serde_json::to_vec(&request).expect("what was read can be written");
        assert_eq!(
            serde_json::from_slice::<IssueToken>(&written).expect("and read again"),
            request
        );
    }
    let _ = serde_json::from_slice::<RedeemToken>(bytes);
    let _ = serde_json::from_slice::<Renew>(bytes);
    let _ = serde_json::from_slice::<Refusal>(bytes);
    let _ = serde_json::from_slice::<Vec<CredentialStatus>>(bytes);
    let _ = serde_json::from_slice::<Faults>(bytes);
    let _ = serde_json::from_slice::<NodeStatus>(bytes);
});
