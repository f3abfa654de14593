//! One file's text into resources: documents are split first, so that a broken one takes nothing but
//! itself away, and every fault says file, line and field.
//!
//! Messages never quote a source line: token files hold secrets.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::Error;

use super::envelope::Document;
use super::kind::Kind;
use super::{
    AccessGrant, AccessToken, ApiVersion, Certificate, Collector, Connector, Link, Listener,
    MAX_RESOURCES, MultiKeyListener, Notification, Origin, Policy, Relay, ResourceFault, Resources,
    RouterAccess, Severity, Site, Spec, suggest,
};

/// Adds what `text` declares to `resources`, and what is wrong with it to `faults`.
pub(super) fn read(
    file: &Path,
    text: &str,
    resources: &mut Resources,
    faults: &mut Vec<ResourceFault>,
) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let pieces = split(text);
    let shared = pieces.len() > 1;
    for piece in pieces {
        let origin = Origin { file: file.to_owned(), line: piece.first_line, shared };
        if resources.len() >= MAX_RESOURCES {
            faults.push(Fault::at(&origin, Some(origin.line)).error(
                format!("more than {MAX_RESOURCES} resources are declared"),
                "remove resources, or run another site",
            ));
            return;
        }
        if let Err(fault) = read_document(&piece, origin, resources, faults) {
            faults.push(*fault);
        }
    }
}

/// One YAML document of a file.
pub(super) struct Piece<'a> {
    /// Its text, without the `---` before it.
    pub(super) text: &'a str,
    /// Its first line that says something, counted from 1 in the file.
    pub(super) first_line: u64,
    /// How many lines of the file precede `text`.
    lines_before: u64,
}

/// Splits at document markers: `---` or `...` at the very start of a line, which cannot be part of
/// any scalar (YAML 1.2.2 section 9.1.2, `c-forbidden`). Pieces without content are left out.
pub(super) fn split(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut start_line = 0;
    let mut offset = 0;
    for (line_number, line) in (0..).zip(text.split_inclusive('\n')) {
        if let Some(marker) = ["---", "..."].into_iter().find(|marker| is_marker(line, marker)) {
            push_piece(&mut pieces, &text[start..offset], start_line);
            // Content may follow `---` on its own line.
            start = offset + marker.len();
            start_line = line_number;
        }
        offset += line.len();
    }
    push_piece(&mut pieces, &text[start..], start_line);
    pieces
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn push_piece<'a>(pieces: &mut Vec<Piece<'a>>, text: &'a str, lines_before: u64) {
    let says_something = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with(['#', '%'])
    };
    if let Some(index) = text.lines().position(|line| says_something(&line)) {
        let first_line = lines_before + index as u64 + 1;
        pieces.push(Piece { text, first_line, lines_before });
    }
}

/// What tells how to read the rest.
#[derive(Deserialize)]
struct Header {
    #[serde(default, rename = "apiVersion")]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    metadata: Option<HeaderMetadata>,
}

#[derive(Deserialize)]
struct HeaderMetadata {
    #[serde(default)]
    name: Option<String>,
}

fn read_document(
    piece: &Piece<'_>,
    origin: Origin,
    resources: &mut Resources,
    faults: &mut Vec<ResourceFault>,
) -> Result<(), Box<ResourceFault>> {
    let header: Header = serde_saphyr::from_str_with_options(piece.text, options())
        .map_err(|error| Fault::guessing(&origin, piece).yaml(piece, &error))?;
    let name = header.metadata.and_then(|metadata| metadata.name);
    let fault = |line| Fault { name: name.clone(), ..Fault::at(&origin, line) };
    let Some(kind_text) = header.kind else {
        return Err(fault(Some(origin.line))
            .boxed("the document has no `kind`", "add `kind:`, for example `kind: Listener`"));
    };
    let version = header.api_version.unwrap_or_default();
    if !ApiVersion::ALL.contains(&version.as_str()) {
        let (what, remedy) = foreign(&version, &kind_text);
        return Err(fault(piece.line_of("apiVersion").or(Some(origin.line))).boxed(what, remedy));
    }
    let Ok(kind) = kind_text.parse::<Kind>() else {
        let remedy = match suggest::nearest(&kind_text, Kind::ALL.map(Kind::as_str)) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("known kinds: {}", Kind::ALL.map(Kind::as_str).join(", ")),
        };
        return Err(fault(piece.line_of("kind"))
            .boxed(format!("kind {:?} is not known", shorten(&kind_text)), remedy));
    };
    let fault = Fault { kind: Some(kind), ..fault(None) };
    match kind {
        Kind::AccessGrant => accept::<AccessGrant>(piece, origin, fault, resources, faults),
        Kind::AccessToken => accept::<AccessToken>(piece, origin, fault, resources, faults),
        Kind::Certificate => accept::<Certificate>(piece, origin, fault, resources, faults),
        Kind::Collector => accept::<Collector>(piece, origin, fault, resources, faults),
        Kind::Connector => accept::<Connector>(piece, origin, fault, resources, faults),
        Kind::Link => accept::<Link>(piece, origin, fault, resources, faults),
        Kind::Listener => accept::<Listener>(piece, origin, fault, resources, faults),
        Kind::MultiKeyListener => {
            accept::<MultiKeyListener>(piece, origin, fault, resources, faults)
        }
        Kind::Notification => accept::<Notification>(piece, origin, fault, resources, faults),
        Kind::Policy => accept::<Policy>(piece, origin, fault, resources, faults),
        Kind::Relay => accept::<Relay>(piece, origin, fault, resources, faults),
        Kind::RouterAccess => accept::<RouterAccess>(piece, origin, fault, resources, faults),
        Kind::Site => accept::<Site>(piece, origin, fault, resources, faults),
    }
}

/// What to say of a document that is none of ours.
fn foreign(version: &str, kind: &str) -> (String, String) {
    if version == "v1" && kind == "Secret" {
        return (
            "Secrets are not read from resource files".to_owned(),
            "write its tls.crt, tls.key and ca.crt to `input/certs/<name>/` instead".to_owned(),
        );
    }
    let what = if version.is_empty() {
        "the document has no `apiVersion`".to_owned()
    } else {
        format!("apiVersion {:?} is not known", shorten(version))
    };
    (what, format!("use `{}`", ApiVersion::ALL.join("` or `")))
}

fn accept<S: Spec>(
    piece: &Piece<'_>,
    origin: Origin,
    fault: Fault,
    resources: &mut Resources,
    faults: &mut Vec<ResourceFault>,
) -> Result<(), Box<ResourceFault>> {
    let document: Document<S> = serde_saphyr::from_str_with_options(piece.text, options())
        .map_err(|error| fault.yaml(piece, &error))?;
    let fault_at = |line: Option<u64>| Fault { line, ..fault.clone() };
    let mut usable = true;
    for invalid in document.spec.check() {
        usable &= invalid.severity == Severity::Warning;
        let line = piece.line_of(invalid.field).unwrap_or(origin.line);
        faults.push(ResourceFault {
            field: Some(invalid.field.to_owned()),
            severity: invalid.severity,
            ..fault_at(Some(line)).error(invalid.what, invalid.remedy)
        });
    }
    if !usable {
        return Ok(());
    }
    let line = origin.line;
    S::insert(resources, document.into_resource(origin.clone())).map_err(|earlier| {
        let what = match S::KIND {
            Kind::Site => format!("a site is already declared at {}", place(&earlier)),
            _ => format!("the same kind and name are already declared at {}", place(&earlier)),
        };
        fault_at(Some(line)).boxed(what, "rename or remove one of the two; the first one is used")
    })
}

fn place(origin: &Origin) -> String {
    format!("{}:{}", origin.file.display(), origin.line)
}

impl Piece<'_> {
    /// The line of the file where `field` is a key, if it is written on a line of its own.
    fn line_of(&self, field: &str) -> Option<u64> {
        let index = self.text.lines().position(|line| key_of(line) == Some(field))?;
        Some(self.lines_before + index as u64 + 1)
    }

    fn file_line(&self, line_in_piece: u64) -> u64 {
        self.lines_before + line_in_piece
    }

    /// The key written on a line of this piece (counted from 1).
    fn key_at(&self, line_in_piece: u64) -> Option<&str> {
        let index = usize::try_from(line_in_piece).ok()?.checked_sub(1)?;
        key_of(self.text.lines().nth(index)?)
    }
}

fn key_of(line: &str) -> Option<&str> {
    let line = line.trim_start().trim_start_matches("- ").trim_start();
    let (key, _) = line.split_once(':')?;
    let key = key.trim_matches(['"', '\'']);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    (!key.is_empty() && key.len() <= 64 && key.bytes().all(plain)).then_some(key)
}

/// A fault in the making: what is known of the document so far.
#[derive(Clone)]
struct Fault {
    file: PathBuf,
    line: Option<u64>,
    kind: Option<Kind>,
    name: Option<String>,
}

impl Fault {
    fn at(origin: &Origin, line: Option<u64>) -> Self {
        Self { file: origin.file.clone(), line, kind: None, name: None }
    }

    /// Kind and name from lines that look like them, for a document that is no YAML.
    fn guessing(origin: &Origin, piece: &Piece<'_>) -> Self {
        let value_of = |line: &str| {
            let (_, value) = line.split_once(':')?;
            Some(value.trim().trim_matches(['"', '\'']).to_owned())
        };
        let mut lines = piece.text.lines();
        let kind = lines.clone().find(|line| line.starts_with("kind:")).and_then(value_of);
        let in_metadata = lines.any(|line| line.trim_end() == "metadata:");
        let name = lines
            .take_while(|line| in_metadata && line.starts_with([' ', '\t']))
            .find(|line| line.trim_start().starts_with("name:"))
            .and_then(value_of);
        let kind = kind.and_then(|kind| kind.parse().ok());
        Self { kind, name, ..Self::at(origin, None) }
    }

    fn error(self, what: impl Into<String>, remedy: impl Into<String>) -> ResourceFault {
        ResourceFault {
            file: self.file,
            line: self.line,
            kind: self.kind,
            name: self.name.map(|name| shorten(&name)),
            field: None,
            severity: Severity::Error,
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    fn boxed(self, what: impl Into<String>, remedy: impl Into<String>) -> Box<ResourceFault> {
        Box::new(self.error(what, remedy))
    }

    /// Puts the parser's error into the operator's words.
    fn yaml(&self, piece: &Piece<'_>, error: &Error) -> Box<ResourceFault> {
        let error = error.without_snippet();
        let line_in_piece =
            error.location().map(|location| location.line()).filter(|line| *line > 0);
        let key = line_in_piece.and_then(|line| piece.key_at(line)).map(str::to_owned);
        let mut field = key.clone();
        let subject = key.map_or_else(|| "a value".to_owned(), |key| format!("`{key}`"));
        let (what, remedy) = match error {
            Error::SerdeUnknownField { field: unknown, expected, .. } => {
                field = Some(shorten(unknown));
                let known = expected.iter().filter(|name| **name != "status").copied();
                let remedy = match suggest::nearest(unknown, known.clone()) {
                    Some(nearest) => format!("did you mean `{nearest}`?"),
                    None => format!("known fields: {}", known.collect::<Vec<_>>().join(", ")),
                };
                (format!("unknown field `{}`", shorten(unknown)), remedy)
            }
            Error::SerdeUnknownVariant { variant, expected, .. } => {
                let remedy = match suggest::nearest(variant, expected.iter().copied()) {
                    Some(nearest) => format!("did you mean `{nearest}`?"),
                    None => format!("use one of: {}", expected.join(", ")),
                };
                (format!("{subject} cannot be `{}`", shorten(variant)), remedy)
            }
            Error::SerdeMissingField { field: missing, .. } => {
                field = Some((*missing).to_owned());
                (format!("field `{missing}` is missing"), format!("add `{missing}:`"))
            }
            Error::SerdeInvalidValue { expected, .. } => {
                (format!("{subject} has a wrong value"), format!("expected: {expected}"))
            }
            Error::SerdeInvalidType { expected, .. } => (
                format!("{subject} has a value of the wrong type"),
                format!("expected: {expected}"),
            ),
            Error::DuplicateMappingKey { key, .. } => {
                let key = key
                    .as_deref()
                    .map_or_else(|| "a key".to_owned(), |key| format!("`{}`", shorten(key)));
                (format!("{key} is given twice"), "keep one of the two".to_owned())
            }
            other => (
                format!("not readable as YAML near {subject}: {}", plain(other)),
                "check indentation, quotes and brackets here and on the line before".to_owned(),
            ),
        };
        let line = line_in_piece.map_or(piece.first_line, |line| piece.file_line(line));
        Box::new(ResourceFault {
            field,
            ..Fault { line: Some(line), ..self.clone() }.error(what, remedy)
        })
    }
}

/// The parser's own words, on one line and of bounded length.
fn plain(error: &Error) -> String {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    // The position is in the parser's coordinates, which are the document's, not the file's.
    let text = text.rsplit_once(" at line ").map_or(text, |(before, _)| before);
    shorten(text)
}

/// At most 120 characters, and nothing that moves a terminal's cursor.
fn shorten(text: &str) -> String {
    let mut short: String =
        text.chars().filter(|character| !character.is_control()).take(120).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_aliases: 64,
            max_anchors: 64,
            max_depth: 32,
            max_nodes: 100_000,
            max_events: 200_000,
        },
        strict_booleans: true,
        with_snippet: false,
    }
}
