//! `handfast ca protect`: by the running node, or on the files of the home when none runs.

use handfast_api::admin::{ClientError, ProtectKeys, ProtectedKeys};

use crate::commands::Context;
use crate::node;

/// Arguments of `handfast ca protect`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Encrypt the keys of certificates too: programs that read them need the secret then
    #[arg(long, conflicts_with = "off")]
    leaves: bool,
    /// Write every key unencrypted again; take the secret away from the node after that
    #[arg(long)]
    off: bool,
}

/// Has it done.
pub(super) async fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let keys = match (arguments.off, arguments.leaves) {
        (true, _) => ProtectedKeys::Off,
        (false, true) => ProtectedKeys::Everything,
        (false, false) => ProtectedKeys::Issuers,
    };
    let request = ProtectKeys { keys };
    let done = match context.client().protect_keys(&request).await {
        Err(ClientError::NoNode { .. }) => {
            node::ceremony::protect_offline(&context.home, request).await?
        }
        answer => answer?,
    };
    context.output.show(&done, |page| {
        let how = match keys {
            ProtectedKeys::Off => "lie unencrypted now",
            _ => "are encrypted now",
        };
        if done.changed.is_empty() {
            page.line(format!(
                "Nothing to do: {} key files are as they should be.",
                done.unchanged
            ));
        } else {
            page.line(format!("The keys of these {how}: {}.", done.changed.join(", ")));
        }
        if keys == ProtectedKeys::Off {
            page.line(
                "Take the secret away from the node now, or it encrypts again when it starts anew.",
            );
        }
    })
}
