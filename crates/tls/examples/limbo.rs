//! Runs the vectors of C2SP's x509-limbo against the verifiers of this crate, client cases included:
//! `cargo run -p handfast-tls --example limbo -- limbo.json limbo.expected`.
//!
//! Every difference from the expected result has to stand in the second file with its reason; one that
//! does not fails the run, and so does an entry that no case needs any more. What the handshake's verifiers
//! say is held against `handfast_pki::verify_chain`, which judges files and live connections: where the two
//! differ for a reason that lies in the chain, the case counts as skipped. `tests/suites/limbo.sh` obtains
//! the vectors and calls this.

use std::collections::BTreeMap;
use std::process::ExitCode;

use handfast_pki::{
    Certificate, Chain, ChainError, Crl, CrlSet, Purpose, TrustAnchors, verify_chain,
};
use handfast_tls::probe::Judgement;
use handfast_tls::{FaultCode, IdentityRule, RevocationCheck, RevocationList, Revocations, Role};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use serde_json::Value;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [vectors, explained] = arguments.as_slice() else {
        say("usage: limbo LIMBO.JSON LIMBO.EXPECTED");
        return ExitCode::from(2);
    };
    match run(vectors, explained) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            say(&what);
            ExitCode::from(2)
        }
    }
}

/// What came of one case.
enum Outcome {
    Accepted,
    Refused(String),
    /// It asks for something that is not ours to do.
    Skipped(String),
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Accepted => "SUCCESS",
            Self::Refused(_) => "FAILURE",
            Self::Skipped(_) => "SKIPPED",
        }
    }

    fn why(&self) -> &str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused(why) | Self::Skipped(why) => why,
        }
    }
}

fn run(vectors: &str, explained: &str) -> Result<bool, String> {
    let text = std::fs::read_to_string(vectors).map_err(|error| format!("{vectors}: {error}"))?;
    let all: Value = serde_json::from_str(&text).map_err(|error| format!("{vectors}: {error}"))?;
    let cases = all["testcases"].as_array().ok_or("there is no list of test cases")?;
    let table =
        std::fs::read_to_string(explained).map_err(|error| format!("{explained}: {error}"))?;
    let mut table = read_table(&table)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = 0;
    for case in cases {
        let id = case["id"].as_str().ok_or("a case has no id")?;
        let expected = case["expected_result"].as_str().ok_or("a case expects nothing")?;
        let kind = case["validation_kind"].as_str().unwrap_or_default();
        *counts.entry(if kind == "CLIENT" { "of clients" } else { "of servers" }).or_default() += 1;
        let outcome = judge(case).unwrap_or_else(Outcome::Skipped);
        if outcome.word() == expected {
            *counts.entry("as expected").or_default() += 1;
        } else if let Some(entry) = table.iter_mut().find(|entry| entry.covers(id, outcome.word()))
        {
            entry.used = true;
            *counts.entry("explained").or_default() += 1;
        } else {
            wrong += 1;
            let (word, why) = (outcome.word(), outcome.why());
            say(&format!("unexplained: {id}: expected {expected}, got {word}: {why}"));
        }
    }
    for entry in table.iter().filter(|entry| !entry.used) {
        wrong += 1;
        say(&format!("stale: {} {}: no case differs like that", entry.id, entry.result));
    }
    let counts: Vec<String> =
        counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    say(&format!("limbo: {} cases: {}, {wrong} unexplained", cases.len(), counts.join(", ")));
    Ok(wrong == 0)
}

/// One line of the table: an id, or the beginning of one and a star; the result; the reason.
struct Explained<'a> {
    id: &'a str,
    result: &'a str,
    /// Whether a case was covered by it: an entry that covers none is out of date.
    used: bool,
}

impl Explained<'_> {
    fn covers(&self, id: &str, result: &str) -> bool {
        let fits = match self.id.strip_suffix('*') {
            Some(beginning) => id.starts_with(beginning),
            None => id == self.id,
        };
        fits && self.result == result
    }
}

fn read_table(text: &str) -> Result<Vec<Explained<'_>>, String> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some(id), Some(result), Some(_)) => Ok(Explained { id, result, used: false }),
                _ => Err(format!("in the table, a line without id, result or reason: {line}")),
            }
        })
        .collect()
}

/// Judges one case; the error is why it cannot be judged.
fn judge(case: &Value) -> Result<Outcome, String> {
    let role = match case["validation_kind"].as_str() {
        // The one who validates is the other side of the one who is named.
        Some("SERVER") => Role::Client,
        Some("CLIENT") => Role::Server,
        other => return Err(format!("kind {other:?} is not known")),
    };
    if case["max_chain_depth"].as_u64().is_some_and(|depth| depth < OUR_DEPTH) {
        return Err("the depth of a path cannot be chosen".to_owned());
    }
    let eku = strings(&case["extended_key_usage"]);
    let usual = if role == Role::Client { "serverAuth" } else { "clientAuth" };
    if eku.iter().any(|usage| usage != usual) {
        return Err("another extended key usage is asked for than that of the handshake".to_owned());
    }
    let now = match case["validation_time"].as_str() {
        Some(text) => text.parse().map_err(|error| format!("time {text}: {error}"))?,
        None => "2026-01-01T00:00:00Z".parse::<Timestamp>().map_err(|error| error.to_string())?,
    };
    let trusted = strings(&case["trusted_certs"]).concat();
    let anchors = match TrustAnchors::from_pem(trusted.as_bytes()) {
        Ok(anchors) => anchors,
        Err(error) => return Ok(Outcome::Refused(format!("trust anchors: {error}"))),
    };
    let mut chain = der(case["peer_certificate"].as_str().unwrap_or_default())?;
    for pem in strings(&case["untrusted_intermediates"]) {
        chain.extend(der(&pem)?);
    }
    let name = &case["expected_peer_name"];
    let name = match (role, name["kind"].as_str()) {
        (Role::Client, Some("DNS" | "IP")) => name["value"].as_str(),
        (Role::Client, Some(kind)) => return Err(format!("names of kind {kind} are not dialled")),
        _ => None,
    };
    let revocation = match revocation(case, &anchors, &chain) {
        Ok(revocation) => revocation,
        Err(why) => return Ok(Outcome::Refused(why)),
    };
    let judgement = Judgement {
        role,
        anchors: &anchors,
        name,
        identities: IdentityRule::any(),
        revocation,
        now,
    };
    let verdict = judgement.of(&chain);
    match (&verdict, walk(&chain, &anchors, role, now)) {
        // Rule 4 asks for a usage in every certificate that is kept; what strangers present need not have one.
        (Ok(()), Err(error)) if !matches!(error, ChainError::NoUsage { .. }) => {
            Err(format!("the handshake would accept what verify_chain refuses: {error}"))
        }
        (Err(fault), Ok(())) if !BEYOND_A_CHAIN.contains(&fault.code()) => {
            Err(format!("verify_chain accepts what the handshake refuses: {}", fault.one_line()))
        }
        _ => Ok(match verdict {
            Ok(()) => Outcome::Accepted,
            Err(fault) => Outcome::Refused(fault.one_line()),
        }),
    }
}

/// CAs below the anchor that webpki follows: whoever asks for no fewer asks for nothing.
const OUR_DEPTH: u64 = 6;

/// What a handshake is refused for although the chain holds: the name that was dialled, lists of revoked
/// certificates, the dates of the anchor itself, a key that no signature is accepted of.
const BEYOND_A_CHAIN: [FaultCode; 6] = [
    FaultCode::ChainTooLong,
    FaultCode::Expired,
    FaultCode::RevocationUnknown,
    FaultCode::Revoked,
    FaultCode::UnsupportedAlgorithm,
    FaultCode::WrongName,
];

/// The verdict of the walk that judges files and, after each change of trust, live connections.
fn walk(
    chain: &[CertificateDer<'_>],
    anchors: &TrustAnchors,
    role: Role,
    now: Timestamp,
) -> Result<(), ChainError> {
    let mut read = chain.iter().map_while(|der| Certificate::from_der(der.to_vec()).ok());
    let purpose = if role == Role::Client { Purpose::Server } else { Purpose::Client };
    match read.next() {
        Some(leaf) => verify_chain(&Chain::new(leaf, read.collect()), anchors, purpose, now),
        None => Err(ChainError::Refused {
            subject: String::new(),
            reason: "it cannot be read".to_owned(),
        }),
    }
}

/// The lists of the case, put before the verifier; where there are any, what they do not cover is
/// refused.
fn revocation(
    case: &Value,
    anchors: &TrustAnchors,
    chain: &[CertificateDer<'_>],
) -> Result<RevocationCheck, String> {
    let lists = strings(&case["crls"]);
    let mut issuers: Vec<Certificate> = anchors.iter().cloned().collect();
    issuers.extend(chain.iter().filter_map(|der| Certificate::from_der(der.to_vec()).ok()));
    let mut set = CrlSet::default();
    for pem in &lists {
        let list =
            Crl::read(pem.as_bytes()).map_err(|error| format!("revocation list: {error}"))?;
        // A list that nobody at hand has signed is as good as none.
        let _ = issuers.iter().any(|issuer| set.add(list.clone(), issuer).is_ok());
    }
    let view = Revocations::new();
    view.set_lists(set.views().map(|(issuer_key_id, view)| RevocationList {
        issuer_key_id: *issuer_key_id,
        view: view.clone(),
    }));
    Ok(RevocationCheck::by(view).required(!lists.is_empty()))
}

fn der(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    use rustls::pki_types::pem::PemObject as _;
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("a certificate is no PEM: {error:?}"))
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[expect(clippy::print_stdout, reason = "a command line tool's findings")]
fn say(line: &str) {
    println!("{line}");
}
