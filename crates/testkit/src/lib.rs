//! For tests only: a test authority, clocks, and a harness for whole nodes.
