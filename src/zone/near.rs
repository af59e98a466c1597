//! H2: a host that is in none of the zones, and looks as if it were meant to be.
//!
//! Only what nobody writes on purpose counts. `echo.default.cluster3` beside a zone `cluster2` is another cluster, and
//! `storage.global.example.com` is somebody's name, so digits are no slips of the pen, nor is a zone's name in the middle.

use super::{Zone, Zones};
use crate::wire::name;

/// The fewest octets of a label in which one slip is told from another word: `eu` and `us`, `dev` and `dex`.
const FEWEST: usize = 5;

impl Zones {
    /// The zone that a host outside all of them nearly lies in, and the host as it would be there. `namespace` is the
    /// entry's own.
    pub fn near(&self, host: &str, namespace: &str) -> Option<(&Zone, String)> {
        let text = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let labels: Vec<&[u8]> = text.split('.').map(str::as_bytes).collect();
        // No entry can have a host in a reverse zone (D22).
        self.iter().filter(|zone| !zone.is_reverse()).find_map(|zone| {
            let wanted: Vec<&[u8]> = name::labels(zone.apex().labels_wire()).collect();
            // Something has to be left in front.
            let at = labels.len().checked_sub(wanted.len()).filter(|at| *at > 0)?;
            let tail = &labels[at..];
            let front = if is_misspelt(tail, &wanted) || is_rearranged(tail, &wanted) {
                text.splitn(at + 1, '.').take(at).collect::<Vec<_>>().join(".")
            } else if let Some((name, last)) = text.rsplit_once('.')
                && let Some((name, one)) = name.rsplit_once('.')
                && [one.as_bytes()] == wanted[..]
                && last == namespace
            {
                // `echo.global.default`.
                format!("{name}.{last}")
            } else {
                return None;
            };
            Some((zone, format!("{front}.{}", zone.apex())))
        })
    }
}

/// One label is written with one slip, and all others are right.
fn is_misspelt(tail: &[&[u8]], wanted: &[&[u8]]) -> bool {
    let mut differing = tail.iter().zip(wanted).filter(|(found, wanted)| found != wanted);
    let Some((found, wanted)) = differing.next() else { return false };
    differing.next().is_none() && is_slip(found, wanted)
}

/// The labels of a zone in another order.
fn is_rearranged(tail: &[&[u8]], wanted: &[&[u8]]) -> bool {
    let (mut found, mut sorted) = (tail.to_vec(), wanted.to_vec());
    found.sort_unstable();
    sorted.sort_unstable();
    tail != wanted && found == sorted
}

/// Whether one letter was left out, put in or changed, or two neighbours changed places.
fn is_slip(found: &[u8], wanted: &[u8]) -> bool {
    if wanted.len() < FEWEST || found.len().abs_diff(wanted.len()) > 1 {
        return false;
    }
    let same = found.iter().zip(wanted).take_while(|(a, b)| a == b).count();
    let (found, wanted) = (&found[same..], &wanted[same..]);
    let same = found.iter().rev().zip(wanted.iter().rev()).take_while(|(a, b)| a == b).count();
    let (found, wanted) = (&found[..found.len() - same], &wanted[..wanted.len() - same]);
    let swapped = matches!((found, wanted), ([a, b], [c, d]) if (a, b) == (d, c));
    (swapped || found.len().max(wanted.len()) == 1) && found.iter().chain(wanted).all(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::name::Name;

    fn near(zones: &[&str], host: &str) -> Option<String> {
        let name = |text: &&str| Name::parse(text).expect(text);
        let zones = Zones::new(zones.iter().map(name).collect(), name(&"cluster.local"), 0).expect("zones");
        zones.near(host, "default").map(|(_, meant)| meant)
    }

    /// [H2]
    #[test]
    fn one_slip_in_a_zones_name_is_near_it() {
        for host in [
            "echo.default.globl",
            "echo.default.gobal.",
            "echo.default.globall",
            "echo.default.gloabl",
            "echo.default.globol",
            "Echo.default.GLOBA",
            "echo.default.xglobal",
        ] {
            assert_eq!(near(&["global"], host).as_deref(), Some("echo.default.global"), "{host}");
        }
        assert_eq!(near(&["eu.global"], "echo.default.eu.globl").as_deref(), Some("echo.default.eu.global"));
    }

    /// [H2] [D22] No entry can have a host there.
    #[test]
    fn nothing_is_near_a_reverse_zone() {
        let name = |text: &str| Name::parse(text).expect(text);
        let zones = Zones::new(vec![name("global")], name("cluster.local"), 0).expect("zones");
        let zones = zones.with_reverse(vec![name("240.in-addr.arpa")], 0).expect("zones");
        assert_eq!(zones.near("x.240.in-adr.arpa", "default").map(|(_, meant)| meant), None);
    }

    /// [H2]
    #[test]
    fn another_order_is_near() {
        assert_eq!(near(&["global"], "echo.global.default").as_deref(), Some("echo.default.global"));
        assert_eq!(near(&["eu.global"], "echo.default.global.eu").as_deref(), Some("echo.default.eu.global"));
    }

    /// [H2]
    #[test]
    fn what_may_be_meant_is_not_near() {
        for host in [
            "storage.global.example.com",
            "global.azure.com",
            "api.globus.org",
            "echo.default.cluster3",
            "glob.example",
            "globl",
            "echo.global.other",
            "echo.default.loba",
            "echo.default.golabl",
            "",
            ".",
            "*",
        ] {
            assert_eq!(near(&["global", "cluster2"], host), None, "{host}");
        }
        assert_eq!(near(&["mesh", "eu"], "echo.default.mest"), None, "four letters are other words");
        assert_eq!(near(&["eu.global"], "echo.default.us.global"), None);
    }
}
