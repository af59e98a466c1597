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
        let mut leads = !planned.is_empty();
        let findings = planned.iter().map(|planned| {
            let (layer, place) = (planned.layer.name(), planned.layer.place.name());
            let servers = planned.stub.iter().flat_map(|stub| stub.servers()).map(server_text);
            let servers = servers.collect::<Vec<_>>().join(", ");
            let mut wants = |command: &str| {
                leads = false;
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
                        RefusalKind::Unsure => "what is there cannot be read for certain",
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
        Forwarding { leads_here: Some(leads), findings, remedy }
    }
}
