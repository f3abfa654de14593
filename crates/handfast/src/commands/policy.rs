//! `handfast policy`: what the policies say, which there are, and whether they are in order. On the files of
//! the home, so that a change can be tried before a node takes it up; with `--node`, on that node's.

use std::path::{Path, PathBuf};

use handfast_api::access::{
    Policies, PolicyFault, PolicyFile, Principal, Question, Sources, Target, TwoPersonRule,
    read_files, schema,
};
use handfast_api::admin::{Action, PolicyListing, PolicyVerdict, PolicyView, TestPolicy};
use handfast_api::resources::{Kind, Resources, Severity, declared};
use handfast_authority::Declared;
use handfast_pki::{IdentityKind, Name, SpiffeId};
use serde::Serialize;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::local_admins;
use crate::output::print;

/// Verbs of `handfast policy`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// Ask whether somebody may do something, and by which policy
    #[command(after_help = "Examples:\n  \
        handfast policy test --principal alice --action certificate.issue --resource spiffe://shop.example/component/web-1\n  \
        handfast policy test new.cedar --principal uid:1000 --action authority.rotate --resource authority/root\n\n\
        With a FILE, its policies are asked instead of those in input/policies. Needs no running node. Exits with 0 if it \
        is allowed, 9 if it is not, 3 if a policy is broken.")]
    Test(Test),
    /// List the policies: built in, made of Policy resources, and your own
    #[command(after_help = "Examples:\n  handfast policy list\n  handfast policy list -o json")]
    List,
    /// Check policies against the schema
    #[command(
        after_help = "Examples:\n  handfast policy validate\n  handfast policy validate new.cedar\n  handfast policy validate --schema\n\n\
        Exits with 0 if they are in order, 3 if not. A node keeps the last good ones while they are not."
    )]
    Validate(Validate),
}

/// Arguments of `handfast policy test`.
#[derive(clap::Args, Debug)]
pub(crate) struct Test {
    /// Policies in Cedar, instead of those in the home
    file: Option<PathBuf>,
    /// Who would ask: uid:NUMBER, an operator's name, or its SPIFFE ID
    #[arg(long, value_name = "WHO")]
    principal: String,
    /// What for, like certificate.issue
    #[arg(long, value_name = "ACTION")]
    action: Action,
    /// About what: site, authority/NAME, credential/NAME, identity/NAME, or a SPIFFE ID
    #[arg(long, value_name = "WHAT", default_value = "site")]
    resource: Target,
}

/// Arguments of `handfast policy validate`.
#[derive(clap::Args, Debug)]
pub(crate) struct Validate {
    /// Policies in Cedar, instead of those in the home
    file: Option<PathBuf>,
    /// Print the Cedar schema that policies are checked against, and nothing else
    #[arg(long)]
    schema: bool,
}

/// Runs the verb.
pub(crate) async fn run(verb: Verb, context: &Context) -> anyhow::Result<Exit> {
    match verb {
        Verb::List => list(context).await?,
        Verb::Test(arguments) => return test(arguments, context).await,
        Verb::Validate(arguments) => validate(&arguments, context)?,
    }
    Ok(Exit::Success)
}

async fn test(arguments: Test, context: &Context) -> anyhow::Result<Exit> {
    let verdict = if context.is_remote() && arguments.file.is_none() {
        let case = TestPolicy {
            principal: arguments.principal,
            action: arguments.action.to_string(),
            resource: Some(arguments.resource.to_string()),
        };
        context.client().test_policy(&case).await?
    } else {
        let home = Declarations::of(context)?;
        let principal = home.principal(&arguments.principal)?;
        let policies = home.policies(arguments.file.as_deref(), context)?;
        let decision = policies.decide(&Question {
            principal: &principal,
            action: arguments.action,
            target: &arguments.resource,
            locally: matches!(principal, Principal::Local { .. }),
            approved: false,
        });
        PolicyVerdict {
            allowed: decision.allowed,
            policies: decision.policies,
            reason: decision.reason,
            needs_second_person: home.rule.wants(arguments.action, &[arguments.resource]),
        }
    };
    context.output.show(&verdict, |page| {
        page.line(if verdict.allowed { "allowed" } else { "denied" });
        page.fields(&[("why", verdict.reason.clone())]);
        if verdict.allowed && verdict.needs_second_person {
            page.line("A second person has to approve it.");
        }
    })?;
    Ok(if verdict.allowed { Exit::Success } else { Exit::No })
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let listing = if context.is_remote() {
        context.client().policies().await?
    } else {
        let policies = Declarations::of(context)?.policies(None, context)?;
        PolicyListing { policies: policies.listing().to_vec(), faults: Vec::new() }
    };
    context.output.show(&listing, |page| {
        let row = |one: &PolicyView| vec![one.id.clone(), one.effect.clone(), one.source.clone()];
        let rows: Vec<Vec<String>> = listing.policies.iter().map(row).collect();
        page.table(&["POLICY", "EFFECT", "FROM"], &rows, "No policies.");
        for fault in &listing.faults {
            page.line(format!("Not in force: {fault}"));
        }
    })
}

fn validate(arguments: &Validate, context: &Context) -> anyhow::Result<()> {
    if arguments.schema {
        return print(&schema());
    }
    let policies = Declarations::of(context)?.policies(arguments.file.as_deref(), context)?;
    let valid = Valid { policies: policies.listing().len() };
    context.output.show(&valid, |page| {
        page.line(format!("{} policies, all in order.", valid.policies));
    })
}

/// What `policy validate` found, for programs.
#[derive(Serialize)]
struct Valid {
    policies: usize,
}

/// What the home declares, as far as policies depend on it.
struct Declarations {
    resources: Resources,
    declared: Option<Declared>,
    rule: TwoPersonRule,
}

impl Declarations {
    fn of(context: &Context) -> anyhow::Result<Self> {
        let (resources, faults) = Resources::load(&context.home.input_resources);
        let broken = faults
            .into_iter()
            .find(|fault| fault.kind == Some(Kind::Policy) && fault.severity == Severity::Error);
        if let Some(fault) = broken {
            return Err(fault.into());
        }
        let (declared, _) = declared(&resources);
        let settings = resources.site.as_ref().and_then(|site| site.spec.settings().ok());
        let rule = settings
            .zip(declared.as_ref())
            .map(|(settings, declared)| TwoPersonRule::of(&settings, declared))
            .unwrap_or_default();
        Ok(Self { resources, declared, rule })
    }

    /// An operator's name alone is one of the site's trust domain.
    fn principal(&self, text: &str) -> anyhow::Result<Principal> {
        let trust_domain = self.declared.as_ref().and_then(Declared::effective_trust_domain);
        if let (Ok(name), Some(trust_domain)) = (text.parse::<Name>(), trust_domain) {
            let identity = SpiffeId::new(trust_domain, IdentityKind::Operator, &name);
            return Ok(Principal::Operator { identity });
        }
        text.parse().map_err(|error| {
            Failure::new(Exit::Usage, format!("{error}"))
                .remedy("a name alone is an operator of this home's site, where one is declared")
                .into()
        })
    }

    fn policies(&self, file: Option<&Path>, context: &Context) -> anyhow::Result<Policies> {
        let files = match file {
            Some(file) => vec![read(file)?],
            None => read_files(&context.home.input_policies).map_err(|faults| broken(&faults))?,
        };
        let admins = local_admins(&context.home);
        let sources = self
            .declared
            .as_ref()
            .and_then(|declared| {
                Sources::of(&self.resources, declared, files.clone(), admins.clone())
            })
            .unwrap_or(Sources { local_admins: admins, bindings: Vec::new(), files });
        Policies::new(&sources).map_err(|faults| broken(&faults).into())
    }
}

fn read(path: &Path) -> anyhow::Result<PolicyFile> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(Exit::BadInput, "the policies cannot be read")
            .at(path.display())
            .because(error)
    })?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(PolicyFile { name: name.unwrap_or_default(), text })
}

fn broken(faults: &[PolicyFault]) -> Failure {
    let lines: Vec<String> = faults
        .iter()
        .map(|fault| match fault.line {
            Some(line) => format!("{}:{line}: {}", fault.file, fault.what),
            None => format!("{}: {}", fault.file, fault.what),
        })
        .collect();
    Failure::new(Exit::BadInput, "the policies are not in order")
        .because(lines.join("\n"))
        .remedy("compare them with the schema: handfast policy validate --schema")
}
