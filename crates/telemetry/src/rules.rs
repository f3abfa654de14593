//! Who may report what: identities bound to the services and instances they speak for. Pure.
//!
//! Without a rule that says otherwise the agent `/agent/<service>` of our own trust domain reports
//! as `<service>` and as nobody else. Callers without a certificate are not bound: whoever opens a port
//! to them says so in the port's mode.

use std::fmt;
use std::str::FromStr;

use handfast_pki::IdentityKind;

use crate::caller::{Caller, ForeignIdentity, Identity};

/// A pattern of names: `*` stands for any number of characters, `?` for one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Glob(String);

impl Glob {
    /// Whether `text` is of this pattern, all of it.
    pub fn matches(&self, text: &str) -> bool {
        // The last star is the only one worth going back to.
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(byte) if *byte == b'?' || *byte == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => match star {
                    Some((at, from)) => {
                        star = Some((at, from + 1));
                        p = at + 1;
                        t = from + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

impl FromStr for Glob {
    type Err = BadGlob;

    fn from_str(text: &str) -> Result<Self, BadGlob> {
        if text.is_empty() || text.len() > GLOB_BYTES {
            return Err(BadGlob(text.len()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pattern that is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a pattern has 1 to 512 characters, and this one {0}; `*` matches everything")]
pub struct BadGlob(pub usize);

/// One binding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// Whom it is about: `/agent/shop-*` of our own trust domain, `spiffe://other.example/*` of another,
    /// `dns:*.example` or `cn:agent-1` for certificates of other CAs, `*` for every certificate.
    pub identity: Glob,
    /// The instances it may report as; empty means any.
    pub instances: Vec<Glob>,
    /// The services it may report as.
    pub services: Vec<Glob>,
}

impl Rule {
    fn is_about(&self, caller: &Caller) -> bool {
        let is = |text: &str| self.identity.matches(text);
        match &caller.identity {
            Identity::Anonymous => false,
            Identity::Own(id) => is(&format!("/{}", id.path())) || is(&id.to_string()),
            Identity::Foreign(ForeignIdentity { common_name, dns, spiffe, .. }) => {
                spiffe.as_ref().is_some_and(|id| is(&id.to_string()))
                    || dns.iter().any(|name| is(&format!("dns:{name}")))
                    || common_name.as_ref().is_some_and(|name| is(&format!("cn:{name}")))
            }
        }
    }

    fn allows(&self, claim: Claimed<'_>) -> bool {
        let any = |globs: &[Glob], text: &str| globs.iter().any(|glob| glob.matches(text));
        any(&self.services, claim.service)
            && (self.instances.is_empty()
                || claim.instance.is_empty()
                || any(&self.instances, claim.instance))
    }
}

/// Whom a message says it comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claimed<'a> {
    /// The instance; empty where the message names none.
    pub instance: &'a str,
    /// The service.
    pub service: &'a str,
}

/// All bindings of a collector or relay.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rules {
    /// As configured; the first that is about a caller does not end the search: any that allows will do.
    pub rules: Vec<Rule>,
}

impl Rules {
    /// Whether there is anybody that `caller` may speak for.
    pub fn knows(&self, caller: &Caller) -> bool {
        let own_agent =
            matches!(&caller.identity, Identity::Own(id) if id.kind() == Some(IdentityKind::Agent));
        own_agent || self.rules.iter().any(|rule| rule.is_about(caller))
    }

    /// Whether `caller` may speak for `claim`.
    ///
    /// # Errors
    /// What it may report as, for the refusal.
    pub fn judge(&self, caller: &Caller, claim: Claimed<'_>) -> Result<(), Allowed> {
        if caller.identity == Identity::Anonymous {
            return Ok(());
        }
        let mut allowed = Vec::new();
        let mut bound = false;
        for rule in self.rules.iter().filter(|rule| rule.is_about(caller)) {
            bound = true;
            if rule.allows(claim) {
                return Ok(());
            }
            allowed.extend(rule.services.iter().map(ToString::to_string));
        }
        if !bound
            && let Identity::Own(id) = &caller.identity
            && id.kind() == Some(IdentityKind::Agent)
            && let Some(name) = id.name()
        {
            if name.as_str() == claim.service {
                return Ok(());
            }
            allowed.push(name.to_string());
        }
        Err(Allowed(allowed))
    }
}

/// The services that a caller may report as.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Allowed(pub Vec<String>);

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("none") } else { f.write_str(&self.0.join(", ")) }
    }
}

/// Longest pattern.
const GLOB_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::caller::Transport;

    fn glob(text: &str) -> Glob {
        text.parse().expect("a pattern")
    }

    fn rule(identity: &str, services: &[&str], instances: &[&str]) -> Rule {
        Rule {
            identity: glob(identity),
            services: services.iter().map(|text| glob(text)).collect(),
            instances: instances.iter().map(|text| glob(text)).collect(),
        }
    }

    fn caller(identity: Identity) -> Caller {
        let mut caller = Caller::anonymous(None, Transport::Mtls);
        caller.identity = identity;
        caller
    }

    fn own(id: &str) -> Caller {
        caller(Identity::Own(id.parse().expect("an identity")))
    }

    fn claim<'a>(service: &'a str, instance: &'a str) -> Claimed<'a> {
        Claimed { instance, service }
    }

    #[test]
    fn an_agent_reports_as_its_own_service_and_as_nobody_else() {
        let rules = Rules::default();
        let shop = own("spiffe://shop.example/agent/shop");
        assert_eq!(rules.judge(&shop, claim("shop", "shop-1")), Ok(()));
        let refused = rules.judge(&shop, claim("bank", "shop-1")).expect_err("not its own");
        assert_eq!(refused.to_string(), "shop");
        for other in ["spiffe://shop.example/site/shop", "spiffe://shop.example/component/shop"] {
            assert!(rules.judge(&own(other), claim("shop", "")).is_err(), "{other} is no agent");
        }
        let foreign = ForeignIdentity {
            spiffe: Some("spiffe://evil.example/agent/shop".parse().expect("an identity")),
            ..ForeignIdentity::default()
        };
        let foreign = caller(Identity::Foreign(foreign));
        assert!(rules.judge(&foreign, claim("shop", "")).is_err(), "another trust domain's agent");
    }

    #[test]
    fn a_rule_widens_and_narrows_and_ends_the_default() {
        let rules = Rules {
            rules: vec![
                rule("/agent/relay-*", &["shop", "pay-*"], &["*@east"]),
                rule("dns:*.legacy.example", &["old"], &[]),
                rule("spiffe://other.example/agent/*", &["guest"], &[]),
            ],
        };
        let relay = own("spiffe://shop.example/agent/relay-1");
        assert_eq!(rules.judge(&relay, claim("pay-cards", "a@east")), Ok(()));
        assert!(rules.judge(&relay, claim("pay-cards", "a@west")).is_err());
        assert!(rules.judge(&relay, claim("relay-1", "a@east")).is_err(), "the rule says it all");
        let legacy = ForeignIdentity { dns: vec!["a.legacy.example".into()], ..Default::default() };
        assert_eq!(rules.judge(&caller(Identity::Foreign(legacy)), claim("old", "x")), Ok(()));
        let named =
            ForeignIdentity { common_name: Some("a.legacy.example".into()), ..Default::default() };
        assert!(rules.judge(&caller(Identity::Foreign(named)), claim("old", "x")).is_err());
    }

    #[test]
    fn a_star_crosses_nothing_it_should_not() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("shop", "shop-1", false),
            ("*-1", "shop-1", true),
            ("**", "x", true),
        ] {
            assert_eq!(glob(pattern).matches(text), fits, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_fits_itself_and_what_a_star_stands_for(
            head in "[a-z]{0,8}", middle in "[a-z*?]{0,8}", tail in "[a-z]{0,8}",
        ) {
            let text = format!("{head}{middle}{tail}");
            let pattern = format!("{head}*{tail}");
            prop_assert!(glob(&pattern).matches(&text));
            prop_assert!(glob("*").matches(&text));
        }
    }
}
