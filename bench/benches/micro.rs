//! The steps of a query and of a change, one by one. `cargo bench -p globaldns-bench --bench micro`.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use globaldns_bench::fixture::{Fixture, REPLY, parse, query};
use globaldns_bench::names;

const HOSTS: u32 = 10_000;
const MANY: u32 = 100_000;

fn queries(criterion: &mut Criterion) {
    let fixture = Fixture::with_hosts(HOSTS);
    fixture.apply(fixture.read(&serde_json::json!({
        "metadata": {"namespace": "ns-00", "name": "wildcard"},
        "spec": {"hosts": ["*.wildcard.ns-00.global"], "addresses": ["240.200.0.1"], "resolution": "NONE"},
    })));
    let host = names::host(4711);
    criterion.bench_function("parse a query", |bencher| {
        let message = query(&host, 1);
        bencher.iter(|| parse(&message));
    });
    let cases = [
        ("reply: A", host.as_str(), 1),
        ("reply: NODATA", host.as_str(), 28),
        ("reply: NXDOMAIN", "gone-004711.ns-11.global", 1),
        ("reply: A by a wildcard", "a.b.wildcard.ns-00.global", 1),
        ("reply: REFUSED", "www.example.com", 1),
    ];
    for (what, name, qtype) in cases {
        let message = query(name, qtype);
        let mut out = [0; REPLY];
        criterion.bench_function(what, |bencher| {
            bencher.iter(|| black_box(fixture.respond(black_box(&message), &mut out)).len());
        });
    }
}

fn changes(criterion: &mut Criterion) {
    let fixture = Fixture::with_hosts(HOSTS);
    let mut number = 0;
    criterion.bench_function("apply one entry that moves a host", |bencher| {
        bencher.iter_batched(
            || {
                number += 1;
                let host = number % HOSTS;
                let moved = (number / HOSTS).is_multiple_of(2);
                let address = if moved { names::changed_address(host) } else { names::address(host) };
                fixture.entry(host, address)
            },
            |entry| fixture.apply(entry),
            BatchSize::SmallInput,
        );
    });
    let mut load = criterion.benchmark_group("100,000 entries");
    load.sample_size(10);
    load.bench_function("load", |bencher| {
        bencher.iter_batched(
            || {
                let fixture = Fixture::empty();
                let entries = fixture.entries(MANY);
                (fixture, entries)
            },
            |(fixture, entries)| {
                fixture.reset(entries);
                fixture
            },
            BatchSize::PerIteration,
        );
    });
    load.finish();
}

criterion_group!(benches, queries, changes);
criterion_main!(benches);
