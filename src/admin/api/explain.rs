//! `explain?name=NAME[&type=TYPE,TYPE]` (I1): what `globaldns explain` says, for the page and for `--server`.

use serde::Serialize;

use super::Api;
use super::parameters::Parameters;
use super::reply::Refused;
use crate::explain::{self, Explanation, Forwarding, Question, Subject};

/// An explanation, and the same for people.
#[derive(Serialize)]
pub(super) struct Explained {
    #[serde(flatten)]
    explanation: Explanation,
    text: String,
}

pub(super) fn read(mut parameters: Parameters) -> Result<Question, Refused> {
    let name = parameters.text("name")?.ok_or_else(|| {
        Refused::parameter(
            "name",
            "",
            "there is no name to explain",
            "give one, as in ?name=echo.default.global",
        )
    })?;
    let types = parameters.text("type")?.unwrap_or_default();
    parameters.done(&["name", "type"])?;
    let listed: Vec<String> = types.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect();
    Question::new(&name, &listed).map_err(|error| {
        Refused::parameter("type", &types, error, "give types that there are, separated by commas, or none")
    })
}

impl Api {
    /// Looks at all hosts, if need be.
    pub(super) fn explain(&self, question: &Question) -> Explained {
        let responder = self.responder.for_everybody();
        let subject = Subject {
            index: &self.index,
            responder: &responder,
            serving: true,
            services: self.services,
            budget: explain::BUDGET,
        };
        let mut explanation = explain::explain(&subject, question);
        let places = self.metrics.stub_domain_places();
        let looks_after = self.metrics.stub_domains_view().is_some();
        let forwarding = |zone: &explain::ZoneFacts| match (looks_after, places.is_empty()) {
            (true, false) => Forwarding::followed(&places),
            (true, true) => Forwarding::unknown(
                &zone.name,
                "this server looks after stub domains, and has not seen any place of theirs yet",
            ),
            (false, _) => Forwarding::unknown(&zone.name, "this server does not look after stub domains"),
        };
        explanation.forwarding = explanation.zone.as_ref().map(forwarding);
        let text = explain::text(&explanation);
        Explained { explanation, text }
    }
}
