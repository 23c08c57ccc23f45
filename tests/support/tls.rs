//! A certificate, users, and a client that trusts the one and knows the other.

use std::fs;
use std::path::{Path, PathBuf};

use kharon::listen::{Logins, Tls};
use reqwest::{Certificate, Client};

/// Users as `htpasswd -nbB me secret` writes them.
pub const HTPASSWD: &str = "me:$2y$05$6VgLAMBs6YOsBW6rOGHiOeyHHb42jHUDehT/gxp0Z9KQR/J6zmllC\n";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls").join(name)
}

/// For `127.0.0.1` and `localhost`.
pub fn tls() -> Tls {
    Tls::read(&fixture("server.cert"), &fixture("server.key")).expect("a pair")
}

/// `me`, whose password is `secret`.
pub fn logins() -> Logins {
    let folder = tempfile::tempdir().expect("a folder");
    let users = folder.path().join("users");
    fs::write(&users, HTPASSWD).expect("written");
    Logins::read(&users).expect("users")
}

/// A client that trusts [`tls`].
pub fn client() -> Client {
    let authority = fs::read(fixture("authority.crt")).expect("a file");
    let authority = Certificate::from_pem(&authority).expect("a certificate");
    Client::builder().no_proxy().tls_certs_only([authority]).build().expect("a client")
}
