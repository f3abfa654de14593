//! `handfast token issue|redeem`: how one site lets another link to it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use handfast_api::admin::{ClientError, IssueToken, IssuedToken, RedeemToken, RedeemedToken};
use handfast_api::grants::{read_token, write_token};
use handfast_api::status::LinkState;
use handfast_pki::{IdentityKind, Name, SpiffeId};
use jiff::Timestamp;
use serde::Serialize;

use super::cert::issue::trust_domain;
use super::{Context, words};
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node;

/// Verbs of `handfast token`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// Make a token that lets another site link to this one, or telemetry agents report, and write it to a file
    #[command(after_help = "Examples:\n  \
        handfast token issue west.token\n  \
        handfast token issue west.token --redemptions-allowed 3 --expiration-window 1h --cost 5\n  \
        handfast token issue shop.token --agent shop --redemptions-allowed 20\n\n\
        Hand the file over on a way that others cannot read: until it is redeemed or expires, who has it can link.")]
    Issue(Issue),
    /// Use a token of another site: make a key here, have its certificate signed there, and link
    #[command(after_help = "Example:\n  handfast token redeem west.token\n\n\
        The private key is made here and never leaves. Redeeming again after an interruption gives the same answer.")]
    Redeem(Redeem),
}

/// Arguments of `handfast token issue`.
#[derive(clap::Args, Debug)]
pub(crate) struct Issue {
    /// The file to write (mode 0600). It must not exist
    file: PathBuf,
    /// How many sites or agents may redeem it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    redemptions_allowed: u32,
    /// How long it can be redeemed, like 15m or 1h30m
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = super::duration)]
    expiration_window: Duration,
    /// The cost of the link it makes; traffic takes the cheapest way
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    cost: u32,
    /// Only the site of this name may redeem it
    #[arg(long, value_name = "NAME")]
    site: Option<Name>,
    /// For telemetry agents of this service instead of a site: it links nothing
    #[arg(long, value_name = "SERVICE", conflicts_with_all = ["site", "cost"])]
    agent: Option<Name>,
}

/// Arguments of `handfast token redeem`.
#[derive(clap::Args, Debug)]
pub(crate) struct Redeem {
    /// The token file
    file: PathBuf,
    #[command(flatten)]
    wait: super::Wait,
}

/// Runs the verb.
pub(crate) async fn run(verb: Verb, context: &Context) -> anyhow::Result<()> {
    match verb {
        Verb::Issue(issue) => self::issue(issue, context).await,
        Verb::Redeem(redeem) => self::redeem(redeem, context).await,
    }
}

async fn issue(issue: Issue, context: &Context) -> anyhow::Result<()> {
    // First the place for the answer: a code that could not be written down would be lost.
    let mut place = Reserved::new(&issue.file)?;
    let request = IssueToken {
        name: None,
        redemptions_allowed: Some(issue.redemptions_allowed),
        expiration_window: Some(format!("{}s", issue.expiration_window.as_secs())),
        cost: Some(issue.cost),
        site: issue.site.map(|site| site.to_string()),
        agent: match &issue.agent {
            Some(service) => Some(agent(service, context).await?),
            None => None,
        },
    };
    let token = context.client().issue_token(&request).await.context("no token was issued")?;
    place.fill(&token)?;

    let issued = Issued {
        file: issue.file.display().to_string(),
        name: token.name,
        url: token.url,
        redemptions_allowed: token.redemptions_allowed,
        expiration_time: token.expiration_time,
        link_cost: token.link_cost,
        agent: token.agent,
    };
    context.output.show(&issued, |page| {
        let until = words::moment(Some(issued.expiration_time), clock::now());
        page.line(format!("Token {} is in {}", issued.name, issued.file));
        page.fields(&[
            ("redeemed at", issued.url.clone()),
            ("redemptions", issued.redemptions_allowed.to_string()),
            ("until", until),
            ("agents of", issued.agent.clone().unwrap_or_default()),
            (
                "link cost",
                if issued.agent.is_none() { issued.link_cost.to_string() } else { String::new() },
            ),
        ]);
        if issued.agent.is_some() {
            let file = file_name(&issue.file);
            page.line("Hand the file over in private, and where the agents are type:");
            page.line(format!("  handfast enrol DIR --token {file} --keep"));
            page.line(
                "DIR gets tls.crt, tls.key and ca.crt. For a relay: `input/certs/NAME` of its home, and --tls-credentials NAME \
                 of `handfast relay create`.",
            );
            return;
        }
        page.line("Hand the file over in private, and at the other site type:");
        page.line(format!("  handfast token redeem {}", file_name(&issue.file)));
    })
}

/// The identity of a service's agents, in full.
async fn agent(service: &Name, context: &Context) -> anyhow::Result<String> {
    let domain = trust_domain(context).await?.ok_or_else(|| {
        Failure::new(Exit::Failed, "this home has no site yet, so nothing enrols here")
            .at(context.home.root.display())
            .remedy(format!("create one first: {}", context.command("site create NAME")))
    })?;
    Ok(SpiffeId::new(domain, IdentityKind::Agent, service).to_string())
}

/// What `token issue` did, for programs: all but the code, which is in the file alone.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    file: String,
    name: String,
    url: String,
    redemptions_allowed: u32,
    expiration_time: Timestamp,
    link_cost: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
}

async fn redeem(redeem: Redeem, context: &Context) -> anyhow::Result<()> {
    let file = read_token(&redeem.file)?;
    if let Some(service) = file.spec.agent().ok().flatten() {
        return Err(Failure::new(
            Exit::BadInput,
            "the token is for telemetry agents and links no site",
        )
        .at(redeem.file.display())
        .because(format!("it enrols agents of service {service}"))
        .remedy("name it as the `token` of a Relay; for a link, ask for a token without --agent")
        .into());
    }
    let request = RedeemToken::from(&file);
    let client = context.client().with_timeout(redeem.wait.timeout.max(SHORTEST_REDEMPTION));
    let (redeemed, node_running) = match client.redeem_token(&request).await {
        Err(ClientError::NoNode { .. }) => {
            (node::redeem_offline(&context.home, request).await, false)
        }
        answer => (answer.map_err(anyhow::Error::from), true),
    };
    let token = redeemed
        .with_context(|| format!("the token {} was not redeemed", redeem.file.display()))?;
    let state = if node_running { link_state(context, &token, redeem.wait).await? } else { None };
    let done = Redeemed { token, node_running, state };
    context.output.show(&done, |page| {
        let token = &done.token;
        page.line(format!("This site is {} now.", token.identity));
        page.fields(&[
            ("linked to", token.remote_site.clone()),
            ("trust domain", token.trust_domain.clone()),
            ("link", token.links.join(", ")),
            ("state", done.state.map(|state| words::link(state).to_owned()).unwrap_or_default()),
            ("certificate until", words::moment(Some(token.not_after), clock::now())),
        ]);
        if token.repeated {
            page.line("The token had been redeemed by this site before; the answer is the same.");
        }
        match done.state {
            Some(LinkState::Up) => {}
            Some(_) => {
                page.line(format!("See why it is not up: {}", context.command("link status")));
            }
            None => page.line(format!(
                "No node runs on this home yet. Start it, and it links: {}",
                context.command("run")
            )),
        }
    })
}

/// What `token redeem` did, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Redeemed {
    #[serde(flatten)]
    token: RedeemedToken,
    node_running: bool,
    state: Option<LinkState>,
}

/// Waits until the new link is up. A link that is not, in time, is told as it is: the token is redeemed all the same.
async fn link_state(
    context: &Context,
    token: &RedeemedToken,
    wait: super::Wait,
) -> anyhow::Result<Option<LinkState>> {
    let client = context.client();
    let deadline = Instant::now() + wait.timeout;
    loop {
        let links = client.links().await?;
        let ours =
            links.iter().filter(|link| token.links.contains(&link.name)).map(|link| link.state);
        let states: Vec<LinkState> = ours.collect();
        if states.contains(&LinkState::Up) {
            return Ok(Some(LinkState::Up));
        }
        if Instant::now() >= deadline {
            return Ok(states.first().copied().or(Some(LinkState::Down)));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The place of a token file: taken before there is a token, given up again if there will be none.
struct Reserved<'a> {
    path: &'a Path,
    filled: bool,
}

impl<'a> Reserved<'a> {
    fn new(path: &'a Path) -> anyhow::Result<Self> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        made.map_err(|error| {
            let (exit, remedy) = match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    (Exit::Failed, "name another file, or remove this one")
                }
                io::ErrorKind::NotFound => (Exit::BadInput, "make the directory first"),
                _ => (Exit::Home, "check who may write there, and whether there is room"),
            };
            Failure::new(exit, "no token was issued: its file cannot be made")
                .at(path.display())
                .because(error)
                .remedy(remedy)
        })?;
        Ok(Self { path, filled: false })
    }

    fn fill(&mut self, token: &IssuedToken) -> anyhow::Result<()> {
        write_token(self.path, token)?;
        self.filled = true;
        Ok(())
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.filled {
            // An empty file is no token; where it cannot be removed, it does no harm.
            let _ = std::fs::remove_file(self.path);
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The other site may be far away; what was consumed there must not be given up here too early.
const SHORTEST_REDEMPTION: Duration = Duration::from_secs(30);

/// How often the link is looked at.
const POLL: Duration = Duration::from_millis(25);
