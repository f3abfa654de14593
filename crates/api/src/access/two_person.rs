//! What the two-person rule is about, at one site.

use handfast_authority::Declared;

use super::Target;
use crate::admin::Action;
use crate::resources::{SiteSettings, TwoPerson};

/// The two-person rule of one site. The default asks for nobody.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TwoPersonRule {
    rule: TwoPerson,
    /// Name of the root's credential.
    root: String,
    /// A standalone site rests on its own CAs.
    standalone: bool,
}

impl TwoPersonRule {
    /// The rule as the site declares it.
    pub fn of(settings: &SiteSettings, declared: &Declared) -> Self {
        Self {
            rule: settings.two_person,
            root: declared.names.root.to_string(),
            standalone: declared.trust_domain.is_none(),
        }
    }

    /// Whether two persons have to want this.
    pub fn wants(&self, action: Action, targets: &[Target]) -> bool {
        self.rule == TwoPerson::Root
            && action.moves_trust()
            && targets.iter().any(|target| self.is_root(target))
    }

    /// Whether everything in the trust domain rests on it.
    fn is_root(&self, target: &Target) -> bool {
        match target {
            Target::Authority(name) => name == "root" || self.standalone || *name == self.root,
            Target::Credential(name) | Target::Identity(name) => *name == self.root,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_about_what_moves_the_root_and_nothing_else() {
        let mut declared = Declared::new("west".parse().expect("a name"));
        declared.trust_domain = "shop.example".parse().ok();
        let settings = SiteSettings { two_person: TwoPerson::Root, ..SiteSettings::default() };
        let rule = TwoPersonRule::of(&settings, &declared);
        let wants = |rule: &TwoPersonRule, action, target: &str| {
            rule.wants(action, &[target.parse().expect(target)])
        };
        for target in ["authority/root", "authority/handfast-root"] {
            for action in
                [Action::AuthorityRotate, Action::AuthorityTaint, Action::AuthorityRollback]
            {
                assert!(wants(&rule, action, target), "{action} {target}");
            }
            assert!(!wants(&rule, Action::AuthorityStatus, target), "reading needs nobody");
        }
        assert!(wants(&rule, Action::CertificateRevoke, "identity/handfast-root"));
        assert!(!wants(&rule, Action::AuthorityRotate, "authority/site"));
        assert!(!wants(&rule, Action::CertificateIssue, "spiffe://shop.example/component/a"));
        declared.trust_domain = None;
        let rule = TwoPersonRule::of(&settings, &declared);
        assert!(wants(&rule, Action::AuthorityRotate, "authority/site"), "a root of its own");
        let none = TwoPersonRule::of(&SiteSettings::default(), &declared);
        assert!(!wants(&none, Action::AuthorityRotate, "authority/root"));
    }
}
