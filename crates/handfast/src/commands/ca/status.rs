//! `handfast ca status`: every authority with its keys, and every laggard of a rotation by name.

use handfast_api::admin::{AuthorityStatus, LaggardStatus, RotationStatus};
use jiff::Timestamp;

use super::is_meant;
use crate::clock;
use crate::commands::{Context, edge, words};
use crate::output::Page;

/// Arguments of `handfast ca status`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Only this one: root, site, local, service, or a name
    name: Option<String>,
}

/// Prints how they stand.
pub(super) async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<()> {
    let mut authorities = context.client().authorities().await?;
    if let Some(word) = &arguments.name {
        if !authorities.iter().any(|authority| is_meant(authority, word)) {
            let known = authorities.iter().map(|authority| authority.name.as_str());
            let words = authorities.iter().map(|authority| authority.role.as_str());
            return Err(edge::unknown("this site", "authority", word, words.chain(known)).into());
        }
        authorities.retain(|authority| is_meant(authority, word));
    }
    context.output.show(&authorities, |page| draw(page, &authorities))
}

pub(super) fn draw(page: &mut Page, authorities: &[AuthorityStatus]) {
    let now = clock::now();
    let rows: Vec<Vec<String>> = authorities
        .iter()
        .flat_map(|authority| authority.keys.iter().map(move |key| (authority, key)))
        .map(|(authority, key)| {
            vec![
                authority.name.clone(),
                key.generation.to_string(),
                key.state.clone(),
                key.fingerprint.chars().take(SHORT).chain(['…']).collect(),
                words::distance(key.not_after, now),
                authority.signed_by.clone().unwrap_or_else(|| "itself".to_owned()),
                authority.bundle_sequence.map(|number| number.to_string()).unwrap_or_default(),
            ]
        })
        .collect();
    let header = ["NAME", "KEY", "STATE", "FINGERPRINT", "EXPIRES", "SIGNED BY", "BUNDLE"];
    page.table(
        &header,
        &rows,
        "No authorities. They are made when the node first runs: handfast run",
    );
    for authority in authorities {
        for kept in &authority.kept_keys {
            page.line(format!(
                "{}: the key of {}… signs nothing but revocations; what it signed has expired {}",
                authority.name,
                kept.fingerprint.chars().take(SHORT).collect::<String>(),
                words::distance(kept.until, now)
            ));
        }
        if let Some(rotation) = authority.rotation.as_ref().filter(|rotation| rotation.under_way) {
            page.heading(&format!("{}: {}", authority.name, headline(rotation)));
            under_way(page, authority, rotation, now);
        }
    }
}

/// One line about a rotation.
pub(super) fn headline(rotation: &RotationStatus) -> String {
    let (new, old) = (rotation.generation, rotation.old_generation);
    match rotation.phase.as_str() {
        "preparing" => format!("key {new} is being made"),
        "prepared" => format!("key {new} is prepared, and not in use yet"),
        "draining" => format!("key {new} is in use, key {old} drains"),
        "revoked" => format!("key {new} is in use, key {old} is gone"),
        "rolled-back" => format!("taken back: key {old} is in use"),
        other => other.to_owned(),
    }
}

fn under_way(
    page: &mut Page,
    authority: &AuthorityStatus,
    rotation: &RotationStatus,
    now: Timestamp,
) {
    page.fields(&[
        (
            "phase",
            format!("{}, since {}", rotation.phase, words::moment(Some(rotation.since), now)),
        ),
        ("cause", format!("{}, by {}", rotation.cause, rotation.by)),
        ("reason", rotation.reason.clone()),
        ("waived by", rotation.waived.clone().unwrap_or_default()),
        ("next step", words::moment(authority.next_step_at, now)),
        ("fault", authority.fault.clone().unwrap_or_default()),
    ]);
    let rows: Vec<Vec<String>> =
        rotation.waits_for.iter().map(|laggard| row(laggard, now)).collect();
    if !rows.is_empty() {
        let header =
            ["WAITS FOR", "NAME", "REACHABLE", "LAST SEEN", "HAS BUNDLE", "UNTIL", "LACKS"];
        page.table(&header, &rows, "");
    }
}

fn row(laggard: &LaggardStatus, now: Timestamp) -> Vec<String> {
    let lacks = match laggard.lacks.as_str() {
        "trust" => "trust in the new key",
        "credential" => "a certificate of the new key",
        other => other,
    };
    vec![
        laggard.kind.clone(),
        laggard.name.clone(),
        if laggard.reachable { "yes" } else { "no" }.to_owned(),
        match (laggard.reachable, laggard.last_seen) {
            (true, _) => "now".to_owned(),
            (false, seen) => seen.map(|seen| words::distance(seen, now)).unwrap_or_default(),
        },
        laggard.sequence.map(|number| number.to_string()).unwrap_or_default(),
        laggard.expires.map(|end| words::distance(end, now)).unwrap_or_default(),
        lacks.to_owned(),
    ]
}

const SHORT: usize = 17;
