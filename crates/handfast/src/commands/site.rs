//! `handfast site create`: writes the Site (and, with link access, the RouterAccess) of this home.
//!
//! It edits resources; the authority of the running node makes what they ask for.

use std::collections::BTreeMap;

use anyhow::Context as _;
use handfast_api::resources::edit::{self, Existing};
use handfast_api::resources::{LinkAccess, Resource, Role, RoleName, RouterAccess, Site};
use handfast_api::status::{EdgeState, NodeState};
use handfast_authority::CredentialNames;
use handfast_pki::{Host, Name, TrustDomain};
use serde::Serialize;

use super::{Context, edge, uptake, words};
use crate::exit::Exit;
use crate::failure::Failure;

/// Verbs of `handfast site`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// Create this home's site
    #[command(after_help = "Examples:\n  \
        handfast site create west --trust-domain demo.example --enable-link-access \\\n      \
            --link-host 127.0.0.1 --link-port 55671\n  \
        handfast site create east          # a site that only links outwards needs no more")]
    Create(Create),
}

/// Arguments of `handfast site create`.
#[derive(clap::Args, Debug)]
pub(crate) struct Create {
    /// The site's name: a-z, 0-9, '-' and '.', at most 63 characters
    name: Name,
    /// Found a trust domain of this name, with its root here. Without it the site stands alone until it redeems a token
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<TrustDomain>,
    /// Let other sites link to this one
    #[arg(long, requires = "link_host")]
    enable_link_access: bool,
    /// A host name or address under which other sites reach this one; may be given several times
    #[arg(long, value_name = "HOST", requires = "enable_link_access")]
    link_host: Vec<String>,
    /// The port for links
    #[arg(long, value_name = "PORT", requires = "enable_link_access", default_value_t = 55671, value_parser = clap::value_parser!(u16).range(1..))]
    link_port: u16,
    /// The port where tokens are redeemed [default: the link port + 1]
    #[arg(long, value_name = "PORT", requires = "enable_link_access", value_parser = clap::value_parser!(u16).range(1..))]
    grant_port: Option<u16>,
    /// Serve CRLs and OCSP on this port, over plain HTTP, and have certificates point there
    #[arg(long, value_name = "PORT", requires = "enable_link_access", value_parser = clap::value_parser!(u16).range(1..))]
    revocation_port: Option<u16>,
    #[command(flatten)]
    wait: super::Wait,
}

/// Runs the verb.
pub(crate) async fn run(verb: Verb, context: &Context) -> anyhow::Result<()> {
    let Verb::Create(create) = verb;
    self::create(create, context).await
}

async fn create(create: Create, context: &Context) -> anyhow::Result<()> {
    let access = access(&create)?;
    let line = create.line();
    let directory = &context.home.input_resources;

    let mut settings = BTreeMap::new();
    if let Some(trust_domain) = &create.trust_domain {
        settings.insert("trust-domain".to_owned(), trust_domain.to_string());
    }
    let link_access = create.enable_link_access.then_some(LinkAccess::Default);
    let site =
        Resource::new(create.name.clone(), Site { link_access, settings, ..Site::default() });
    let written = edit::write(directory, &site, &line, Existing::Keep)?;
    let mut files = vec![written.file.display().to_string()];
    if let Some(access) = access {
        let access = Resource::new(create.name.clone(), access);
        let written =
            edit::write(directory, &access, &line, Existing::Keep).with_context(|| {
                format!("{} is declared, and its link access is not", site.reference())
            })?;
        files.push(written.file.display().to_string());
    }

    let uptake =
        uptake::wait(context, create.wait, site.reference(), written.file, async |client| {
            let status = client.status().await?;
            let accessible = !create.enable_link_access
                || status.accesses.iter().any(|access| access.state != EdgeState::Waiting);
            Ok((status.site.as_deref() == Some(create.name.as_str()) && accessible)
                .then_some(status))
        })
        .await?;
    for access in uptake.status.iter().flat_map(|status| &status.accesses) {
        uptake::must_work(
            &format!("RouterAccess/{}", access.name),
            &uptake.file,
            access.state,
            access.fault.as_ref(),
        )?;
    }
    let created = Created {
        site: create.name.to_string(),
        trust_domain: create.trust_domain.as_ref().map(ToString::to_string),
        files,
        node_running: uptake.node_running,
        state: uptake.status.as_ref().map(|status| status.state),
    };
    context.output.show(&created, |page| {
        page.line(format!("Site/{} is declared:", created.site));
        created.files.iter().for_each(|file| page.line(format!("  {file}")));
        match &created.trust_domain {
            Some(domain) => page.line(format!(
                "It founds the trust domain {domain}; its root key stays in this home."
            )),
            None => page.line("It stands alone until it redeems a token of another site."),
        }
        if let Some(state) = created.state {
            page.line(format!("The node has taken it up and is {}.", words::node(state)));
        }
        uptake.without_node(context).iter().for_each(|hint| page.line(hint));
    })
}

/// What `site create` did, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    site: String,
    trust_domain: Option<String>,
    files: Vec<String>,
    node_running: bool,
    state: Option<NodeState>,
}

/// The RouterAccess that was asked for.
fn access(create: &Create) -> anyhow::Result<Option<RouterAccess>> {
    if !create.enable_link_access {
        return Ok(None);
    }
    let hosts = create
        .link_host
        .iter()
        .map(|host| edge::host(host))
        .collect::<anyhow::Result<Vec<Host>>>()?;
    let grant_port = create.grant_port.or_else(|| create.link_port.checked_add(1));
    let Some(grant_port) = grant_port.filter(|port| *port != create.link_port) else {
        return Err(Failure::new(Exit::Usage, "links and token redemption need a port each")
            .because(format!("--link-port is {}", create.link_port))
            .remedy("name another port with --grant-port")
            .into());
    };
    let mut settings = BTreeMap::new();
    if create.grant_port.is_some() {
        settings.insert("grant-port".to_owned(), grant_port.to_string());
    }
    if let Some(port) = create.revocation_port {
        if port == create.link_port || port == grant_port {
            return Err(Failure::new(Exit::Usage, "revocation needs a port of its own")
                .because(format!("--revocation-port is {port}, which is taken already"))
                .remedy("name another port with --revocation-port")
                .into());
        }
        settings.insert("revocation-port".to_owned(), port.to_string());
    }
    Ok(Some(RouterAccess {
        access_type: None,
        roles: vec![Role { name: RoleName::InterRouter, port: Some(create.link_port) }],
        tls_credentials: CredentialNames::default().site_server,
        generate_tls_credentials: true,
        issuer: None,
        bind_host: loopback(&hosts),
        subject_alternative_names: hosts,
        settings,
    }))
}

/// Where every name leads to this machine alone, nobody else needs to reach the port.
fn loopback(hosts: &[Host]) -> Option<Host> {
    let is_loopback = |host: &Host| matches!(host, Host::Ip(address) if address.is_loopback());
    hosts.iter().all(is_loopback).then(|| hosts.first().cloned()).flatten()
}

impl Create {
    /// The command as it was typed, for the comment in the files it makes.
    fn line(&self) -> String {
        let mut line = vec!["handfast site create".to_owned(), self.name.to_string()];
        line.extend(self.trust_domain.iter().map(|domain| format!("--trust-domain {domain}")));
        if self.enable_link_access {
            line.push("--enable-link-access".to_owned());
            line.extend(self.link_host.iter().map(|host| format!("--link-host {host}")));
            line.push(format!("--link-port {}", self.link_port));
            line.extend(self.grant_port.iter().map(|port| format!("--grant-port {port}")));
            line.extend(self.revocation_port.iter().map(|p| format!("--revocation-port {p}")));
        }
        line.join(" ")
    }
}
