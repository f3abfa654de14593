//! Every credential: when it ends, when it is renewed, and what went wrong with that.

use handfast_authority::CredentialFacts;
use jiff::Timestamp;
use prometheus_client::registry::Unit;

use crate::node::view::is_in_memory;

use super::{Labels, Sample, Snapshot, label, number, seconds};

pub(super) fn add(snapshot: &mut Snapshot, all: &[CredentialFacts]) {
    let times = |pick: fn(&CredentialFacts) -> Option<Timestamp>| -> Vec<Sample> {
        all.iter().filter_map(|f| Some((named(f), seconds(pick(f)?)))).collect()
    };
    let mut gauge = |name, help, samples: Vec<Sample>| {
        snapshot.gauge(name, help, Some(Unit::Seconds), samples);
    };
    gauge("handfast_credential_not_before_timestamp", "Start of validity", times(|f| f.not_before));
    gauge("handfast_credential_not_after_timestamp", "End of validity", times(|f| f.not_after));
    gauge("handfast_credential_renew_at_timestamp", "When it is renewed", times(|f| f.renew_at));
    gauge(
        "handfast_credential_last_failure_timestamp",
        "When its renewal failed last, while it fails",
        times(|f| f.failure.as_ref().map(|failure| failure.last)),
    );
    let states = all
        .iter()
        .map(|f| (vec![("name", f.name.to_string()), ("state", f.state.to_string())], 1.0));
    snapshot.gauge(
        "handfast_credential_state",
        "1 for the state that the credential is in",
        None,
        states,
    );
    let counts = |pick: fn(&CredentialFacts) -> u64| -> Vec<Sample> {
        all.iter().map(|f| (label("name", &f.name), number(pick(f)))).collect()
    };
    snapshot.gauge(
        "handfast_credential_failures",
        "Failures in a row to make or renew it",
        None,
        counts(|f| f.failure.as_ref().map_or(0, |failure| u64::from(failure.count))),
    );
    snapshot.counter(
        "handfast_credential_renewals",
        "New ones put into use since the start",
        None,
        counts(|f| f.tally.renewed),
    );
    snapshot.counter(
        "handfast_credential_renewal_failures",
        "Attempts that failed since the start",
        None,
        counts(|f| f.tally.failed),
    );
}

fn named(facts: &CredentialFacts) -> Labels {
    let source = if is_in_memory(facts) { "memory".to_owned() } else { facts.source.to_string() };
    vec![("name", facts.name.to_string()), ("source", source)]
}
