//! `handfast ca rollback`: takes a rotation back that has not ended.

use handfast_api::admin::RollBack;

use super::Role;
use super::rotate::{Following, follow};
use crate::commands::Context;

/// Arguments of `handfast ca rollback`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Which one
    authority: Role,
    /// Why; it is kept in the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    following: Following,
}

/// Orders, and follows.
pub(super) async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<()> {
    let request = RollBack {
        authority: arguments.authority.as_str().to_owned(),
        reason: arguments.reason.unwrap_or_default(),
    };
    let ordered = context.client().roll_back(&request).await?;
    follow(ordered, &arguments.following, context).await
}
