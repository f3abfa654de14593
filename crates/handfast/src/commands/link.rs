//! `handfast link status`: the links of this site, who is at their other ends, and how they are protected.

use handfast_api::status::{LinkStatus, PeerView, SessionView};
use handfast_pki::Name;

use super::{Context, edge, words};
use crate::clock;
use crate::output::Page;

/// Verbs of `handfast link`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// See the links: who is at the other end, how they are protected, what they carried, and why one is down
    #[command(after_help = "Examples:\n  handfast link status\n  handfast link status west\n  \
        handfast link status -o json | jq '.[] | select(.state != \"up\") | .fault'")]
    Status(Status),
}

/// Arguments of `handfast link status`.
#[derive(clap::Args, Debug)]
pub(crate) struct Status {
    /// Only this link, in full
    name: Option<Name>,
}

/// Runs the verb.
pub(crate) async fn run(verb: Verb, context: &Context) -> anyhow::Result<()> {
    let Verb::Status(status) = verb;
    let links = context.client().links().await?;
    let links = edge::named(links, status.name.as_ref(), "link", |one| &one.name)?;
    context.output.show(&links, |page| {
        if status.name.is_some() {
            for link in &links {
                in_full(page, link);
            }
        } else {
            table(page, &links);
        }
    })
}

/// The links as a table, faults beneath.
pub(super) fn table(page: &mut Page, links: &[LinkStatus]) {
    let rows: Vec<Vec<String>> = links
        .iter()
        .map(|link| {
            vec![
                link.name.clone(),
                words::direction(link.direction).to_owned(),
                words::link(link.state).to_owned(),
                link.cost.to_string(),
                link.peer.as_ref().map(known_as).unwrap_or_default(),
                link.session.as_ref().map(protection).unwrap_or_default(),
                words::bytes(link.bytes_in),
                words::bytes(link.bytes_out),
            ]
        })
        .collect();
    let header = ["NAME", "DIRECTION", "STATE", "COST", "PEER", "PROTECTION", "IN", "OUT"];
    page.table(
        &header,
        &rows,
        "No links. Redeem a token of another site: handfast token redeem FILE",
    );
    for link in links {
        words::fault(page, &format!("link {}", link.name), link.fault.as_ref());
    }
}

fn in_full(page: &mut Page, link: &LinkStatus) {
    let now = clock::now();
    let peer = link.peer.clone().unwrap_or_default();
    let session = link.session.clone().unwrap_or_default();
    page.heading(&format!("link {}", link.name));
    page.fields(&[
        ("state", words::link(link.state).to_owned()),
        ("since", words::moment(link.since, now)),
        ("direction", words::direction(link.direction).to_owned()),
        ("endpoint", link.endpoint.clone()),
        ("remote site", link.remote_site.clone().unwrap_or_default()),
        ("cost", link.cost.to_string()),
        ("connections", link.connections.to_string()),
        ("received", words::bytes(link.bytes_in)),
        ("sent", words::bytes(link.bytes_out)),
        ("identity", peer.identity.unwrap_or_default()),
        ("serial", peer.serial),
        ("fingerprint", peer.fingerprint),
        ("issuer", peer.issuer),
        ("valid until", words::moment(peer.not_after, now)),
        ("TLS version", session.version),
        ("cipher", session.cipher),
        ("key exchange", session.group),
        ("protocol", session.alpn.unwrap_or_default()),
    ]);
    words::fault(page, "What is wrong", link.fault.as_ref());
}

fn known_as(peer: &PeerView) -> String {
    peer.identity
        .clone()
        .or_else(|| peer.common_name.clone())
        .unwrap_or_else(|| peer.fingerprint.clone())
}

fn protection(session: &SessionView) -> String {
    format!("{} {}", session.version, session.group)
}
