//! What strangers and token files say about redemptions: URLs, request bodies, answers.
#![no_main]

use handfast_api::grants::{GrantUrl, HintReply, Problem, RedemptionBody, RedemptionReply};
use handfast_pki::{Csr, Name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(url) = text.parse::<GrantUrl>()
    {
        assert_eq!(url.to_string().parse(), Ok(url));
    }
    if let Ok(body) = serde_json::from_slice::<RedemptionBody>(bytes) {
        assert!(!format!("{body:?}").contains("code: \""), "the code is never printed");
        for name in body.site.iter().chain(&body.agent) {
            let _ = name.parse::<Name>();
        }
        let _ = Csr::from_pem(body.csr.as_bytes());
    }
    let _ = serde_json::from_slice::<RedemptionReply>(bytes);
    let _ = serde_json::from_slice::<Problem>(bytes);
    if let Ok(reply) = serde_json::from_slice::<HintReply>(bytes)
        && let Ok(reply) = reply.checked()
    {
        assert!(reply.suggested_window.start <= reply.suggested_window.end);
        let _ = reply.why.to_string();
    }
});
