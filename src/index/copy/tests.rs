use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::entry::{EntryId, Origin, Rules};
use crate::index::Policy;
use crate::wire::name::Name;
use crate::zone::{Table, Zones};

const P0: Partition = Partition(0);
const P1: Partition = Partition(1);

fn index() -> Index {
    let name = |text: &str| Name::parse(text).expect(text);
    let zones = Zones::new(vec![name("global")], name("cluster.local"), 0).expect("valid zones");
    let policy = Policy { prefer_namespaces: vec![], default_addresses: vec![], ttl: 30 };
    Index::new(policy, Arc::new(Table::new(zones)), || 1000)
}

fn entry(index: &Index, number: usize, address: &str) -> Entry {
    let object = json!({
        "metadata": {"namespace": "foo", "name": format!("e{number}")},
        "spec": {"hosts": [format!("h{number}.global"), "bad host", "x.com"], "addresses": [address]}
    });
    Entry::read(&object, Origin::Object, index.table().zones(), &Rules::default())
}

fn fill(index: &Index, entries: usize) {
    for number in 0..entries {
        index.apply(P0, entry(index, number, "240.0.0.1"));
    }
    index.apply(P1, entry(index, 7, "240.0.0.9"));
}

/// What remains of a copy: the last entry of each name.
fn copy(index: &Index, mut meanwhile: impl FnMut(usize)) -> BTreeMap<EntryId, Entry> {
    let (mut last, mut given) = (BTreeMap::new(), 0);
    let take = |_, entry: Entry| {
        last.insert(entry.id.clone(), entry);
        meanwhile(given);
        given += 1;
        Ok::<(), Infallible>(())
    };
    let Ok(()) = index.copy(&[P0], take);
    last
}

/// [L6]
#[test]
fn a_copy_has_every_entry_of_its_source_as_it_was_read() {
    let index = index();
    fill(&index, 1000);
    let copied = copy(&index, |_| {});
    let expected: BTreeMap<_, _> = (0..1000)
        .map(|number| entry(&index, number, "240.0.0.1"))
        .map(|entry| (entry.id.clone(), entry))
        .collect();
    assert!(copied == expected);
}

/// [L6] Were an entry missing that was there all the time, its host would be NXDOMAIN after a restart.
#[test]
fn no_entry_is_missing_that_changed_or_came_while_it_was_copied() {
    let index = index();
    fill(&index, 2000);
    // Each one changes as soon as the first is given; some more come, some go, and places are used again.
    let copied = copy(&index, |given| match given {
        0 => {
            for number in 0..2000 {
                index.apply(P0, entry(&index, number, "240.0.0.2"));
            }
        }
        1 => {
            for number in 1990..2000 {
                index.delete(P0, &entry(&index, number, "240.0.0.2").id);
            }
            for number in 2000..2500 {
                index.apply(P0, entry(&index, number, "240.0.0.2"));
            }
            index.apply(P1, entry(&index, 8, "240.0.0.9"));
        }
        _ => {}
    });
    for number in (0..1990).chain(2000..2500) {
        let live = entry(&index, number, "240.0.0.2");
        assert!(copied.get(&live.id) == Some(&live), "e{number}");
    }
    assert!(copied.len() <= 2500);
    // The next copy notes anew, and has what is there now.
    assert_eq!(copy(&index, |_| {}).len(), 2490);
}

/// [L6]
#[test]
fn a_copy_that_fails_leaves_nothing_behind() {
    let index = index();
    fill(&index, 10);
    assert_eq!(index.copy(&[P0], |_, _| Err("full")), Err("full"));
    assert!(lock(&index.entries).came.is_none());
}

/// [L6] Else a copy might never end.
#[test]
fn changes_that_come_as_fast_as_they_are_copied_do_not_hold_a_copy_up_for_ever() {
    let index = index();
    fill(&index, 400);
    let mut given_in_all = 0;
    let copied = copy(&index, |given| {
        given_in_all = given;
        if given % 256 == 0 && given < 100_000 {
            let address = format!("240.1.{}.1", given / 256 % 256);
            for number in 0..400 {
                index.apply(P0, entry(&index, number, &address));
            }
        }
    });
    assert_eq!(copied.len(), 400);
    assert!(given_in_all < 400 * 40, "{given_in_all}");
}
