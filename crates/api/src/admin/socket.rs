//! The Unix socket of a node: made so that nobody else can ever open it, replacing what a killed
//! node left behind, and taken away at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::{Extension, Router};
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::message::{Refusal, RefusalCode};
use super::node::Node;
use super::router::router as api_router;
use super::routes::refused;
use crate::access::Caller;
use crate::serve::{self, Limits};

/// A bound admin socket.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Identity of the socket file, so that only our own is removed at the end.
    inode: (u64, u64),
    /// Who owns the socket file, which is who runs this process.
    uid: u32,
}

impl AdminSocket {
    /// Binds `path` with mode 0600. The socket is made under another name and renamed into place,
    /// so it never stands there with wider permissions, and what a killed node left is replaced in
    /// the same step. A socket that somebody still answers on is not touched.
    pub async fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Bind { path: path.to_owned(), source };
        if path.as_os_str().len() > LONGEST_PATH {
            return Err(SocketError::PathTooLong { path: path.to_owned() });
        }
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(SocketError::NotASocket { path: path.to_owned() });
            }
            Ok(_) => {
                if UnixStream::connect(path).await.is_ok() {
                    return Err(SocketError::InUse { path: path.to_owned() });
                }
                tracing::info!(path = %path.display(), "replacing the socket of a node that is gone");
            }
        }
        let unnamed = path.with_file_name(TEMPORARY_NAME);
        match fs::remove_file(&unnamed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&unnamed).map_err(failed)?;
        fs::set_permissions(&unnamed, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let metadata = fs::symlink_metadata(&unnamed).map_err(failed)?;
        fs::rename(&unnamed, path).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            inode: (metadata.dev(), metadata.ino()),
            uid: metadata.uid(),
        })
    }

    /// Serves `node` until `shutdown`, then removes the socket file.
    pub async fn serve<N: Node>(self, node: Arc<N>, shutdown: CancellationToken) {
        self.serve_within(node, Limits::ADMIN, shutdown).await;
    }

    /// The same with other limits.
    pub async fn serve_within<N: Node>(
        self,
        node: Arc<N>,
        limits: Limits,
        shutdown: CancellationToken,
    ) {
        let api = api_router(node, limits);
        let uid = self.uid;
        serve::accept(self.listener, limits, shutdown.clone(), move |stream, ()| {
            let router = match caller(&stream, uid) {
                Some(caller) => api.clone().layer(Extension(caller)),
                None => refuse_everyone(),
            };
            Some(serve_one(stream, router, limits, shutdown.clone()))
        })
        .await;
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the admin socket");
        }
    }
}

async fn serve_one(
    stream: UnixStream,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    serve::http(stream, router, limits, shutdown).await;
}

/// The kernel says who connected (SO_PEERCRED); nobody else is asked. Other users than root and the
/// node's own are not even asked about.
fn caller(stream: &UnixStream, own_uid: u32) -> Option<Caller> {
    let uid = stream.peer_cred().ok()?.uid();
    (uid == 0 || uid == own_uid).then(|| Caller::local(uid))
}

/// Answers every call with a refusal.
fn refuse_everyone() -> Router {
    Router::new().fallback(async || {
        refused(Refusal::new(
            RefusalCode::NotAllowed,
            "only root and the user that runs the node may use its admin socket",
            "run the command as that user",
        ))
    })
}

/// Why the admin socket could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The system refused.
    #[error("cannot open the admin socket {path}: {source}; check who may write to its directory")]
    Bind {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another node answers there.
    #[error("a node already answers on {path}; stop it, or use another --home")]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// Something else is in the way.
    #[error("{path} exists and is not a socket; move it away")]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// The system takes no path of this length.
    #[error(
        "the path {path} is too long for a Unix socket (more than 107 bytes); use a shorter --home"
    )]
    PathTooLong {
        /// Where.
        path: PathBuf,
    },
}

/// Longest path that fits into `sun_path` with its terminating zero, in bytes (Linux, unix(7)).
pub(super) const LONGEST_PATH: usize = 107;

/// No longer than `admin.sock`, so that it fits where that fits.
const TEMPORARY_NAME: &str = ".admin.new";
