//! The PKCS #11 libraries that this process has loaded, each once: a library keeps state for the whole
//! process, so that everybody who uses it shares it.
//!
//! Calls hold a shared lock; starting the library anew takes it alone, because a library may do anything
//! when it is ended under a call, and so does ending it with the process: a library takes itself apart then, also under
//! a call. What was opened before is known by its generation and not touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::RvError;

use crate::error::{TokenError, answer};
use crate::pin::Pin;

/// One library.
pub(crate) struct Module {
    path: PathBuf,
    state: RwLock<State>,
    /// One login at a time, and the PINs that were refused, by token.
    pub(crate) logins: Mutex<BTreeMap<String, Vec<Pin>>>,
}

pub(crate) struct State {
    library: Option<Pkcs11>,
    /// How often it was started.
    pub(crate) generation: u64,
    started: Option<Instant>,
    /// The process is about to end.
    ended: bool,
}

impl State {
    /// The library; started by [`Module::using`].
    pub(crate) fn library(&self) -> Option<&Pkcs11> {
        self.library.as_ref()
    }
}

impl Module {
    /// The module of this path, loaded at its first use.
    pub(crate) fn at(path: &Path) -> Arc<Self> {
        let mut modules = loaded();
        let module = modules.entry(path.to_owned()).or_insert_with(|| {
            let state = State { library: None, generation: 0, started: None, ended: false };
            Arc::new(Self {
                path: path.to_owned(),
                state: RwLock::new(state),
                logins: Mutex::default(),
            })
        });
        Arc::clone(module)
    }

    /// Ends every library, each after the call that it is in, and lets nobody call one again. Whether that was done
    /// within `limit`.
    pub(crate) fn end_all(limit: Duration) -> bool {
        let modules: Vec<_> = loaded().values().cloned().collect();
        if modules.is_empty() {
            return true;
        }
        let (done, ended) = sync_channel::<()>(0);
        let work = move || {
            for module in &modules {
                module.end();
            }
            drop(done);
        };
        let started = std::thread::Builder::new().name("token".to_owned()).spawn(work);
        started.is_ok() && ended.recv_timeout(limit) == Err(RecvTimeoutError::Disconnected)
    }

    fn end(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.ended = true;
        self.finalize(&mut state);
    }

    fn finalize(&self, state: &mut State) {
        if let Some(library) = state.library.take()
            && let Err(error) = library.finalize()
        {
            tracing::debug!(module = %self.path.display(), %error, "a PKCS #11 module did not end in order");
        }
    }

    /// The library, for one call or a few; it is not ended meanwhile.
    pub(crate) fn using(&self) -> Result<RwLockReadGuard<'_, State>, TokenError> {
        for _ in 0..2 {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if state.library.is_some() {
                return Ok(state);
            }
            drop(state);
            self.start()?;
        }
        Err(self.fault("it does not start".to_owned()))
    }

    /// Ends the library and starts it anew, unless that was done lately or somebody is in a call: tokens
    /// that were put back are only seen then, by some.
    pub(crate) fn restart(&self) -> bool {
        let Ok(mut state) = self.state.try_write() else { return false };
        let lately = state.started.is_some_and(|started| started.elapsed() < RESTART_PAUSE);
        if lately {
            return false;
        }
        self.finalize(&mut state);
        drop(state);
        self.start().is_ok()
    }

    fn start(&self) -> Result<(), TokenError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.library.is_some() {
            return Ok(());
        }
        if state.ended {
            return Err(self.fault("the process is ending".to_owned()));
        }
        let library = Pkcs11::new(&self.path).map_err(|error| self.fault(error.to_string()))?;
        match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) => {}
            Err(error) if answer(&error) == Some(RvError::CryptokiAlreadyInitialized) => {}
            Err(error) => return Err(self.fault(error.to_string())),
        }
        state.library = Some(library);
        state.generation += 1;
        state.started = Some(Instant::now());
        Ok(())
    }

    fn fault(&self, why: String) -> TokenError {
        TokenError::Module { path: self.path.clone(), why }
    }
}

/// The libraries of this process, by path.
fn loaded() -> MutexGuard<'static, BTreeMap<PathBuf, Arc<Module>>> {
    static MODULES: OnceLock<Mutex<BTreeMap<PathBuf, Arc<Module>>>> = OnceLock::new();
    MODULES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

const RESTART_PAUSE: Duration = Duration::from_secs(2);
