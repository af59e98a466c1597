//! What `/proc` knows of a server.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, Result};

/// Clock ticks per second in `/proc/PID/stat`: 100 on every Linux there is (`sysconf(_SC_CLK_TCK)`).
const TICKS: f64 = 100.0;

/// Processor time of some processes, all their threads, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// In the programs.
    pub user: f64,
    /// In the kernel on their behalf.
    pub system: f64,
}

impl Cpu {
    /// Used so far.
    pub fn of(pids: &[u32]) -> Result<Cpu> {
        let mut total = Cpu::default();
        for pid in pids {
            let stat = read(*pid, "stat")?;
            // The program's name may hold anything, but only it has parentheses. Fields count from 3 behind it.
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            let ticks = |field: usize| -> Result<f64> {
                let text = fields.get(field - 3).with_context(|| format!("/proc/{pid}/stat: {stat}"))?;
                Ok(text.parse::<f64>()? / TICKS)
            };
            total.user += ticks(14)?;
            total.system += ticks(15)?;
        }
        Ok(total)
    }

    /// Used since an earlier reading.
    pub fn since(self, earlier: Cpu) -> Cpu {
        Cpu { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}

/// Resident memory of some processes in KiB. Pages they share count more than once.
pub fn resident(pids: &[u32]) -> Result<u64> {
    pids.iter()
        .map(|pid| {
            let status = read(*pid, "status")?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let text = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
            Ok(text.parse::<u64>()?)
        })
        .sum()
}

/// Datagrams the kernel has dropped at the sockets bound to a port, most often because they were full.
pub fn drops(target: SocketAddr) -> Result<u64> {
    let mut total = 0;
    for table in ["udp", "udp6"] {
        // No IPv6, no table.
        let Ok(text) = fs::read_to_string(format!("/proc/net/{table}")) else { continue };
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = fields.get(1).and_then(|local| local.rsplit(':').next());
            if port.and_then(|port| u16::from_str_radix(port, 16).ok()) == Some(target.port()) {
                total += fields.last().and_then(|drops| drops.parse::<u64>().ok()).unwrap_or(0);
            }
        }
    }
    Ok(total)
}

fn read(pid: u32, file: &str) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("process {pid}"))
}
