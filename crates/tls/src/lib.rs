//! Connections we trust: configurations, live reload, peer identity, faults.
