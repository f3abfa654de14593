//! Which way a new flow goes: routing keys to connectors here and to sites beyond links.
//!
//! A [`Routes`] is a value; the control thread makes a new one whenever links, offers or connectors
//! change, and the workers read the latest.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use handfast_pki::Name;

use crate::status::Counters;

/// Where flows can go, at one moment.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    local: HashMap<String, Vec<Target>>,
    remote: HashMap<String, Vec<Way>>,
    /// Routing keys whose only way was lost a moment ago and may come back.
    wanted: Vec<String>,
}

/// A server behind a connector of ours.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) connector: Name,
    /// Empty while the host name does not resolve.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) counters: Arc<Counters>,
}

/// A site that offers the routing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) site: Name,
    pub(crate) cost: u32,
}

/// What to do with a new flow.
#[derive(Debug)]
pub(crate) enum Choice<'a> {
    /// Connect to one of our own targets.
    Local(&'a Target),
    /// Open a stream towards the first of these sites that a connection leads to; cheapest first.
    Remote(&'a [Way]),
    /// No way now, but one is expected back.
    Hold,
    /// No way.
    None,
}

impl Routes {
    pub(crate) fn add_target(&mut self, routing_key: &str, target: Target) {
        self.local.entry(routing_key.to_owned()).or_default().push(target);
    }

    pub(crate) fn add_way(&mut self, routing_key: &str, way: Way) {
        let ways = self.remote.entry(routing_key.to_owned()).or_default();
        match ways.iter_mut().find(|w| w.site == way.site) {
            Some(known) => known.cost = known.cost.min(way.cost),
            None => ways.push(way),
        }
        ways.sort_by(|a, b| a.cost.cmp(&b.cost).then_with(|| a.site.cmp(&b.site)));
    }

    /// Flows for this key wait a moment when there is no way.
    pub(crate) fn expect(&mut self, routing_key: &str) {
        self.wanted.push(routing_key.to_owned());
    }

    /// `turn` picks among equals, in rotation.
    pub(crate) fn choose(&self, routing_key: &str, turn: usize) -> Choice<'_> {
        if let Some(target) = self.target(routing_key, turn) {
            return Choice::Local(target);
        }
        match self.remote.get(routing_key) {
            Some(ways) if !ways.is_empty() => Choice::Remote(ways),
            _ if self.wanted.iter().any(|k| k == routing_key) => Choice::Hold,
            _ => Choice::None,
        }
    }

    /// A connector of ours for a flow that came over a link.
    pub(crate) fn target(&self, routing_key: &str, turn: usize) -> Option<&Target> {
        let targets = self.local.get(routing_key)?;
        targets.get(turn % targets.len().max(1))
    }

    pub(crate) fn serves(&self, routing_key: &str) -> bool {
        self.local.contains_key(routing_key)
            || self.remote.get(routing_key).is_some_and(|ways| !ways.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(site: &str, cost: u32) -> Way {
        Way { site: site.parse().unwrap(), cost }
    }

    fn target(name: &str) -> Target {
        Target {
            connector: name.parse().unwrap(),
            addresses: vec![([127, 0, 0, 1], 80).into()],
            counters: Counters::shared(),
        }
    }

    #[test]
    fn the_own_connector_comes_first_then_the_cheapest_site() {
        let mut routes = Routes::default();
        routes.add_way("pay", way("far", 9));
        routes.add_way("pay", way("near", 2));
        routes.add_way("pay", way("far", 1));
        let Choice::Remote(ways) = routes.choose("pay", 0) else { panic!("a way was expected") };
        assert_eq!(ways, [way("far", 1), way("near", 2)]);
        routes.add_target("pay", target("a"));
        routes.add_target("pay", target("b"));
        let names: Vec<_> = (0..4)
            .map(|turn| match routes.choose("pay", turn) {
                Choice::Local(t) => t.connector.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names, ["a", "b", "a", "b"]);
    }

    #[test]
    fn a_key_whose_link_is_being_dialled_again_waits_and_an_unknown_one_does_not() {
        let mut routes = Routes::default();
        routes.expect("pay");
        assert!(matches!(routes.choose("pay", 0), Choice::Hold));
        assert!(matches!(routes.choose("other", 0), Choice::None));
        assert!(!routes.serves("pay"));
    }
}
