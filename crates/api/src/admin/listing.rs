//! How long the answer is where the ledger is listed: of what was done, and of what was issued.

/// The most rows of one answer.
pub(super) const MOST: u32 = 1_000;

/// How many rows the answer has at the most, when so many were asked for.
pub(super) fn answered(limit: Option<u32>) -> u32 {
    limit.unwrap_or(USUAL).min(MOST)
}

const USUAL: u32 = 50;
