//! `handfast cert list|show|verify|renew|revoke`: the certificates of this home, and any certificate the user hands in.

mod list;
mod renew;
mod revoke;
mod show;
mod verify;
mod view;

pub(super) use list::from_files;

use crate::commands::Context;

/// Verbs of `handfast cert`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// List the credentials of this home: who they are, until when, and who keeps them
    #[command(
        after_help = "Examples:\n  handfast cert list\n  handfast cert list -o json | jq '.[] | select(.state != \"valid\")'\n  \
        handfast cert list --revoked\n\n\
        Works without a running node too, from the files of the home."
    )]
    List(list::Arguments),
    /// Show one certificate in full: a credential of this home, or a file
    #[command(
        after_help = "Examples:\n  handfast cert show handfast-site-server\n  handfast cert show ./server.crt -o yaml"
    )]
    Show(show::Arguments),
    /// Find out whether a certificate, a credential or a TLS server would be accepted, and if not, why
    #[command(after_help = "Examples:\n  handfast cert verify handfast-site-server\n  \
        handfast cert verify server.crt --ca ca.crt --key server.key --purpose server\n  \
        handfast cert verify collector.example:11800 --ca ca.crt --cert agent.crt --key agent.key\n\n\
        Exits with 0 if it would be accepted, 1 if the certificate has a fault, 5 if the server or its certificate was refused.")]
    Verify(verify::Arguments),
    /// Renew certificates now, instead of when two thirds of their life are over
    #[command(
        after_help = "Examples:\n  handfast cert renew handfast-site-server\n  handfast cert renew --all\n\n\
        The old certificate stays in use until the new one has been proven by a handshake."
    )]
    Renew(renew::Arguments),
    /// Revoke certificates that this site issued: refused from now on, and their connections cut
    #[command(
        after_help = "Examples:\n  handfast cert revoke --identity spiffe://shop.example/site/east --reason key-compromise\n  \
        handfast cert revoke --serial 4f2a19c0 --reason superseded --yes\n  \
        handfast cert revoke --name east --reason cessation-of-operation --note 'site closed'\n\n\
        Connections of this node are cut when the command returns, those of linked sites within a second.\n\
        Credentials of this home are made anew at once. A revocation cannot be taken back."
    )]
    Revoke(revoke::Arguments),
}

/// Runs the verb.
pub(crate) async fn run(verb: Verb, context: &Context) -> anyhow::Result<()> {
    match verb {
        Verb::List(arguments) => list::run(&arguments, context).await,
        Verb::Renew(arguments) => renew::run(arguments, context).await,
        Verb::Revoke(arguments) => revoke::run(arguments, context).await,
        Verb::Show(arguments) => show::run(arguments, context),
        Verb::Verify(arguments) => verify::run(arguments, context).await,
    }
}
