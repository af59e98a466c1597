use std::fs;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::metrics::TcpCounters;
use crate::serve::stream::Connections;

/// The name in every certificate here.
pub(crate) const NAME: &str = "dns.test";

/// A certificate that ends in this year, and its key, in PEM.
pub(crate) fn pair(year: i32) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([NAME.to_owned()]).expect("a name");
    params.not_after = date_time_ymd(year, 1, 1);
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

fn write(directory: &Path, (cert, key): (&str, &str)) -> Paths {
    let paths = Paths { cert: directory.join("tls.crt"), key: directory.join("tls.key") };
    fs::write(&paths.cert, cert).expect("written");
    fs::write(&paths.key, key).expect("written");
    paths
}

/// Certificates of a server, and what a client needs that trusts them and speaks these protocols.
pub(crate) fn both(names: &[&[u8]]) -> (Arc<Certificates>, Arc<ClientConfig>) {
    let (cert, key) = pair(2090);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let paths = write(directory.path(), (&cert, &key));
    let certificates = Certificates::load(paths, Arc::default()).expect("a pair");
    (certificates, client(&cert, names))
}

/// A client that trusts this certificate alone.
pub(crate) fn client(cert: &str, names: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(cert.as_bytes()).expect("PEM")).expect("a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).expect("a name")
}

/// [E1] [X1]
#[test]
fn a_pair_that_cannot_be_used_is_refused_with_flag_file_reason_and_remedy() {
    let (cert, key) = pair(2090);
    let (_, other) = pair(2090);
    let broken = cert.replacen('M', "?", 3);
    let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let second = format!("{cert}{no_der}");
    let cases = [
        (
            "",
            key.as_str(),
            "--tls-cert DIR/tls.crt: there is no certificate in it; it takes a certificate in PEM",
        ),
        (&key, &key, "--tls-cert DIR/tls.crt: there is no certificate in it; it takes"),
        (&broken, &key, "--tls-cert DIR/tls.crt: no PEM: "),
        (no_der, &key, "--tls-cert DIR/tls.crt: its first certificate cannot be read: "),
        (&second, &key, "--tls-cert DIR/tls.crt: its certificate 2 cannot be read: "),
        (
            &cert,
            "",
            "--tls-key DIR/tls.key: there is no private key in it; it takes one private key in PEM without a password",
        ),
        (&cert, &cert, "--tls-key DIR/tls.key: there is no private key in it; it takes"),
        (&cert, no_key, "--tls-key DIR/tls.key: the private key cannot be used: "),
        (
            &cert,
            &other,
            "--tls-key DIR/tls.key: it is not the key of the certificate in DIR/tls.crt; name the key that this \
             certificate was issued for",
        ),
    ];
    let directory = tempfile::tempdir().expect("a temporary directory");
    let load = |paths: &Paths| {
        let error = Certificates::load(paths.clone(), Arc::default()).expect_err("no pair").to_string();
        error.replace(&directory.path().display().to_string(), "DIR")
    };
    for (cert, key, wanted) in cases {
        let paths = write(directory.path(), (cert, key));
        let error = load(&paths);
        assert!(error.starts_with(wanted), "{error}");
    }
    let mut paths = write(directory.path(), (&cert, &key));
    fs::write(&paths.cert, vec![b'#'; (1 << 20) + 1]).expect("written");
    assert!(load(&paths).starts_with("--tls-cert DIR/tls.crt: it has more than 1 MiB; name a file in PEM"));
    fs::write(&paths.cert, &cert).expect("written");
    paths.key = directory.path().join("none");
    let error = load(&paths);
    assert!(error.starts_with("--tls-key DIR/none: cannot read it: No such file"), "{error}");
}

/// [E5] The one of the chain that ends first: with it, clients refuse all.
#[test]
fn a_chain_is_valid_until_its_first_certificate_ends() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (leaf, key) = pair(2060);
    // One before 2050 has another kind of time in it (RFC 5280 section 4.1.2.5).
    for (year, seconds) in [(2040, 2_208_988_800), (2059, 2_808_604_800), (2070, 2_840_140_800)] {
        let (above, _) = pair(year);
        let paths = write(directory.path(), (&format!("{leaf}{above}"), &key));
        let counters = Arc::new(CertificateCounters::default());
        let certificates = Certificates::load(paths, counters.clone()).expect("a pair");
        assert_eq!(counters.expires.load(Ordering::Relaxed), seconds, "{year}");
        assert_eq!(certificates.current.load().cert.len(), 2);
    }
}

/// [E5] As the kubelet does it: `tls.crt` leads through the link `..data` into a directory, and the link is replaced.
#[test]
fn a_changed_pair_is_shown_and_a_bad_one_is_not() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path();
    let swap = |name: &str, pair: (&str, &str)| {
        fs::create_dir(root.join(name)).expect("made");
        write(&root.join(name), pair);
        std::os::unix::fs::symlink(name, root.join("..tmp")).expect("linked");
        fs::rename(root.join("..tmp"), root.join("..data")).expect("renamed");
    };
    let ((cert, key), (next, next_key), (last, last_key)) = (pair(2040), pair(2041), pair(2042));
    swap("..1", (&cert, &key));
    for file in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(Path::new("..data").join(file), root.join(file)).expect("linked");
    }
    let paths = Paths { cert: root.join("tls.crt"), key: root.join("tls.key") };
    let counters = Arc::new(CertificateCounters::default());
    let certificates = Certificates::load(paths, counters.clone()).expect("a pair");
    let stop = Arc::new(AtomicBool::new(false));
    let follower = {
        let (certificates, stop) = (certificates.clone(), stop.clone());
        std::thread::spawn(move || certificates.follow(&stop))
    };
    let shown = || certificates.current.load().cert[0].clone();
    let wait = |loaded, failed| {
        let begun = std::time::Instant::now();
        let counts = || (counters.loaded.load(Ordering::Relaxed), counters.failed.load(Ordering::Relaxed));
        while counts() != (loaded, failed) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", counts());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    };
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
    swap("..2", (&next, &next_key));
    wait(1, 0);
    assert_eq!(shown(), der(&next));
    swap("..3", (&last, &next_key));
    wait(1, 1);
    assert_eq!(shown(), der(&next), "the last good one stays");
    fs::remove_file(root.join("..data")).expect("removed");
    wait(1, 2);
    assert_eq!(shown(), der(&next), "also where there is none");
    swap("..4", (&last, &last_key));
    wait(2, 2);
    assert_eq!((shown(), counters.expires.load(Ordering::Relaxed)), (der(&last), 2_272_147_200));
    stop.store(true, Ordering::Relaxed);
    follower.thread().unpark();
    follower.join().expect("no panic");
}

/// [E5] A handshake has its time, and holds up neither eviction nor drain.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let (certificates, config) = both(DOT);
    let tls = certificates.tls(DOT);
    let drain = CancellationToken::new();
    let connections = Connections::new(1, Arc::new(TcpCounters::default()), drain.clone());
    let shake = |octets: &'static [u8]| {
        let (mut client, stream) = tokio::io::duplex(64 << 10);
        let seat = connections.seat([192, 0, 2, 1].into()).expect("room");
        let tls = tls.clone();
        let shaking = tokio::spawn(async move { shake_hands(&tls, stream, &seat).await.is_some() });
        async move {
            use tokio::io::AsyncWriteExt;
            client.write_all(octets).await.expect("sent");
            (client, shaking)
        }
    };
    let begun = tokio::time::Instant::now();
    let (_client, shaking) = shake(b"\x16\x03\x01\x02\x00\x01").await;
    assert!(!shaking.await.expect("no panic"));
    assert_eq!(begun.elapsed(), HANDSHAKE);
    // What is no TLS ends at once.
    let (_client, shaking) = shake(b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(!shaking.await.expect("no panic"));
    assert_eq!(begun.elapsed(), HANDSHAKE);
    // The next one takes its place.
    let (_first, evicted) = shake(b"").await;
    let (_second, drained) = shake(b"").await;
    assert!(!evicted.await.expect("no panic"));
    drain.cancel();
    assert!(!drained.await.expect("no panic"));
    assert_eq!(begun.elapsed(), HANDSHAKE);
    // And one that is whole succeeds, with a name that is known or none, but not with another.
    let connections = Connections::new(9, Arc::new(TcpCounters::default()), CancellationToken::new());
    for (names, wanted) in [(DOT, true), (&[][..], true), (HTTP, false)] {
        let (client, stream) = tokio::io::duplex(64 << 10);
        let mut config = (*config).clone();
        config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
        let connecting = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name(), client);
        let seat = connections.seat([192, 0, 2, 1].into()).expect("room");
        let (client, server) = tokio::join!(connecting, shake_hands(&tls, stream, &seat));
        assert_eq!((client.is_ok(), server.is_some()), (wanted, wanted), "{names:?}");
    }
}
