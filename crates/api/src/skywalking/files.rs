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
    places: Places,
    environment: AgentEnvironment,
    watch: ContentWatch,
    live: watch::Sender<Arc<Material>>,
    fault: watch::Sender<Option<String>>,
}

/// Files that were named outright, and not by a variable. Each comes before what the variable and the habit
/// say of it, and its path counts from the working directory.
#[derive(Clone, Debug, Default)]
pub struct NamedFiles {
    /// The CA that the collector chains to.
    pub ca: Option<PathBuf>,
    /// Our certificate and its issuers.
    pub chain: Option<PathBuf>,
    /// Our private key.
    pub key: Option<PathBuf>,
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
        Self::open_named(folder, &NamedFiles::default(), environment, settings)
    }

    /// The same, with files that were named outright.
    ///
    /// # Errors
    /// [`MaterialFault`].
    pub fn open_named(
        folder: &Path,
        named: &NamedFiles,
        environment: AgentEnvironment,
        settings: WatchSettings,
    ) -> Result<Self, MaterialFault> {
        let places = Places {
            ca: place(folder, named.ca.as_ref(), environment.trusted_ca.as_ref(), "ca/ca.crt"),
            key: place(folder, named.key.as_ref(), environment.key.as_ref(), "ca/client.pem"),
            chain: place(folder, named.chain.as_ref(), environment.chain.as_ref(), "ca/client.crt"),
        };
        let roots = [&places.ca, &places.key, &places.chain].map(|place| place.path.clone());
        // Before the first look: a change after it is a change.
        let watch = ContentWatch::start(roots.to_vec(), settings);
        let material = look(&places, &environment)?;
        Ok(Self {
            places,
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
            let looked = look(&self.places, &self.environment)
                .and_then(|material| material.no_weaker_than(&before).map(|()| material));
            match looked {
                Ok(material) => {
                    tracing::info!(ca = %self.places.ca.path.display(), "new TLS material was read");
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

fn look(places: &Places, environment: &AgentEnvironment) -> Result<Material, MaterialFault> {
    let sighted =
        Sighted { ca: sought(&places.ca), key: sought(&places.key), chain: sought(&places.chain) };
    Material::decide(environment, &sighted, || {
        SystemTrust::read(environment.system_bundle.as_deref())
    })
}

/// Where each is looked for.
#[derive(Debug)]
struct Places {
    ca: Place,
    key: Place,
    chain: Place,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Somebody named it: then it has to be there.
    named: bool,
}

/// The Java agent's habit: the path in a variable counts from its folder, with a slash in front too.
fn place(
    folder: &Path,
    outright: Option<&PathBuf>,
    variable: Option<&PathBuf>,
    habit: &str,
) -> Place {
    if let Some(path) = outright {
        return Place { path: path.clone(), named: true };
    }
    let relative = variable.map_or(Path::new(habit), PathBuf::as_path);
    let path = folder.join(relative.strip_prefix("/").unwrap_or(relative));
    Place { path, named: variable.is_some() }
}

fn sought(place: &Place) -> Sought {
    let seen = match read_bounded(&place.path, LARGEST) {
        Ok(Some(bytes)) => Seen::Content(Zeroizing::new(bytes)),
        Ok(None) => Seen::Missing,
        Err(error) => Seen::Unreadable(error.source.to_string()),
    };
    Sought { path: place.path.clone(), named: place.named, seen }
}

/// No such file is near a megabyte.
const LARGEST: u64 = 1024 * 1024;
