//! Everything of a configuration as digests: resources, policies, supplied credentials, and what cannot
//! be used of them.

use std::fs;
use std::io;
use std::path::Path;

use handfast_api::access::{PolicyFault, PolicyFile};
use handfast_api::configuration::{Change, InForce, Part};
use handfast_api::resources::{ResourceFault, Resources, Severity};
use handfast_authority::{ProblemCode, Report};
use handfast_store::{HomePaths, Kind, read_bounded};
use zeroize::Zeroizing;

use super::super::access::PreparedPolicies;

/// The configuration as it would be in force; `known` is the one that is.
pub(super) fn survey(
    home: &HomePaths,
    known: &InForce,
    resources: &Resources,
    faults: &[ResourceFault],
    policies: &PreparedPolicies,
    report: Option<&Report>,
) -> InForce {
    let mut now = InForce::default();
    resources.fingerprint(&mut now);
    for fault in faults.iter().filter(|fault| fault.severity == Severity::Error) {
        let subject = match (fault.kind, &fault.name) {
            (Some(kind), Some(name)) => format!("{kind}/{name}"),
            _ => name_of(&fault.file),
        };
        now.refuse(&subject, &fault.file, fault.line, &fault.what);
    }
    match policies {
        PreparedPolicies::Same(sources) | PreparedPolicies::New(_, sources) => {
            policy_files(home, &sources.files, &mut now);
        }
        PreparedPolicies::Nothing => stay(known, &mut now),
        PreparedPolicies::Stay(faults) => {
            stay(known, &mut now);
            for fault in faults {
                refuse_policies(home, resources, fault, &mut now);
            }
        }
    }
    for kind in [Kind::Certificate, Kind::Issuer] {
        supplied(home.supplied(kind), prefix(kind), &mut now);
    }
    broken_credentials(known, report, &mut now);
    now
}

/// Leaves out what is not in `known` just as it is in `now`.
pub(super) fn retain(resources: &mut Resources, known: &InForce, now: &InForce) {
    let sha256 = |in_force: &InForce, subject: &str| {
        in_force.parts.get(subject).map(|part| part.sha256.clone())
    };
    resources.retain(|kind, name| {
        let subject = format!("{kind}/{name}");
        sha256(known, &subject) == sha256(now, &subject)
    });
}

/// Whether it is about a supplied credential that is there, not about one that is not used.
pub(super) fn is_credential(change: &Change) -> bool {
    !change.is_refusal() && is_supplied(&change.subject)
}

fn is_supplied(subject: &str) -> bool {
    [Kind::Certificate, Kind::Issuer].iter().any(|kind| subject.starts_with(prefix(*kind)))
}

fn prefix(kind: Kind) -> &'static str {
    match kind {
        Kind::Certificate => "certs/",
        Kind::Issuer => "issuers/",
    }
}

/// Policies that were good last stay in force.
fn stay(known: &InForce, now: &mut InForce) {
    now.leave("Policy/", known);
    now.leave(POLICIES, known);
}

fn policy_files(home: &HomePaths, files: &[PolicyFile], now: &mut InForce) {
    for file in files {
        let part = Part::new(&home.input_policies.join(&file.name), None);
        let part = part.with("text", file.text.as_bytes());
        now.parts.insert(format!("{POLICIES}{}", file.name), part);
    }
}

/// A fault names a file by its path, by its name, or the resource that it is about.
fn refuse_policies(
    home: &HomePaths,
    resources: &Resources,
    fault: &PolicyFault,
    now: &mut InForce,
) {
    let named = resources.policies.values().find(|policy| policy.reference() == fault.file);
    if let Some(policy) = named {
        now.refuse(&fault.file, &policy.origin.file, Some(policy.origin.line), &fault.what);
    } else {
        let file = home.input_policies.join(&fault.file);
        let subject = format!("{POLICIES}{}", name_of(&file));
        now.refuse(&subject, &file, fault.line, &fault.what);
    }
}

/// Digests of the credentials in a directory. What cannot be read counts as such.
fn supplied(directory: &Path, prefix: &str, now: &mut InForce) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.filter_map(Result::ok).take(MOST_CREDENTIALS) {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if name.starts_with('.') {
            continue;
        }
        let mut part = Part::new(&path, None);
        let mut empty = true;
        for file in FILES {
            let read = read_bounded(&path.join(file), LONGEST_FILE).map_err(|error| error.source);
            let content = match read {
                Ok(Some(octets)) => Zeroizing::new(octets),
                Ok(None) => continue,
                // Nothing is a directory here.
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => continue,
                Err(error) => Zeroizing::new(format!("unreadable: {error}").into_bytes()),
            };
            part = part.with(file, &content);
            empty = false;
        }
        if !empty {
            now.parts.insert(format!("{prefix}{name}"), part);
        }
    }
}

/// What the authority found last of supplied credentials; before it looked, what it had found.
fn broken_credentials(known: &InForce, report: Option<&Report>, now: &mut InForce) {
    let Some(report) = report else {
        let kept = known.refused.iter().filter(|(_, refused)| is_supplied(&refused.subject));
        now.refused.extend(kept.map(|(key, refused)| (key.clone(), refused.clone())));
        return;
    };
    for problem in report.problems.iter().filter(|one| one.code == ProblemCode::CredentialBroken) {
        for kind in [Kind::Certificate, Kind::Issuer] {
            let subject = format!("{}{}", prefix(kind), problem.name);
            if let Some(part) = now.parts.get(&subject) {
                let file = part.place.file.clone();
                now.refuse(&subject, &file, None, &problem.what);
            }
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What subjects of policy files begin with.
const POLICIES: &str = "policies/";
/// The files of a supplied credential.
const FILES: [&str; 6] = ["tls.crt", "tls.key", "ca.crt", "pkcs11.uri", "ca.crl", "crl.pem"];
/// The largest list of revocations that is read; everything else is far smaller.
const LONGEST_FILE: u64 = 64 << 20;
/// Most supplied credentials of a kind that are looked at.
const MOST_CREDENTIALS: usize = 4096;
