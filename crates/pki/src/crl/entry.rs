//! One entry of a CRL, read in place and written.

use jiff::Timestamp;

use super::CrlError;
use crate::asn1::{self, Element};
use crate::{RevocationReason, RevokedEntry};

/// What an entry says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Listed {
    /// Revoked.
    Revoked {
        /// When.
        at: Timestamp,
        /// Why.
        reason: RevocationReason,
    },
    /// Taken back: an entry of a delta that ends one of the full list.
    Removed,
}

/// Why an entry cannot be used.
#[derive(Clone, Copy, Debug)]
pub(super) enum EntryError<'a> {
    Indirect,
    Malformed,
    UnknownCritical(&'a [u8]),
}

impl EntryError<'_> {
    /// The same as an error of the list of this issuer.
    pub(super) fn of(self, issuer: &str) -> CrlError {
        let issuer = issuer.to_owned();
        match self {
            Self::Indirect => CrlError::Indirect { issuer },
            Self::Malformed => CrlError::Malformed { what: "an entry" },
            Self::UnknownCritical(oid) => {
                let extension = format!("of an entry, with the identifier {oid:02x?}");
                CrlError::UnknownCriticalExtension { issuer, extension }
            }
        }
    }
}

/// Orders serial numbers as [`crate::Serial`] keeps them, from the content of their INTEGER.
pub(super) fn key(content: &[u8]) -> (bool, &[u8]) {
    if content.first().is_some_and(|first| first & 0x80 != 0) {
        return (true, content);
    }
    let zeros = content.iter().take_while(|octet| **octet == 0).count();
    // Zero itself keeps one octet.
    let kept = zeros.min(content.len().saturating_sub(1));
    (false, content.get(kept..).unwrap_or_default())
}

/// The content of the serial number, and what is said of it.
pub(super) fn read<'a>(entry: &Element<'a>) -> Result<(&'a [u8], Listed), EntryError<'a>> {
    let malformed = EntryError::Malformed;
    if entry.tag() != asn1::SEQUENCE {
        return Err(malformed);
    }
    let mut fields = entry.fields().ok_or(malformed)?;
    let serial = fields.take(asn1::INTEGER).ok_or(malformed)?;
    let at = fields.next().and_then(|time| time.time()).ok_or(malformed)?;
    let extensions = fields.optional(asn1::SEQUENCE).ok_or(malformed)?;
    if !fields.at_end() || serial.content.is_empty() {
        return Err(malformed);
    }
    let mut listed = Listed::Revoked { at, reason: RevocationReason::Unspecified };
    if let Some(extensions) = extensions {
        let mut fields = extensions.fields().ok_or(malformed)?;
        while !fields.at_end() {
            let extension = fields.take(asn1::SEQUENCE).ok_or(malformed)?;
            if let Some(said) = read_extension(&extension, at)? {
                listed = said;
            }
        }
    }
    Ok((serial.content, listed))
}

const REASON_CODE: &[u8] = &[0x55, 0x1d, 21];
const HOLD_INSTRUCTION: &[u8] = &[0x55, 0x1d, 23];
const INVALIDITY_DATE: &[u8] = &[0x55, 0x1d, 24];
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 29];

/// The reason that takes an entry back.
const REMOVE_FROM_CRL: u8 = 8;

fn read_extension<'a>(
    extension: &Element<'a>,
    at: Timestamp,
) -> Result<Option<Listed>, EntryError<'a>> {
    let malformed = EntryError::Malformed;
    let mut fields = extension.fields().ok_or(malformed)?;
    let oid = fields.take(asn1::OBJECT_IDENTIFIER).ok_or(malformed)?.content;
    let critical = fields.optional(asn1::BOOLEAN).ok_or(malformed)?;
    let value = fields.take(asn1::OCTET_STRING).ok_or(malformed)?;
    if !fields.at_end() {
        return Err(malformed);
    }
    match oid {
        REASON_CODE => {
            let code = asn1::Fields::only(value.content)
                .filter(|code| code.tag() == asn1::ENUMERATED)
                .and_then(|code| code.small())
                .ok_or(malformed)?;
            if code == REMOVE_FROM_CRL {
                return Ok(Some(Listed::Removed));
            }
            // A number that nobody has given out is no reason to take a revocation lightly.
            let reason = RevocationReason::from_code(code).unwrap_or_default();
            Ok(Some(Listed::Revoked { at, reason }))
        }
        HOLD_INSTRUCTION | INVALIDITY_DATE => Ok(None),
        CERTIFICATE_ISSUER => Err(EntryError::Indirect),
        other if critical.is_some_and(|critical| critical.content != [0]) => {
            Err(EntryError::UnknownCritical(other))
        }
        _ => Ok(None),
    }
}

/// An entry in DER. `unspecified` is said by saying nothing (RFC 5280 section 5.3.1).
pub(super) fn encode(entry: &RevokedEntry) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_bigint_bytes(entry.serial.as_bytes(), true);
            asn1::write_time(writer.next(), entry.at);
            if entry.reason != RevocationReason::Unspecified {
                writer.next().write_sequence(|writer| {
                    asn1::write_extension(writer, &[2, 5, 29, 21], false, |writer| {
                        writer.write_enum(i64::from(entry.reason.code()));
                    });
                });
            }
        });
    })
}
