//! The keys of authorities, for the admin API and for commands while no node runs: how they lie on
//! disk, requests that go elsewhere, certificates that come back.

use std::sync::Arc;

use handfast_api::admin::{
    InstallAuthorities, InstalledAuthorities, InstalledAuthority, KeysProtected, ProtectKeys,
    ProtectedKeys, Refusal, RefusalCode, RequestAuthorities, RequestedAuthorities,
    RequestedAuthority,
};
use handfast_authority::{CeremonyError, Declared, ProtectError, Protection};
use handfast_pki::Name;
use handfast_store::{Home, HomePaths, WatchSettings};

use super::core::Core;
use super::tokens::parsed;
use crate::clock;
use crate::commands::ca::keys;

impl Core {
    /// Brings the keys on disk into the form asked for.
    pub(super) async fn protect(
        self: &Arc<Self>,
        request: ProtectKeys,
        actor: String,
    ) -> Result<KeysProtected, Refusal> {
        let how = match request.keys {
            ProtectedKeys::Everything => Protection::Everything,
            ProtectedKeys::Issuers => Protection::Issuers,
            ProtectedKeys::Off => Protection::Off,
        };
        self.refresh_key_secrets();
        let core = Arc::clone(self);
        let done = blocking(move || core.authority().protect(how, &actor, clock::now())).await?;
        let done = done.map_err(|error| {
            let remedy = match &error {
                ProtectError::NoSecret { .. } => {
                    "start the node with --key-file FILE, HANDFAST_KEY or the systemd credential \
                     `handfast-key`"
                }
                ProtectError::Store(_) => "do it again when the disk can be written",
                _ => "nothing was changed; correct the secret and do it again",
            };
            Refusal::new(RefusalCode::NotReady, error.to_string(), remedy)
        })?;
        let mut changed: Vec<_> = done.changed.iter().map(|(_, name)| name.to_string()).collect();
        changed.sort();
        Ok(KeysProtected { changed, unchanged: done.unchanged })
    }

    /// Makes requests for certificates of authorities.
    pub(super) async fn request_authorities(
        self: &Arc<Self>,
        request: RequestAuthorities,
        actor: String,
    ) -> Result<RequestedAuthorities, Refusal> {
        let names = request.names.iter().map(|name| parsed("name", name));
        let names: Vec<Name> = names.collect::<Result<_, _>>()?;
        let declared = self.declared()?;
        let core = Arc::clone(self);
        let made =
            blocking(move || core.authority().request_cas(&declared, &names, &actor, clock::now()));
        let made = made.await?.map_err(refused)?;
        self.nudge();
        let requests = made.into_iter().map(|made| RequestedAuthority {
            name: made.name.to_string(),
            common_name: made.common_name,
            csr: made.csr_pem,
            key_id: keys::hex(&made.key_id),
        });
        Ok(RequestedAuthorities { requests: requests.collect() })
    }

    /// Puts certificates of authorities to use.
    pub(super) async fn install_authorities(
        self: &Arc<Self>,
        request: InstallAuthorities,
        actor: String,
    ) -> Result<InstalledAuthorities, Refusal> {
        let declared = self.declared()?;
        let core = Arc::clone(self);
        let done = blocking(move || {
            let file = request.certificates.as_bytes();
            core.authority().install_cas(&declared, file, &actor, clock::now())
        });
        let done = done.await?.map_err(refused)?;
        // What the new CA has to sign is signed before the answer.
        self.turn(None).await;
        let installed = done.into_iter().map(|ca| InstalledAuthority {
            name: ca.name.to_string(),
            serial: ca.certificate.serial().to_string(),
            issuer: ca.certificate.issuer().to_owned(),
            not_after: ca.certificate.not_after(),
            was_there: ca.was_there,
        });
        Ok(InstalledAuthorities { installed: installed.collect() })
    }

    fn declared(&self) -> Result<Arc<Declared>, Refusal> {
        self.state().declared.clone().ok_or_else(|| {
            Refusal::new(
                RefusalCode::NotReady,
                "no site is declared, so there are no authorities",
                "type `handfast site create NAME --trust-domain DOMAIN`",
            )
        })
    }
}

/// Encrypts keys, or not any more, while no node runs.
pub(crate) async fn protect_offline(
    home: &HomePaths,
    request: ProtectKeys,
) -> anyhow::Result<KeysProtected> {
    offline(home, async |core| core.protect(request, ACTOR.to_owned()).await).await
}

/// Makes requests while no node runs.
pub(crate) async fn request_offline(
    home: &HomePaths,
    request: RequestAuthorities,
) -> anyhow::Result<RequestedAuthorities> {
    offline(home, async |core| core.request_authorities(request, ACTOR.to_owned()).await).await
}

/// Installs certificates while no node runs.
pub(crate) async fn install_offline(
    home: &HomePaths,
    request: InstallAuthorities,
) -> anyhow::Result<InstalledAuthorities> {
    offline(home, async |core| core.install_authorities(request, ACTOR.to_owned()).await).await
}

async fn offline<T>(
    home: &HomePaths,
    work: impl AsyncFnOnce(&Arc<Core>) -> Result<T, Refusal>,
) -> anyhow::Result<T> {
    let lock = Home::open(&home.root)?;
    let core = Arc::new(Core::open(&lock, WatchSettings::default())?);
    core.without_network();
    core.turn(None).await;
    let done = work(&core).await;
    drop(core);
    drop(lock);
    Ok(done?)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        Refusal::new(RefusalCode::Internal, "the call was cut short", "see the node's log")
    })
}

fn refused(error: CeremonyError) -> Refusal {
    let (code, remedy) = match &error {
        CeremonyError::Certificates(_) => (
            RefusalCode::Invalid,
            "give the file that `handfast ca sign` wrote, or any PEM with the certificate",
        ),
        CeremonyError::NotOurs { .. } | CeremonyError::Unusable { .. } => {
            (RefusalCode::Invalid, "nothing was changed; the CA in use goes on signing")
        }
        CeremonyError::LifeTooShort { .. } => (RefusalCode::Invalid, "nothing was changed"),
        CeremonyError::Unknown { .. } => (RefusalCode::NotFound, "check the name"),
        CeremonyError::NoRoot { .. }
        | CeremonyError::RootIsHere { .. }
        | CeremonyError::Standalone
        | CeremonyError::Supplied { .. } => (RefusalCode::Conflict, "nothing was changed"),
        _ => (RefusalCode::Internal, "see the node's log"),
    };
    Refusal::new(code, error.to_string(), remedy)
}

/// Who acts when a command works on the files of a home by itself.
const ACTOR: &str = "command line";
