//! Free loopback ports, chosen at run time.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::TcpListener;
use std::ops::Range;

use crate::exit::Exit;
use crate::failure::Failure;

/// Takes `N` different ports of 127.0.0.1 that nobody listens on.
///
/// They lie below the range from which systems give source ports to outgoing connections: the demo opens many, and one
/// of them must not take a port between its choice here and its use by a node.
pub(super) fn free<const N: usize>() -> anyhow::Result<[u16; N]> {
    let span = u64::from(RANGE.end - RANGE.start);
    let mut held = Vec::with_capacity(N);
    for _ in 0..ATTEMPTS {
        if held.len() == N {
            break;
        }
        // The hasher's keys are random: as good a die as any, without a dependency.
        let roll = RandomState::new().build_hasher().finish() % span;
        let port = RANGE.start + u16::try_from(roll).unwrap_or_default();
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
    }
    let ports: Vec<u16> = held.iter().map(|(port, _)| *port).collect();
    ports.try_into().map_err(|_| {
        Failure::new(Exit::PortInUse, "no free ports on 127.0.0.1")
            .because(format!(
                "{ATTEMPTS} tries between {} and {} found too few",
                RANGE.start, RANGE.end
            ))
            .remedy("look at what listens there: ss -ltn")
            .into()
    })
}

/// Below 32768, where Linux begins to hand out source ports.
const RANGE: Range<u16> = 20_000..32_000;

/// How many ports are tried before giving up.
const ATTEMPTS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_free() {
        let ports = free::<6>().expect("six free ports");
        let distinct: std::collections::BTreeSet<u16> = ports.into_iter().collect();
        assert_eq!(distinct.len(), 6);
        assert!(distinct.iter().all(|port| RANGE.contains(port)));
    }
}
