//! Lines of log: by who said them, by the trace they belong to, by what they say.

use jiff::Timestamp;

use super::facts;
use super::reader::{KeepReader, Records};
use super::scan::Wanted;
use super::{KeepError, MOST_LISTED};
use crate::RecordKind;
use crate::protocol::view::LogView;

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

impl KeepReader {
    /// The lines that are wanted, the newest first. One that says no time is of the time when it was received.
    pub fn logs(&self, query: &LogQuery) -> Result<Vec<LogView>, KeepError> {
        let limit = if query.limit == 0 { USUAL } else { query.limit.min(MOST_LISTED) };
        let wanted = Wanted {
            kinds: &[RecordKind::Log, RecordKind::OtlpLogs],
            service: query.service.as_deref(),
            instance: query.instance.as_deref(),
            subject: query.endpoint.as_deref(),
            trace: query.trace_id.as_ref().map(|id| facts::trace(id)),
            from: query.from,
            to: query.to,
            tags: query.tags.iter().map(|(key, value)| facts::tag(key, value)).collect(),
            ..Wanted::default()
        };
        let mut records = Records::default();
        let mut logs: Vec<LogView> = Vec::new();
        let mut lines = Vec::new();
        for part in self.parts.newest_first() {
            let enough = logs.len() >= limit;
            if enough && logs.last().is_some_and(|it| part.times().last_end < it.time_ms) {
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
                    && logs.iter().map(|it| it.time_ms).min().is_some_and(|oldest| end < oldest)
                {
                    break;
                }
                let Some(record) = records.record(&part, at)? else { continue };
                // What cannot be read says nothing.
                lines.extend(LogView::of(record.kind, &record.body).unwrap_or_default());
                for line in &mut lines {
                    if line.time_ms <= 0 {
                        line.time_ms = record.received.as_millisecond();
                    }
                }
                lines.retain(|line| query.takes(line));
                of_part += lines.len();
                logs.append(&mut lines);
            }
            logs.sort_by_key(|it| std::cmp::Reverse(it.time_ms));
            logs.truncate(limit);
        }
        Ok(logs)
    }
}

impl LogQuery {
    fn takes(&self, line: &LogView) -> bool {
        fn is(wanted: Option<&String>, name: &str) -> bool {
            wanted.is_none_or(|wanted| wanted == name)
        }
        is(self.service.as_ref(), &line.service)
            && is(self.instance.as_ref(), &line.instance)
            && is(self.endpoint.as_ref(), &line.endpoint)
            && is(self.trace_id.as_ref(), &line.trace_id)
            && self.from.is_none_or(|from| line.time_ms >= from.as_millisecond())
            && self.to.is_none_or(|to| line.time_ms <= to.as_millisecond())
            && self.text.as_ref().is_none_or(|text| line.content.contains(text))
            && self.tags.iter().all(|(key, value)| {
                line.tags.iter().any(|tag| tag.key == *key && tag.value == *value)
            })
    }
}

/// Lines in a list if nobody says how many.
const USUAL: usize = 100;
