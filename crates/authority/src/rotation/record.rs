//! The record of a rotation as text, for the ledger: a line for each field, read back strictly.

use handfast_pki::Fingerprint;
use jiff::Timestamp;

use super::{Cause, Heard, Phase, Rotation, Waiver};

impl Rotation {
    /// The record as text.
    pub fn to_text(&self) -> String {
        let mut text = String::from("rotation 1\n");
        let mut line = |field: &str, value: &str| {
            text.push_str(field);
            text.push(' ');
            text.push_str(&value.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r"));
            text.push('\n');
        };
        line("phase", self.phase.as_str());
        line("cause", self.cause.as_str());
        line("by", &self.by);
        line("why", &self.why);
        line("began", &self.began.to_string());
        line("since", &self.since.to_string());
        line("old-generation", &self.old_generation.to_string());
        line("generation", &self.generation.to_string());
        line("old", &hex(&self.old));
        if let Some(new) = &self.new {
            line("new", &hex(new));
        }
        line("sequence", &self.sequence.to_string());
        if let Some(cross) = &self.cross {
            line("cross", cross);
        }
        if let Some(waiver) = &self.waiver {
            line("waived-by", &waiver.by);
            line("waived-why", &waiver.why);
            line("waived-at", &waiver.at.to_string());
        }
        for (site, heard) in &self.heard {
            line("heard", &format!("{site} {} {}", heard.sequence, heard.at));
        }
        text
    }

    /// Reads a record; `None` for what [`Rotation::to_text`] did not write.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next() != Some("rotation 1") {
            return None;
        }
        let fields: Vec<(&str, String)> = lines
            .map(|line| line.split_once(' ').map(|(field, value)| (field, plain(value))))
            .collect::<Option<_>>()?;
        let field = |name: &str| {
            fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str())
        };
        let time = |name: &str| field(name)?.parse::<Timestamp>().ok();
        let number = |name: &str| field(name)?.parse::<u64>().ok();
        let waiver = match field("waived-by") {
            None => None,
            Some(by) => Some(Waiver {
                by: by.to_owned(),
                why: field("waived-why")?.to_owned(),
                at: time("waived-at")?,
            }),
        };
        let heard = fields.iter().filter(|(name, _)| *name == "heard").map(|(_, value)| {
            let mut words = value.split(' ');
            let site = words.next()?.parse().ok()?;
            let sequence = words.next()?.parse().ok()?;
            Some((site, Heard { sequence, at: words.next()?.parse().ok()? }))
        });
        Some(Self {
            phase: Phase::ALL.into_iter().find(|phase| Some(phase.as_str()) == field("phase"))?,
            cause: Cause::ALL.into_iter().find(|cause| Some(cause.as_str()) == field("cause"))?,
            by: field("by")?.to_owned(),
            why: field("why")?.to_owned(),
            began: time("began")?,
            since: time("since")?,
            old_generation: number("old-generation")?,
            generation: number("generation")?,
            old: fingerprint(field("old")?)?,
            new: match field("new") {
                None => None,
                Some(text) => Some(fingerprint(text)?),
            },
            sequence: number("sequence")?,
            cross: field("cross").map(ToOwned::to_owned),
            waiver,
            heard: heard.collect::<Option<_>>()?,
        })
    }
}

/// A value as it was before it was put on one line.
fn plain(written: &str) -> String {
    let mut plain = String::with_capacity(written.len());
    let mut characters = written.chars();
    while let Some(character) = characters.next() {
        match (character, character == '\\') {
            (_, true) => match characters.next() {
                Some('n') => plain.push('\n'),
                Some('r') => plain.push('\r'),
                Some(other) => plain.push(other),
                None => {}
            },
            (other, false) => plain.push(other),
        }
    }
    plain
}

fn hex(fingerprint: &Fingerprint) -> String {
    let written = fingerprint.to_string();
    written.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect()
}

fn fingerprint(text: &str) -> Option<Fingerprint> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, index) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(index..index + 2)?, 16).ok()?;
    }
    Some(Fingerprint(bytes))
}
