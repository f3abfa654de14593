//! What lies in a file, whatever its encoding: PEM with several sections, DER, PKCS#12; and the names of
//! the encodings that are none of these.

use super::{ImportFile, Remark};
use crate::pem::{self, Section};
use crate::{
    Certificate, CertificateError, Csr, Encryption, KeyError, Passphrase, Pkcs12, Pkcs12Error,
    PrivateKey, Severity,
};

/// Everything found, with the file it was found in.
#[derive(Default)]
pub(super) struct Pieces {
    pub(super) certificates: Vec<(String, Certificate)>,
    pub(super) keys: Vec<(String, PrivateKey)>,
    pub(super) requests: Vec<(String, Csr)>,
    pub(super) remarks: Vec<Remark>,
}

impl Pieces {
    pub(super) fn add(&mut self, file: &ImportFile<'_>, passphrase: Option<&Passphrase>) {
        if Pkcs12::is_one(file.bytes) {
            self.pkcs12(file, passphrase);
        } else if pem::is_der(file.bytes) {
            self.der(file, passphrase);
        } else if let Some((what, remedy)) = known_stranger(file.bytes, file.name) {
            self.error("unreadable", file.name, what.to_owned(), remedy);
        } else {
            self.pem(file, passphrase);
        }
    }

    fn pem(&mut self, file: &ImportFile<'_>, passphrase: Option<&Passphrase>) {
        let sections = match pem::sections(file.bytes) {
            Ok(sections) => sections,
            Err(error) => {
                self.error("unreadable", file.name, error.to_string(), String::new());
                return;
            }
        };
        if sections.is_empty() {
            self.error(
                "unreadable",
                file.name,
                "it holds no -----BEGIN line, and is neither DER nor PKCS#12".to_owned(),
                "give the file with the certificate or the key; `file NAME` may tell what this one is"
                    .to_owned(),
            );
        }
        if file.bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
            self.notice(
                "byte-order-mark",
                file.name,
                "it begins with a byte order mark, which OpenSSL stumbles over",
            );
        }
        if file.bytes.windows(2).any(|pair| pair == b"\r\n") {
            self.notice("crlf", file.name, "its lines end as on Windows");
        }
        for section in &sections {
            self.section(file.name, section, passphrase);
        }
    }

    fn section(&mut self, name: &str, section: &Section, passphrase: Option<&Passphrase>) {
        let place = format!("{name}:{}", section.line);
        match section.label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" => self.certificate(&place, &section.der),
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => self.request(&place, &section.der),
            "TRUSTED CERTIFICATE" => self.error(
                "unreadable",
                &place,
                "it is a certificate in OpenSSL's own format, with trust settings".to_owned(),
                format!("convert it: openssl x509 -in {name} -out {name}.crt"),
            ),
            "PKCS7" | "CMS" => self.error(
                "unreadable",
                &place,
                "it is PKCS#7".to_owned(),
                format!("convert it: openssl pkcs7 -print_certs -in {name} -out {name}.crt"),
            ),
            label if label.ends_with("PRIVATE KEY") => self.key(name, &place, section, passphrase),
            // Parameters, public keys and CRLs may share the file, and change nothing.
            label => {
                let what = format!("its section {label} is not needed, and left out");
                self.notice("unused-section", &place, &what);
            }
        }
    }

    fn key(&mut self, name: &str, place: &str, section: &Section, passphrase: Option<&Passphrase>) {
        if section.legacy_encrypted {
            self.error(
                "encrypted-key",
                place,
                "the key is encrypted as OpenSSL did it long ago (Proc-Type: 4,ENCRYPTED)"
                    .to_owned(),
                format!("convert it: openssl pkcs8 -topk8 -in {name} -out {name}.p8"),
            );
            return;
        }
        if section.label == "OPENSSH PRIVATE KEY" {
            self.error(
                "unreadable",
                place,
                "it is a key of OpenSSH".to_owned(),
                format!("convert a copy of it: ssh-keygen -p -m PKCS8 -f {name}"),
            );
            return;
        }
        let text = pem::encode(&section.label, &section.der);
        match PrivateKey::from_pem(text.as_bytes(), passphrase) {
            Ok(key) => {
                if section.label != "PRIVATE KEY" {
                    let kind = match section.label.as_str() {
                        "EC PRIVATE KEY" => "SEC 1",
                        "RSA PRIVATE KEY" => "PKCS#1",
                        _ => "encrypted PKCS#8",
                    };
                    let what = format!(
                        "the key is {kind}; it is written as PKCS#8, which every agent reads"
                    );
                    self.notice("key-encoding", place, &what);
                }
                self.keys.push((place.to_owned(), key));
            }
            Err(error) => self.bad_key(place, &error),
        }
    }

    fn bad_key(&mut self, place: &str, error: &KeyError) {
        let (code, remedy) = match error {
            KeyError::PassphraseNeeded | KeyError::WrongPassphrase => {
                ("encrypted-key", "name the file that holds the passphrase: --passphrase-file FILE")
            }
            KeyError::PublicKey(_) | KeyError::Unsupported { .. } => {
                ("unusable-key", "make a new key, and have the certificate issued anew for it")
            }
            _ => ("unreadable", "take it again from its source"),
        };
        self.error(code, place, error.to_string(), remedy.to_owned());
    }

    fn der(&mut self, file: &ImportFile<'_>, passphrase: Option<&Passphrase>) {
        match Certificate::from_der(file.bytes) {
            Ok(_) => return self.certificate(file.name, file.bytes),
            Err(CertificateError::TrailingData { octets }) => {
                let kept = file.bytes.len().saturating_sub(octets);
                let what = format!("{octets} octets follow the certificate; they are left out");
                self.notice("trailing-garbage", file.name, &what);
                return self.certificate(file.name, file.bytes.get(..kept).unwrap_or_default());
            }
            Err(_) => {}
        }
        if let Ok(request) = Csr::from_der(file.bytes) {
            self.requests.push((file.name.to_owned(), request));
            return;
        }
        match PrivateKey::from_der(file.bytes, passphrase) {
            Ok(key) => self.keys.push((file.name.to_owned(), key)),
            Err(KeyError::Malformed) => self.error(
                "unreadable",
                file.name,
                "it is DER, and neither a certificate, a key, a request nor PKCS#12".to_owned(),
                format!("look what it is: openssl asn1parse -inform DER -in {}", file.name),
            ),
            Err(error) => self.bad_key(file.name, &error),
        }
    }

    fn pkcs12(&mut self, file: &ImportFile<'_>, passphrase: Option<&Passphrase>) {
        let none = Passphrase::new("");
        match Pkcs12::read(file.bytes, passphrase.unwrap_or(&none)) {
            Ok(read) => {
                if read.encryption == Some(Encryption::Legacy) {
                    self.warning(
                        "legacy-encryption",
                        file.name,
                        "it is encrypted with 3DES or RC2 and a key from SHA-1: its passphrase can be tried fast",
                        "delete it once the import is done, or make it anew: handfast cert export NAME --format pkcs12",
                    );
                }
                let named = |certificate| (file.name.to_owned(), certificate);
                self.certificates.extend(read.certificates.into_iter().map(named));
                self.keys.extend(read.keys.into_iter().map(|key| (file.name.to_owned(), key)));
            }
            Err(Pkcs12Error::WrongPassphrase) => self.error(
                "encrypted-key",
                file.name,
                if passphrase.is_some() {
                    Pkcs12Error::WrongPassphrase.to_string()
                } else {
                    "it is a PKCS#12 file with a passphrase".to_owned()
                },
                "name the file that holds the passphrase: --passphrase-file FILE".to_owned(),
            ),
            Err(error) => self.error("unreadable", file.name, error.to_string(), String::new()),
        }
    }

    fn certificate(&mut self, place: &str, der: &[u8]) {
        match Certificate::from_der(der) {
            Ok(certificate) => {
                if self.certificates.iter().any(|(_, known)| *known == certificate) {
                    return;
                }
                if self.certificates.len() >= MAX_CERTIFICATES {
                    let what = format!("more than {MAX_CERTIFICATES} certificates are given");
                    self.error("too-many", place, what, "give one credential at a time".to_owned());
                    return;
                }
                self.certificates.push((place.to_owned(), certificate));
            }
            Err(error) => self.error("unreadable", place, error.to_string(), String::new()),
        }
    }

    fn request(&mut self, place: &str, der: &[u8]) {
        match Csr::from_der(der) {
            Ok(request) => self.requests.push((place.to_owned(), request)),
            // A request is only of use for issuing anew.
            Err(error) => self.warning("bad-request", place, &error.to_string(), "make a new one"),
        }
    }

    fn error(&mut self, code: &'static str, place: &str, what: String, remedy: String) {
        self.say(Severity::Error, code, place, what, remedy);
    }

    fn warning(&mut self, code: &'static str, place: &str, what: &str, remedy: &str) {
        self.say(Severity::Warning, code, place, what.to_owned(), remedy.to_owned());
    }

    fn notice(&mut self, code: &'static str, place: &str, what: &str) {
        self.say(Severity::Notice, code, place, what.to_owned(), String::new());
    }

    fn say(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: &str,
        what: String,
        remedy: String,
    ) {
        self.remarks.push(Remark { code, severity, place: place.to_owned(), what, remedy });
    }
}

/// Formats that are recognised by their first octets, and not read.
fn known_stranger(bytes: &[u8], name: &str) -> Option<(&'static str, String)> {
    let keytool = |kind: &str| {
        format!(
            "convert it: keytool -importkeystore -srckeystore {name} -srcstoretype {kind} -destkeystore {name}.p12 -deststoretype PKCS12"
        )
    };
    match bytes {
        [0xfe, 0xed, 0xfe, 0xed, ..] => Some(("it is a Java key store (JKS)", keytool("JKS"))),
        [0xce, 0xce, 0xce, 0xce, ..] => Some(("it is a Java key store (JCEKS)", keytool("JCEKS"))),
        [b'S', b'S', b'H', ..] | [b's', b's', b'h', b'-', ..] => Some((
            "it is a public key of SSH",
            "give the private key and the certificate".to_owned(),
        )),
        _ => None,
    }
}

/// The most certificates taken from all files together.
const MAX_CERTIFICATES: usize = 512;
