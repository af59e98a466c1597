use std::collections::BTreeSet;

use super::*;
use crate::finding::Code;

/// A ledger with a clock, and what a search would find.
struct Scene {
    ledger: Ledger,
    now: Instant,
    stands: Vec<Finding>,
    /// What was told of many that wait.
    many: Vec<usize>,
    /// None of it is taken.
    refuses_many: bool,
    /// Begins the names of namespaces that refuse.
    refuses: &'static str,
    /// When they did.
    refused: Vec<Instant>,
    searches: usize,
}

fn warning(object: &str) -> Finding {
    Finding::new(Code::HostNoAddress, object, "spec.hosts[0]", "a.global", "why", "remedy")
}

fn error(object: &str) -> Finding {
    Finding::new(Code::HostInvalid, object, "spec.hosts[0]", "a.global", "why", "remedy")
}

fn flood(many: usize) -> Vec<Finding> {
    (0..many).map(|i| warning(&format!("ns/e{i}"))).collect()
}

impl Scene {
    /// This replica tells.
    fn leads(record: Record) -> Scene {
        let mut ledger = Ledger::default();
        ledger.lead(record);
        Scene {
            ledger,
            now: Instant::now(),
            stands: Vec::new(),
            many: Vec::new(),
            refuses_many: false,
            refuses: "none",
            refused: Vec::new(),
            searches: 0,
        }
    }

    fn finds(&mut self, stands: impl IntoIterator<Item = Finding>) {
        self.stands = stands.into_iter().collect();
        self.search(true);
    }

    fn search(&mut self, still: bool) {
        self.searches += 1;
        let mut round = self.ledger.begin().expect("it leads");
        self.stands.iter().for_each(|finding| round.see(finding));
        self.ledger.finish(round, still, self.now);
    }

    fn kept(&self) -> usize {
        self.ledger.book.as_ref().map_or(0, |book| book.waiting.len())
    }

    /// Everything that is told in this time, while a search is made whenever one is wanted.
    fn pass(&mut self, time: Duration) -> Vec<Told> {
        let end = self.now + time;
        let mut all = Vec::new();
        loop {
            if self.ledger.wants_search() {
                self.search(true);
            }
            match self.ledger.next(self.now) {
                Next::Tell(told) => match told.finding.object.split_once('/') {
                    Some((namespace, _)) if namespace.starts_with(self.refuses) => {
                        self.refused.push(self.now);
                        self.ledger.refused(&told, namespace, self.now);
                    }
                    _ => {
                        self.ledger.told(&told, self.now);
                        all.push(*told);
                    }
                },
                Next::Many(count) => {
                    self.many.push(count);
                    if !self.refuses_many {
                        self.ledger.told_of_many();
                    }
                }
                Next::Wait(Some(until)) if until <= end => {
                    assert!(until > self.now, "a wait for now has no end");
                    self.now = until;
                }
                Next::Wait(_) if self.ledger.book.as_ref().is_some_and(|book| book.wants_search) => {}
                Next::Wait(_) => {
                    self.now = end;
                    return all;
                }
            }
        }
    }
}

fn objects(told: &[Told]) -> Vec<&str> {
    told.iter().map(|told| told.finding.object.as_str()).collect()
}

const MINUTE: Duration = Duration::from_secs(60);

/// [F4]
#[test]
fn a_finding_is_told_once_when_it_has_stood_for_a_while() {
    let mut scene = Scene::leads(Record::default());
    scene.finds([warning("ns/a")]);
    assert_eq!(scene.pass(SETTLED - Duration::from_millis(1)), []);
    let told = scene.pass(Duration::from_millis(1));
    assert_eq!((objects(&told), told[0].again), (vec!["ns/a"], false));
    for _ in 0..3 {
        scene.search(true);
        assert_eq!(scene.pass(MINUTE), []);
    }
}

/// [F4] istiod needs a moment to allocate an address.
#[test]
fn what_does_not_last_is_not_told() {
    let mut scene = Scene::leads(Record::default());
    scene.finds([warning("ns/a")]);
    assert_eq!(scene.pass(SETTLED / 2), []);
    scene.finds([]);
    assert_eq!(scene.pass(MINUTE), []);
}

/// [F4]
#[test]
fn another_finding_is_told_and_one_that_comes_back_is_told_again() {
    let mut scene = Scene::leads(Record::default());
    scene.finds([warning("ns/a")]);
    assert_eq!(scene.pass(MINUTE).len(), 1);
    let changed = Finding { value: "b.global".to_owned(), ..warning("ns/a") };
    scene.finds([changed.clone()]);
    let told = scene.pass(MINUTE);
    assert_eq!((told.len(), &told[0].finding, told[0].again), (1, &changed, false));
    scene.finds([warning("ns/a")]);
    let told = scene.pass(MINUTE);
    assert_eq!((told.len(), &told[0].finding, told[0].again), (1, &warning("ns/a"), true));
}

/// [F4] Hundreds share an address or a host with one that changes, or lose a host to it.
#[test]
fn what_another_entry_does_has_nothing_told_again() {
    let because_of = |other: &str| {
        let shared = |i| {
            let why = format!("e{i}.global and {other} have the same address");
            Finding::new(
                Code::AddressShared,
                format!("ns/e{i}"),
                "spec.addresses",
                "240.0.0.1",
                why,
                "remedy",
            )
        };
        (0..200).map(shared).collect::<Vec<_>>()
    };
    let mut scene = Scene::leads(Record::default());
    scene.finds(because_of("a.global of ns/a"));
    assert_eq!(scene.pass(15 * MINUTE).len(), 200);
    scene.finds(because_of("b.global of ns/b"));
    assert_eq!(objects(&scene.pass(15 * MINUTE)), Vec::<&str>::new());
}

/// [F4] A search during which entries change may miss one.
#[test]
fn what_one_search_missed_is_not_gone() {
    let mut scene = Scene::leads(Record::default());
    scene.finds([warning("ns/a")]);
    assert_eq!(scene.pass(MINUTE).len(), 1);
    scene.stands.clear();
    scene.search(false);
    assert_eq!(scene.pass(MINUTE), []);
    scene.finds([warning("ns/a")]);
    assert_eq!(scene.pass(MINUTE), []);
    // Absent for less than it takes.
    scene.finds([]);
    assert_eq!(scene.pass(SETTLED / 2), []);
    scene.finds([warning("ns/a")]);
    assert_eq!(scene.pass(MINUTE), []);
    // Two that have missed it, and nobody has seen it since.
    scene.stands.clear();
    scene.search(false);
    scene.search(false);
    assert_eq!(scene.pass(MINUTE), []);
    scene.finds([warning("ns/a")]);
    assert_eq!(scene.pass(MINUTE).len(), 1);
}

/// [F4]
#[test]
fn a_restart_and_another_leader_tell_nothing_again() {
    let mut first = Scene::leads(Record::default());
    first.finds([warning("ns/a"), warning("ns/b")]);
    assert_eq!(first.pass(MINUTE).len(), 2);
    first.finds([warning("ns/a")]);
    assert_eq!(first.pass(MINUTE), []);
    let record = first.ledger.unsaved().expect("something was told").1;
    let mut second = Scene::leads(record);
    second.finds([warning("ns/a"), warning("ns/b"), warning("ns/c")]);
    let mut told = second.pass(MINUTE);
    told.sort_by(|a, b| a.finding.cmp(&b.finding));
    assert_eq!(objects(&told), ["ns/b", "ns/c"]);
    assert_eq!([told[0].again, told[1].again], [true, false]);
    assert_eq!(second.ledger.unsaved().expect("told").1.told.len(), 3);
}

/// [F4]
#[test]
fn a_record_that_was_not_saved_is_saved_later() {
    let mut scene = Scene::leads(Record::default());
    assert_eq!(scene.ledger.unsaved(), None, "nothing was told");
    scene.finds([warning("ns/a")]);
    scene.pass(MINUTE);
    let (number, record) = scene.ledger.unsaved().expect("told");
    assert_eq!(scene.ledger.unsaved(), Some((number, record)), "nobody said that it is saved");
    scene.finds([warning("ns/a"), warning("ns/b")]);
    scene.pass(MINUTE);
    scene.ledger.saved(number);
    let (number, record) = scene.ledger.unsaved().expect("what came meanwhile is not saved");
    assert_eq!(record.told.len(), 2);
    scene.ledger.saved(number);
    assert_eq!(scene.ledger.unsaved(), None);
}

/// [F4] Errors first, a burst, and then so many a minute; and one word about all the others.
#[test]
fn a_flood_is_told_slowly_and_errors_come_first() {
    let mut scene = Scene::leads(Record::default());
    let errors = (0..10).map(|i| error(&format!("ns/x{i}")));
    scene.finds(flood(10_000).into_iter().chain(errors));
    let told = scene.pass(SETTLED);
    assert_eq!(told.len(), BURST as usize);
    assert!(told[..10].iter().all(|told| told.finding.code == Code::HostInvalid), "{:?}", objects(&told));
    assert_eq!(scene.many, [10_010 - 25]);
    for _ in 0..10 {
        let minute = scene.pass(MINUTE).len();
        assert!((20..=30).contains(&minute), "{minute} in a minute");
    }
    assert_eq!(scene.many.len(), 1, "one word about the flood");
    assert!(scene.kept() <= KEPT);
    // It ends, and another one begins.
    scene.finds([]);
    assert_eq!(scene.pass(10 * MINUTE), []);
    scene.finds(flood(2_000));
    assert_eq!(scene.pass(SETTLED).len(), BURST as usize);
    assert_eq!(scene.many.len(), 2);
}

/// [F4] A restart in the middle of a flood does not say again that it is one.
#[test]
fn a_flood_is_one_also_for_the_next_leader() {
    let mut scene = Scene::leads(Record::default());
    scene.finds(flood(1_000));
    scene.pass(SETTLED);
    assert_eq!(scene.many.len(), 1);
    let mut next = Scene::leads(scene.ledger.unsaved().expect("told").1);
    next.finds(flood(1_000));
    assert_eq!(next.pass(SETTLED).len(), BURST as usize);
    assert!(next.many.is_empty(), "{:?}", next.many);
}

/// [F4] Once none was left the next flood is another one, however soon it comes.
#[test]
fn a_second_flood_is_told_at_once() {
    let mut scene = Scene::leads(Record::default());
    for floods in 1..=2 {
        scene.finds(flood(100));
        scene.pass(MINUTE);
        assert_eq!(scene.many.len(), floods);
        scene.finds([]);
        scene.pass(MINUTE);
    }
}

/// [F4] Where that word is refused it comes later, and rarely.
#[test]
fn a_flood_that_could_not_be_told_is_told_later() {
    let mut scene = Scene::leads(Record::default());
    scene.refuses_many = true;
    scene.finds(flood(10_000));
    scene.pass(10 * MINUTE);
    assert!((2..=3).contains(&scene.many.len()), "{:?}", scene.many);
    scene.refuses_many = false;
    scene.pass(10 * MINUTE);
    let told = scene.many.len();
    scene.pass(10 * MINUTE);
    assert_eq!(scene.many.len(), told, "one word about the flood");
}

/// [F4] In the end every finding of a flood has its Event, though few are kept at a time.
#[test]
fn what_waits_is_told_in_the_end() {
    let mut scene = Scene::leads(Record::default());
    scene.finds(flood(300));
    let mut all = BTreeSet::new();
    for _ in 0..15 {
        all.extend(scene.pass(MINUTE).into_iter().map(|told| told.finding.object));
    }
    assert_eq!(all.len(), 300);
}

/// [F4] [S7]
#[test]
fn no_more_are_told_than_can_be_remembered() {
    let mut scene = Scene::leads(Record { told: (0..MOST_TOLD as u64 - 2).collect(), ..Record::default() });
    let told: Vec<_> = scene.ledger.book.iter().flat_map(|book| book.told.iter().copied()).collect();
    assert_eq!(told.len(), MOST_TOLD - 2);
    scene.stands = flood(10);
    // What was told before stands as well, as far as this is concerned.
    let mut round = scene.ledger.begin().expect("it leads");
    round.seen.extend(told);
    scene.stands.iter().for_each(|finding| round.see(finding));
    scene.ledger.wants_search();
    scene.ledger.finish(round, true, scene.now);
    assert_eq!(scene.pass(MINUTE).len(), 2);
    let gone = Record { gone: (0..MOST_GONE as u64).collect(), ..Record::default() };
    let mut scene = Scene::leads(gone);
    scene.finds([warning("ns/a")]);
    scene.pass(MINUTE);
    scene.finds([]);
    scene.pass(MINUTE);
    let record = scene.ledger.unsaved().expect("changed").1;
    assert_eq!((record.gone.len(), record.gone.contains(&0)), (MOST_GONE, false), "the oldest is forgotten");
}

/// [F4]
#[test]
fn what_could_not_be_told_is_tried_again_and_holds_up_no_other() {
    let mut scene = Scene::leads(Record::default());
    scene.finds([error("ns/a"), warning("ns/b")]);
    scene.now += SETTLED;
    let Next::Tell(told) = scene.ledger.next(scene.now) else { panic!("one is due") };
    assert_eq!(told.finding.object, "ns/a");
    scene.ledger.put_off(&told, scene.now);
    assert_eq!(objects(&scene.pass(RETRY / 2)), ["ns/b"]);
    assert_eq!(objects(&scene.pass(RETRY)), ["ns/a"]);
}

/// [F4] Rights may be given in some namespaces only.
#[test]
fn a_namespace_that_refuses_is_left_alone_for_a_while() {
    let mut scene = Scene::leads(Record::default());
    // More than are kept, and all of them before the other one.
    let refused = (0..200).map(|i| error(&format!("no/e{i}")));
    scene.finds(refused.chain([warning("yes/a")]));
    scene.now += SETTLED;
    let Next::Tell(told) = scene.ledger.next(scene.now) else { panic!("one is due") };
    scene.ledger.refused(&told, "no", scene.now);
    assert_eq!(objects(&scene.pass(RETRY / 2)), ["yes/a"]);
    // By now the right is there.
    let told = scene.pass(RETRY);
    assert!(told.len() >= BURST as usize - 2, "{}", told.len());
    assert!(objects(&told).iter().all(|object| object.starts_with("no/")), "{:?}", objects(&told));
}

/// [F4]
#[test]
fn a_namespace_that_goes_on_refusing_is_asked_ever_more_rarely_and_costs_no_search() {
    let mut scene = Scene::leads(Record::default());
    scene.refuses = "no";
    scene.finds((0..100).map(|i| warning(&format!("no/e{i}"))));
    assert_eq!(scene.pass(MINUTE), []);
    let searches = scene.searches;
    assert_eq!(scene.pass(60 * MINUTE), []);
    let pauses: Vec<_> = scene.refused.windows(2).map(|two| (two[1] - two[0]).as_secs()).collect();
    assert_eq!(pauses[..6], [10, 20, 40, 80, 160, 300]);
    assert!(pauses[6..].iter().all(|pause| *pause == LONGEST_RETRY.as_secs()), "{pauses:?}");
    assert_eq!(scene.searches, searches);
    // The right is there: one shows it, and all are told.
    scene.refuses = "none";
    assert_eq!(scene.pass(LONGEST_RETRY + 5 * MINUTE).len(), 100);
}

/// [F4]
#[test]
fn namespaces_that_refuse_do_not_keep_events_from_others() {
    let mut scene = Scene::leads(Record::default());
    scene.refuses = "no";
    let refused = (0..300).map(|i| error(&format!("no{i}/a")));
    scene.finds(refused.clone());
    // Each has refused once, and some again.
    assert_eq!(scene.pass(15 * MINUTE), []);
    assert!(scene.refused.len() >= 300);
    scene.refused.clear();
    scene.finds(refused.clone().chain(flood(300)));
    let told = scene.pass(10 * MINUTE).len();
    assert!(told >= 230, "{told} in ten minutes");
    let most = 5 + 600 / 10;
    assert!(scene.refused.len() <= most, "{} of {most} refused", scene.refused.len());
    // One right for all.
    scene.refuses = "none";
    let told = scene.pass(15 * MINUTE).len();
    assert!(told >= 300, "{told} in a quarter of an hour");
}

/// [F4] What is tried where Events were refused is true when it is told.
#[test]
fn only_what_stands_is_tried_where_events_were_refused() {
    let mut scene = Scene::leads(Record::default());
    scene.refuses = "no";
    scene.finds([warning("no/a"), warning("no/b")]);
    assert_eq!(scene.pass(SETTLED), []);
    scene.refuses = "none";
    scene.finds([warning("no/c")]);
    assert_eq!(objects(&scene.pass(MINUTE)), ["no/c"]);
    scene.refuses = "no";
    scene.finds([warning("no/d")]);
    assert_eq!(scene.pass(SETTLED), []);
    scene.refuses = "none";
    // A search that may have missed it forgets nothing; one that has not, everything.
    scene.stands.clear();
    scene.search(false);
    scene.finds([]);
    assert_eq!(scene.pass(10 * MINUTE), []);
}

/// [F4]
#[test]
fn a_replica_that_does_not_lead_tells_nothing_and_needs_no_search() {
    let mut ledger = Ledger::default();
    let now = Instant::now();
    assert!(ledger.begin().is_none() && !ledger.wants_search() && ledger.unsaved().is_none());
    assert_eq!(ledger.next(now), Next::Wait(None));
    ledger.lead(Record::default());
    assert!(ledger.wants_search() && !ledger.wants_search(), "one search, to begin with");
    // A search that was begun by then is of no use to the next leader.
    let round = ledger.begin().expect("it leads");
    ledger.follow();
    ledger.finish(round, true, now);
    assert_eq!(ledger.next(now), Next::Wait(None));
}
