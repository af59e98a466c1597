//! The two servers as child processes, and a client for each.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::question::Question;
use crate::reply::Reply;
use crate::table::{REVERSE, Table};

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);
/// How long a reply may take. Datagrams do not get lost on the loopback, but machines can be busy.
const REPLY: Duration = Duration::from_secs(20);
/// Another program may take the port between its choice and the start of NSD.
const PORT_TRIES: usize = 5;

/// A running server. Dropping it ends the process.
pub(crate) struct Server {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    client: Option<Client>,
    /// For messages.
    name: &'static str,
}

/// Sockets connected to a server.
struct Client {
    udp: UdpSocket,
    tcp: TcpStream,
}

impl Server {
    /// `globaldns serve` of the entries in a directory.
    pub(crate) fn globaldns(table: &Table, entries: &Path) -> Server {
        let mut command = globaldns("serve", table, entries);
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "off", "--lameduck", "0s"]);
        command.args(["--log-format", "json", "--no-rotate"]);
        let mut server = Server::start("globaldns", command);
        let line = server.wait_for(|line| message(line) == Some("serving DNS"));
        let address = parse(&line).and_then(|v| v["fields"]["address"].as_str()?.parse().ok());
        server.wait_for(|line| message(line) == Some("ready"));
        server.connect(address.expect("the line says which address"));
        server
    }

    /// NSD with the zone files of a directory, where it keeps its own files, too.
    pub(crate) fn nsd(table: &Table, zone_files: &Path) -> Server {
        for _ in 0..PORT_TRIES {
            let address = free_port();
            let configuration = zone_files.join("nsd.conf");
            std::fs::write(&configuration, nsd_conf(table, zone_files, address))
                .expect("a file can be written");
            let mut command = Command::new(nsd_program());
            command.arg("-d").arg("-c").arg(&configuration);
            let mut server = Server::start("nsd", command);
            if server.find(|line| line.contains("nsd started")).is_ok() {
                server.connect(address);
                return server;
            }
            let text = server.seen.join("\n");
            assert!(text.contains("Address already in use"), "NSD did not start:\n{text}");
        }
        panic!("no free port was still free when NSD started, {PORT_TRIES} times");
    }

    /// Asks and waits for the reply; a text that says what came instead otherwise.
    pub(crate) fn ask(&mut self, question: &Question, query: &[u8]) -> Result<Reply, String> {
        let client = self.client.as_mut().expect("a started server has a client");
        let exchanged = if question.tcp { client.over_tcp(query) } else { client.over_udp(query) };
        match exchanged {
            Ok(octets) => Reply::decode(octets),
            Err(error) => Err(format!("no reply came from {}: {error}", self.name)),
        }
    }

    fn start(name: &'static str, mut command: Command) -> Server {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
        let stderr = child.stderr.take().expect("standard error is piped");
        let (sender, lines) = channel();
        // Ends with the process; it goes on reading when nobody listens, so that no server blocks.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Server { child, lines, seen: Vec::new(), client: None, name }
    }

    fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        self.find(wanted).unwrap_or_else(|error| {
            panic!("{} did not start ({error}); it said:\n{}", self.name, self.seen.join("\n"))
        })
    }

    /// The next line of the log that is wanted.
    fn find(&mut self, wanted: impl Fn(&str) -> bool) -> Result<String, RecvTimeoutError> {
        let deadline = Instant::now() + START;
        loop {
            let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))?;
            self.seen.push(line.clone());
            if wanted(&line) {
                return Ok(line);
            }
        }
    }

    fn connect(&mut self, address: SocketAddr) {
        let client = Client::new(address)
            .unwrap_or_else(|error| panic!("{} at {address} takes no connection: {error}", self.name));
        self.client = Some(client);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // NSD's other processes end when their parent does.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    fn new(address: SocketAddr) -> io::Result<Client> {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        udp.connect(address)?;
        udp.set_read_timeout(Some(REPLY))?;
        let tcp = TcpStream::connect_timeout(&address, START)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(REPLY))?;
        Ok(Client { udp, tcp })
    }

    fn over_udp(&mut self, query: &[u8]) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; usize::from(u16::MAX)];
        self.udp.send(query)?;
        let length = self.udp.recv(&mut octets)?;
        octets.truncate(length);
        Ok(octets)
    }

    fn over_tcp(&mut self, query: &[u8]) -> io::Result<Vec<u8>> {
        let length = u16::try_from(query.len()).map_err(io::Error::other)?;
        self.tcp.write_all(&[&length.to_be_bytes(), query].concat())?;
        let mut length = [0; 2];
        self.tcp.read_exact(&mut length)?;
        let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
        self.tcp.read_exact(&mut octets)?;
        Ok(octets)
    }
}

/// Writes the zone files of the entries in a directory.
pub(crate) fn export(table: &Table, entries: &Path, zone_files: &Path) {
    let mut command = globaldns("export", table, entries);
    let output = command.args(["--format", "zone", "--output-dir"]).arg(zone_files).output();
    let output = output.expect("the program can be run");
    assert!(output.status.success(), "export failed: {}", String::from_utf8_lossy(&output.stderr));
}

/// The program, with the flags that make the table.
fn globaldns(subcommand: &str, table: &Table, entries: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_globaldns"));
    command.env_clear().arg(subcommand).arg("--file").arg(entries);
    for zone in &table.zones {
        command.arg("--zone").arg(zone);
    }
    command.arg("--srv").arg("--reverse").arg(REVERSE.join(","));
    for address in &table.name_servers {
        command.arg("--advertise-address").arg(address.to_string());
    }
    command
}

fn parse(line: &str) -> Option<serde_json::Value> {
    serde_json::from_str(line).ok()
}

/// The message of a JSON log line, if it is one of those that are waited for.
fn message(line: &str) -> Option<&'static str> {
    let value = parse(line)?;
    let text = value["fields"]["message"].as_str()?;
    ["serving DNS", "ready"].into_iter().find(|known| *known == text)
}

/// NSD on `PATH`, or where Debian keeps it, which is not on everybody's.
fn nsd_program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let known = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    known.map(|directory| directory.join("nsd")).find(|program| program.is_file()).unwrap_or("nsd".into())
}

/// A loopback port that is free for UDP and TCP.
fn free_port() -> SocketAddr {
    let free = || {
        let udp = UdpSocket::bind((IpAddr::from(Ipv4Addr::LOCALHOST), 0))?;
        let address = udp.local_addr()?;
        TcpListener::bind(address).map(|_| address)
    };
    (0..PORT_TRIES).find_map(|_| free().ok()).expect("the loopback has a free port")
}

fn nsd_conf(table: &Table, directory: &Path, address: SocketAddr) -> String {
    let here = directory.display();
    let server = format!(
        r#"server:
  ip-address: {ip}@{port}
  server-count: 1
  username: ""
  chroot: ""
  database: ""
  zonesdir: "{here}"
  pidfile: "{here}/nsd.pid"
  xfrdfile: "{here}/xfrd.state"
  xfrdir: "{here}"
  zonelistfile: "{here}/zone.list"
  verbosity: 0
  minimal-responses: yes
  refuse-any: no
  answer-cookie: no
  round-robin: no
  ipv4-edns-size: 1232
  ipv6-edns-size: 1232
  {rrl}
remote-control:
  control-enable: no
"#,
        ip = address.ip(),
        port = address.port(),
        rrl = if has_rate_limit() { "rrl-ratelimit: 0" } else { "" },
    );
    let zones =
        table.all_zones().map(|zone| format!("zone:\n  name: \"{zone}\"\n  zonefile: \"{zone}.zone\"\n"));
    server + &zones.collect::<String>()
}

/// Whether NSD was compiled with response rate limiting; without, the option is a syntax error.
fn has_rate_limit() -> bool {
    let output = Command::new(nsd_program()).arg("-v").output().expect("NSD can be run");
    [output.stdout, output.stderr]
        .iter()
        .any(|text| String::from_utf8_lossy(text).contains("--enable-ratelimit"))
}
