//! SIGKILL at random moments, with saved state: whenever it comes, the program starts, and what it answers without an API
//! server is what had been saved, or something newer.
//!
//! Names come, change and go all the time, each address unlike any other. A change is *certainly saved* when it was answered
//! (so it is in the index), and then two saves have ended: the second has begun after that. Of a name, what held
//! at that time, or anything that was there later, is right; everything else is a deleted name that came back, or a
//! saved one that is lost. What was once found on disk is not followed by something older. Some names move from one
//! source to another, and are there all the time. Only after a kill between the first saves of the two sources, what is on
//! disk of them may be from different times (L6), each of them certain or later.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::api_server::{ApiServer, Fault};
use crate::cluster::{metric, spawn, spec};
use crate::process::{client, query};
use crate::support::{DEADLINE, Program, wait_until};

/// Names that come, change and go.
const NAMES: usize = 200;
/// Names that never change, so that a save takes some time.
const BULK: usize = 1000;
/// Queries that are on their way at a time.
const WINDOW: usize = 64;
const NAMESPACES: [&str; 2] = ["foo", "bar"];

/// SplitMix64: the same choices for the same seed. What the kernel does meanwhile is not chosen.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % n as u64) as usize
    }
}

/// What each namespace said of a name, from which change on.
#[derive(Debug)]
struct Name {
    name: String,
    said: [Vec<(u32, Option<Ipv4Addr>)>; 2],
    /// When what was last found on disk held, at the earliest.
    found: u32,
    /// To be deleted in `foo` once `bar` is answered.
    moves: bool,
}

impl Name {
    fn says(&self, namespace: usize, at: u32) -> Option<Ipv4Addr> {
        let said = &self.said[namespace];
        let until = said.partition_point(|(from, _)| *from <= at);
        said[..until].last().and_then(|(_, address)| *address)
    }

    /// `bar` is preferred.
    fn at(&self, of_foo: u32, of_bar: u32) -> Option<Ipv4Addr> {
        self.says(1, of_bar).or(self.says(0, of_foo))
    }

    /// A time, and every later one at which something changed.
    fn since(&self, time: u32) -> Vec<u32> {
        let changes = self.said.iter().flatten().map(|(at, _)| *at).filter(|at| *at > time);
        let mut times: Vec<u32> = std::iter::once(time).chain(changes).collect();
        times.sort_unstable();
        times
    }
}

/// What was seen in all rounds.
#[derive(Debug, Default)]
struct Seen {
    rounds: usize,
    starts: usize,
    changes: usize,
    moves: usize,
    certain: usize,
    /// Rounds in which an unfinished file was left.
    in_a_save: usize,
    /// And a commit of several.
    in_a_commit: usize,
    /// Rounds after which the sources could be from different times.
    apart: usize,
    checks: usize,
}

struct World {
    random: Random,
    api: ApiServer,
    directory: tempfile::TempDir,
    clock: u32,
    /// Up to this change, all is certainly saved.
    certain: u32,
    /// Whether what is on disk of the sources may be from different times.
    apart: bool,
    names: Vec<Name>,
    seen: Seen,
}

fn address(clock: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + clock)
}

/// The addresses of names, in order.
fn ask(server: SocketAddr, names: &[String]) -> Vec<Option<Ipv4Addr>> {
    let socket = client(server);
    let mut answers = Vec::new();
    for window in names.chunks(WINDOW) {
        for (id, name) in window.iter().enumerate() {
            socket.send(&query(id as u16, name)).expect("sent");
        }
        let mut of_window = vec![None; window.len()];
        for _ in window {
            let (id, answer) = receive(&socket);
            of_window[usize::from(id)] = Some(answer);
        }
        answers.extend(of_window.into_iter().map(|answer| answer.expect("each has its reply")));
    }
    answers
}

fn receive(socket: &UdpSocket) -> (u16, Option<Ipv4Addr>) {
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply).expect("a reply");
    let rcode = reply[3] & 15;
    assert!(rcode == 0 || rcode == 3, "rcode {rcode}");
    let answer = (reply[7] == 1).then(|| {
        let last: [u8; 4] = reply[length - 4..length].try_into().expect("four octets");
        Ipv4Addr::from(last)
    });
    assert_eq!(answer.is_some(), rcode == 0);
    (u16::from_be_bytes([reply[0], reply[1]]), answer)
}

impl World {
    fn new(seed: u64) -> World {
        let api = ApiServer::start(&["v1"]);
        for i in 0..BULK {
            api.apply(&format!("foo/bulk{i}"), spec(&format!("bulk{i}.global"), "10.255.0.1"));
        }
        let name = |i: usize| Name {
            name: format!("n{i}.global"),
            said: [vec![(0, None)], vec![(0, None)]],
            found: 0,
            moves: false,
        };
        World {
            random: Random(seed),
            api,
            directory: tempfile::tempdir().expect("a temporary directory"),
            clock: 0,
            certain: 0,
            apart: false,
            names: (0..NAMES).map(name).collect(),
            seen: Seen::default(),
        }
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn spawn(&mut self) -> Program {
        let state = self.state();
        let state = state.to_str().expect("UTF-8");
        self.seen.starts += 1;
        spawn(&self.api, &["--state-dir", state, "--namespace", "foo,bar", "--prefer-namespace", "bar"])
    }

    fn apply(&mut self, at: usize, namespace: usize) {
        self.clock += 1;
        self.seen.changes += 1;
        let (name, now) = (&mut self.names[at], address(self.clock));
        let id = format!("{}/{}", NAMESPACES[namespace], name.name.trim_end_matches(".global"));
        self.api
            .apply(&id, json!({"hosts": [name.name], "addresses": [now.to_string()], "resolution": "DNS"}));
        name.said[namespace].push((self.clock, Some(now)));
    }

    fn delete(&mut self, at: usize, namespace: usize) {
        self.clock += 1;
        self.seen.changes += 1;
        let name = &mut self.names[at];
        self.api.delete(&format!("{}/{}", NAMESPACES[namespace], name.name.trim_end_matches(".global")));
        name.said[namespace].push((self.clock, None));
    }

    /// Some name comes, changes, goes or begins to move.
    fn change(&mut self) {
        let at = self.random.below(self.names.len());
        let here = [0, 1].map(|namespace| self.names[at].says(namespace, self.clock).is_some());
        match (here, self.random.below(4)) {
            _ if self.names[at].moves => {}
            ([true, _], 1) => {
                self.apply(at, 1);
                self.names[at].moves = true;
                self.seen.moves += 1;
            }
            ([true, _], 0) => self.delete(at, 0),
            ([true, _], _) => self.apply(at, 0),
            ([_, true], 0) => self.delete(at, 1),
            ([_, true], _) => self.apply(at, 1),
            _ => self.apply(at, at % 2),
        }
    }

    /// What moves and is answered from where it goes is taken away from where it was.
    fn finish_moves(&mut self, server: SocketAddr) {
        let moving: Vec<usize> = (0..self.names.len()).filter(|at| self.names[*at].moves).collect();
        let names: Vec<String> = moving.iter().map(|at| self.names[*at].name.clone()).collect();
        for (at, answer) in moving.into_iter().zip(ask(server, &names)) {
            if answer == self.names[at].says(1, self.clock) {
                self.delete(at, 0);
                self.names[at].moves = false;
            }
        }
    }

    /// Applies a mark to each namespace: when it is answered, so is everything before it.
    fn mark(&mut self) -> u32 {
        self.clock += 1;
        for namespace in NAMESPACES {
            let hosts = [format!("mark-{namespace}.global")];
            let addresses = [address(self.clock).to_string()];
            self.api.apply(&format!("{namespace}/mark"), json!({"hosts": hosts, "addresses": addresses}));
        }
        self.clock
    }

    /// The last mark that both namespaces answer.
    fn marked(&self, server: SocketAddr) -> u32 {
        let answers = ask(server, &NAMESPACES.map(|namespace| format!("mark-{namespace}.global")));
        let clock = |answer: Option<Ipv4Addr>| answer.map_or(0, |at| u32::from(at) - 0x0a00_0000);
        answers.into_iter().map(clock).min().unwrap_or_default()
    }

    /// Holds what is answered without an API server against what may be.
    fn check(&mut self, server: SocketAddr, what: &str) {
        let names: Vec<String> = self.names.iter().map(|name| name.name.clone()).collect();
        for (name, answer) in self.names.iter_mut().zip(ask(server, &names)) {
            let floor = if self.apart { self.certain } else { self.certain.max(name.found) };
            let times = name.since(floor);
            let right = match self.apart {
                true => times.iter().find(|old| times.iter().any(|other| name.at(**old, *other) == answer)),
                false => times.iter().find(|at| name.at(**at, **at) == answer),
            };
            let Some(at) = right else {
                panic!(
                    "{what}: {answer:?} is answered, all up to {} is saved, apart: {}, of {name:?}",
                    self.certain, self.apart
                );
            };
            // Nothing older may follow.
            name.found = if self.apart { 0 } else { *at };
            self.seen.checks += 1;
        }
        let bulk: Vec<String> = (0..BULK).map(|i| format!("bulk{i}.global")).collect();
        let lost = ask(server, &bulk).iter().filter(|answer| answer.is_none()).count();
        assert_eq!(lost, 0, "{what}: names that never changed");
    }

    /// Changes names until it is time; `is_time` is told how often something has become certain.
    fn drive(&mut self, program: &Program, mut is_time: impl FnMut(&Path, &mut Random, usize) -> bool) {
        let server = program.dns();
        // A mark that was answered, and how many saves there were then.
        let mut pending: Option<(u32, [f64; 2])> = None;
        let before = self.seen.certain;
        loop {
            for _ in 0..1 + self.random.below(8) {
                self.change();
            }
            self.finish_moves(server);
            self.mark();
            // In this order: what is marked was in the index when the saves were counted.
            let marked = self.marked(server);
            let now = NAMESPACES.map(|namespace| saves(program, namespace));
            self.apart &= now.contains(&0.0);
            match pending {
                None => pending = Some((marked, now)),
                Some((mark, then)) => {
                    if now.iter().zip(then).all(|(now, then)| *now >= then + 2.0) {
                        (self.certain, pending) = (self.certain.max(mark), None);
                        self.seen.certain += 1;
                    }
                }
            }
            let state = self.state();
            let pause = Instant::now();
            while pause.elapsed() < Duration::from_millis(20) {
                if is_time(&state, &mut self.random, self.seen.certain - before) {
                    return;
                }
                std::thread::park_timeout(Duration::from_micros(200));
            }
        }
    }

    /// From a start without an API server to a kill with one.
    fn round(&mut self, what: &str) {
        self.seen.rounds += 1;
        self.api.set_fault(Fault::Status(500));
        if self.random.below(4) == 0 {
            // Killed in the start: before, while or after saved state is read, which is two seconds after it.
            let moment = Duration::from_millis(self.random.below(2600) as u64);
            let (begun, program) = (Instant::now(), self.spawn());
            while begun.elapsed() < moment {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            drop(program);
        }
        let mut program = self.spawn();
        program.ready();
        self.check(program.dns(), what);
        for _ in 0..self.random.below(10) {
            self.change();
        }
        self.live(&program);
        let (begun, moment) = (Instant::now(), Duration::from_millis(self.random.below(3000) as u64));
        match self.random.below(3) {
            0 => self.drive(&program, |_, _, _| begun.elapsed() >= moment),
            // As soon as something is certain.
            1 => self.drive(&program, |_, _, certain| certain > 0),
            _ => self.drive(&program, |state, random, _| {
                // While something is written, or a moment later.
                let found = begun.elapsed() >= moment && unfinished(state).is_some();
                let later = Instant::now();
                let wait = Duration::from_micros(random.below(if found { 4000 } else { 1 }) as u64);
                while found && later.elapsed() < wait {
                    std::hint::spin_loop();
                }
                found || begun.elapsed() > moment + DEADLINE
            }),
        }
        // SIGKILL.
        drop(program);
        self.seen.apart += usize::from(self.apart);
        match unfinished(&self.state()) {
            Some(true) => self.seen.in_a_commit += 1,
            Some(false) => self.seen.in_a_save += 1,
            None => {}
        }
    }

    /// The API server is back, and what it says is answered.
    fn live(&mut self, program: &Program) {
        self.apart = true;
        self.api.set_fault(Fault::None);
        let mark = self.mark();
        wait_until("the API server to be heard", || (self.marked(program.dns()) >= mark).then_some(()));
    }
}

fn saves(program: &Program, namespace: &str) -> f64 {
    let line = format!("globaldns_state_saves_total{{source=\"kubernetes/{namespace}\",result=\"success\"}}");
    metric(program, &line).unwrap_or_default()
}

/// Whether something unfinished is in a directory, and whether it is a commit.
fn unfinished(state: &Path) -> Option<bool> {
    let names: Vec<_> =
        std::fs::read_dir(state).ok()?.filter_map(|file| Some(file.ok()?.file_name())).collect();
    let ends = |ending: &str| names.iter().any(|name| name.to_string_lossy().ends_with(ending));
    (ends(".new") || ends(".commit")).then(|| ends(".commit"))
}

fn rounds(seed: u64, rounds: usize) -> Seen {
    let mut world = World::new(seed);
    // The first start has an API server, and its first save is waited for.
    let mut program = world.spawn();
    program.ready();
    world.live(&program);
    let settled = |_: &Path, _: &mut Random, _| NAMESPACES.iter().all(|of| saves(&program, of) >= 3.0);
    world.drive(&program, settled);
    drop(program);
    for round in 0..rounds {
        world.round(&format!("seed {seed}, round {round}"));
    }
    world.seen
}

/// [L6]
#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_saved_and_brings_back_nothing_that_was_deleted() {
    std::thread::scope(|scope| {
        let worlds = [1, 2].map(|seed| scope.spawn(move || rounds(seed, 5)));
        worlds.into_iter().for_each(|world| println!("{:?}", world.join().expect("no round fails")));
    });
}

/// [L6] The same many times.
#[test]
#[ignore = "takes minutes: tests/kill/run [ROUNDS] [SEED]"]
fn many_kills_lose_nothing() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
    };
    let (count, seed) = (number("KILL_ROUNDS", 200) as usize, number("KILL_SEED", 1));
    // Most of a round is waiting.
    let worlds = 4.min(count);
    std::thread::scope(|scope| {
        let share = |world: usize| count / worlds + usize::from(world < count % worlds);
        let all: Vec<_> = (0..worlds)
            .map(|world| scope.spawn(move || rounds(seed * 1000 + world as u64, share(world))))
            .collect();
        all.into_iter().for_each(|world| println!("{:?}", world.join().expect("no round fails")));
    });
}
