"""The parts of `benches/run`: processes and ports, the pairs of proxies, the loads, the verdict."""
