//! Material of another maker, in whatever files and order: sorted, put in order, and judged, with
//! everything that is wrong and what to do about it. Made by OpenSSL, cfssl, step, Vault, cert-manager,
//! keytool or by hand.
//!
//! Nothing is refused at the first fault: a person who mends files wants the whole list.

mod diagnosis;
mod pieces;

use jiff::Timestamp;

use crate::{
    Certificate, Chain, Credential, CredentialPem, Csr, Eku, Passphrase, PrivateKey, Purpose,
    Severity, TrustAnchors,
};

use pieces::Pieces;

/// One file, as it was read.
#[derive(Clone, Copy)]
pub struct ImportFile<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// Its content.
    pub bytes: &'a [u8],
}

/// Something to be said about the files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remark {
    /// A stable code: one of those of [`crate::FindingCode`], or of an import.
    pub code: &'static str,
    /// How bad it is. With an error the material cannot be used.
    pub severity: Severity,
    /// The file or certificate it is about.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// What the files hold, put together as far as that is possible.
#[derive(Clone, Debug)]
pub struct Import {
    /// The leaf and what signed it, leaf first, without the anchor.
    pub chain: Option<Chain>,
    /// The key of the leaf.
    pub key: Option<PrivateKey>,
    /// The CA certificates that the chain leads up to.
    pub anchors: Option<TrustAnchors>,
    /// A certificate request, from which the certificate can be issued anew.
    pub request: Option<Csr>,
    /// Certificates that have nothing to do with the leaf.
    pub unused: Vec<Certificate>,
    /// What the material is for, by its own account.
    pub purpose: Purpose,
    /// Everything to be said, worst first.
    pub remarks: Vec<Remark>,
}

impl Import {
    /// Reads the files. `purpose` is what the material is wanted for, if that is known; `passphrase`
    /// opens encrypted keys and PKCS#12 files.
    pub fn read(
        files: &[ImportFile<'_>],
        passphrase: Option<&Passphrase>,
        purpose: Option<Purpose>,
        now: Timestamp,
    ) -> Self {
        let mut pieces = Pieces::default();
        for file in files {
            pieces.add(file, passphrase);
        }
        let mut import = Self::assemble(pieces);
        if let Some(purpose) = purpose {
            import.purpose = purpose;
        }
        import.diagnose(now);
        import.remarks.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.code.cmp(b.code)));
        import.remarks.dedup();
        import
    }

    /// Whether it can be used for its purpose: nothing is missing, and nothing is an error.
    pub fn is_usable(&self) -> bool {
        let complete = self.chain.is_some()
            && self.anchors.is_some()
            && (self.key.is_some() || self.purpose == Purpose::Ca);
        complete && !self.remarks.iter().any(|remark| remark.severity == Severity::Error)
    }

    /// Chain, key and anchors as one, if all are there and the key is the leaf's.
    pub fn credential(&self) -> Option<Credential> {
        let (chain, key, anchors) = (self.chain.clone()?, self.key.clone()?, self.anchors.clone()?);
        Credential::new(chain, key, anchors).ok()
    }

    /// The contents of `tls.crt`, `tls.key` and `ca.crt`: PEM, in order, the key as PKCS#8. A CA may be
    /// without its key (the field is empty then): it can be trusted, and sign nothing.
    pub fn to_pem(&self) -> Option<CredentialPem> {
        let (chain, anchors) = (self.chain.as_ref()?, self.anchors.as_ref()?);
        Some(CredentialPem {
            tls_crt: chain.to_pem(),
            tls_key: self.key.as_ref().map(PrivateKey::to_pkcs8_pem).unwrap_or_default(),
            ca_crt: anchors.to_pem(),
        })
    }

    fn assemble(pieces: Pieces) -> Self {
        let Pieces { certificates, keys, requests, mut remarks } = pieces;
        let mut certificates: Vec<(String, Certificate)> = certificates;
        let leaf = choose_leaf(&certificates, &keys, &mut remarks);
        let mut import = Self {
            chain: None,
            key: None,
            anchors: None,
            request: requests.into_iter().next().map(|(_, request)| request),
            unused: Vec::new(),
            purpose: Purpose::Server,
            remarks,
        };
        let Some(leaf) = leaf else {
            import.key = keys.into_iter().next().map(|(_, key)| key);
            import.unused = certificates.into_iter().map(|(_, certificate)| certificate).collect();
            return import;
        };
        let given: Vec<Certificate> = certificates.iter().map(|(_, one)| one.clone()).collect();
        certificates.retain(|(_, certificate)| *certificate != leaf);
        import.key =
            keys.into_iter().find(|(_, key)| key.spki_der() == leaf.spki_der()).map(|(_, key)| key);
        import.purpose = intended(&leaf);

        // Upwards, as far as the files go.
        let mut path = vec![leaf.clone()];
        while let Some(last) = path.last()
            && !last.is_self_signed()
            && path.len() <= Chain::MAX_LEN
        {
            let above = certificates.iter().position(|(_, candidate)| {
                last.names_issuer(candidate)
                    && last.verify_signed_by(candidate).is_ok()
                    && !path.contains(candidate)
            });
            let Some(index) = above else { break };
            path.push(certificates.remove(index).1);
        }
        import.order(&given, &path);
        import.place(path, certificates.into_iter().map(|(_, certificate)| certificate).collect());
        import
    }

    /// Makes chain and anchors of the way up.
    fn place(&mut self, mut path: Vec<Certificate>, mut rest: Vec<Certificate>) {
        let top_signs_itself = path.last().is_some_and(Certificate::is_self_signed);
        // Several roots may be given on purpose: two generations of one CA.
        let roots: Vec<Certificate> =
            rest.extract_if(.., |other| other.is_ca() && other.is_self_signed()).collect();
        let mut anchors: Option<TrustAnchors> = None;
        let mut trust = |certificate: Certificate| {
            anchors = Some(match anchors.take() {
                Some(known) => known.with(certificate),
                None => TrustAnchors::new(certificate),
            });
        };
        if path.len() > 1 {
            // The topmost is what is trusted; if it is no root, that is said.
            if let Some(top) = path.last() {
                trust(top.clone());
            }
            if top_signs_itself {
                path.pop();
            }
        } else if top_signs_itself && let Some(only) = path.first() {
            trust(only.clone());
        }
        for root in roots {
            let related = path.iter().any(|certificate| certificate.names_issuer(&root));
            if related || path.iter().any(Certificate::is_ca) {
                trust(root);
            } else {
                rest.push(root);
            }
        }
        self.anchors = anchors;
        self.unused = rest;
        let mut path = path.into_iter();
        if let Some(leaf) = path.next() {
            self.chain = Some(Chain::new(leaf, path.collect()));
        }
    }

    fn order(&mut self, given: &[Certificate], path: &[Certificate]) {
        let mut wanted = given.iter().filter(|certificate| path.contains(certificate));
        if path.iter().all(|certificate| wanted.next() == Some(certificate)) {
            return;
        }
        self.remarks.push(Remark {
            code: "wrong-order",
            severity: Severity::Notice,
            place: "the certificates".to_owned(),
            what: "they do not stand in the order in which they sign each other".to_owned(),
            remedy: "nothing: they are written in order, the leaf first".to_owned(),
        });
    }
}

/// What a certificate says it is for.
fn intended(leaf: &Certificate) -> Purpose {
    let usages = leaf.extended_key_usage().unwrap_or_default();
    let names_hosts = !leaf.dns_names().is_empty() || !leaf.ip_addresses().is_empty();
    if leaf.is_ca() {
        Purpose::Ca
    } else if usages.contains(&Eku::ServerAuth) || (usages.is_empty() && names_hosts) {
        Purpose::Server
    } else if usages.contains(&Eku::ClientAuth) || usages.is_empty() {
        Purpose::Client
    } else {
        Purpose::Server
    }
}

/// The certificate that everything is about: the one the key belongs to, else the one that signed none
/// of the others.
fn choose_leaf(
    certificates: &[(String, Certificate)],
    keys: &[(String, PrivateKey)],
    remarks: &mut Vec<Remark>,
) -> Option<Certificate> {
    let mut matching: Vec<&Certificate> = certificates
        .iter()
        .map(|(_, certificate)| certificate)
        .filter(|certificate| keys.iter().any(|(_, key)| key.spki_der() == certificate.spki_der()))
        .collect();
    // A leaf before a CA, the newest first: what was renewed with the same key may be there twice.
    matching.sort_by_key(|certificate| {
        (certificate.is_ca(), std::cmp::Reverse(certificate.not_after()))
    });
    if let Some(leaf) = matching.first() {
        if matching.len() > 1 {
            remarks.push(Remark {
                code: "several-certificates",
                severity: Severity::Warning,
                place: leaf.subject().to_owned(),
                what: format!("{} certificates belong to the keys", matching.len()),
                remedy: "the leaf that lives longest is taken; give one credential at a time to choose another"
                    .to_owned(),
            });
        }
        return Some((*leaf).clone());
    }
    let leaf = certificates
        .iter()
        .map(|(_, certificate)| certificate)
        .filter(|one| {
            !certificates
                .iter()
                .any(|(_, other)| other != *one && other.verify_signed_by(one).is_ok())
        })
        .min_by_key(|one| one.is_ca())
        .cloned();
    if let (Some(leaf), Some((file, _))) = (&leaf, keys.first()) {
        let subjects: Vec<String> =
            certificates.iter().map(|(_, one)| format!("{:?}", one.subject())).take(4).collect();
        remarks.push(Remark {
            code: "key-mismatch",
            severity: Severity::Error,
            place: file.clone(),
            what: format!(
                "the private key belongs to none of the certificates ({}); the leaf is {:?}",
                subjects.join(", "),
                leaf.subject()
            ),
            remedy: "give the key that was made with the certificate, or have the certificate issued anew for this key"
                .to_owned(),
        });
    }
    leaf
}
