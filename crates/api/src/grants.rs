//! Access grants over HTTPS: how a site hands out, and others redeem, the right to link or to report as a service.
//!
//! `POST <url of the token>` with a [`RedemptionBody`], answered by a [`RedemptionReply`] or a
//! [`Problem`]. Agents, which have no link, renew there too: `POST /v1/renew` with a [`RenewalBody`], over mutual
//! TLS with the certificate that is to be renewed. The private key never travels: a certificate request goes in, a chain comes out.
//! Whether a grant is honoured is decided by `handfast-authority` (through [`Granter`]); here is
//! HTTP, TLS 1.3, and what strangers may cost ([`GrantLimits`]).

mod client;
mod decision;
mod message;
mod server;
mod token;
mod url;

pub use crate::gate::Rate;
pub use client::{RedeemError, Redeeming, Renewing, redeem, renew};
pub use message::{LinkOffer, Problem, ProblemCode, RedemptionBody, RedemptionReply, RenewalBody};
pub use server::{
    GrantLimits, GrantServer, GrantServerError, Granter, RedemptionRequest, RenewalRequest,
};
pub use token::{TokenError, TokenFile, read_token, write_token};
pub use url::{GrantUrl, GrantUrlError};
