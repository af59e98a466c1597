//! L7: how long a changed ServiceEntry takes to be answered, with 100,000 hosts in the table.
//!
//! One thread applies changes to the index; another asks the responder for the changed host without a pause.
//! Printed are the times from the arrival of the event (the call of `Index::apply`) to the first reply with
//! the new address; first alone, then while a third thread looks for findings once a second, as the program does.
//! Two of the threads never pause, so with fewer than three cores the second run's tail shows the scheduler's time
//! slices (milliseconds) as well. Run with `cargo bench --bench update`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use globaldns::entry::{Entry, Origin, Rules};
use globaldns::index::{Index, Partition, Policy};
use globaldns::metrics::Counters;
use globaldns::serve::responder::{Arrival, Outcome, Responder, Settings};
use globaldns::wire::Transport;
use globaldns::wire::name::Name;
use globaldns::zone::{Table, Zones};

const HOSTS: u32 = 100_000;
const CHANGES: u32 = 20_000;

fn entry(index: &Index, host: u32, address: u32) -> Entry {
    let object = serde_json::json!({
        "metadata": {"namespace": "bench", "name": format!("entry-{host}")},
        "spec": {"hosts": [format!("service-{host}.bench.global")],
                 "addresses": [IpAddr::from((0xf000_0000 | address).to_be_bytes()).to_string()], "resolution": "DNS"}
    });
    Entry::read(&object, Origin::Object, index.table().zones(), &Rules::default())
}

fn query(host: u32) -> Vec<u8> {
    let mut message = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in [format!("service-{host}"), "bench".to_owned(), "global".to_owned()] {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend(b"\x00\x00\x01\x00\x01");
    message
}

fn main() {
    let name = |text: &str| Name::parse(text).expect("a name");
    let zones = Zones::new(vec![name("global")], name("cluster.local"), 0).expect("a zone");
    let policy = Policy { prefer_namespaces: vec![], default_addresses: vec![], ttl: 30 };
    let index = Index::new(policy, Arc::new(Table::new(zones)), || 1);
    let loading = Instant::now();
    index.reset(
        Partition(0),
        (0..HOSTS).map(|host| index.pack(Partition(0), entry(&index, host, host))).collect(),
    );
    index.table().set_complete();
    println!("{HOSTS} hosts loaded in {:.2} s", loading.elapsed().as_secs_f64());

    for (what, findings) in [("alone", false), ("beside a search for findings", true)] {
        println!("{what}: {}", measure(&index, findings));
    }
}

fn measure(index: &Index, findings: bool) -> String {
    let settings = Settings { ttl: 30, negative_ttl: 5, rotate: true, nsid: Vec::new() };
    let responder = Responder::new(index.table().clone(), settings, Vec::new());
    let counters = Counters::new(1);
    let begun = Instant::now();
    // The change under way: host and address, and when its event arrived and was answered (ns).
    let (host, address) = (AtomicU32::new(u32::MAX), AtomicU32::new(0));
    let (arrived, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    let nanos = || begun.elapsed().as_nanos() as u64;
    let offset = HOSTS + if findings { CHANGES } else { 0 };
    let mut taken = Vec::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // What the program does beside: findings are looked for once a second while anything changes.
        scope.spawn(|| {
            while findings && !done.load(Ordering::Relaxed) {
                std::hint::black_box(index.findings());
                std::thread::park_timeout(Duration::from_secs(1));
            }
        });
        scope.spawn(|| {
            let peer = "192.0.2.1:4000".parse().expect("an address");
            let arrival = Arrival::new(Transport::Udp, peer, IpAddr::from([192, 0, 2, 53]));
            let mut out = [0; 1232];
            for change in 0..CHANGES {
                while host.load(Ordering::Acquire) != change {
                    std::hint::spin_loop();
                }
                let message = query(change * 4 % HOSTS);
                let wanted = (0xf000_0000 | address.load(Ordering::Acquire)).to_be_bytes();
                loop {
                    let Outcome::Reply(n) = responder.respond(&message, arrival, &counters, &mut out) else {
                        panic!("no reply");
                    };
                    if out[..n].ends_with(&wanted) {
                        break;
                    }
                }
                answered.store(nanos(), Ordering::Release);
            }
        });
        for change in 0..CHANGES {
            let new = entry(index, change * 4 % HOSTS, offset + change);
            answered.store(0, Ordering::Release);
            address.store(offset + change, Ordering::Release);
            host.store(change, Ordering::Release);
            arrived.store(nanos(), Ordering::Release);
            index.apply(Partition(0), new);
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
