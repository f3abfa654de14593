//! All policies together, checked, and what they say. The only file that knows Cedar.
//!
//! Texts from outside (identities, names, serials) reach Cedar as values of entities, never as policy
//! text. A policy that cannot be evaluated counts as one that forbids.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use cedar_policy::{
    Authorizer, Context, Decision as Verdict, Effect, Entities, Entity, EntityId, EntityTypeName,
    EntityUid, Policy, PolicyId, PolicySet, Request, RestrictedExpression, Schema, ValidationMode,
    Validator,
};
use handfast_authority::Declared;
use handfast_pki::SpiffeId;
use miette::Diagnostic;

use super::built_in::{ROLES, schema};
use super::{Binding, Decision, PolicyFile, Principal, Question, Role, Target};
use crate::admin::PolicyView;
use crate::resources::Resources;

/// Everything that policies are made from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sources {
    /// Users of this machine that are security admins: root, and who runs the node.
    pub local_admins: BTreeSet<u32>,
    /// Who has which role.
    pub bindings: Vec<Binding>,
    /// The user's own policies.
    pub files: Vec<PolicyFile>,
}

impl Sources {
    /// What is declared, with the policies of `files`. `None` while no trust domain is.
    pub fn of(
        resources: &Resources,
        declared: &Declared,
        files: Vec<PolicyFile>,
        local_admins: BTreeSet<u32>,
    ) -> Option<Self> {
        let trust_domain = declared.effective_trust_domain()?;
        let bindings = resources
            .policies
            .values()
            .map(|policy| policy.spec.binding(&policy.name, &trust_domain))
            .collect();
        Some(Self { local_admins, bindings, files })
    }
}

/// Policies that passed every check.
pub struct Policies {
    schema: Schema,
    set: PolicySet,
    local_admins: BTreeSet<u32>,
    /// The roles of an operator: those of policies (`viewer`), and for issuers one for each binding.
    roles: BTreeMap<SpiffeId, BTreeSet<String>>,
    listing: Vec<PolicyView>,
}

/// What is wrong with a policy file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyFault {
    /// The file, or the resource.
    pub file: String,
    /// Line in the file, counted from 1, where it is known.
    pub line: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl PolicyFault {
    pub(super) fn of(path: &Path, what: impl Into<String>, remedy: &str) -> Self {
        Self {
            file: path.display().to_string(),
            line: None,
            what: what.into(),
            remedy: remedy.to_owned(),
        }
    }
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}; {}", self.what, self.remedy)
    }
}

impl std::error::Error for PolicyFault {}

impl Policies {
    /// The built-in policies, those of the bindings and those of the files.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with any of them: a set is used as a whole or not at all, for what is
    /// left out could be what forbids.
    pub fn new(sources: &Sources) -> Result<Self, Vec<PolicyFault>> {
        let schema = Schema::from_str(&schema()).map_err(|error| {
            vec![PolicyFault::of(Path::new(BUILT_IN), one_line(&error.to_string()), BUG)]
        })?;
        let mut making = Making { set: PolicySet::new(), listing: Vec::new(), faults: Vec::new() };
        making.add(BUILT_IN, ROLES, None);
        for binding in sources.bindings.iter().filter(|binding| binding.role == Role::Issuer) {
            if !binding.identities.is_empty() {
                let source = format!("Policy/{}", binding.name);
                making.add(&source, &issuer_policy(binding), Some(&source));
            }
        }
        for file in &sources.files {
            making.add(&file.name, &file.text, None);
        }
        making.validate(&schema, &sources.files);
        if !making.faults.is_empty() {
            return Err(making.faults);
        }
        let mut roles: BTreeMap<SpiffeId, BTreeSet<String>> = BTreeMap::new();
        for binding in &sources.bindings {
            for operator in &binding.operators {
                let of_operator = roles.entry(operator.clone()).or_default();
                of_operator.insert(binding.role.to_string());
                if binding.role == Role::Issuer {
                    of_operator.insert(issuer_role(binding));
                }
            }
        }
        Ok(Self {
            schema,
            set: making.set,
            local_admins: sources.local_admins.clone(),
            roles,
            listing: making.listing,
        })
    }

    /// The answer. A function of the policies and the question, and of nothing else.
    pub fn decide(&self, question: &Question<'_>) -> Decision {
        let asked = match self.asked(question) {
            Ok(asked) => asked,
            Err(reason) => return Decision::refused(reason),
        };
        let response = Authorizer::new().is_authorized(&asked.request, &self.set, &asked.entities);
        let mut policies: Vec<String> =
            response.diagnostics().reason().map(|id| printable(id.as_ref())).collect();
        policies.sort();
        if let Some(error) = response.diagnostics().errors().next() {
            // Cedar leaves such a policy out; it could have been the one that forbids.
            let reason =
                format!("a policy could not be evaluated: {}", one_line(&error.to_string()));
            return Decision { allowed: false, policies, reason };
        }
        let allowed = response.decision() == Verdict::Allow;
        let reason = match (allowed, policies.is_empty()) {
            (true, _) => format!("permitted by {}", policies.join(", ")),
            (false, true) => "no policy permits it".to_owned(),
            (false, false) => format!("forbidden by {}", policies.join(", ")),
        };
        Decision { allowed, policies, reason }
    }

    /// Every policy, in the order in which they were read.
    pub fn listing(&self) -> &[PolicyView] {
        &self.listing
    }

    fn asked(&self, question: &Question<'_>) -> Result<Asked, String> {
        let (principal, entity) = self.principal(question.principal)?;
        let action = uid("Action", question.action.as_str())?;
        let (target, about) = target(question.target)?;
        let context = Context::from_pairs([
            (
                "via".to_owned(),
                RestrictedExpression::new_string(
                    if question.locally { "socket" } else { "port" }.to_owned(),
                ),
            ),
            ("approved".to_owned(), RestrictedExpression::new_bool(question.approved)),
        ])
        .map_err(|error| odd(&error))?;
        let request = Request::new(principal, action, target, context, Some(&self.schema))
            .map_err(|error| odd(&error))?;
        let entities = Entities::from_entities([entity, about], Some(&self.schema))
            .map_err(|error| odd(&error))?;
        Ok(Asked { request, entities })
    }

    fn principal(&self, principal: &Principal) -> Result<(EntityUid, Entity), String> {
        let (this, attributes, roles) = match principal {
            Principal::Local { uid: number } => {
                let this = uid("LocalUser", &number.to_string())?;
                let number_value = RestrictedExpression::new_long(i64::from(*number));
                let roles = if self.local_admins.contains(number) {
                    BTreeSet::from([Role::SecurityAdmin.to_string()])
                } else {
                    BTreeSet::new()
                };
                (this, vec![("uid", number_value)], roles)
            }
            Principal::Operator { identity } => {
                let this = uid("Operator", &identity.to_string())?;
                let name = identity.name().map(|name| name.to_string()).unwrap_or_default();
                let attributes = vec![
                    ("name", RestrictedExpression::new_string(name)),
                    (
                        "trustDomain",
                        RestrictedExpression::new_string(identity.trust_domain().to_string()),
                    ),
                ];
                (this, attributes, self.roles.get(identity).cloned().unwrap_or_default())
            }
        };
        let parents =
            roles.iter().map(|role| uid("Role", role)).collect::<Result<HashSet<_>, _>>()?;
        let attributes: HashMap<String, RestrictedExpression> =
            attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let entity = Entity::new(this.clone(), attributes, parents).map_err(|error| odd(&error))?;
        Ok((this, entity))
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies").field("listing", &self.listing).finish_non_exhaustive()
    }
}

/// A question in Cedar's terms.
struct Asked {
    request: Request,
    entities: Entities,
}

/// A set in the making.
struct Making {
    set: PolicySet,
    listing: Vec<PolicyView>,
    faults: Vec<PolicyFault>,
}

impl Making {
    /// Adds the policies of one text. They are named by `@id` or, without one, by their place in the
    /// text; those of files have the file's name in front. `id` overrules both.
    fn add(&mut self, source: &str, text: &str, id: Option<&str>) {
        let fault = |line, what: String| PolicyFault {
            file: source.to_owned(),
            line,
            what,
            remedy: "correct it; until then the policies that were good last stay in force".into(),
        };
        let read = match PolicySet::from_str(text) {
            Ok(read) => read,
            Err(errors) => {
                for error in errors.iter() {
                    self.faults.push(fault(line_of(error, text), described(error)));
                }
                return;
            }
        };
        if let Some(template) = read.templates().next() {
            let what = format!("`{}` is a template, which nothing here links", template.id());
            self.faults.push(fault(None, what));
        }
        let mut policies: Vec<&Policy> = read.policies().collect();
        // Cedar numbers them in the order of the text: policy0, policy1, ...
        policies.sort_by_key(|policy| number_of(policy.id()));
        for (place, policy) in policies.into_iter().enumerate() {
            let given = policy.annotation("id").map(printable);
            let id = match (id, given) {
                (Some(id), _) => id.to_owned(),
                (None, Some(given)) if source == BUILT_IN => given,
                (None, Some(given)) => format!("{source}:{given}"),
                (None, None) => format!("{source}:{}", place + 1),
            };
            let effect = match policy.effect() {
                Effect::Forbid => "forbid",
                Effect::Permit => "permit",
            };
            if let Err(error) = self.set.add(policy.new_id(PolicyId::new(&id))) {
                self.faults.push(fault(None, one_line(&error.to_string())));
                continue;
            }
            let source = source.to_owned();
            self.listing.push(PolicyView { id, effect: effect.to_owned(), source });
        }
    }

    fn validate(&mut self, schema: &Schema, files: &[PolicyFile]) {
        let checked = Validator::new(schema.clone()).validate(&self.set, ValidationMode::Strict);
        for error in checked.validation_errors() {
            let id = error.policy_id().to_string();
            let source = self.listing.iter().find(|view| view.id == id);
            let source = source.map_or(BUILT_IN, |view| view.source.as_str()).to_owned();
            let text = files.iter().find(|file| file.name == source);
            self.faults.push(PolicyFault {
                line: text.and_then(|file| line_of(error, &file.text)),
                file: source,
                what: described(error),
                remedy: "compare it with the schema (`handfast policy validate --schema`)".into(),
            });
        }
    }
}

/// An issuer's right, for the identities of one binding. Patterns hold neither quotes nor backslashes,
/// and names of resources neither: both are types that cannot.
fn issuer_policy(binding: &Binding) -> String {
    let conditions: Vec<String> = binding
        .identities
        .iter()
        .map(|pattern| {
            let literals: Vec<&str> = pattern.literals().collect();
            format!("resource.name like \"{}\"", literals.join("*"))
        })
        .collect();
    format!(
        "permit(principal in Role::\"{}\", action in Action::\"issue\", resource is Identity)\n\
         when {{ {} }};",
        issuer_role(binding),
        conditions.join(" || ")
    )
}

fn issuer_role(binding: &Binding) -> String {
    format!("{}/{}", Role::Issuer, binding.name)
}

fn target(target: &Target) -> Result<(EntityUid, Entity), String> {
    let (kind, id, name) = match target {
        Target::Authority(name) => ("Authority", name.clone(), name.clone()),
        Target::Credential(name) => ("Credential", name.clone(), name.clone()),
        Target::Identity(identity) => ("Identity", identity.clone(), identity.clone()),
        // Nobody knows whose it is: no pattern but `*` fits.
        Target::Serial(serial) => ("Identity", format!("serial/{serial}"), String::new()),
        Target::Site => ("Site", "site".to_owned(), "site".to_owned()),
    };
    let this = uid(kind, &id)?;
    let attributes = HashMap::from([("name".to_owned(), RestrictedExpression::new_string(name))]);
    let entity =
        Entity::new(this.clone(), attributes, HashSet::new()).map_err(|error| odd(&error))?;
    Ok((this, entity))
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    let kind = EntityTypeName::from_str(kind).map_err(|error| odd(&error))?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

/// A question that cannot be put is answered with no.
fn odd(error: &dyn fmt::Display) -> String {
    format!("the question makes no sense to the policies: {}", one_line(&error.to_string()))
}

/// Where in `text` an error is.
fn line_of(error: &dyn Diagnostic, text: &str) -> Option<u64> {
    let offset = error.labels()?.next()?.offset();
    Some(text.get(..offset)?.matches('\n').count() as u64 + 1)
}

/// What an error says, with what its label adds.
fn described(error: &(impl Diagnostic + fmt::Display)) -> String {
    let mut text = one_line(&error.to_string());
    let label = error.labels().and_then(|mut labels| labels.next());
    if let Some(label) = label.as_ref().and_then(|label| label.label()) {
        text.push_str(": ");
        text.push_str(&one_line(label));
    }
    if let Some(help) = error.help() {
        text.push_str(" (");
        text.push_str(&one_line(&help.to_string()));
        text.push(')');
    }
    text
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(300).collect()
}

/// An identifier that cannot move a terminal's cursor or forge a line of a log.
fn printable(text: &str) -> String {
    text.chars()
        .take(120)
        .map(|character| if character.is_ascii_graphic() { character } else { '_' })
        .collect()
}

fn number_of(id: &PolicyId) -> u64 {
    let text: &str = id.as_ref();
    text.trim_start_matches("policy").parse().unwrap_or(u64::MAX)
}

/// The source of the policies that are always there.
const BUILT_IN: &str = "built in";

const BUG: &str = "this is a bug of this program";
