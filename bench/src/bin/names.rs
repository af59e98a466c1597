//! Writes the names for every server, and the queries for them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use globaldns_bench::names;

/// Writes the names for every server, and the queries for them.
#[derive(Parser)]
struct Arguments {
    /// How many hosts, one ServiceEntry each.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(names::MOST_HOSTS)))]
    hosts: u32,
    /// The directory to write into.
    #[arg(long)]
    to: PathBuf,
    /// What to write; everything by default.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = What::value_variants().to_vec())]
    write: Vec<What>,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// entries.yaml: ServiceEntries, one document each.
    Yaml,
    /// entries.json: ServiceEntries in a list.
    Json,
    /// global.zone: a zone file (RFC 1035).
    Zone,
    /// hits.queries: A queries for every host.
    Hits,
    /// mix.queries: 45 % A, 45 % AAAA of names without, 10 % of names that do not exist.
    Mix,
    /// failing.queries: the same with 10 % each of what a search path makes, and of names that are not ours.
    Failing,
    /// changing.queries: A queries for every host, whose address may have moved.
    Changing,
}

/// Writes one file's text for so many hosts.
type Writer = fn(u32, &mut BufWriter<File>) -> std::io::Result<()>;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    std::fs::create_dir_all(&arguments.to)?;
    for what in arguments.write {
        let (name, write): (_, Writer) = match what {
            What::Yaml => ("entries.yaml", names::yaml),
            What::Json => ("entries.json", names::json),
            What::Zone => ("global.zone", names::zone_file),
            What::Hits => ("hits.queries", names::hits),
            What::Mix => ("mix.queries", names::mix),
            What::Failing => ("failing.queries", names::failing),
            What::Changing => ("changing.queries", names::changing),
        };
        let path = arguments.to.join(name);
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        let mut out = BufWriter::new(file);
        write(arguments.hosts, &mut out)?;
        out.flush().with_context(|| path.display().to_string())?;
    }
    Ok(())
}
