//! Who may do what at a [`TestRegistry`](super::registry::TestRegistry): Basic, or Bearer with a token endpoint.

use std::collections::{BTreeSet, HashMap};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::Method;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use serde_json::{Value, json};

use super::journal::repository_of;

/// Who is let in.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// Everybody.
    #[default]
    Anyone,
    /// Whoever has this name and password, with each request.
    Basic { username: &'static str, password: &'static str },
    /// Whoever brings a token for the scope, from `/token`.
    Bearer(Bearer),
}

/// How tokens are given out.
#[derive(Clone, Debug, Default)]
pub struct Bearer {
    /// Who gets tokens (GET with Basic, or POST with `grant_type=password`); `None`: everybody.
    pub login: Option<(&'static str, &'static str)>,
    /// An identity token that gets tokens too (POST with `grant_type=refresh_token`).
    pub identity_token: Option<&'static str>,
    /// After so many requests a token has expired.
    pub uses: Option<usize>,
    /// What `expires_in` says, in seconds; it is not kept.
    pub expires_in: Option<u64>,
    /// Repositories that nobody may push to.
    pub read_only: BTreeSet<String>,
    /// Repositories that nobody may do anything with; `catalog` is the list of repositories too.
    pub hidden: BTreeSet<String>,
}

#[derive(Debug)]
struct Token {
    /// Such as `repository:some/name:pull`.
    scopes: BTreeSet<String>,
    uses_left: Option<usize>,
}

/// Tokens given out so far.
#[derive(Debug, Default)]
pub(super) struct Tokens(HashMap<String, Token>);

/// What a request without the right to be answered gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge(pub(super) String);

impl Tokens {
    /// Whether a request may pass.
    pub(super) fn check(
        &mut self,
        access: &Access,
        head: &Parts,
        host: &str,
    ) -> Result<(), Challenge> {
        let given = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        match access {
            Access::Anyone => Ok(()),
            Access::Basic { username, password } => {
                if given.is_some_and(|given| is_login(given, username, password)) {
                    return Ok(());
                }
                Err(Challenge("Basic realm=\"test\"".to_owned()))
            }
            Access::Bearer(_) => self.check_token(head, given, host),
        }
    }

    fn check_token(
        &mut self,
        head: &Parts,
        given: Option<&str>,
        host: &str,
    ) -> Result<(), Challenge> {
        let needed = needed_scopes(head);
        // As registries do, parameters come in any order, and the scope last.
        let challenge = |error: &str| {
            let scope = match grouped(&needed) {
                scopes if scopes.is_empty() => String::new(),
                scopes => format!(",scope=\"{}\"", scopes.join(" ")),
            };
            let error =
                if error.is_empty() { String::new() } else { format!(",error=\"{error}\"") };
            Err(Challenge(format!(
                "Bearer service=\"test-service\",realm=\"http://{host}/token\"{error}{scope}"
            )))
        };
        let Some(text) = given.and_then(|given| given.strip_prefix("Bearer ")) else {
            return challenge("");
        };
        let Some(token) = self.0.get_mut(text) else { return challenge("invalid_token") };
        match &mut token.uses_left {
            Some(0) => return challenge("invalid_token"),
            Some(left) => *left -= 1,
            None => {}
        }
        if needed.is_subset(&token.scopes) { Ok(()) } else { challenge("insufficient_scope") }
    }

    /// Answers `/token`; `None` where no token is given.
    pub(super) fn grant(&mut self, access: &Access, head: &Parts, form: &str) -> Option<Value> {
        let Access::Bearer(bearer) = access else { return None };
        let parameters = if head.method == Method::POST {
            form.to_owned()
        } else {
            head.uri.query().unwrap_or_default().to_owned()
        };
        let parameters: Vec<(String, String)> = pairs(&parameters);
        let value = |key: &str| {
            parameters.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
        };
        if value("service") != Some("test-service") || !bearer.lets_in(head, value) {
            return None;
        }
        let asked = parameters.iter().filter(|(key, _)| key == "scope");
        let asked = asked.flat_map(|(_, scopes)| scopes.split(' ')).flat_map(single_actions);
        let scopes = asked.filter(|scope| bearer.allows(scope)).collect();
        let text = format!("token-{}", self.0.len());
        self.0.insert(text.clone(), Token { scopes, uses_left: bearer.uses });
        // Older servers say `token`, newer ones `access_token`.
        let key = if self.0.len().is_multiple_of(2) { "token" } else { "access_token" };
        let mut answer = json!({ key: text });
        if let Some(seconds) = bearer.expires_in {
            answer["expires_in"] = seconds.into();
        }
        Some(answer)
    }
}

impl Bearer {
    fn lets_in<'a>(&self, head: &Parts, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        let given = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        match (value("grant_type"), self.login) {
            (Some("refresh_token"), _) => {
                self.identity_token.is_some() && value("refresh_token") == self.identity_token
            }
            (_, None) => true,
            (Some("password"), Some((username, password))) => {
                value("username") == Some(username) && value("password") == Some(password)
            }
            (_, Some((username, password))) => {
                given.is_some_and(|given| is_login(given, username, password))
            }
        }
    }

    fn allows(&self, scope: &str) -> bool {
        let mut parts = scope.splitn(3, ':').skip(1);
        let repository = parts.next().unwrap_or_default();
        let action = parts.next().unwrap_or_default();
        let locked = action == "push" && self.read_only.contains(repository);
        !locked && !self.hidden.contains(repository)
    }
}

fn is_login(given: &str, username: &str, password: &str) -> bool {
    given == format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")))
}

/// What a request needs, one action a scope.
fn needed_scopes(head: &Parts) -> BTreeSet<String> {
    let mut scopes = BTreeSet::new();
    if head.uri.path() == "/v2/_catalog" {
        scopes.insert("registry:catalog:*".to_owned());
    }
    let Some(repository) = repository_of(head.uri.path()) else { return scopes };
    scopes.insert(format!("repository:{repository}:pull"));
    if head.method != Method::GET && head.method != Method::HEAD {
        scopes.insert(format!("repository:{repository}:push"));
    }
    for (key, value) in pairs(head.uri.query().unwrap_or_default()) {
        if key == "from" {
            scopes.insert(format!("repository:{value}:pull"));
        }
    }
    scopes
}

/// `repository:a:pull` and `repository:a:push` as `repository:a:pull,push`.
fn grouped(scopes: &BTreeSet<String>) -> Vec<String> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for scope in scopes {
        let (of, action) = scope.rsplit_once(':').unwrap_or((scope, ""));
        match groups.iter_mut().find(|(group, _)| group == of) {
            Some((_, actions)) => actions.push(action.to_owned()),
            None => groups.push((of.to_owned(), vec![action.to_owned()])),
        }
    }
    groups.into_iter().map(|(of, actions)| format!("{of}:{}", actions.join(","))).collect()
}

fn single_actions(scope: &str) -> Vec<String> {
    let (of, actions) = scope.rsplit_once(':').unwrap_or((scope, ""));
    actions.split(',').map(|action| format!("{of}:{action}")).collect()
}

/// The pairs of a query or form, decoded.
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key), decoded(value))
    };
    text.split('&').filter(|pair| !pair.is_empty()).map(pair).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'+' => b' ',
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = String::from_utf8(digits).expect("an encoded byte");
                u8::from_str_radix(&digits, 16).expect("an encoded byte")
            }
            byte => byte,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).expect("UTF-8")
}
