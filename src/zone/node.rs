//! How the table keeps a name: in one allocation for nearly every host of a mesh.
//!
//! A mesh's hosts are short names with one IPv4 address, and there may be a million of them. [`Key`] keeps such a
//! name, and [`Node`] such an answer, in place; whatever is longer or richer moves out to the heap.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};

use super::answer::{Answers, AnswersRef};
use super::{Host, Owner};

/// Octets of a name, before its zone, that are kept in place.
const IN_PLACE: usize = 36;

/// A name: its zone and its labels before the zone, lower-case, in wire form. Empty at the apex.
pub(super) struct Key(Octets);

enum Octets {
    InPlace { zone: u16, len: u8, octets: [u8; IN_PLACE] },
    Long { zone: u16, octets: Box<[u8]> },
}

/// A [`Key`] to look up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyRef<'n> {
    pub(super) zone: u16,
    pub(super) octets: &'n [u8],
}

impl Key {
    pub(super) fn view(&self) -> KeyRef<'_> {
        match &self.0 {
            Octets::InPlace { zone, len, octets } => {
                KeyRef { zone: *zone, octets: &octets[..usize::from(*len)] }
            }
            Octets::Long { zone, octets } => KeyRef { zone: *zone, octets },
        }
    }
}

impl KeyRef<'_> {
    pub(super) fn to_key(self) -> Key {
        let KeyRef { zone, octets } = self;
        if octets.len() > IN_PLACE {
            return Key(Octets::Long { zone, octets: octets.into() });
        }
        let mut place = [0; IN_PLACE];
        place[..octets.len()].copy_from_slice(octets);
        Key(Octets::InPlace { zone, len: octets.len() as u8, octets: place })
    }

    /// One label up; `None` at the apex.
    pub(super) fn parent(self) -> Option<Self> {
        let label = usize::from(*self.octets.first()?);
        Some(KeyRef { octets: &self.octets[1 + label..], ..self })
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u16(self.zone);
        state.write(self.octets);
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.view().hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.view() == other.view()
    }
}

impl Eq for Key {}

impl papaya::Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self == key.view()
    }
}

/// What the table knows of one name. Replaced whole when its answers change.
#[derive(Default)]
pub(super) struct Node {
    /// Whatever is not a single IPv4 address.
    more: Option<Box<More>>,
    /// Nodes one label down. Written under the table's writer lock only.
    pub(super) children: AtomicU32,
    /// The exact host's.
    owner: Owner,
    v4: [[u8; 4]; 1],
    /// TTL of `v4` in seconds; 0 if that is not in use.
    v4_ttl: u16,
}

#[derive(Clone, Default)]
struct More {
    host: Option<Answers>,
    wildcard: Option<Answers>,
    wildcard_owner: Owner,
    fixed: bool,
    delegation: bool,
}

impl More {
    fn is_needed(&self) -> bool {
        self.host.is_some() || self.wildcard.is_some() || self.fixed || self.delegation
    }
}

// 24 and 40 make 64 octets an entry: a cache line, and a size class of every allocator.
const _: () = assert!(size_of::<Node>() == 24 && size_of::<Key>() == 40);

impl Node {
    /// A name that exists because of `children` others.
    pub(super) fn above(children: u32) -> Node {
        Node { children: AtomicU32::new(children), ..Node::default() }
    }

    /// The answers of the exact name.
    pub(super) fn host(&self) -> Option<AnswersRef<'_>> {
        match self.v4_ttl {
            0 => self.more.as_ref()?.host.as_ref().map(Answers::view),
            ttl => Some(AnswersRef::One(&self.v4, ttl)),
        }
    }

    /// The answers of the names below.
    pub(super) fn wildcard(&self) -> Option<AnswersRef<'_>> {
        self.more.as_ref()?.wildcard.as_ref().map(Answers::view)
    }

    /// The answers of one host of this name.
    pub(super) fn answers(&self, host: &Host) -> Option<AnswersRef<'_>> {
        if host.wildcard { self.wildcard() } else { self.host() }
    }

    pub(super) fn owner(&self, host: &Host) -> Owner {
        if host.wildcard {
            return self.more.as_ref()?.wildcard_owner;
        }
        self.owner
    }

    /// Apex, `dns.<zone>` or `ns.dns.<zone>`: always there, never matched by a wildcard (D5).
    pub(super) fn is_fixed(&self) -> bool {
        self.more.as_ref().is_some_and(|more| more.fixed)
    }

    /// Whether the name exists.
    pub(super) fn is_needed(&self) -> bool {
        self.v4_ttl != 0
            || self.children.load(Ordering::Relaxed) > 0
            || self.more.as_ref().is_some_and(|more| more.is_needed())
    }

    pub(super) fn copy(&self) -> Node {
        Node {
            more: self.more.clone(),
            children: AtomicU32::new(self.children.load(Ordering::Relaxed)),
            owner: self.owner,
            v4: self.v4,
            v4_ttl: self.v4_ttl,
        }
    }

    pub(super) fn set_fixed(&mut self) {
        self.more.get_or_insert_default().fixed = true;
    }

    /// What keeps the way to a nested zone in existence (Z3).
    pub(super) fn set_delegation(&mut self) {
        self.more.get_or_insert_default().delegation = true;
    }

    /// Sets or removes the answers of one host of this name.
    pub(super) fn set(&mut self, host: &Host, answers: Option<Answers>, owner: Owner) {
        let owner = owner.filter(|_| answers.is_some());
        if host.wildcard {
            let more = self.more.get_or_insert_default();
            more.wildcard = answers;
            more.wildcard_owner = owner;
        } else {
            self.owner = owner;
            self.set_host(answers);
        }
        // A name that has become ordinary again takes no more room than one.
        self.more = self.more.take().filter(|more| more.is_needed());
    }

    fn set_host(&mut self, answers: Option<Answers>) {
        self.v4_ttl = 0;
        let in_place = answers.as_ref().map(Answers::view).and_then(|a| match (a.v4(), a.v6()) {
            ([v4], []) if a.extra().is_none() => Some((*v4, u16::try_from(a.ttl()).ok()?)),
            _ => None,
        });
        match in_place {
            Some((v4, ttl)) if ttl > 0 => {
                (self.v4, self.v4_ttl) = ([v4], ttl);
                if let Some(more) = &mut self.more {
                    more.host = None;
                }
            }
            _ => self.more.get_or_insert_default().host = answers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use std::num::NonZeroU32;

    fn host(wildcard: bool) -> Host {
        Host { name: crate::wire::name::Name::parse("a.global").expect("a name"), wildcard }
    }

    fn answers(texts: &[&str], ttl: u32) -> Option<Answers> {
        let addresses: Vec<IpAddr> = texts.iter().map(|a| a.parse().expect(a)).collect();
        Answers::new(&addresses, ttl)
    }

    #[test]
    fn keys_of_any_length_are_found_by_their_octets() {
        for len in [0, 1, IN_PLACE - 1, IN_PLACE, IN_PLACE + 1, 255] {
            let octets = vec![7; len];
            let key = KeyRef { zone: 3, octets: &octets }.to_key();
            assert!(key.view() == KeyRef { zone: 3, octets: &octets }, "{len}");
            assert!(key.view() != KeyRef { zone: 4, octets: &octets }, "{len}");
            assert!(key == key.view().to_key());
        }
    }

    #[test]
    fn a_node_holds_any_answer_and_forgets_it() {
        let sets = [
            answers(&["240.0.0.1"], 30),
            answers(&["240.0.0.1"], 0),
            answers(&["240.0.0.1"], 70_000),
            answers(&["240.0.0.1", "240.0.0.2"], 30),
            answers(&["2001:db8::1"], 30),
            answers(&["240.0.0.1", "2001:db8::1"], 3600),
        ];
        let five = NonZeroU32::new(5);
        for wildcard in [false, true] {
            let mut node = Node::default();
            for set in &sets {
                node.set(&host(wildcard), set.clone(), five);
                assert_eq!(node.answers(&host(wildcard)), set.as_ref().map(Answers::view));
                assert_eq!((node.owner(&host(wildcard)), node.answers(&host(!wildcard))), (five, None));
                assert!(
                    node.is_needed() && node.copy().answers(&host(wildcard)) == node.answers(&host(wildcard))
                );
            }
            node.set(&host(wildcard), None, five);
            assert_eq!((node.owner(&host(wildcard)), node.answers(&host(wildcard))), (None, None));
            assert!(!node.is_needed() && node.more.is_none());
        }
    }
}
