//! The file of Docker (`config.json`) and podman (`auth.json`): where it says to ask for a host.
//!
//! Only `auths`, `credHelpers` and `credsStore` are looked at. Keys are hosts, `host/namespace` (podman)
//! or URLs (`https://host/v1/`, Docker of old). Entries of other hosts are never decoded, so one that
//! is broken harms nobody else.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::{Credentials, Secret};
use crate::reference::{RegistryHost, RepositoryName};

/// How Docker Hub's login is keyed: Docker's own spelling, then those of other tools.
const DOCKER_HUB_KEYS: [&str; 4] =
    ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"];

/// As lenient as Go's decoder, which the writers of these files read them with.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A file's content. `null` stands for nothing wherever it stands.
#[derive(Debug, Default, Deserialize)]
pub(super) struct AuthFile {
    #[serde(default)]
    auths: Option<BTreeMap<String, Option<Entry>>>,
    #[serde(default, rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

/// One host's or namespace's login.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<Secret>,
    #[serde(rename = "registrytoken")]
    registry_token: Option<Secret>,
}

/// Where to ask.
#[derive(Debug)]
pub(super) enum Source<'a> {
    /// A helper's program, without `docker-credential-`, and what to ask it for.
    Helper { name: &'a str, server: &'a str },
    /// An entry of the file itself.
    Entry(&'a Entry),
}

/// Content of another shape. Says where, and not what: the content is secret.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// An entry's `auth` that is no base64 of `user:password`.
#[derive(Debug)]
pub(super) struct BrokenAuth;

impl AuthFile {
    /// Reads a file's content; an empty file says nothing.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(bytes)
            .map_err(|error| Malformed { line: error.line(), column: error.column() })
    }

    /// Where to ask for `host`, in this order, until one knows it.
    pub(super) fn sources<'a>(
        &'a self,
        host: &'a RegistryHost,
        repository: Option<&RepositoryName>,
    ) -> Vec<Source<'a>> {
        let helpers = self.helpers.iter().flatten();
        let helper =
            helpers.filter_map(|(key, name)| Some((Rank::of(key, host, None)?, key, name)));
        let mut sources = Vec::new();
        match helper.min_by_key(|(rank, ..)| *rank) {
            Some((_, server, name)) if !name.is_empty() => {
                return vec![Source::Helper { name, server }];
            }
            Some(_) => {}
            None => sources.extend(self.store.iter().filter(|name| !name.is_empty()).map(|name| {
                let server = if host.is_docker_hub() { DOCKER_HUB_KEYS[0] } else { host.as_str() };
                Source::Helper { name, server }
            })),
        }
        let entries = self.auths.iter().flatten();
        let mut entries: Vec<_> = entries
            .filter_map(|(key, entry)| Some((Rank::of(key, host, repository)?, entry.as_ref()?)))
            .collect();
        entries.sort_by_key(|(rank, _)| *rank);
        sources.extend(entries.into_iter().map(|(_, entry)| Source::Entry(entry)));
        sources
    }
}

/// How well a key suits: the smaller the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// The more of the repository's name the key covers, the better.
    covered_bytes: Reverse<usize>,
    /// A host's usual spelling is better than others.
    spelling: usize,
}

impl Rank {
    /// How well `key` suits `repository` at `host`; nothing if it does not at all.
    fn of(key: &str, host: &RegistryHost, repository: Option<&RepositoryName>) -> Option<Self> {
        let without_scheme = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
        let (key_host, path) = match without_scheme.unwrap_or(key).split_once('/') {
            Some((key_host, path)) => (key_host, path.trim_end_matches('/')),
            None => (without_scheme.unwrap_or(key), ""),
        };
        if key_host.parse::<RegistryHost>().ok()? != *host {
            return None;
        }
        let covered_bytes = match without_scheme {
            // The path is the API's version, and no namespace. Docker keeps tokens of another kind
            // below Hub's URL.
            Some(_) if path.ends_with("access-token") || path.ends_with("refresh-token") => None,
            Some(_) => Some(0),
            None if path.is_empty() => Some(0),
            None => covers(path, host, repository?).then_some(path.len()),
        };
        let spellings =
            if host.is_docker_hub() { &DOCKER_HUB_KEYS[..] } else { &[host.as_str()][..] };
        let spelling = spellings.iter().position(|spelling| *spelling == key);
        Some(Self {
            covered_bytes: Reverse(covered_bytes?),
            spelling: spelling.unwrap_or(spellings.len()),
        })
    }
}

/// Whether `repository` is the namespace `path` or lies below it.
fn covers(path: &str, host: &RegistryHost, repository: &RepositoryName) -> bool {
    let is_short = host.is_docker_hub() && !repository.as_str().contains('/');
    let name = if is_short { &format!("library/{repository}") } else { repository.as_str() };
    name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Entry {
    /// What the entry says, if it says anything: Docker leaves empty entries behind.
    pub(super) fn credentials(&self) -> Result<Option<Credentials>, BrokenAuth> {
        let given = |secret: &Option<Secret>| secret.clone().filter(|s| !s.expose().is_empty());
        if let Some(token) = given(&self.registry_token) {
            return Ok(Some(Credentials::RegistryToken(token)));
        }
        if let Some(token) = given(&self.identity_token) {
            return Ok(Some(Credentials::IdentityToken(token)));
        }
        if let Some(auth) = given(&self.auth) {
            return decode(auth.expose()).map(Some).ok_or(BrokenAuth);
        }
        let username = self.username.clone().unwrap_or_default();
        let password = given(&self.password).unwrap_or_else(|| Secret::new(""));
        let is_empty = username.is_empty() && password.expose().is_empty();
        Ok((!is_empty).then_some(Credentials::Basic { username, password }))
    }
}

fn decode(auth: &str) -> Option<Credentials> {
    let auth: String = auth.split_ascii_whitespace().collect();
    let text = String::from_utf8(BASE64.decode(auth).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    // Docker of old filled the password up with zeros.
    let password = Secret::new(password.trim_matches('\0'));
    Some(Credentials::Basic { username: username.to_owned(), password })
}
