//! Answers to challenges: Docker's token specification (Bearer) and Basic.
//!
//! Nothing is sent before it is asked for. A token is kept for the scopes that it was made for and
//! renewed before it ends; one request at a time asks for it, the others wait. Credentials go to the
//! registry itself and to the token service that it names, over TLS unless the registry has none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::Instant;

use super::access::Access;
use super::challenge::{Bearer, Challenge};
use super::credentials::{CredentialStore, Credentials, Secret};
use super::error::{Error, Identity, Kind, Subject};
use super::http::{Authorization, Body, Http, Method, Request, Url, form, headers, resolve};
use crate::reference::RegistryHost;

/// Tokens have some kilobytes; an answer beyond this is none.
const TOKEN_ANSWER_MAX_BYTES: u64 = 1024 * 1024;
/// How long a token serves whose answer does not say (Docker's token specification).
const TOKEN_DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A life beyond this is not believed, nor needed.
const TOKEN_MAX_SECONDS: f64 = 86_400.0;
/// A token is renewed this long before it ends, or after three quarters of a shorter life.
const TOKEN_RENEWAL: Duration = Duration::from_secs(15);
/// The name under which `OAuth2` token services know us.
const CLIENT_ID: &str = "kharon";

/// What one registry wants to see.
pub(super) struct Auth {
    http: Arc<Http>,
    host: RegistryHost,
    credentials: Arc<CredentialStore>,
    takes_basic: AtomicBool,
    tokens: Mutex<HashMap<Vec<String>, Arc<Slot>>>,
}

type Slot = tokio::sync::Mutex<Option<Token>>;

#[derive(Clone)]
struct Token {
    authorization: Authorization,
    renew_at: Option<Instant>,
    /// Where it came from, to be asked again.
    bearer: Bearer,
}

impl Token {
    fn is_fresh(&self) -> bool {
        self.renew_at.is_none_or(|renew_at| Instant::now() < renew_at)
    }
}

impl Auth {
    pub(super) fn new(
        http: Arc<Http>,
        host: RegistryHost,
        credentials: Arc<CredentialStore>,
    ) -> Self {
        let takes_basic = AtomicBool::new(false);
        Self { http, host, credentials, takes_basic, tokens: Mutex::default() }
    }

    fn slot(&self, scopes: &[String]) -> Arc<Slot> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tokens.entry(scopes.to_vec()).or_default())
    }

    /// What is known to be wanted for `access`, before anything was sent to `base`.
    pub(super) async fn known(
        &self,
        access: &Access,
        base: &Url,
    ) -> Result<Option<Authorization>, Error> {
        if self.takes_basic.load(Ordering::Relaxed) {
            return self.basic(access).await;
        }
        if let Some(wider) = access.wider() {
            let slot = self.slot(wider.scopes());
            let token = slot.lock().await;
            if let Some(token) = token.as_ref().filter(|token| token.is_fresh()) {
                return Ok(Some(token.authorization.clone()));
            }
        }
        let slot = self.slot(access.scopes());
        let mut token = slot.lock().await;
        if let Some(stale) = token.as_ref().filter(|token| !token.is_fresh()) {
            let bearer = stale.bearer.clone();
            *token = self.token(&bearer, access, base).await?;
        }
        Ok(token.as_ref().map(|token| token.authorization.clone()))
    }

    /// What answers `challenges`, after `refused` was not enough; none if there is nothing better.
    pub(super) async fn answer(
        &self,
        challenges: &[Challenge],
        access: &Access,
        base: &Url,
        refused: Option<&Authorization>,
    ) -> Result<Option<Authorization>, Error> {
        for challenge in challenges {
            let Challenge::Bearer(bearer) = challenge else { continue };
            let slot = self.slot(access.scopes());
            let mut token = slot.lock().await;
            let newer = token.as_ref().filter(|token| Some(&token.authorization) != refused);
            if let Some(newer) = newer.filter(|token| token.is_fresh()) {
                return Ok(Some(newer.authorization.clone()));
            }
            *token = self.token(bearer, access, base).await?;
            return Ok(token.as_ref().map(|token| token.authorization.clone()));
        }
        if challenges.contains(&Challenge::Basic) {
            let basic = self.basic(access).await?.filter(|basic| Some(basic) != refused);
            if basic.is_some() {
                self.takes_basic.store(true, Ordering::Relaxed);
            }
            return Ok(basic);
        }
        Ok(None)
    }

    async fn credentials(&self, access: &Access) -> Result<Credentials, Error> {
        let found = self.credentials.find(&self.host, access.repository()).await;
        found.map_err(|error| {
            Subject::new(&self.host, "an answer to its challenge").error(Kind::Credentials(error))
        })
    }

    async fn basic(&self, access: &Access) -> Result<Option<Authorization>, Error> {
        Ok(match self.credentials(access).await? {
            Credentials::Basic { username, password } => basic(&username, &password),
            _ => None,
        })
    }

    async fn token(
        &self,
        bearer: &Bearer,
        access: &Access,
        base: &Url,
    ) -> Result<Option<Token>, Error> {
        let scopes = access.scopes_with(&bearer.scopes);
        let subject = Subject::new(&self.host, thing(&scopes));
        let credentials = self.credentials(access).await?;
        if let Credentials::RegistryToken(secret) = &credentials {
            let authorization = Authorization::new("Bearer", secret.expose(), Identity::Known);
            let bearer = bearer.clone();
            return Ok(authorization.map(|authorization| Token {
                authorization,
                renew_at: None,
                bearer,
            }));
        }
        let realm = resolve(base, &bearer.realm).map_err(|kind| subject.error(kind))?;
        if realm.scheme() == "http" && base.scheme() != "http" {
            let what = "its token service is not reached by TLS, and so gets no credentials";
            return Err(subject.error(Kind::Protocol(what.to_owned())));
        }
        let identity = match credentials {
            Credentials::Anonymous => Identity::Anonymous,
            _ => Identity::Known,
        };
        let asked_at = Instant::now();
        let (request, authorization) = token_request(realm, bearer, &scopes, &credentials);
        let sent = self.http.send(&request, authorization.as_ref()).await;
        let mut response = sent.map_err(|failure| subject.error(failure))?;
        if !response.status().is_success() {
            return Err(subject.error(response.refusal_to(identity).await));
        }
        let body = response.bytes(TOKEN_ANSWER_MAX_BYTES).await;
        let body = body.map_err(|failure| subject.error(failure))?;
        let answer = read_token(&body, identity);
        let (authorization, life) =
            answer.map_err(|what| subject.error(response.failure(Kind::Protocol(what))))?;
        let renew_at = Some(asked_at + life.saturating_sub(TOKEN_RENEWAL.min(life / 4)));
        Ok(Some(Token { authorization, renew_at, bearer: bearer.clone() }))
    }
}

fn thing(scopes: &[String]) -> String {
    if scopes.is_empty() {
        "a token".to_owned()
    } else {
        format!("a token for `{}`", scopes.join(" "))
    }
}

fn basic(username: &str, password: &Secret) -> Option<Authorization> {
    let pair = format!("{username}:{}", password.expose());
    let secret = base64::engine::general_purpose::STANDARD.encode(pair);
    Authorization::new("Basic", &secret, Identity::Known)
}

/// A GET by Docker's token specification, or the POST of its `OAuth2` variant for identity tokens.
fn token_request(
    mut realm: Url,
    bearer: &Bearer,
    scopes: &[String],
    credentials: &Credentials,
) -> (Request, Option<Authorization>) {
    let service = bearer.service.iter().map(|service| ("service", service.as_str()));
    if let Credentials::IdentityToken(token) = credentials {
        let joined = scopes.join(" ");
        let pairs = [("grant_type", "refresh_token"), ("client_id", CLIENT_ID)];
        let scope = (!joined.is_empty()).then_some(("scope", joined.as_str()));
        let secret = ("refresh_token", token.expose());
        let pairs = pairs.into_iter().chain(service).chain(scope).chain([secret]);
        let body = Body::Bytes(Bytes::from(form(&realm, pairs)));
        let request = Request::new(Method::POST, realm)
            .with(headers::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .with_body(body);
        return (request, None);
    }
    let scopes = scopes.iter().map(|scope| ("scope", scope.as_str()));
    let pairs: Vec<(&str, &str)> = service.chain(scopes).collect();
    if !pairs.is_empty() {
        realm.query_pairs_mut().extend_pairs(pairs);
    }
    let authorization = match credentials {
        Credentials::Basic { username, password } => basic(username, password),
        _ => None,
    };
    (Request::get(realm), authorization)
}

fn read_token(body: &[u8], identity: Identity) -> Result<(Authorization, Duration), String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<serde_json::Value>,
    }
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| "expected a token, found no JSON".to_owned())?;
    let token = [answer.token, answer.access_token].into_iter().flatten().find(|t| !t.is_empty());
    let token = token.ok_or("expected a `token`, found none")?;
    let authorization = Authorization::new("Bearer", &token, identity)
        .ok_or("expected a token, found one that no header can hold")?;
    let seconds = answer.expires_in.and_then(|value| match value {
        serde_json::Value::String(text) => text.parse().ok(),
        number => number.as_f64(),
    });
    let seconds = seconds.filter(|&seconds| seconds > 0.0);
    let life = seconds.map(|seconds| Duration::from_secs_f64(f64::min(seconds, TOKEN_MAX_SECONDS)));
    Ok((authorization, life.unwrap_or(TOKEN_DEFAULT_LIFE)))
}

#[cfg(test)]
mod tests {
    use super::super::connection::Connections;
    use super::*;
    use crate::progress::Silent;

    #[tokio::test]
    async fn no_token_is_asked_for_in_the_clear_unless_the_registry_is_reached_so() {
        let http = Arc::new(Http::new(Connections::default(), Arc::new(Silent)));
        let host: RegistryHost = "registry.example".parse().expect("valid");
        let credentials = Arc::new(CredentialStore::anonymous());
        let auth = Auth::new(http, host, credentials);
        let base: Url = "https://registry.example/v2/".parse().expect("valid");
        let realm = "http://auth.example/token".to_owned();
        let bearer = Bearer { realm, service: None, scopes: Vec::new() };
        let error = auth.token(&bearer, &Access::registry(), &base).await.err().expect("refused");
        assert!(error.to_string().contains("not reached by TLS"), "{error}");
    }

    #[test]
    fn a_token_is_read_however_it_is_called_and_timed() {
        for (body, expected) in [
            (r#"{"token":"a","expires_in":300}"#, Some(("Bearer a", 300))),
            (r#"{"access_token":"b","token":""}"#, Some(("Bearer b", 60))),
            (r#"{"token":"a","access_token":"b","expires_in":"90"}"#, Some(("Bearer a", 90))),
            (r#"{"token":"a","expires_in":0}"#, Some(("Bearer a", 60))),
            (r#"{"token":"a","expires_in":-5}"#, Some(("Bearer a", 60))),
            (r#"{"token":"a","expires_in":1e300}"#, Some(("Bearer a", 86_400))),
            (r#"{"token":"a\nb"}"#, None),
            (r#"{"token":""}"#, None),
            ("{}", None),
            ("<html>", None),
        ] {
            let found = read_token(body.as_bytes(), Identity::Anonymous).ok();
            let found = found.as_ref().map(|(authorization, life)| {
                (authorization.header.to_str().expect("text"), life.as_secs())
            });
            assert_eq!(found, expected, "{body}");
        }
    }
}
