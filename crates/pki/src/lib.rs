//! Certificates as values: keys, requests, chains, linting. No I/O, no async, no clock.
