//! A server whose ServiceEntries change while it answers (L7).
//!
//! The worker has a core of its own. Changes come from another thread of the same process through the index, as the
//! control plane's do. Standard input drives it: each line `SECONDS` makes changes for so long, evenly spaced, and
//! prints one line of JSON; the end of the input ends the program.

use std::io::BufRead;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use globaldns_bench::fixture::{Fixture, REPLY, query};
use globaldns_bench::names;
use globaldns_bench::random::Random;
use hdrhistogram::Histogram;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
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
    /// The worker's core. The thread that changes may run on all.
    #[arg(long)]
    core: Option<usize>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let fixture = Fixture::with_hosts(arguments.hosts);
    let everywhere = sched_getaffinity(Pid::from_raw(0))?;
    if let Some(core) = arguments.core {
        let mut one = CpuSet::new();
        one.set(core).with_context(|| format!("core {core}"))?;
        sched_setaffinity(Pid::from_raw(0), &one).with_context(|| format!("core {core}"))?;
    }
    // Threads inherit their core.
    let address = fixture.serve_udp(arguments.listen)?;
    sched_setaffinity(Pid::from_raw(0), &everywhere)?;
    println!("{}", serde_json::json!({"serving": address.to_string()}));
    let mut changer = Changer { fixture, hosts: arguments.hosts, random: Random::new(1), moved: Vec::new() };
    changer.moved.resize(arguments.hosts as usize, false);
    for line in std::io::stdin().lock().lines() {
        let seconds = line?.trim().parse().context("expected a number of seconds")?;
        println!("{}", changer.change(arguments.changes, Duration::try_from_secs_f64(seconds)?)?);
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

impl Changer {
    /// Moves hosts between their two addresses, and asks for each at once.
    fn change(&mut self, per_second: u32, duration: Duration) -> Result<serde_json::Value> {
        let mut visible = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
        let mut reply = [0; REPLY];
        let begun = Instant::now();
        let changes = (f64::from(per_second) * duration.as_secs_f64()) as u32;
        let mut late = Duration::ZERO;
        for change in 0..changes {
            let due = Duration::from_secs_f64(f64::from(change) / f64::from(per_second));
            match due.checked_sub(begun.elapsed()) {
                Some(early) => std::thread::sleep(early),
                None => late = late.max(begun.elapsed() - due),
            }
            let number = self.random.below(self.hosts as usize) as u32;
            let moved = &mut self.moved[number as usize];
            *moved = !*moved;
            let address = if *moved { names::changed_address(number) } else { names::address(number) };
            let message = query(&names::host(number), 1);
            let entry = self.fixture.entry(number, address);
            let arrived = Instant::now();
            self.fixture.apply(entry);
            let answered = self.fixture.respond(&message, &mut reply);
            let taken = arrived.elapsed();
            if !answered.windows(4).any(|octets| octets == address.octets()) {
                bail!("{} is not answered with {address} after the change", names::host(number));
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
