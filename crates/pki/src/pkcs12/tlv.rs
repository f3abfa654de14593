//! Reading the few ASN.1 structures of PKCS#12. Tolerant of BER (indefinite lengths, strings in pieces),
//! which NSS and BouncyCastle write: everything is brought into definite form first.

use zeroize::Zeroizing;

use super::Pkcs12Error;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const CONTEXT_0: u8 = 0xa0;
pub(super) const CONTEXT_0_PRIMITIVE: u8 = 0x80;

/// Elements one after the other.
#[derive(Clone, Copy)]
pub(super) struct Elements<'a>(&'a [u8]);

/// One element: its tag, its content, and both with the length between.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    pub(super) whole: &'a [u8],
}

impl<'a> Elements<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next element, whatever it is; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Element<'a>>, Pkcs12Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (tag, header, length) = header(self.0)?;
        let length = length.ok_or(Pkcs12Error::Malformed)?;
        let end = header.checked_add(length).ok_or(Pkcs12Error::Malformed)?;
        let whole = self.0.get(..end).ok_or(Pkcs12Error::Malformed)?;
        self.0 = self.0.get(end..).unwrap_or_default();
        Ok(Some(Element { tag, content: whole.get(header..).unwrap_or_default(), whole }))
    }

    /// The next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<&'a [u8], Pkcs12Error> {
        match self.next()? {
            Some(element) if element.tag == tag => Ok(element.content),
            _ => Err(Pkcs12Error::Malformed),
        }
    }

    /// The elements of the sequence that comes next.
    pub(super) fn sequence(&mut self) -> Result<Self, Pkcs12Error> {
        self.expect(SEQUENCE).map(Self)
    }

    /// The content of the explicit tag 0 that comes next.
    pub(super) fn explicit_0(&mut self) -> Result<Self, Pkcs12Error> {
        self.expect(CONTEXT_0).map(Self)
    }

    /// The object identifier that comes next, in dots.
    pub(super) fn oid(&mut self) -> Result<String, Pkcs12Error> {
        self.expect(OID).map(oid_text)
    }

    /// The number that comes next: not negative, under 2^31.
    pub(super) fn number(&mut self) -> Result<u32, Pkcs12Error> {
        number(self.expect(INTEGER)?)
    }
}

/// A number that is not negative and under 2^31.
pub(super) fn number(content: &[u8]) -> Result<u32, Pkcs12Error> {
    if content.is_empty() || content.first().is_some_and(|first| *first >= 0x80) {
        return Err(Pkcs12Error::Malformed);
    }
    let significant: Vec<u8> = content.iter().copied().skip_while(|octet| *octet == 0).collect();
    if significant.len() > 4 || (significant.len() == 4 && significant.first() >= Some(&0x80)) {
        return Err(Pkcs12Error::Cost);
    }
    Ok(significant.iter().fold(0, |value, octet| (value << 8) | u32::from(*octet)))
}

/// Tag, length of tag and length octets, and the length; `None` for an indefinite one.
fn header(bytes: &[u8]) -> Result<(u8, usize, Option<usize>), Pkcs12Error> {
    let [tag, first, rest @ ..] = bytes else { return Err(Pkcs12Error::Malformed) };
    if tag & 0x1f == 0x1f {
        return Err(Pkcs12Error::Malformed);
    }
    match first {
        0..0x80 => Ok((*tag, 2, Some(usize::from(*first)))),
        0x80 => Ok((*tag, 2, None)),
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let octets = rest.get(..count).ok_or(Pkcs12Error::Malformed)?;
            let length =
                octets.iter().fold(0_usize, |length, octet| (length << 8) | usize::from(*octet));
            Ok((*tag, 2 + count, Some(length)))
        }
        _ => Err(Pkcs12Error::Malformed),
    }
}

/// The same element with definite lengths and strings in one piece. What follows it is left out.
pub(super) fn definite(bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len()));
    element(bytes, &mut out, MAX_DEPTH)?;
    Ok(out)
}

/// Writes one element in definite form, and says how many octets it took.
fn element(bytes: &[u8], out: &mut Vec<u8>, depth: usize) -> Result<usize, Pkcs12Error> {
    let depth = depth.checked_sub(1).ok_or(Pkcs12Error::Malformed)?;
    let (tag, start, length) = header(bytes)?;
    if tag & CONSTRUCTED == 0 {
        let end =
            length.and_then(|length| start.checked_add(length)).ok_or(Pkcs12Error::Malformed)?;
        let content = bytes.get(start..end).ok_or(Pkcs12Error::Malformed)?;
        write(tag, content, out);
        return Ok(end);
    }
    let mut content = Zeroizing::new(Vec::with_capacity(length.unwrap_or(0).min(bytes.len())));
    let end = if let Some(length) = length {
        let end = start.checked_add(length).ok_or(Pkcs12Error::Malformed)?;
        let inside = bytes.get(start..end).ok_or(Pkcs12Error::Malformed)?;
        let mut at = 0;
        while at < inside.len() {
            at += element(inside.get(at..).unwrap_or_default(), &mut content, depth)?;
        }
        end
    } else {
        let mut at = start;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            if rest.starts_with(&[0, 0]) {
                break at + 2;
            }
            at += element(rest, &mut content, depth)?;
        }
    };
    if tag == OCTET_STRING | CONSTRUCTED {
        let whole = joined(&content)?;
        write(OCTET_STRING, &whole, out);
    } else {
        write(tag, &content, out);
    }
    Ok(end)
}

/// The octet strings in `content` as one.
pub(super) fn joined(content: &[u8]) -> Result<Vec<u8>, Pkcs12Error> {
    let mut pieces = Elements::of(content);
    let mut whole = Vec::with_capacity(content.len());
    while let Some(piece) = pieces.next()? {
        if piece.tag != OCTET_STRING {
            return Err(Pkcs12Error::Malformed);
        }
        whole.extend_from_slice(piece.content);
    }
    Ok(whole)
}

fn write(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    let length = content.len();
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let octets = length.to_be_bytes();
            let significant: Vec<u8> = octets.into_iter().skip_while(|octet| *octet == 0).collect();
            out.push(0x80 | u8::try_from(significant.len()).unwrap_or(0));
            out.extend_from_slice(&significant);
        }
    }
    out.extend_from_slice(content);
}

fn oid_text(content: &[u8]) -> String {
    let mut arcs = Vec::new();
    let mut arc = 0_u64;
    for octet in content {
        arc = (arc << 7) | u64::from(octet & 0x7f);
        if octet & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.push(first);
                arcs.push(arc - first * 40);
            } else {
                arcs.push(arc);
            }
            arc = 0;
        }
    }
    arcs.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}

const CONSTRUCTED: u8 = 0x20;

/// PKCS#12 nests about ten deep; what nests deeper serves only to exhaust the stack.
const MAX_DEPTH: usize = 32;
