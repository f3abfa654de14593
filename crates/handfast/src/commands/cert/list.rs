//! `handfast cert list`: from the running node, or from the files of the home when none runs.

use std::time::Duration;

use handfast_api::admin::ClientError;
use handfast_api::status::{CredentialSource, CredentialState, CredentialStatus};
use handfast_authority::{KeyPlace, renew_at};
use handfast_pki::{Certificate, Chain};
use handfast_store::{CredentialStore as _, DirectoryStore, Kind, Source, Stored};
use jiff::Timestamp;

use crate::clock;
use crate::commands::{Context, words};
use crate::exit::Exit;
use crate::node::view;
use crate::output::Page;

/// Arguments of `handfast cert list`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// What is revoked instead, as far as this node knows, its own credentials or not; needs a running node
    #[arg(long, conflicts_with = "expiring")]
    revoked: bool,
    /// Only those that end within this time, or have ended; exits with 9 if there is none
    #[arg(long, value_name = "DURATION", value_parser = crate::commands::duration)]
    expiring: Option<Duration>,
    #[command(flatten)]
    issued: super::issued::Which,
}

/// Prints the list.
pub(super) async fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    if arguments.revoked {
        let revoked = context.client().revocations().await?;
        context.output.show(&revoked, |page| {
            super::revoke::table(page, &revoked, "Nothing that is valid otherwise is revoked.");
        })?;
        return Ok(Exit::Success);
    }
    if arguments.issued.wanted() {
        return super::issued::run(&arguments.issued, arguments.expiring, context).await;
    }
    let mut credentials = match context.client().credentials().await {
        Err(ClientError::NoNode { .. }) => {
            context.home_is_there()?;
            from_files(context)?
        }
        answer => answer?,
    };
    let Some(within) = arguments.expiring else {
        context.output.show(&credentials, |page| {
            let none = format!(
                "No certificates. They are made when the node first runs: {}",
                context.command("run")
            );
            draw(page, &credentials, &none);
        })?;
        return Ok(Exit::Success);
    };
    let horizon = clock::now().checked_add(within).unwrap_or(Timestamp::MAX);
    credentials.retain(|one| one.not_after.is_some_and(|end| end <= horizon));
    credentials.sort_by_key(|one| one.not_after);
    context
        .output
        .show(&credentials, |page| draw(page, &credentials, "Nothing expires so soon."))?;
    Ok(if credentials.is_empty() { Exit::No } else { Exit::Success })
}

fn draw(page: &mut Page, credentials: &[CredentialStatus], empty: &str) {
    let now = clock::now();
    let rows: Vec<Vec<String>> = credentials
        .iter()
        .map(|one| {
            vec![
                one.name.clone(),
                one.identity.clone().unwrap_or_default(),
                one.serial.as_deref().map(short).unwrap_or_default(),
                words::credential(one.state).to_owned(),
                words::source(one.source).to_owned(),
                one.key.map(words::key).unwrap_or_default().to_owned(),
                one.not_after.map(|end| words::distance(end, now)).unwrap_or_default(),
                one.renew_at.map(|moment| words::distance(moment, now)).unwrap_or_default(),
            ]
        })
        .collect();
    let header = ["NAME", "IDENTITY", "SERIAL", "STATE", "SOURCE", "KEY", "EXPIRES", "RENEWED"];
    page.table(&header, &rows, empty);
}

/// The first digits of a serial number are enough to tell two apart; `-o json` has all.
fn short(serial: &str) -> String {
    if serial.len() <= SHORT {
        return serial.to_owned();
    }
    serial.chars().take(SHORT).chain(['…']).collect()
}

/// What lies in the home, judged by its dates and by whether it can be read.
pub(in crate::commands) fn from_files(context: &Context) -> anyhow::Result<Vec<CredentialStatus>> {
    let store = DirectoryStore::read_only(&context.home);
    let now = clock::now();
    let mut found = Vec::new();
    for kind in [Kind::Issuer, Kind::Certificate] {
        for name in store.list(kind)? {
            if let Some(stored) = store.load(kind, &name)? {
                found.push(of(&stored, now));
            }
        }
    }
    Ok(found)
}

fn of(stored: &Stored, now: Timestamp) -> CredentialStatus {
    let chain = stored.pem.tls_crt.as_deref().and_then(|pem| Chain::from_pem(pem).ok());
    let leaf = chain.as_ref().map(Chain::leaf);
    let source = match stored.source {
        Source::Managed => CredentialSource::Managed,
        Source::Supplied => CredentialSource::Supplied,
    };
    let renew_at = leaf
        .filter(|_| stored.source == Source::Managed)
        .map(|leaf| renew_at(leaf.not_before(), leaf.not_after(), leaf.fingerprint().as_bytes()));
    let key = KeyPlace::of(stored);
    // Whether the secret of the node opens it is not known here.
    let usable = key != KeyPlace::Plain || stored.credential(None).is_ok();
    let state = match leaf {
        Some(leaf) if leaf.not_after() < now => CredentialState::Expired,
        Some(leaf) if leaf.not_before() > now => CredentialState::NotYetValid,
        Some(_) if !usable => CredentialState::Broken,
        Some(_) if renew_at.is_some_and(|moment| moment < now) => CredentialState::RenewalDue,
        Some(_) => CredentialState::Valid,
        None => CredentialState::Broken,
    };
    CredentialStatus {
        name: stored.name.to_string(),
        identity: leaf.and_then(|leaf| {
            let identity = leaf.spiffe_id().ok().flatten().map(|identity| identity.to_string());
            identity.or_else(|| leaf.common_name().map(ToOwned::to_owned))
        }),
        serial: leaf.map(|leaf| leaf.serial().to_string()),
        issuer: leaf.map(|leaf| leaf.issuer().to_owned()),
        not_before: leaf.map(Certificate::not_before),
        not_after: leaf.map(Certificate::not_after),
        renew_at,
        source,
        state,
        key: Some(view::key_place(key)),
        failures: 0,
        last_error: None,
    }
}

const SHORT: usize = 12;
