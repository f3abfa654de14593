//! The kinds Listener and MultiKeyListener: where clients reach services of the network.

use std::collections::BTreeMap;

use handfast_pki::{Host, Name};
use serde::{Deserialize, Serialize};

use super::field::{is_false, parsed, parsed_list, parsed_option, port};
use super::{Invalid, RoutingKey};

/// `spec` of a Listener.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Listener {
    /// The service.
    #[serde(with = "parsed")]
    pub routing_key: RoutingKey,
    /// The address to listen on.
    #[serde(with = "parsed")]
    pub host: Host,
    /// The port to listen on.
    #[serde(with = "port")]
    pub port: u16,
    /// The server credential for TLS at the edge; plain when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub tls_credentials: Option<Name>,
    /// The protocol carried.
    #[serde(default, rename = "type", skip_serializing_if = "ServiceType::is_default")]
    pub service_type: ServiceType,
    /// What is to be observed of the traffic. Has no effect here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<Observer>,
    /// One name per pod. Has no effect outside Kubernetes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub expose_pods_by_name: bool,
    /// None has an effect here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl Listener {
    pub(super) fn problems(&self) -> Vec<Invalid> {
        match &self.tls_credentials {
            None => Vec::new(),
            // Nothing fails open: it was not meant to be plain.
            Some(_) => vec![Invalid::error(
                "tlsCredentials",
                "TLS at the edge is not served yet, so this listener stays closed",
                "remove `tlsCredentials` to carry the bytes as they are (clients may speak TLS to \
                 the service itself)",
            )],
        }
    }
}

/// `spec` of a MultiKeyListener.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MultiKeyListener {
    /// The address to listen on.
    #[serde(with = "parsed")]
    pub host: Host,
    /// The port to listen on.
    #[serde(with = "port")]
    pub port: u16,
    /// How a service is chosen.
    pub strategy: Strategy,
    /// The server credential for TLS at the edge; plain when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub tls_credentials: Option<Name>,
    /// Whether clients must present a certificate.
    #[serde(default, skip_serializing_if = "is_false")]
    pub require_client_cert: bool,
    /// What is to be observed of the traffic. Has no effect here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<Observer>,
    /// None has an effect here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl MultiKeyListener {
    pub(super) fn problems(&self) -> Vec<Invalid> {
        let mut problems = vec![Invalid::warning(
            "kind",
            "a MultiKeyListener is read but not served yet",
            "declare a Listener for the routing key that is needed most",
        )];
        let keys = match (&self.strategy.priority, &self.strategy.weighted) {
            (Some(priority), None) => priority.routing_keys.len(),
            (None, Some(weighted)) => weighted.routing_keys.len(),
            _ => {
                problems.push(Invalid::error(
                    "strategy",
                    "`strategy` must hold exactly one of `priority` and `weighted`",
                    "keep the one that is meant",
                ));
                return problems;
            }
        };
        if !(1..=MAX_KEYS).contains(&keys) {
            problems.push(Invalid::error(
                "routingKeys",
                format!("`routingKeys` holds {keys} keys"),
                format!("list between 1 and {MAX_KEYS}"),
            ));
        }
        if let Some(weighted) = &self.strategy.weighted {
            for key in weighted.routing_keys.keys().filter(|key| key.parse::<RoutingKey>().is_err())
            {
                problems.push(Invalid::error(
                    "routingKeys",
                    format!("{key:?} is no routing key"),
                    "use 1 to 253 visible ASCII characters without spaces",
                ));
            }
        }
        problems
    }
}

/// `spec.strategy`: exactly one of the two.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Strategy {
    /// The first reachable key wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Keys share connections by weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weighted: Option<Weighted>,
}

/// `spec.strategy.priority`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Priority {
    /// Best first.
    #[serde(with = "parsed_list")]
    pub routing_keys: Vec<RoutingKey>,
}

/// `spec.strategy.weighted`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Weighted {
    /// Weight by key.
    pub routing_keys: BTreeMap<String, u32>,
}

/// `spec.type`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceType {
    /// A stream of bytes.
    #[default]
    Tcp,
}

impl ServiceType {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// `spec.observer`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "Skupper's values; none has an effect here")]
pub enum Observer {
    Auto,
    Http1,
    Http2,
    None,
}

/// Most routing keys of one MultiKeyListener, as in Skupper.
const MAX_KEYS: usize = 256;
