//! `handfast cert`: the certificates of this home, and any certificate the user hands in.

mod explain;
mod export;
pub(super) mod files;
mod import;
pub(super) mod issue;
mod issued;
mod lint;
mod list;
mod needs_renewal;
mod passphrase;
mod renew;
mod revoke;
mod show;
mod target;
mod verify;
mod view;

pub(super) use list::from_files;

use handfast_pki::{Certificate, Eku, Purpose};

use crate::commands::Context;
use crate::exit::Exit;

/// Verbs of `handfast cert`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// Issue a certificate for a component, an agent, an operator or a service
    #[command(after_help = "Examples:\n  \
        handfast cert issue --profile component --name payments --out payments/\n  \
        handfast cert issue --profile service-server --host pay.example --host 10.0.0.7 --out pay/ --ttl 12h\n  \
        handfast cert issue --csr app.csr > app.crt\n\n\
        The key is made here and stays here; the node sees a request. Works without a running node too. Every\n\
        answer is in the audit log. Exits with 5 if the request is against the rules.")]
    Issue(issue::Arguments),
    /// List the credentials of this home: who they are, until when, and who keeps them
    #[command(
        after_help = "Examples:\n  handfast cert list\n  handfast cert list -o json | jq '.[] | select(.state != \"valid\")'\n  \
        handfast cert list --revoked\n  \
        handfast cert list --expiring 7d && mail -s 'certificates expire' ops < /dev/null\n  \
        handfast cert list --issued --serial 4f2a19c0        # whose is it?\n  \
        handfast cert list --issued --expiring 7d            # of all that this site has signed\n\n\
        Works without a running node too, from the files of the home. With --expiring it exits with 0 if something\n\
        expires so soon, and with 9 if nothing does."
    )]
    List(list::Arguments),
    /// Show one certificate in full: a credential of this home, or a file
    #[command(
        after_help = "Examples:\n  handfast cert show handfast-site-server\n  handfast cert show ./server.crt -o yaml"
    )]
    Show(show::Arguments),
    /// Say in plain words what a certificate is for and what is wrong with it, or what a fault code means
    #[command(after_help = "Examples:\n  handfast cert explain server.crt\n  \
        handfast cert explain collector.example:11800\n  handfast cert explain unknown-issuer")]
    Explain(explain::Arguments),
    /// Find out whether a certificate, a credential or a TLS server would be accepted, and if not, why
    #[command(after_help = "Examples:\n  handfast cert verify handfast-site-server\n  \
        handfast cert verify server.crt --ca ca.crt --key server.key --purpose server\n  \
        handfast cert verify server.crt --ca ca.crt --crl ca.crl\n  \
        handfast cert verify collector.example:11800 --ca ca.crt --cert agent.crt --key agent.key\n\n\
        Exits with 0 if it would be accepted, 1 if the certificate has a fault, 5 if the server or its certificate was refused.")]
    Verify(verify::Arguments),
    /// Find faults in certificates by themselves, whoever made them
    #[command(after_help = "Examples:\n  handfast cert lint server.crt\n  \
        handfast cert lint client.crt --purpose client --strict\n\n\
        Exits with 0 if there is no error, 1 if there is one (with --strict: or a warning).")]
    Lint(lint::Arguments),
    /// Answer whether a certificate should be renewed, by the exit code
    #[command(after_help = "Examples:\n  \
        handfast cert needs-renewal server.crt --expires-in 7d && renew-it\n  \
        handfast cert needs-renewal web.example:443 --expires-in 33%\n  \
        handfast cert needs-renewal handfast-site-server -o json\n\n\
        Exits with 0 if it should, 9 if it should not, 3 if there is no such file, 4 if the server cannot be reached.")]
    NeedsRenewal(needs_renewal::Arguments),
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
        handfast cert revoke --name east --reason cessation-of-operation --note 'site closed'\n  \
        handfast cert revoke --serial 4f2a19c0 --issuer corporate-ca --not-issued-here --reason superseded\n\n\
        Connections of this node are cut when the command returns, those of linked sites within a second.\n\
        Credentials of this home are made anew at once. A revocation cannot be taken back. Works without a running node\n\
        too: it is on record at once, and enforced from the node's start on."
    )]
    Revoke(revoke::Arguments),
    /// Take over certificates, keys and CAs that other software made
    #[command(
        after_help = "Examples:\n  handfast cert import server.crt server.key ca.crt --name web\n  \
        handfast cert import keystore.p12 --passphrase-file pass.txt\n  \
        handfast cert import ca.pem ca-key.pem --name corporate-ca     # becomes an issuer\n  \
        handfast cert import client.crt client.key --dry-run           # only say what is wrong\n\n\
        Writes below input/ of the home; the running node takes it up by itself. Exits with 3 if the material\n\
        cannot be used, and says what to do."
    )]
    Import(import::Arguments),
    /// Write a credential as PEM, DER or PKCS#12, for other software
    #[command(after_help = "Examples:\n  \
        handfast cert export web --out web.pem\n  \
        handfast cert export web --format pkcs12 --out web.p12 --passphrase-file pass.txt\n  \
        handfast cert export web --format pkcs12 --only ca --out trust.p12     # a Java trust store\n  \
        handfast cert export web --format der --out web.der")]
    Export(export::Arguments),
}

/// Runs the verb.
pub(crate) async fn run(verb: Verb, context: &Context) -> anyhow::Result<Exit> {
    let done = match verb {
        Verb::Explain(arguments) => explain::run(&arguments, context).await,
        Verb::Export(arguments) => export::run(&arguments, context).await,
        Verb::Import(arguments) => import::run(&arguments, context),
        Verb::Issue(arguments) => issue::run(arguments, context).await,
        Verb::Lint(arguments) => lint::run(&arguments, context),
        Verb::List(arguments) => return list::run(&arguments, context).await,
        Verb::NeedsRenewal(arguments) => return needs_renewal::run(&arguments, context).await,
        Verb::Renew(arguments) => renew::run(arguments, context).await,
        Verb::Revoke(arguments) => revoke::run(arguments, context).await,
        Verb::Show(arguments) => show::run(arguments, context),
        Verb::Verify(arguments) => verify::run(arguments, context).await,
    };
    done.map(|()| Exit::Success)
}

/// What a certificate is to be used for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum PurposeArgument {
    /// Signs other certificates
    Ca,
    /// Shown to servers
    Client,
    /// Shown to clients
    Server,
}

impl From<PurposeArgument> for Purpose {
    fn from(purpose: PurposeArgument) -> Self {
        match purpose {
            PurposeArgument::Ca => Self::Ca,
            PurposeArgument::Client => Self::Client,
            PurposeArgument::Server => Self::Server,
        }
    }
}

/// What a certificate says it is for.
fn intended(leaf: &Certificate) -> Purpose {
    let usages = leaf.extended_key_usage().unwrap_or_default();
    if leaf.is_ca() {
        Purpose::Ca
    } else if usages.contains(&Eku::ClientAuth) && !usages.contains(&Eku::ServerAuth) {
        Purpose::Client
    } else {
        Purpose::Server
    }
}
