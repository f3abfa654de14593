//! `docs/openapi.json` is made of the routes and their types: generated, committed, compared, served.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use handfast_api::access::Caller;
use handfast_api::admin::{Action, Route, SchemaOf, list, router};
use handfast_api::serve::Limits;
use serde_json::{Map, Value, json};

use crate::clients::FakeNode;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

#[test]
fn the_committed_document_is_what_the_routes_and_types_say() {
    let document = format!("{:#}\n", document());
    if std::env::var_os("HANDFAST_WRITE_DOCS").is_some() {
        fs::write(PAGE, &document).expect("docs/openapi.json can be written");
    }
    let committed = fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        committed == document,
        "docs/openapi.json has drifted; write it anew: HANDFAST_WRITE_DOCS=1 cargo test -p handfast-api --test it openapi"
    );
}

/// What the types cannot say by themselves: no route without an action, no two on one path and method.
#[test]
fn every_route_has_an_action_and_acting_ones_are_posts() {
    let routes = list(Arc::new(FakeNode::default()));
    let mut seen = BTreeSet::new();
    for route in &routes {
        assert!(seen.insert((route.path, route.method.to_string())), "{route:?}");
        assert!(Action::ALL.contains(&route.action), "{route:?}");
        assert_eq!(route.action.acts(), route.method == "POST", "{} {}", route.method, route.path);
    }
    // And a word that policies can give or take is asked for somewhere.
    for action in Action::ALL {
        assert!(routes.iter().any(|route| route.action == action), "no route asks for {action}");
    }
}

/// A request that nobody's name is on is refused, whatever the path: routes cannot forget to ask.
#[tokio::test]
async fn nothing_is_done_for_nobody_and_the_node_is_asked_about_everybody() {
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    let node = Arc::new(FakeNode::default());
    for route in list(Arc::clone(&node)) {
        for known in [false, true] {
            let mut request = hyper::Request::builder()
                .method(route.method.clone())
                .uri(route.path)
                .body(axum_body("{}"))
                .expect("a request");
            if known {
                request.extensions_mut().insert(Caller::local(7));
            }
            let service = TowerToHyperService::new(router(Arc::clone(&node), Limits::ADMIN));
            let before = node.asked.lock().expect("no panic under it").len();
            let response = service.call(request).await.expect("infallible");
            let asked = node.asked.lock().expect("no panic under it").split_off(before);
            if known {
                // Bodies and queries that make no sense are refused before anybody is asked about.
                if response.status() == 400 {
                    continue;
                }
                assert_eq!(asked, [("uid:7".to_owned(), route.action)], "{}", route.path);
            } else {
                assert_eq!(response.status(), 403, "{} {}", route.method, route.path);
                assert_eq!(asked, [], "{}", route.path);
            }
        }
    }
}

fn axum_body(text: &'static str) -> axum::body::Body {
    axum::body::Body::from(text)
}

fn document() -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    schemas.extend(refusal().definitions);
    schemas.extend(pending().definitions);
    for route in list(Arc::new(FakeNode::default())) {
        let operation = operation(&route);
        for part in route.takes.iter().chain([&route.answers]) {
            for (name, schema) in &part.definitions {
                let known = schemas.insert(name.clone(), schema.clone());
                assert!(
                    known.is_none_or(|known| known == *schema),
                    "{name} looks different when it is read and when it is written: use two types"
                );
            }
        }
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation;
    }
    sorted(&mut schemas);
    sorted(&mut paths);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "handfast admin API",
            "version": "v1",
            "description": "What a node is asked over its admin socket and its admin port. `x-action` is the word \
                by which policies decide about a call. Generated from the code; a test compares it.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ "operator": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "operator": {
                    "type": "mutualTLS",
                    "description": "A certificate with an identity `spiffe://<trust domain>/operator/<name>`.",
                },
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let refused = json!({
        "description": "Not done, and why.",
        "content": { "application/json": { "schema": refusal().schema } },
    });
    let mut operation = json!({
        "operationId": format!("{}{}", route.method.as_str().to_lowercase(), route.path.replace('/', ".")),
        "x-action": route.action.as_str(),
        "responses": {
            "200": {
                "description": "Done.",
                "content": { "application/json": { "schema": route.answers.schema } },
            },
            "400": refused,
            "403": refused,
            "default": refused,
        },
    });
    let Some(takes) = &route.takes else { return operation };
    if route.method == "POST" {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": takes.schema } },
        });
        if route.action.moves_trust() {
            operation["responses"]["202"] = json!({
                "description": "It waits for a second person, as the two-person rule wants.",
                "content": { "application/json": { "schema": pending().schema } },
            });
        }
    } else {
        operation["parameters"] = parameters(takes);
    }
    operation
}

/// The fields of a query as parameters.
fn parameters(takes: &SchemaOf) -> Value {
    let name = takes.schema.as_value()["$ref"].as_str().and_then(|text| text.rsplit('/').next());
    let schema = name.and_then(|name| takes.definitions.get(name));
    let schema = schema.unwrap_or(takes.schema.as_value());
    let required: Vec<&str> = schema["required"]
        .as_array()
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let fields = schema["properties"].as_object().expect("a query has fields");
    let parameters: Vec<Value> = fields
        .iter()
        .map(|(field, schema)| {
            json!({
                "name": field,
                "in": "query",
                "required": required.contains(&field.as_str()),
                "schema": schema,
            })
        })
        .collect();
    Value::Array(parameters)
}

fn refusal() -> SchemaOf {
    SchemaOf::answer::<handfast_api::admin::Refusal>()
}

fn pending() -> SchemaOf {
    SchemaOf::answer::<handfast_api::admin::PendingApproval>()
}

/// The order in a committed file must not follow the order of routes.
fn sorted(map: &mut Map<String, Value>) {
    let mut entries: Vec<(String, Value)> = std::mem::take(map).into_iter().collect();
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    map.extend(entries);
}
