//! What listeners and connectors have in common on the command line.

use handfast_api::resources::{RoutingKey, nearest};
use handfast_pki::{Host, Name};

use super::uptake::Uptake;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Page;

/// The routing key that was typed, else the name.
pub(super) fn routing_key(typed: Option<String>, name: &Name) -> anyhow::Result<RoutingKey> {
    let text = typed.unwrap_or_else(|| name.to_string());
    text.parse::<RoutingKey>().map_err(|error| {
        Failure::new(Exit::Usage, format!("`{text}` is no routing key")).because(error).into()
    })
}

/// The host that was typed.
pub(super) fn host(typed: &str) -> anyhow::Result<Host> {
    typed.parse::<Host>().map_err(|error| {
        Failure::new(Exit::Usage, format!("`{typed}` is no host")).because(error).into()
    })
}

/// Only the one of this name, or all.
pub(super) fn named<T>(
    all: Vec<T>,
    name: Option<&Name>,
    kind: &str,
    name_of: impl Fn(&T) -> &String,
) -> anyhow::Result<Vec<T>> {
    let Some(name) = name else { return Ok(all) };
    let known: Vec<String> = all.iter().map(|one| name_of(one).clone()).collect();
    let found: Vec<T> = all.into_iter().filter(|one| name_of(one) == name.as_str()).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    Err(unknown("the node", kind, name, known.iter().map(String::as_str)).into())
}

/// What was named is not there: which ones are, and which of them may have been meant.
pub(super) fn unknown<'a>(
    whose: &str,
    kind: &str,
    name: impl std::fmt::Display,
    known: impl Iterator<Item = &'a str>,
) -> Failure {
    let failure = Failure::new(Exit::NotFound, format!("{whose} has no {kind} `{name}`"));
    let known: Vec<&str> = known.collect();
    if known.is_empty() {
        return failure.because("it has none");
    }
    let failure = failure.because(format!("it has: {}", known.join(", ")));
    match nearest(&name.to_string(), known) {
        Some(near) => failure.remedy(format!("did you mean `{near}`?")),
        None => failure,
    }
}

/// Says that a resource is gone.
pub(super) fn deleted<T>(page: &mut Page, uptake: &Uptake<T>) {
    let gone = if uptake.node_running {
        "and the node has stopped serving it"
    } else {
        "and no node runs on this home"
    };
    page.line(format!("{} is deleted ({}), {gone}.", uptake.resource, uptake.file.display()));
}
