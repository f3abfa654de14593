//! The kinds of resources, and what each kind's specification must offer to be read, checked, found
//! and written in one generic way.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use handfast_pki::Name;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    AccessGrant, AccessToken, Certificate, Collector, Connector, Invalid, Link, Listener,
    MultiKeyListener, Notification, Origin, Policy, Relay, Resource, Resources, RouterAccess, Site,
};

/// A kind of resource, spelt as in the `kind` field.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "each is described by the specification type of the same name")]
pub enum Kind {
    AccessGrant,
    AccessToken,
    Certificate,
    Collector,
    Connector,
    Link,
    Listener,
    MultiKeyListener,
    Notification,
    Policy,
    Relay,
    RouterAccess,
    Site,
}

impl Kind {
    /// Every kind, alphabetically.
    pub const ALL: [Self; 13] = [
        Self::AccessGrant,
        Self::AccessToken,
        Self::Certificate,
        Self::Collector,
        Self::Connector,
        Self::Link,
        Self::Listener,
        Self::MultiKeyListener,
        Self::Notification,
        Self::Policy,
        Self::Relay,
        Self::RouterAccess,
        Self::Site,
    ];

    /// The spelling used in documents and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessGrant => "AccessGrant",
            Self::AccessToken => "AccessToken",
            Self::Certificate => "Certificate",
            Self::Collector => "Collector",
            Self::Connector => "Connector",
            Self::Link => "Link",
            Self::Listener => "Listener",
            Self::MultiKeyListener => "MultiKeyListener",
            Self::Notification => "Notification",
            Self::Policy => "Policy",
            Self::Relay => "Relay",
            Self::RouterAccess => "RouterAccess",
            Self::Site => "Site",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = ();

    /// Exact spelling only; the reader proposes the nearest one when this fails.
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// The `spec` of one kind of resource.
pub trait Spec: Clone + fmt::Debug + DeserializeOwned + PartialEq + Serialize + Sized {
    /// Its kind.
    const KIND: Kind;

    /// What no single field can say: fields that exclude or need each other, settings. Empty when
    /// the specification can be used.
    fn check(&self) -> Vec<Invalid> {
        Vec::new()
    }

    /// The resource of this kind and name.
    fn find<'a>(resources: &'a Resources, name: &Name) -> Option<&'a Resource<Self>>;

    /// Adds a resource, or hands it back with the one that already stands there.
    fn insert(resources: &mut Resources, resource: Resource<Self>) -> Result<(), Origin>;
}

/// What the reader and the editor need to know of every resource, whatever its kind.
pub(super) fn origins(resources: &Resources) -> impl Iterator<Item = (Kind, &Name, &Origin)> {
    fn each<S: Spec>(
        all: &BTreeMap<Name, Resource<S>>,
    ) -> impl Iterator<Item = (Kind, &Name, &Origin)> {
        all.iter().map(|(name, resource)| (S::KIND, name, &resource.origin))
    }
    let site = resources.site.iter().map(|site| (Kind::Site, &site.name, &site.origin));
    site.chain(each(&resources.access_grants))
        .chain(each(&resources.access_tokens))
        .chain(each(&resources.certificates))
        .chain(each(&resources.collectors))
        .chain(each(&resources.connectors))
        .chain(each(&resources.links))
        .chain(each(&resources.listeners))
        .chain(each(&resources.multi_key_listeners))
        .chain(each(&resources.notifications))
        .chain(each(&resources.policies))
        .chain(each(&resources.relays))
        .chain(each(&resources.router_accesses))
}

/// Adds to a map unless the name is taken.
pub(super) fn insert_into<S: Spec>(
    map: &mut BTreeMap<Name, Resource<S>>,
    resource: Resource<S>,
) -> Result<(), Origin> {
    if let Some(earlier) = map.get(&resource.name) {
        return Err(earlier.origin.clone());
    }
    map.insert(resource.name.clone(), resource);
    Ok(())
}

/// Implements [`Spec`] for a kind that is kept in a map of [`Resources`].
macro_rules! spec_in_map {
    ($kind:ident, $field:ident, $check:expr) => {
        impl super::Spec for $kind {
            const KIND: super::Kind = super::Kind::$kind;

            fn check(&self) -> Vec<super::Invalid> {
                let check: fn(&Self) -> Vec<super::Invalid> = $check;
                check(self)
            }

            fn find<'a>(
                resources: &'a super::Resources,
                name: &handfast_pki::Name,
            ) -> Option<&'a super::Resource<Self>> {
                resources.$field.get(name)
            }

            fn insert(
                resources: &mut super::Resources,
                resource: super::Resource<Self>,
            ) -> Result<(), super::Origin> {
                super::kind::insert_into(&mut resources.$field, resource)
            }
        }
    };
}

impl Spec for Site {
    const KIND: Kind = Kind::Site;

    fn check(&self) -> Vec<Invalid> {
        self.problems()
    }

    fn find<'a>(resources: &'a Resources, name: &Name) -> Option<&'a Resource<Self>> {
        resources.site.as_ref().filter(|site| site.name == *name)
    }

    /// A node is one site, so a second one of any name is refused.
    fn insert(resources: &mut Resources, resource: Resource<Self>) -> Result<(), Origin> {
        if let Some(earlier) = &resources.site {
            return Err(earlier.origin.clone());
        }
        resources.site = Some(resource);
        Ok(())
    }
}

spec_in_map!(AccessGrant, access_grants, AccessGrant::problems);
spec_in_map!(AccessToken, access_tokens, AccessToken::problems);
spec_in_map!(Certificate, certificates, Certificate::problems);
spec_in_map!(Collector, collectors, Collector::problems);
spec_in_map!(Connector, connectors, Connector::problems);
spec_in_map!(Link, links, Link::problems);
spec_in_map!(Listener, listeners, Listener::problems);
spec_in_map!(MultiKeyListener, multi_key_listeners, MultiKeyListener::problems);
spec_in_map!(Notification, notifications, Notification::problems);
spec_in_map!(Policy, policies, Policy::problems);
spec_in_map!(Relay, relays, Relay::problems);
spec_in_map!(RouterAccess, router_accesses, RouterAccess::problems);
