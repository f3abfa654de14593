//! Declaring collectors and relays, and taking them away: what both have in common.

use std::path::PathBuf;

use handfast_api::admin::Client;
use handfast_api::resources::edit::{self, Existing};
use handfast_api::resources::{
    Kind, Quantity, Resource, Spec, Spool, WhenFull as DeclaredWhenFull,
};
use handfast_api::secret::Secret;
use handfast_api::status::EdgeState;
use handfast_api::telemetry::{StationKind, StationView};
use handfast_pki::Name;

use super::super::lone::WhenFull;
use super::super::lone::token::{Token, TokenFrom};
use super::super::uptake::{self, Uptake};
use super::super::{Context, Wait, edge};

/// What may wait for a backend.
#[derive(clap::Args, Debug)]
pub(in crate::commands) struct SpoolOptions {
    /// How much may wait on the disk to be sent on [default: 10Gi]
    #[arg(long, value_name = "SIZE")]
    spool_size: Option<Quantity>,
    /// What happens when that much waits [default: refuse]
    #[arg(long, value_enum, value_name = "refuse|drop-oldest")]
    when_full: Option<WhenFull>,
}

impl SpoolOptions {
    /// As it is declared; nothing where nothing was said.
    pub(in crate::commands) fn declared(&self) -> Option<Spool> {
        if self.spool_size.is_none() && self.when_full.is_none() {
            return None;
        }
        let when_full = match self.when_full {
            Some(WhenFull::DropOldest) => DeclaredWhenFull::DropOldest,
            Some(WhenFull::Refuse) | None => DeclaredWhenFull::Refuse,
        };
        Some(Spool { max_size: self.spool_size, when_full })
    }
}

/// The token in a file, if one is named.
pub(in crate::commands) fn token(file: Option<PathBuf>) -> anyhow::Result<Option<Secret>> {
    let Some(file) = file else { return Ok(None) };
    Ok(Token::open(TokenFrom::File(file))?.get().cloned())
}

/// Arguments of `delete`.
#[derive(clap::Args, Debug)]
pub(crate) struct Delete {
    /// Its name
    name: Name,
    #[command(flatten)]
    wait: Wait,
}

/// Writes the resource, and waits until it works: a port that is taken is a failure of its own.
pub(in crate::commands) async fn declare<S: Spec>(
    kind: StationKind,
    resource: &Resource<S>,
    line: &str,
    wait: Wait,
    context: &Context,
) -> anyhow::Result<Uptake<StationView>> {
    let written = edit::write(&context.home.input_resources, resource, line, Existing::Keep)?;
    let wanted = resource.name.as_str();
    let uptake = uptake::wait(context, wait, resource.reference(), written.file, async |client| {
        let is_it = |one: &StationView| (one.kind, one.name.as_str()) == (kind, wanted);
        let found = client.stations().await?.into_iter().find(is_it);
        Ok(found.filter(|one| one.state != EdgeState::Failed || !one.closed.is_empty()))
    })
    .await?;
    if let Some(one) = &uptake.status {
        uptake::must_work(&uptake.resource, &uptake.file, one.state, one.closed.first())?;
    }
    Ok(uptake)
}

/// Takes it away, and waits until it is gone.
pub(in crate::commands) async fn delete(
    kind: StationKind,
    delete: Delete,
    context: &Context,
) -> anyhow::Result<()> {
    let resource = match kind {
        StationKind::Collector => Kind::Collector,
        StationKind::Relay => Kind::Relay,
    };
    let file = edit::delete(&context.home.input_resources, resource, &delete.name)?;
    let name = delete.name.as_str();
    let subject = format!("{resource}/{name}");
    let there = async |client: &Client| {
        let is_it = |one: &StationView| (one.kind, one.name.as_str()) == (kind, name);
        Ok(client.stations().await?.iter().any(is_it))
    };
    let uptake = uptake::wait_until_gone(context, delete.wait, subject, file, there).await?;
    context.output.show(&uptake, |page| edge::deleted(page, &uptake))
}
