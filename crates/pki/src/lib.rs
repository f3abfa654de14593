//! Certificates as values: keys, requests, chains, issuance, verification and linting.
//!
//! Nothing here opens a file or a socket, spawns a task or reads a clock: time is a
//! [`jiff::Timestamp`] argument and randomness an [`Entropy`] argument, so that every rule can be
//! tested at any moment of time. Building TLS configurations is the business of `handfast-tls`,
//! keeping credentials that of `handfast-store`, deciding what to issue that of
//! `handfast-authority`.
//!
//! Bytes become types at the edge ([`Certificate::from_der`], [`Chain::from_pem`],
//! [`PrivateKey::from_pem`], [`Csr::from_pem`], [`SpiffeId`]...); past it nothing is left to check.
//! Reading is tolerant where an operator has to be told what is wrong (a version 1 certificate is a
//! value that [`lint`] can talk about); issuing and verifying are strict.

mod anchors;
mod asn1;
mod certificate;
mod certificate_id;
mod chain;
mod constraints;
mod credential;
mod crl;
mod cross;
mod csr;
mod distinguished_name;
mod distribution;
mod entropy;
mod extension;
mod fingerprint;
mod host;
mod import;
mod issuance;
mod issuer;
mod key_algorithm;
mod lint;
mod name;
pub mod ocsp;
mod path;
mod pem;
mod pkcs12;
mod private_key;
mod profile;
mod public_key;
mod revocation;
mod sealed_key;
mod sealing;
mod serial;
mod signature;
mod signer;
mod spiffe;
mod statement;
mod subject;
mod trust_domain;
mod verify;
mod weak_key;

pub use anchors::TrustAnchors;
pub use certificate::{Certificate, CertificateError, IdentityError};
pub use certificate_id::CertificateId;
pub use chain::{Chain, ChainReadError};
pub use constraints::{ConstraintViolation, IpNet, IpNetError, NameConstraints, Subtrees};
pub use credential::{Credential, CredentialError, CredentialPem};
pub use crl::{Crl, CrlBuilder, CrlError, CrlNumber, CrlSet, CrlStatus, CrlView};
pub use csr::{Csr, CsrError, CsrRefusal};
pub use distribution::Distribution;
pub use entropy::{Entropy, SystemEntropy};
pub use extension::{Eku, KeyUsage};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use host::{DnsName, Host, HostError};
pub use import::{Import, ImportFile, Remark};
pub use issuance::{IssueError, IssueRequest, Overrun};
pub use issuer::{Issuer, IssuerError};
pub use key_algorithm::{KeyAlgorithm, UnknownKeyAlgorithm};
pub use lint::{Finding, FindingCode, LintContext, Severity, lint};
pub use name::{Name, NameError};
pub use pem::PemError;
pub use pkcs12::{Encryption, Pkcs12, Pkcs12Error};
pub use private_key::{KeyError, Passphrase, PrivateKey};
pub use profile::{Profile, UnknownProfile};
pub use public_key::{PublicKey, PublicKeyError};
pub use revocation::{RevocationReason, RevokedEntry, UnknownReason};
pub use serial::{Serial, SerialError};
pub use signature::{SignatureAlgorithm, SignatureError};
pub use signer::{SignError, Signer, SigningKey};
pub use spiffe::{IdentityKind, SpiffeError, SpiffeId};
pub use statement::StatementContext;
pub use subject::{Subject, SubjectError};
pub use trust_domain::{TrustDomain, TrustDomainError};
pub use verify::{ChainError, Purpose, verify_chain};
pub use weak_key::KeyWeakness;
