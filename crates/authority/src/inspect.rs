//! Reading what the store holds into facts, and judging what the user supplied.
//!
//! What is ours only has to be readable; what is the user's is checked for everything that would
//! make it fail in use, so that the fault is told before a peer finds it.

use std::collections::BTreeSet;

use handfast_pki::{
    Certificate, CertificateId, Chain, Credential, CredentialError, Csr, Host, Issuer, LintContext,
    PrivateKey, Profile, Purpose, Severity, SigningKey, TrustAnchors, lint, verify_chain,
};
use handfast_store::{Kind, Source, Stored, StoredFault};
use jiff::Timestamp;

use crate::desired::DesiredCredential;
use crate::keyring::{KeyPlace, KeySecrets, Keyring, is_locked};
use crate::making::key_digest;
use crate::observed::{Current, Facts, Staged, Warning};

/// A stored credential, judged; with the value itself if it can be used.
pub(crate) struct Inspected {
    pub(crate) current: Current,
    pub(crate) credential: Option<Credential>,
}

/// Judges what is current under a name.
///
/// `wanted` is what it is needed for; without it, it is only read.
pub(crate) fn current(
    stored: &Stored,
    wanted: Option<&DesiredCredential>,
    keys: &Keyring,
    now: Timestamp,
) -> Inspected {
    match stored.kind {
        Kind::Certificate => certificate(stored, wanted, keys, now),
        Kind::Issuer => Inspected { current: issuer(stored, keys, now), credential: None },
    }
}

/// What is staged under a name.
pub(crate) fn staged(stored: &Stored, keys: &Keyring) -> Staged {
    let key = stored.pem.tls_key.as_ref().map(|key| keys.open(key));
    if matches!(&key, Some(Err(error)) if is_locked(error)) {
        return Staged::Locked;
    }
    if let Ok(credential) = stored.credential_opened_by(|key| keys.open(key)) {
        let place = KeyPlace::of(stored);
        return Staged::Complete(Box::new(facts(credential.chain(), credential.anchors(), place)));
    }
    match pending(stored, keys) {
        Some(_) => Staged::Request,
        None => Staged::Unreadable,
    }
}

/// A key that waits for its certificate, and what it was asked for with.
pub(crate) struct Pending {
    pub(crate) key: PrivateKey,
    pub(crate) csr_pem: String,
    /// The anchors that the answer must lead to, PEM.
    pub(crate) anchors: TrustAnchors,
}

impl Pending {
    /// Whether it is a first enrolment, in which the other site says who we are: a renewal asks for
    /// the identity that we have.
    pub(crate) fn is_first(&self) -> bool {
        Csr::from_pem(self.csr_pem.as_bytes()).is_ok_and(|csr| csr.subject().identity.is_none())
    }
}

/// Reads a staged request: the request stands where the certificate will.
pub(crate) fn pending(stored: &Stored, keys: &Keyring) -> Option<Pending> {
    let csr_pem = String::from_utf8(stored.pem.tls_crt.clone()?).ok()?;
    if !csr_pem.starts_with("-----BEGIN CERTIFICATE REQUEST-----") {
        return None;
    }
    let key = keys.open(stored.pem.tls_key.as_ref()?).ok()?;
    let anchors = TrustAnchors::from_pem(stored.pem.ca_crt.as_deref()?).ok()?;
    Some(Pending { key, csr_pem, anchors })
}

/// Why an issuer cannot sign.
pub(crate) struct SignerFault {
    pub(crate) what: String,
    /// What to do, where that is about the key alone: nothing is known to be wrong with the rest.
    pub(crate) locked: Option<&'static str>,
}

impl From<String> for SignerFault {
    fn from(what: String) -> Self {
        Self { what, locked: None }
    }
}

/// Reads an issuer that can sign.
pub(crate) fn signer(stored: &Stored, keys: &Keyring) -> Result<Issuer, SignerFault> {
    let (chain, anchors) = issuer_chain(stored)?;
    let directory = stored.directory.display();
    let key: SigningKey = match (&stored.pem.tls_key, &stored.pem.pkcs11_uri) {
        (None, None) => {
            let what = format!("`{directory}` has no tls.key, so it can be trusted but not sign");
            return Err(what.into());
        }
        (Some(_), Some(_)) => {
            return Err(format!(
                "`{directory}` has both tls.key and pkcs11.uri, and it is not clear which signs: \
                 take one away"
            )
            .into());
        }
        (Some(bytes), None) => {
            keys.open(bytes).map_err(|error| key_fault(stored, keys, &error))?.into()
        }
        (None, Some(uri)) => in_token(stored, keys, uri, chain.leaf())?.into(),
    };
    Issuer::from_parts(chain, key, anchors)
        .map_err(|error| format!("`{directory}`: {error}").into())
}

fn in_token(
    stored: &Stored,
    keys: &Keyring,
    uri: &[u8],
    ca: &Certificate,
) -> Result<std::sync::Arc<dyn handfast_pki::Signer>, SignerFault> {
    let at = format!("`{}/pkcs11.uri`", stored.directory.display());
    let uri = std::str::from_utf8(uri).map_err(|_| format!("{at} is not text"))?.trim();
    let expected = ca.public_key().map_err(|error| format!("{at}: {error}"))?;
    keys.token(uri, &stored.directory, &expected)
        .map_err(|what| SignerFault { what: format!("{at}: {what}"), locked: Some(TOKEN_REMEDY) })
}

fn key_fault(stored: &Stored, keys: &Keyring, error: &handfast_pki::KeyError) -> SignerFault {
    let at = format!("`{}/tls.key`", stored.directory.display());
    if !is_locked(error) {
        return format!("{at}: {error}").into();
    }
    let what = match keys.secrets() {
        KeySecrets::None => format!("{at} is encrypted, and the node was given no key secret"),
        KeySecrets::Unavailable(why) => {
            format!("{at} is encrypted, and the key secret cannot be had: {why}")
        }
        KeySecrets::Given(_) => {
            format!(
                "{at} is encrypted, and the key secret that the node was given does not open it"
            )
        }
    };
    SignerFault { what, locked: Some(SECRET_REMEDY) }
}

/// The facts of a chain.
pub(crate) fn facts(chain: &Chain, anchors: &TrustAnchors, key: KeyPlace) -> Facts {
    let leaf = chain.leaf();
    // An anchor before what was sent along: of a CA and its cross certificate, the CA counts.
    let signer = anchors
        .iter()
        .chain(chain.rest())
        .find(|candidate| leaf.verify_signed_by(candidate).is_ok());
    Facts {
        fingerprint: leaf.fingerprint(),
        serial: leaf.serial().to_string(),
        issuer: leaf.issuer().to_owned(),
        identity: leaf.spiffe_id().ok().flatten(),
        common_name: leaf.common_name().map(ToOwned::to_owned),
        dns: leaf.dns_names().iter().filter_map(|name| name.parse().ok()).collect(),
        ips: leaf.ip_addresses().iter().copied().collect(),
        not_before: leaf.not_before(),
        not_after: leaf.not_after(),
        id: signer.map(|signer| CertificateId::of(leaf, signer)),
        revoked: None,
        signer: signer.map(Certificate::fingerprint),
        signer_key: signer.map(|signer| key_digest(signer.spki_der())),
        anchors: anchors.iter().map(Certificate::fingerprint).collect(),
        can_sign: key != KeyPlace::Absent,
        key,
    }
}

fn certificate(
    stored: &Stored,
    wanted: Option<&DesiredCredential>,
    keys: &Keyring,
    now: Timestamp,
) -> Inspected {
    let place = KeyPlace::of(stored);
    let credential = match stored.credential_opened_by(|key| keys.open(key)) {
        Ok(credential) => credential,
        Err(StoredFault::Unusable { source: CredentialError::Key(error), .. })
            if is_locked(&error) =>
        {
            let fault = key_fault(stored, keys, &error);
            let current = match issuer_chain(stored) {
                Ok((chain, anchors)) => locked(stored, fault, facts(&chain, &anchors, place)),
                Err(what) => broken(stored, what, None),
            };
            return Inspected { current, credential: None };
        }
        Err(fault) => {
            let current = broken(stored, fault.to_string(), None);
            return Inspected { current, credential: None };
        }
    };
    let facts = facts(credential.chain(), credential.anchors(), place);
    let mut warnings = Vec::new();
    if stored.source == Source::Supplied
        && let Some(wanted) = wanted
    {
        match judge(&credential, wanted, now) {
            Ok(found) => warnings = found,
            Err(what) => {
                let what = format!("`{}`: {what}", stored.directory.display());
                let current = broken(stored, what, Some(facts));
                return Inspected { current, credential: None };
            }
        }
    }
    let current = Current::Usable { source: stored.source, facts: Box::new(facts), warnings };
    Inspected { current, credential: Some(credential) }
}

fn issuer(stored: &Stored, keys: &Keyring, now: Timestamp) -> Current {
    let (chain, anchors) = match issuer_chain(stored) {
        Ok(parts) => parts,
        Err(what) => return broken(stored, what, None),
    };
    let supplied = stored.source == Source::Supplied;
    let place = KeyPlace::of(stored);
    let facts = facts(&chain, &anchors, place);
    // An issuer without its key is an error for ours, a choice for the user's (an offline root).
    if (place != KeyPlace::Absent || !supplied)
        && let Err(fault) = signer(stored, keys)
    {
        return match fault.locked {
            Some(_) => locked(stored, fault, facts),
            None => broken(stored, fault.what, Some(facts)),
        };
    }
    if supplied && let Err(error) = verify_chain(&chain, &anchors, Purpose::Ca, now) {
        let what = format!("`{}`: {error}", stored.directory.display());
        return broken(stored, what, Some(facts));
    }
    Current::Usable { source: stored.source, facts: Box::new(facts), warnings: Vec::new() }
}

/// The chain and anchors of an issuer; a self-signed one may come without `ca.crt`.
pub(crate) fn issuer_chain(stored: &Stored) -> Result<(Chain, TrustAnchors), String> {
    let at = |file: &str| format!("`{}/{file}`", stored.directory.display());
    let text =
        stored.pem.tls_crt.as_deref().ok_or_else(|| format!("{} is missing", at("tls.crt")))?;
    let chain = Chain::from_pem(text).map_err(|error| format!("{}: {error}", at("tls.crt")))?;
    let anchors = match stored.pem.ca_crt.as_deref() {
        Some(text) => TrustAnchors::from_pem(text),
        None => TrustAnchors::from_pem(chain.to_pem().as_bytes()),
    };
    let anchors = anchors.map_err(|error| format!("{}: {error}", at("ca.crt")))?;
    Ok((chain, anchors))
}

/// Whether a supplied certificate will do for what it is needed for, and what is not ideal.
fn judge(
    credential: &Credential,
    wanted: &DesiredCredential,
    now: Timestamp,
) -> Result<Vec<Warning>, String> {
    let leaf = credential.leaf();
    let purpose = purpose(wanted.profile);
    verify_chain(credential.chain(), credential.anchors(), purpose, now)
        .map_err(|error| error.to_string())?;
    leaf.spiffe_id().map_err(|error| error.to_string())?;

    let mut warnings = Vec::new();
    if wanted.profile.is_server() {
        let uncovered = uncovered(leaf, wanted);
        if !uncovered.is_empty() && uncovered.len() == wanted_hosts(wanted).count() {
            return Err(format!(
                "the certificate is for {}, and none of the declared hosts is among them ({})",
                presented(leaf),
                uncovered.join(", ")
            ));
        }
        if !uncovered.is_empty() {
            warnings.push(Warning {
                what: format!(
                    "the supplied certificate does not cover {}, so peers that dial it refuse",
                    uncovered.join(", ")
                ),
                remedy:
                    "Re-issue it with these as subject alternative names (IP addresses as IP), \
                         or take the hosts out of the resource."
                        .to_owned(),
            });
        }
    }
    let findings = lint(leaf, LintContext { purpose, now });
    warnings.extend(
        findings
            .into_iter()
            .filter(|finding| finding.severity >= Severity::Warning)
            .map(|finding| Warning { what: finding.what, remedy: finding.remedy }),
    );
    Ok(warnings)
}

/// What a certificate of this profile is shown for.
pub(crate) fn purpose(profile: Profile) -> Purpose {
    if profile.is_ca() {
        Purpose::Ca
    } else if profile.is_server() {
        Purpose::Server
    } else {
        Purpose::Client
    }
}

fn wanted_hosts(wanted: &DesiredCredential) -> impl Iterator<Item = Host> + '_ {
    let dns = wanted.subject.dns.iter().cloned().map(Host::Dns);
    dns.chain(wanted.subject.ips.iter().copied().map(Host::Ip))
}

/// The wanted hosts that no SAN covers, in text.
fn uncovered(leaf: &Certificate, wanted: &DesiredCredential) -> Vec<String> {
    let names: BTreeSet<String> =
        leaf.dns_names().iter().map(|name| name.to_ascii_lowercase()).collect();
    wanted_hosts(wanted)
        .filter(|host| match host {
            Host::Dns(name) => {
                // A wildcard stands for exactly one label, the leftmost (RFC 9525 section 6.3).
                let wildcard =
                    name.as_str().split_once('.').map(|(_, parent)| format!("*.{parent}"));
                !names.contains(name.as_str())
                    && !wildcard.is_some_and(|wildcard| names.contains(&wildcard))
            }
            Host::Ip(ip) => !leaf.ip_addresses().contains(ip),
        })
        .map(|host| host.to_string())
        .collect()
}

fn presented(leaf: &Certificate) -> String {
    let names: Vec<String> = leaf
        .dns_names()
        .iter()
        .cloned()
        .chain(leaf.ip_addresses().iter().map(ToString::to_string))
        .collect();
    if names.is_empty() { "no host at all".to_owned() } else { names.join(", ") }
}

fn locked(stored: &Stored, fault: SignerFault, facts: Facts) -> Current {
    Current::Locked {
        source: stored.source,
        what: fault.what,
        remedy: fault.locked.unwrap_or(SECRET_REMEDY).to_owned(),
        facts: Box::new(facts),
    }
}

const SECRET_REMEDY: &str = "Give the node the secret that the key was encrypted with: the systemd \
     credential `handfast-key`, `handfast run --key-file FILE` (HANDFAST_KEY_FILE) or HANDFAST_KEY. \
     Until then it signs nothing with this key, and makes no other in its place.";
const TOKEN_REMEDY: &str = "What was signed before goes on serving; nothing new is signed until the \
     token answers. It is tried again by itself.";

fn broken(stored: &Stored, what: String, facts: Option<Facts>) -> Current {
    let remedy = match stored.source {
        Source::Managed => {
            "It is made anew as soon as its signer can; look for a failing disk.".to_owned()
        }
        Source::Supplied => format!(
            "Correct the files in `{}`, or remove that directory to have the credential made here; \
             the change is noticed at once.",
            stored.directory.display()
        ),
    };
    Current::Broken { source: stored.source, what, remedy, facts: facts.map(Box::new) }
}
