//! Faults: every failed handshake and every refused piece of TLS material as a value with a stable
//! code, the side at fault, evidence and a remedy. Logs, metrics, status and the CLI show the same
//! value. It never holds key material: evidence is public certificate data, names and addresses.

mod alert;
mod attempt;
mod code;
mod io;
mod material;
mod remedy;
mod tls;

use std::error::Error;
use std::fmt;
use std::sync::Arc;

pub use self::attempt::{Attempt, Role};
pub use self::code::{FaultCode, UnknownFaultCode};
pub use self::io::{fault_of_io, timed_out};
pub(crate) use self::material::fault_of_own;
pub use self::material::{fault_of_credential, fault_of_file};
pub(crate) use self::tls::alpn_fault;
pub use self::tls::fault_of;

/// Who has to act.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Side {
    /// It cannot be told from here; look at both.
    Either,
    /// This side: our certificate, key, trust or configuration.
    Ours,
    /// The other side.
    Peer,
}

impl Side {
    /// `either`, `ours` or `peer`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Either => "either",
            Self::Ours => "ours",
            Self::Peer => "peer",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One fault: what went wrong, where, whose it is, the evidence, and what to do.
///
/// `Display` is the whole story over several lines; [`one_line`](Self::one_line) is for logs and
/// tables. Two faults are equal if everything but the underlying error is equal.
#[derive(Clone, Debug)]
pub struct Fault {
    code: FaultCode,
    side: Side,
    what: String,
    place: String,
    evidence: Vec<(&'static str, String)>,
    remedy: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Fault {
    /// A fault of `code` at `place` (`link west, connecting to west.example`), with the code's
    /// own summary as its text and its usual remedy.
    pub fn new(code: FaultCode, side: Side, place: impl Into<String>) -> Self {
        Self {
            code,
            side,
            what: code.summary().to_owned(),
            place: printable(&place.into()),
            evidence: Vec::new(),
            remedy: remedy::usual(code, side).to_owned(),
            source: None,
        }
    }

    /// Says what happened in a sentence of its own, instead of the code's summary.
    #[must_use]
    pub fn saying(mut self, what: impl AsRef<str>) -> Self {
        self.what = printable(what.as_ref());
        self
    }

    /// Adds a piece of evidence. Control characters are escaped and long values shortened: the
    /// value may come from a hostile certificate.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl AsRef<str>) -> Self {
        self.evidence.push((key, printable(value.as_ref())));
        self
    }

    /// Replaces the remedy.
    #[must_use]
    pub fn remedied_by(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// Keeps the error that it was made from.
    #[must_use]
    pub fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The same fault at another place: for wrapping it in the name of the resource it concerns.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = printable(&place.into());
        self
    }

    /// The same fault found on our own material before anybody else saw it: "the peer" is us.
    pub(crate) fn turned_on_ourselves(mut self) -> Self {
        self.side = Side::Ours;
        self.what = self.what.replace("the peer's", "our").replace("the peer", "our side");
        remedy::usual(self.code, Side::Ours).clone_into(&mut self.remedy);
        self
    }

    /// The stable cause.
    pub fn code(&self) -> FaultCode {
        self.code
    }

    /// Who has to act.
    pub fn side(&self) -> Side {
        self.side
    }

    /// What happened, in one sentence without a full stop.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Where it happened: the resource and the connection.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The evidence in a fixed order, keys in kebab-case (`issuer`, `not-after`, `expected-name`).
    pub fn evidence(&self) -> &[(&'static str, String)] {
        &self.evidence
    }

    /// One piece of evidence.
    pub fn evidence_of(&self, key: &str) -> Option<&str> {
        self.evidence.iter().find(|(k, _)| *k == key).map(|(_, value)| value.as_str())
    }

    /// What to do, with the commands to type.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    /// `unknown-issuer: what (where); key=value ...` without line breaks.
    pub fn one_line(&self) -> String {
        let mut line = format!("{}: {} ({})", self.code, self.what, self.place);
        for (key, value) in &self.evidence {
            line.push_str("; ");
            line.push_str(key);
            line.push('=');
            line.push_str(value);
        }
        line
    }
}

impl PartialEq for Fault {
    fn eq(&self, other: &Self) -> bool {
        let parts = |f: &Self| (f.code, f.side, f.what.clone(), f.place.clone(), f.remedy.clone());
        parts(self) == parts(other) && self.evidence == other.evidence
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} [{}]", self.what, self.code)?;
        writeln!(f, "  where: {}", self.place)?;
        let side = match self.side {
            Side::Either => "either side; look at both",
            Side::Ours => "this side",
            Side::Peer => "the other side",
        };
        writeln!(f, "  fault of: {side}")?;
        for (key, value) in &self.evidence {
            writeln!(f, "  {key}: {value}")?;
        }
        write!(f, "  remedy: {}", self.remedy)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Longest evidence value that is shown, in characters.
const MAX_VALUE: usize = 400;

/// Makes text from a certificate or a peer fit for a terminal and a log: no control characters, no
/// direction overrides, no endless values.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_VALUE));
    for (index, c) in text.chars().enumerate() {
        if index == MAX_VALUE {
            out.push_str("...");
            break;
        }
        let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if c.is_control() || hidden {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Fault, FaultCode, Side, printable};

    #[test]
    fn shows_what_where_whose_evidence_and_remedy() {
        let fault = Fault::new(FaultCode::UnknownIssuer, Side::Either, "link west")
            .saying("the peer's certificate was issued by a CA we do not trust")
            .with("issuer", "CN=stranger")
            .remedied_by("do this");
        assert_eq!(
            fault.to_string(),
            "the peer's certificate was issued by a CA we do not trust [unknown-issuer]\n  \
             where: link west\n  fault of: either side; look at both\n  issuer: CN=stranger\n  \
             remedy: do this"
        );
        assert_eq!(fault.one_line().lines().count(), 1);
        assert_eq!(fault.evidence_of("issuer"), Some("CN=stranger"));
    }

    #[test]
    fn every_code_has_a_remedy_for_every_side() {
        for code in FaultCode::ALL {
            for side in [Side::Either, Side::Ours, Side::Peer] {
                let fault = Fault::new(*code, side, "x");
                assert!(fault.remedy().len() > 30, "{code} {side}: {}", fault.remedy());
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_text_becomes_one_bounded_printable_line(
            text in proptest::collection::vec(any::<char>(), 0..600),
        ) {
            let text = String::from_iter(text);
            let fault = Fault::new(FaultCode::WrongName, Side::Peer, &text)
                .saying(&text)
                .with("presented", &text);
            prop_assert!(!fault.one_line().chars().any(char::is_control));
            prop_assert!(printable(&text).chars().count() <= 400 * 10 + 3);
        }
    }
}
