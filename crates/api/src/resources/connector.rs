//! The kind Connector: where a service of this site is.

use std::collections::BTreeMap;

use handfast_pki::{Host, Name};
use serde::{Deserialize, Serialize};

use super::field::{is_false, parsed, parsed_option, port};
use super::{Invalid, RoutingKey, ServiceType};

/// `spec` of a Connector.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Connector {
    /// The name of the service in the network.
    #[serde(with = "parsed")]
    pub routing_key: RoutingKey,
    /// Where the service is; excludes `selector`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub host: Option<Host>,
    /// Kubernetes label selector; excludes `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The service's port.
    #[serde(with = "port")]
    pub port: u16,
    /// The credential for TLS to the service; plain when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub tls_credentials: Option<Name>,
    /// Whether our client certificate is presented to the service.
    #[serde(default, skip_serializing_if = "is_false")]
    pub use_client_cert: bool,
    /// Whether the service's certificate must name `host`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub verify_hostname: bool,
    /// The protocol carried.
    #[serde(default, rename = "type", skip_serializing_if = "ServiceType::is_default")]
    pub service_type: ServiceType,
    /// One name per pod. Has no effect outside Kubernetes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub expose_pods_by_name: bool,
    /// Pods that are not ready too. Has no effect outside Kubernetes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub include_not_ready_pods: bool,
    /// None has an effect here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl Connector {
    pub(super) fn problems(&self) -> Vec<Invalid> {
        let mut problems = match (&self.host, &self.selector) {
            (Some(_), None) => Vec::new(),
            (None, Some(_)) => vec![Invalid::error(
                "selector",
                "`selector` chooses Kubernetes pods, and this node does not run in Kubernetes",
                "replace it with `host`",
            )],
            (None, None) => vec![Invalid::error(
                "spec",
                "neither `host` nor `selector` says where the service is",
                "add `host`",
            )],
            (Some(_), Some(_)) => vec![Invalid::error(
                "selector",
                "`host` and `selector` exclude each other",
                "keep the one that is meant",
            )],
        };
        // Nothing fails open: the service was not meant to be spoken to in the clear.
        if self.tls_credentials.is_some() || self.use_client_cert {
            problems.push(Invalid::error(
                if self.use_client_cert { "useClientCert" } else { "tlsCredentials" },
                "TLS to the service is not spoken yet, so this connector stays unused",
                "remove `tlsCredentials` and `useClientCert` to carry the bytes as they are (clients \
                 may speak TLS to the service itself)",
            ));
        }
        problems
    }
}
