//! Which concurrent map the name table should be: candidates with its shape. `src/zone.rs` keeps the figures.
//!
//! Keys are like the table's (40 octets, the name in place), values are 24 octets, the hasher is its own. Looked up
//! are names that exist, 64 to a batch, as many as a worker takes from its socket at once; *keys alone* is what
//! making the batch costs, and is in every other figure. Rounds go through all candidates before the next
//! begins.
//!
//! Times are a thread's own, without what it waited for a core (`/proc/thread-self/schedstat`), since other
//! programs are none of a map's business. Two threads that wait do not meet, though, and then show no
//! contention: so readers have a core each, and of all rounds those count whose readers waited least. Each figure
//! is the median of these. Run with `cargo bench -p globaldns-bench --bench tables`.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, Hash, Hasher};
use std::hint::black_box;
use std::ops::AddAssign;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use foldhash::fast::RandomState;
use globaldns_bench::random::Random;
use globaldns_bench::{names, process};
use hashbrown::HashTable;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

const SIZES: [u32; 2] = [10_000, 1_000_000];
/// 1,000,000 is just beyond, and this just within, what a `HashMap` holds before it doubles.
const RESIDENT_SIZES: [u32; 3] = [10_000, 900_000, 1_000_000];
const BATCH: usize = 64;
const ROUNDS: usize = 11;
/// The rounds that count.
const QUIET_ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(40);
const CHANGES_PER_SECOND: u32 = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, command, candidate, names] = &arguments[..]
        && command == "--resident"
    {
        return print_resident(candidate, names.parse().expect("a number"));
    }
    let begun = Instant::now();
    SIZES.into_iter().for_each(compare);
    resident();
    println!("\n{:.0} s in all", begun.elapsed().as_secs_f64());
}

/// The time of one look-up in every case, and of a change.
fn compare(size: u32) {
    let candidates = CANDIDATES.map(|(what, build)| (what, build(size)));
    let cases: Vec<Case> = [false, true]
        .into_iter()
        .flat_map(|changing| [1, 2].map(|threads| (changing, threads)))
        .flat_map(|(changing, threads)| [false, true].map(|hot| Case { changing, threads, hot }))
        .collect();
    // For each candidate: every case, then a change alone.
    let mut rounds = CANDIDATES.map(|_| vec![Vec::new(); cases.len() + 1]);
    for _ in 0..ROUNDS {
        for (at, case) in cases.iter().enumerate() {
            for ((_, candidate), rounds) in candidates.iter().zip(&mut rounds) {
                rounds[at].push(measure(candidate.as_ref(), size, *case));
            }
        }
        for ((_, candidate), rounds) in candidates.iter().zip(&mut rounds) {
            rounds[cases.len()].push(change(candidate.as_ref(), size));
        }
    }

    println!("\n{size} names: ns per look-up; changes made of {CHANGES_PER_SECOND} wanted; µs per change\n");
    println!("{:24}|{:^27}|{:^27}|", "", "nothing changes", "1,000 changes a second");
    println!("{:24}|{:^27}|{:^27}|", "", "1 thread     2 threads", "1 thread     2 threads");
    let pair = format!("{:>6}{:>6} ", "spread", "hot");
    println!("{:24}|{pair} {pair}|{pair} {pair}|{:>8}{:>12}", "", "made", "a change");
    for ((what, _), rounds) in candidates.iter().zip(&mut rounds) {
        rounds.iter_mut().for_each(keep_quiet);
        let (changes, lookups) = rounds.split_last().expect("every case and a change");
        print_cells(what, lookups.iter().map(|rounds| median(rounds.iter().map(|round| round.nanos))));
        let made = median(lookups.iter().flatten().filter_map(|round| round.made));
        match *what {
            KEYS_ALONE => println!(),
            _ => println!("{made:>8.0}{:>12.2}", median(changes.iter().map(|round| round.nanos)) / 1e3),
        }
    }
    let waited = |at: usize| median(rounds.iter().flat_map(|rounds| &rounds[at]).map(|round| round.waited));
    print_cells("% waited for a core", (0..cases.len()).map(|at| 100.0 * waited(at)));
    println!();
}

fn print_cells(what: &str, figures: impl Iterator<Item = f64>) {
    print!("{what:24}|");
    for (at, figure) in figures.enumerate() {
        print!("{figure:>6.1}{}", ["", "  ", "", " |"][at % 4]);
    }
}

/// What a round has shown.
#[derive(Clone)]
struct Round {
    /// Of one look-up or change.
    nanos: f64,
    /// The share of their time that the threads have waited for a core.
    waited: f64,
    /// Changes per second meanwhile.
    made: Option<f64>,
}

fn keep_quiet(rounds: &mut Vec<Round>) {
    rounds.sort_by(|a, b| a.waited.total_cmp(&b.waited));
    rounds.truncate(QUIET_ROUNDS);
}

/// What is done at a time.
#[derive(Clone, Copy)]
struct Case {
    threads: usize,
    hot: bool,
    changing: bool,
}

fn measure(candidate: &dyn Candidate, size: u32, case: Case) -> Round {
    let done = AtomicBool::new(false);
    let begin = Barrier::new(case.threads + 1 + usize::from(case.changing));
    thread::scope(|scope| {
        let readers: Vec<_> = (0..case.threads)
            .map(|reader| {
                let (done, begin) = (&done, &begin);
                scope.spawn(move || {
                    take_core(reader);
                    let mut asker = Asker::new(reader as u64, if case.hot { None } else { Some(size) });
                    begin.wait();
                    let clock = Clock::start();
                    let mut batches = 0;
                    while !done.load(Ordering::Relaxed) {
                        asker.ask();
                        black_box(candidate.look_up(&asker.batch));
                        batches += 1;
                    }
                    (clock.read(), batches * BATCH)
                })
            })
            .collect();
        let writer = case.changing.then(|| {
            scope.spawn(|| {
                let mut asker = Asker::new(7, Some(size));
                begin.wait();
                let begun = Instant::now();
                let mut made = 0;
                while !done.load(Ordering::Relaxed) {
                    asker.ask_one();
                    candidate.change(asker.batch[0].octets(), made);
                    made += 1;
                    let due = begun + made * Duration::from_secs(1) / CHANGES_PER_SECOND;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                f64::from(made) / begun.elapsed().as_secs_f64()
            })
        });
        begin.wait();
        thread::sleep(ROUND);
        done.store(true, Ordering::Relaxed);
        let mut total = Time::default();
        let mut lookups = 0;
        for reader in readers {
            let (time, count) = reader.join().expect("a reader");
            total += time;
            lookups += count;
        }
        total.round(lookups, writer.map(|writer| writer.join().expect("a writer")))
    })
}

/// Changes while nobody reads.
fn change(candidate: &dyn Candidate, size: u32) -> Round {
    let mut asker = Asker::new(11, Some(size));
    let clock = Clock::start();
    let mut made = 0;
    while clock.begun.elapsed() < ROUND {
        asker.ask_one();
        candidate.change(asker.batch[0].octets(), made);
        made += 1;
    }
    clock.read().round(made as usize, None)
}

/// Octets of memory per name, each in a process of its own.
fn resident() {
    let program = std::env::current_exe().expect("this program");
    println!("\nResident octets per name\n");
    println!("{:24}{:>12}{:>12}{:>12}", "names", RESIDENT_SIZES[0], RESIDENT_SIZES[1], RESIDENT_SIZES[2]);
    for (what, _) in CANDIDATES.iter().filter(|(what, _)| *what != KEYS_ALONE && !what.ends_with("each")) {
        print!("{what:24}");
        for size in RESIDENT_SIZES {
            let child = Command::new(&program).args(["--resident", what, &size.to_string()]).output();
            let text = String::from_utf8(child.expect("a child").stdout).expect("a number");
            print!("{:>12}", text.trim());
        }
        println!();
    }
}

fn print_resident(what: &str, size: u32) {
    let (_, build) = CANDIDATES.iter().find(|(name, _)| *name == what).expect("a candidate");
    let now = || process::resident(&[std::process::id()]).expect("VmRSS");
    let before = now();
    let candidate = build(size);
    println!("{}", (now() - before) * 1024 / u64::from(size));
    drop(candidate);
}

const KEYS_ALONE: &str = "keys alone";

type Build = fn(u32) -> Box<dyn Candidate>;

/// *each* takes a guard for each look-up, where there is one to take; the others take it once per batch.
const CANDIDATES: [(&str, Build); 7] = [
    (KEYS_ALONE, |_| Box::new(KeysAlone)),
    ("dashmap", |size| {
        Box::new(fill(DashMap::with_capacity_and_hasher(size as usize, RandomState::default()), size))
    }),
    ("arc-swap", |size| Box::new(Whole::<false>::new(size))),
    ("arc-swap, each", |size| Box::new(Whole::<true>::new(size))),
    ("1,024 arc-swapped shards", |size| Box::new(Shards::new(size))),
    ("papaya", |size| Box::new(Papaya::<false>::new(size))),
    ("papaya, each", |size| Box::new(Papaya::<true>::new(size))),
];

trait Candidate: Sync {
    /// Looks up every name of the batch; something that depends on all answers.
    fn look_up(&self, batch: &[Question; BATCH]) -> u32;

    /// Gives a name another value.
    fn change(&self, name: &[u8], address: u32);
}

struct KeysAlone;

impl Candidate for KeysAlone {
    fn look_up(&self, batch: &[Question; BATCH]) -> u32 {
        black_box(batch);
        0
    }

    fn change(&self, _: &[u8], _: u32) {}
}

type Dash = DashMap<Key, Value, RandomState>;

fn fill(map: Dash, size: u32) -> Dash {
    entries(size).for_each(|(key, value)| drop(map.insert(key, value)));
    map
}

impl Candidate for Dash {
    fn look_up(&self, batch: &[Question; BATCH]) -> u32 {
        batch.iter().fold(0, |sum, name| sum ^ self.get(name.octets()).expect("a name").answer())
    }

    fn change(&self, name: &[u8], address: u32) {
        self.insert(Key::new(name), Value::new(address));
    }
}

/// One map, copied for every change.
struct Whole<const EACH: bool>(ArcSwap<HashMap<Key, Value, RandomState>>);

impl<const EACH: bool> Whole<EACH> {
    fn new(size: u32) -> Self {
        let mut map = HashMap::with_capacity_and_hasher(size as usize, RandomState::default());
        map.extend(entries(size));
        Whole(ArcSwap::from_pointee(map))
    }
}

impl<const EACH: bool> Candidate for Whole<EACH> {
    fn look_up(&self, batch: &[Question; BATCH]) -> u32 {
        if EACH {
            return batch
                .iter()
                .fold(0, |sum, name| sum ^ self.0.load().get(name.octets()).expect("a name").answer());
        }
        let map = self.0.load();
        batch.iter().fold(0, |sum, name| sum ^ map.get(name.octets()).expect("a name").answer())
    }

    fn change(&self, name: &[u8], address: u32) {
        let mut map = HashMap::clone(&self.0.load());
        map.insert(Key::new(name), Value::new(address));
        self.0.store(Arc::new(map));
    }
}

/// Many small maps, of which a change copies one. A name is hashed once for both.
struct Shards {
    shards: Vec<ArcSwap<HashTable<(Key, Value)>>>,
    hasher: RandomState,
}

const SHARDS: usize = 1024;

impl Shards {
    fn new(size: u32) -> Shards {
        let hasher = RandomState::default();
        let mut shards = vec![HashTable::with_capacity(size as usize / SHARDS); SHARDS];
        for (key, value) in entries(size) {
            let hash = hasher.hash_one(&key);
            let rehash = |(key, _): &(Key, Value)| hasher.hash_one(key);
            shards[shard(hash)].insert_unique(hash, (key, value), rehash);
        }
        Shards { shards: shards.into_iter().map(ArcSwap::from_pointee).collect(), hasher }
    }
}

/// The bits in the middle: a table uses those at both ends.
fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

impl Candidate for Shards {
    fn look_up(&self, batch: &[Question; BATCH]) -> u32 {
        batch.iter().fold(0, |sum, name| {
            let hash = self.hasher.hash_one(name.octets());
            let shard = self.shards[shard(hash)].load();
            sum ^ shard.find(hash, |(key, _)| key.octets() == name.octets()).expect("a name").1.answer()
        })
    }

    fn change(&self, name: &[u8], address: u32) {
        let hash = self.hasher.hash_one(name);
        let shard = &self.shards[shard(hash)];
        let mut table = HashTable::clone(&shard.load());
        if let Some((_, value)) = table.find_mut(hash, |(key, _)| key.octets() == name) {
            *value = Value::new(address);
        }
        shard.store(Arc::new(table));
    }
}

struct Papaya<const EACH: bool>(papaya::HashMap<Key, Value, RandomState>);

impl<const EACH: bool> Papaya<EACH> {
    fn new(size: u32) -> Self {
        let map = papaya::HashMap::with_capacity_and_hasher(size as usize, RandomState::default());
        let names = map.pin();
        entries(size).for_each(|(key, value)| {
            names.insert(key, value);
        });
        drop(names);
        Papaya(map)
    }
}

impl<const EACH: bool> Candidate for Papaya<EACH> {
    fn look_up(&self, batch: &[Question; BATCH]) -> u32 {
        if EACH {
            return batch
                .iter()
                .fold(0, |sum, name| sum ^ self.0.pin().get(name.octets()).expect("a name").answer());
        }
        let map = self.0.pin();
        batch.iter().fold(0, |sum, name| sum ^ map.get(name.octets()).expect("a name").answer())
    }

    fn change(&self, name: &[u8], address: u32) {
        self.0.pin().insert(Key::new(name), Value::new(address));
    }
}

/// As the table's: a zone number and the labels before the zone.
#[derive(Clone)]
#[repr(align(8))]
struct Key {
    len: u8,
    octets: [u8; ZONE_NUMBER + IN_PLACE],
}

const ZONE_NUMBER: usize = 2;
const IN_PLACE: usize = 36;

impl Key {
    fn new(octets: &[u8]) -> Key {
        let mut place = [0; ZONE_NUMBER + IN_PLACE];
        place[..octets.len()].copy_from_slice(octets);
        Key { len: octets.len() as u8, octets: place }
    }

    fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.octets()
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.octets().hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.octets() == other.octets()
    }
}

impl Eq for Key {}

/// As the table's: one IPv4 address in place, anything more in a box, so that neither copying nor dropping is trivial.
#[derive(Clone)]
struct Value {
    more: Option<Box<u32>>,
    _children_and_owner: [u32; 2],
    v4: u32,
    v4_ttl: u16,
}

const _: () = assert!(size_of::<Key>() == 40 && size_of::<Value>() == 24);

impl Value {
    fn new(v4: u32) -> Value {
        Value { more: None, _children_and_owner: [0; 2], v4, v4_ttl: 30 }
    }

    fn answer(&self) -> u32 {
        match self.v4_ttl {
            0 => self.more.as_ref().map_or(0, |more| **more),
            _ => self.v4,
        }
    }
}

/// The names as the other benchmarks have them.
fn entries(size: u32) -> impl Iterator<Item = (Key, Value)> {
    (0..size).map(|number| {
        let mut octets = vec![0; ZONE_NUMBER];
        let host = names::host(number);
        for label in host.split('.').filter(|label| *label != names::ZONE) {
            octets.push(label.len() as u8);
            octets.extend(label.as_bytes());
        }
        (Key::new(&octets), Value::new(names::address(number).into()))
    })
}

/// A name as it stands in a message.
#[derive(Clone, Copy)]
struct Question([u8; 19]);

impl Question {
    fn octets(&self) -> &[u8] {
        &self.0
    }
}

/// Asks for random names, or one and the same.
struct Asker {
    random: Random,
    /// How many names there are; `None` for the hot one alone.
    names: Option<u32>,
    digits: Vec<[u8; 3]>,
    batch: [Question; BATCH],
}

impl Asker {
    fn new(seed: u64, names: Option<u32>) -> Asker {
        let digits =
            (0..1000).map(|n| [n / 100, n / 10 % 10, n % 10].map(|digit| b'0' + digit as u8)).collect();
        let batch = [Question(*b"\0\0\x0asvc-000000\x05ns-00"); BATCH];
        Asker { random: Random::new(seed), names, digits, batch }
    }

    fn ask(&mut self) {
        for at in 0..BATCH {
            self.write(at);
        }
    }

    fn ask_one(&mut self) {
        self.write(0);
    }

    fn write(&mut self, at: usize) {
        let number = match self.names {
            Some(names) => self.random.below(names as usize),
            None => black_box(4711),
        };
        let Question(octets) = &mut self.batch[at];
        octets[7..10].copy_from_slice(&self.digits[number / 1000]);
        octets[10..13].copy_from_slice(&self.digits[number % 1000]);
        octets[17..].copy_from_slice(&self.digits[number % 100][1..]);
    }
}

/// Time of a thread.
struct Clock {
    begun: Instant,
    waited: Duration,
}

impl Clock {
    fn start() -> Clock {
        Clock { waited: waited(), begun: Instant::now() }
    }

    fn read(&self) -> Time {
        Time { total: self.begun.elapsed(), waited: waited().saturating_sub(self.waited) }
    }
}

#[derive(Default)]
struct Time {
    total: Duration,
    waited: Duration,
}

impl AddAssign for Time {
    fn add_assign(&mut self, other: Time) {
        self.total += other.total;
        self.waited += other.waited;
    }
}

impl Time {
    fn round(&self, steps: usize, made: Option<f64>) -> Round {
        let nanos = self.total.saturating_sub(self.waited).as_nanos() as f64 / steps as f64;
        Round { nanos, waited: self.waited.as_secs_f64() / self.total.as_secs_f64(), made }
    }
}

/// What this thread has waited for a core so far; nothing if the kernel does not count it.
fn waited() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().nth(1).and_then(|field| field.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Keeps this thread on a core of its own, if there are as many.
fn take_core(number: usize) {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("the cores of this process");
    if let Some(core) = (0..CpuSet::count()).filter(|core| allowed.is_set(*core) == Ok(true)).nth(number) {
        let mut own = CpuSet::new();
        own.set(core).and_then(|()| sched_setaffinity(this, &own)).expect("one of them");
    }
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
