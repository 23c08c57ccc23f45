use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls").join(name)
}

fn host(text: &str) -> RegistryHost {
    text.parse().expect(text)
}

/// Settings that look at nothing outside the tests.
fn bare() -> Connections {
    Connections { certs_directories: Vec::new(), ..Connections::default() }
}

fn client_identity() -> ClientIdentity {
    ClientIdentity { certificate: fixture("client.cert"), key: fixture("client.key") }
}

fn tls_acceptor() -> TlsAcceptor {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(fixture("authority.crt")).expect("a certificate");
    roots.add(authority).expect("a usable authority");
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
        .allow_unauthenticated()
        .build()
        .expect("a verifier");
    let certificate = CertificateDer::from_pem_file(fixture("server.cert")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).expect("a key");
    let config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .expect("a pair");
    TlsAcceptor::from(Arc::new(config))
}

/// Reads a request's head and answers `body`; what is asked for below `/moved` is elsewhere.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, body: &str) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    let status = if head.starts_with(b"GET /moved") {
        "307 Temporary Redirect\r\nlocation: /v2/"
    } else {
        "200 OK"
    };
    let length = body.len();
    let response =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(response.as_bytes()).await.expect("written");
    stream.shutdown().await.ok();
    String::from_utf8(head).expect("text")
}

/// A TLS server that answers the client certificate it was shown, `stranger` or `kharon`.
async fn tls_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let acceptor = tls_acceptor();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let shown = stream.get_ref().1.peer_certificates().is_some();
                    answer(stream, if shown { "kharon" } else { "stranger" }).await;
                }
            });
        }
    });
    port
}

/// A plain HTTP server, and the heads of the requests that it gets.
async fn http_server() -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let head = answer(stream, "plain").await;
            sender.send(head).ok();
        }
    });
    (port, receiver)
}

/// What the host answers over `scheme`, or `refused` where no connection comes about.
async fn ask(connections: &Connections, scheme: &str, host: &RegistryHost) -> String {
    let connection = connections.connect(host).expect("usable settings");
    match connection.client.get(format!("{scheme}://{host}/v2/")).send().await {
        Ok(response) => response.text().await.expect("a body"),
        Err(error) if error.is_connect() => "refused".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

#[tokio::test]
async fn a_server_is_trusted_through_its_own_authority_only() {
    let host = host(&format!("localhost:{}", tls_server().await));
    for (settings, expected) in [
        (bare(), "refused"),
        (Connections { ca_files: vec![fixture("authority.crt")], ..bare() }, "stranger"),
        (Connections { ca_files: vec![fixture("stranger.crt")], ..bare() }, "refused"),
        (Connections { tls_verification: TlsVerification::Skip, ..bare() }, "stranger"),
    ] {
        assert_eq!(ask(&settings, "https", &host).await, expected, "{settings:?}");
    }
}

#[tokio::test]
async fn the_command_lines_certificates_belong_to_the_main_registry_alone() {
    let port = tls_server().await;
    let (main, other) = (host(&format!("localhost:{port}")), host(&format!("127.0.0.1:{port}")));
    let settings = Connections {
        main: Some(main.clone()),
        ca_files: vec![fixture("authority.crt")],
        client_identity: Some(client_identity()),
        ..bare()
    };
    assert_eq!(ask(&settings, "https", &main).await, "kharon");
    assert_eq!(ask(&settings, "https", &other).await, "refused");
    let trusting = Connections { tls_verification: TlsVerification::Skip, ..settings.clone() };
    assert_eq!(ask(&trusting, "https", &main).await, "kharon");
    assert_eq!(ask(&trusting, "https", &other).await, "stranger");
    let without_main = Connections { main: None, ..settings };
    assert_eq!(ask(&without_main, "https", &main).await, "stranger");
    assert_eq!(ask(&without_main, "https", &other).await, "stranger");
}

#[tokio::test]
async fn certs_directories_serve_the_host_that_their_folder_names() {
    let port = tls_server().await;
    let (named, other) = (host(&format!("localhost:{port}")), host(&format!("127.0.0.1:{port}")));
    let directories = tempfile::tempdir().expect("temporary folder");
    let machine = directories.path().join("machine");
    let user = directories.path().join("user");
    let settings = Connections {
        certs_directories: vec![machine.clone(), user.clone(), directories.path().join("none")],
        ..bare()
    };
    assert_eq!(ask(&settings, "https", &named).await, "refused");
    let copy = |from: &str, to: PathBuf| {
        fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        fs::copy(fixture(from), to).expect("copied");
    };
    copy("authority.crt", machine.join(named.as_str()).join("ca.crt"));
    assert_eq!(ask(&settings, "https", &named).await, "stranger");
    copy("client.cert", user.join(named.as_str()).join("me.cert"));
    copy("client.key", user.join(named.as_str()).join("me.key"));
    assert_eq!(ask(&settings, "https", &named).await, "kharon");
    assert_eq!(ask(&settings, "https", &other).await, "refused");
}

type Fill<'a> = &'a dyn Fn() -> std::io::Result<()>;

#[test]
fn files_that_make_no_certificates_are_named() {
    let directory = tempfile::tempdir().expect("temporary folder");
    let folder = directory.path().join("registry.example");
    fs::create_dir(&folder).expect("made");
    let file = |name: &str| folder.join(name).display().to_string();
    let copy = |from: &str, to: &str| fs::copy(fixture(from), folder.join(to)).map(drop);
    let write = |name: &str, text: &str| fs::write(folder.join(name), text);
    let not_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cases: [(Fill, String); 8] = [
        (
            &|| copy("client.cert", "a.cert"),
            format!("expected `{}` beside `{}`, found none", file("a.key"), file("a.cert")),
        ),
        (
            &|| copy("client.key", "a.key"),
            format!("expected `{}` beside `{}`, found none", file("a.cert"), file("a.key")),
        ),
        (
            &|| {
                copy("client.cert", "a.cert")?;
                copy("server.key", "a.key")
            },
            format!(
                "expected a PEM certificate in `{}` and its key in `{}`",
                file("a.cert"),
                file("a.key")
            ),
        ),
        (
            &|| {
                copy("client.cert", "a.cert")?;
                copy("client.key", "a.key")?;
                copy("client.cert", "b.cert")?;
                copy("client.key", "b.key")
            },
            format!(
                "expected one client certificate, found `{}` and `{}`",
                file("a.cert"),
                file("b.cert")
            ),
        ),
        (
            &|| write("a.crt", "no certificate"),
            format!("expected PEM certificates in `{}`, found none", file("a.crt")),
        ),
        (
            &|| write("a.crt", not_der),
            format!("expected PEM certificates in `{}`, found a broken one", file("a.crt")),
        ),
        (&|| fs::create_dir(folder.join("a.crt")), format!("cannot read `{}`", file("a.crt"))),
        (
            &|| write("a.crt", &"x".repeat(2 << 20)),
            format!("expected at most 1048576 bytes in `{}`, found more", file("a.crt")),
        ),
    ];
    let settings = Connections { certs_directories: vec![directory.path().to_owned()], ..bare() };
    for (fill, expected) in cases {
        fill().expect("filled");
        let error = settings.connect(&host("registry.example")).expect_err(&expected);
        assert_eq!(error.to_string(), expected);
        settings.connect(&host("other.example")).expect("another host's folder is not read");
        fs::remove_dir_all(&folder).expect("removed");
        fs::create_dir(&folder).expect("made");
    }
}

#[test]
fn the_scheme_follows_from_the_settings_and_the_host() {
    let settings = Connections {
        plain_http: BTreeSet::from([host("localhost:1"), host("plain.example")]),
        ..bare()
    };
    for (name, scheme) in [
        ("localhost:1", Scheme::Http),
        ("plain.example", Scheme::Http),
        ("localhost:2", Scheme::HttpsOrHttp),
        ("127.0.0.1:2", Scheme::HttpsOrHttp),
        ("plain.example:443", Scheme::Https),
        ("docker.io", Scheme::Https),
    ] {
        assert_eq!(settings.connect(&host(name)).expect(name).scheme, scheme, "{name}");
    }
}

#[tokio::test]
async fn requests_name_kharon_and_redirects_are_left_to_the_caller() {
    let (port, mut heads) = http_server().await;
    let host = host(&format!("127.0.0.1:{port}"));
    let client = bare().connect(&host).expect("usable settings").client;
    let response = client.get(format!("http://{host}/moved")).send().await.expect("an answer");
    assert_eq!(response.status(), 307);
    let head = heads.recv().await.expect("a request").to_ascii_lowercase();
    assert!(head.contains(&format!("user-agent: {USER_AGENT}\r\n")), "{head}");
    assert!(heads.try_recv().is_err(), "only one request was asked for");
}

/// Runs this test again in a process of its own, where the environment can be chosen; says whether
/// this is that process.
fn in_own_process(test: &str, environment: &[(&str, &str)]) -> bool {
    const MARK: &str = "KHARON_TEST_OWN_PROCESS";
    if env::var_os(MARK).is_some() {
        return true;
    }
    let mut command = Command::new(env::current_exe().expect("the test program"));
    for name in ["NO_PROXY", "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "REQUEST_METHOD"] {
        command.env_remove(name).env_remove(name.to_ascii_lowercase());
    }
    let path = format!("{}::{test}", module_path!().split_once("::").expect("a module").1);
    command.args(["--exact", &path, "--nocapture"]);
    let output = command.env(MARK, "1").envs(environment.iter().copied()).output().expect("run");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && report.contains("1 passed"), "{output:?}");
    false
}

#[test]
fn a_machine_without_authorities_needs_one_only_for_https() {
    let nothing = [("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")];
    if !in_own_process("a_machine_without_authorities_needs_one_only_for_https", &nothing) {
        return;
    }
    let (remote, local) = (host("registry.example"), host("localhost:5000"));
    let error = bare().connect(&remote).expect_err("nobody to trust");
    assert_eq!(error.to_string(), "cannot set up TLS for `registry.example`");
    assert!(error.hint().is_some_and(|hint| hint.contains("ca-certificates")));
    let given = Connections { ca_files: vec![fixture("authority.crt")], ..bare() };
    given.connect(&remote).expect("an authority that the settings give");
    let skip = Connections { tls_verification: TlsVerification::Skip, ..bare() };
    skip.connect(&remote).expect("nobody needs to be trusted");
    let plain = Connections { plain_http: BTreeSet::from([remote.clone()]), ..bare() };
    plain.connect(&remote).expect("plain HTTP trusts anybody");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let (port, _heads) = http_server().await;
        let local = host(&format!("localhost:{port}"));
        assert_eq!(ask(&bare(), "http", &local).await, "plain");
        let local = host(&format!("localhost:{}", tls_server().await));
        assert_eq!(ask(&bare(), "https", &local).await, "refused");
        assert_eq!(ask(&given, "https", &local).await, "stranger");
    });
    bare().connect(&local).expect("a host of this machine may speak plain HTTP");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_of_the_environment_serves_every_host_but_this_machine() {
    const TARGET: &str = "KHARON_TEST_TARGET";
    let test = "the_proxy_of_the_environment_serves_every_host_but_this_machine";
    if let Ok(target) = env::var(TARGET) {
        let remote = host("registry.example");
        let settings = Connections { plain_http: BTreeSet::from([remote.clone()]), ..bare() };
        assert_eq!(ask(&settings, "http", &remote).await, "plain");
        assert_eq!(ask(&settings, "http", &host(&target)).await, "plain");
        return;
    }
    let (port, mut heads) = http_server().await;
    let (target, proxy) = (format!("localhost:{port}"), format!("http://127.0.0.1:{port}"));
    tokio::task::spawn_blocking(move || {
        in_own_process(test, &[(TARGET, target.as_str()), ("HTTP_PROXY", proxy.as_str())])
    })
    .await
    .expect("run");
    let mut line =
        async || heads.recv().await.expect("a request").lines().next().map(str::to_owned);
    assert_eq!(line().await.as_deref(), Some("GET http://registry.example/v2/ HTTP/1.1"));
    assert_eq!(line().await.as_deref(), Some("GET /v2/ HTTP/1.1"));
}
