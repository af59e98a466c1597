//! What the program can tell of itself beside its answers (chapter I): who asks for what, how long changes take.
//!
//! Answers come first. Whoever answers hands a copy of a few queries to a [`tap`], which never waits; what is made of
//! them is made on threads of their own ([`top`], [`query_log`]).

pub mod programming;
pub mod query_log;
pub mod tap;
pub mod top;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::ConfigError;
use crate::panics::{self, Pauses, Place};
use crate::zone::Table;
use query_log::QueryLog;
use tap::{Queues, Taps};
use top::TopLists;

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--top-lists` (I7).
    pub top_lists: bool,
    /// `--query-log` (I9); `None` for `off`.
    pub query_log: Option<query_log::Settings>,
}

/// Whatever looks at queries, with its threads, which end when this is dropped.
#[derive(Default)]
pub struct Insight {
    taps: Taps,
    top_lists: Option<Arc<TopLists>>,
    query_log: Option<Arc<QueryLog>>,
    threads: Vec<(Arc<Queues>, JoinHandle<()>)>,
}

impl Insight {
    /// Starts what is asked for.
    pub fn start(settings: &Settings, table: &Arc<Table>) -> anyhow::Result<Insight> {
        let mut insight = Insight::default();
        let (mut samples, mut lines) = (None, None);
        if settings.top_lists {
            let (queues, lists) = (Arc::<Queues>::default(), Arc::new(TopLists::new(table.clone())));
            let (from, into) = (queues.clone(), lists.clone());
            insight.run("top-lists", &queues, move || into.follow(&from))?;
            samples = Some(queues);
            insight.top_lists = Some(lists);
        }
        if let Some(settings) = &settings.query_log {
            let log = QueryLog::new(settings, table.clone()).map_err(ConfigError)?;
            let (queues, log) = (Arc::<Queues>::default(), Arc::new(log));
            log.reads(&queues);
            let (from, into) = (queues.clone(), log.clone());
            insight.run("query-log", &queues, move || into.follow(&from))?;
            lines = Some((queues, settings.wants));
            insight.query_log = Some(log);
        }
        insight.taps = Taps::new(samples, lines);
        Ok(insight)
    }

    /// For those who answer.
    pub fn taps(&self) -> &Taps {
        &self.taps
    }

    /// The top lists (I7); `None` with `--top-lists off`.
    pub fn top_lists(&self) -> Option<&Arc<TopLists>> {
        self.top_lists.as_ref()
    }

    /// The query log (I9); `None` without.
    pub fn query_log(&self) -> Option<&Arc<QueryLog>> {
        self.query_log.as_ref()
    }

    /// Makes something of what comes, on a thread of its own, until its queues are closed. What panics begins again (L9).
    fn run(
        &mut self,
        name: &str,
        queues: &Arc<Queues>,
        follow: impl Fn() + Send + 'static,
    ) -> io::Result<()> {
        let until = queues.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut pauses = Pauses::default();
            while panics::contain(Place::Insight, &follow).is_none() && !until.are_closed() {
                std::thread::sleep(pauses.pause());
            }
        })?;
        self.threads.push((queues.clone(), thread));
        Ok(())
    }

    /// Makes something of what has come, and ends. Blocks until that is done, but not longer than `patience`: nobody may
    /// read the log.
    pub fn stop(mut self, patience: Duration) {
        self.close();
        let threads = std::mem::take(&mut self.threads);
        let (done, wait) = std::sync::mpsc::channel();
        let join = move || {
            for (_, thread) in threads {
                let _ = thread.join();
            }
            let _ = done.send(());
        };
        if std::thread::Builder::new().spawn(join).is_ok() {
            let _ = wait.recv_timeout(patience);
        }
    }

    fn close(&self) {
        for (queues, thread) in &self.threads {
            queues.close();
            thread.thread().unpark();
        }
    }
}

impl Drop for Insight {
    fn drop(&mut self) {
        self.close();
    }
}
