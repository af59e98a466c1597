//! H2: a host that is in none of the zones, and looks as if it were meant to be.
//!
//! Only what nobody writes on purpose counts. `echo.default.cluster3` beside a zone `cluster2` is another cluster, and
//! `storage.global.example.com` is somebody's name, so digits are no slips of the pen, nor is a zone's name in the middle.

use super::{Zone, Zones};

/// The fewest octets of a label in which one slip is told from another word: `eu` and `us`, `dev` and `dex`.
const FEWEST: usize = 5;

impl Zones {
    /// The zone that a host outside all of them nearly lies in, and the host as it would be there. `namespace` is the
    /// entry's own.
    pub fn near(&self, host: &str, namespace: &str) -> Option<(&Zone, String)> {
        let text = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let labels: Vec<&str> = text.split('.').collect();
        // No entry can have a host in a reverse zone (D22).
        self.iter().filter(|zone| !zone.is_reverse()).find_map(|zone| {
            let apex = zone.apex().to_string();
            let wanted: Vec<&str> = apex.split('.').collect();
            // Something has to be left in front.
            let at = labels.len().checked_sub(wanted.len()).filter(|at| *at > 0)?;
            let (front, tail) = labels.split_at(at);
            let front = if is_misspelt(tail, &wanted) || is_rearranged(tail, &wanted) {
                front.join(".")
            } else if let [name @ .., one, last] = &labels[..]
                && [*one] == wanted[..]
                && *last == namespace
                && !name.is_empty()
            {
                // `echo.global.default`.
                format!("{}.{last}", name.join("."))
            } else {
                return None;
            };
            Some((zone, format!("{front}.{apex}")))
        })
    }
}

/// One label is written with one slip, and all others are right.
fn is_misspelt(tail: &[&str], wanted: &[&str]) -> bool {
    let mut differing = tail.iter().zip(wanted).filter(|(found, wanted)| found != wanted);
    let Some((found, wanted)) = differing.next() else { return false };
    differing.next().is_none() && is_slip(found.as_bytes(), wanted.as_bytes())
}

/// The labels of a zone in another order.
fn is_rearranged(tail: &[&str], wanted: &[&str]) -> bool {
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
    let is_letter = |octets: &[u8]| octets.first().is_some_and(u8::is_ascii_alphabetic);
    match found.len().cmp(&wanted.len()) {
        std::cmp::Ordering::Less => is_letter(wanted) && wanted[1..] == *found,
        std::cmp::Ordering::Greater => is_letter(found) && found[1..] == *wanted,
        std::cmp::Ordering::Equal => {
            let changed = is_letter(found) && is_letter(wanted) && found[1..] == wanted[1..];
            let swapped = found.len() > 1
                && found[0] == wanted[1]
                && found[1] == wanted[0]
                && is_letter(found)
                && is_letter(wanted)
                && found[2..] == wanted[2..];
            changed || swapped
        }
    }
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
