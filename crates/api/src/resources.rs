//! What the user declares: YAML documents of `handfast.dev/v1alpha1` (or `skupper.io/v2alpha1`, with
//! the same field names) as checked types.
//!
//! [`Resources::load`] reads a directory. A document that cannot be used becomes a [`ResourceFault`]
//! and never hides its neighbours. [`edit`] is the only writer, and only the command line uses it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use handfast_pki::Name;

mod access;
mod certificate;
mod collector;
mod connector;
mod declared;
mod directory;
pub mod edit;
mod envelope;
mod fault;
mod field;
mod fingerprint;
mod kind;
mod link;
mod listener;
mod notification;
mod policy;
mod quantity;
mod reader;
mod router_access;
mod routing_key;
mod settings;
mod site;
mod span;
mod suggest;

pub use access::{AccessGrant, AccessToken};
pub use certificate::Certificate;
pub use collector::{
    Binding, Collector, CollectorPort, Forward, ForwardProtocol, ForwardTls, Quotas, Relay,
    RelayListen, Sharing, Spool, Store, WhenFull,
};
pub use connector::Connector;
pub use declared::declared;
pub use edit::EditError;
pub use envelope::{ApiVersion, Metadata, Origin, Resource};
pub use fault::{Invalid, ResourceFault, Severity};
pub use kind::{Kind, Spec};
pub use link::{Endpoint, Link};
pub use listener::{
    Listener, MultiKeyListener, Observer, Priority, ServiceType, Strategy, Weighted,
};
pub use notification::Notification;
pub use policy::{Operator, OperatorError, Policy};
pub use quantity::{Quantity, QuantityError};
pub use router_access::{
    AccessSettings, DistributionUrl, DistributionUrlError, Role, RoleName, RouterAccess,
};
pub use routing_key::{RoutingKey, RoutingKeyError};
pub use settings::{RevocationPolicy, UnknownPolicy};
pub use site::{AdminAccess, LinkAccess, Site, SiteSettings, TwoPerson, UnknownTwoPerson};
pub use span::{Span, SpanError};
pub use suggest::nearest;

/// Everything declared in one directory, by kind and name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// The one site of this node; absent until `handfast site create` (or a file) declares it.
    pub site: Option<Resource<Site>>,
    /// Invitations this site offers.
    pub access_grants: BTreeMap<Name, Resource<AccessGrant>>,
    /// Invitations of other sites, to be redeemed here.
    pub access_tokens: BTreeMap<Name, Resource<AccessToken>>,
    /// Certificates asked for by name.
    pub certificates: BTreeMap<Name, Resource<Certificate>>,
    /// Where telemetry is received.
    pub collectors: BTreeMap<Name, Resource<Collector>>,
    /// Where services are.
    pub connectors: BTreeMap<Name, Resource<Connector>>,
    /// Outgoing links.
    pub links: BTreeMap<Name, Resource<Link>>,
    /// Where clients reach services.
    pub listeners: BTreeMap<Name, Resource<Listener>>,
    /// Listeners that choose among several routing keys.
    pub multi_key_listeners: BTreeMap<Name, Resource<MultiKeyListener>>,
    /// Whom to tell when something goes wrong.
    pub notifications: BTreeMap<Name, Resource<Notification>>,
    /// Which operators have which role.
    pub policies: BTreeMap<Name, Resource<Policy>>,
    /// Where agents report in the clear, to be carried over mutual TLS.
    pub relays: BTreeMap<Name, Resource<Relay>>,
    /// Where other sites may link to this one.
    pub router_accesses: BTreeMap<Name, Resource<RouterAccess>>,
}

impl Resources {
    /// Reads every `*.yaml`, `*.yml` and `*.json` file of `directory` (not of its subdirectories), in
    /// the order of file names. Symbolic links are followed, hidden files are not read, and a
    /// directory that does not exist declares nothing.
    ///
    /// Bounds: [`MAX_FILE_BYTES`] for a file, [`MAX_FILES`] files, [`MAX_TOTAL_BYTES`] for all of them,
    /// [`MAX_RESOURCES`] resources.
    pub fn load(directory: &Path) -> (Self, Vec<ResourceFault>) {
        directory::load(directory)
    }

    /// Reads one file's text; `file` is only used in messages and [`Origin`]s.
    pub fn parse(file: &Path, text: &str) -> (Self, Vec<ResourceFault>) {
        let mut resources = Self::default();
        let mut faults = Vec::new();
        reader::read(file, text, &mut resources, &mut faults);
        (resources, faults)
    }

    /// The resource of this kind and name.
    pub fn find<S: Spec>(&self, name: &Name) -> Option<&Resource<S>> {
        S::find(self, name)
    }

    /// Leaves out what `keep` says no to.
    pub fn retain(&mut self, mut keep: impl FnMut(Kind, &Name) -> bool) {
        self.site = self.site.take().filter(|site| keep(Kind::Site, &site.name));
        self.access_grants.retain(|name, _| keep(Kind::AccessGrant, name));
        self.access_tokens.retain(|name, _| keep(Kind::AccessToken, name));
        self.certificates.retain(|name, _| keep(Kind::Certificate, name));
        self.collectors.retain(|name, _| keep(Kind::Collector, name));
        self.connectors.retain(|name, _| keep(Kind::Connector, name));
        self.links.retain(|name, _| keep(Kind::Link, name));
        self.listeners.retain(|name, _| keep(Kind::Listener, name));
        self.multi_key_listeners.retain(|name, _| keep(Kind::MultiKeyListener, name));
        self.notifications.retain(|name, _| keep(Kind::Notification, name));
        self.policies.retain(|name, _| keep(Kind::Policy, name));
        self.relays.retain(|name, _| keep(Kind::Relay, name));
        self.router_accesses.retain(|name, _| keep(Kind::RouterAccess, name));
    }

    /// How many resources there are, of all kinds.
    pub fn len(&self) -> usize {
        usize::from(self.site.is_some())
            + self.access_grants.len()
            + self.access_tokens.len()
            + self.certificates.len()
            + self.collectors.len()
            + self.connectors.len()
            + self.links.len()
            + self.listeners.len()
            + self.multi_key_listeners.len()
            + self.notifications.len()
            + self.policies.len()
            + self.relays.len()
            + self.router_accesses.len()
    }

    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every file that declares something, without repetition.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            kind::origins(self).map(|(_, _, origin)| origin.file.clone()).collect();
        files.sort();
        files.dedup();
        files
    }

    /// Where the resource of this kind and name was declared.
    pub fn origin(&self, kind: Kind, name: &Name) -> Option<&Origin> {
        kind::origins(self)
            .find(|(other_kind, other_name, _)| *other_kind == kind && *other_name == name)
            .map(|(_, _, origin)| origin)
    }
}

/// Longest resource file that is read, in bytes. Larger ones are reported, not read in part.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Most bytes that are read from one directory.
pub const MAX_TOTAL_BYTES: u64 = 64 * 1024 * 1024;

/// Most files that are read from one directory.
pub const MAX_FILES: usize = 4096;

/// Most resources that one directory may declare.
pub const MAX_RESOURCES: usize = 16_384;
