//! The headers in which SkyWalking's agents hand a trace on to whom they call.
//!
//! Whoever can send them chooses which trace, service and endpoint a request seems to come from;
//! SkyWalking's security notice wants them taken off where requests come in from outside. [`strip`]
//! does; [`Context`] is for saying what was taken off.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

/// The names of the headers.
pub const HEADERS: [&str; 3] = ["sw8", "sw8-correlation", "sw8-x"];

/// Takes the headers off a request. True where there were any.
pub fn strip(headers: &mut HeaderMap) -> bool {
    HEADERS.map(|name| headers.remove(name).is_some()).contains(&true)
}

/// What an `sw8` header says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Context {
    /// Whether the trace is to be recorded.
    pub sampled: bool,
    /// The trace.
    pub trace_id: String,
    /// The caller's segment.
    pub segment_id: String,
    /// The caller's span in it.
    pub span_id: i32,
    /// The caller's service.
    pub service: String,
    /// The caller's instance.
    pub instance: String,
    /// What the caller was itself asked.
    pub endpoint: String,
    /// The address that the caller dialled.
    pub target: String,
}

/// Why an `sw8` header says nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BadContext {
    /// A part that should be base64 of UTF-8.
    #[error("its {0} is not text in base64")]
    Base64(&'static str),
    /// Something else than eight parts.
    #[error("it has {0} parts where there are eight")]
    Parts(usize),
    /// Neither 0 nor 1.
    #[error("it begins with neither 0 nor 1")]
    Sample,
    /// No number.
    #[error("its span is no number")]
    Span,
    /// Longer than any.
    #[error("it is longer than {MAX_CONTEXT} bytes")]
    TooLong,
}

/// Bytes of an `sw8` header. The protocol's own are below 2 KB.
pub const MAX_CONTEXT: usize = 8192;

impl FromStr for Context {
    type Err = BadContext;

    fn from_str(header: &str) -> Result<Self, BadContext> {
        if header.len() > MAX_CONTEXT {
            return Err(BadContext::TooLong);
        }
        let parts: Vec<&str> = header.split('-').collect();
        let [sample, trace, segment, span, service, instance, endpoint, target] = parts.as_slice()
        else {
            return Err(BadContext::Parts(parts.len()));
        };
        Ok(Self {
            sampled: match *sample {
                "0" => false,
                "1" => true,
                _ => return Err(BadContext::Sample),
            },
            trace_id: text("trace", trace)?,
            segment_id: text("segment", segment)?,
            span_id: span.parse().map_err(|_| BadContext::Span)?,
            service: text("service", service)?,
            instance: text("instance", instance)?,
            endpoint: text("endpoint", endpoint)?,
            target: text("target", target)?,
        })
    }
}

fn text(part: &'static str, encoded: &str) -> Result<String, BadContext> {
    let bytes = STANDARD.decode(encoded).map_err(|_| BadContext::Base64(part))?;
    String::from_utf8(bytes).map_err(|_| BadContext::Base64(part))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_context_is_told_why() {
        let told = |header: &str| header.parse::<Context>().unwrap_err().to_string();
        assert_eq!(told(""), "it has 1 parts where there are eight");
        assert_eq!(told("2-YQ==-YQ==-0-YQ==-YQ==-YQ==-YQ=="), "it begins with neither 0 nor 1");
        assert_eq!(told("1-YQ==-YQ==-x-YQ==-YQ==-YQ==-YQ=="), "its span is no number");
        assert_eq!(told("1-YQ==-YQ==-0-!-YQ==-YQ==-YQ=="), "its service is not text in base64");
        assert_eq!(told(&"-".repeat(MAX_CONTEXT + 1)), "it is longer than 8192 bytes");
    }

    #[test]
    fn only_these_headers_are_taken_off() {
        let mut headers = HeaderMap::new();
        for name in ["sw8", "sw8-x", "sw8-correlation", "sw9", "content-type"] {
            headers.append(name, HeaderValue::from_static("1"));
        }
        headers.append("sw8", HeaderValue::from_static("2"));
        assert!(strip(&mut headers));
        let mut left: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-type", "sw9"]);
        assert!(!strip(&mut headers));
    }

    proptest! {
        #[test]
        fn a_context_is_what_was_sent(sampled: bool, span_id in 0..i32::MAX, words: [String; 6]) {
            let [trace, segment, service, instance, endpoint, target] = words.each_ref().map(|word| STANDARD.encode(word));
            let header = format!("{}-{trace}-{segment}-{span_id}-{service}-{instance}-{endpoint}-{target}", u8::from(sampled));
            prop_assume!(header.len() <= MAX_CONTEXT);
            let [trace_id, segment_id, service, instance, endpoint, target] = words;
            let wanted = Context { sampled, trace_id, segment_id, span_id, service, instance, endpoint, target };
            prop_assert_eq!(header.parse::<Context>().unwrap(), wanted);
        }

        #[test]
        fn arbitrary_text_is_no_panic(header: String) {
            let _ = header.parse::<Context>();
        }
    }
}
