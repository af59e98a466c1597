//! DNS over TLS, HTTPS and QUIC, as clients made with other libraries see it, and the certificate on disk.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::cli::refused;
use crate::dig::{Question, over_tcp};
use crate::support::{DEADLINE, Program, wait_until};

const EXAMPLE: &str = "examples/banzai-multimesh";
/// The name in every certificate here.
const NAME: &str = "dns.test";

/// A mounted Secret, as the kubelet keeps it: the files lead through the link `..data` into a directory.
pub(crate) struct Secret {
    directory: tempfile::TempDir,
    versions: usize,
    /// The certificate that is there.
    cert: String,
}

/// A certificate and its key, in PEM.
fn pair(year: i32) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([NAME.to_owned()]).expect("a name");
    params.not_after = date_time_ymd(year, 1, 1);
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

impl Secret {
    pub(crate) fn new() -> Secret {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for file in ["tls.crt", "tls.key"] {
            let target = Path::new("..data").join(file);
            std::os::unix::fs::symlink(target, directory.path().join(file)).expect("linked");
        }
        let mut secret = Secret { directory, versions: 0, cert: String::new() };
        let (cert, key) = pair(2090);
        secret.swap(&cert, &key);
        secret
    }

    fn swap(&mut self, cert: &str, key: &str) {
        self.versions += 1;
        self.cert = cert.to_owned();
        let (root, version) = (self.directory.path(), format!("..{}", self.versions));
        fs::create_dir(root.join(&version)).expect("made");
        fs::write(root.join(&version).join("tls.crt"), cert).expect("written");
        fs::write(root.join(&version).join("tls.key"), key).expect("written");
        std::os::unix::fs::symlink(&version, root.join("..tmp")).expect("linked");
        fs::rename(root.join("..tmp"), root.join("..data")).expect("renamed");
    }

    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// The program with all three, ready.
    pub(crate) fn serve(&self, more: &[&str]) -> Program {
        let (cert, key) = (self.file("tls.crt"), self.file("tls.key"));
        let here = "127.0.0.1:0";
        let flags = ["--tls-listen", here, "--https-listen", here, "--quic-listen", here];
        let pair = ["--tls-cert", &cert, "--tls-key", &key];
        Program::serve(&[&flags[..], &pair, more].concat())
    }

    /// A client that trusts the certificate that is there.
    fn client(&self, protocols: &[&[u8]]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let cert = CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("PEM");
        roots.add(cert).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config
    }

    /// A connection over TLS.
    pub(crate) fn connect(&self, server: SocketAddr, protocols: &[&[u8]]) -> Secure {
        let stream = TcpStream::connect(server).expect("connects");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
        let name = ServerName::try_from(NAME).expect("a name");
        let connection = ClientConnection::new(Arc::new(self.client(protocols)), name).expect("a client");
        Secure(StreamOwned::new(connection, stream))
    }

    /// A connection over QUIC.
    fn connect_quic(&self, server: SocketAddr) -> Quic {
        let config = quinn::crypto::rustls::QuicClientConfig::try_from(self.client(&[b"doq"]));
        let config = quinn::ClientConfig::new(Arc::new(config.expect("TLS 1.3")));
        // It has a thread, as a connection lives also while nobody waits for it.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let connect = async {
            let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().expect("valid")).expect("a port");
            let connecting = endpoint.connect_with(config, server, NAME).expect("valid");
            (connecting.await.expect("connects"), endpoint)
        };
        let (connection, _endpoint) = soon(&runtime, connect);
        Quic { connection, _endpoint, runtime }
    }

    /// The reply over QUIC.
    fn over_quic(&self, server: SocketAddr, message: &[u8]) -> Vec<u8> {
        self.connect_quic(server).ask(message)
    }
}

fn soon<T>(runtime: &tokio::runtime::Runtime, happens: impl Future<Output = T>) -> T {
    runtime.block_on(async { tokio::time::timeout(DEADLINE, happens).await.expect("in time") })
}

/// A connection over QUIC.
struct Quic {
    connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
    runtime: tokio::runtime::Runtime,
}

impl Quic {
    fn ask(&self, message: &[u8]) -> Vec<u8> {
        soon(&self.runtime, async {
            let (mut send, mut receive) = self.connection.open_bi().await.expect("a stream");
            send.write_all(&framed(message)).await.expect("sent");
            send.finish().expect("all of it");
            receive.read_to_end(1 << 17).await.expect("a reply")[2..].to_vec()
        })
    }

    /// Whether the other side has closed it in good order.
    fn ended(&self) -> bool {
        match soon(&self.runtime, self.connection.closed()) {
            quinn::ConnectionError::ApplicationClosed(close) => close.error_code == 0u32.into(),
            _ => false,
        }
    }
}

/// A connection over TLS.
pub(crate) struct Secure(StreamOwned<ClientConnection, TcpStream>);

impl Secure {
    pub(crate) fn ask(&mut self, message: &[u8]) -> Vec<u8> {
        self.0.write_all(&framed(message)).expect("sent");
        let mut length = [0; 2];
        self.0.read_exact(&mut length).expect("a length");
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        self.0.read_exact(&mut reply).expect("a reply");
        reply
    }

    /// A request of HTTP/1.1: the head of the response, and its body.
    fn request(&mut self, head: &str, body: &[u8]) -> (String, Vec<u8>) {
        let length = body.len();
        write!(self.0, "{head} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {length}\r\n").expect("sent");
        self.0.write_all(b"Content-Type: application/dns-message\r\n\r\n").expect("sent");
        self.0.write_all(body).expect("sent");
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            self.0.read_exact(&mut octet).expect("a head");
            read.push(octet[0]);
        }
        let head = String::from_utf8(read).expect("text").to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.and_then(|length| length.parse().ok()).expect("a length")];
        self.0.read_exact(&mut body).expect("a body");
        (head, body)
    }

    /// Whether the other side has closed it in good order.
    fn ended(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 1]), Ok(0))
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

/// A query, with the id 0 that QUIC wants.
fn query(text: &str) -> Vec<u8> {
    let mut message = Question::parse(text).message().to_vec().expect("a query");
    message[..2].fill(0);
    message
}

/// [E1] [E2] [E3] [E4] [D13]
#[test]
fn every_question_has_over_every_transport_the_reply_it_has_over_tcp() {
    let secret = Secret::new();
    let program = secret.serve(&["--file", EXAMPLE, "--no-rotate"]);
    let mut https = secret.connect(program.over("HTTPS"), &[b"http/1.1"]);
    for protocols in [&[&b"dot"[..]][..], &[]] {
        let mut tls = secret.connect(program.over("TLS"), protocols);
        for text in [
            "echo.default.global A",
            "ECHO.default.Global A +noedns +norec",
            "echo.default.global AAAA +bufsize=512 +dnssec",
            "nobody.global A",
            "global SOA +nsid",
            "ns.dns.global A",
            "global AXFR",
            "echo.default.global A CH",
            "echo.default.global A +edns=1",
            "example.com A",
        ] {
            let message = query(text);
            let wanted = over_tcp(program.dns(), &message);
            assert_eq!(tls.ask(&message), wanted, "{text} over TLS");
            assert_eq!(secret.over_quic(program.over("QUIC"), &message), wanted, "{text} over QUIC");
            let get = format!("GET /dns-query?dns={}", URL_SAFE_NO_PAD.encode(&message));
            for (head, body) in [("POST /dns-query", &message[..]), (&get, &[])] {
                let (head, body) = https.request(head, body);
                assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
                assert!(head.contains("content-type: application/dns-message\r\n"), "{head}");
                assert!(head.contains("cache-control: max-age="), "{head}");
                assert_eq!(body, wanted, "{text} over HTTPS");
            }
        }
    }
    let (_, metrics) = program.get("/metrics");
    for (transport, count) in [("tls", 2), ("https", 4), ("quic", 2)] {
        for line in [
            format!(
                "globaldns_dns_requests_total{{zone=\"global\",transport=\"{transport}\",family=\"4\",type=\"AAAA\"}} {count}"
            ),
            format!(
                "globaldns_dns_request_duration_seconds_count{{transport=\"{transport}\"}} {}",
                10 * count
            ),
        ] {
            assert!(metrics.lines().any(|found| found == line), "no {line} in\n{metrics}");
        }
    }
    // Not shown where it is not served.
    let without = Program::serve(&["--file", EXAMPLE]).get("/metrics").1;
    assert!(!without.contains("transport=\"tls\"") && !without.contains("certificate"), "{without}");
}

/// [E1] [D19] [D21]
#[test]
fn lists_and_cookies_hold_over_every_transport() {
    let secret = Secret::new();
    let program = secret.serve(&["--file", EXAMPLE, "--cookies", "on", "--deny", "127.0.0.1"]);
    // A COOKIE option with a client's cookie, for the OPT at the end.
    let mut message = query("echo.default.global A");
    let at = message.len() - 2;
    message[at..].copy_from_slice(&[0, 12]);
    message.extend([0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    let mut tls = secret.connect(program.over("TLS"), &[]);
    let mut https = secret.connect(program.over("HTTPS"), &[b"http/1.1"]);
    for (over, reply) in [
        ("tls", tls.ask(&message)),
        ("https", https.request("POST /dns-query", &message).1),
        ("quic", secret.over_quic(program.over("QUIC"), &message)),
    ] {
        assert_eq!(reply[3] & 0xf, 5, "REFUSED over {over}");
        // With a server's cookie behind the client's.
        let cookie = [0, 10, 0, 24, 1, 2, 3, 4, 5, 6, 7, 8];
        assert!(reply.windows(cookie.len()).any(|octets| octets == cookie), "{reply:?} over {over}");
        let line = format!("globaldns_dns_denied_total{{transport=\"{over}\"}} 1");
        let (_, metrics) = program.get("/metrics");
        assert!(metrics.lines().any(|found| found == line), "no {line} in\n{metrics}");
    }
}

/// [E6]
#[test]
fn a_query_with_padding_gets_a_padded_reply_where_nobody_reads_along() {
    let secret = Secret::new();
    let program = secret.serve(&["--file", EXAMPLE]);
    let mut message = query("echo.default.global A");
    // An empty option Padding for its OPT, whose length stands last.
    let at = message.len() - 2;
    message[at..].copy_from_slice(&[0, 4]);
    message.extend([0, 12, 0, 0]);
    let mut tls = secret.connect(program.over("TLS"), &[]);
    assert_eq!(tls.ask(&message).len(), 468);
    assert_eq!(secret.over_quic(program.over("QUIC"), &message).len(), 468);
    let mut https = secret.connect(program.over("HTTPS"), &[b"http/1.1"]);
    assert_eq!(https.request("POST /dns-query", &message).1.len(), 468);
    assert!(over_tcp(program.dns(), &message).len() < 100);
}

/// [E3]
#[test]
fn the_path_of_https_can_be_chosen() {
    let secret = Secret::new();
    let program = secret.serve(&["--file", EXAMPLE, "--https-path", "/other"]);
    let mut https = secret.connect(program.over("HTTPS"), &[b"http/1.1"]);
    let message = query("echo.default.global A");
    assert!(https.request("POST /other", &message).0.starts_with("http/1.1 200 "));
    assert!(https.request("POST /dns-query", &message).0.starts_with("http/1.1 404 "));
}

/// [E5]
#[test]
fn a_renewed_certificate_is_shown_to_new_connections_and_costs_no_old_one() {
    let mut secret = Secret::new();
    let program = secret.serve(&["--file", EXAMPLE]);
    let message = query("echo.default.global A");
    let expires = |seconds: u64| {
        let line = format!("globaldns_certificate_expiry_timestamp_seconds {seconds}");
        wait_until(&line, || program.get("/metrics").1.contains(&line).then_some(()));
    };
    expires(3_786_912_000);
    let mut old = secret.connect(program.over("TLS"), &[]);
    old.ask(&message);
    let (cert, key) = pair(2091);
    secret.swap(&cert, &key);
    expires(3_818_448_000);
    // This client trusts the new one alone.
    secret.connect(program.over("TLS"), &[]).ask(&message);
    secret.over_quic(program.over("QUIC"), &message);
    secret.connect(program.over("HTTPS"), &[b"http/1.1"]).request("POST /dns-query", &message);
    old.ask(&message);
    // A pair that is none.
    secret.swap(&pair(2092).0, &key);
    let said = program.log_containing("is not the key of the certificate");
    assert!(said.contains("--tls-key") && said.contains("the last good certificate stays"), "{said}");
    let (_, metrics) = program.get("/metrics");
    for line in [
        "globaldns_certificate_up 0",
        "globaldns_certificate_expiry_timestamp_seconds 3818448000",
        "globaldns_certificate_reloads_total{result=\"success\"} 1",
        "globaldns_certificate_reloads_total{result=\"failure\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in\n{metrics}");
    }
    secret.cert = cert;
    secret.connect(program.over("TLS"), &[]).ask(&message);
    old.ask(&message);
}

/// [E1] [X1]
#[test]
fn certificates_and_addresses_that_cannot_be_used_are_refused() {
    let secret = Secret::new();
    let (cert, key) = (secret.file("tls.crt"), secret.file("tls.key"));
    let serve =
        ["serve", "--file", EXAMPLE, "--listen", "off", "--admin-listen", "off", "--log-format", "json"];
    let with = |more: &[&str]| refused(&[&serve[..], more].concat());
    let pair = ["--tls-cert", &cert, "--tls-key", &key];
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = taken.local_addr().expect("bound");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let udp = socket.local_addr().expect("bound");
    let (tcp_address, udp_address) = (at.to_string(), udp.to_string());
    for (more, wanted) in [
        (
            &["--tls-listen", "127.0.0.1:0"][..],
            "globaldns: --tls-listen needs a certificate and its private key, and there is no --tls-cert; give both, in \
             PEM"
                .to_owned(),
        ),
        (
            &["--quic-listen", "127.0.0.1:0", "--tls-cert", &cert],
            "globaldns: --quic-listen needs a certificate and its private key, and there is no --tls-key; give both, in \
             PEM"
                .to_owned(),
        ),
        (
            &pair,
            "globaldns: --tls-cert and --tls-key are given, and nothing is served with them; add --tls-listen, \
             --https-listen or --quic-listen, or leave them out"
                .to_owned(),
        ),
        (
            &[&pair[..], &["--https-listen", "localhost"]].concat(),
            "globaldns: --https-listen \"localhost\" is not an address to listen on; write ADDRESS:PORT \
             (127.0.0.1:5353, [::1]:53), ADDRESS, :PORT or off"
                .to_owned(),
        ),
        (
            &["--tls-listen", "127.0.0.1:0", "--tls-cert", &key, "--tls-key", &key],
            format!(
                "globaldns: --tls-cert {key}: there is no certificate in it; it takes a certificate in PEM (-----BEGIN \
                 CERTIFICATE-----), those that lead to its authority behind it"
            ),
        ),
        (
            &[&pair[..], &["--https-listen", &tcp_address]].concat(),
            format!(
                "globaldns: --https-listen: cannot listen on {at} (TCP): Address already in use (os error 98); another \
                 program has port {}; stop it, or choose another with --https-listen",
                at.port()
            ),
        ),
    ] {
        assert_eq!(with(more), wanted);
    }
    let refusal = with(&[&pair[..], &["--quic-listen", &udp_address]].concat());
    assert!(
        refusal.starts_with(&format!("globaldns: --quic-listen: cannot listen on {udp} (UDP): ")),
        "{refusal}"
    );
    let path = with(&[&pair[..], &["--https-listen", "127.0.0.1:0", "--https-path", "dns?"]].concat());
    assert!(path.contains("write a path that begins with /"), "{path}");
}

/// [E5] [L5]
#[test]
fn after_sigterm_what_is_encrypted_is_answered_for_the_lameduck_time_and_then_ends_with_0() {
    let secret = Secret::new();
    let program = secret.serve(&["--file", EXAMPLE, "--lameduck", "1s"]);
    let message = query("echo.default.global A");
    let mut tls = secret.connect(program.over("TLS"), &[]);
    let mut https = secret.connect(program.over("HTTPS"), &[b"http/1.1"]);
    let quic = secret.connect_quic(program.over("QUIC"));
    tls.ask(&message);
    https.request("POST /dns-query", &message);
    quic.ask(&message);
    // Handshakes that do not come hold nothing up, nor does a message.
    let mut mute = Vec::new();
    for over in ["TLS", "HTTPS"] {
        let mut stream = TcpStream::connect(program.over(over)).expect("connects");
        stream.write_all(b"\x16\x03\x01").expect("sent");
        mute.push(stream);
    }
    let mut half = secret.connect(program.over("TLS"), &[]);
    half.0.write_all(&framed(&message)[..9]).expect("sent");
    program.signal("TERM");
    wait_until("not ready", || (program.get("/ready").0 == 503).then_some(()));
    tls.ask(&message);
    secret.over_quic(program.over("QUIC"), &message);
    let ended = program.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("in flight; closing"), "{}", ended.stderr);
    assert!(tls.ended() && https.ended() && quic.ended(), "with a word");
}

/// [E5] [D14]
#[test]
fn connections_of_all_kinds_share_their_number() {
    let secret = Secret::new();
    let program = secret.serve(&["--file", EXAMPLE, "--tcp-connections", "2"]);
    let message = query("echo.default.global A");
    let mut tls = secret.connect(program.over("TLS"), &[]);
    tls.ask(&message);
    let mut https = secret.connect(program.over("HTTPS"), &[b"http/1.1"]);
    https.request("POST /dns-query", &message);
    over_tcp(program.dns(), &message);
    assert!(tls.ended(), "it was idle longest");
    // The one over TCP has gone by itself, or goes now.
    secret.over_quic(program.over("QUIC"), &message);
    secret.connect(program.over("TLS"), &[]).ask(&message);
    let (_, metrics) = program.get("/metrics");
    let count = |name: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|count| count.parse().ok()).expect(name)
    };
    assert!(
        count("globaldns_tcp_connections") <= 2 && count("globaldns_tcp_accepted_total") == 5,
        "{metrics}"
    );
}
