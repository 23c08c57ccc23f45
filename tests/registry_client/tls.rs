//! TLS where it is expected, and what is made of its absence.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kharon::progress::Silent;
use kharon::registry::connection::Connections;
use kharon::registry::credentials::CredentialStore;
use kharon::registry::{HostSettings, Registries};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::server::{Reply, Server};
use crate::{chain, content, descriptor, repository};

#[tokio::test]
async fn a_certificate_that_is_not_trusted_ends_the_matter_at_once() {
    let (server, connections) = Server::start_tls(|_| Reply::new(200)).await;
    let registry = server.registry_with(|connections| connections.plain_http.clear());
    let error = registry.check().await.expect_err("not trusted");
    assert!(error.is_unreachable() && !error.is_temporary(), "{}", chain(&error));
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("authority")), "{error}");
    // Neither again nor over plain http.
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_trusted_registry_on_this_machine_is_spoken_to_by_tls() {
    let (server, _) = Server::start_tls(|_| Reply::new(200)).await;
    let registry = server.registry_with(|connections| {
        connections.plain_http.clear();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls");
        connections.ca_files = vec![fixtures.join("authority.crt")];
    });
    registry.check().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    // Once to learn that it is TLS, once to ask.
    assert_eq!(server.requests(), ["GET /v2/", "GET /v2/"]);
}

#[tokio::test]
async fn authorities_of_one_registry_are_trusted_there_alone() {
    let (server, _) = Server::start_tls(|_| Reply::new(200)).await;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls");
    let settings =
        HostSettings { ca_files: vec![fixtures.join("authority.crt")], ..HostSettings::default() };
    let registry = server.registry_with(|connections| {
        let host = connections.plain_http.pop_first().expect("the server");
        connections.hosts = [(host, settings.clone())].into();
    });
    registry.check().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let registry = server.registry_with(|connections| {
        connections.plain_http.clear();
        let other = "other.example".parse().expect("a host");
        connections.hosts = [(other, settings.clone())].into();
    });
    let error = registry.check().await.expect_err("not trusted");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_server_that_hangs_up_on_tls_is_spoken_to_without_on_this_machine() {
    for reads in [1, 4000] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let host = listener.local_addr().expect("an address").to_string();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // A socket that is closed with bytes unread is reset.
                let mut bytes = vec![0; reads];
                stream.read_exact(&mut bytes[..1]).await.expect("a byte");
                if bytes[0] == 0x16 {
                    let _ = stream.read(&mut bytes).await;
                    continue;
                }
                let _ = stream.read(&mut [0; 4000]).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.expect("written");
            }
        });
        let registries = Registries::new(
            Connections { certs_directories: Vec::new(), ..Connections::default() },
            CredentialStore::anonymous(),
            Arc::new(Silent),
        );
        let registry = registries.registry(&host.parse().expect("a host")).expect("a client");
        registry.check().await.unwrap_or_else(|error| panic!("{reads}: {}", chain(&error)));
        task.abort();
    }
}

#[tokio::test]
async fn an_answer_without_tls_is_none_where_tls_was_named() {
    let plain = Server::start(|_| Reply::new(200).body(content(10))).await;
    let target = plain.url("/data").replace("http:", "https:");
    let server = Server::start(move |_| Reply::new(307).with("location", target.clone())).await;
    let blob = server.registry().blob(&repository(), &descriptor(&content(10)));
    let error = blob.open(0..10).await.expect_err("no TLS");
    assert!(!error.is_temporary(), "{}", chain(&error));
    assert!(error.to_string().contains("expected TLS"), "{error}");
    assert_eq!((server.log().len(), plain.log().len()), (1, 0));
}
