//! Paths to calls of a [`Node`]. Every route names its action; see [`Routes`].

mod telemetry;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::response::Response;
use axum::routing::{get, post};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::actions::Action;
use super::approval::{Approve, Approved, Held};
use super::audit::{AuditSearch, ExportAudit, VerifyAudit};
use super::ca::{RollBack, Rotate, Taint};
use super::ceremony::{InstallAuthorities, ProtectKeys, RequestAuthorities};
use super::export::RecordExport;
use super::issue::IssueCertificate;
use super::issued::FindIssued;
use super::message::{IssueToken, RedeemToken, Refusal, RefusalCode, Renew};
use super::node::{Node, Permit};
use super::policy::TestPolicy;
use super::revoke::Revoke;
use super::routes::{Route, Routes, Served, answer, bytes, caller, parsed, refused};
use crate::access::{Caller, Target};
use crate::serve::Limits;

/// The admin API of `node`, for any transport; `limits` bound the bodies it reads. Requests have to
/// carry a [`Caller`] as an extension: without one, everything is refused.
pub fn router<N: Node>(node: Arc<N>, limits: Limits) -> Router {
    routes(node, limits).finish()
}

/// Every route, with its action: what documents and tests are compared with.
pub fn list<N: Node>(node: Arc<N>) -> Vec<Route> {
    routes(node, Limits::ADMIN).list()
}

fn routes<N: Node>(node: Arc<N>, limits: Limits) -> Routes<N> {
    telemetry::routes(Routes::new(node, limits))
        .get("/v1/approvals", Action::ApprovalList, async |node: Arc<N>| Ok(node.approvals().await))
        .special::<Approve, Approved>(
            Method::POST,
            "/v1/approvals",
            Action::ApprovalGive,
            post(approve::<N>),
        )
        .get("/v1/authorities", Action::AuthorityStatus, async |node: Arc<N>| {
            node.authorities().await
        })
        .get_with("/v1/audit", Action::AuditRead, async |node: Arc<N>, _, query: AuditSearch| {
            node.audit_rows(query).await
        })
        .get_with(
            "/v1/audit/export",
            Action::AuditExport,
            async |node: Arc<N>, _, query: ExportAudit| node.export_audit(query).await,
        )
        .get_with(
            "/v1/audit/verification",
            Action::AuditVerify,
            async |node: Arc<N>, _, query: VerifyAudit| node.verify_audit(query).await,
        )
        .get_with(
            "/v1/certificates",
            Action::CertificateList,
            async |node: Arc<N>, _, query: FindIssued| node.issued(query).await,
        )
        .post(
            "/v1/certificates",
            Action::CertificateIssue,
            async |node: Arc<N>, caller: Caller, body: IssueCertificate| {
                node.issue_certificate(&caller, body).await
            },
        )
        .post(
            "/v1/authorities/certificates",
            Action::AuthorityInstall,
            async |node: Arc<N>, caller: Caller, body: InstallAuthorities| {
                node.install_authorities(&caller, body).await
            },
        )
        .post(
            "/v1/authorities/protection",
            Action::AuthorityProtect,
            async |node: Arc<N>, caller: Caller, body: ProtectKeys| {
                node.protect_keys(&caller, body).await
            },
        )
        .post(
            "/v1/authorities/requests",
            Action::AuthorityRequest,
            async |node: Arc<N>, caller: Caller, body: RequestAuthorities| {
                node.request_authorities(&caller, body).await
            },
        )
        .get("/v1/connectors", Action::ConnectorList, async |node: Arc<N>| node.connectors().await)
        .get("/v1/credentials", Action::CredentialList, async |node: Arc<N>| {
            node.credentials().await
        })
        .post(
            "/v1/exports",
            Action::CertificateExport,
            async |node: Arc<N>, caller: Caller, body: RecordExport| {
                node.record_export(&caller, body).await
            },
        )
        .get("/v1/faults", Action::FaultList, async |node: Arc<N>| Ok(node.faults().await))
        .get("/v1/links", Action::LinkList, async |node: Arc<N>| node.links().await)
        .get("/v1/listeners", Action::ListenerList, async |node: Arc<N>| node.listeners().await)
        .special::<(), serde_json::Value>(
            Method::GET,
            "/v1/openapi.json",
            Action::ApiDescribe,
            get(describe::<N>),
        )
        .get("/v1/policies", Action::PolicyList, async |node: Arc<N>| Ok(node.policies().await))
        .get_with(
            "/v1/policies/test",
            Action::PolicyTest,
            async |node: Arc<N>, _, query: TestPolicy| node.test_policy(query).await,
        )
        .post(
            "/v1/redemptions",
            Action::TokenRedeem,
            async |node: Arc<N>, caller: Caller, body: RedeemToken| {
                node.redeem_token(&caller, body).await
            },
        )
        .post(
            "/v1/renewals",
            Action::CredentialRenew,
            async |node: Arc<N>, caller: Caller, body: Renew| node.renew(&caller, body).await,
        )
        .get("/v1/revocations", Action::RevocationList, async |node: Arc<N>| {
            node.revocations().await
        })
        .post(
            "/v1/revocations",
            Action::CertificateRevoke,
            async |node: Arc<N>, caller: Caller, body: Revoke| node.revoke(&caller, body).await,
        )
        .post(
            "/v1/rollbacks",
            Action::AuthorityRollback,
            async |node: Arc<N>, caller: Caller, body: RollBack| {
                node.roll_back(&caller, body).await
            },
        )
        .post(
            "/v1/rotations",
            Action::AuthorityRotate,
            async |node: Arc<N>, caller: Caller, body: Rotate| node.rotate(&caller, body).await,
        )
        .get("/v1/status", Action::StatusRead, async |node: Arc<N>| Ok(node.status().await))
        .post(
            "/v1/taints",
            Action::AuthorityTaint,
            async |node: Arc<N>, caller: Caller, body: Taint| node.taint(&caller, body).await,
        )
        .post(
            "/v1/tokens",
            Action::TokenIssue,
            async |node: Arc<N>, caller: Caller, body: IssueToken| {
                node.issue_token(&caller, body).await
            },
        )
}

/// The description of this API.
async fn describe<N: Node>(State(api): State<Arc<Served<N>>>, request: Request) -> Response {
    let allowed = match caller(&request) {
        Ok(caller) => api.node.authorize(&caller, Action::ApiDescribe, &[Target::Site]).await,
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = allowed {
        return refused(refusal);
    }
    let mut response = Response::new(Body::from(OPENAPI));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Makes a call that was held back, in the name of whoever asked for it.
async fn approve<N: Node>(State(api): State<Arc<Served<N>>>, request: Request) -> Response {
    answer(approved(&api, request).await)
}

async fn approved<N: Node>(api: &Served<N>, request: Request) -> Result<Approved, Refusal> {
    let second = caller(&request)?;
    let body: Approve = parsed(&bytes(request.into_body(), api.limits).await?)?;
    let _: Permit = api.node.authorize(&second, Action::ApprovalGive, &[Target::Site]).await?;
    let held = api.node.approve(&second, &body.id).await?;
    let requested_by = held.requested_by.principal.to_string();
    let action = held.action.to_string();
    let answer = call(Arc::clone(&api.node), api.limits, held, &second).await?;
    Ok(Approved {
        id: body.id,
        action,
        requested_by,
        approved_by: second.principal.to_string(),
        answer,
    })
}

/// The same way as from outside: who asked is asked about again, for policies may have changed.
async fn call<N: Node>(
    node: Arc<N>,
    limits: Limits,
    held: Held,
    second: &Caller,
) -> Result<serde_json::Value, Refusal> {
    let broken = || {
        Refusal::new(
            RefusalCode::Internal,
            "the approved call could not be made",
            "ask for it again, and see the node's log",
        )
    };
    let caller = Caller { approved_by: Some(second.principal.clone()), ..held.requested_by };
    let mut request = Request::post(held.path).body(Body::from(held.body)).map_err(|_| broken())?;
    request.extensions_mut().insert(caller);
    let service = TowerToHyperService::new(router(node, limits));
    let Ok(response) = service.call(request).await;
    let status = response.status();
    let bytes = response.into_body().collect().await.map_err(|_| broken())?.to_bytes();
    if status.is_success() {
        return serde_json::from_slice(&bytes).map_err(|_| broken());
    }
    Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| broken()))
}

/// The committed description, which a test compares with the routes and their types.
const OPENAPI: &str = include_str!("../../../../docs/openapi.json");
