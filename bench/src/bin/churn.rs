//! A server whose ServiceEntries change while it answers (L7).
//!
//! The worker and the thread that changes share one core, the worst case for the worker; a load generator
//! on another core is disturbed by neither. Changes go through the index, as the control plane's do. Standard input drives it: each line `apply SECONDS` makes changes for so long, evenly spaced, and
//! prints one line of JSON when it begins and one when it has ended; the end of the input ends the program.
//!
//! The events are made before: what a real one costs until it is JSON in memory is the API server's and the connection's
//! matter, and making ours costs more than the change itself. `withhold SECONDS` does everything but change: it wakes up
//! for each event, asks for the host and checks the answer. What disturbs the worker then is the benchmark, not a change.

use std::io::BufRead;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use globaldns_bench::fixture::{Fixture, REPLY, query};
use globaldns_bench::names;
use globaldns_bench::random::Random;
use hdrhistogram::Histogram;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// A server whose ServiceEntries change while it answers.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// How many hosts.
    #[arg(long, default_value_t = 100_000)]
    hosts: u32,
    /// Changes per second.
    #[arg(long, default_value_t = 1000)]
    changes: u32,
    /// The core of the worker and of the thread that changes.
    #[arg(long)]
    core: Option<usize>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let fixture = Fixture::with_hosts(arguments.hosts);
    if let Some(core) = arguments.core {
        let mut one = CpuSet::new();
        one.set(core).with_context(|| format!("core {core}"))?;
        sched_setaffinity(Pid::from_raw(0), &one).with_context(|| format!("core {core}"))?;
    }
    // Threads inherit their core.
    let address = fixture.serve_udp(arguments.listen)?;
    println!("{}", serde_json::json!({"serving": address.to_string()}));
    let mut changer = Changer { fixture, hosts: arguments.hosts, random: Random::new(1), moved: Vec::new() };
    changer.moved.resize(arguments.hosts as usize, false);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (what, seconds) =
            line.split_once(' ').context("expected what to do, and for how many seconds")?;
        let applied = match what {
            "apply" => true,
            "withhold" => false,
            _ => bail!("expected apply or withhold, not {what}"),
        };
        let seconds = seconds.parse().context("expected a number of seconds")?;
        let duration = Duration::try_from_secs_f64(seconds)?;
        let events = changer.events(arguments.changes, duration, applied);
        println!("{}", serde_json::json!({"events": events.len()}));
        println!("{}", changer.change(events, arguments.changes, applied)?);
    }
    Ok(())
}

struct Changer {
    fixture: Fixture,
    hosts: u32,
    random: Random,
    /// Hosts that have their other address now.
    moved: Vec<bool>,
}

/// A host moves to its other address, or would.
struct Event {
    object: serde_json::Value,
    /// Asks for the host, and what it is answered with after the event.
    message: Vec<u8>,
    address: Ipv4Addr,
}

impl Changer {
    /// Moves of hosts picked at random.
    fn events(&mut self, per_second: u32, duration: Duration, applied: bool) -> Vec<Event> {
        let count = (f64::from(per_second) * duration.as_secs_f64()) as u32;
        let event = |_| {
            let number = self.random.below(self.hosts as usize) as u32;
            let moved = &mut self.moved[number as usize];
            let addresses = [names::address(number), names::changed_address(number)];
            let other = addresses[usize::from(!*moved)];
            let address = if applied { other } else { addresses[usize::from(*moved)] };
            *moved ^= applied;
            let message = query(&names::host(number), 1);
            Event { object: names::service_entry(number, other), message, address }
        };
        (0..count).map(event).collect()
    }

    /// Lets events happen, and asks for each host at once.
    fn change(&mut self, events: Vec<Event>, per_second: u32, applied: bool) -> Result<serde_json::Value> {
        let mut visible = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
        let mut reply = [0; REPLY];
        let begun = Instant::now();
        let changes = events.len();
        let mut late = Duration::ZERO;
        for (event, number) in events.into_iter().zip(0u32..) {
            let due = Duration::from_secs_f64(f64::from(number) / f64::from(per_second));
            match due.checked_sub(begun.elapsed()) {
                Some(early) => std::thread::sleep(early),
                None => late = late.max(begun.elapsed() - due),
            }
            let arrived = Instant::now();
            if applied {
                self.fixture.apply(self.fixture.read(&event.object));
            }
            let answered = self.fixture.respond(&event.message, &mut reply);
            let taken = arrived.elapsed();
            if !answered.windows(4).any(|octets| octets == event.address.octets()) {
                bail!("a host is not answered with {} after its event", event.address);
            }
            visible.saturating_record(taken.as_nanos() as u64);
        }
        let micros = |nanos: u64| nanos as f64 / 1e3;
        Ok(serde_json::json!({
            "changes": changes,
            "seconds": begun.elapsed().as_secs_f64(),
            "visible_p50": micros(visible.value_at_quantile(0.5)),
            "visible_p99": micros(visible.value_at_quantile(0.99)),
            "visible_p999": micros(visible.value_at_quantile(0.999)),
            "visible_max": micros(visible.max()),
            "over_1_ms": visible.count_between(1_000_000, 60_000_000_000),
            "behind_max": late.as_secs_f64() * 1e6,
        }))
    }
}
