//! What was told, in a ConfigMap of our own: an Event lives for an hour, and a finding may stand for years.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

use crate::kubernetes::{CallError, MANAGER, creating, within};

/// The name of the ConfigMap and of the Lease, in our own namespace.
pub const NAME: &str = "globaldns-events";
/// The most findings that are told and stand; a ConfigMap holds 1 MiB, and this is an eighth of it.
pub const MOST_TOLD: usize = 10_000;
/// The most that are remembered after they have gone.
pub const MOST_GONE: usize = 1_000;

const TOLD: &str = "told";
const GONE: &str = "gone";
const MANY: &str = "many";

/// See the module text. Findings are hashes of 8 octets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Those that were told, and stand.
    pub told: Vec<u64>,
    /// Those that were told, and are gone, oldest first.
    pub gone: Vec<u64>,
    /// It was told that many wait.
    pub many: bool,
}

/// Where the record is.
pub struct Place {
    api: Api<ConfigMap>,
}

/// The object it was read from; `None` while there is none.
pub type Object = Option<ConfigMap>;

impl Place {
    /// In this namespace.
    pub fn new(client: Client, namespace: &str) -> Place {
        Place { api: Api::namespaced(client, namespace) }
    }

    /// What it says.
    pub async fn load(&self) -> Result<(Record, Object), CallError> {
        let object = within(NAME, self.api.get_opt(NAME)).await?;
        let record = object.as_ref().map(read).unwrap_or_default();
        Ok((record, object))
    }

    /// Replaces what was read. Of two that have read the same only the first succeeds.
    pub async fn save(&self, object: &mut Object, record: &Record) -> Result<(), CallError> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let binary_data = Some(write(record));
        let saved = match object.as_ref() {
            Some(object) => {
                let object = ConfigMap { binary_data, ..object.clone() };
                within(NAME, self.api.replace(NAME, &params, &object)).await?
            }
            None => {
                let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
                let object = ConfigMap { metadata, binary_data, ..ConfigMap::default() };
                creating(NAME, self.api.create(&params, &object)).await?
            }
        };
        *object = Some(saved);
        Ok(())
    }
}

fn write(record: &Record) -> BTreeMap<String, ByteString> {
    let hashes = |all: &[u64]| ByteString(all.iter().flat_map(|hash| hash.to_be_bytes()).collect());
    let mut data =
        BTreeMap::from([(TOLD.to_owned(), hashes(&record.told)), (GONE.to_owned(), hashes(&record.gone))]);
    if record.many {
        data.insert(MANY.to_owned(), ByteString(Vec::new()));
    }
    data
}

/// What somebody else has put there is at worst a finding that is told or not.
fn read(object: &ConfigMap) -> Record {
    let data = object.binary_data.as_ref();
    let hashes = |key: &str, most: usize| -> Vec<u64> {
        let octets = data.and_then(|data| data.get(key)).map_or(&[][..], |octets| &octets.0);
        octets.as_chunks().0.iter().take(most).map(|hash| u64::from_be_bytes(*hash)).collect()
    };
    Record {
        told: hashes(TOLD, MOST_TOLD),
        gone: hashes(GONE, MOST_GONE),
        many: data.is_some_and(|data| data.contains_key(MANY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [F4]
    #[test]
    fn a_record_says_what_it_was_told() {
        for record in [
            Record::default(),
            Record { told: vec![1, u64::MAX], gone: vec![7, 3], many: true },
            Record { told: (0..MOST_TOLD as u64).collect(), gone: vec![], many: false },
        ] {
            let object = ConfigMap { binary_data: Some(write(&record)), ..ConfigMap::default() };
            assert_eq!(read(&object), record);
            let text = serde_json::to_string(&object).expect("JSON");
            assert!(text.len() < 128 * 1024, "{} octets", text.len());
        }
    }

    /// [F4] [S7]
    #[test]
    fn of_a_record_that_somebody_else_wrote_no_more_is_read_than_we_write() {
        assert_eq!(read(&ConfigMap::default()), Record::default());
        let data = BTreeMap::from([
            (TOLD.to_owned(), ByteString(vec![0; 8 * MOST_TOLD + 13])),
            (GONE.to_owned(), ByteString(vec![1, 2, 3])),
        ]);
        let read = read(&ConfigMap { binary_data: Some(data), ..ConfigMap::default() });
        assert_eq!((read.told.len(), read.gone.len(), read.many), (MOST_TOLD, 0, false));
    }
}
