//! Events, each under a name that says what it is about: whoever writes the same one again finds it there already.
//!
//! kube has a recorder, too. It makes names of the time, so nothing keeps a second process from saying the same again; and
//! what has another note, but the same reason, it counts under the first note.

use std::hash::Hasher;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use siphasher::sip::SipHasher13;

use super::{CallError, MANAGER, creating, within};
use crate::source::advertise::ServiceName;

/// An Event's note has at most 1,024 octets.
const LONGEST_NOTE: usize = 1_000;
/// Octets of an object's name.
const LONGEST_NAME: usize = 253;

/// What an Event says.
#[derive(Clone, Debug)]
pub struct Notice {
    /// What it is about. Without its uid `kubectl describe` does not show it.
    pub about: ObjectReference,
    /// Something is wrong, or it is as it should be.
    pub warning: bool,
    /// Why, in CamelCase; at most 128 octets.
    pub reason: String,
    /// What we were doing, in CamelCase; at most 128 octets.
    pub action: &'static str,
    /// A text; shortened to 1,000 octets.
    pub note: String,
    /// Tells it from other Events about the same object. Two with the same are the same Event.
    pub key: u64,
}

/// What became of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was created.
    New,
    /// It was there already.
    Known,
}

/// Writes Events.
#[derive(Clone)]
pub struct Recorder {
    client: Client,
    instance: String,
}

impl Recorder {
    /// `instance` tells replicas apart; at most 128 octets of it.
    pub fn new(client: Client, instance: impl Into<String>) -> Recorder {
        Recorder { client, instance: instance.into() }
    }

    /// Our Service, for what is about all of us: with its uid if that can be read.
    pub async fn service(&self, service: &ServiceName) -> ObjectReference {
        let api: Api<Service> = Api::namespaced(self.client.clone(), &service.namespace);
        let found = within("the Service", api.get_metadata(&service.name)).await;
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace: Some(service.namespace.clone()),
            name: Some(service.name.clone()),
            uid: found.ok().and_then(|found| found.metadata.uid),
            ..ObjectReference::default()
        }
    }

    /// Creates an Event, unless it is there.
    pub async fn write(&self, notice: &Notice) -> Result<Written, CallError> {
        let event = self.event(notice);
        let what = format!("an Event of {}", name_of(&notice.about));
        match creating(&what, self.api(&notice.about).create(&PostParams::default(), &event)).await {
            Ok(_) => Ok(Written::New),
            Err(CallError::Stale(_)) => Ok(Written::Known),
            Err(error) => Err(error),
        }
    }

    /// How often an Event that is there was so. Needs no right to read it.
    pub async fn times(&self, notice: &Notice) -> Result<i32, CallError> {
        // A patch of nothing shows it.
        let event = self.patch(notice, json!({})).await?;
        Ok(event.series.map_or(1, |series| series.count))
    }

    /// What it says was so that often: a count of the same Event, which is there.
    pub async fn count(&self, notice: &Notice, times: i32) -> Result<(), CallError> {
        let now = MicroTime(Timestamp::now());
        self.patch(notice, json!({"series": {"count": times, "lastObservedTime": now}})).await.map(drop)
    }

    async fn patch(&self, notice: &Notice, body: serde_json::Value) -> Result<Event, CallError> {
        let name = event_name(notice);
        let api = self.api(&notice.about);
        let (params, patch) = (PatchParams::default(), Patch::Merge(&body));
        within(&format!("the Event {name}"), api.patch(&name, &params, &patch)).await
    }

    fn event(&self, notice: &Notice) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(event_name(notice)),
                namespace: notice.about.namespace.clone(),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(Timestamp::now())),
            type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(notice.reason.clone()),
            action: Some(notice.action.to_owned()),
            note: Some(shorten(&notice.note, LONGEST_NOTE).to_owned()),
            regarding: Some(notice.about.clone()),
            reporting_controller: Some(MANAGER.to_owned()),
            reporting_instance: Some(shorten(&self.instance, 128).to_owned()),
            ..Event::default()
        }
    }

    fn api(&self, about: &ObjectReference) -> Api<Event> {
        Api::namespaced(self.client.clone(), about.namespace.as_deref().unwrap_or("default"))
    }
}

/// The object's name, and what tells this Event from others, of the object of now: one that is made anew has none yet.
fn event_name(notice: &Notice) -> String {
    let uid = notice.about.uid.as_deref().unwrap_or_default();
    let key = key([uid, &notice.reason, &notice.key.to_string()]);
    let name = name_of(&notice.about);
    let room = LONGEST_NAME - 17;
    format!("{}.{key:016x}", shorten(name, room).trim_end_matches(['.', '-']))
}

fn name_of(about: &ObjectReference) -> &str {
    about.name.as_deref().unwrap_or(MANAGER)
}

/// One number for some texts: the same in every process and version of ours.
pub fn key<'t>(texts: impl IntoIterator<Item = &'t str>) -> u64 {
    let mut hasher = SipHasher13::new();
    for text in texts {
        hasher.write(&(text.len() as u64).to_le_bytes());
        hasher.write(text.as_bytes());
    }
    hasher.finish()
}

/// Of a text as many whole characters as fit.
fn shorten(text: &str, octets: usize) -> &str {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    &text[..ends.take_while(|end| *end <= octets).last().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(name: &str, uid: &str, key: u64) -> Notice {
        let about = ObjectReference {
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        let (reason, note) = ("HostInvalid".to_owned(), String::new());
        Notice { about, warning: true, reason, action: "Serve", note, key }
    }

    /// [F4]
    #[test]
    fn the_same_event_has_the_same_name_everywhere_and_others_have_others() {
        // As earlier versions wrote it: a restart with another one repeats nothing.
        assert_eq!(event_name(&notice("echo", "1-2", 7)), "echo.19c5d38e948f02f2");
        let names = [("echo", "1-2", 8), ("echo", "1-3", 7), ("ech", "o1-2", 7)];
        for (name, uid, key) in names {
            assert_ne!(event_name(&notice(name, uid, key)), event_name(&notice("echo", "1-2", 7)));
        }
    }

    /// [F4]
    #[test]
    fn a_name_and_a_note_are_as_long_as_they_may_be() {
        let name = event_name(&notice(&format!("{}.b{}", "a".repeat(234), "c".repeat(17)), "u", 1));
        assert!(name.starts_with(&format!("{}.", "a".repeat(234))) && !name.contains(".."), "{name}");
        assert!(name.len() <= LONGEST_NAME, "{}", name.len());
        assert_eq!(shorten("äöü", 5), "äö");
    }
}
