//! The load generator: sends queries, checks every reply, prints what came of it.
//!
//! Exit codes: 0 every query got its one right reply; 1 not so; 2 bad usage.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use globaldns_bench::question::{Check, Questions, Style};
use globaldns_bench::{load, malformed};

/// Sends queries, checks every reply, prints what came of it.
#[derive(Parser)]
struct Arguments {
    /// Address and port of the server, `[::1]:53` for IPv6; repeatable, the sockets take them in turn.
    #[arg(long, required = true)]
    target: Vec<SocketAddr>,
    /// Queries, one line each: name, type, expected reply (an address, two with `|` between, NODATA, NXDOMAIN, REFUSED).
    #[arg(long)]
    queries: PathBuf,
    /// Sockets, each with a port of its own.
    #[arg(long, default_value_t = 16)]
    sockets: usize,
    /// Queries in flight per socket.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Queries per second (open loop); without, as fast as they are answered (closed loop).
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds to send before measuring.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds after which a query counts as lost.
    #[arg(long, default_value_t = 1.0)]
    timeout: f64,
    /// Send every query once, then end.
    #[arg(long, conflicts_with = "rate")]
    once: bool,
    /// UDP payload size of the queries' EDNS; 0 for no EDNS.
    #[arg(long, default_value_t = 1232)]
    edns: u16,
    /// Set DNSSEC OK in the queries' EDNS.
    #[arg(long)]
    dnssec_ok: bool,
    /// Check only that replies echo their question, for a responder without names.
    #[arg(long)]
    echo_only: bool,
    /// Send so many malformed datagrams, with good queries between that must be answered.
    #[arg(long, conflicts_with_all = ["rate", "once", "echo_only"])]
    malformed: Option<u64>,
    /// Malformed datagrams between two good queries.
    #[arg(long, default_value_t = 63)]
    between: usize,
    /// Order of the queries, and what malformed datagrams look like.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A process of the server, for its processor time and memory; repeatable.
    #[arg(long)]
    pid: Vec<u32>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let path = &arguments.queries;
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let edns = (arguments.edns > 0).then_some(arguments.edns);
    let style = Style { edns, dnssec_ok: arguments.dnssec_ok };
    let questions = Questions::read(&text, style, arguments.seed)?;
    drop(text);
    let (good, line, json) = match arguments.malformed {
        Some(count) => {
            let report = malformed::run(&questions, &malformed_options(arguments, count)?)?;
            (report.is_good(), report.line(), report.json())
        }
        None => {
            let report = load::run(&questions, &load_options(arguments)?)?;
            (report.faults.is_empty(), report.line(), report.json())
        }
    };
    if arguments.json {
        println!("{json}");
    } else {
        println!("{line}");
    }
    Ok(good)
}

fn load_options(arguments: &Arguments) -> Result<load::Options> {
    Ok(load::Options {
        targets: arguments.target.clone(),
        sockets: arguments.sockets,
        in_flight: arguments.in_flight,
        warm_up: seconds("--warm-up", arguments.warm_up)?,
        duration: seconds("--seconds", arguments.seconds)?,
        rate: arguments.rate,
        timeout: seconds("--timeout", arguments.timeout)?,
        once: arguments.once,
        check: if arguments.echo_only { Check::Echo } else { Check::Whole },
        pids: arguments.pid.clone(),
    })
}

fn malformed_options(arguments: &Arguments, count: u64) -> Result<malformed::Options> {
    let [target] = arguments.target[..] else { bail!("--malformed takes one --target") };
    if arguments.between == 0 {
        bail!("--between must be at least 1");
    }
    Ok(malformed::Options {
        target,
        count,
        between: arguments.between,
        in_flight: 4,
        timeout: seconds("--timeout", arguments.timeout)?,
        seed: arguments.seed,
        pids: arguments.pid.clone(),
    })
}

fn seconds(flag: &str, value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value).with_context(|| format!("{flag} {value}"))
}
