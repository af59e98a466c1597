//! What a survey proves.

use std::collections::BTreeSet;
use std::fmt;

use super::{Asked, Failure};
use crate::client;
use crate::wire::name::Name;

/// Whether cluster DNS forwards our zones to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every server gave a proof of every zone.
    Proved,
    /// Some did not, and nothing but their settings explains it.
    NotYet {
        /// Every probe that failed and counts.
        missing: Vec<Asked>,
    },
    /// There are no proofs of some zones, and no failure that counts.
    Unjudgeable {
        /// Why, zone by zone; at least one.
        why: Vec<Doubt>,
    },
}

/// Why a missing proof is nothing to hold against cluster DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// No probe of any zone was sent.
    NothingAsked,
    /// No server of cluster DNS was asked for the zone.
    NobodyAsked(Name),
    /// We were not asked for the zone ourselves.
    NotAskedDirectly(Name),
    /// We did not answer at an address that the zone is forwarded to.
    DirectFailure(Asked),
    /// The probe never left.
    Unasked(Asked),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::NothingAsked => f.write_str("no probe was sent"),
            Doubt::NobodyAsked(zone) => {
                write!(f, "no server of cluster DNS was asked for zone {zone}")
            }
            Doubt::NotAskedDirectly(zone) => {
                write!(f, "globaldns was not asked for zone {zone} itself, so a failure does not count")
            }
            Doubt::DirectFailure(asked) => {
                write!(
                    f,
                    "globaldns does not answer where it is forwarded to, so a failure does not count: "
                )?;
                asked.fmt(f)
            }
            Doubt::Unasked(asked) => asked.fmt(f),
        }
    }
}

impl fmt::Display for Asked {
    /// `10.0.0.1:53, zone global: NXDOMAIN: it does not forward the zone`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, zone {}: ", self.server, self.zone)?;
        match self.failure() {
            None => f.write_str("proved"),
            Some(failure) => failure.fmt(f),
        }
    }
}

/// Judges probes sent `through` every server of cluster DNS, given those sent `direct`ly to every address that was
/// written as where the zones are forwarded to.
///
/// A proof is a proof, whatever else fails. A failure counts only if we answer for the same zone directly, at every
/// address: otherwise it may be our own.
pub fn verdict(through: &[Asked], direct: &[Asked]) -> Verdict {
    let zones: BTreeSet<&Name> = through.iter().chain(direct).map(|asked| &asked.zone).collect();
    let (mut missing, mut why) = (Vec::new(), Vec::new());
    if zones.is_empty() {
        why.push(Doubt::NothingAsked);
    }
    for zone in zones {
        let [through, direct] =
            [through, direct].map(|all| all.iter().filter(move |asked| asked.zone == *zone));
        if through.clone().next().is_none() {
            why.push(Doubt::NobodyAsked(zone.clone()));
        }
        let failed: Vec<&Asked> = through.filter(|asked| asked.failure().is_some()).collect();
        if failed.is_empty() {
            continue;
        }
        if direct.clone().next().is_none() {
            why.push(Doubt::NotAskedDirectly(zone.clone()));
            continue;
        }
        let failed_directly: Vec<&Asked> = direct.filter(|asked| asked.failure().is_some()).collect();
        if !failed_directly.is_empty() {
            why.extend(failed_directly.into_iter().cloned().map(Doubt::DirectFailure));
            continue;
        }
        for asked in failed {
            match asked.failure() {
                Some(Failure::Silent(client::Failure::Unasked(_))) => why.push(Doubt::Unasked(asked.clone())),
                _ => missing.push(asked.clone()),
            }
        }
    }
    match (missing.is_empty(), why.is_empty()) {
        (false, _) => Verdict::NotYet { missing },
        (true, false) => Verdict::Unjudgeable { why },
        (true, true) => Verdict::Proved,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;
    use crate::stub::probe::Outcome;
    use crate::wire::probe::Proof;

    /// `SERVER ZONE proved|silent|nxdomain|unasked`
    fn asked(text: &str) -> Asked {
        let words: Vec<&str> = text.split(' ').collect();
        let outcome = match words[2] {
            "proved" => {
                let proof = Proof { instance: None, serial: 1 };
                Outcome::Proved { proof, elapsed: Duration::ZERO }
            }
            "silent" => Outcome::Failed(client::Failure::NoReply.into()),
            "nxdomain" => Outcome::Failed(Failure::NxDomain),
            "unasked" => Outcome::Failed(client::Failure::Unasked(io::ErrorKind::NetworkUnreachable).into()),
            other => panic!("{other}"),
        };
        let server = format!("10.0.0.{}:53", words[0]).parse().expect("an address");
        Asked { server, zone: Name::parse(words[1]).expect("a zone"), outcome }
    }

    fn several(text: &str) -> Vec<Asked> {
        text.split(", ").filter(|text| !text.is_empty()).map(asked).collect()
    }

    /// [D18]
    #[test]
    fn a_path_is_proven_by_every_server_and_a_failure_counts_only_if_we_answer() {
        let proved = || Verdict::Proved;
        let not_yet = |missing| Verdict::NotYet { missing: several(missing) };
        let doubtful = |why: &[Doubt]| Verdict::Unjudgeable { why: why.to_vec() };
        let zone = |text| Name::parse(text).expect(text);
        let cases = [
            ("1 a proved, 2 a proved", "9 a proved", proved()),
            ("1 a proved, 1 b proved", "9 a proved, 9 b proved", proved()),
            // We cannot reach ourselves at that address, but cluster DNS can.
            ("1 a proved", "9 a silent", proved()),
            ("1 a proved", "", proved()),
            // One server of two, one zone of two.
            ("1 a proved, 2 a nxdomain", "9 a proved", not_yet("2 a nxdomain")),
            ("1 a proved, 1 b silent", "9 a proved, 9 b proved", not_yet("1 b silent")),
            (
                "1 a silent, 1 b nxdomain, 2 a proved, 2 b silent",
                "9 a proved, 9 b proved",
                not_yet("1 a silent, 1 b nxdomain, 2 b silent"),
            ),
            // We do not answer ourselves: at any address it may be that one they were sent to.
            ("1 a silent", "9 a silent", doubtful(&[Doubt::DirectFailure(asked("9 a silent"))])),
            (
                "1 a proved, 2 a nxdomain",
                "8 a proved, 9 a silent",
                doubtful(&[Doubt::DirectFailure(asked("9 a silent"))]),
            ),
            (
                "1 a silent",
                "9 b proved, 9 a nxdomain",
                doubtful(&[Doubt::DirectFailure(asked("9 a nxdomain")), Doubt::NobodyAsked(zone("b"))]),
            ),
            // Zone by zone: what we answer for counts though the other zone does not.
            ("1 a silent, 1 b nxdomain", "9 a silent, 9 b proved", not_yet("1 b nxdomain")),
            ("1 a silent", "", doubtful(&[Doubt::NotAskedDirectly(zone("a"))])),
            // What never left says nothing of the server.
            ("1 a proved, 2 a unasked", "9 a proved", doubtful(&[Doubt::Unasked(asked("2 a unasked"))])),
            ("1 a nxdomain, 2 a unasked", "9 a proved", not_yet("1 a nxdomain")),
            // Nobody was asked, so nobody gave a proof.
            ("", "9 a proved", doubtful(&[Doubt::NobodyAsked(zone("a"))])),
            ("1 b proved", "9 a proved, 9 b proved", doubtful(&[Doubt::NobodyAsked(zone("a"))])),
            ("", "", doubtful(&[Doubt::NothingAsked])),
        ];
        for (through, direct, expected) in cases {
            assert_eq!(verdict(&several(through), &several(direct)), expected, "{through}; {direct}");
        }
    }

    #[test]
    fn what_is_missing_and_what_is_doubted_can_be_read() {
        assert_eq!(
            asked("1 a nxdomain").to_string(),
            "10.0.0.1:53, zone a: NXDOMAIN: it does not forward the zone"
        );
        assert_eq!(asked("1 a proved").to_string(), "10.0.0.1:53, zone a: proved");
        let zone = Name::parse("a").expect("a zone");
        for (doubt, expected) in [
            (Doubt::NothingAsked, "no probe was sent"),
            (Doubt::NobodyAsked(zone.clone()), "no server of cluster DNS was asked for zone a"),
            (
                Doubt::NotAskedDirectly(zone),
                "globaldns was not asked for zone a itself, so a failure does not count",
            ),
            (
                Doubt::DirectFailure(asked("9 a silent")),
                "globaldns does not answer where it is forwarded to, so a failure does not count: 10.0.0.9:53, zone \
                 a: no reply came in time",
            ),
            (
                Doubt::Unasked(asked("1 a unasked")),
                "10.0.0.1:53, zone a: it could not be asked from here: network unreachable",
            ),
        ] {
            assert_eq!(doubt.to_string(), expected);
        }
    }
}
