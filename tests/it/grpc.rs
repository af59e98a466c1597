//! DNS over gRPC, as a client made with another library sees it, and the program under the old plugin's name.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use hickory_proto::op::Message as DnsMessage;
use prost::Message;
use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::cli::refused;
use crate::dig::{Question, dig, over_tcp, over_udp, render};
use crate::support::{Program, globaldns, run, wait_until};

const EXAMPLE: &str = "examples/banzai-multimesh";
/// `plugin` and what makes its log readable for these tests, its port free and its end quick.
const PLUGIN: [&str; 3] = ["-log-format=json", "--lameduck", "0s"];

/// `message DnsPacket { bytes msg = 1; }`
#[derive(Clone, PartialEq, Message)]
struct DnsPacket {
    #[prost(bytes = "vec", tag = "1")]
    msg: Vec<u8>,
}

/// One connection.
struct Client {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

impl Client {
    fn new(server: SocketAddr) -> Client {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let channel = Endpoint::from_shared(format!("http://{server}")).expect("a URI");
        let channel = runtime.block_on(async { channel.connect_lazy() });
        Client { runtime, channel }
    }

    fn call(&self, method: &'static str, message: &[u8]) -> Result<Vec<u8>, Code> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        let packet = tonic::Request::new(DnsPacket { msg: message.to_vec() });
        let reply = self.runtime.block_on(async {
            grpc.ready().await.expect("a connection");
            let codec = ProstCodec::<DnsPacket, DnsPacket>::default();
            grpc.unary(packet, PathAndQuery::from_static(method), codec).await
        });
        reply.map(|reply| reply.into_inner().msg).map_err(|status| {
            assert!(!status.message().is_empty(), "{status:?} has a reason");
            status.code()
        })
    }

    fn query(&self, message: &[u8]) -> Result<Vec<u8>, Code> {
        self.call("/coredns.dns.DnsService/Query", message)
    }

    /// What dig would print with these arguments.
    fn dig(&self, args: &str) -> String {
        let query = Question::parse(args).message().to_vec().expect("a query");
        let reply = self.query(&query).expect("a reply");
        render(&DnsMessage::from_vec(&reply).expect("a reply that can be decoded"))
    }
}

/// The program, called by the old plugin's name.
fn plugin(args: &[&str]) -> std::process::Command {
    let mut command = globaldns(args);
    command.arg0("/usr/local/bin/plugin");
    command
}

/// [G1] [D13] [D8] [D3] [D4]
#[test]
fn every_question_has_over_grpc_the_reply_it_has_over_tcp() {
    let program = Program::serve(&["--file", EXAMPLE, "--grpc-listen", "127.0.0.1:0", "--no-rotate"]);
    let client = Client::new(program.grpc[0]);
    for question in [
        "echo.default.global A",
        "ECHO.default.Global A +noedns +norec",
        "echo.default.global AAAA +bufsize=512 +dnssec",
        "default.global MX",
        "nobody.global A",
        "global SOA +nsid",
        "_probe-1.global TXT",
        "global AXFR",
        "echo.default.global A CH",
        "echo.default.global A +edns=1",
        "example.com A",
    ] {
        let query = Question::parse(question).message().to_vec().expect("a query");
        assert_eq!(client.query(&query), Ok(over_tcp(program.dns(), &query)), "{question}");
    }
    // Broken, but with an id to answer to.
    let mut broken = Question::parse("echo.default.global").message().to_vec().expect("a query");
    broken.push(0);
    assert_eq!(client.query(&broken), Ok(over_tcp(program.dns(), &broken)));
    assert_eq!(client.query(b"elevenoctet"), Err(Code::InvalidArgument));
    assert_eq!(client.query(&[0; 65536]), Err(Code::ResourceExhausted));
    assert_eq!(client.call("/coredns.dns.DnsService/Update", &broken), Err(Code::Unimplemented));

    let (_, metrics) = program.get("/metrics");
    let count = |wanted: &str| metrics.lines().any(|line| line == wanted);
    for line in [
        "globaldns_dns_requests_total{zone=\"global\",transport=\"grpc\",family=\"4\",type=\"AAAA\"} 1",
        "globaldns_dns_responses_total{zone=\"global\",transport=\"grpc\",rcode=\"NXDOMAIN\"} 1",
        "globaldns_dns_responses_total{zone=\"-\",transport=\"grpc\",rcode=\"FORMERR\"} 1",
        "globaldns_dns_silent_total{transport=\"grpc\"} 1",
        "globaldns_dns_request_duration_seconds_count{transport=\"grpc\"} 12",
    ] {
        assert!(count(line), "no {line} in\n{metrics}");
    }
    // Not shown where it is not served.
    let without = Program::serve(&["--file", EXAMPLE]);
    assert!(!without.get("/metrics").1.contains("transport=\"grpc\""));
}

/// [G1] [D9] [L1]
#[test]
fn before_the_first_complete_list_it_is_servfail_over_grpc_alone_too() {
    let mut command = globaldns(&["serve", "--file", "-", "--listen", "off", "--log-format", "json"]);
    command.args(["--grpc-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).stdin(Stdio::piped());
    let mut program = Program::spawn(command);
    program.listening();
    assert!(program.dns.is_empty());
    assert_eq!(program.get("/ready").0, 503);
    let reply = Client::new(program.grpc[0]).dig("echo.default.global");
    assert!(reply.contains("status: SERVFAIL") && reply.contains("EDE: 14 (Not Ready)"), "{reply}");
}

/// [G1] [X1]
#[test]
fn a_grpc_address_that_cannot_be_used_is_refused_with_flag_value_reason_and_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = taken.local_addr().expect("bound");
    let serve =
        ["serve", "--file", EXAMPLE, "--listen", "off", "--admin-listen", "off", "--log-format", "json"];
    let with = |grpc: &[&str]| refused(&[&serve[..], grpc].concat());
    assert_eq!(
        with(&["--grpc-listen", &at.to_string()]),
        format!(
            "globaldns: --grpc-listen: cannot listen on {at} (TCP): Address already in use (os error 98); another \
             program has port {}; stop it, or choose another with --grpc-listen",
            at.port()
        )
    );
    assert_eq!(
        with(&["--grpc-listen", "localhost:8053"]),
        "globaldns: --grpc-listen \"localhost:8053\" is not an address to listen on; write ADDRESS:PORT \
         (127.0.0.1:5353, [::1]:53), ADDRESS, :PORT or off"
    );
    assert_eq!(
        with(&["--grpc-listen", "off,127.0.0.1"]),
        "globaldns: --grpc-listen off cannot stand beside another address; name one or the other"
    );
    assert_eq!(
        with(&["--grpc-listen", "off,off"]),
        "globaldns: --listen, --grpc-listen and --admin-listen are all off, and nothing would be served; give one of \
         them an address, such as --listen :53"
    );
    assert_eq!(
        with(&["--grpc-listen", "127.0.0.1:0", "--metrics-compat", "coredns"]),
        "globaldns: --metrics-compat needs the listener that serves /metrics, and --admin-listen is off; give it an \
         address, such as --admin-listen :9154, or leave --metrics-compat out"
    );
}

/// [G3] [L5]
#[test]
fn after_sigterm_grpc_is_answered_for_the_lameduck_time_and_then_ends_with_0() {
    let program = Program::serve(&["--file", EXAMPLE, "--grpc-listen", "127.0.0.1:0", "--lameduck", "1h"]);
    let client = Client::new(program.grpc[0]);
    client.dig("echo.default.global");
    program.signal("TERM");
    wait_until("not ready", || (program.get("/ready").0 == 503).then_some(()));
    assert!(client.dig("echo.default.global").contains("127.255.0.1"));
    program.signal("TERM");
    assert_eq!(program.wait().code, Some(143));
    let program = Program::serve(&["--file", EXAMPLE, "--grpc-listen", "127.0.0.1:0"]);
    // A connection that nobody reads from does not hold the end.
    let idle = Client::new(program.grpc[0]);
    idle.dig("echo.default.global");
    program.signal("TERM");
    let ended = program.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("in flight; closing"), "{}", ended.stderr);
}

/// [G4] [X0]
#[test]
fn called_plugin_it_serves_grpc_and_nothing_else_with_the_old_flags() {
    let mut command = plugin(&PLUGIN);
    command.args(["-logtostderr", "-v", "2", "-default-address=240.0.0.8", "--kubeconfig="]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("a.yaml");
    std::fs::write(&file, "kind: ServiceEntry\nspec: {hosts: [a.global, a.cluster2], resolution: DNS}\n")
        .expect("written");
    command.env("GLOBALDNS_FILE", &file).env("GLOBALDNS_GRPC_LISTEN", "127.0.0.1:0");
    command.env("GLOBALDNS_ZONE", "global,cluster2");
    let mut program = Program::spawn(command);
    program.ready();
    assert_eq!((program.dns.len(), program.admin), (0, None));
    let client = Client::new(program.grpc[0]);
    for name in ["a.global", "a.cluster2"] {
        assert!(client.dig(name).contains(&format!("{name}. 30 IN A 240.0.0.8")));
    }
    let said = program.log_containing("GLOBALDNS_LOG_LEVEL");
    assert!(said.contains("-logtostderr -v=2"), "{said}");
    program.signal("TERM");
    assert_eq!(program.wait().code, Some(0));
}

/// [G4] [X0]
#[test]
fn flags_and_variables_win_over_what_the_name_plugin_means() {
    let mut command = plugin(&[&PLUGIN[..], &["-file", EXAMPLE, "-grpc-listen=off"]].concat());
    command.env("GLOBALDNS_ADMIN_LISTEN", "127.0.0.1:0").env("GLOBALDNS_LISTEN", "127.0.0.1:0");
    let mut program = Program::spawn(command);
    program.ready();
    assert!(program.grpc.is_empty());
    assert!(dig(program.dns(), "echo.default.global").contains("127.255.0.1"));
    assert_eq!(program.get("/ready").0, 200);
    // What it means by itself is what its help says.
    let help = run(plugin(&["-help"]));
    assert_eq!(help.code, Some(0));
    for default in ["[default: off]", "[default: :8053]"] {
        assert!(help.stdout.contains(default), "{}", help.stdout);
    }
    assert!(run(plugin(&["--version"])).stdout.starts_with("globaldns "));
}

/// [G4] [X1]
#[test]
fn called_plugin_an_argument_it_does_not_know_is_bad_usage() {
    for (args, said) in [
        (
            &["-zones", "global"][..],
            "globaldns: plugin: \"-zones\" is a flag neither of istio-coredns-plugin nor of globaldns serve; leave it \
             out, or see --help\n",
        ),
        (
            &["-no-rotate=maybe"],
            "globaldns: plugin: \"-no-rotate=maybe\" has neither true nor false behind its =; write one of them, or \
             leave out the = too\n",
        ),
        (&["serve"], "globaldns: plugin: \"serve\" is no flag, and there are only flags; leave it out\n"),
        (
            &["--default-address=here"],
            "error: invalid value 'here' for '--default-address <IP>': write an IP address such as 10.96.0.53 or fd00::35\n\nFor more \
             information, try '--help'.\n",
        ),
    ] {
        let ended = run(plugin(args));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(2), said), "{args:?}");
    }
}

/// [G5] The same counts under CoreDNS's names, with the labels that are known.
#[test]
fn with_metrics_compat_the_names_of_coredns_count_the_same() {
    let compatible = ["--metrics-compat", "coredns", "--grpc-listen", "127.0.0.1:0"];
    let program = Program::serve(&[&["--file", EXAMPLE], &compatible[..]].concat());
    let client = Client::new(program.grpc[0]);
    for question in ["echo.default.global A", "nobody.global A", "echo.default.global HTTPS", "example.com A"]
    {
        let query = Question::parse(question).message().to_vec().expect("a query");
        over_udp(program.dns(), &query);
        over_tcp(program.dns(), &query);
        client.query(&query).expect("a reply");
    }
    let (dns, grpc) = (format!("dns://{}", program.dns()), format!("grpc://{}", program.grpc[0]));
    let (_, metrics) = program.get("/metrics");
    for line in [
        format!(
            "coredns_dns_request_count_total{{server=\"{dns}\",zone=\"global.\",proto=\"udp\",family=\"1\"}} 3"
        ),
        format!(
            "coredns_dns_request_count_total{{server=\"{dns}\",zone=\"dropped\",proto=\"tcp\",family=\"1\"}} 1"
        ),
        format!(
            "coredns_dns_request_count_total{{server=\"{grpc}\",zone=\"global.\",proto=\"tcp\",family=\"1\"}} 3"
        ),
        format!(
            "coredns_dns_requests_total{{server=\"{dns}\",zone=\"global.\",proto=\"udp\",family=\"1\",type=\"HTTPS\"}} 1"
        ),
        format!("coredns_dns_request_type_count_total{{server=\"{dns}\",zone=\"global.\",type=\"A\"}} 4"),
        format!("coredns_dns_request_type_count_total{{server=\"{dns}\",zone=\"global.\",type=\"other\"}} 2"),
        format!(
            "coredns_dns_response_rcode_count_total{{server=\"{dns}\",zone=\"global.\",rcode=\"NXDOMAIN\"}} 2"
        ),
        format!("coredns_dns_responses_total{{server=\"{grpc}\",zone=\"dropped\",rcode=\"REFUSED\"}} 1"),
        format!("coredns_dns_request_duration_seconds_count{{server=\"{dns}\"}} 8"),
        format!("coredns_dns_request_duration_seconds_count{{server=\"{grpc}\"}} 4"),
        "coredns_panics_total 0".to_owned(),
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in\n{metrics}");
    }
    assert!(!Program::serve(&["--file", EXAMPLE]).get("/metrics").1.contains("coredns_"));
}
