//! Revocation for everybody, over plain HTTP: CRLs, the certificates of CAs, and OCSP.
//!
//! Plain on purpose: everything handed out is signed, and whoever wants to check a TLS server's certificate
//! could not do so over TLS. `GET /crl/<issuer>.crl`, `GET /crl/<issuer>-delta.crl`, `GET /ca/<issuer>.crt`,
//! `GET /ocsp/<base64>` and `POST /ocsp`, with the cache headers of RFC 9919. What there is to hand out is known
//! to the node ([`Distributor`]); here is HTTP, and what strangers may cost ([`DistributionLimits`]).

mod answer;
mod server;

pub use server::{
    Answer, DistributionLimits, DistributionServer, DistributionServerError, Distributor, Document,
};
