//! `handfast ca status|rotate|rollback`: the authorities of this home, and giving them new keys.

mod rollback;
mod rotate;
mod status;

use handfast_api::admin::AuthorityStatus;

use crate::commands::Context;

/// Verbs of `handfast ca`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// See every authority of this site: its keys, its rotation, and whom that waits for
    #[command(
        after_help = "Examples:\n  handfast ca status\n  handfast ca status root -o json | jq '.[0].rotation.waitsFor'"
    )]
    Status(status::Arguments),
    /// Give an authority a new key, without an outage
    #[command(after_help = "Examples:\n  handfast ca rotate site --wait\n  \
        handfast ca rotate root --wait --reason 'yearly'\n  \
        handfast ca rotate root --forced --reason 'the key was copied'\n  \
        handfast ca rotate root --proceed-without-laggards --reason 'east is being scrapped'\n\n\
        The new key is trusted everywhere before it signs anything, and the old one goes when nothing needs it \
        any more; `handfast ca rollback` goes back until then. Given for a rotation that is under way, the \
        command makes it urgent.")]
    Rotate(rotate::Arguments),
    /// Take a rotation back that has not ended
    #[command(
        after_help = "Examples:\n  handfast ca rollback root\n  handfast ca rollback site --wait --reason 'change freeze'"
    )]
    Rollback(rollback::Arguments),
}

/// Runs the verb.
pub(crate) async fn run(verb: Verb, context: &Context) -> anyhow::Result<()> {
    match verb {
        Verb::Rollback(arguments) => rollback::run(arguments, context).await,
        Verb::Rotate(arguments) => rotate::run(arguments, context).await,
        Verb::Status(arguments) => status::run(arguments, context).await,
    }
}

/// What an authority is, which is what it goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Signs what the parts of the site show each other
    Local,
    /// The anchor of the trust domain
    Root,
    /// Signs what applications and the site show each other
    Service,
    /// Signs link and server certificates
    Site,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Root => "root",
            Self::Service => "service",
            Self::Site => "site",
        }
    }
}

/// Whether an authority is the one meant by a role or a name.
fn is_meant(authority: &AuthorityStatus, word: &str) -> bool {
    authority.role == word || authority.name == word
}
