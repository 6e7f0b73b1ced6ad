//! The OpenAPI 3.1 document, made from the route table and the types that go in and out.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use serde_json::{Map, Value, json};

use super::error::ErrorBody;
use super::route::{Needs, On, Route, Schemas};
use crate::auth::Action;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/openapi.json",
            Needs::Action(Action::ReadStream, On::NamedStreams),
            "This document.",
            document_answer,
        )
        .gives_other(StatusCode::OK, "application/json"),
    ]
}

async fn document_answer() -> Response {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| document(&super::api_routes()));
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

/// The document, pretty-printed, equal for equal tables.
pub(crate) fn document(routes: &[Route]) -> String {
    let mut schemas = BTreeMap::new();
    let mut keep = |found: &Schemas| {
        for (name, schema) in &found.all {
            let value = serde_json::to_value(schema).expect("schemas are JSON");
            schemas.insert(name.clone(), value);
        }
    };
    let error = Schemas::of::<ErrorBody>();
    keep(&error);
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in routes {
        route.shape.body.iter().chain(&route.shape.answer.1).for_each(&mut keep);
        let method = route.method.as_str().to_ascii_lowercase();
        paths.entry(route.path).or_default().insert(method, operation(route));
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Kinora",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Times are RFC 3339 or epoch milliseconds in, RFC 3339 with microseconds out. Durations \
                            are like 90s or 24h. Ranges are [from, to).",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "token": {"type": "apiKey", "in": "query", "name": "token",
                          "description": "A token minted for playback, where players cannot send headers."},
            },
        },
    });
    let mut text = serde_json::to_string_pretty(&document).expect("a value is JSON");
    text.push('\n');
    text
}

fn operation(route: &Route) -> Value {
    let (status, answer, content_type) = &route.shape.answer;
    let mut response = json!({"description": status.canonical_reason().unwrap_or_default()});
    if !content_type.is_empty() {
        let schema = answer.as_ref().map_or(json!({}), reference);
        response["content"] = json!({ *content_type: {"schema": schema} });
    }
    let mut operation = json!({
        "summary": route.doc,
        "parameters": parameters(route),
        "responses": {
            status.as_str(): response,
            "default": {
                "description": "An error.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
            },
        },
    });
    if let Some(body) = &route.shape.body {
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": reference(body)}}});
    }
    match route.needs {
        Needs::Public(why) => {
            operation["security"] = json!([]);
            operation["description"] = json!(format!("Needs no credential: {why}."));
        }
        Needs::Action(action, _) => {
            let mut security = vec![json!({"bearer": []})];
            if route.token_in_query {
                security.push(json!({"token": []}));
            }
            operation["security"] = json!(security);
            operation["x-action"] = json!(action);
        }
    }
    operation
}

fn reference(schemas: &Schemas) -> Value {
    json!({"$ref": format!("#/components/schemas/{}", schemas.name)})
}

fn parameters(route: &Route) -> Vec<Value> {
    let mut parameters = Vec::new();
    for segment in route.path.split('/') {
        if let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let name = name.trim_start_matches('*');
            let schema = match name {
                "stream" => json!({"type": "string", "pattern": "^[a-zA-Z0-9_.-]{1,256}$"}),
                _ => json!({"type": "string"}),
            };
            parameters.push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
        }
    }
    for (name, meaning) in route.shape.query {
        let schema = match *name {
            "limit" => json!({"type": "integer", "minimum": 1}),
            "clock" => json!({"type": "string", "enum": ["producer", "server"]}),
            _ => json!({"type": "string"}),
        };
        parameters.push(json!({"name": name, "in": "query", "description": meaning, "schema": schema}));
    }
    parameters
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// `KINORA_BLESS=1 cargo test openapi` writes the golden file anew; look at what changed before committing it.
    #[test]
    fn the_document_is_the_one_that_was_agreed() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/openapi.json");
        let now = super::document(&super::super::api_routes());
        if std::env::var_os("KINORA_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(&path, &now).expect("written");
        }
        let agreed = std::fs::read_to_string(&path).expect("the golden file is there");
        assert!(now == agreed, "the API document changed: run with KINORA_BLESS=1 and look at the difference");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let text = super::document(&super::super::api_routes());
        let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let mut count = 0;
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().expect("a name");
            assert!(document["components"]["schemas"].get(name).is_some(), "{name} is referred to and missing");
            count += 1;
        }
        assert!(count > 10);
    }
}
