//! What a relay by itself dials with: from its files, or from its enrolment; the last good one. Nothing here ever
//! makes it less than it was.

use std::sync::Arc;

use handfast_api::skywalking::{Material, MaterialFiles};
use handfast_pki::{Certificate, Chain, Credential, TrustAnchors};
use handfast_store::WatchSettings;
use handfast_telemetry::port::Mode;
use handfast_telemetry::upstream::Security;
use handfast_tls::{
    ClientOptions, ClientTrust, Floor, RevocationCheck, Revocations, client_config_trusting,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::enrolled;
use super::settings::{Settings, With};
use crate::exit::Exit;
use crate::failure::Failure;

/// What is dialled with, and why it is not what lies there.
pub(super) struct Supply {
    from: Source,
    dialling: Dialling,
    good: Option<Security>,
    /// Why what lies there is not in use.
    fault: watch::Receiver<Option<String>>,
    /// The same, as it is shown.
    told: watch::Sender<Option<String>>,
}

/// What is another than before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Changed {
    /// Why what lies there is not in use.
    Fault,
    /// There is something else to dial with.
    Material,
}

/// What is asked of whoever is dialled, whatever it is dialled with.
struct Dialling {
    mode: Option<Mode>,
    server_name: Option<String>,
    revocations: Revocations,
}

enum Source {
    Files(watch::Receiver<Arc<Material>>),
    Enrolment(watch::Receiver<Option<Arc<Credential>>>),
    Nothing,
}

impl Supply {
    /// What is there now, kept up to date until `ending`. What is broken, or not enough, is no start.
    pub(super) fn open(
        settings: &Settings,
        revocations: Revocations,
        ending: &CancellationToken,
    ) -> Result<Self, Failure> {
        let server_name = settings.server_name.clone();
        let dialling = Dialling { mode: settings.mode, server_name, revocations };
        match &settings.with {
            With::Nothing => {
                tracing::warn!("--mode plaintext: everything is sent on in the clear");
                let fault = watch::Sender::new(None).subscribe();
                let good = Some(Security::Plaintext);
                Ok(Self::of(Source::Nothing, dialling, good, fault))
            }
            With::Enrolment { directory, token, ask_every } => {
                let (live, fault) =
                    enrolled::open(directory, token.as_deref(), *ask_every, ending)?;
                let held = live.borrow().clone();
                let good = match held {
                    Some(credential) => {
                        let made = dialling.mutual(&credential);
                        Some(made.map_err(|why| unusable(&directory.display(), &why))?)
                    }
                    None => None,
                };
                Ok(Self::of(Source::Enrolment(live), dialling, good, fault))
            }
            With::Files(named) => {
                let environment = settings.environment.clone();
                let patience = WatchSettings::default();
                let files =
                    MaterialFiles::open_named(&settings.agent_dir, named, environment, patience)
                        .map_err(|fault| {
                            let place = fault.file().map(|file| file.display().to_string());
                            unusable(&place.unwrap_or_else(|| "the system's trust".into()), &fault)
                        })?;
                let (live, fault) = (files.live(), files.fault());
                let material = Arc::clone(&live.borrow());
                let good = Some(dialling.by_files(&material).map_err(
                    |lack| match lack {
                        Lack::Trust => Failure::new(
                            Exit::BadInput,
                            "nothing says what the collector is known by, and nothing is sent in the clear unasked",
                        )
                        .at(settings.agent_dir.join("ca/ca.crt").display())
                        .because("no CA is there, and SW_AGENT_FORCE_TLS is not set")
                        .remedy("name the CA with --ca, put it there, enrol with --token, or say --mode plaintext"),
                        Lack::Identity => {
                            Failure::new(Exit::BadInput, "mode mtls needs a certificate to show")
                                .at(settings.agent_dir.join("ca/client.crt").display())
                                .because("it is not there")
                                .remedy("name --cert and --key, or enrol with --token")
                        }
                        Lack::Unusable(why) => unusable(&settings.agent_dir.display(), &why),
                    },
                )?);
                tokio::spawn(files.keep(ending.clone()));
                Ok(Self::of(Source::Files(live), dialling, good, fault))
            }
        }
    }

    fn of(
        from: Source,
        dialling: Dialling,
        good: Option<Security>,
        fault: watch::Receiver<Option<String>>,
    ) -> Self {
        Self { from, dialling, good, fault, told: watch::Sender::new(None) }
    }

    /// What to dial with; nothing is sent without.
    pub(super) fn security(&self) -> Option<Security> {
        self.good.clone()
    }

    /// Why what lies there is not in use, now and later, as far as it was [told](Self::tell).
    pub(super) fn fault(&self) -> watch::Receiver<Option<String>> {
        self.told.subscribe()
    }

    /// Shows why what lies there is not in use, once what is good is.
    pub(super) fn tell(&mut self) {
        let waits = match &self.from {
            Source::Files(live) => live.has_changed().is_ok_and(|changed| changed),
            Source::Enrolment(live) => live.has_changed().is_ok_and(|changed| changed),
            Source::Nothing => false,
        };
        if waits {
            return;
        }
        let fault = self.fault.borrow_and_update().clone();
        self.told.send_replace(fault);
    }

    /// Returns when there is something else to dial with, or another reason why there is not.
    pub(super) async fn changed(&mut self) -> Changed {
        let material = async {
            match &mut self.from {
                Source::Files(live) => live.changed().await.is_ok(),
                Source::Enrolment(live) => live.changed().await.is_ok(),
                Source::Nothing => false,
            }
        };
        let changed = tokio::select! {
            // First what is good, then that nothing is wrong any more.
            biased;
            is_there = material => is_there.then_some(Changed::Material),
            is_there = self.fault.changed() => is_there.is_ok().then_some(Changed::Fault),
        };
        match changed {
            Some(changed) => changed,
            None => std::future::pending().await,
        }
    }

    /// Makes it anew of what is there: a connection that was made before is not used any more. Says whether there is
    /// anything new to dial with.
    pub(super) fn make_again(&mut self) -> bool {
        let made = match &mut self.from {
            Source::Files(live) => {
                let material = Arc::clone(&live.borrow_and_update());
                self.dialling.by_files(&material).map_err(|lack| lack.to_string())
            }
            Source::Enrolment(live) => {
                let Some(credential) = live.borrow_and_update().clone() else { return false };
                self.dialling.mutual(&credential)
            }
            Source::Nothing => return false,
        };
        match made {
            Ok(security) => {
                self.good = Some(security);
                true
            }
            Err(why) => {
                tracing::error!(why, "what was good last stays in use");
                false
            }
        }
    }

    /// Whether nobody is known yet whom it could trust.
    pub(super) fn awaits_certificate(&self) -> bool {
        matches!(&self.from, Source::Enrolment(live) if live.borrow().is_none())
    }

    /// Whose revocation lists are believed.
    pub(super) fn issuers(&self) -> Vec<Certificate> {
        let of = |chain: Option<&Chain>, anchors: Option<&TrustAnchors>| -> Vec<Certificate> {
            let above = chain.into_iter().flat_map(Chain::rest);
            above.chain(anchors.into_iter().flat_map(TrustAnchors::iter)).cloned().collect()
        };
        match &self.from {
            Source::Files(live) => {
                let material = live.borrow();
                let trust = material.client_trust();
                let anchors = match &trust {
                    Some(ClientTrust::Anchors(anchors)) => Some(anchors),
                    Some(ClientTrust::System(system)) => Some(system.anchors()),
                    _ => None,
                };
                of(material.identity.as_ref().map(Credential::chain), anchors)
            }
            Source::Enrolment(live) => live.borrow().as_ref().map_or_else(Vec::new, |credential| {
                of(Some(credential.chain()), Some(credential.anchors()))
            }),
            Source::Nothing => Vec::new(),
        }
    }
}

/// What is not there.
#[derive(Debug, thiserror::Error)]
enum Lack {
    #[error("mode mtls needs a certificate to show, and none is there")]
    Identity,
    #[error("nothing says what the collector is known by")]
    Trust,
    #[error("{0}")]
    Unusable(String),
}

impl Dialling {
    /// By what is there, or as it was asked for; never in the clear.
    fn by_files(&self, material: &Material) -> Result<Security, Lack> {
        let trust = material.client_trust().ok_or(Lack::Trust)?;
        let identity = match self.mode {
            Some(Mode::Mtls) => Some(material.identity.as_ref().ok_or(Lack::Identity)?),
            Some(_) => None,
            None => material.identity.as_ref(),
        };
        self.tls(identity, &trust).map_err(Lack::Unusable)
    }

    fn mutual(&self, credential: &Credential) -> Result<Security, String> {
        let trust = ClientTrust::Anchors(credential.anchors().clone());
        self.tls(Some(credential), &trust)
    }

    fn tls(&self, identity: Option<&Credential>, trust: &ClientTrust) -> Result<Security, String> {
        let options = ClientOptions {
            alpn: vec![b"h2".to_vec()],
            floor: Floor::Tls12,
            revocation: RevocationCheck::by(self.revocations.clone()),
            ..ClientOptions::default()
        };
        let config =
            client_config_trusting(identity, trust, &options).map_err(|fault| fault.one_line())?;
        Ok(Security::Tls { config, server_name: self.server_name.clone() })
    }
}

fn unusable(place: &dyn std::fmt::Display, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::BadInput, "the relay's certificates cannot be used")
        .at(place)
        .because(why)
        .remedy(
            "`handfast cert lint FILE` says what is wrong; `handfast agent-certs DIR` makes good ones",
        )
}
