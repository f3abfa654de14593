//! `handfast ca request`: requests for CA certificates that are signed elsewhere. The keys stay here, or
//! are in a token already.

use std::path::PathBuf;

use handfast_api::admin::{
    ClientError, RequestAuthorities, RequestedAuthorities, RequestedAuthority,
};
use handfast_pki::{Csr, Subject};

use super::keys;
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node;
use crate::output::Output;

/// Arguments of `handfast ca request`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The CAs, such as handfast-site-ca [default: all that only a key elsewhere can sign]
    authorities: Vec<String>,
    /// Where the requests go; one file may hold several
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// For a key in a token instead: its URI (RFC 7512); needs no home
    #[arg(long, value_name = "URI", requires = "name", conflicts_with = "authorities")]
    pkcs11: Option<String>,
    /// The name of the CA whose key is in the token
    #[arg(long, value_name = "NAME", requires = "pkcs11")]
    name: Option<String>,
}

/// Makes them.
pub(super) async fn run(
    arguments: Arguments,
    output: Output,
    context: impl FnOnce() -> anyhow::Result<Context>,
) -> anyhow::Result<()> {
    let made = if let (Some(uri), Some(name)) = (&arguments.pkcs11, &arguments.name) {
        RequestedAuthorities { requests: vec![for_token(uri, name)?] }
    } else {
        let context = context()?;
        let request = RequestAuthorities { names: arguments.authorities.clone() };
        match context.client().request_authorities(&request).await {
            Err(ClientError::NoNode { .. }) => {
                node::ceremony::request_offline(&context.home, request).await?
            }
            answer => answer?,
        }
    };
    if made.requests.is_empty() {
        return Err(Failure::new(Exit::Failed, "no CA of this home is signed by a key elsewhere")
            .because("all of them are supplied")
            .into());
    }
    let mut text = String::new();
    for request in &made.requests {
        let id = &request.key_id;
        let head = [&request.name, ": ", &request.common_name, "\nkey ", id, "\n"].concat();
        text.push_str(&head);
        text.push_str(&request.csr);
    }
    // The request may be made again, as often as it is wanted.
    handfast_store::write_atomic(&arguments.out, text.as_bytes(), 0o644)?;
    output.show(&made, |page| {
        let rows: Vec<Vec<String>> = made
            .requests
            .iter()
            .map(|one| vec![one.name.clone(), one.common_name.clone(), keys::grouped(&one.key_id)])
            .collect();
        page.table(&["AUTHORITY", "NAME", "KEY (SHA-256)"], &rows, "");
        page.line(format!(
            "The requests are in {}. Where the root's key is, type:",
            arguments.out.display()
        ));
        page.line(format!(
            "  handfast ca sign {} --issuer-dir DIR --out ca.pem",
            arguments.out.display()
        ));
        page.line("and compare the keys it shows with those above.");
    })
}

fn for_token(uri: &str, name: &str) -> anyhow::Result<RequestedAuthority> {
    let here = std::env::current_dir()?;
    let public = keys::public_in_token(uri, &here)?;
    let key = keys::in_token(uri, &here, &public)?;
    let csr = Csr::create(&key, &Subject::new(name))
        .map_err(|error| Failure::new(Exit::Failed, "no request could be made").because(error))?;
    Ok(RequestedAuthority {
        name: "(in a token)".to_owned(),
        common_name: name.to_owned(),
        csr: csr.to_pem(),
        key_id: keys::hex(&public.key_id()),
    })
}
