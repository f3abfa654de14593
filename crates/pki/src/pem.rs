//! PEM in and out (RFC 7468, read laxly): text around sections, CRLF, blank lines and any line
//! width are accepted; what is wrong is told with its line. Decoding is constant-time
//! ([`base64ct`]) and everything decoded is wiped, because sections may hold private keys.

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

/// The largest PEM text read, in octets: room for a few hundred certificates.
pub(crate) const MAX_PEM: usize = 1024 * 1024;

/// One `BEGIN`...`END` section.
pub(crate) struct Section {
    /// What stands after `BEGIN`, for example `CERTIFICATE`.
    pub(crate) label: String,
    /// The line of its `BEGIN`, counted from 1.
    pub(crate) line: usize,
    /// The decoded body; empty if the section is encrypted the old way.
    pub(crate) der: Zeroizing<Vec<u8>>,
    /// Whether a `Proc-Type: 4,ENCRYPTED` header says the body is encrypted (RFC 1421).
    pub(crate) legacy_encrypted: bool,
}

/// Whether the bytes are to be read as DER: they begin with a SEQUENCE, and hold no PEM section. (A text may
/// begin with the digit 0, which is the same octet.)
pub(crate) fn is_der(bytes: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN ";
    bytes.first() == Some(&0x30) && !bytes.windows(BEGIN.len()).any(|window| window == BEGIN)
}

/// All sections of a PEM text, in order. None is an error of its own: the caller knows what it
/// looked for.
pub(crate) fn sections(text: &[u8]) -> Result<Vec<Section>, PemError> {
    sections_up_to(text, MAX_PEM)
}

/// The same for what is large by nature: texts of up to `limit` octets.
pub(crate) fn sections_up_to(text: &[u8], limit: usize) -> Result<Vec<Section>, PemError> {
    if text.len() > limit {
        return Err(PemError::TooLarge { octets: text.len(), limit });
    }
    if text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]) {
        return Err(PemError::Utf16);
    }
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(PemError::Empty);
    }
    let mut sections = Vec::new();
    let mut lines = text
        .split(|octet| *octet == b'\n')
        .map(<[u8]>::trim_ascii)
        .enumerate()
        .map(|(index, line)| (index + 1, line));
    while let Some((number, line)) = lines.next() {
        if let Some(label) = boundary(line, b"BEGIN ") {
            sections.push(read_section(label, number, &mut lines)?);
        }
    }
    Ok(sections)
}

fn read_section<'a>(
    label: String,
    begin: usize,
    lines: &mut impl Iterator<Item = (usize, &'a [u8])>,
) -> Result<Section, PemError> {
    // Grows by doubling copies otherwise, and each copy would have to be wiped.
    let mut body = Zeroizing::new(Vec::with_capacity(16 * 1024));
    let mut legacy_encrypted = false;
    for (number, line) in lines {
        if let Some(end) = boundary(line, b"END ") {
            if end != label {
                return Err(PemError::MismatchedEnd { begin: label, end, line: number });
            }
            let der = if legacy_encrypted {
                Zeroizing::new(Vec::new())
            } else {
                decode(&body)
                    .ok_or_else(|| PemError::Base64 { label: label.clone(), line: begin })?
            };
            return Ok(Section { label, line: begin, der, legacy_encrypted });
        }
        if boundary(line, b"BEGIN ").is_some() {
            break;
        }
        if line.contains(&b':') {
            // A header of RFC 1421, as old OpenSSL writes them before an encrypted key.
            legacy_encrypted |= line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED");
        } else {
            body.extend(line.iter().filter(|octet| !octet.is_ascii_whitespace()));
        }
    }
    Err(PemError::MissingEnd { label, line: begin })
}

/// The label, if the line is `-----<kind><label>-----`.
fn boundary(line: &[u8], kind: &[u8]) -> Option<String> {
    // A byte order mark may stand before the very first line.
    let line = line.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(line);
    let label = line.strip_prefix(b"-----")?.strip_prefix(kind)?.strip_suffix(b"-----")?;
    let label = std::str::from_utf8(label).ok()?.trim();
    (!label.is_empty() && label.len() <= 64 && label.is_ascii()).then(|| label.to_owned())
}

fn decode(body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(vec![0; body.len() / 4 * 3]);
    let length = Base64::decode(body, &mut out).ok()?.len();
    out.truncate(length);
    (length > 0).then_some(out)
}

/// One PEM section with lines of 64 characters and a trailing newline (RFC 7468 section 2).
pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let lines = der.len().div_ceil(48);
    let capacity = 2 * (label.len() + 20) + der.len().div_ceil(3) * 4 + lines;
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut line = Zeroizing::new([0; 64]);
    for chunk in der.chunks(48) {
        // 48 octets make 64 characters: the buffer always fits.
        text.push_str(Base64::encode(chunk, line.as_mut()).unwrap_or_default());
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// What is wrong with a PEM text.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// The body is not base64.
    #[error(
        "the {label} section that begins on line {line} is not valid base64: the file was damaged in copying, take it again from its source"
    )]
    Base64 {
        /// The section's label.
        label: String,
        /// The line of its `BEGIN`.
        line: usize,
    },
    /// Nothing but white space.
    #[error("the file is empty")]
    Empty,
    /// `END` names another label than `BEGIN`.
    #[error("line {line} ends {end:?} but {begin:?} was begun: the file was damaged in copying")]
    MismatchedEnd {
        /// The label begun.
        begin: String,
        /// The label ended.
        end: String,
        /// The line of the `END`.
        line: usize,
    },
    /// The text ends, or another section begins, before `END`.
    #[error(
        "the {label} section that begins on line {line} has no END line: the file was cut short"
    )]
    MissingEnd {
        /// The section's label.
        label: String,
        /// The line of its `BEGIN`.
        line: usize,
    },
    /// No section of the kind looked for.
    #[error("no {wanted} section in the file: {}", found_text(found))]
    NoSection {
        /// What was looked for.
        wanted: &'static str,
        /// The labels found instead.
        found: Vec<String>,
    },
    /// Over the limit: 1 MiB for everything but CRLs.
    #[error("{octets} octets are too many for a PEM file: {limit} at most")]
    TooLarge {
        /// Size of the text.
        octets: usize,
        /// The limit.
        limit: usize,
    },
    /// UTF-16, as some Windows tools write.
    #[error("the file is UTF-16 text: save it as plain ASCII or UTF-8")]
    Utf16,
}

impl PemError {
    /// The error for a text without the sections that were looked for.
    pub(crate) fn none_of(wanted: &'static str, sections: &[Section]) -> Self {
        let found = sections.iter().map(|section| section.label.clone()).take(8).collect();
        Self::NoSection { wanted, found }
    }
}

fn found_text(found: &[String]) -> String {
    if found.is_empty() {
        "it is not PEM (no -----BEGIN line), give the PEM form".to_owned()
    } else {
        format!("it holds {}, give the right file", found.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(text: &str) -> Result<Vec<String>, PemError> {
        Ok(sections(text.as_bytes())?.into_iter().map(|section| section.label).collect())
    }

    #[test]
    fn tolerates_what_people_do_to_files() {
        let one = encode("CERTIFICATE", &[1; 100]);
        let crlf = one.replace('\n', "\r\n");
        let wide = format!("\u{feff}-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----", {
            Base64::encode_string(&[1; 100])
        });
        let noisy = format!("# my root\n\n{}\nsubject=CN = a\n{}   \n\n", &*one, &*one);
        for (text, count) in [(one.to_string(), 1), (crlf, 1), (wide, 1), (noisy, 2)] {
            let read = sections(text.as_bytes()).unwrap();
            assert_eq!(read.len(), count, "{text}");
            assert!(read.iter().all(|section| section.der[..] == [1; 100]));
        }
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        assert_eq!(labels(" \n"), Err(PemError::Empty));
        assert_eq!(labels("hello"), Ok(vec![]));
        let cut = "x\n-----BEGIN A-----\nAAAA\n";
        assert_eq!(labels(cut), Err(PemError::MissingEnd { label: "A".into(), line: 2 }));
        let swapped = "-----BEGIN A-----\nAAAA\n-----END B-----\n";
        assert!(matches!(labels(swapped), Err(PemError::MismatchedEnd { line: 3, .. })));
        for body in ["A*AA", "AAA", "=", ""] {
            let bad = format!("-----BEGIN A-----\n{body}\n-----END A-----\n");
            assert!(matches!(labels(&bad), Err(PemError::Base64 { line: 1, .. })), "{body}");
        }
        assert_eq!(sections(&[0xff, 0xfe, b'-', 0]).err(), Some(PemError::Utf16));
        assert!(matches!(
            sections(&vec![b'-'; MAX_PEM + 1]).err(),
            Some(PemError::TooLarge { .. })
        ));
    }

    proptest! {
        #[test]
        fn round_trips(der in prop::collection::vec(any::<u8>(), 1..400)) {
            let text = encode("CERTIFICATE", &der);
            prop_assert!(text.lines().all(|line| line.len() <= 64));
            let read = sections(text.as_bytes()).unwrap();
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(&read[0].der[..], &der[..]);
        }

        #[test]
        fn any_bytes_never_panic(text in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = sections(&text).map(|read| read.len());
        }

        #[test]
        fn near_pem_never_panics(text in "(-----(BEGIN|END) [A-Z]{0,3}-----\r?\n|[A-Za-z0-9+/=:]{0,9}\n){0,12}") {
            let _ = sections(text.as_bytes()).map(|read| read.len());
        }
    }
}
