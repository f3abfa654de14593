//! The admin port of a node: the admin API for operators elsewhere, where the Site asks for it.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use handfast_api::admin::{ADMIN_ALPN, AdminPort, AdminPortError};
use handfast_api::resources::Resources;
use handfast_api::serve::Limits;
use handfast_api::status::{FaultView, ProblemSeverity, ProblemView, RefusalView};
use handfast_authority::{Declared, Report};
use handfast_pki::{Credential, IdentityKind};
use handfast_tls::{
    ClientAuth, Fault, IdentityRule, RevocationCheck, ServerOptions, Staple, server_config,
};
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::admin::Admin;
use super::core::{Core, Turning};
use super::grants::keep_refusal;
use crate::clock;

/// An open admin port.
pub(super) struct OpenAdminPort {
    address: SocketAddr,
    /// What `tls` was made of.
    credential: Arc<Credential>,
    tls: Arc<ArcSwap<ServerConfig>>,
    shutdown: CancellationToken,
}

impl OpenAdminPort {
    async fn open(
        address: SocketAddr,
        credential: Arc<Credential>,
        tls: Arc<ServerConfig>,
        core: &Arc<Core>,
    ) -> Result<Self, AdminPortError> {
        let port = AdminPort::bind(address, Limits::ADMIN_PORT).await?;
        let tls = Arc::new(ArcSwap::new(tls));
        let shutdown = CancellationToken::new();
        let presented = Arc::clone(&tls);
        let admin = Arc::new(Admin::new(Arc::clone(core)));
        let (told, ended) = (Arc::clone(core), shutdown.clone());
        tokio::spawn(async move {
            let refused = move |from, fault| refused(&told, from, &fault);
            port.serve(admin, move || Some(presented.load_full()), refused, ended).await;
        });
        Ok(Self { address, credential, tls, shutdown })
    }

    pub(super) fn close(self) {
        self.shutdown.cancel();
    }
}

impl Core {
    /// Opens, moves, renews or closes the admin port, as the Site says.
    pub(super) async fn place_admin_port(
        self: &Arc<Self>,
        resources: &Resources,
        declared: &Declared,
        report: &Report,
        turning: &mut Turning,
    ) -> Option<ProblemView> {
        let settings = resources.site.as_ref().and_then(|site| site.spec.settings().ok());
        let Some(access) = settings.and_then(|settings| settings.admin) else {
            if let Some(port) = turning.admin_port.take() {
                port.close();
            }
            return None;
        };
        let name = &declared.names.local_server;
        // Without a good credential the port stays as it is: closed, or with the last good one.
        let credential = report.live.get(name)?;
        if let Some(port) = &turning.admin_port
            && port.address == access.bind
            && Arc::ptr_eq(&port.credential, credential)
        {
            return None;
        }
        let revocation = RevocationCheck::by(self.revoked.view.clone());
        let staple = turning.tls.staples.of(name, credential);
        let tls = match configured(credential, declared, revocation, staple) {
            Ok(tls) => tls,
            Err(fault) => return Some(problem(fault.what().to_owned(), fault.remedy().to_owned())),
        };
        if let Some(port) = &mut turning.admin_port
            && port.address == access.bind
        {
            port.tls.store(tls);
            port.credential = Arc::clone(credential);
            return None;
        }
        if let Some(port) = turning.admin_port.take() {
            port.close();
        }
        match OpenAdminPort::open(access.bind, Arc::clone(credential), tls, self).await {
            Ok(port) => {
                tracing::info!(address = %access.bind, "operators are served");
                turning.admin_port = Some(port);
                None
            }
            Err(error) => Some(problem(
                format!("operators elsewhere are not served: {error}"),
                "free the port, or set another `admin-port` in the Site".to_owned(),
            )),
        }
    }
}

/// TLS 1.3, and nobody but operators of the site's trust domain, under the anchors of the local CA.
fn configured(
    credential: &Credential,
    declared: &Declared,
    revocation: RevocationCheck,
    staple: Staple,
) -> Result<Arc<ServerConfig>, Fault> {
    let Some(trust_domain) = declared.effective_trust_domain() else {
        return Err(Fault::new(
            handfast_tls::FaultCode::NoIdentity,
            handfast_tls::Side::Ours,
            "admin port",
        ));
    };
    let options = ServerOptions {
        alpn: vec![ADMIN_ALPN.to_vec()],
        client_auth: ClientAuth::Required,
        identities: IdentityRule::within(trust_domain).kind(IdentityKind::Operator),
        revocation,
        staple,
        ..ServerOptions::default()
    };
    server_config(credential, &options)
}

fn refused(core: &Core, from: SocketAddr, fault: &Fault) {
    tracing::warn!(peer = %from, fault = %fault.one_line(), "refused at the admin port");
    keep_refusal(
        core,
        RefusalView {
            at: clock::now(),
            peer: from.to_string(),
            on: "admin port".to_owned(),
            fault: FaultView::from(fault),
        },
    );
}

fn problem(message: String, remedy: String) -> ProblemView {
    ProblemView {
        severity: ProblemSeverity::Error,
        subject: "admin port".to_owned(),
        file: None,
        line: None,
        message,
        remedy,
    }
}
