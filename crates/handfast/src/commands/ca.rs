//! `handfast ca`: the authorities of this home, their keys, and certificates that are signed elsewhere.

mod create_root;
mod install;
pub(crate) mod keys;
mod protect;
mod request;
mod rollback;
mod rotate;
mod sign;
mod status;

use handfast_api::admin::AuthorityStatus;

use crate::commands::Context;
use crate::output::Output;

/// Verbs of `handfast ca`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// See every authority of this site: its keys, its rotation, and whom that waits for
    #[command(
        after_help = "Examples:\n  handfast ca status\n  handfast ca status root -o json | jq '.[0].rotation.waitsFor'"
    )]
    Status(status::Arguments),
    /// Give an authority a new key, without an outage
    #[command(after_help = "Examples:\n  handfast ca rotate site --wait\n  \
        handfast ca rotate root --wait --reason 'yearly'\n  \
        handfast ca rotate root --forced --reason 'the key was copied'\n  \
        handfast ca rotate root --proceed-without-laggards --reason 'east is being scrapped'\n\n\
        The new key is trusted everywhere before it signs anything, and the old one goes when nothing needs it \
        any more; `handfast ca rollback` goes back until then. Given for a rotation that is under way, the \
        command makes it urgent.")]
    Rotate(rotate::Arguments),
    /// Take a rotation back that has not ended
    #[command(
        after_help = "Examples:\n  handfast ca rollback root\n  handfast ca rollback site --wait --reason 'change freeze'"
    )]
    Rollback(rollback::Arguments),
    /// Make a root for a machine that stays offline: a key, its certificate, and nothing else
    #[command(
        after_help = "Examples:\n  handfast ca create-root --out ./root --name \"shop.example root\" --passphrase-file pass\n  \
        handfast ca create-root --out ./root --name \"shop.example root\" --pkcs11 'pkcs11:token=root;object=root?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/root/pin'\n\n\
        Needs neither a home nor a network. docs/book/offline-root.md is the whole ceremony."
    )]
    CreateRoot(create_root::Arguments),
    /// Put certificates to use that were signed elsewhere for the CAs of this home
    #[command(after_help = "Examples:\n  handfast ca install ca.pem\n\n\
        Takes effect at once; the CA in use before stays on disk as the previous one.")]
    Install(install::Arguments),
    /// Encrypt the private keys of CAs on disk, change the secret, or go back
    #[command(
        after_help = "Examples:\n  handfast ca protect\n  handfast ca protect --leaves\n  handfast ca protect --off\n\n\
        The node has the secret from --key-file, HANDFAST_KEY_FILE, HANDFAST_KEY or the systemd credential handfast-key. \
        To change it, put the new one on a line above the old one, run this, then take the old line out."
    )]
    Protect(protect::Arguments),
    /// Make requests for the CAs of this home that a key elsewhere signs
    #[command(
        after_help = "Examples:\n  handfast ca request --out ca.csr\n  handfast ca request handfast-site-ca --out site-ca.csr\n  \
        handfast ca request --pkcs11 'pkcs11:token=west;object=site-ca?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/handfast/pin' --name \"west site CA\" --out site-ca.csr\n\n\
        The keys are made and stay here. Asked again, the requests are for the same keys."
    )]
    Request(request::Arguments),
    /// Sign the requests of CAs, on the machine that has the root's key
    #[command(
        after_help = "Examples:\n  handfast ca sign ca.csr --issuer-dir ./root --passphrase-file pass --out ca.pem\n  \
        handfast ca sign ca.csr --cert root.crt --key root.key --ttl 90d --out ca.pem --yes\n\n\
        Shows what will be signed and asks. Needs neither a home nor a network. Every signature is written into \
        signed.jsonl beside the certificate of the root first."
    )]
    Sign(sign::Arguments),
}

/// Runs the verb. Only some need a home.
pub(crate) async fn run(
    verb: Verb,
    output: Output,
    context: impl FnOnce() -> anyhow::Result<Context>,
) -> anyhow::Result<()> {
    match verb {
        Verb::CreateRoot(arguments) => create_root::run(&arguments, output),
        Verb::Install(arguments) => install::run(&arguments, &context()?).await,
        Verb::Protect(arguments) => protect::run(&arguments, &context()?).await,
        Verb::Request(arguments) => request::run(arguments, output, context).await,
        Verb::Rollback(arguments) => rollback::run(arguments, &context()?).await,
        Verb::Rotate(arguments) => rotate::run(arguments, &context()?).await,
        Verb::Sign(arguments) => sign::run(&arguments, output),
        Verb::Status(arguments) => status::run(arguments, &context()?).await,
    }
}

/// What an authority is, which is what it goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Signs what the parts of the site show each other
    Local,
    /// The anchor of the trust domain
    Root,
    /// Signs what applications and the site show each other
    Service,
    /// Signs link and server certificates
    Site,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Root => "root",
            Self::Service => "service",
            Self::Site => "site",
        }
    }
}

/// Whether an authority is the one meant by a role or a name.
fn is_meant(authority: &AuthorityStatus, word: &str) -> bool {
    authority.role == word || authority.name == word
}
