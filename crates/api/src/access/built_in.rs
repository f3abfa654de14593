//! The vocabulary of policies, as a Cedar schema, and the policies that are always there: what each
//! role may do.

use std::fmt::Write as _;

use crate::admin::{Action, Group};

/// The Cedar schema that every policy is checked against: all entity types, all actions with their
/// groups, and the context.
pub fn schema() -> String {
    let mut schema = String::from(ENTITIES);
    for group in Group::ALL {
        // Writing to a String cannot fail.
        let _ = writeln!(schema, "action \"{}\";", group.as_str());
    }
    for action in Action::ALL {
        let group = action.group().as_str();
        let _ = writeln!(schema, "action \"{action}\" in [\"{group}\"] appliesTo {APPLIES_TO};");
    }
    schema
}

/// What each role may do. Whoever could have an operator's certificate signed could make himself
/// anybody, so that is for security admins. An issuer's right to issue is bounded, so it is made for each Policy resource;
/// see `policies`.
pub(super) const ROLES: &str = r#"
@id("no-escalation")
forbid(principal, action == Action::"certificate.issue", resource is Identity)
when { resource.name like "spiffe://*/operator/*" }
unless { principal in Role::"security-admin" };

@id("role.auditor")
permit(principal in Role::"auditor", action in [Action::"view", Action::"audit"], resource);

@id("role.issuer")
permit(principal in Role::"issuer", action in Action::"view", resource);

@id("role.operator")
permit(principal in Role::"operator", action in [Action::"view", Action::"operate"], resource);

@id("role.security-admin")
permit(principal in Role::"security-admin", action, resource);

@id("role.viewer")
permit(principal in Role::"viewer", action in Action::"view", resource);
"#;

const ENTITIES: &str = "\
entity Role;
entity Operator in [Role] { name: String, trustDomain: String };
entity LocalUser in [Role] { uid: Long };
entity Authority { name: String };
entity Credential { name: String };
entity Identity { name: String };
entity Site { name: String };
";

const APPLIES_TO: &str = "{ \
principal: [Operator, LocalUser], \
resource: [Authority, Credential, Identity, Site], \
context: { via: String, approved: Bool } }";
