use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::insight::tap::tests::{came, query, reply, tapped};
use crate::wire::name::Name;
use crate::zone::Zones;

fn table() -> Arc<Table> {
    let name = |text: &str| Name::parse(text).expect(text);
    Arc::new(Table::new(Zones::new(vec![name("global")], name("cluster.local"), 0).expect("valid zones")))
}

fn log(path: &Path, rate: u32) -> Arc<QueryLog> {
    let settings = Settings { wants: Wants::All, rate, output: Some(path.to_owned()) };
    Arc::new(QueryLog::new(&settings, table()).expect("a file that can be written"))
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("written");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// [I9]
#[test]
fn a_line_says_who_asked_what_and_what_was_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queries");
    let log = log(&path, 1000);
    let (queues, mut tap) = tapped(false, Some(Wants::All));
    log.reads(&queues);
    let mut message = query("echo.default.global");
    message[13] = b'E';
    tap.see(&message, &reply(&message, Rcode::NxDomain), came("10.0.0.1", 1));
    let mut strange = query("a.example");
    strange[13] = b'"';
    let class = 12 + 11 + 2;
    (strange[class - 1], strange[class + 1]) = (99, 9);
    tap.see(&strange, &reply(&strange, Rcode::Refused), came("2001:db8::1", 1));
    tap.see(&message[..15], &reply(&message, Rcode::FormErr)[..12], came("10.0.0.1", 1));
    queues.close();
    log.follow(&queues);
    let mut lines = lines(&path);
    for line in &mut lines {
        let map = line.as_object_mut().expect("a map");
        let time = map.remove("time").expect("a time");
        time.as_str().expect("a text").parse::<Timestamp>().expect("RFC 3339");
        assert!(map.remove("nanoseconds").expect("a duration").is_u64());
    }
    let size = message.len();
    assert_eq!(
        lines,
        [
            json!({"client": "10.0.0.1", "port": 4000, "transport": "udp", "name": "Echo.default.global", "type": "A",
                   "class": "IN", "rcode": "NXDOMAIN", "flags": "qr aa rd", "zone": "global", "querySize": size,
                   "replySize": size, "udpSize": 1400, "dnssecOk": true}),
            json!({"client": "2001:db8::1", "port": 4000, "transport": "udp", "name": "\\\".example", "type": "TYPE99",
                   "class": "CLASS9", "rcode": "REFUSED", "flags": "qr rd", "zone": null,
                   "querySize": strange.len(), "replySize": strange.len(), "udpSize": 1400, "dnssecOk": true}),
            json!({"client": "10.0.0.1", "port": 4000, "transport": "udp", "name": null, "type": null, "class": null,
                   "rcode": "FORMERR", "flags": "qr aa rd", "zone": null, "querySize": 15, "replySize": 12,
                   "udpSize": null, "dnssecOk": false}),
        ]
    );
    assert!(!fs::read_to_string(&path).expect("written").contains("secretly"));
    assert_eq!((log.written(), log.dropped()), (3, 0));
}

/// [I9]
#[test]
fn a_second_has_so_many_lines() {
    let begin = Instant::now();
    let mut allowance = Allowance::new(100, begin);
    assert_eq!(allowance.left(begin), 100);
    allowance.take(100);
    assert_eq!(allowance.left(begin), 0);
    assert_eq!(allowance.left(begin + Duration::from_millis(500)), 50);
    allowance.take(20);
    assert_eq!(
        allowance.left(begin + Duration::from_secs(60)),
        100,
        "no more is saved up than those of a second"
    );
}

/// [I9]
#[test]
fn a_file_that_is_moved_away_is_made_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queries");
    let mut output = Output::File { path: path.clone(), file: open(&path).ok(), looked: Instant::now() };
    output.write(b"one\n").expect("written");
    let moved = directory.path().join("queries.1");
    fs::rename(&path, &moved).expect("moved");
    if let Output::File { looked, .. } = &mut output {
        *looked -= REOPEN;
    }
    output.write(b"two\n").expect("written");
    let read = |path: &Path| fs::read_to_string(path).expect("there");
    assert_eq!((read(&moved), read(&path)), ("one\n".to_owned(), "two\n".to_owned()));
    // And one that cannot be made is tried again.
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("made");
    if let Output::File { looked, .. } = &mut output {
        *looked -= REOPEN;
    }
    assert!(output.write(b"three\n").is_err());
    fs::remove_dir(&path).expect("removed");
    output.write(b"four\n").expect("written");
    assert_eq!(read(&path), "four\n");
}

/// [I9]
#[test]
fn lines_that_cannot_be_written_are_counted_and_those_that_wait_are_written_at_the_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queries");
    let log = log(&path, 1);
    let (queues, mut tap) = tapped(false, Some(Wants::All));
    log.reads(&queues);
    let message = query("a.global");
    let ask = |tap: &mut super::super::tap::Tap| {
        tap.see(&message, &reply(&message, Rcode::NoError), came("10.0.0.1", 1));
    };
    (0..ROOM + 5).for_each(|_| ask(&mut tap));
    queues.close();
    log.follow(&queues);
    assert_eq!((lines(&path).len(), log.written(), log.dropped()), (ROOM, ROOM as u64, 5));
    *log.output.lock().expect("no panic") =
        Output::File { path: directory.path().join("no/such/directory"), file: None, looked: Instant::now() };
    ask(&mut tap);
    log.follow(&queues);
    assert_eq!((log.written(), log.dropped()), (ROOM as u64, 6));
}

/// [I9] [S7]
#[test]
fn what_is_no_file_is_refused_with_what_to_do() {
    for path in ["/dev/null", "/no/such/directory/queries"] {
        let settings = Settings { wants: Wants::All, rate: 1, output: Some(path.into()) };
        let error = QueryLog::new(&settings, table()).err().expect("refused");
        assert!(error.starts_with(&format!("--query-log-output {path:?} cannot be written (")), "{error}");
        assert!(error.ends_with("or - for standard output"), "{error}");
    }
}
