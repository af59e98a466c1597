//! Resource versions, and watches that are too old for them.

use serde_json::json;

use super::{Cluster, code, text};
use crate::wait::{DEADLINE, poll};

impl Cluster {
    /// The API server's present resource version.
    pub(crate) fn revision(&self) -> String {
        let list = self.get(&format!("{}?limit=1", self.entries_everywhere()));
        text(&list, "resourceVersion").to_owned()
    }

    /// Moves the resource version on without touching a ServiceEntry.
    pub(crate) fn move_revision(&self) {
        self.create_namespace("e2e-revision");
        let kind = "/api/v1/namespaces/e2e-revision/configmaps";
        self.create_unless_present(
            kind,
            &json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "revision" } }),
        );
        // Its own resource version is different each time, so this is never a patch that changes nothing.
        let before = self.get(&format!("{kind}/revision"));
        let patch = json!({ "data": { "before": text(&before, "resourceVersion") } });
        self.merge(&format!("{kind}/revision"), &patch);
    }

    /// Asserts that a watch from `revision` is refused with 410.
    #[track_caller]
    pub(crate) fn assert_watch_expired(&self, revision: &str) {
        let path =
            format!("{}?watch=1&timeoutSeconds=5&resourceVersion={revision}", self.entries_everywhere());
        let watch = || {
            let request = http::Request::get(&path).body(Vec::new());
            let call = self.client.request_text(request.expect("a valid request"));
            // An expired watch is refused at once or by its first event; others end by the time-out.
            match self.runtime.block_on(call) {
                Ok(events) => Some(events.contains(r#""code":410"#)),
                Err(error) if code(&error) == 410 => Some(true),
                // A large watch cache is still being filled.
                Err(_) => None,
            }
        };
        let expired = poll(DEADLINE, watch);
        assert_eq!(expired, Some(true), "a watch from {revision}: expired?");
    }
}
