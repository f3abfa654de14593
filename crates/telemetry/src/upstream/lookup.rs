//! Where a name leads at this moment, as a parameter: the resolver of the system, or what a test says.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Backend;
use crate::sink::Later;

/// Finds the addresses of a backend. Asked anew at each dialling, and only about where to connect: whose certificate
/// is taken there is settled by the name, whatever comes out.
pub type Lookup = Arc<dyn Fn(&Backend) -> Later<io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// As the system resolves names.
pub(super) fn of_the_system() -> Lookup {
    Arc::new(|backend| {
        let Backend { host, port } = backend.clone();
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    })
}
