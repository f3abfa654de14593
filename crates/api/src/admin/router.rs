//! Paths to calls of a [`Node`], and failures to answers.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::{Refusal, RefusalCode};
use super::node::Node;
use crate::serve::{self, BodyFault, Limits};

/// The admin API of `node`, for any transport; `limits` bound the bodies it reads.
pub fn router<N: Node>(node: Arc<N>, limits: Limits) -> Router {
    Router::new()
        .route("/v1/connectors", get(async |State(api): Api<N>| json(api.node.connectors().await)))
        .route(
            "/v1/credentials",
            get(async |State(api): Api<N>| answer(api.node.credentials().await)),
        )
        .route("/v1/faults", get(async |State(api): Api<N>| json(api.node.faults().await)))
        .route("/v1/links", get(async |State(api): Api<N>| json(api.node.links().await)))
        .route("/v1/listeners", get(async |State(api): Api<N>| json(api.node.listeners().await)))
        .route("/v1/redemptions", post(redeem_token::<N>))
        .route("/v1/renewals", post(renew::<N>))
        .route("/v1/status", get(async |State(api): Api<N>| json(api.node.status().await)))
        .route("/v1/tokens", post(issue_token::<N>))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::new(Served { node, limits }))
}

type Api<N> = State<Arc<Served<N>>>;

struct Served<N> {
    node: Arc<N>,
    limits: Limits,
}

/// Answers every call with a refusal, for callers that are not allowed in.
pub(super) fn refuse_everyone() -> Router {
    Router::new().fallback(|| async {
        answer::<()>(Err(Refusal::new(
            RefusalCode::NotAllowed,
            "only root and the user that runs the node may use its admin socket",
            "run the command as that user",
        )))
    })
}

async fn issue_token<N: Node>(State(api): Api<N>, body: Body) -> Response {
    match read(body, api.limits).await {
        Ok(request) => answer(api.node.issue_token(request).await),
        Err(refusal) => answer::<()>(Err(refusal)),
    }
}

async fn redeem_token<N: Node>(State(api): Api<N>, body: Body) -> Response {
    match read(body, api.limits).await {
        Ok(request) => answer(api.node.redeem_token(request).await),
        Err(refusal) => answer::<()>(Err(refusal)),
    }
}

async fn renew<N: Node>(State(api): Api<N>, body: Body) -> Response {
    match read(body, api.limits).await {
        Ok(request) => answer(api.node.renew(request).await),
        Err(refusal) => answer::<()>(Err(refusal)),
    }
}

async fn unknown_path() -> Response {
    answer::<()>(Err(Refusal::new(
        RefusalCode::NotFound,
        "no such path in the admin API",
        "use the command line of the version that the node runs",
    )))
}

async fn wrong_method() -> Response {
    let mut response = answer::<()>(Err(Refusal::new(
        RefusalCode::Invalid,
        "this path does not take that method",
        "read with GET, act with POST",
    )));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

async fn read<T: DeserializeOwned>(body: Body, limits: Limits) -> Result<T, Refusal> {
    let bytes = serve::body(body, limits).await.map_err(|fault| match fault {
        BodyFault::Broken => Refusal::new(
            RefusalCode::Invalid,
            "the request body could not be read",
            "send it again",
        ),
        BodyFault::TimedOut => Refusal::new(
            RefusalCode::TimedOut,
            format!("the request body did not come within {} s", limits.body.as_secs()),
            "send it without pauses",
        ),
        BodyFault::TooLarge => Refusal::new(
            RefusalCode::TooLarge,
            format!("the request body is larger than {} KiB", limits.body_bytes / 1024),
            "check that the right file was given",
        ),
    })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Refusal::new(
            RefusalCode::Invalid,
            // Only the place and the category: the text of some errors quotes the body, which may
            // hold a token's code.
            format!("the request body is not what this path takes ({})", json_fault(&error)),
            "use the command line of the version that the node runs",
        )
    })
}

/// What is wrong with a JSON text, without any of its values.
pub(crate) fn json_fault(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "a field is unknown, missing or of the wrong type",
        serde_json::error::Category::Eof => "it ends early",
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => "it is not JSON",
    };
    format!("{what}, line {} column {}", error.line(), error.column())
}

fn answer<T: Serialize>(result: Result<T, Refusal>) -> Response {
    match result {
        Ok(value) => json(value),
        Err(refusal) => {
            let status = refusal.code.status();
            let mut response = json(refusal);
            *response.status_mut() = status;
            response
        }
    }
}

fn json<T: Serialize>(value: T) -> Response {
    match serde_json::to_vec(&value) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
        // Only maps with odd keys cannot be written, and there are none in these types.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
