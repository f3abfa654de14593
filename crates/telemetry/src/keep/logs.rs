//! Lines of log: by who said them, by the trace they belong to, by what they say.

use handfast_proto::otlp::collector::logs::v1::ExportLogsServiceRequest;
use handfast_proto::skywalking::v3::{LogData, log_data_body::Content};
use jiff::Timestamp;
use prost::Message;

use super::KeepError;
use super::facts::{self, otlp};
use super::reader::{KeepReader, Records};
use super::scan::{Wanted, time};
use crate::{Record, RecordKind};

/// Which lines are wanted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LogQuery {
    /// Of this endpoint.
    pub endpoint: Option<String>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Of this instance.
    pub instance: Option<String>,
    /// How many; 0 is 100.
    pub limit: usize,
    /// Of this service.
    pub service: Option<String>,
    /// With each of these tags.
    pub tags: Vec<(String, String)>,
    /// With this in what they say.
    pub text: Option<String>,
    /// Not after.
    pub to: Option<Timestamp>,
    /// Of this trace.
    pub trace_id: Option<String>,
}

/// A line of log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeptLog {
    /// In which endpoint it was said, if that is known.
    pub endpoint: String,
    /// By which instance.
    pub instance: String,
    /// By which service.
    pub service: String,
    /// Its tags, such as `level`.
    pub tags: Vec<(String, String)>,
    /// What it says.
    pub text: String,
    /// When.
    pub time: Timestamp,
    /// In which trace, if in one.
    pub trace_id: String,
}

impl KeepReader {
    /// The lines that are wanted, the newest first.
    pub fn logs(&self, query: &LogQuery) -> Result<Vec<KeptLog>, KeepError> {
        let limit = if query.limit == 0 { USUAL } else { query.limit.min(MOST) };
        let wanted = Wanted {
            kinds: &[RecordKind::Log, RecordKind::OtlpLogs],
            service: query.service.as_deref(),
            instance: query.instance.as_deref(),
            subject: query.endpoint.as_deref(),
            trace: query.trace_id.as_ref().map(|id| facts::trace(id.as_bytes())),
            from: query.from,
            to: query.to,
            tags: query.tags.iter().map(|(key, value)| facts::tag(key, value)).collect(),
            ..Wanted::default()
        };
        let mut records = Records::default();
        let mut logs: Vec<KeptLog> = Vec::new();
        let mut lines = Vec::new();
        for part in self.parts.newest_first() {
            let enough = logs.len() >= limit;
            if enough && logs.last().is_some_and(|it| time(part.times().last_end) < it.time) {
                continue;
            }
            let mut rows = Vec::new();
            wanted.each(&self.parts, &part, |_, row| rows.push((row.start, row.end(), row.at)))?;
            // Newest first; of one message of OpenTelemetry several rows may be wanted.
            rows.sort_by_key(|(_, end, at)| std::cmp::Reverse((*end, *at)));
            rows.dedup_by_key(|(_, _, at)| *at);
            let mut of_part = 0;
            for (_, end, at) in rows {
                if of_part >= limit
                    && logs.iter().map(|it| it.time).min().is_some_and(|oldest| time(end) < oldest)
                {
                    break;
                }
                let Some(record) = records.record(&part, at)? else { continue };
                lines.clear();
                read(&record, &mut lines);
                lines.retain(|line| query.takes(line));
                of_part += lines.len();
                logs.append(&mut lines);
            }
            logs.sort_by_key(|it| std::cmp::Reverse(it.time));
            logs.truncate(limit);
        }
        Ok(logs)
    }
}

impl LogQuery {
    fn takes(&self, line: &KeptLog) -> bool {
        fn is(wanted: Option<&String>, name: &str) -> bool {
            wanted.is_none_or(|wanted| wanted == name)
        }
        is(self.service.as_ref(), &line.service)
            && is(self.instance.as_ref(), &line.instance)
            && is(self.endpoint.as_ref(), &line.endpoint)
            && is(self.trace_id.as_ref(), &line.trace_id)
            && self.from.is_none_or(|from| line.time >= from)
            && self.to.is_none_or(|to| line.time <= to)
            && self.text.as_ref().is_none_or(|text| line.text.contains(text))
            && self.tags.iter().all(|tag| line.tags.contains(tag))
    }
}

/// The lines in a record.
fn read(record: &Record, into: &mut Vec<KeptLog>) {
    if record.kind == RecordKind::OtlpLogs {
        read_otlp(record, into);
        return;
    }
    let Ok(log) = LogData::decode(record.body.as_ref()) else { return };
    let text = match log.body.and_then(|body| body.content) {
        Some(Content::Text(text)) => text.text,
        Some(Content::Json(text)) => text.json,
        Some(Content::Yaml(text)) => text.yaml,
        None => String::new(),
    };
    let tags = log.tags.into_iter().flat_map(|tags| tags.data);
    into.push(KeptLog {
        endpoint: log.endpoint,
        instance: log.service_instance,
        service: log.service,
        tags: tags.map(|tag| (tag.key, tag.value)).collect(),
        text,
        time: if log.timestamp > 0 { time(log.timestamp) } else { record.received },
        trace_id: log.trace_context.unwrap_or_default().trace_id,
    });
}

fn read_otlp(record: &Record, into: &mut Vec<KeptLog>) {
    let Ok(request) = ExportLogsServiceRequest::decode(record.body.as_ref()) else { return };
    for resource in request.resource_logs {
        let (service, instance) = otlp::who(resource.resource.as_ref());
        for line in resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
            let mut tags = Vec::new();
            if !line.severity_text.is_empty() {
                tags.push(("level".to_owned(), line.severity_text));
            }
            for attribute in &line.attributes {
                if let Some(value) = attribute.value.as_ref().and_then(|it| it.value.as_ref()) {
                    tags.push((attribute.key.clone(), otlp::text(value).into_owned()));
                }
            }
            let said = line.body.as_ref().and_then(|body| body.value.as_ref());
            let at = [line.time_unix_nano, line.observed_time_unix_nano];
            let at = at.into_iter().find(|at| *at > 0);
            into.push(KeptLog {
                endpoint: String::new(),
                instance: instance.clone(),
                service: service.clone(),
                tags,
                text: said.map(|said| otlp::text(said).into_owned()).unwrap_or_default(),
                time: at.map_or(record.received, |at| time(otlp::milliseconds(at))),
                trace_id: otlp::hex(&line.trace_id),
            });
        }
    }
}

/// Lines in a list if nobody says how many, and at most.
const USUAL: usize = 100;
const MOST: usize = 10_000;
