//! Routes that cannot be made without an action: who calls is established, what is asked for is
//! read, the node is asked whether that is allowed, and only then the call is made.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::body::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::actions::Action;
use super::approval::Held;
use super::message::{Refusal, RefusalCode};
use super::node::{Node, Permit};
use super::schema::Described;
use crate::access::{About, Caller, Target};
use crate::serve::{self, BodyFault, Limits};

/// One route, as it is listed in the documents that are compared with the code.
#[derive(Clone, Debug)]
pub struct Route {
    /// `GET` reads, `POST` acts.
    pub method: Method,
    /// The path.
    pub path: &'static str,
    /// What it does, in the word of policies.
    pub action: Action,
    /// Of what it takes: its JSON Schema.
    #[cfg(feature = "schema")]
    pub takes: Option<super::schema::SchemaOf>,
    /// Of what it answers: its JSON Schema.
    #[cfg(feature = "schema")]
    pub answers: super::schema::SchemaOf,
}

/// The routes in the making.
pub(super) struct Routes<N> {
    served: Arc<Served<N>>,
    router: Router<Arc<Served<N>>>,
    list: Vec<Route>,
}

/// What every handler has at hand.
pub(super) struct Served<N> {
    pub(super) node: Arc<N>,
    pub(super) limits: Limits,
}

impl<N: Node> Routes<N> {
    pub(super) fn new(node: Arc<N>, limits: Limits) -> Self {
        Self { served: Arc::new(Served { node, limits }), router: Router::new(), list: Vec::new() }
    }

    /// Reads something about the site as a whole.
    pub(super) fn get<T, F, Fut>(self, path: &'static str, action: Action, call: F) -> Self
    where
        T: Serialize + Described,
        F: Fn(Arc<N>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Refusal>> + Send,
    {
        let handler = async move |State(api): State<Arc<Served<N>>>, request: Request| {
            let caller = match caller(&request) {
                Ok(caller) => caller,
                Err(refusal) => return refused(refusal),
            };
            match api.node.authorize(&caller, action, &[Target::Site]).await {
                Ok(_) => answer(call(Arc::clone(&api.node)).await),
                Err(refusal) => refused(refusal),
            }
        };
        self.add(Method::GET, path, action, None, described::<T>(), get(handler))
    }

    /// Reads something that the query chooses.
    pub(super) fn get_with<Q, T, F, Fut>(self, path: &'static str, action: Action, call: F) -> Self
    where
        Q: DeserializeOwned + About + Described + Send,
        T: Serialize + Described,
        F: Fn(Arc<N>, Caller, Q) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Refusal>> + Send,
    {
        let handler = async move |State(api): State<Arc<Served<N>>>, request: Request| {
            let caller = match caller(&request) {
                Ok(caller) => caller,
                Err(refusal) => return refused(refusal),
            };
            let query = match Query::<Q>::try_from_uri(request.uri()) {
                Ok(Query(query)) => query,
                Err(error) => return refused(wrong_query(&error.body_text())),
            };
            match api.node.authorize(&caller, action, &query.about()).await {
                Ok(_) => answer(call(Arc::clone(&api.node), caller, query).await),
                Err(refusal) => refused(refusal),
            }
        };
        self.add(Method::GET, path, action, Some(wanted::<Q>()), described::<T>(), get(handler))
    }

    /// Acts on what the body says.
    pub(super) fn post<B, T, F, Fut>(self, path: &'static str, action: Action, call: F) -> Self
    where
        B: DeserializeOwned + About + Described + Send,
        T: Serialize + Described,
        F: Fn(Arc<N>, Caller, B) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Refusal>> + Send,
    {
        let handler = async move |State(api): State<Arc<Served<N>>>, request: Request| {
            let caller = match caller(&request) {
                Ok(caller) => caller,
                Err(refusal) => return refused(refusal),
            };
            let bytes = match bytes(request.into_body(), api.limits).await {
                Ok(bytes) => bytes,
                Err(refusal) => return refused(refusal),
            };
            let body: B = match parsed(&bytes) {
                Ok(body) => body,
                Err(refusal) => return refused(refusal),
            };
            let targets = body.about();
            match api.node.authorize(&caller, action, &targets).await {
                Ok(Permit::Alone) => answer(call(Arc::clone(&api.node), caller, body).await),
                Ok(Permit::WithSecond) => {
                    let held = Held {
                        action,
                        targets,
                        path: path.to_owned(),
                        body: bytes,
                        requested_by: caller,
                    };
                    held_back(api.node.hold(held).await)
                }
                Err(refusal) => refused(refusal),
            }
        };
        self.add(Method::POST, path, action, Some(wanted::<B>()), described::<T>(), post(handler))
    }

    /// A route that is served by other means; it has to ask the node itself.
    pub(super) fn special<B, T>(
        self,
        method: Method,
        path: &'static str,
        action: Action,
        handler: axum::routing::MethodRouter<Arc<Served<N>>>,
    ) -> Self
    where
        T: Described,
        B: Described,
    {
        let takes = (method == Method::POST).then(wanted::<B>);
        self.add(method, path, action, takes, described::<T>(), handler)
    }

    fn add(
        mut self,
        method: Method,
        path: &'static str,
        action: Action,
        takes: Option<Schema>,
        answers: Schema,
        handler: axum::routing::MethodRouter<Arc<Served<N>>>,
    ) -> Self {
        self.router = self.router.route(path, handler);
        #[cfg(feature = "schema")]
        self.list.push(Route { method, path, action, takes, answers });
        #[cfg(not(feature = "schema"))]
        {
            let (_, Schema) = (takes, answers);
            self.list.push(Route { method, path, action });
        }
        self
    }

    pub(super) fn list(self) -> Vec<Route> {
        self.list
    }

    pub(super) fn finish(self) -> Router {
        self.router
            .fallback(unknown_path)
            .method_not_allowed_fallback(wrong_method)
            .with_state(self.served)
    }
}

#[cfg(feature = "schema")]
type Schema = super::schema::SchemaOf;
/// Nothing: what a type looks like matters to tests only.
#[cfg(not(feature = "schema"))]
struct Schema;

#[cfg(feature = "schema")]
fn described<T: Described>() -> Schema {
    super::schema::SchemaOf::answer::<T>()
}

#[cfg(feature = "schema")]
fn wanted<T: Described>() -> Schema {
    super::schema::SchemaOf::request::<T>()
}

#[cfg(not(feature = "schema"))]
#[expect(clippy::extra_unused_type_parameters, reason = "the other one uses it")]
fn described<T: Described>() -> Schema {
    Schema
}

#[cfg(not(feature = "schema"))]
#[expect(clippy::extra_unused_type_parameters, reason = "the other one uses it")]
fn wanted<T: Described>() -> Schema {
    Schema
}

/// Who calls: put there by whoever accepted the connection. A request without is refused.
pub(super) fn caller(request: &Request) -> Result<Caller, Refusal> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| {
        Refusal::new(
            RefusalCode::NotAllowed,
            "nobody knows who is calling",
            "use the node's admin socket, or its admin port with an operator certificate",
        )
    })
}

async fn unknown_path() -> Response {
    refused(Refusal::new(
        RefusalCode::NotFound,
        "no such path in the admin API",
        "use the command line of the version that the node runs",
    ))
}

async fn wrong_method() -> Response {
    let mut response = refused(Refusal::new(
        RefusalCode::Invalid,
        "this path does not take that method",
        "read with GET, act with POST",
    ));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

/// The body's bytes, within the limits.
pub(super) async fn bytes(body: Body, limits: Limits) -> Result<Bytes, Refusal> {
    serve::body(body, limits).await.map_err(|fault| match fault {
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
    })
}

/// The body as what the path takes.
pub(super) fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        Refusal::new(
            RefusalCode::Invalid,
            // Only the place and the category: the text of some errors quotes the body, which may
            // hold a token's code.
            format!("the request body is not what this path takes ({})", json_fault(&error)),
            "use the command line of the version that the node runs",
        )
    })
}

fn wrong_query(reason: &str) -> Refusal {
    Refusal::new(
        RefusalCode::Invalid,
        format!("the query is not what this path takes: {}", shortened(reason)),
        "see docs/openapi.json for what can be asked",
    )
}

fn shortened(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(200).collect()
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

pub(super) fn answer<T: Serialize>(result: Result<T, Refusal>) -> Response {
    match result {
        Ok(value) => json(value),
        Err(refusal) => refused(refusal),
    }
}

pub(super) fn refused(refusal: Refusal) -> Response {
    let status = refusal.code.status();
    let mut response = json(refusal);
    *response.status_mut() = status;
    response
}

/// What waits for a second person is neither done nor refused: 202.
fn held_back<T: Serialize>(result: Result<T, Refusal>) -> Response {
    let accepted = result.is_ok();
    let mut response = answer(result);
    if accepted {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    response
}

pub(super) fn json<T: Serialize>(value: T) -> Response {
    match serde_json::to_vec(&value) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        // Only maps with odd keys cannot be written, and there are none in these types.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
