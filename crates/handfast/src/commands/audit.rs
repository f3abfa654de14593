//! `handfast audit list|verify|export`: what happened here, and the proof that nobody changed the record
//! of it. All three read the ledger beside a node that may be running, and change nothing; or ask a node elsewhere.

mod export;
mod list;
mod verify;

use std::fs;
use std::path::Path;

use handfast_api::admin::AuditSearch;
use handfast_store::{AuditLog, AuditPublicKey, SignedHead};
use jiff::{SignedDuration, Timestamp};

use crate::clock;
use crate::commands::{Context, duration};
use crate::exit::Exit;
use crate::failure::Failure;

/// Verbs of `handfast audit`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// List what was done: who, what, to what, when, why, with which result
    #[command(after_help = "Examples:\n  handfast audit list\n  \
        handfast audit list --since 24h --outcome refused\n  \
        handfast audit list --action certificate.revoke -o json | jq -r '.[].subject'")]
    List(list::Arguments),
    /// Check that no row of the audit log was edited, removed, put in, moved or taken back
    #[command(after_help = "Examples:\n  handfast audit verify\n  \
        handfast audit verify --head heads/2026-11-20.txt\n  \
        handfast audit verify --export audit.jsonl --key audit.pub\n\n\
        Exits with 0 if the log is whole, 9 if it is not. Keep the newest head elsewhere from time to time \
        (`handfast audit verify -o json | jq -r .head`): with it, even whoever holds the home's keys cannot \
        rewrite what it covers.")]
    Verify(verify::Arguments),
    /// Take the audit log away as JSON lines that verify anywhere
    #[command(after_help = "Examples:\n  handfast audit export audit.jsonl\n  \
        handfast audit export --since 7d --action certificate.issue > week.jsonl\n  \
        handfast audit verify --export week.jsonl\n  \
        handfast audit export --node https://west.shop.example:8443 --client-cert ~/audrey west.jsonl\n\n\
        Rows that do not fit the filter are there by their hash only, so that what is there can be verified.")]
    Export(export::Arguments),
}

/// Runs the verb.
pub(crate) async fn run(verb: &Verb, context: &Context) -> anyhow::Result<()> {
    match verb {
        Verb::Export(arguments) => export::run(arguments, context).await,
        Verb::List(arguments) => list::run(arguments, context).await,
        Verb::Verify(arguments) => verify::run(arguments, context).await,
    }
}

/// Which rows are wanted.
#[derive(clap::Args, Debug)]
struct Rows {
    /// Only rows since then: a time like 2026-11-21T08:00:00Z, or how long ago, like 24h
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// Only what this actor did: an identity, `node`, `uid:0`
    #[arg(long)]
    actor: Option<String>,
    /// Only this action, like certificate.issue
    #[arg(long)]
    action: Option<String>,
    /// Only what was done to this
    #[arg(long)]
    subject: Option<String>,
    /// Only this outcome
    #[arg(long, value_parser = OUTCOMES)]
    outcome: Option<String>,
}

impl Rows {
    fn search(&self) -> AuditSearch {
        AuditSearch {
            since: self.since,
            actor: self.actor.clone(),
            action: self.action.clone(),
            subject: self.subject.clone(),
            outcome: self.outcome.clone(),
            ..AuditSearch::default()
        }
    }
}

fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let ago = duration(text).map_err(|_| {
        "write a time like 2026-11-21T08:00:00Z, or how long ago: 45m, 24h, 7d".to_owned()
    })?;
    let ago = SignedDuration::try_from(ago).map_err(|error| error.to_string())?;
    clock::now().checked_sub(ago).map_err(|error| error.to_string())
}

/// The log of this home.
fn open(context: &Context) -> anyhow::Result<AuditLog> {
    if !context.has_ledger()? {
        return Err(Failure::new(Exit::Home, "this home has no ledger yet")
            .at(context.home.state_db.display())
            .remedy(format!(
                "it is made when the node first runs: {}; or name another home with --home",
                context.command("run")
            ))
            .into());
    }
    Ok(AuditLog::open(&context.home.state_db)?)
}

fn read_head(path: &Path) -> anyhow::Result<(String, SignedHead)> {
    let text = read_text(path)?;
    let head = format!("{}\n", text.trim()).parse().map_err(|error| {
        Failure::new(Exit::BadInput, "the head cannot be read").at(path.display()).because(error)
    })?;
    Ok((format!("the head in `{}`", path.display()), head))
}

fn read_key(path: &Path) -> anyhow::Result<AuditPublicKey> {
    AuditPublicKey::from_pem(&read_text(path)?).ok_or_else(|| {
        Failure::new(Exit::BadInput, "the file is not the public half of an audit key")
            .at(path.display())
            .remedy("it is a PEM file beginning with BEGIN PUBLIC KEY, with an Ed25519 key")
            .into()
    })
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).map_err(|error| {
        Failure::new(Exit::BadInput, "the file cannot be read")
            .at(path.display())
            .because(error)
            .remedy("check the path, and who may read it")
            .into()
    })
}

/// What a row can have as its outcome; `allowed`, `denied` and what a second person is asked for are of the admin API.
const OUTCOMES: [&str; 9] =
    ["allowed", "approved", "denied", "expired", "failed", "ok", "pending", "refused", "repeated"];
