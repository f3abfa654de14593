//! Sites, links, routing, listeners and connectors: the data plane.
