//! L7: how long a changed ServiceEntry takes to be answered, with 100,000 hosts in the table.
//!
//! One thread applies changes to the index; another asks the responder for the changed host without a pause.
//! Printed are the times from the arrival of the event (the call of `Index::apply`) to the first reply with
//! the new address; first alone, then while a third thread looks for findings once a second, as the program does.
//! Two of the threads never pause, so with fewer than three cores the second run's tail shows the scheduler's time
//! slices (milliseconds) as well. Run with `cargo bench -p globaldns-bench --bench update`.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use globaldns_bench::fixture::{Fixture, REPLY};
use globaldns_bench::names;
use globaldns_bench::question::{Style, message};

const HOSTS: u32 = 100_000;
const CHANGES: u32 = 20_000;

fn main() {
    let loading = Instant::now();
    let fixture = Fixture::with_hosts(HOSTS);
    println!("{HOSTS} hosts loaded in {:.2} s", loading.elapsed().as_secs_f64());

    for (what, findings) in [("alone", false), ("beside a search for findings", true)] {
        println!("{what}: {}", measure(&fixture, findings));
    }
}

fn measure(fixture: &Fixture, findings: bool) -> String {
    let begun = Instant::now();
    // The change under way: host and address, and when its event arrived and was answered (ns).
    let (host, address) = (AtomicU32::new(u32::MAX), AtomicU32::new(0));
    let (arrived, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    let nanos = || begun.elapsed().as_nanos() as u64;
    let number = |change: u32| change * 4 % HOSTS;
    let offset = 0xf100_0000 + if findings { CHANGES } else { 0 };
    let mut taken = Vec::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // What the program does beside: findings are looked for once a second while anything changes.
        scope.spawn(|| {
            while findings && !done.load(Ordering::Relaxed) {
                std::hint::black_box(fixture.index.findings());
                std::thread::park_timeout(Duration::from_secs(1));
            }
        });
        scope.spawn(|| {
            // Without EDNS, so that the address ends the reply.
            let style = Style { edns: None, dnssec_ok: false };
            let mut out = [0; REPLY];
            for change in 0..CHANGES {
                while host.load(Ordering::Acquire) != change {
                    std::hint::spin_loop();
                }
                let query = message(&names::host(number(change)), 1, style).expect("a name");
                let wanted = address.load(Ordering::Acquire).to_be_bytes();
                while !fixture.respond(&query, &mut out).ends_with(&wanted) {}
                answered.store(nanos(), Ordering::Release);
            }
        });
        for change in 0..CHANGES {
            let new = fixture.entry(number(change), Ipv4Addr::from(offset + change));
            answered.store(0, Ordering::Release);
            address.store(offset + change, Ordering::Release);
            host.store(change, Ordering::Release);
            arrived.store(nanos(), Ordering::Release);
            fixture.apply(new);
            let at = loop {
                match answered.load(Ordering::Acquire) {
                    0 => std::hint::spin_loop(),
                    at => break at,
                }
            };
            taken.push(at.saturating_sub(arrived.load(Ordering::Acquire)));
        }
        done.store(true, Ordering::Relaxed);
    });
    taken.sort_unstable();
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    format!(
        "{CHANGES} changes, event to answer: p50 {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs, max {:.1} µs",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    )
}
