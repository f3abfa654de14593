//! `handfast ca install`: certificates that came back from where the root's key is.

use std::path::PathBuf;

use handfast_api::admin::{ClientError, InstallAuthorities};

use super::keys;
use crate::clock;
use crate::commands::{Context, words};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node;

/// Arguments of `handfast ca install`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The file with the certificates, and those above them
    file: PathBuf,
}

/// Has them put to use.
pub(super) async fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let bytes = keys::read(&arguments.file)?;
    let certificates = String::from_utf8(bytes.to_vec()).map_err(|_| {
        Failure::new(Exit::BadInput, "the file is no PEM text").at(arguments.file.display())
    })?;
    let request = InstallAuthorities { certificates };
    let done = match context.client().install_authorities(&request).await {
        Err(ClientError::NoNode { .. }) => {
            node::ceremony::install_offline(&context.home, request).await?
        }
        answer => answer?,
    };
    context.output.show(&done, |page| {
        for ca in &done.installed {
            let until = words::moment(Some(ca.not_after), clock::now());
            let state = if ca.was_there { "was in use already" } else { "is in use now" };
            page.line(format!("{} {state}, signed by {}, until {until}.", ca.name, ca.issuer));
        }
    })
}
