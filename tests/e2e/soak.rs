//! An hour of everything at once: entries change, the API server and etcd are killed, clients ask over every transport
//! and send what they should not, and every answer is held against what the API server was told.
//!
//! `tests/soak/run` runs it for an hour; among the other tests it takes a minute. Nine tenths of the time one process
//! has to live through, which is then held to its memory, descriptors and threads; in the last tenth it is ended
//! and killed, with the API server there and away.

mod changes;
mod clients;
mod model;
mod question;
mod samples;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use serde_json::json;

use crate::cluster::Cluster;
use crate::control_plane::{ControlPlane, free_port};
use crate::credentials::User;
use crate::process::fresh_directory;
use crate::program::Program;
use crate::random::Random;
use crate::wait::{DEADLINE, poll};
use clients::Pace;
use model::Model;
use question::{Asked, ZONES};
use samples::Samples;

/// The most faults that are printed.
const FAULTS: usize = 50;

/// What all threads share.
struct Shared {
    dns: SocketAddr,
    grpc: SocketAddr,
    admin: SocketAddr,
    begun: Instant,
    model: Mutex<Model>,
    faults: Mutex<Vec<String>>,
    counts: Counts,
    /// No more changes; and then no more questions.
    quiet: AtomicBool,
    over: AtomicBool,
    /// The process to be sampled; 0 for none.
    pid: AtomicU32,
}

/// How much of everything there was.
#[derive(Debug, Default)]
struct Counts {
    /// Right replies by [`Transport`].
    right: [AtomicU64; 3],
    faults: AtomicU64,
    /// Queries that the kernel dropped, because a socket was full.
    dropped: AtomicU64,
    malformed: AtomicU64,
    malformed_replies: AtomicU64,
    rude: AtomicU64,
    changes: AtomicU64,
    /// Changes that were sent again, because what came of them was not known.
    repeated: AtomicU64,
}

#[derive(Clone, Copy)]
enum Transport {
    Udp,
    Tcp,
    Grpc,
}

impl Shared {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goes_on(&self, pace: &mut Pace) -> bool {
        pace.wait();
        !self.over.load(Ordering::SeqCst)
    }

    fn fault(&self, what: String) {
        self.counts.faults.fetch_add(1, Ordering::Relaxed);
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.len() < FAULTS {
            println!("{} FAULT {what}", self.clock());
            faults.push(what);
        }
    }

    fn check(&self, asked: &Asked, reply: &[u8], answered: Instant, transport: Transport) {
        let checked = {
            let mut model = self.model();
            let excused = model.restarting(asked.at, answered);
            asked.check(&mut model, reply, answered, excused)
        };
        match checked {
            Ok(()) => drop(self.counts.right[transport as usize].fetch_add(1, Ordering::Relaxed)),
            Err(what) => self.fault(what),
        }
    }

    fn clock(&self) -> String {
        let seconds = self.begun.elapsed().as_secs();
        format!("{:02}:{:02}", seconds / 60, seconds % 60)
    }
}

/// [L2] [L3] [L5] [L6] [D1] [D2] [D3] [D4] [D9] [D14] [G1] [O2] [L8]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn an_answer_is_right_whatever_goes_on_and_nothing_grows() {
    let minutes = std::env::var("GLOBALDNS_SOAK_MINUTES").map_or(1.0, |text| text.parse().expect("minutes"));
    let length = Duration::from_secs_f64(60.0 * minutes);
    let mut random = Random::new(1);
    let mut plane = ControlPlane::start();
    let mut model = Model::default();
    changes::populate(&mut model, &mut random);
    changes::create_all(&mut model, &plane.cluster);
    model.settle();

    let loopback = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let shared = Shared {
        dns: loopback(free_port()),
        grpc: loopback(free_port()),
        admin: loopback(free_port()),
        begun: Instant::now(),
        model: Mutex::new(model),
        faults: Mutex::default(),
        counts: Counts::default(),
        quiet: AtomicBool::default(),
        over: AtomicBool::default(),
        pid: AtomicU32::default(),
    };
    let programs = Programs::new(&shared, &plane);
    let program = programs.start();
    program.wait_until_ready();
    shared.pid.store(program.id(), Ordering::SeqCst);
    // Its own connection: the other is busy with asking whether the API server is back.
    let cluster = Cluster::connect(&plane.kubeconfig(User::Admin));

    std::thread::scope(|scope| {
        // Also when this thread panics, or the scope would wait for the others for ever.
        let _end = End(&shared);
        for seed in [2, 3] {
            let shared = &shared;
            scope.spawn(move || clients::udp(shared, Random::new(seed)));
        }
        scope.spawn(|| clients::tcp(&shared, Random::new(4)));
        scope.spawn(|| clients::grpc(&shared, Random::new(5)));
        scope.spawn(|| clients::malformed(&shared, Random::new(6)));
        scope.spawn(|| clients::rude(&shared, Random::new(7)));
        let change = |seed| {
            shared.quiet.store(false, Ordering::SeqCst);
            let (shared, cluster) = (&shared, &cluster);
            scope.spawn(move || changes::make(shared, cluster, Random::new(seed)))
        };
        let changes = change(8);
        let samples = scope.spawn(|| Samples::take(&shared, length));

        let program = steady(&shared, &mut plane, program, length.mul_f64(0.9));
        let steady_for = shared.begun.elapsed();
        shared.pid.store(0, Ordering::SeqCst);
        // Before a restart, which mends whatever was missed.
        shared.quiet.store(true, Ordering::SeqCst);
        changes.join().expect("the changes do not panic");
        all_is_as_it_was_told(&shared, &program, &plane);

        let changes = change(9);
        let (mut program, restarts) = restarts(&shared, &mut plane, &programs, program, length);

        shared.quiet.store(true, Ordering::SeqCst);
        changes.join().expect("the changes do not panic");
        all_is_as_it_was_told(&shared, &program, &plane);
        shared.over.store(true, Ordering::SeqCst);
        let samples = samples.join().expect("the samples do not panic");
        program.assert_running();
        verdict(&shared, &samples.until(steady_for), restarts);
    });
}

struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.quiet.store(true, Ordering::SeqCst);
        self.0.over.store(true, Ordering::SeqCst);
    }
}

/// The program, again and again on the same ports with the same state.
struct Programs {
    listen: [String; 2],
    arguments: Vec<String>,
    kubeconfig: PathBuf,
}

impl Programs {
    fn new(shared: &Shared, plane: &ControlPlane) -> Self {
        let state = fresh_directory("soak-state");
        let state = state.to_str().expect("UTF-8");
        let grpc = shared.grpc.to_string();
        let arguments =
            ["--grpc-listen", &grpc, "--state-dir", state, "--zone", ZONES[0], "--zone", ZONES[1]];
        Self {
            listen: [shared.dns.to_string(), shared.admin.to_string()],
            arguments: arguments.map(str::to_owned).to_vec(),
            kubeconfig: plane.kubeconfig(User::Globaldns),
        }
    }

    fn start(&self) -> Program {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        Program::start_at([&self.listen[0], &self.listen[1]], &arguments, &self.kubeconfig)
    }
}

/// One process lives through outages until `end`.
fn steady(shared: &Shared, plane: &mut ControlPlane, mut program: Program, end: Duration) -> Program {
    let every = (end / 6).min(Duration::from_secs(180));
    for number in 1.. {
        let next = (every * number).min(end);
        pass_until(shared, &mut program, next);
        // An outage must be over, and caught up with, before the end.
        if next + every / 2 > end {
            pass_until(shared, &mut program, end);
            return program;
        }
        let length = every / 6;
        shared.model().outage_begins();
        let what = match number % 4 {
            1 => {
                plane.stop_api_server();
                pass(shared, &mut program, length);
                plane.start_api_server();
                "the API server was away"
            }
            2 => {
                plane.stop_etcd();
                pass(shared, &mut program, length);
                plane.start_etcd();
                "etcd was away"
            }
            3 => {
                plane.expire_watches();
                "the API server was restarted and had forgotten the past"
            }
            _ => {
                plane.stop_api_server();
                plane.stop_etcd();
                plane.start_etcd();
                "both were restarted"
            }
        };
        shared.model().outage_ends();
        println!("{} {what}", shared.clock());
    }
    unreachable!("numbers do not end")
}

/// The program ends and comes back, until `end` and at least once in every way.
fn restarts(
    shared: &Shared,
    plane: &mut ControlPlane,
    programs: &Programs,
    mut program: Program,
    end: Duration,
) -> (Program, usize) {
    let ways = [(false, false), (true, true), (false, true), (true, false)];
    let pause = (end.saturating_sub(shared.begun.elapsed()) / 24).max(Duration::from_secs(2));
    for (number, (killed, away)) in ways.iter().cycle().enumerate() {
        if number >= ways.len() && shared.begun.elapsed() >= end {
            return (program, number);
        }
        if *away {
            shared.model().outage_begins();
            plane.stop_api_server();
            // What came last is on disk within a second (L6), or as fast as the disk is.
            pass(shared, &mut program, pause + Duration::from_secs(5));
        }
        shared.model().restart_begins();
        if *killed {
            program.kill()
        } else {
            program.terminate()
        }
        program = programs.start();
        program.wait_until_ready();
        shared.model().restart_ends();
        pass(shared, &mut program, pause);
        if *away {
            plane.start_api_server();
            shared.model().outage_ends();
            pass(shared, &mut program, pause);
        }
        let how = if *killed { "killed" } else { "ended" };
        let with = if *away { "away" } else { "there" };
        println!("{} it was {how} with the API server {with}, and is back", shared.clock());
    }
    unreachable!("the ways are repeated")
}

fn pass(shared: &Shared, program: &mut Program, time: Duration) {
    pass_until(shared, program, shared.begun.elapsed() + time);
}

/// Lets time pass, which is what this test is about.
fn pass_until(shared: &Shared, program: &mut Program, end: Duration) {
    while shared.begun.elapsed() < end {
        program.assert_running();
        std::thread::sleep(Duration::from_millis(100).min(end.saturating_sub(shared.begun.elapsed())));
    }
}

/// When nothing changes any more, every host has its last answer, and a program that begins now has the same.
fn all_is_as_it_was_told(shared: &Shared, program: &Program, plane: &ControlPlane) {
    let twin =
        Program::start_ready(&["--zone", ZONES[0], "--zone", ZONES[1]], &plane.kubeconfig(User::Globaldns));
    for zone in ZONES {
        let hash = |program: &Program| program.metric("globaldns_zone_answers_hash", &[("zone", zone)]);
        if poll(DEADLINE, || (hash(program) == hash(&twin)).then_some(())).is_none() {
            shared.fault(format!("in {zone} a program that begins now has other answers"));
        }
    }
    let mut random = Random::new(10);
    let resolver = program.resolver();
    let hosts = shared.model().hosts.len();
    for host in 0..hosts {
        for record_type in [RecordType::A, RecordType::AAAA] {
            let id = host as u16;
            let asked = Asked::of_host(&shared.model(), host, record_type, &mut random, id);
            let reply = resolver.exchange(&asked.octets).expect("a reply");
            if let Err(what) = asked.check_last(&shared.model(), &reply) {
                shared.fault(what);
            }
        }
    }
}

fn verdict(shared: &Shared, samples: &Samples, restarts: usize) {
    let model = shared.model();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counts = &shared.counts;
    let grown = samples.growth();
    let summary = json!({
        "minutes": shared.begun.elapsed().as_secs_f64() / 60.0,
        "right_udp": count(&counts.right[Transport::Udp as usize]),
        "right_tcp": count(&counts.right[Transport::Tcp as usize]),
        "right_grpc": count(&counts.right[Transport::Grpc as usize]),
        "faults": count(&counts.faults),
        "dropped": count(&counts.dropped),
        "malformed": count(&counts.malformed),
        "malformed_replies": count(&counts.malformed_replies),
        "rude_connections": count(&counts.rude),
        "changes": count(&counts.changes),
        "repeated": count(&counts.repeated),
        "outages": model.outages(),
        "restarts": restarts,
        "stalest_s": model.stalest.as_secs_f64(),
        "stalest_after_absence_s": model.stalest_after_absence.as_secs_f64(),
        "growth": grown.iter().map(samples::Growth::json).collect::<Vec<_>>(),
    });
    samples::record(&json!({ "summary": summary }));
    println!("{summary:#}");
    let mut complaints = shared.faults.lock().unwrap_or_else(PoisonError::into_inner).clone();
    complaints.extend(grown.iter().filter(|one| !one.is_flat()).map(|one| format!("it grows: {one:?}")));
    // Everything was really done.
    for what in [
        "right_udp",
        "right_tcp",
        "right_grpc",
        "changes",
        "malformed_replies",
        "rude_connections",
        "outages",
    ] {
        if summary[what] == 0 {
            complaints.push(format!("there were no {what}"));
        }
    }
    assert!(complaints.is_empty(), "{} faults, of which {complaints:#?}", count(&counts.faults));
}
