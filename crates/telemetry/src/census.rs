//! Who reports, and how: every service and instance with its transport, its agent and when it was last
//! heard; and who was refused. What a rollout is steered by.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use handfast_tls::Fault;
use jiff::Timestamp;

use crate::caller::{Caller, Transport};
use crate::port::Mode;
use crate::rules::Claimed;

/// Everybody who was heard since the start.
#[derive(Debug, Default)]
pub struct Census {
    reporters: Mutex<Reporters>,
    refusals: Mutex<VecDeque<Refusal>>,
}

/// Instances by service.
#[derive(Debug, Default)]
struct Reporters {
    services: HashMap<String, HashMap<String, Reporter>>,
    count: usize,
    /// Of their names, about.
    bytes: usize,
}

/// One instance of a service, as it was heard last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reporter {
    /// Where from; `None` over a Unix socket.
    pub address: Option<SocketAddr>,
    /// What its certificate proved; empty without one.
    pub identity: String,
    /// The instance; empty where its messages name none.
    pub instance: String,
    /// When it was heard last.
    pub last_seen: Timestamp,
    /// The service.
    pub service: String,
    /// How its connection is protected.
    pub transport: Transport,
    /// What its agent says it is: `agent-version`, else `user-agent`.
    pub version: String,
}

/// A connection or a report that was refused, once or again and again.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// When, the last time.
    pub at: Timestamp,
    /// Why.
    pub fault: Fault,
    /// By whom it was tried: an address or an identity.
    pub from: String,
    /// At which port, or which method.
    pub on: String,
    /// How often.
    pub times: u64,
}

impl Refusal {
    pub(crate) fn new(at: Timestamp, fault: Fault, from: String, on: &str) -> Self {
        Self { at, fault, from, on: on.to_owned(), times: 1 }
    }

    /// Whether both are the same attempt, made again: by the same caller with the same certificate or claim.
    fn is_repeated_by(&self, other: &Self) -> bool {
        let same = |key| self.fault.evidence_of(key) == other.fault.evidence_of(key);
        self.fault.code() == other.fault.code()
            && self.from == other.from
            && self.on == other.on
            && ["fingerprint", "reason", "claimed-service", "claimed-instance"]
                .into_iter()
                .all(same)
    }
}

/// What would become of a reporter if a port changed its mode.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outlook {
    /// What it needs, in a sentence; `None` if it would go on as it is.
    pub needs: Option<&'static str>,
    /// Who.
    pub reporter: Reporter,
}

impl Reporters {
    /// Forgets many at once, so that it costs little for each that comes: of whoever has most names, those that were silent
    /// for longest. Who makes up names pushes out his own.
    fn make_room(&mut self) {
        let all = || self.services.values().flat_map(HashMap::values);
        let mut names: HashMap<Whose<'_>, usize> = HashMap::new();
        for reporter in all() {
            *names.entry(Whose::of(reporter)).or_default() += 1;
        }
        let Some((whose, most)) = names.into_iter().max_by_key(|(_, count)| *count) else { return };
        let mut heard: Vec<Timestamp> =
            all().filter(|one| Whose::of(one) == whose).map(|one| one.last_seen).collect();
        let goes = (most / AT_ONCE).max(1);
        let (_, until, _) = heard.select_nth_unstable(goes - 1);
        let (until, mut goes) = (*until, goes);
        let whose = whose.owned();
        for service in self.services.values_mut() {
            service.retain(|_, one| {
                let stays = goes == 0 || one.last_seen > until || Whose::of(one).owned() != whose;
                goes -= usize::from(!stays);
                stays
            });
        }
        self.services.retain(|_, instances| !instances.is_empty());
        self.count = self.services.values().map(HashMap::len).sum();
        let left = self.services.values().flat_map(HashMap::values);
        self.bytes = left.map(|one| one.service.len() + one.instance.len()).sum();
    }
}

/// Who made a name up: an identity, else an address.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
enum Whose<'a> {
    At(Option<IpAddr>),
    Named(&'a str),
}

impl<'a> Whose<'a> {
    fn of(reporter: &'a Reporter) -> Self {
        if reporter.identity.is_empty() {
            Self::At(reporter.address.map(|address| address.ip()))
        } else {
            Self::Named(&reporter.identity)
        }
    }

    fn owned(self) -> (Option<IpAddr>, String) {
        match self {
            Self::At(address) => (address, String::new()),
            Self::Named(name) => (None, name.to_owned()),
        }
    }
}

impl Census {
    /// Somebody was heard.
    pub(crate) fn heard(&self, caller: &Caller, claim: Claimed<'_>, version: &str, now: Timestamp) {
        let mut reporters = lock(&self.reporters);
        // Looked up without making strings: an agent is heard a thousand times for each time that it is new.
        let known = reporters.services.get_mut(claim.service);
        if let Some(known) = known.and_then(|service| service.get_mut(claim.instance)) {
            known.last_seen = now;
            known.transport = caller.transport;
            known.address = caller.address;
            if known.identity.as_bytes() != &caller.label()[..] {
                known.identity = String::from_utf8_lossy(caller.label()).into_owned();
            }
            if known.version != version && !version.is_empty() {
                version.clone_into(&mut known.version);
            }
            return;
        }
        if reporters.count >= REPORTERS || reporters.bytes >= NAME_BYTES {
            reporters.make_room();
        }
        let reporter = Reporter {
            address: caller.address,
            identity: String::from_utf8_lossy(caller.label()).into_owned(),
            instance: claim.instance.to_owned(),
            last_seen: now,
            service: claim.service.to_owned(),
            transport: caller.transport,
            version: version.to_owned(),
        };
        let service = reporters.services.entry(claim.service.to_owned()).or_default();
        service.insert(claim.instance.to_owned(), reporter);
        reporters.count += 1;
        reporters.bytes += claim.service.len() + claim.instance.len();
    }

    /// Somebody was refused; the newest refusals are kept, and whoever comes again takes no second place.
    pub(crate) fn refused(&self, mut refusal: Refusal) {
        let mut refusals = lock(&self.refusals);
        let before = refusals.iter().rposition(|known| known.is_repeated_by(&refusal));
        if let Some(before) = before.and_then(|place| refusals.remove(place)) {
            refusal.times += before.times;
        } else if refusals.len() >= REFUSALS {
            // The oldest of whoever has most: whoever tries in many ways does not hide the others.
            let mut tries: HashMap<&str, usize> = HashMap::new();
            for known in &*refusals {
                *tries.entry(&known.from).or_default() += 1;
            }
            let most = tries.values().copied().max().unwrap_or_default();
            let oldest = refusals.iter().position(|known| tries.get(&*known.from) == Some(&most));
            refusals.remove(oldest.unwrap_or_default());
        }
        refusals.push_back(refusal);
    }

    /// Everybody, by service and instance.
    pub fn reporters(&self) -> Vec<Reporter> {
        let mut reporters: Vec<Reporter> =
            lock(&self.reporters).services.values().flat_map(HashMap::values).cloned().collect();
        reporters.sort_by(|a, b| (&a.service, &a.instance).cmp(&(&b.service, &b.instance)));
        reporters
    }

    /// The newest refusals, oldest first.
    pub fn refusals(&self) -> Vec<Refusal> {
        lock(&self.refusals).iter().cloned().collect()
    }

    /// Who would be shut out by `mode`, and what each needs.
    pub fn outlook(&self, mode: Mode) -> Vec<Outlook> {
        let outlook =
            |reporter: Reporter| Outlook { needs: needs(reporter.transport, mode), reporter };
        self.reporters().into_iter().map(outlook).collect()
    }
}

/// What a reporter of this transport needs before a port may change to `mode`.
pub fn needs(transport: Transport, mode: Mode) -> Option<&'static str> {
    match (mode, transport) {
        (Mode::Permissive, _)
        | (Mode::Plaintext, Transport::Plaintext)
        | (Mode::Tls, Transport::Tls | Transport::Mtls)
        | (Mode::Mtls, Transport::Mtls) => None,
        (Mode::Tls, Transport::Plaintext) => {
            Some("ca.crt at the agent (SW_AGENT_SSL_TRUSTED_CA_PATH), or a relay beside it")
        }
        (Mode::Mtls, Transport::Tls) => Some(
            "a client certificate (client.crt and client.pem of `handfast agent-certs`), or a relay beside it",
        ),
        (Mode::Mtls, Transport::Plaintext) => Some(
            "a relay beside the agent, or ca.crt, client.crt and client.pem of `handfast agent-certs`",
        ),
        (Mode::Plaintext, _) => Some("TLS turned off at the agent"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Instances that are remembered.
const REPORTERS: usize = 50_000;

/// Bytes of their names.
const NAME_BYTES: usize = 16 << 20;

/// Of whoever has most names, one in so many is forgotten when there is no room for another.
const AT_ONCE: usize = 8;

/// Refusals that are remembered.
const REFUSALS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_each_instance_counts_and_the_dry_run_names_who_is_not_ready() {
        let census = Census::default();
        let at = |second| Timestamp::from_second(second).expect("a moment");
        let claim = Claimed { service: "shop", instance: "shop-1" };
        let plain = Caller::anonymous(None, Transport::Plaintext);
        census.heard(&plain, claim, "9.1", at(1));
        census.heard(&Caller::anonymous(None, Transport::Tls), claim, "", at(2));
        census.heard(&plain, Claimed { service: "bank", instance: "bank-1" }, "8.0", at(2));
        let reporters = census.reporters();
        assert_eq!(reporters.len(), 2);
        assert_eq!((reporters[1].transport, &*reporters[1].version), (Transport::Tls, "9.1"));
        let broken = |mode| census.outlook(mode).iter().filter(|o| o.needs.is_some()).count();
        assert_eq!(broken(Mode::Permissive), 0);
        assert_eq!(broken(Mode::Tls), 1);
        assert_eq!(broken(Mode::Mtls), 2);
    }

    fn refused(from: &str, on: &str) -> Refusal {
        let fault = Fault::new(handfast_tls::FaultCode::Expired, handfast_tls::Side::Peer, "x");
        Refusal::new(Timestamp::UNIX_EPOCH, fault, from.to_owned(), on)
    }

    #[test]
    fn whoever_is_refused_a_thousand_times_does_not_hide_the_others() {
        let census = Census::default();
        census.refused(refused("10.0.0.1", "grpc"));
        for _ in 0..1000 {
            census.refused(refused("10.0.0.2", "grpc"));
        }
        census.refused(refused("10.0.0.2", "http"));
        let refusals = census.refusals();
        let told: Vec<_> = refusals.iter().map(|one| (&*one.from, &*one.on, one.times)).collect();
        assert_eq!(
            told,
            [("10.0.0.1", "grpc", 1), ("10.0.0.2", "grpc", 1000), ("10.0.0.2", "http", 1)]
        );
    }

    #[test]
    fn neither_reporters_nor_refusals_grow_without_end() {
        let census = Census::default();
        for refusal in 0..REFUSALS + 10 {
            census.refused(refused(&refusal.to_string(), "port"));
        }
        assert_eq!(census.refusals().len(), REFUSALS);
        assert_eq!(census.refusals()[0].from, "10");
        for port in 0..2 * REFUSALS {
            census.refused(refused("10.0.0.2", &port.to_string()));
        }
        let refusals = census.refusals();
        let others = refusals.iter().filter(|one| one.from != "10.0.0.2").count();
        assert!(others >= REFUSALS - 2, "{others}");
    }

    #[test]
    fn who_makes_up_names_pushes_out_his_own_and_does_it_quickly() {
        let census = Census::default();
        let at = |second| Timestamp::from_second(second).expect("a moment");
        let from =
            |last| Caller::anonymous(Some(([10, 0, 0, last], 1).into()), Transport::Plaintext);
        let quiet = from(1);
        for instance in 0..100 {
            let instance = instance.to_string();
            let claim = Claimed { service: "shop", instance: &instance };
            census.heard(&quiet, claim, "", at(0));
        }
        let begin = std::time::Instant::now();
        for (name, second) in (0..4 * REPORTERS).zip(0..) {
            let instance = name.to_string();
            census.heard(
                &from(2),
                Claimed { service: "flood", instance: &instance },
                "",
                at(second),
            );
        }
        let took = begin.elapsed();
        assert!(took.as_secs() < 30, "{took:?}: it was looked through for each");
        let reporters = census.reporters();
        assert!(reporters.len() <= REPORTERS, "{}", reporters.len());
        assert_eq!(reporters.iter().filter(|one| one.service == "shop").count(), 100);
        let newest = (4 * REPORTERS - 1).to_string();
        assert!(reporters.iter().any(|one| one.instance == newest));
    }
}
