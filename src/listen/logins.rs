//! Who may ask: the users of a file that `htpasswd -B` wrote.
//!
//! The file is read once. Only bcrypt is taken, as by docker-registry: what else `htpasswd` writes can be
//! guessed too fast. A password is checked on a thread that may block, and what was right is
//! remembered, as clients send it with each request.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bcrypt::HashParts;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::digest::Digest;
use crate::registry::bounded_file::{self, UnreadableFile};

/// The `WWW-Authenticate` of an answer with the status 401.
pub const CHALLENGE: &str = "Basic realm=\"kharon\", charset=\"UTF-8\"";

/// How many right logins are remembered.
const REMEMBERED_MAX: usize = 1024;
/// The highest cost that `htpasswd` takes; each step doubles the time of a check.
const COST_MAX: u32 = 17;

/// The users that may ask. Clones share what they remember.
#[derive(Clone)]
pub struct Logins(Arc<Inner>);

struct Inner {
    hashes: HashMap<String, String>,
    /// Checked for users that are not there, so that the time tells nothing.
    decoy: String,
    /// Digests of right logins.
    remembered: Mutex<HashSet<Digest>>,
    /// Checks take a processor each.
    checking: Semaphore,
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").field("users", &self.0.hashes.len()).finish_non_exhaustive()
    }
}

/// A file of users that is of no use.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLogins {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableFile),
    /// It names nobody.
    #[error("expected users in `{}`, found none", path.display())]
    Nobody {
        /// The file.
        path: PathBuf,
    },
    /// A line is not what it should be. What stands in it is not shown.
    #[error("line {line} of `{}`: expected {expected}, found {found}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1 on.
        line: usize,
        /// What should be in it.
        expected: &'static str,
        /// What is in it.
        found: &'static str,
    },
}

impl InvalidLogins {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable(_) => None,
            Self::Nobody { .. } => Some("`htpasswd -B FILE NAME` adds a user".to_owned()),
            Self::Line { .. } => Some(
                "write the line anew with `htpasswd -B FILE NAME`, which uses bcrypt".to_owned(),
            ),
        }
    }
}

impl Logins {
    /// Reads the file at `path`. Blocks.
    ///
    /// # Errors
    /// [`InvalidLogins`] names the line that is wrong.
    pub fn read(path: &Path) -> Result<Self, InvalidLogins> {
        let bytes = bounded_file::read(path)?;
        Self::parse(&String::from_utf8_lossy(&bytes)).map_err(|refused| match refused {
            None => InvalidLogins::Nobody { path: path.to_owned() },
            Some((line, expected, found)) => {
                InvalidLogins::Line { path: path.to_owned(), line, expected, found }
            }
        })
    }

    fn parse(text: &str) -> Result<Self, Option<(usize, &'static str, &'static str)>> {
        let mut hashes = HashMap::new();
        let mut decoy = None;
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refuse = |expected, found| Some((at + 1, expected, found));
            let (user, hash) = line
                .split_once(':')
                .filter(|(user, _)| !user.is_empty())
                .ok_or_else(|| refuse("`NAME:HASH`", "no name"))?;
            let parts = hash.parse::<HashParts>().ok().filter(|_| is_bcrypt(hash));
            let parts = parts.ok_or_else(|| refuse("a bcrypt hash", kind_of(hash)))?;
            if parts.get_cost() > COST_MAX {
                return Err(refuse("a bcrypt hash of a cost up to 17", "a higher one"));
            }
            if hashes.insert(user.to_owned(), hash.to_owned()).is_some() {
                return Err(refuse("each user once", "one that stands above"));
            }
            decoy.get_or_insert_with(|| hash.to_owned());
        }
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let inner = Inner {
            hashes,
            decoy: decoy.ok_or(None)?,
            remembered: Mutex::default(),
            checking: Semaphore::new(processors),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Whether the head of a request has the name and password of a user (RFC 7617).
    pub async fn allow(&self, headers: &HeaderMap) -> bool {
        let Some((user, password)) = login_in(headers) else { return false };
        let login = Digest::of(format!("{user}\0{password}").as_bytes());
        if self.remembered().contains(&login) {
            return true;
        }
        let Ok(_turn) = self.0.checking.acquire().await else { return false };
        // Somebody else may have asked the same meanwhile.
        if self.remembered().contains(&login) {
            return true;
        }
        let known = self.0.hashes.get(&user);
        let (is_known, hash) = (known.is_some(), known.unwrap_or(&self.0.decoy).clone());
        let check = spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false));
        let is_right = check.await.unwrap_or(false) && is_known;
        if is_right {
            let mut remembered = self.remembered();
            if remembered.len() >= REMEMBERED_MAX {
                remembered.clear();
            }
            remembered.insert(login);
        }
        is_right
    }

    fn remembered(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.0.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn login_in(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, encoded) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn is_bcrypt(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix))
}

fn kind_of(hash: &str) -> &'static str {
    match hash {
        _ if hash.starts_with("$apr1$") => {
            "one of MD5 (apr1), as `htpasswd` writes it without `-B`"
        }
        _ if hash.starts_with("{SHA}") => "one of SHA-1",
        _ if hash.starts_with("$5$") => "one of SHA-256",
        _ if hash.starts_with("$6$") => "one of SHA-512",
        _ if is_bcrypt(hash) => "a broken one",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    /// `htpasswd -nbB -C 5 me secret`
    const LINE: &str = "me:$2y$05$AAAAAAAAAAAAAAAAAAAAA.";

    fn line(user: &str, password: &str) -> String {
        format!("{user}:{}", bcrypt::hash(password, 4).expect("a hash"))
    }

    fn headers(text: &str) -> HeaderMap {
        let value = format!("Basic {}", BASE64_STANDARD.encode(text));
        [(AUTHORIZATION, HeaderValue::from_str(&value).expect("valid"))].into_iter().collect()
    }

    #[tokio::test]
    async fn only_users_with_their_passwords_may_ask() {
        let text = format!("# users\n\n{}\n{}\n", line("me", "secret:1"), line("you", "other"));
        let logins = Logins::parse(&text).expect("valid");
        for _ in 0..2 {
            for (login, may) in [
                ("me:secret:1", true),
                ("you:other", true),
                ("me:other", false),
                ("me:", false),
                ("nobody:other", false),
                ("me", false),
                ("", false),
            ] {
                assert_eq!(logins.allow(&headers(login)).await, may, "{login}");
            }
        }
        assert_eq!(logins.remembered().len(), 2);
        assert!(!logins.allow(&HeaderMap::new()).await);
        let bearer = HeaderValue::from_static("Bearer bWU6c2VjcmV0OjE=");
        assert!(!logins.allow(&[(AUTHORIZATION, bearer)].into_iter().collect()).await);
    }

    #[test]
    fn a_line_that_does_not_serve_is_named_and_not_shown() {
        let good = line("me", "x");
        for (second, found) in [
            ("you:$apr1$abcdefgh$0123456789012345678901", "MD5"),
            ("you:{SHA}0123456789", "SHA-1"),
            ("you:$6$salt$hash", "SHA-512"),
            ("you:plain", "something else"),
            (LINE, "a broken one"),
            (&good.replace("me:$2b$04", "you:$2b$31"), "a higher one"),
            (&good, "one that stands above"),
            ("you", "no name"),
            (":x", "no name"),
        ] {
            let refused = Logins::parse(&format!("{good}\n{second}\n"));
            let Some((line, _, text)) = refused.expect_err(second) else { panic!("{second}") };
            assert_eq!(line, 2, "{second}");
            assert!(text.contains(found), "{second}: {text}");
        }
        assert!(matches!(Logins::parse("# nobody\n"), Err(None)));
    }
}
