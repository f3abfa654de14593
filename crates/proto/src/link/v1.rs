//! `handfast.link.v1`: see `proto/handfast/link/v1/link.proto`.

/// One message of the control stream.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Control {
    /// Non-zero on a request and on the answer that belongs to it; zero on a notice.
    #[prost(uint64, tag = "1")]
    pub request_id: u64,
    /// What is said.
    #[prost(oneof = "control::Body", tags = "2, 3, 4, 5, 6")]
    pub body: Option<control::Body>,
}

/// Nested types of [`Control`].
pub mod control {
    /// What a control message says.
    #[derive(Clone, PartialEq, ::prost::Oneof)]
    pub enum Body {
        /// First message in both directions of every link connection.
        #[prost(message, tag = "2")]
        Hello(super::Hello),
        /// The routing keys that the sender has connectors for.
        #[prost(message, tag = "3")]
        Advertisement(super::Advertisement),
        /// Asks for the renewal of the credential that the sender links with.
        #[prost(message, tag = "4")]
        CredentialRequest(super::CredentialRequest),
        /// The renewed credential.
        #[prost(message, tag = "5")]
        CredentialGrant(super::CredentialGrant),
        /// Why a request was refused.
        #[prost(message, tag = "6")]
        Refusal(super::Refusal),
    }
}

/// First message in both directions of every link connection.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Hello {
    /// Version of the link protocol that the sender speaks.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The sender's own name; its identity is what its certificate says.
    #[prost(string, tag = "2")]
    pub site: String,
    /// Random, the same on all connections of one dialling.
    #[prost(bytes = "vec", tag = "3")]
    pub group: Vec<u8>,
    /// Which connection of the group this is, from 0.
    #[prost(uint32, tag = "4")]
    pub index: u32,
    /// How many connections the group will have.
    #[prost(uint32, tag = "5")]
    pub connections: u32,
    /// Name and version of the sender's software, for people.
    #[prost(string, tag = "6")]
    pub software: String,
    /// Cost of the link, from the dialling side.
    #[prost(uint32, tag = "7")]
    pub cost: u32,
}

/// The routing keys that the sender has connectors for. Replaces the one before.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Advertisement {
    /// Grows with every change at the sender.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// All of them.
    #[prost(message, repeated, tag = "2")]
    pub services: Vec<Service>,
}

/// One routing key.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Service {
    /// The name under which the service is known.
    #[prost(string, tag = "1")]
    pub routing_key: String,
    /// Cost from the sender to the service: 0 for its own connectors.
    #[prost(uint32, tag = "2")]
    pub cost: u32,
}

/// Asks the authority at the other end to renew the credential that the sender links with.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct CredentialRequest {
    /// The credential's name at the sender.
    #[prost(string, tag = "1")]
    pub name: String,
    /// PKCS#10 request, PEM (RFC 2986, RFC 7468).
    #[prost(string, tag = "2")]
    pub csr_pem: String,
}

/// The renewed credential.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct CredentialGrant {
    /// The chain, leaf first, PEM.
    #[prost(string, tag = "1")]
    pub certificate_pem: String,
    /// The trust anchors to verify the other side with, PEM.
    #[prost(string, tag = "2")]
    pub ca_pem: String,
}

/// Why a request was refused.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Refusal {
    /// Stable word for programs.
    #[prost(string, tag = "1")]
    pub code: String,
    /// What happened, for people.
    #[prost(string, tag = "2")]
    pub message: String,
    /// What to do.
    #[prost(string, tag = "3")]
    pub remedy: String,
}
