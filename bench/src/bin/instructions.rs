//! One step, a fixed number of times, for counting its instructions. `bench/instructions/run` says how.

use std::hint::black_box;

use anyhow::{Result, bail};
use globaldns_bench::fixture::{Fixture, REPLY, parse, query};
use globaldns_bench::names;

const HOSTS: u32 = 1000;
const MOST_LOADED: u32 = 5000;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [case, times] = &words[..] else { bail!("usage: instructions CASE TIMES") };
    let times: u32 = times.parse()?;
    match case.as_str() {
        "parse" => repeat(times, parse, |number| query(&names::host(number), 1)),
        "reply-a" => reply(times, |number| query(&names::host(number), 1)),
        "reply-nodata" => reply(times, |number| query(&names::host(number), 28)),
        "reply-nxdomain" => reply(times, |number| query(&format!("gone-{number:06}.ns-00.global"), 1)),
        "reply-refused" => reply(times, |number| query(&format!("svc-{number:06}.example.com"), 1)),
        "change" => change(times),
        "load" => load(times)?,
        _ => bail!("unknown case {case}"),
    }
    Ok(())
}

/// Does a step `times`, over the messages of a hundred hosts in turn.
fn repeat(times: u32, mut step: impl FnMut(&[u8]), message: impl Fn(u32) -> Vec<u8>) {
    let messages: Vec<Vec<u8>> = (0..100).map(message).collect();
    for number in 0..times as usize {
        step(&messages[number % messages.len()]);
    }
}

fn reply(times: u32, message: impl Fn(u32) -> Vec<u8>) {
    let fixture = Fixture::with_hosts(HOSTS);
    let mut out = [0; REPLY];
    let step = |message: &[u8]| {
        black_box(fixture.respond(black_box(message), &mut out).len());
    };
    repeat(times, step, message);
}

/// An event of a watch, from its JSON to the table: a host moves from one of its addresses to the other.
fn change(times: u32) {
    let fixture = Fixture::with_hosts(HOSTS);
    let moved = (0..HOSTS).map(|number| names::service_entry(number, names::changed_address(number)));
    let back = (0..HOSTS).map(|number| names::service_entry(number, names::address(number)));
    let objects: Vec<_> = moved.chain(back).collect();
    for number in 0..times as usize {
        fixture.apply(fixture.read(&objects[number % objects.len()]));
    }
}

/// A complete list, from its JSON to the table.
fn load(times: u32) -> Result<()> {
    // As many whatever `times` is, so that making them does not count.
    let objects: Vec<_> =
        (0..MOST_LOADED).map(|number| names::service_entry(number, names::address(number))).collect();
    let Some(objects) = objects.get(..times as usize) else {
        bail!("at most {MOST_LOADED} entries are loaded")
    };
    let fixture = Fixture::empty();
    fixture.reset(objects.iter().map(|object| fixture.pack(fixture.read(object))).collect());
    // What goes at the end is no part of it.
    std::mem::forget(fixture);
    Ok(())
}
