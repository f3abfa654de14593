//! From what the parts report to what the admin API shows.

use handfast_api::admin::{Refusal, RefusalCode};
use handfast_api::status::{
    AccessStatus, ConnectorStatus, CredentialSource, CredentialState, CredentialStatus, EdgeState,
    FaultView, KeyPlace, LinkDirection, LinkState, LinkStatus, ListenerStatus, PeerView,
    ProblemSeverity, ProblemView, SessionView,
};
use handfast_authority::{CredentialFacts, Problem, ProblemCode};
use handfast_network as network;
use handfast_store::Source;

use super::core::Core;
use super::plan::chosen_access;

pub(super) fn problem(problem: &Problem) -> ProblemView {
    let warning = matches!(
        problem.code,
        ProblemCode::CredentialExpiring
            | ProblemCode::CeremonyDue
            | ProblemCode::CredentialWarning
            | ProblemCode::KeyUnprotected
            | ProblemCode::RenewalUnanswered
    );
    ProblemView {
        severity: if warning { ProblemSeverity::Warning } else { ProblemSeverity::Error },
        subject: match &problem.resource {
            Some(resource) => resource.to_string(),
            None => format!("credential {}", problem.name),
        },
        file: None,
        line: None,
        message: problem.what.clone(),
        remedy: problem.remedy.clone(),
    }
}

pub(super) fn credential(facts: &CredentialFacts) -> CredentialStatus {
    use handfast_authority::CredentialState as State;
    CredentialStatus {
        name: facts.name.to_string(),
        identity: facts.identity.clone(),
        serial: facts.serial.clone(),
        issuer: facts.issuer.clone(),
        not_before: facts.not_before,
        not_after: facts.not_after,
        renew_at: facts.renew_at,
        source: match facts.source {
            Source::Managed if is_in_memory(facts) => CredentialSource::Memory,
            Source::Managed => CredentialSource::Managed,
            Source::Supplied => CredentialSource::Supplied,
        },
        state: match facts.state {
            State::Broken | State::Failed => CredentialState::Broken,
            State::Expired => CredentialState::Expired,
            State::Locked => CredentialState::Locked,
            State::Expiring => CredentialState::RenewalDue,
            State::Pending => CredentialState::Missing,
            State::Ready => CredentialState::Valid,
            State::Renewing => CredentialState::Renewing,
            State::Revoked => CredentialState::Revoked,
        },
        failures: facts.failure.as_ref().map_or(0, |failure| failure.count),
        last_error: facts.failure.as_ref().map(|failure| failure.what.clone()),
        key: facts.key.map(key_place),
    }
}

/// Whether it is nowhere on disk.
pub(super) fn is_in_memory(facts: &CredentialFacts) -> bool {
    facts.key == Some(handfast_authority::KeyPlace::Memory)
}

/// Where a key is, as programs read it.
pub(crate) fn key_place(place: handfast_authority::KeyPlace) -> KeyPlace {
    use handfast_authority::KeyPlace as Place;
    match place {
        Place::Absent => KeyPlace::Absent,
        Place::Encrypted => KeyPlace::Encrypted,
        Place::Memory => KeyPlace::Memory,
        Place::Plain => KeyPlace::Plain,
        Place::Token => KeyPlace::Token,
    }
}

pub(super) fn link(link: network::LinkStatus) -> LinkStatus {
    LinkStatus {
        name: link.name.to_string(),
        direction: match link.direction {
            network::Direction::Incoming => LinkDirection::Incoming,
            network::Direction::Outgoing => LinkDirection::Outgoing,
        },
        state: match link.state {
            network::LinkState::Dialling => LinkState::Connecting,
            network::LinkState::Down => LinkState::Down,
            network::LinkState::Up => LinkState::Up,
        },
        endpoint: link.endpoint,
        remote_site: link.remote_site.map(|site| site.to_string()),
        cost: link.cost,
        since: link.since,
        peer: link.peer.map(|peer| PeerView {
            identity: peer.identity.as_ref().map(ToString::to_string),
            common_name: peer.common_name.clone(),
            serial: peer.serial.to_string(),
            fingerprint: peer.fingerprint.to_string(),
            not_after: Some(peer.not_after),
            issuer: peer.issuer.clone(),
        }),
        session: link.session.map(|session| SessionView {
            alpn: session.alpn_text(),
            version: session.version.to_owned(),
            cipher: session.cipher,
            group: session.group,
            resumed: session.resumed,
        }),
        connections: link.connections as u64,
        bytes_in: link.bytes_in,
        bytes_out: link.bytes_out,
        fault: link.fault.as_ref().map(FaultView::from),
    }
}

pub(super) fn listeners(status: network::NetworkStatus) -> Vec<ListenerStatus> {
    status.listeners.into_iter().map(listener).collect()
}

fn listener(listener: network::ListenerStatus) -> ListenerStatus {
    let (host, port) = split(&listener.bind);
    ListenerStatus {
        name: listener.name.to_string(),
        routing_key: listener.routing_key,
        host,
        port,
        bind: listener.bound.map(|bound| bound.to_string()),
        state: match (&listener.fault, listener.bound, listener.has_matching_connector) {
            (Some(_), _, _) | (None, None, _) => EdgeState::Failed,
            (None, Some(_), false) => EdgeState::Waiting,
            (None, Some(_), true) => EdgeState::Ready,
        },
        has_matching_connector: listener.has_matching_connector,
        connections_open: listener.traffic.open,
        connections_total: listener.traffic.total,
        bytes_in: listener.traffic.bytes_in,
        bytes_out: listener.traffic.bytes_out,
        fault: listener.fault.as_ref().map(FaultView::from),
    }
}

/// A connector has a matching listener when one is here, or when flows have come: what other sites
/// listen for is theirs to know.
pub(super) fn connectors(status: &network::NetworkStatus) -> Vec<ConnectorStatus> {
    let matches = |connector: &network::ConnectorStatus| {
        connector.traffic.total > 0
            || status.listeners.iter().any(|l| l.routing_key == connector.routing_key)
    };
    status.connectors.iter().map(|c| connector(c, matches(c))).collect()
}

fn connector(connector: &network::ConnectorStatus, has_matching_listener: bool) -> ConnectorStatus {
    let (host, port) = split(&connector.target);
    ConnectorStatus {
        name: connector.name.to_string(),
        routing_key: connector.routing_key.clone(),
        host,
        port,
        state: if connector.fault.is_some() { EdgeState::Failed } else { EdgeState::Ready },
        has_matching_listener,
        connections_open: connector.traffic.open,
        connections_total: connector.traffic.total,
        bytes_in: connector.traffic.bytes_in,
        bytes_out: connector.traffic.bytes_out,
        fault: connector.fault.as_ref().map(FaultView::from),
    }
}

/// The link port and the grant port, as declared and as they are.
pub(super) fn accesses(core: &Core, status: &network::NetworkStatus) -> Vec<AccessStatus> {
    let (resources, grant_open) = {
        let state = core.state();
        (state.resources.clone(), state.grant_fault.is_none())
    };
    let Some(access) = chosen_access(&resources) else { return Vec::new() };
    let Some(port) = access.spec.link_port() else { return Vec::new() };
    let hosts: Vec<String> = access.spec.hosts().iter().map(ToString::to_string).collect();
    let actual = status.access.as_ref();
    let grant_url = match (hosts.first(), access.spec.grant_port(), grant_open) {
        (Some(host), Some(port), true) if host.contains(':') => {
            Some(format!("https://[{host}]:{port}/v1/grants/"))
        }
        (Some(host), Some(port), true) => Some(format!("https://{host}:{port}/v1/grants/")),
        _ => None,
    };
    vec![AccessStatus {
        name: access.name.to_string(),
        bind: actual.filter(|a| a.fault.is_none()).map(|a| a.bind.to_string()),
        hosts,
        port,
        grant_url,
        state: match actual {
            None => EdgeState::Waiting,
            Some(access) if access.fault.is_some() => EdgeState::Failed,
            Some(_) => EdgeState::Ready,
        },
        fault: actual.and_then(|a| a.fault.as_ref()).map(FaultView::from),
    }]
}

/// For a node whose data plane does not say how it is.
pub(super) fn not_known(unknown: network::Unknown) -> ProblemView {
    ProblemView {
        severity: ProblemSeverity::Error,
        subject: "network".to_owned(),
        file: None,
        line: None,
        message: format!(
            "{unknown}: how links, listeners, connectors and the link port are is not known, and they are not shown"
        ),
        remedy: NOT_KNOWN.to_owned(),
    }
}

/// For whoever asked for nothing else.
pub(super) fn unanswered(unknown: network::Unknown) -> Refusal {
    let code = match unknown {
        network::Unknown::Silent => RefusalCode::TimedOut,
        _ => RefusalCode::NotReady,
    };
    Refusal::new(code, format!("{unknown}, so this is not known"), NOT_KNOWN)
}

const NOT_KNOWN: &str = "ask again; if it stays so, see the node's log and how busy the machine is, and restart the node";

/// The first declared port that is not open, and why, in one line.
pub(super) fn closed_port(status: &network::NetworkStatus) -> Option<String> {
    let access = status.access.iter().filter_map(|access| access.fault.as_ref());
    let listeners = status.listeners.iter().filter_map(|listener| listener.fault.as_ref());
    access.chain(listeners).next().map(|fault| format!("{}: {}", fault.place(), fault.what()))
}

/// A link that is declared and cannot be dialled yet.
pub(super) fn unready(name: &str, cost: u32, endpoint: String) -> LinkStatus {
    LinkStatus {
        name: name.to_owned(),
        direction: LinkDirection::Outgoing,
        state: LinkState::NotReady,
        endpoint,
        remote_site: None,
        cost,
        since: None,
        peer: None,
        session: None,
        connections: 0,
        bytes_in: 0,
        bytes_out: 0,
        fault: None,
    }
}

fn split(address: &str) -> (String, u16) {
    match address.rsplit_once(':') {
        Some((host, port)) => (host.to_owned(), port.parse().unwrap_or(0)),
        None => (address.to_owned(), 0),
    }
}
