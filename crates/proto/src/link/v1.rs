//! `handfast.link.v1`: see `proto/handfast/link/v1/link.proto`.

/// One message of the control stream.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Control {
    /// Non-zero on a request and on the answer that belongs to it; zero on a notice.
    #[prost(uint64, tag = "1")]
    pub request_id: u64,
    /// What is said.
    #[prost(oneof = "control::Body", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10")]
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
        /// What the receiver is to trust.
        #[prost(message, tag = "7")]
        TrustBundle(super::TrustBundle),
        /// The sender verifies by a bundle now.
        #[prost(message, tag = "8")]
        BundleAcknowledged(super::BundleAcknowledged),
        /// What the sender knows to be revoked.
        #[prost(message, tag = "9")]
        Revocations(super::Revocations),
        /// Where the sender stands in the receiver's revocations.
        #[prost(message, tag = "10")]
        RevocationsAcknowledged(super::RevocationsAcknowledged),
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

/// What the sites that hold credentials of the sender are to trust. Replaces the one before.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct TrustBundle {
    /// The trust domain it is of.
    #[prost(string, tag = "1")]
    pub trust_domain: String,
    /// Grows with every change of the set.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// The anchors, PEM.
    #[prost(string, tag = "3")]
    pub anchors_pem: String,
    /// Anchors that count for nothing new, while connections made under them may finish, PEM.
    #[prost(string, tag = "4")]
    pub retired_pem: String,
    /// SHA-256 of the SubjectPublicKeyInfo of the CA that signs link credentials now.
    #[prost(bytes = "vec", tag = "5")]
    pub signer: Vec<u8>,
}

/// The sender verifies by this bundle from now on.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct BundleAcknowledged {
    /// The trust domain it is of.
    #[prost(string, tag = "1")]
    pub trust_domain: String,
    /// Its number.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
}

/// What the sender knows to be revoked, from where the receiver stands.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Revocations {
    /// Where the receiver stands after these statements, in the sender's own count. Unchanged while
    /// more follow.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// Stands for everything in the count up to there.
    #[prost(bytes = "vec", tag = "2")]
    pub digest: Vec<u8>,
    /// Each signed by the issuer that it is about.
    #[prost(message, repeated, tag = "3")]
    pub statements: Vec<SignedRevocations>,
}

/// Where the sender of this stands in the receiver's count: what is to follow comes after that.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RevocationsAcknowledged {
    /// As in the [`Revocations`] that are acknowledged; 0 for nothing yet.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// As in the [`Revocations`] that are acknowledged.
    #[prost(bytes = "vec", tag = "2")]
    pub digest: Vec<u8>,
}

/// Certificates revoked by one issuer, signed by that issuer. Whoever holds it may pass it on.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SignedRevocations {
    /// A [`RevokedCertificates`], as it was signed.
    #[prost(bytes = "vec", tag = "1")]
    pub revoked: Vec<u8>,
    /// Over `handfast revocations 1`, a zero octet, and `revoked`.
    #[prost(bytes = "vec", tag = "2")]
    pub signature: Vec<u8>,
    /// DER: the certificate of the issuer's key, then what leads up to an anchor.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub issuer: Vec<Vec<u8>>,
}

/// What is signed.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RevokedCertificates {
    /// SHA-256 of the issuer's SubjectPublicKeyInfo.
    #[prost(bytes = "vec", tag = "1")]
    pub issuer_key_id: Vec<u8>,
    /// All of them signed by that key.
    #[prost(message, repeated, tag = "2")]
    pub certificates: Vec<RevokedCertificate>,
}

/// One revoked certificate.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RevokedCertificate {
    /// Serial number, hex.
    #[prost(string, tag = "1")]
    pub serial: String,
    /// RFC 5280, section 5.3.1.
    #[prost(uint32, tag = "2")]
    pub reason: u32,
    /// Since when: microseconds since 1970.
    #[prost(int64, tag = "3")]
    pub at: i64,
    /// When it expires: microseconds since 1970; 0 if not known.
    #[prost(int64, tag = "4")]
    pub not_after: i64,
    /// The enrolment that the certificate belongs to is ended with it.
    #[prost(bool, tag = "5")]
    pub enrolment_ended: bool,
    /// The identity it proved, for people; empty if it has none.
    #[prost(string, tag = "6")]
    pub identity: String,
}
