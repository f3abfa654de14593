//! What signs, and the record of what was signed.

use super::facts::{Facts, IssuerFacts, LedgerFacts};
use super::report::{Check, Group};
use crate::commands::words;

const GROUP: Group = Group::Authority;

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![ledger(&facts.ledger)];
    checks.extend(audit(&facts.ledger));
    match &facts.issuers {
        Err(why) => checks.push(Check::failed(
            "authority-valid",
            GROUP,
            format!("the signing authorities cannot be read: {why}"),
            "restore `runtime/issuers` from the backup, or mend what is under `input/issuers`",
        )),
        Ok(issuers) if issuers.is_empty() => {
            checks.push(Check::skipped(
                "authority-valid",
                GROUP,
                "there is no signing authority yet",
            ));
        }
        Ok(issuers) => checks.extend(issuers.iter().map(|issuer| valid(issuer, facts))),
    }
    checks.extend(rotations(facts));
    checks
}

/// A rotation that waits for somebody is as it should be for a while.
fn rotations(facts: &Facts) -> Vec<Check> {
    let id = "rotations-on-time";
    let Some(authorities) = &facts.authorities else { return Vec::new() };
    let under_way: Vec<_> = authorities
        .iter()
        .filter_map(|one| Some((one, one.rotation.as_ref().filter(|each| each.under_way)?)))
        .collect();
    if under_way.is_empty() {
        return vec![Check::ok(id, GROUP, "no rotation is under way")];
    }
    let each = under_way.iter().map(|(one, rotation)| {
        let names: Vec<String> =
            rotation.waits_for.iter().map(|each| format!("{} {}", each.kind, each.name)).collect();
        let waits = match names.as_slice() {
            [] => String::new(),
            names => format!(", and waits for {}", names.join(", ")),
        };
        let since = words::distance(rotation.since, facts.now);
        let fact =
            format!("the rotation of {} is {} since {since}{waits}", one.name, rotation.phase);
        let is_late = facts.now.duration_since(rotation.since).as_secs() > WAITED;
        match &one.fault {
            Some(fault) => Check::failed(
                id,
                GROUP,
                format!("{fact}: {fault}"),
                "mend what is named; it goes on by itself",
            ),
            None if is_late && !names.is_empty() => Check::warning(
                id,
                GROUP,
                fact,
                "bring them back, or let it go on without them: see `handfast ca status`",
            ),
            None => Check::ok(id, GROUP, fact),
        }
    });
    each.collect()
}

fn ledger(ledger: &LedgerFacts) -> Check {
    let id = "ledger-intact";
    match ledger {
        LedgerFacts::Absent => {
            Check::skipped(id, GROUP, "there is no ledger yet: the node makes it")
        }
        LedgerFacts::Broken(why) => Check::failed(
            id,
            GROUP,
            format!("the ledger cannot be used: {why}"),
            "nothing is signed without it. Mend what is named, or restore it from the backup",
        ),
        LedgerFacts::Good { .. } => Check::ok(id, GROUP, "the ledger is intact"),
    }
}

fn audit(ledger: &LedgerFacts) -> Option<Check> {
    let id = "audit-sound";
    let LedgerFacts::Good { audit, .. } = ledger else { return None };
    Some(match audit {
        Ok(rows) => {
            Check::ok(id, GROUP, format!("all of {rows} rows of the audit log prove themselves"))
        }
        Err(why) => Check::failed(
            id,
            GROUP,
            format!("the audit log does not prove itself: {why}"),
            "keep a copy of `runtime/state.db` and find out who wrote to it; `handfast audit verify` lists all",
        ),
    })
}

fn valid(issuer: &IssuerFacts, facts: &Facts) -> Check {
    let id = "authority-valid";
    let what = if issuer.is_root { "root" } else { "authority" };
    let fact = format!(
        "the {what} {} ends {}{}",
        issuer.name,
        words::distance(issuer.not_after, facts.now),
        if issuer.has_key { "" } else { " (its key is elsewhere)" }
    );
    let now = facts.now;
    if issuer.not_after <= now {
        return Check::failed(
            id,
            GROUP,
            format!("the {what} {} has expired", issuer.name),
            "nothing can be signed by it. It is made anew where its own signer is; a root is rotated",
        );
    }
    if issuer.not_before > now {
        return Check::failed(
            id,
            GROUP,
            format!("the {what} {} is not valid yet", issuer.name),
            "check the clock, see clock-skew",
        );
    }
    let (_, end) = (issuer.not_before, issuer.not_after);
    let is_late = match issuer.renew_at {
        Some(moment) => now.duration_since(moment).as_secs() > LATE,
        // Somebody else's: a tenth of a usual life is left.
        None => end.duration_since(now).as_secs() < SUPPLIED,
    };
    if is_late {
        Check::warning(
            id,
            GROUP,
            fact,
            "it should have been renewed: see the node's problems. A supplied one is yours to renew",
        )
    } else {
        Check::ok(id, GROUP, fact)
    }
}

/// Seconds a rotation may wait for somebody.
const WAITED: i64 = 900;
/// Seconds after which a renewal is late: one day for what lives for months.
const LATE: i64 = 86_400;
/// Seconds before the end of a supplied one.
const SUPPLIED: i64 = 30 * 86_400;
