//! One certificate as `cert show` and `cert verify` show it.

use std::fmt::Write as _;

use handfast_pki::Certificate;
use jiff::Timestamp;
use serde::Serialize;

use crate::commands::words;
use crate::output::Page;

/// Everything a person asks about a certificate. Data only; times are RFC 3339 in UTC.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CertificateView {
    subject: String,
    identity: Option<String>,
    dns_names: Vec<String>,
    ip_addresses: Vec<String>,
    uris: Vec<String>,
    issuer: String,
    serial: String,
    version: u32,
    not_before: Timestamp,
    not_after: Timestamp,
    ca: bool,
    path_length: Option<u32>,
    key_usage: Vec<&'static str>,
    extended_key_usage: Vec<String>,
    key_algorithm: String,
    signature_algorithm: String,
    fingerprint: String,
    subject_key_id: Option<String>,
    authority_key_id: Option<String>,
}

impl CertificateView {
    pub(super) fn of(certificate: &Certificate) -> Self {
        let texts =
            |usages: Vec<handfast_pki::Eku>| usages.iter().map(ToString::to_string).collect();
        Self {
            subject: certificate.subject().to_owned(),
            identity: certificate.spiffe_id().ok().flatten().map(|identity| identity.to_string()),
            dns_names: certificate.dns_names().to_vec(),
            ip_addresses: certificate.ip_addresses().iter().map(ToString::to_string).collect(),
            uris: certificate.uris().to_vec(),
            issuer: certificate.issuer().to_owned(),
            serial: certificate.serial().to_string(),
            version: certificate.version(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            ca: certificate.is_ca(),
            path_length: certificate.path_len(),
            key_usage: key_usage(certificate),
            extended_key_usage: certificate.extended_key_usage().map(texts).unwrap_or_default(),
            key_algorithm: certificate.key_algorithm().to_owned(),
            signature_algorithm: certificate.signature_algorithm().to_string(),
            fingerprint: certificate.fingerprint().to_string(),
            subject_key_id: certificate.subject_key_id().map(hex),
            authority_key_id: certificate.authority_key_id().map(hex),
        }
    }

    /// Draws it as aligned fields.
    pub(super) fn draw(&self, page: &mut Page, now: Timestamp) {
        let path_length = self
            .path_length
            .map(|length| format!(", at most {length} CAs below"))
            .unwrap_or_default();
        page.fields(&[
            ("subject", self.subject.clone()),
            ("identity", self.identity.clone().unwrap_or_default()),
            ("DNS names", self.dns_names.join(", ")),
            ("IP addresses", self.ip_addresses.join(", ")),
            ("URIs", if self.identity.is_some() { String::new() } else { self.uris.join(", ") }),
            ("issuer", self.issuer.clone()),
            ("serial", self.serial.clone()),
            ("version", format!("X.509 v{}", self.version)),
            ("valid from", words::moment(Some(self.not_before), now)),
            ("valid until", words::moment(Some(self.not_after), now)),
            ("CA", if self.ca { format!("yes{path_length}") } else { "no".to_owned() }),
            ("key usage", self.key_usage.join(", ")),
            ("extended key usage", self.extended_key_usage.join(", ")),
            ("key", self.key_algorithm.clone()),
            ("signature", self.signature_algorithm.clone()),
            ("SHA-256 fingerprint", self.fingerprint.clone()),
            ("subject key id", self.subject_key_id.clone().unwrap_or_default()),
            ("authority key id", self.authority_key_id.clone().unwrap_or_default()),
        ]);
    }
}

/// The usages of RFC 5280 section 4.2.1.3 that matter for TLS and signing.
fn key_usage(certificate: &Certificate) -> Vec<&'static str> {
    let Some(usage) = certificate.key_usage() else { return Vec::new() };
    [
        (usage.digital_signature(), "digitalSignature"),
        (usage.key_encipherment(), "keyEncipherment"),
        (usage.key_cert_sign(), "keyCertSign"),
        (usage.crl_sign(), "cRLSign"),
    ]
    .into_iter()
    .filter_map(|(present, name)| present.then_some(name))
    .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
