//! Whether certificates are revoked: by CRLs at hand, by the OCSP answer that a server stapled and, only when asked
//! to go and look, by what the certificates name.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use handfast_api::lookup::lookup;
use handfast_pki::ocsp::{CertId, CertStatus, IdHash, OcspRequest, OcspResponse};
use handfast_pki::{Certificate, Crl, CrlSet, CrlStatus, Entropy as _, SystemEntropy};
use jiff::Timestamp;
use serde::Serialize;

use super::super::show;
use crate::exit::Exit;
use crate::failure::Failure;

/// What one source says of one certificate.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) subject: String,
    pub(super) serial: String,
    /// `crl`, `ocsp` or `stapled`.
    pub(super) source: &'static str,
    pub(super) status: Status,
    pub(super) detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, serial, source, status, detail } = self;
        write!(
            f,
            "revocation of {subject} (serial {serial}) by {source}: {}, {detail}",
            status.word()
        )
    }
}

/// Whether a certificate is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Status {
    Good,
    Revoked,
    Unknown,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
        }
    }
}

/// A certificate with the one that signed it.
struct Link<'a> {
    certificate: &'a Certificate,
    issuer: &'a Certificate,
}

/// The chain as far as it is known who signed what.
pub(super) struct Path<'a>(Vec<Link<'a>>);

impl<'a> Path<'a> {
    pub(super) fn of(chain: &'a [Certificate], anchors: &'a [Certificate]) -> Self {
        // What is trusted is not asked about, nor what vouches for it besides: a root that is rotated is shown with a
        // certificate by the one before.
        let is_trusted = |certificate: &Certificate| {
            let same = |anchor: &Certificate| {
                anchor.subject() == certificate.subject()
                    && anchor.spki_der() == certificate.spki_der()
            };
            anchors.iter().any(same)
        };
        let signer = |certificate: &Certificate| {
            anchors.iter().chain(chain).find(|candidate| {
                certificate.names_issuer(candidate)
                    && certificate.verify_signed_by(candidate).is_ok()
            })
        };
        let links = chain
            .iter()
            .filter(|certificate| !certificate.is_self_issued() && !is_trusted(certificate));
        Self(
            links
                .filter_map(|certificate| Some(Link { certificate, issuer: signer(certificate)? }))
                .collect(),
        )
    }

    /// By CRL files. Lists of other issuers may be among them.
    pub(super) fn by_crls(
        &self,
        files: &[PathBuf],
        now: Timestamp,
    ) -> anyhow::Result<Vec<Finding>> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let mut lists = CrlSet::default();
        for file in files {
            let bytes = show::read(file)?;
            let read = Crl::read_all(&bytes).map_err(|error| {
                Failure::new(Exit::BadInput, "the CRL cannot be read")
                    .at(file.display())
                    .because(error)
            })?;
            for crl in read {
                self.take(&mut lists, crl);
            }
        }
        Ok(self.0.iter().map(|link| link.listed("crl", &lists, now)).collect())
    }

    /// By the answer that came with the handshake.
    pub(super) fn by_staple(&self, staple: &[u8], now: Timestamp) -> Option<Finding> {
        let leaf = self.0.first()?;
        if staple.is_empty() {
            return None;
        }
        let requests = IdHash::ALL.map(|hash| OcspRequest {
            cert_id: CertId::new(hash, leaf.issuer, leaf.certificate.serial()),
            nonce: None,
        });
        Some(leaf.answered("stapled", staple, &requests, now))
    }

    /// By what the certificates name: OCSP first, else the CRL.
    pub(super) async fn online(&self, within: Duration, now: Timestamp) -> Vec<Finding> {
        let mut findings = Vec::new();
        for link in &self.0 {
            findings.push(link.ask(self, within, now).await);
        }
        findings
    }

    fn take(&self, lists: &mut CrlSet, crl: Crl) {
        if let Some(link) = self.0.iter().find(|link| crl.verify_signed_by(link.issuer).is_ok()) {
            // A number that is older than one at hand is no news, and no error.
            let _ = lists.add(crl, link.issuer);
        }
    }
}

impl Link<'_> {
    fn finding(&self, source: &'static str, status: Status, detail: impl Into<String>) -> Finding {
        Finding {
            subject: self.certificate.subject().to_owned(),
            serial: self.certificate.serial().to_string(),
            source,
            status,
            detail: detail.into(),
        }
    }

    fn listed(&self, source: &'static str, lists: &CrlSet, now: Timestamp) -> Finding {
        let (status, detail) = match lists.status(self.certificate, self.issuer, now) {
            CrlStatus::Good { number } => (Status::Good, format!("not in CRL number {number}")),
            CrlStatus::Missing => {
                (Status::Unknown, "no CRL that its issuer signed is at hand".to_owned())
            }
            CrlStatus::OnlyDelta { number } => (
                Status::Unknown,
                format!("only the delta CRL number {number} is at hand, without the full one"),
            ),
            CrlStatus::Revoked(entry) => {
                (Status::Revoked, format!("revoked at {}: {}", entry.at, entry.reason))
            }
            CrlStatus::Stale { next_update } => {
                (Status::Unknown, format!("the CRL is out of date since {next_update}"))
            }
        };
        self.finding(source, status, detail)
    }

    fn answered(
        &self,
        source: &'static str,
        response: &[u8],
        requests: &[OcspRequest],
        now: Timestamp,
    ) -> Finding {
        let read = match OcspResponse::from_der(response) {
            Ok(read) => read,
            Err(error) => return self.finding(source, Status::Unknown, error.to_string()),
        };
        let mut why = String::new();
        for request in requests {
            match read.verify(request, self.issuer, now) {
                Ok(answer) => {
                    return match answer.status {
                        CertStatus::Good => {
                            let until = answer.next_update.map(|end| format!(", until {end}"));
                            let detail = format!(
                                "as of {}{}",
                                answer.this_update,
                                until.unwrap_or_default()
                            );
                            self.finding(source, Status::Good, detail)
                        }
                        CertStatus::Revoked { at, reason } => self.finding(
                            source,
                            Status::Revoked,
                            format!("revoked at {at}: {reason}"),
                        ),
                        CertStatus::Unknown => self.finding(
                            source,
                            Status::Unknown,
                            "the responder does not know the certificate",
                        ),
                    };
                }
                Err(error) => why = error.to_string(),
            }
        }
        self.finding(source, Status::Unknown, why)
    }

    async fn ask(&self, path: &Path<'_>, within: Duration, now: Timestamp) -> Finding {
        let mut why = "the certificate names no OCSP responder and no CRL".to_owned();
        for url in self.certificate.ocsp_urls() {
            let mut nonce = vec![0; 32];
            SystemEntropy.fill(&mut nonce);
            let cert_id = CertId::new(IdHash::Sha1, self.issuer, self.certificate.serial());
            // Many responders answer from a store and repeat no nonce: what comes back without is taken, within
            // its own dates.
            let with = OcspRequest { cert_id: cert_id.clone(), nonce: Some(nonce) };
            let without = OcspRequest { cert_id, nonce: None };
            match lookup(url, Some(with.to_der()), OcspResponse::MAX_DER, within).await {
                Ok(response) => {
                    let finding = self.answered("ocsp", &response, &[with, without], now);
                    if finding.status != Status::Unknown {
                        return finding;
                    }
                    why = finding.detail;
                }
                Err(error) => why = error.to_string(),
            }
        }
        for url in self.certificate.crl_urls() {
            let fetched = match lookup(url, None, Crl::MAX_DER, within).await {
                Ok(bytes) => Crl::read_all(&bytes).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match fetched {
                Ok(crls) => {
                    let mut lists = CrlSet::default();
                    for crl in crls {
                        path.take(&mut lists, crl);
                    }
                    let finding = self.listed("crl", &lists, now);
                    if finding.status != Status::Unknown {
                        return finding;
                    }
                    why = finding.detail;
                }
                Err(error) => why = error,
            }
        }
        self.finding("online", Status::Unknown, why)
    }
}

/// What is wrong by these findings: a revoked certificate, or one of which nothing could be learnt though it was
/// asked for.
pub(super) fn problem(findings: &[Finding], asked: bool) -> Option<(&'static str, String)> {
    if let Some(revoked) = findings.iter().find(|finding| finding.status == Status::Revoked) {
        return Some(("revoked", format!("{}: {}", revoked.subject, revoked.detail)));
    }
    let serials = findings.iter().map(|finding| &finding.serial);
    let unknown = serials.clone().find(|serial| {
        !findings.iter().any(|finding| finding.serial == **serial && finding.status == Status::Good)
    })?;
    let finding = findings.iter().find(|finding| finding.serial == *unknown)?;
    asked.then(|| ("revocation-unknown", format!("{}: {}", finding.subject, finding.detail)))
}

/// What to do about a problem.
pub(super) fn remedy(code: &str) -> &'static str {
    match code {
        "revoked" => {
            "have a new certificate issued, for a new key if the old one may be known to others"
        }
        _ => "give a CRL that is current with --crl, or have it looked for with --online",
    }
}
