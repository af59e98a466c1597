//! Addresses that differ: what the entries that claim the name say to it.

use std::net::IpAddr;

use super::{Class, Reason, Riddle, changed};
use crate::compare::legacy::{Known, Legacy};
use crate::compare::questions::Question;
use crate::compare::view::View;
use crate::wire::name::Name;
use crate::wire::rtype;
use crate::zone::{Host, Zone, Zones};

const LOG_REMEDY: &str =
    "look for the entry in the log of istio-coredns-plugin: it says which it ignores, and why";

/// One name's addresses, and who claims it.
pub(super) struct Claimed<'c> {
    pub(super) question: &'c Question,
    pub(super) old: &'c View,
    pub(super) new: &'c View,
    pub(super) spelling: &'c str,
    pub(super) owners: Option<(Host, Vec<&'c Known>)>,
    pub(super) zones: &'c Zones,
}

impl Claimed<'_> {
    /// The old server has none.
    pub(super) fn gained(&self, legacy: &Legacy, zone: &Zone) -> Result<Vec<Reason>, Riddle> {
        if let Some((host, candidates)) = legacy.candidates(self.spelling) {
            let objects: Vec<_> = candidates.iter().map(|known| &*known.object).collect();
            return Err(Riddle::new(
                format!("by its rules the old server would answer {host} from {}", objects.join(" or ")),
                LOG_REMEDY,
            ));
        }
        let Some((host, owners)) = &self.owners else { return Ok(vec![Class::DefaultAddress.into()]) };
        let mut reasons = Vec::new();
        for owner in owners {
            reasons.extend(absence(owner, host, zone)?);
        }
        Ok(reasons)
    }

    /// Both have some, or only the old one.
    pub(super) fn changed(
        &self,
        legacy: &Legacy,
        is_search_path_product: bool,
    ) -> Result<Vec<Reason>, Riddle> {
        let (old, new) = (&self.old.addresses, &self.new.addresses);
        let Some((host, candidates)) = legacy.candidates(self.spelling) else {
            return Err(self.riddle("and no entry would have istiocoredns answer that"));
        };
        let served = |known: &&Known| self.question.rtype == rtype::A && known.serves(old);
        let Some(answered) = candidates.iter().find(|known| served(known)) else {
            return Err(self.riddle("and no entry for the name has just these addresses"));
        };
        let Some((own, owners)) = self.owners.as_ref().filter(|_| !new.is_empty()) else {
            return if candidates.iter().all(|known| known.hidden) {
                Ok(vec![Reason::new(Class::Hidden, answered.object.clone())])
            } else if candidates.iter().all(|known| self.is_disowned(host, known)) {
                Ok(vec![self.disowned(host, answered)])
            } else if is_search_path_product && host.starts_with("*.") {
                Ok(vec![Reason::new(Class::SearchPath, format!("{}: {host}", answered.object))])
            } else if old.iter().all(IpAddr::is_unspecified) {
                Ok(vec![Reason::new(Class::Unspecified, answered.object.clone())])
            } else {
                Err(self.riddle("and the entry is there"))
            };
        };
        let mut reasons = Vec::new();
        if owners.iter().any(|owner| std::ptr::eq(*owner, *answered)) {
            if old.difference(new).any(|address| !address.is_unspecified()) {
                return Err(self.riddle("and the entry has all of them"));
            }
            if old.difference(new).next().is_some() {
                reasons.push(Reason::new(Class::Unspecified, answered.object.clone()));
            }
            if new.difference(old).any(|address| answered.ours(own).contains(address)) {
                reasons.extend(answered.reasons());
            }
            for other in owners.iter().filter(|owner| !std::ptr::eq(**owner, *answered)) {
                if other.ours(own).iter().any(|address| !old.contains(address)) {
                    reasons.push(Reason::new(Class::Owner, format!("{} is merged", other.object)));
                }
            }
        } else if answered.hidden {
            reasons.push(Reason::new(Class::Hidden, answered.object.clone()));
        } else if self.is_disowned(host, answered) {
            reasons.push(self.disowned(host, answered));
        } else if answered.claims.iter().any(|(claimed, _)| claimed == own) {
            let owner = owners.first().map_or("", |owner| &*owner.object);
            reasons.push(Reason::new(Class::Owner, format!("{owner} owns it, not {}", answered.object)));
        } else {
            // A wildcard answers in the place of a host that the old server has not.
            reasons.extend(owners.iter().flat_map(|owner| owner.reasons()));
        }
        if reasons.is_empty() { Err(self.riddle("and no rule says why")) } else { Ok(reasons) }
    }

    /// O6: whether an entry may not give this host, as it is written, or not to this name.
    fn is_disowned(&self, host: &str, known: &Known) -> bool {
        let (wildcard, name) = match host.strip_prefix("*.") {
            Some(suffix) => (true, suffix),
            None => (false, host),
        };
        let Ok(name) = Name::parse(name) else { return false };
        self.zones.owned_by_others(&name, &known.namespace).is_some()
            || wildcard && self.zones.is_cut_off(self.question.name.wire(), name.wire())
    }

    fn disowned(&self, host: &str, known: &Known) -> Reason {
        Reason::new(Class::NotOwner, format!("{}: {host}", known.object))
    }

    fn riddle(&self, but: &str) -> Riddle {
        Riddle::new(
            format!("{}, {but}", changed(self.old, self.new)),
            "find whoever gives the old address: another entry, a default address, a server in between, or an old state",
        )
    }
}

/// Why istiocoredns has nothing of an entry that owns a name here.
fn absence(owner: &Known, host: &Host, zone: &Zone) -> Result<Vec<Reason>, Riddle> {
    let mut reasons = owner.reasons();
    if !owner.served.is_empty() {
        let text = host.to_string();
        if host.wildcard && host.name == *zone.apex() {
            reasons = vec![Reason::new(Class::ApexWildcard, owner.object.clone())];
        } else if owner.hosts.iter().all(|written| **written != *text) {
            reasons =
                vec![Reason::new(Class::Case, format!("{}: the host is not written {text}", owner.object))];
        }
    }
    if reasons.is_empty() {
        return Err(Riddle::new(
            format!("by its rules the old server would answer from {}", owner.object),
            LOG_REMEDY,
        ));
    }
    Ok(reasons)
}
