//! What every name may be answered with, by what the API server was told and when.
//!
//! A change is *begun* when it is sent and *acknowledged* when the API server says so. From the one to the other, and
//! until it has to be visible, the answer may be the old one or the new one, and nothing else; afterwards only the
//! new one. While the API server is away nothing has to become visible, and what was seen stays: no question that
//! is asked after a reply with the new answer may get the old one again.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::question::Reply;

/// How long after its acknowledgement a change may be unseen. Milliseconds are usual; a loaded machine needs more.
pub(crate) const VISIBLE: Duration = Duration::from_secs(5);
/// The same after the API server, or the program, has come back: retries pause for up to 6 s (L2), and then it lists.
pub(crate) const RECONNECT: Duration = Duration::from_secs(60);
/// The TTL of an entry that names none (D2).
const TTL: u32 = 30;

/// What a name has; `None` if it does not exist.
pub(crate) type State = Option<Records>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Records {
    addresses: BTreeSet<IpAddr>,
    ttl: u32,
}

/// What an entry says.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// Which host.
    pub(crate) host: usize,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ttl: Option<u32>,
    /// Has an address that is none, too (S5).
    pub(crate) partly_bad: bool,
    /// `creationTimestamp`, and about when that was here.
    pub(crate) created: String,
    pub(crate) since: Instant,
}

/// Later than every timestamp.
pub(crate) const NOT_YET: &str = "~";

/// A place for a ServiceEntry, which exists or not.
pub(crate) struct Entry {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The hosts it may have, one at a time.
    pub(crate) hosts: Vec<usize>,
    pub(crate) live: Option<Content>,
}

/// A host of ServiceEntries.
pub(crate) struct Host {
    /// Of a wildcard, without the `*`.
    pub(crate) name: String,
    pub(crate) wildcard: bool,
    /// The entries that may have it.
    claimants: Vec<usize>,
    versions: VecDeque<Version>,
}

struct Version {
    state: State,
    begun: Instant,
    acknowledged: Option<Instant>,
    /// When the first reply came that can have been no older version.
    seen: Option<Instant>,
}

/// A time in which something was away, perhaps until now.
struct Absence {
    from: Instant,
    until: Option<Instant>,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) entries: Vec<Entry>,
    pub(crate) hosts: Vec<Host>,
    /// Of the API server or etcd.
    outages: Vec<Absence>,
    /// Of the program.
    restarts: Vec<Absence>,
    /// The longest after its acknowledgement that a change was unseen by a question.
    pub(crate) stalest: Duration,
    /// The same after an outage or a restart, from when that was over.
    pub(crate) stalest_after_absence: Duration,
}

impl Model {
    pub(crate) fn add_host(&mut self, name: String, wildcard: bool) -> usize {
        self.hosts.push(Host { name, wildcard, claimants: Vec::new(), versions: VecDeque::new() });
        self.hosts.len() - 1
    }

    pub(crate) fn add_entry(&mut self, entry: Entry) {
        for host in &entry.hosts {
            self.hosts[*host].claimants.push(self.entries.len());
        }
        self.entries.push(entry);
    }

    /// Everything has been as it is for long.
    pub(crate) fn settle(&mut self) {
        let now = Instant::now();
        for host in 0..self.hosts.len() {
            let state = self.state(host);
            let version = Version { state, begun: now, acknowledged: Some(now), seen: None };
            self.hosts[host].versions = VecDeque::from([version]);
        }
    }

    /// An entry is about to be created, changed or deleted.
    pub(crate) fn begin(&mut self, entry: usize, next: Option<Content>) {
        let now = Instant::now();
        self.entries[entry].live = next;
        for host in self.entries[entry].hosts.clone() {
            let state = self.state(host);
            let versions = &mut self.hosts[host].versions;
            if versions.back().is_none_or(|last| last.state != state) {
                versions.push_back(Version { state, begun: now, acknowledged: None, seen: None });
            }
        }
    }

    /// The API server has confirmed what was begun.
    pub(crate) fn acknowledge(&mut self, entry: usize, created: Option<String>) {
        let now = Instant::now();
        if let (Some(live), Some(created)) = (&mut self.entries[entry].live, created) {
            live.created = created;
        }
        for host in self.entries[entry].hosts.clone() {
            for version in &mut self.hosts[host].versions {
                version.acknowledged.get_or_insert(now);
            }
            self.prune(host, now);
        }
    }

    /// Forgets versions that no reply under way may have any more.
    fn prune(&mut self, host: usize, now: Instant) {
        let old = |time: Instant| now.saturating_duration_since(time) > RECONNECT;
        while let Some(next) = self.hosts[host].versions.get(1) {
            let visible = next.acknowledged.and_then(|acknowledged| self.visible_by(acknowledged));
            if !visible.is_some_and(|(by, _)| old(by)) {
                return;
            }
            self.hosts[host].versions.pop_front();
        }
    }

    /// The API server, or etcd, is about to go away.
    pub(crate) fn outage_begins(&mut self) {
        self.outages.push(Absence { from: Instant::now(), until: None });
    }

    pub(crate) fn outage_ends(&mut self) {
        end(&mut self.outages);
    }

    pub(crate) fn outages(&self) -> usize {
        self.outages.len()
    }

    /// The program is about to end.
    pub(crate) fn restart_begins(&mut self) {
        self.restarts.push(Absence { from: Instant::now(), until: None });
    }

    /// It is ready.
    pub(crate) fn restart_ends(&mut self) {
        end(&mut self.restarts);
    }

    /// Whether the program was away at some time between these.
    pub(crate) fn restarting(&self, from: Instant, until: Instant) -> bool {
        self.restarts.iter().any(|one| one.from <= until && one.until.is_none_or(|end| end >= from))
    }

    /// When a change acknowledged at a time has to be visible, and from when on that time is reckoned; `None` while
    /// something is away.
    fn visible_by(&self, acknowledged: Instant) -> Option<(Instant, Instant)> {
        let (mut by, mut since) = (acknowledged + VISIBLE, acknowledged);
        let mut absences: Vec<&Absence> = self.outages.iter().chain(&self.restarts).collect();
        absences.sort_by_key(|one| one.from);
        for absence in absences {
            let caught_up = absence.until.map(|until| until + RECONNECT);
            if absence.from <= by && caught_up.is_none_or(|caught_up| caught_up > by) {
                (by, since) = (caught_up?, absence.until?.max(since));
            }
        }
        Some((by, since))
    }

    /// What the live entries make of a host (O1, D2).
    fn state(&self, host: usize) -> State {
        let claims = || {
            let claimants = self.hosts[host].claimants.iter().map(|entry| &self.entries[*entry]);
            claimants
                .filter_map(|entry| Some((entry, entry.live.as_ref()?)))
                .filter(move |(_, live)| live.host == host)
        };
        let rank = |(entry, live): &(&Entry, &Content)| {
            (live.created.clone(), entry.namespace.clone(), entry.name.clone())
        };
        let (winner, _) = claims().min_by_key(rank)?;
        let mut records = Records { addresses: BTreeSet::new(), ttl: u32::MAX };
        for (_, live) in claims().filter(|(entry, _)| entry.namespace == winner.namespace) {
            records.addresses.extend(&live.addresses);
            records.ttl = records.ttl.min(live.ttl.unwrap_or(TTL));
        }
        Some(records)
    }

    /// Whether a host may be answered so, over a question sent at `asked` whose reply was there at `answered`.
    pub(crate) fn judge(
        &mut self,
        host: usize,
        record_type: RecordType,
        reply: &Reply,
        asked: Instant,
        answered: Instant,
    ) -> Result<(), String> {
        let versions = &self.hosts[host].versions;
        // When the version after one was acknowledged, if that was before the question.
        let outdated = |number: usize| {
            let next = versions.get(number + 1).and_then(|next| next.acknowledged);
            next.filter(|acknowledged| *acknowledged < asked)
        };
        let mut possible = (0..versions.len()).filter(|number| {
            let version = &versions[*number];
            let later_seen =
                || versions.range(number + 1..).any(|later| later.seen.is_some_and(|seen| seen < asked));
            version.state.fits(record_type, reply)
                && version.begun <= answered
                && !later_seen()
                && outdated(*number)
                    .and_then(|acknowledged| self.visible_by(acknowledged))
                    .is_none_or(|(by, _)| by >= asked)
        });
        let Some(oldest) = possible.next() else {
            let told: Vec<String> = versions.iter().map(|version| version.describe(asked)).collect();
            return Err(format!("it may be {}", told.join(", or ")));
        };
        let newest = possible.next_back().unwrap_or(oldest);
        let unseen = outdated(newest);
        let visible = unseen.and_then(|acknowledged| self.visible_by(acknowledged));
        // Of two versions that say the same it may have been the older one.
        self.hosts[host].versions[oldest].seen.get_or_insert(answered);
        if let (Some(acknowledged), Some((by, since))) = (unseen, visible) {
            let calm = by == acknowledged + VISIBLE;
            let stalest = if calm { &mut self.stalest } else { &mut self.stalest_after_absence };
            *stalest = (*stalest).max(asked.saturating_duration_since(since));
        }
        Ok(())
    }

    /// The same long after the last change.
    pub(crate) fn judge_last(
        &self,
        host: usize,
        record_type: RecordType,
        reply: &Reply,
    ) -> Result<(), String> {
        let last = self.hosts[host].versions.back().map(|last| &last.state);
        match last {
            Some(state) if state.fits(record_type, reply) => Ok(()),
            _ => Err(format!("{reply:?}, but at last it is {last:?}")),
        }
    }
}

fn end(absences: &mut [Absence]) {
    if let Some(last) = absences.last_mut() {
        last.until = Some(Instant::now());
    }
}

/// Whether a reply says what a name has.
trait Fits {
    fn fits(&self, record_type: RecordType, reply: &Reply) -> bool;
}

impl Fits for State {
    fn fits(&self, record_type: RecordType, reply: &Reply) -> bool {
        let Some(records) = self else { return reply.rcode == ResponseCode::NXDomain };
        let of_type = |address: &&IpAddr| match record_type {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            _ => false,
        };
        reply.rcode == ResponseCode::NoError
            && reply.addresses.iter().eq(records.addresses.iter().filter(of_type))
            && reply.ttls.iter().all(|ttl| *ttl == records.ttl)
    }
}

impl Version {
    fn describe(&self, asked: Instant) -> String {
        let before = |time: Instant| match asked.checked_duration_since(time) {
            Some(before) => format!("{:.3} s before it was asked", before.as_secs_f64()),
            None => format!("{:.3} s after it was asked", (time - asked).as_secs_f64()),
        };
        let told = |time: Option<Instant>| time.map_or_else(|| "never".to_owned(), before);
        format!(
            "{:?} (begun {}, acknowledged {}, seen {})",
            self.state,
            before(self.begun),
            told(self.acknowledged),
            told(self.seen)
        )
    }
}
