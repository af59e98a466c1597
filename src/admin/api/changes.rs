//! `changes?since=&host=&limit=` (I6): the last changes of the table, newest first.

use super::parameters::Parameters;
use super::reply::Refused;
use crate::index::Index;
use crate::index::history::{Changes, Wanted};
use crate::limits::MOST_CHANGES;
use crate::zone::Host;

/// Changes in a reply.
const PAGE: usize = 100;

/// Which ones.
#[derive(Debug)]
pub(super) struct Search {
    host: Option<Host>,
    since: u64,
    limit: usize,
}

impl Search {
    pub(super) fn read(mut parameters: Parameters) -> Result<Search, Refused> {
        let host = parameters.text("host")?;
        let search = Search {
            host: host.map(|text| super::names::host("host", &text)).transpose()?,
            since: parameters.number("since", 0..=usize::MAX, 0)? as u64,
            limit: parameters.number("limit", 1..=MOST_CHANGES, PAGE)?,
        };
        parameters.done(&["since", "host", "limit"])?;
        Ok(search)
    }

    pub(super) fn run(&self, index: &Index) -> Changes {
        let wanted = Wanted { host: self.host.as_ref(), since: self.since, most: Some(self.limit) };
        index.history().read(wanted)
    }
}
