//! What surrounds every specification: `apiVersion`, `kind`, `metadata`, and where it was read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use handfast_pki::Name;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{Spec, field};

/// One declared resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource<S> {
    /// Its name, unique among resources of its kind.
    pub name: Name,
    /// Labels, as declared.
    pub labels: BTreeMap<String, String>,
    /// Annotations, as declared.
    pub annotations: BTreeMap<String, String>,
    /// What is wanted.
    pub spec: S,
    /// Where it was declared.
    pub origin: Origin,
}

impl<S: Spec> Resource<S> {
    /// A resource that was not read from a file, for [`super::edit`] and for tests.
    pub fn new(name: Name, spec: S) -> Self {
        Self {
            name,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            spec,
            origin: Origin::default(),
        }
    }

    /// `Kind/name`, the way messages and status refer to it.
    pub fn reference(&self) -> String {
        format!("{}/{}", S::KIND, self.name)
    }
}

/// Where a resource was declared.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origin {
    /// The file.
    pub file: PathBuf,
    /// First line of the document in it, counted from 1; 0 for a resource that was never in a file.
    pub line: u64,
    /// Whether the file holds other documents too.
    pub shared: bool,
}

/// The accepted values of `apiVersion`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum ApiVersion {
    /// Our own.
    #[default]
    #[serde(rename = "handfast.dev/v1alpha1")]
    Handfast,
    /// Skupper's, read as it is.
    #[serde(rename = "skupper.io/v2alpha1")]
    Skupper,
}

impl ApiVersion {
    /// The accepted spellings.
    pub const ALL: [&'static str; 2] = ["handfast.dev/v1alpha1", "skupper.io/v2alpha1"];
}

/// The `metadata` of a document. What a Kubernetes API server adds to it is accepted and ignored, so
/// that `kubectl get -o yaml` output can be used as it is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Metadata {
    /// The name.
    #[serde(with = "field::parsed")]
    pub name: Name,
    /// Kept by Kubernetes; a node is one namespace, so it plays no part here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing, rename = "creationTimestamp")]
    _creation_timestamp: IgnoredAny,
    #[serde(default, skip_serializing, rename = "deletionTimestamp")]
    _deletion_timestamp: IgnoredAny,
    #[serde(default, skip_serializing, rename = "finalizers")]
    _finalizers: IgnoredAny,
    #[serde(default, skip_serializing, rename = "generation")]
    _generation: IgnoredAny,
    #[serde(default, skip_serializing, rename = "managedFields")]
    _managed_fields: IgnoredAny,
    #[serde(default, skip_serializing, rename = "ownerReferences")]
    _owner_references: IgnoredAny,
    #[serde(default, skip_serializing, rename = "resourceVersion")]
    _resource_version: IgnoredAny,
    #[serde(default, skip_serializing, rename = "uid")]
    _uid: IgnoredAny,
}

impl Metadata {
    fn of<S>(resource: &Resource<S>) -> Self {
        Self {
            name: resource.name.clone(),
            namespace: None,
            labels: resource.labels.clone(),
            annotations: resource.annotations.clone(),
            _creation_timestamp: IgnoredAny,
            _deletion_timestamp: IgnoredAny,
            _finalizers: IgnoredAny,
            _generation: IgnoredAny,
            _managed_fields: IgnoredAny,
            _owner_references: IgnoredAny,
            _resource_version: IgnoredAny,
            _uid: IgnoredAny,
        }
    }
}

/// A whole document as it stands in a file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Document<S> {
    pub(super) api_version: ApiVersion,
    pub(super) kind: String,
    pub(super) metadata: Metadata,
    pub(super) spec: S,
    /// Written by a controller, never by the user: accepted and ignored.
    #[serde(default, skip_serializing, rename = "status")]
    _status: IgnoredAny,
}

impl<S: Spec> Document<S> {
    pub(super) fn of(resource: &Resource<S>) -> Self {
        Self {
            api_version: ApiVersion::Handfast,
            kind: S::KIND.to_string(),
            metadata: Metadata::of(resource),
            spec: resource.spec.clone(),
            _status: IgnoredAny,
        }
    }

    pub(super) fn into_resource(self, origin: Origin) -> Resource<S> {
        Resource {
            name: self.metadata.name,
            labels: self.metadata.labels,
            annotations: self.metadata.annotations,
            spec: self.spec,
            origin,
        }
    }
}
