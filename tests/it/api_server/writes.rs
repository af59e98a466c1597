//! What clients write: Leases, ConfigMaps and Events, which are kept by the path they have. Written is what has the
//! version that is there; an Event can only be created, and its series patched.

use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::requests::{named_status, status};
use super::{Reply, Shared, World};

/// Whether something like this is written here.
pub(super) fn is_written(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        ["", "api", "v1", "namespaces", _, resource, ..] => resource == "configmaps",
        ["", "apis", group, "v1", "namespaces", _, resource, ..] => {
            [("coordination.k8s.io", "leases"), ("events.k8s.io", "events")].contains(&(group, resource))
        }
        _ => false,
    }
}

pub(super) async fn serve(shared: &Shared, method: &Method, uri: &Uri, body: &str) -> Response {
    let path = uri.path();
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    if path.contains("/events") {
        shared.wait_while(|world| world.events_get == Reply::Silence).await;
        if let Reply::Status(code) = shared.lock().events_get {
            return status(code, "events.events.k8s.io is forbidden: scripted");
        }
    }
    let mut world = shared.lock();
    let world = &mut *world;
    match *method {
        Method::GET => found(world.written.get(path)),
        Method::POST => {
            let name = body["metadata"]["name"].as_str().expect("a name");
            let path = format!("{path}/{name}");
            if world.written.contains_key(&path) {
                return named_status(409, "AlreadyExists", "it is there");
            }
            world.keep(path, body)
        }
        Method::PUT => {
            let Some(before) = world.written.get(path) else { return found(None) };
            if before["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] {
                return named_status(409, "Conflict", "it was changed");
            }
            world.keep(path.to_owned(), body)
        }
        Method::PATCH => {
            let Some(mut object) = world.written.get(path).cloned() else { return found(None) };
            for (key, value) in body.as_object().expect("a patch") {
                assert_eq!(key, "series", "nothing else of an Event may be changed");
                object[key] = value.clone();
            }
            world.keep(path.to_owned(), object)
        }
        _ => status(405, "not scripted"),
    }
}

fn found(object: Option<&Value>) -> Response {
    object.map_or_else(
        || named_status(404, "NotFound", "not found"),
        |object| axum::Json(object.clone()).into_response(),
    )
}

impl World {
    fn keep(&mut self, path: String, mut object: Value) -> Response {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.written.insert(path, object.clone());
        (StatusCode::OK, axum::Json(object)).into_response()
    }
}
