//! Messages of SkyWalking.

use handfast_proto::skywalking::v3::{ErrorCategory, RefType, SpanLayer, SpanType, Type};

use super::{Kind, Message, many, one};

static SEGMENT_REFERENCE: Message = Message {
    name: "SegmentReference",
    fields: &[
        one("refType", 1, Kind::Enum(|name| Some(RefType::from_str_name(name)?.into()))),
        one("traceId", 2, Kind::Text),
        one("parentTraceSegmentId", 3, Kind::Text),
        one("parentSpanId", 4, Kind::Int32),
        one("parentService", 5, Kind::Text),
        one("parentServiceInstance", 6, Kind::Text),
        one("parentEndpoint", 7, Kind::Text),
        one("networkAddressUsedAtPeer", 8, Kind::Text),
    ],
};

static KEY_STRING_VALUE_PAIR: Message = Message {
    name: "KeyStringValuePair",
    fields: &[one("key", 1, Kind::Text), one("value", 2, Kind::Text)],
};

static LOG: Message = Message {
    name: "Log",
    fields: &[one("time", 1, Kind::Int64), many("data", 2, Kind::Message(&KEY_STRING_VALUE_PAIR))],
};

static SPAN_OBJECT: Message = Message {
    name: "SpanObject",
    fields: &[
        one("spanId", 1, Kind::Int32),
        one("parentSpanId", 2, Kind::Int32),
        one("startTime", 3, Kind::Int64),
        one("endTime", 4, Kind::Int64),
        many("refs", 5, Kind::Message(&SEGMENT_REFERENCE)),
        one("operationName", 6, Kind::Text),
        one("peer", 7, Kind::Text),
        one("spanType", 8, Kind::Enum(|name| Some(SpanType::from_str_name(name)?.into()))),
        one("spanLayer", 9, Kind::Enum(|name| Some(SpanLayer::from_str_name(name)?.into()))),
        one("componentId", 10, Kind::Int32),
        one("isError", 11, Kind::Flag),
        many("tags", 12, Kind::Message(&KEY_STRING_VALUE_PAIR)),
        many("logs", 13, Kind::Message(&LOG)),
        one("skipAnalysis", 14, Kind::Flag),
    ],
};

pub(in crate::protocol::json) static SEGMENT: Message = Message {
    name: "SegmentObject",
    fields: &[
        one("traceId", 1, Kind::Text),
        one("traceSegmentId", 2, Kind::Text),
        many("spans", 3, Kind::Message(&SPAN_OBJECT)),
        one("service", 4, Kind::Text),
        one("serviceInstance", 5, Kind::Text),
        one("isSizeLimited", 6, Kind::Flag),
    ],
};

static TEXT_LOG: Message = Message { name: "TextLog", fields: &[one("text", 1, Kind::Text)] };

static JSON_LOG: Message = Message { name: "JSONLog", fields: &[one("json", 1, Kind::Text)] };

static YAML_LOG: Message = Message { name: "YAMLLog", fields: &[one("yaml", 1, Kind::Text)] };

static LOG_DATA_BODY: Message = Message {
    name: "LogDataBody",
    fields: &[
        one("type", 1, Kind::Text),
        one("text", 2, Kind::Message(&TEXT_LOG)),
        one("json", 3, Kind::Message(&JSON_LOG)),
        one("yaml", 4, Kind::Message(&YAML_LOG)),
    ],
};

static TRACE_CONTEXT: Message = Message {
    name: "TraceContext",
    fields: &[
        one("traceId", 1, Kind::Text),
        one("traceSegmentId", 2, Kind::Text),
        one("spanId", 3, Kind::Int32),
    ],
};

static LOG_TAGS: Message =
    Message { name: "LogTags", fields: &[many("data", 1, Kind::Message(&KEY_STRING_VALUE_PAIR))] };

pub(in crate::protocol::json) static LOG_DATA: Message = Message {
    name: "LogData",
    fields: &[
        one("timestamp", 1, Kind::Int64),
        one("service", 2, Kind::Text),
        one("serviceInstance", 3, Kind::Text),
        one("endpoint", 4, Kind::Text),
        one("body", 5, Kind::Message(&LOG_DATA_BODY)),
        one("traceContext", 6, Kind::Message(&TRACE_CONTEXT)),
        one("tags", 7, Kind::Message(&LOG_TAGS)),
        one("layer", 8, Kind::Text),
    ],
};

static SOURCE: Message = Message {
    name: "Source",
    fields: &[
        one("service", 1, Kind::Text),
        one("serviceInstance", 2, Kind::Text),
        one("endpoint", 3, Kind::Text),
    ],
};

pub(in crate::protocol::json) static EVENT: Message = Message {
    name: "Event",
    fields: &[
        one("uuid", 1, Kind::Text),
        one("source", 2, Kind::Message(&SOURCE)),
        one("name", 3, Kind::Text),
        one("type", 4, Kind::Enum(|name| Some(Type::from_str_name(name)?.into()))),
        one("message", 5, Kind::Text),
        one("parameters", 6, Kind::TextMap),
        one("startTime", 7, Kind::Int64),
        one("endTime", 8, Kind::Int64),
        one("layer", 9, Kind::Text),
    ],
};

pub(in crate::protocol::json) static INSTANCE_PROPERTIES: Message = Message {
    name: "InstanceProperties",
    fields: &[
        one("service", 1, Kind::Text),
        one("serviceInstance", 2, Kind::Text),
        many("properties", 3, Kind::Message(&KEY_STRING_VALUE_PAIR)),
        one("layer", 4, Kind::Text),
    ],
};

pub(in crate::protocol::json) static INSTANCE_PING: Message = Message {
    name: "InstancePingPkg",
    fields: &[
        one("service", 1, Kind::Text),
        one("serviceInstance", 2, Kind::Text),
        one("layer", 3, Kind::Text),
    ],
};

pub(in crate::protocol::json) static BROWSER_PERF: Message = Message {
    name: "BrowserPerfData",
    fields: &[
        one("service", 1, Kind::Text),
        one("serviceVersion", 2, Kind::Text),
        one("time", 3, Kind::Int64),
        one("pagePath", 4, Kind::Text),
        one("redirectTime", 5, Kind::Int32),
        one("dnsTime", 6, Kind::Int32),
        one("ttfbTime", 7, Kind::Int32),
        one("tcpTime", 8, Kind::Int32),
        one("transTime", 9, Kind::Int32),
        one("domAnalysisTime", 10, Kind::Int32),
        one("fptTime", 11, Kind::Int32),
        one("domReadyTime", 12, Kind::Int32),
        one("loadPageTime", 13, Kind::Int32),
        one("resTime", 14, Kind::Int32),
        one("sslTime", 15, Kind::Int32),
        one("ttlTime", 16, Kind::Int32),
        one("firstPackTime", 17, Kind::Int32),
        one("fmpTime", 18, Kind::Int32),
    ],
};

pub(in crate::protocol::json) static BROWSER_WEB_VITALS: Message = Message {
    name: "BrowserWebVitalsPerfData",
    fields: &[
        one("service", 1, Kind::Text),
        one("serviceVersion", 2, Kind::Text),
        one("time", 3, Kind::Int64),
        one("pagePath", 4, Kind::Text),
        one("fmpTime", 5, Kind::Int32),
        one("cls", 6, Kind::Double),
        one("lcpTime", 7, Kind::Int32),
    ],
};

pub(in crate::protocol::json) static BROWSER_RESOURCE: Message = Message {
    name: "BrowserResourcePerfData",
    fields: &[
        one("service", 1, Kind::Text),
        one("serviceVersion", 2, Kind::Text),
        one("time", 3, Kind::Int64),
        one("pagePath", 4, Kind::Text),
        one("name", 5, Kind::Text),
        one("duration", 6, Kind::Int32),
        one("size", 7, Kind::Int32),
        one("resourceType", 8, Kind::Text),
        one("protocol", 9, Kind::Text),
    ],
};

pub(in crate::protocol::json) static BROWSER_WEB_INTERACTION: Message = Message {
    name: "BrowserWebInteractionsPerfData",
    fields: &[
        one("service", 1, Kind::Text),
        one("serviceVersion", 2, Kind::Text),
        one("time", 3, Kind::Int64),
        one("pagePath", 4, Kind::Text),
        one("inpTime", 5, Kind::Int32),
    ],
};

pub(in crate::protocol::json) static BROWSER_ERROR: Message = Message {
    name: "BrowserErrorLog",
    fields: &[
        one("uniqueId", 1, Kind::Text),
        one("service", 2, Kind::Text),
        one("serviceVersion", 3, Kind::Text),
        one("time", 4, Kind::Int64),
        one("pagePath", 5, Kind::Text),
        one("category", 6, Kind::Enum(|name| Some(ErrorCategory::from_str_name(name)?.into()))),
        one("grade", 7, Kind::Text),
        one("message", 8, Kind::Text),
        one("line", 9, Kind::Int32),
        one("col", 10, Kind::Int32),
        one("stack", 11, Kind::Text),
        one("errorUrl", 12, Kind::Text),
        one("firstReportedError", 13, Kind::Flag),
    ],
};
