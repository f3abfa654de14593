//! What policies say: the built-in roles, bounded issuers, the user's own, and what goes wrong.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use handfast_api::access::{
    Binding, Decision, Policies, PolicyFault, PolicyFile, Principal, Question, Role, Sources,
    Target,
};
use handfast_api::admin::{Action, Group};
use proptest::prelude::*;

fn operator(name: &str) -> Principal {
    format!("spiffe://shop.example/operator/{name}").parse().expect("an operator")
}

fn bound(role: Role, operators: &[&str], identities: &[&str]) -> Binding {
    Binding {
        name: format!("{role}s").parse().expect("a name"),
        operators: operators
            .iter()
            .map(|name| {
                format!("spiffe://shop.example/operator/{name}").parse().expect("an identity")
            })
            .collect(),
        role,
        identities: identities.iter().map(|text| text.parse().expect("a pattern")).collect(),
    }
}

fn sources() -> Sources {
    Sources { local_admins: BTreeSet::from([0, 999]), ..Sources::default() }
}

/// One operator for each role, named like it.
fn everybody() -> Sources {
    let bindings = Role::ALL
        .into_iter()
        .map(|role| {
            let identities: &[&str] = match role {
                Role::Issuer => &["spiffe://shop.example/component/web-*", "*.web.example"],
                _ => &[],
            };
            bound(role, &[role.as_str()], identities)
        })
        .collect();
    Sources { bindings, ..sources() }
}

fn with_file(mut sources: Sources, text: &str) -> Result<Policies, Vec<PolicyFault>> {
    sources.files.push(PolicyFile { name: "own.cedar".to_owned(), text: text.to_owned() });
    Policies::new(&sources)
}

fn ask(policies: &Policies, principal: &Principal, action: Action, target: &Target) -> Decision {
    let locally = matches!(principal, Principal::Local { .. });
    policies.decide(&Question { principal, action, target, locally, approved: false })
}

/// The table of docs/book/access.md, role by action.
#[test]
fn each_role_may_do_its_part_and_no_more() {
    let policies = Policies::new(&everybody()).expect("good");
    for role in Role::ALL {
        for action in Action::ALL {
            let group = action.group();
            let may = match role {
                Role::Auditor => matches!(group, Group::Audit | Group::View),
                Role::Issuer | Role::Viewer => group == Group::View,
                Role::Operator => matches!(group, Group::Operate | Group::View),
                Role::SecurityAdmin => true,
            };
            let decision = ask(&policies, &operator(role.as_str()), action, &Target::Site);
            assert_eq!(decision.allowed, may, "{role} {action}: {}", decision.reason);
            assert_eq!(decision.policies.is_empty(), !may);
        }
    }
    for action in Action::ALL {
        assert!(ask(&policies, &Principal::Local { uid: 0 }, action, &Target::Site).allowed);
        assert!(ask(&policies, &Principal::Local { uid: 999 }, action, &Target::Site).allowed);
        for nobody in [operator("mallory"), Principal::Local { uid: 1000 }] {
            let decision = ask(&policies, &nobody, action, &Target::Site);
            assert_eq!(decision.reason, "no policy permits it", "{nobody} {action}");
            assert!(!decision.allowed);
        }
        let elsewhere: Principal =
            "spiffe://other.example/operator/security-admin".parse().expect("an operator");
        assert!(!ask(&policies, &elsewhere, action, &Target::Site).allowed, "another trust domain");
    }
}

#[test]
fn an_issuer_is_bounded_to_identities_by_pattern() {
    let policies = Policies::new(&everybody()).expect("good");
    let issuer = operator("issuer");
    for (name, may) in [
        ("spiffe://shop.example/component/web-1", true),
        ("spiffe://shop.example/component/web-", true),
        ("a.web.example", true),
        ("spiffe://shop.example/component/db", false),
        ("spiffe://shop.example/component/xweb-1", false),
        ("spiffe://shop.example/operator/web-1", false),
        ("spiffe://other.example/component/web-1", false),
        ("web.example", false),
        ("*", false),
        ("", false),
    ] {
        for action in [Action::CertificateIssue, Action::CertificateRevoke] {
            let decision = ask(&policies, &issuer, action, &Target::Identity(name.to_owned()));
            assert_eq!(decision.allowed, may, "{name:?}: {}", decision.reason);
            if may {
                assert_eq!(decision.policies, ["Policy/issuers"]);
            }
        }
    }
    for target in [
        Target::Authority("root".to_owned()),
        Target::Serial("5a".to_owned()),
        Target::Site,
        Target::Credential("spiffe://shop.example/component/web-1".to_owned()),
    ] {
        assert!(!ask(&policies, &issuer, Action::CertificateIssue, &target).allowed, "{target}");
    }
}

#[test]
fn roles_add_up_and_two_issuers_do_not_lend_each_other_their_bounds() {
    let mut sources = sources();
    let web = bound(Role::Issuer, &["alice", "bob"], &["web-*"]);
    let mut db = bound(Role::Issuer, &["bob"], &["db-*"]);
    db.name = "db-issuers".parse().expect("a name");
    sources.bindings = vec![web, db, bound(Role::Operator, &["alice"], &[])];
    let policies = Policies::new(&sources).expect("good");
    let issue = |who: &str, name: &str| {
        let target = Target::Identity(name.to_owned());
        ask(&policies, &operator(who), Action::CertificateIssue, &target).allowed
    };
    assert!(issue("alice", "web-1") && !issue("alice", "db-1"));
    assert!(issue("bob", "web-1") && issue("bob", "db-1"));
    assert!(ask(&policies, &operator("alice"), Action::TokenIssue, &Target::Site).allowed);
    assert!(!ask(&policies, &operator("bob"), Action::TokenIssue, &Target::Site).allowed);
}

/// An issuer of operators could make himself a security admin.
#[test]
fn only_security_admins_have_operators_certified() {
    let mut sources = sources();
    sources.bindings =
        vec![bound(Role::Issuer, &["ivan"], &["*"]), bound(Role::SecurityAdmin, &["sam"], &[])];
    let policies = Policies::new(&sources).expect("good");
    let issue = |who: &str, name: &str| {
        let target = Target::Identity(name.to_owned());
        ask(&policies, &operator(who), Action::CertificateIssue, &target)
    };
    assert!(issue("ivan", "spiffe://shop.example/component/web").allowed);
    let refused = issue("ivan", "spiffe://shop.example/operator/ivan-2");
    assert_eq!(refused.reason, "forbidden by no-escalation");
    assert!(issue("sam", "spiffe://shop.example/operator/ivan-2").allowed);
}

#[test]
fn the_users_own_policies_permit_and_forbid_and_are_named() {
    let policies = with_file(
        everybody(),
        r#"
        @id("night-shift")
        permit(principal == Operator::"spiffe://shop.example/operator/mallory",
               action == Action::"credential.renew", resource);

        @id("freeze")
        forbid(principal, action in [Action::"authority.rotate", Action::"authority.taint"], resource)
        unless { context.via == "socket" };

        forbid(principal in Role::"operator", action == Action::"token.issue", resource is Site);
        "#,
    )
    .expect("good");
    let mallory = operator("mallory");
    let renewal = Target::Credential("a".to_owned());
    let decision = ask(&policies, &mallory, Action::CredentialRenew, &renewal);
    assert_eq!(
        (decision.allowed, decision.reason.as_str()),
        (true, "permitted by own.cedar:night-shift")
    );
    let admin = operator("security-admin");
    let root = Target::Authority("root".to_owned());
    let decision = ask(&policies, &admin, Action::AuthorityRotate, &root);
    assert_eq!(
        (decision.allowed, decision.reason.as_str()),
        (false, "forbidden by own.cedar:freeze")
    );
    assert!(ask(&policies, &Principal::Local { uid: 0 }, Action::AuthorityRotate, &root).allowed);
    let decision = ask(&policies, &operator("operator"), Action::TokenIssue, &Target::Site);
    assert_eq!(decision.reason, "forbidden by own.cedar:3");
}

#[test]
fn a_broken_policy_is_named_by_file_line_and_reason() {
    for (text, line, says) in [
        ("permit(principal, action, resource)", Some(1), "unexpected end of input"),
        (
            "\n\npermit(principal, action == Action::\"certificate.isue\", resource);",
            Some(3),
            "certificate.isue",
        ),
        ("permit(principal == Operatr::\"x\", action, resource);", Some(1), "Operatr"),
        (
            "permit(principal, action, resource)\nwhen { resource.owner == \"x\" };",
            Some(2),
            "owner",
        ),
        ("permit(principal == ?principal, action, resource);", None, "template"),
        (
            "@id(\"a\") permit(principal, action, resource);@id(\"a\") permit(principal, action, resource);",
            None,
            "own.cedar:a",
        ),
    ] {
        let faults = with_file(everybody(), text).expect_err(text);
        let shown = faults[0].to_string();
        assert!(shown.starts_with("own.cedar") && shown.contains(says), "{text}\n{shown}");
        assert_eq!(faults[0].line, line, "{text}\n{shown}");
    }
}

/// A policy that cannot be evaluated is left out by Cedar. It could be the one that forbids.
#[test]
fn a_policy_that_fails_while_it_is_evaluated_denies() {
    let policies = with_file(
        everybody(),
        "forbid(principal is LocalUser, action, resource)\n\
         when { principal.uid + 9223372036854775807 > 0 };",
    )
    .expect("it is well typed");
    let overflow =
        ask(&policies, &Principal::Local { uid: 999 }, Action::StatusRead, &Target::Site);
    assert!(!overflow.allowed);
    assert!(overflow.reason.contains("could not be evaluated"), "{}", overflow.reason);
}

/// Made once: checking policies takes a while without optimisation.
static EVERYBODY: LazyLock<Policies> = LazyLock::new(|| Policies::new(&everybody()).expect("good"));

proptest! {
    /// Whatever an identity holds, it is a value: it cannot become part of a policy, and never gets a
    /// bounded issuer past his bounds.
    #[test]
    fn no_text_of_a_request_gets_past_the_bounds(
        text in "\\PC*|.*\"|[\"'\\\\*;(){}]{0,12}|web-x\" \\|\\| true",
    ) {
        let policies = &*EVERYBODY;
        let target = Target::Identity(text.clone());
        let decision = ask(policies, &operator("issuer"), Action::CertificateIssue, &target);
        let within = text.starts_with("spiffe://shop.example/component/web-")
            || text.ends_with(".web.example");
        prop_assert_eq!(decision.allowed, within, "{}", decision.reason);
        let nobody = ask(policies, &operator("mallory"), Action::CertificateIssue, &target);
        prop_assert!(!nobody.allowed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Nor does a file of policies, whatever is in it, bring anything down.
    #[test]
    fn any_policy_text_is_taken_or_refused(text in "\\PC{0,80}|(permit|forbid|@id|[(){};,=\" a-z]){0,30}") {
        let _ = with_file(everybody(), &text);
    }
}
