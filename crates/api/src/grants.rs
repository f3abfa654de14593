//! Access grants over HTTPS: how a site hands out, and others redeem, the right to link or to report as a service.
//!
//! `POST <url of the token>` with a [`RedemptionBody`], answered by a [`RedemptionReply`] or a
//! [`Problem`]. Agents, which have no link, renew there too: `POST /v1/renew` with a [`RenewalBody`], over mutual
//! TLS with the certificate that is to be renewed; and ask when to: `GET /v1/renewal-hint`, answered by a [`HintReply`] about the
//! certificate that is shown and no other. The private key never travels: a certificate request goes in, a chain comes out.
//! Whether a grant is honoured is decided by `handfast-authority` (through [`Granter`]); here is
//! HTTP, TLS 1.3, and what strangers may cost ([`GrantLimits`]).

mod client;
mod decision;
mod message;
mod quota;
mod server;
mod token;
mod url;

pub use crate::gate::Rate;
pub use client::{HintQuestion, RedeemError, Redeeming, Renewing, ask_for_hint, redeem, renew};
pub use message::{
    HintReply, HintWhy, LinkOffer, Problem, ProblemCode, RedemptionBody, RedemptionReply,
    RenewalBody, SuggestedWindow,
};
pub use quota::ProvedLimits;
pub use server::{
    GrantLimits, GrantServer, GrantServerError, Granter, RedemptionRequest, RenewalRequest,
};
pub use token::{TokenError, TokenFile, read_token, write_token};
pub use url::{GrantUrl, GrantUrlError};
