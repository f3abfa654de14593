//! Certificates on request: from the admin API's words to the authority and back, and how often which answer
//! was given.

use std::collections::BTreeMap;
use std::sync::Arc;

use handfast_api::admin::{IssueCertificate, IssuedCertificate, Refusal, RefusalCode};
use handfast_authority::{IssueFor, IssueRefusal, IssuedFor, parse_duration};
use handfast_pki::{Csr, Host, Profile};
use handfast_store::{AuditRow, Home, HomePaths, Ledger as _, WatchSettings};

use super::core::Core;
use super::tokens::parsed;
use crate::clock;

/// How often each profile was asked for, by what became of it: `ok`, or the code of the refusal.
pub(super) type Issuances = BTreeMap<(String, String), u64>;

impl Core {
    /// Issues a certificate. `actor` is for the audit row.
    pub(super) async fn issue_certificate(
        self: &Arc<Self>,
        request: IssueCertificate,
        actor: &str,
    ) -> Result<IssuedCertificate, Refusal> {
        let core = Arc::clone(self);
        let order = match order(&request, actor) {
            Ok(order) => order,
            Err(refusal) => return Err(core.note_unclear(request, refusal, actor).await),
        };
        let profile = order.profile;
        let signed =
            tokio::task::spawn_blocking(move || core.authority().issue_for(&order, clock::now()));
        let signed = signed.await.map_err(|_| {
            Refusal::new(RefusalCode::Internal, "the work was cut short", "try again")
        })?;
        let outcome = signed.as_ref().map_or_else(IssueRefusal::code, |_| "ok");
        self.count_issuance(profile, outcome);
        match signed {
            Ok(issued) => Ok(answer(profile, &issued)),
            Err(refusal) => {
                tracing::warn!(%profile, actor, code = refusal.code(), %refusal, "a certificate was refused");
                Err(refused(&refusal))
            }
        }
    }

    /// What cannot even be understood, absurd names and the like, is refused on record too.
    async fn note_unclear(
        self: Arc<Self>,
        request: IssueCertificate,
        refusal: Refusal,
        actor: &str,
    ) -> Refusal {
        let known = request.profile.parse::<Profile>();
        let profile = known.map_or_else(|_| "unknown".to_owned(), |profile| profile.to_string());
        *self.state().issuances.entry((profile, "invalid".to_owned())).or_default() += 1;
        let wanted = request.identity.or_else(|| request.hosts.first().cloned());
        let row = AuditRow {
            at: clock::now(),
            actor: actor.to_owned(),
            action: "certificate.issue".to_owned(),
            subject: plain(&format!("{} {}", request.profile, wanted.unwrap_or_default())),
            outcome: "refused".to_owned(),
            detail: plain(&format!("invalid: {}", refusal.message)),
            why: plain(&request.why),
        };
        let recorded =
            tokio::task::spawn_blocking(move || self.authority().ledger().audit(&row)).await;
        match recorded {
            Ok(Ok(_)) => refusal,
            _ => Refusal::new(
                RefusalCode::Internal,
                "the refusal cannot be recorded in the audit log",
                "look for a full or failing disk",
            ),
        }
    }

    pub(super) fn count_issuance(&self, profile: Profile, outcome: &str) {
        let mut state = self.state();
        *state.issuances.entry((profile.to_string(), outcome.to_owned())).or_default() += 1;
    }
}

/// Issues a certificate while no node runs.
pub(crate) async fn offline(
    home: &HomePaths,
    request: IssueCertificate,
) -> anyhow::Result<IssuedCertificate> {
    let lock = Home::open(&home.root)?;
    let core = Arc::new(Core::open(&lock, WatchSettings::default())?);
    core.without_network();
    core.turn(None).await;
    let issued = core.issue_certificate(request, "command line, no node running").await;
    drop(core);
    drop(lock);
    Ok(issued?)
}

/// Words from outside, as a row may hold them.
fn plain(text: &str) -> String {
    text.chars().filter(|one| !one.is_control()).take(WORDS).collect()
}

/// The most characters of such words.
const WORDS: usize = 1000;

fn order(request: &IssueCertificate, actor: &str) -> Result<IssueFor, Refusal> {
    let invalid = |what: String, remedy: &str| Refusal::new(RefusalCode::Invalid, what, remedy);
    let profile: Profile = request
        .profile
        .parse()
        .map_err(|error| invalid(format!("{error}"), "name one of these"))?;
    let identity = match &request.identity {
        Some(identity) => Some(identity.parse().map_err(|error| {
            invalid(format!("{error}"), "write spiffe://TRUST-DOMAIN/component/NAME")
        })?),
        None => None,
    };
    let hosts = request.hosts.iter().map(|host| {
        host.parse::<Host>()
            .map_err(|error| invalid(format!("{error}"), "name hosts as clients dial them"))
    });
    let hosts: Vec<Host> = hosts.collect::<Result<_, _>>()?;
    let ttl = match &request.ttl {
        Some(ttl) => Some(parse_duration(ttl).ok_or_else(|| {
            invalid(format!("{ttl:?} is no duration"), "write it like 45m, 24h or 7d")
        })?),
        None => None,
    };
    let issuer = match &request.issuer {
        Some(issuer) => Some(parsed("issuer", issuer)?),
        None => None,
    };
    named_in_full(request)?;
    Ok(IssueFor {
        profile,
        csr: request.csr.clone().into_bytes(),
        identity,
        hosts,
        common_name: request.common_name.clone(),
        ttl,
        issuer,
        actor: actor.to_owned(),
        why: request.why.clone(),
    })
}

/// What is decided upon is what stands outside of the request: names that stand only in it would come in
/// unseen. A request that cannot be read is the authority's to refuse, on record.
fn named_in_full(request: &IssueCertificate) -> Result<(), Refusal> {
    let Ok(csr) = Csr::from_pem(request.csr.as_bytes()) else { return Ok(()) };
    let asked = csr.subject();
    let unnamed = (request.identity.is_none() && asked.identity.is_some())
        || (request.hosts.is_empty() && asked.has_hosts());
    if unnamed {
        return Err(Refusal::new(
            RefusalCode::Invalid,
            "the certificate request names an identity or hosts that the call does not name",
            "repeat them in `identity` and `hosts`; `handfast cert issue --csr` does",
        ));
    }
    Ok(())
}

fn answer(profile: Profile, issued: &IssuedFor) -> IssuedCertificate {
    let leaf = issued.chain.leaf();
    let addresses = leaf.ip_addresses().iter().map(ToString::to_string);
    IssuedCertificate {
        certificate: issued.chain.to_pem(),
        ca: issued.anchors.to_pem(),
        profile: profile.to_string(),
        identity: leaf.spiffe_id().ok().flatten().map(|identity| identity.to_string()),
        hosts: leaf.dns_names().iter().cloned().chain(addresses).collect(),
        serial: leaf.serial().to_string(),
        issuer: issued.issuer.to_string(),
        lineage: issued.lineage.to_string(),
        not_before: leaf.not_before(),
        not_after: leaf.not_after(),
    }
}

fn refused(refusal: &IssueRefusal) -> Refusal {
    let (code, remedy) = match refusal {
        IssueRefusal::BadRequest(_) => {
            (RefusalCode::Invalid, "make a new request: `handfast cert issue` makes one by itself")
        }
        IssueRefusal::NotReady(_) => (
            RefusalCode::NotReady,
            "see what is missing with `handfast status` and `handfast cert list`",
        ),
        IssueRefusal::Store(_) => (RefusalCode::Internal, "see the node's log, and try again"),
        _ => (
            RefusalCode::NotGranted,
            "ask for what may be granted; the refusal is in the audit log",
        ),
    };
    Refusal::new(code, refusal.to_string(), remedy)
}
