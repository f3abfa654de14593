//! The files behind a relay's material: looked at now, and again whenever their content changes. What is good is live; what is
//! broken leaves the last good one live and says why.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use handfast_store::{ContentWatch, WatchSettings, read_bounded};
use handfast_tls::SystemTrust;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::material::{Seen, Sighted, Sought};
use super::{AgentEnvironment, Material, MaterialFault};

/// A relay's material, kept up to date.
#[derive(Debug)]
pub struct MaterialFiles {
    folder: PathBuf,
    environment: AgentEnvironment,
    watch: ContentWatch,
    live: watch::Sender<Arc<Material>>,
    fault: watch::Sender<Option<String>>,
}

impl MaterialFiles {
    /// Looks below `folder`, as the Java agent looks below its own. There has to be something good to begin with.
    ///
    /// # Errors
    /// [`MaterialFault`].
    pub fn open(
        folder: &Path,
        environment: AgentEnvironment,
        settings: WatchSettings,
    ) -> Result<Self, MaterialFault> {
        let mut roots = vec![ca(folder, &environment).path];
        roots.push(key(folder, &environment).path);
        roots.push(chain(folder, &environment).path);
        // Before the first look: a change after it is a change.
        let watch = ContentWatch::start(roots, settings);
        let material = look(folder, &environment)?;
        Ok(Self {
            folder: folder.to_owned(),
            environment,
            watch,
            live: watch::Sender::new(Arc::new(material)),
            fault: watch::Sender::new(None),
        })
    }

    /// The last good material.
    pub fn live(&self) -> watch::Receiver<Arc<Material>> {
        self.live.subscribe()
    }

    /// Why what lies there now is not what is live, if it is not.
    pub fn fault(&self) -> watch::Receiver<Option<String>> {
        self.fault.subscribe()
    }

    /// Takes up changes until `shutdown`.
    pub async fn keep(self, shutdown: CancellationToken) {
        let mut changes = self.watch.changes();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = changes.changed() => if changed.is_err() {
                    return;
                },
            }
            let before = Arc::clone(&self.live.borrow());
            let looked = look(&self.folder, &self.environment)
                .and_then(|material| material.no_weaker_than(&before).map(|()| material));
            match looked {
                Ok(material) => {
                    tracing::info!(folder = %self.folder.display(), "new TLS material is in use");
                    self.live.send_replace(Arc::new(material));
                    self.fault.send_replace(None);
                }
                Err(fault) => {
                    tracing::error!(%fault, "the TLS material that was good last stays in use");
                    self.fault.send_replace(Some(fault.to_string()));
                }
            }
        }
    }
}

fn look(folder: &Path, environment: &AgentEnvironment) -> Result<Material, MaterialFault> {
    let sighted = Sighted {
        ca: ca(folder, environment),
        key: key(folder, environment),
        chain: chain(folder, environment),
    };
    Material::decide(environment, &sighted, || {
        SystemTrust::read(environment.system_bundle.as_deref())
    })
}

fn ca(folder: &Path, environment: &AgentEnvironment) -> Sought {
    sought(folder, environment.trusted_ca.as_deref(), "ca/ca.crt")
}

fn key(folder: &Path, environment: &AgentEnvironment) -> Sought {
    sought(folder, environment.key.as_deref(), "ca/client.pem")
}

fn chain(folder: &Path, environment: &AgentEnvironment) -> Sought {
    sought(folder, environment.chain.as_deref(), "ca/client.crt")
}

/// The Java agent's habit: a path counts from its folder, with a slash in front too.
fn sought(folder: &Path, named: Option<&Path>, habit: &str) -> Sought {
    let relative = named.unwrap_or(Path::new(habit));
    let path = folder.join(relative.strip_prefix("/").unwrap_or(relative));
    let seen = match read_bounded(&path, LARGEST) {
        Ok(Some(bytes)) => Seen::Content(Zeroizing::new(bytes)),
        Ok(None) => Seen::Missing,
        Err(error) => Seen::Unreadable(error.source.to_string()),
    };
    Sought { path, named: named.is_some(), seen }
}

/// No such file is near a megabyte.
const LARGEST: u64 = 1024 * 1024;
