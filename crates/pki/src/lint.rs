//! What is wrong with a certificate, and what to do about it: for any certificate a user hands in, ours
//! or not, version 1 included. A linter judges one certificate by itself; whether its chain holds is the
//! question of [`crate::verify_chain`].

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::extension::Defect;
use crate::{Certificate, Eku, IdentityError, PublicKeyError, Purpose, Serial};

/// What the certificate is meant for, and the moment to judge it at.
#[derive(Clone, Copy, Debug)]
pub struct LintContext {
    /// What it is meant to be used for.
    pub purpose: Purpose,
    /// The time to judge validity at.
    pub now: Timestamp,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// Works, but should be known.
    Notice,
    /// Works here, but will fail elsewhere or soon.
    Warning,
    /// Cannot be used for the purpose.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// A stable code.
    pub code: FindingCode,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, with the evidence.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, severity, what, remedy } = self;
        write!(f, "{severity} {code}: {what}; {remedy}")
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+) => {
        /// The stable code of a [`Finding`]. Displays in kebab case.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum FindingCode {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl FindingCode {
            /// Every code, in the order of their names.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The code as text, for example `version-1`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

codes! {
    /// `anyExtendedKeyUsage`: may be used for anything.
    AnyUsage = "any-usage",
    /// Basic constraints of a CA not marked critical.
    BasicConstraintsNotCritical = "basic-constraints-not-critical",
    /// A CA certificate meant as a leaf.
    CaAsLeaf = "ca-as-leaf",
    /// Both client and server authentication.
    ClientAndServer = "client-and-server",
    /// The same extension twice.
    DuplicateExtension = "duplicate-extension",
    /// Past its end.
    Expired = "expired",
    /// Less than a third of its life is left.
    ExpiresSoon = "expires-soon",
    /// Several or malformed identities.
    Identity = "identity",
    /// Key usage does not fit the purpose.
    KeyUsage = "key-usage",
    /// Key usage not marked critical.
    KeyUsageNotCritical = "key-usage-not-critical",
    /// A leaf valid longer than 398 days.
    LongValidity = "long-validity",
    /// An extension that cannot be decoded.
    MalformedExtension = "malformed-extension",
    /// A subject alternative name that cannot be decoded or used.
    MalformedName = "malformed-name",
    /// Host name in the common name only.
    NameOnlyInCommonName = "name-only-in-common-name",
    /// No authority key identifier.
    NoAuthorityKeyId = "no-authority-key-id",
    /// Meant as a CA, but is none.
    NotCa = "not-ca",
    /// Before its beginning.
    NotYetValid = "not-yet-valid",
    /// No extended key usage.
    NoUsage = "no-usage",
    /// No subject alternative name.
    NoSubjectAlternativeName = "no-subject-alternative-name",
    /// No subject key identifier.
    NoSubjectKeyId = "no-subject-key-id",
    /// X.509 version 1 or 2.
    OldVersion = "old-version",
    /// A serial that RFC 5280 forbids.
    Serial = "serial",
    /// Self-signed, and meant as a leaf.
    SelfSigned = "self-signed",
    /// A critical extension that is not understood.
    UnknownCriticalExtension = "unknown-critical-extension",
    /// A key of a kind that we cannot use.
    UnsupportedKey = "unsupported-key",
    /// Ends before it begins.
    ValidityReversed = "validity-reversed",
    /// An RSA key under 2048 bits, or one that is known to be worthless.
    WeakKey = "weak-key",
    /// Signed with SHA-1 or MD5.
    WeakSignature = "weak-signature",
    /// Extended key usage without what the purpose needs.
    WrongUsage = "wrong-usage",
}

impl fmt::Display for FindingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Everything that is wrong with `certificate` for the purpose, worst first. Empty is good.
pub fn lint(certificate: &Certificate, context: LintContext) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    findings.version(certificate);
    findings.validity(certificate, context);
    findings.key_and_signature(certificate);
    findings.serial(certificate.serial());
    findings.defects(certificate);
    // A certificate before version 3 has no extensions: one finding says so, fifteen would hide it.
    if certificate.version() == 3 {
        match context.purpose {
            Purpose::Ca => findings.authority(certificate),
            Purpose::Client | Purpose::Server => findings.leaf(certificate, context.purpose),
        }
        findings.identifiers(certificate);
    }
    let mut findings = findings.0;
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.code.cmp(&b.code)));
    findings
}

/// Public certificates were allowed 398 days at most when private ones still had years.
const LONG_LEAF: Duration = Duration::from_secs(398 * 86_400);

struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        severity: Severity,
        code: FindingCode,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(Finding { code, severity, what: what.into(), remedy: remedy.into() });
    }

    fn error(&mut self, code: FindingCode, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, code, what, remedy);
    }

    fn warning(&mut self, code: FindingCode, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, code, what, remedy);
    }

    fn notice(&mut self, code: FindingCode, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Notice, code, what, remedy);
    }

    fn version(&mut self, certificate: &Certificate) {
        let version = certificate.version();
        if version != 3 {
            self.error(
                FindingCode::OldVersion,
                format!(
                    "it is an X.509 version {version} certificate: no extensions, so no names and no usages, and modern TLS libraries refuse it"
                ),
                "re-issue it from the same request as version 3; with `openssl x509 -req` that takes -extfile with basicConstraints, keyUsage, extendedKeyUsage and subjectAltName",
            );
        }
    }

    fn validity(&mut self, certificate: &Certificate, context: LintContext) {
        let (begin, end, now) = (certificate.not_before(), certificate.not_after(), context.now);
        if end < begin {
            let what = format!("it ends ({end}) before it begins ({begin})");
            self.error(FindingCode::ValidityReversed, what, "re-issue it");
            return;
        }
        let life = Duration::try_from(end.duration_since(begin)).unwrap_or_default();
        let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
        if now > end {
            let what = format!("it expired at {end}, it is now {now}");
            self.error(FindingCode::Expired, what, "renew it");
        } else if now < begin {
            self.error(
                FindingCode::NotYetValid,
                format!("it is valid only from {begin}, it is now {now}"),
                "set the clock right here or where it was issued, or wait",
            );
        } else if left < life / 3 {
            let what = format!("less than a third of its life is left: it ends at {end}");
            self.warning(FindingCode::ExpiresSoon, what, "renew it now");
        }
        if context.purpose != Purpose::Ca && life > LONG_LEAF {
            let days = life.as_secs() / 86_400;
            self.warning(
                FindingCode::LongValidity,
                format!("it is valid for {days} days: a stolen key stays useful as long"),
                "issue leaves for days and renew them automatically",
            );
        }
    }

    fn key_and_signature(&mut self, certificate: &Certificate) {
        match certificate.public_key() {
            Ok(key) => {
                if let Some(weakness) = key.weakness() {
                    let severity =
                        if weakness.is_fatal() { Severity::Error } else { Severity::Warning };
                    self.add(
                        severity,
                        FindingCode::WeakKey,
                        weakness.to_string(),
                        "make a new key with other software, and re-issue it",
                    );
                }
            }
            Err(PublicKeyError::RsaSize { bits }) if bits < 2048 => self.error(
                FindingCode::WeakKey,
                format!("its RSA key has {bits} bits, which can be broken"),
                "make a key of 2048 bits or more, or ECDSA P-256, and re-issue it",
            ),
            Err(error) => self.error(
                FindingCode::UnsupportedKey,
                format!("its key ({}) cannot be used: {error}", certificate.key_algorithm()),
                "make a key that can, and re-issue it",
            ),
        }
        let algorithm = certificate.signature_algorithm();
        // Nobody checks the signature of a root on itself.
        if algorithm.is_broken() && !certificate.is_self_issued() {
            let what = format!("it is signed with {algorithm}, which can be forged");
            self.error(FindingCode::WeakSignature, what, "re-issue it with SHA-256");
        }
    }

    fn serial(&mut self, serial: &Serial) {
        let what = if serial.is_negative() {
            "negative"
        } else if serial.is_zero() {
            "zero"
        } else if serial.encoded_len() > Serial::MAX_OCTETS {
            "longer than 20 octets"
        } else {
            return;
        };
        self.warning(
            FindingCode::Serial,
            format!("its serial number ({serial}) is {what}, which RFC 5280 forbids"),
            "re-issue it with a positive random serial",
        );
    }

    fn defects(&mut self, certificate: &Certificate) {
        for defect in &certificate.extensions().defects {
            match defect {
                Defect::Duplicate(name) => {
                    let what = format!("the extension {name} stands in it twice");
                    self.error(FindingCode::DuplicateExtension, what, "re-issue it");
                }
                Defect::Malformed(name) => {
                    let what = format!("the extension {name} cannot be decoded");
                    self.error(FindingCode::MalformedExtension, what, "re-issue it");
                }
                Defect::MalformedName(name) => {
                    let what = format!("{name} among its subject alternative names is malformed");
                    self.error(FindingCode::MalformedName, what, "re-issue it");
                }
                Defect::UnknownCritical(name) => self.error(
                    FindingCode::UnknownCriticalExtension,
                    format!("it carries the critical extension {name}, which verifiers refuse"),
                    "re-issue it without",
                ),
            }
        }
    }

    fn authority(&mut self, certificate: &Certificate) {
        if !certificate.is_ca() {
            self.error(
                FindingCode::NotCa,
                "it is no CA certificate: CA:TRUE is missing",
                "use the certificate of the CA itself, or re-issue it with basicConstraints=critical,CA:TRUE",
            );
            return;
        }
        let constraints = certificate.extensions().basic_constraints;
        if constraints.is_some_and(|constraints| !constraints.critical) {
            self.warning(
                FindingCode::BasicConstraintsNotCritical,
                "its basic constraints are not critical, which strict verifiers refuse in a CA",
                "re-issue it with basicConstraints=critical,CA:TRUE",
            );
        }
        match certificate.key_usage() {
            Some(usage) if !usage.key_cert_sign() => self.error(
                FindingCode::KeyUsage,
                format!("its key usage ({usage}) lacks keyCertSign"),
                "re-issue it with keyUsage=critical,keyCertSign,cRLSign",
            ),
            Some(_) => self.key_usage_critical(certificate),
            None => self.warning(
                FindingCode::KeyUsage,
                "it states no key usage, which strict verifiers demand of a CA",
                "re-issue it with keyUsage=critical,keyCertSign,cRLSign",
            ),
        }
    }

    fn leaf(&mut self, certificate: &Certificate, purpose: Purpose) {
        if certificate.is_ca() {
            self.error(
                FindingCode::CaAsLeaf,
                "it is a CA certificate, which verifiers refuse in a handshake",
                "issue a leaf with it and use that",
            );
        }
        match certificate.key_usage() {
            Some(usage) if !usage.digital_signature() => self.error(
                FindingCode::KeyUsage,
                format!("its key usage ({usage}) lacks digitalSignature, which TLS 1.3 needs"),
                "re-issue it with keyUsage=critical,digitalSignature",
            ),
            Some(usage) if usage.key_cert_sign() && !certificate.is_ca() => self.error(
                FindingCode::KeyUsage,
                "its key usage allows it to sign certificates, though it is no CA",
                "re-issue it with keyUsage=critical,digitalSignature",
            ),
            Some(_) => self.key_usage_critical(certificate),
            None => {}
        }
        if certificate.is_self_issued() {
            self.warning(
                FindingCode::SelfSigned,
                "it is self-signed: each peer has to trust it one by one",
                "have it issued by a CA",
            );
        }
        self.usage(certificate, purpose);
        self.names(certificate, purpose);
    }

    fn key_usage_critical(&mut self, certificate: &Certificate) {
        if certificate.extensions().key_usage.is_some_and(|(_, critical)| !critical) {
            self.notice(
                FindingCode::KeyUsageNotCritical,
                "its key usage is not marked critical, as RFC 5280 asks",
                "re-issue it with keyUsage=critical,...",
            );
        }
    }

    fn usage(&mut self, certificate: &Certificate, purpose: Purpose) {
        let (needed, other) = match purpose {
            Purpose::Server => (Eku::ServerAuth, Eku::ClientAuth),
            _ => (Eku::ClientAuth, Eku::ServerAuth),
        };
        match certificate.extended_key_usage() {
            None => self.error(
                FindingCode::NoUsage,
                format!("it does not say what it may be used for; a {purpose} needs {needed}"),
                format!("re-issue it with extendedKeyUsage={needed}"),
            ),
            Some(stated) if stated.contains(&needed) => {
                if stated.contains(&other) {
                    self.warning(
                        FindingCode::ClientAndServer,
                        "it may act as client and as server: whoever steals it can do both",
                        format!("re-issue it with {needed} only"),
                    );
                }
            }
            Some(stated) if stated.contains(&Eku::Any) => self.error(
                FindingCode::AnyUsage,
                format!("it may be used for anything, which is not accepted in place of {needed}"),
                format!("re-issue it with extendedKeyUsage={needed}"),
            ),
            Some(stated) => {
                let stated: Vec<_> = stated.iter().map(ToString::to_string).collect();
                self.error(
                    FindingCode::WrongUsage,
                    format!("it may be used for {}, not for {needed}", stated.join(", ")),
                    format!("use another certificate, or re-issue it with {needed}"),
                );
            }
        }
    }

    fn names(&mut self, certificate: &Certificate, purpose: Purpose) {
        if let Err(error) = certificate.spiffe_id() {
            let code = FindingCode::Identity;
            match error {
                IdentityError::SeveralUris { .. } => {
                    self.error(code, error.to_string(), "leave exactly one URI name");
                }
                IdentityError::Malformed { .. } => {
                    self.error(code, error.to_string(), "re-issue it with a valid SPIFFE ID");
                }
            }
        }
        for name in certificate.dns_names() {
            if let Err(error) = name.parse::<crate::DnsName>() {
                let what = format!("a DNS name in it cannot be used: {error}");
                self.warning(FindingCode::MalformedName, what, "re-issue it without");
            }
        }
        let hosts = certificate.dns_names().len() + certificate.ip_addresses().len();
        if purpose == Purpose::Server && hosts == 0 {
            match certificate.common_name() {
                Some(name) => self.error(
                    FindingCode::NameOnlyInCommonName,
                    format!("its host name stands in the common name ({name:?}) only, where no client looks"),
                    "re-issue it with the host as DNS or IP subject alternative name",
                ),
                None => self.error(
                    FindingCode::NoSubjectAlternativeName,
                    "it names no host",
                    "re-issue it with the host as DNS or IP subject alternative name",
                ),
            }
        } else if hosts + certificate.uris().len() == 0 {
            self.notice(
                FindingCode::NoSubjectAlternativeName,
                "it carries no subject alternative name: only its common name tells who it is",
                "re-issue it with a SPIFFE ID if peers are to be told apart",
            );
        }
    }

    fn identifiers(&mut self, certificate: &Certificate) {
        if certificate.subject_key_id().is_none() && certificate.is_ca() {
            self.warning(
                FindingCode::NoSubjectKeyId,
                "it has no subject key identifier, which RFC 5280 demands of a CA",
                "re-issue it with subjectKeyIdentifier=hash",
            );
        }
        if certificate.authority_key_id().is_none() && !certificate.is_self_issued() {
            self.notice(
                FindingCode::NoAuthorityKeyId,
                "it has no authority key identifier: with two CAs of one name, verifiers must guess",
                "re-issue it with authorityKeyIdentifier=keyid",
            );
        } else if certificate.extensions().authority_by_serial {
            self.notice(
                FindingCode::NoAuthorityKeyId,
                "its authority key identifier also names the issuer's serial, which breaks when the CA is renewed",
                "re-issue it with authorityKeyIdentifier=keyid",
            );
        }
    }
}
