//! What cluster DNS in front of us does with a zone, in words: from the plan of its stub domains, or from nothing.

use super::Forwarding;
use crate::stub::plan::{Outcome, Planned};
use crate::stub::record::State;
use crate::stub::tally::AtPlace;
use crate::stub::{RefusalKind, server_text};

impl Forwarding {
    /// Where no cluster is at hand: what has to be so.
    pub fn unknown(zone: &str, why: &str) -> Forwarding {
        Forwarding {
            leads_here: None,
            findings: vec![format!("{why}; their resolver has to send {zone} to this server")],
            remedy: Some(format!(
                "globaldns stub-domains emit --for kubeadm --zone {zone} --dns-ip ADDRESS prints what to configure; --list has \
                 other resolvers"
            )),
        }
    }

    /// From where the stub domains that a server looks after stand.
    pub fn followed(places: &[AtPlace]) -> Forwarding {
        let told = |at: &AtPlace| {
            format!("{}: {}: {}: {}", at.role.as_str(), at.place, at.state.as_str(), at.message)
        };
        let verified = places.iter().all(|at| at.state == State::Verified);
        Forwarding {
            leads_here: verified.then_some(true),
            findings: places.iter().map(told).collect(),
            remedy: (!verified).then(|| "globaldns stub-domains status says more".to_owned()),
        }
    }

    /// From what would have to change so that all zones lead here; `zone` is the one that is asked about.
    pub fn of(planned: &[Planned], zone: &str) -> Forwarding {
        let mut remedy = None;
        let leads = |planned: &Planned| match &planned.outcome {
            Outcome::InPlace => Some(true),
            Outcome::Refused(refusal) if refusal.kind == RefusalKind::Unsure => None,
            _ => Some(false),
        };
        let leads: Vec<_> = planned.iter().map(leads).collect();
        let leads_here = match planned.is_empty() || leads.contains(&Some(false)) {
            true => Some(false),
            false => (!leads.contains(&None)).then_some(true),
        };
        let findings = planned.iter().map(|planned| {
            let (layer, place) = (planned.layer.name(), planned.layer.place.name());
            let servers = planned.stub.iter().flat_map(|stub| stub.servers()).map(server_text);
            let servers = servers.collect::<Vec<_>>().join(", ");
            let mut wants = |command: &str| {
                remedy = remedy.take().or_else(|| Some(format!("globaldns stub-domains {command}")));
            };
            match &planned.outcome {
                Outcome::InPlace => format!("{layer}: {place} sends {zone} to {servers}"),
                Outcome::Change(_) => {
                    wants("plan shows what to write, and apply writes it");
                    format!("{layer}: {place} does not send every zone to {servers}")
                }
                Outcome::Emit(_) => {
                    wants("plan prints the text for whoever writes that place");
                    format!("{layer}: {place}, which others write, does not send every zone to {servers}")
                }
                Outcome::Refused(refusal) => {
                    wants("plan says more");
                    let who = match refusal.kind {
                        RefusalKind::Conflict => "somebody else serves a zone of ours there",
                        RefusalKind::Invalid => "what is there is broken",
                        RefusalKind::Unsure => "what it does with our zones cannot be told for certain",
                    };
                    format!("{layer}: {place}: {who}: {refusal}")
                }
            }
        });
        let mut findings: Vec<String> = findings.collect();
        if findings.is_empty() {
            findings.push(format!(
                "no cluster DNS was found; whatever pods ask has to send {zone} to this server"
            ));
            remedy =
                Some("globaldns stub-domains emit --list has the resolvers there is a text for".to_owned());
        }
        Forwarding { leads_here, findings, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::ranges::{Told, Unlisted};
    use crate::stub::layout::layers;
    use crate::stub::plan::plan;
    use crate::stub::survey::Survey;
    use crate::stub::{Ours, Stub};
    use crate::wire::name::Name;

    fn of(survey: &Survey, zones: &[&str]) -> Forwarding {
        let zones = zones.iter().map(|zone| Name::parse(zone).expect(zone));
        let stub = Stub::new(zones, ["10.96.0.53:53".parse().expect("an address")]).expect("a stub");
        let planned: Vec<_> = layers(survey)
            .into_iter()
            .map(|layer| plan(survey, layer, Some(&stub), &Ours::default().with(&stub), false))
            .collect();
        Forwarding::of(&planned, "global")
    }

    /// [I1]
    #[test]
    fn whether_a_zone_leads_here_is_yes_no_or_unknown() {
        let untouched = Survey::coredns(".:53 {\n    forward . /etc/resolv.conf\n}\n");
        assert_eq!(of(&untouched, &["global"]).leads_here, Some(false));
        let served = "global:53 {\n    errors\n    cache 30\n    forward . 10.96.0.53\n}\n";
        let served = Survey::coredns(&format!(".:53 {{\n    forward . /etc/resolv.conf\n}}\n{served}"));
        assert_eq!(of(&served, &["global"]).leads_here, Some(true));
        let why = Unlisted { why: "forbidden".to_owned(), lasts: true };
        let told = Some(Told { no_nodes: Some(why), ..Told::default() });
        let unsure = of(&Survey { told, ..untouched.clone() }, &["global", "240.in-addr.arpa"]);
        assert_eq!(unsure.leads_here, None, "{unsure:?}");
        assert!(unsure.findings[0].contains("nodes cannot be listed (forbidden)"), "{unsure:?}");
        assert_eq!(of(&Survey::default(), &["global"]).leads_here, Some(false));
    }
}
