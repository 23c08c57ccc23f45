//! The instrument that other tests rely on does what it says.

mod support;

use std::time::Duration;

use bytes::Bytes;
use kharon::digest::Digest;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Client, Method, Response};
use support::access::{Access, Bearer};
use support::fault::{Effect, Fault};
use support::images::{Image, layer, random_bytes, random_layer};
use support::registry::{Locations, Options, Redirect, TestRegistry};

fn client() -> Client {
    Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(5))
        .build()
        .expect("a client")
}

async fn ask(registry: &TestRegistry, method: &str, path: &str) -> reqwest::Result<Response> {
    let method: Method = method.parse().expect("a method");
    client().request(method, registry.url(path)).send().await
}

async fn status(registry: &TestRegistry, method: &str, path: &str) -> u16 {
    ask(registry, method, path).await.expect("an answer").status().as_u16()
}

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map_or("", |value| value.to_str().expect("text")).to_owned()
}

#[tokio::test]
async fn what_is_put_is_served_and_noted() {
    let registry = TestRegistry::start();
    let image = Image::oci(&[layer(&[("etc/motd", b"hello")]), random_layer(1, 10_000)]);
    registry.put("some/name", "1.0", &image);
    assert!(registry.journal().is_empty());
    let manifest = ask(&registry, "GET", "/v2/some/name/manifests/1.0").await.expect("an answer");
    assert_eq!(header(&manifest, "docker-content-digest"), image.digest().to_string());
    assert_eq!(manifest.bytes().await.expect("bytes"), image.manifest.raw);
    for blob in &image.blobs {
        let path = format!("/v2/some/name/blobs/{}", blob.digest());
        let got = ask(&registry, "GET", &path).await.expect("an answer");
        assert_eq!(got.bytes().await.expect("bytes"), blob.bytes);
        let elsewhere = format!("/v2/another/blobs/{}", blob.digest());
        assert_eq!(status(&registry, "HEAD", &elsewhere).await, 404);
    }
    let journal = registry.journal();
    assert_eq!(journal[0].line(), "GET /v2/some/name/manifests/1.0 -> 200");
    assert_eq!(journal[0].response_body_bytes, image.manifest.raw.len() as u64);
    let size: usize = image.blobs.iter().map(|blob| blob.bytes.len()).sum();
    assert_eq!(registry.blob_bytes_fetched(), size as u64);
    assert_eq!(registry.count("HEAD", "/blobs/"), 3);
}

#[tokio::test]
async fn every_kind_of_content_is_pushed_over_http() {
    let registry = TestRegistry::start();
    let image = Image::oci_for("linux/arm64/v8", &[layer(&[("a", b"1")])]);
    let index = Image::index(&[image.clone(), Image::attestation(&image)]);
    let list = Image::docker_list(&[Image::docker(&[layer(&[("b", b"2")])])]);
    let signature = Image::cosign_signature(&image);
    let referrer = Image::referrer(&image, "application/x-test", b"3");
    let chart = Image::helm_chart("chart", "1.2.3");
    let tag = image.signature_tag();
    for (tag, content) in
        [("index", &index), ("list", &list), (&tag, &signature), ("chart", &chart), ("", &referrer)]
    {
        content.push_to(&registry.url(""), "far/away", tag).await;
    }
    assert_eq!(registry.tags("far/away"), ["chart", "index", "list", &tag]);
    assert_eq!(registry.tagged("far/away", "index").as_ref(), Some(index.digest()));
    assert!(registry.manifest("far/away", &referrer.digest().to_string()).is_some());
    assert_eq!(index.manifest.children()[1].attests_to(), Some(&*image.digest().to_string()));
    let blobs = index.all_blobs();
    assert!(blobs.iter().all(|blob| registry.has_blob("far/away", blob.digest())));
    let bytes: usize = [&index, &list, &signature, &chart, &referrer]
        .iter()
        .flat_map(|content| content.children.iter().chain([*content]))
        .flat_map(|content| &content.blobs)
        .map(|blob| blob.bytes.len())
        .sum();
    assert_eq!(registry.blob_bytes_sent_to("far/away"), bytes as u64);
    assert_eq!(registry.blob_bytes_sent_to("far"), 0);
}

#[tokio::test]
async fn faults_strike_as_they_are_set() {
    let registry = TestRegistry::start();
    let digest = registry.put_blob("a", &random_bytes(7, 3_000_000));
    let path = format!("/v2/a/blobs/{digest}");
    let get = || async { ask(&registry, "GET", &path).await?.bytes().await };

    registry.fail(Fault::on("GET", "/blobs/", Effect::CloseBeforeHeaders).skip(1));
    assert!(get().await.is_ok());
    assert!(get().await.is_err());
    assert_eq!(registry.journal()[1].status, 0);

    registry.fail(Fault::on("GET", "/blobs/", Effect::CutBodyAfter(1_500_000)));
    assert!(get().await.is_err());
    assert_eq!(registry.journal()[2].response_body_bytes, 1_500_000);

    registry.fail(Fault::on("", "", Effect::Corrupt(2_000_000)));
    let corrupt = get().await.expect("bytes");
    assert_eq!(corrupt.len(), 3_000_000);
    assert_ne!(Digest::of(&corrupt), digest);

    registry.fail(Fault::on("GET", "", Effect::Status(429, vec![("retry-after", "7".to_owned())])));
    let limited = ask(&registry, "GET", &path).await.expect("an answer");
    assert_eq!((limited.status().as_u16(), header(&limited, "retry-after")), (429, "7".to_owned()));

    registry.fail(Fault::on("GET", "", Effect::IgnoreRange));
    let ranged = || client().get(registry.url(&path)).header(RANGE, "bytes=0-9").send();
    assert_eq!(ranged().await.expect("an answer").status().as_u16(), 200);
    assert_eq!(ranged().await.expect("an answer").status().as_u16(), 206);

    let removed = Effect::Header("docker-content-digest", None);
    registry.fail(Fault::on("HEAD", "", removed).times(2));
    for expected in ["", "", &digest.to_string()] {
        let head = ask(&registry, "HEAD", &path).await.expect("an answer");
        assert_eq!(header(&head, "docker-content-digest"), expected);
    }

    for effect in [Effect::Hang, Effect::StallBodyAfter(100)] {
        registry.fail(Fault::on("GET", "", effect));
        let stalled = tokio::time::timeout(Duration::from_millis(200), get()).await;
        assert!(stalled.is_err(), "an answer came");
    }

    registry.fail(Fault::on("GET", "", Effect::CloseBeforeHeaders).always());
    assert!(get().await.is_err());
    assert!(get().await.is_err());
    registry.heal();
    assert!(get().await.is_ok());
    assert_eq!(registry.faults_struck(), 11);
}

#[tokio::test]
async fn a_torn_request_counts_as_far_as_it_came() {
    for (torn_uploads_die, expected) in [(false, 204), (true, 404)] {
        let registry = TestRegistry::start_with(Options { torn_uploads_die, ..Options::default() });
        let started = ask(&registry, "POST", "/v2/a/blobs/uploads/").await.expect("an answer");
        let session = header(&started, "location");
        registry.fail(Fault::on("PATCH", "", Effect::CutRequestAfter(10)));
        let patch = client().patch(registry.url(&session)).body(vec![1; 1000]).send().await;
        assert!(patch.is_err());
        let found = ask(&registry, "GET", &session).await.expect("an answer");
        assert_eq!(found.status().as_u16(), expected);
        if expected == 204 {
            assert_eq!(header(&found, "range"), "0-9");
        }
    }
}

#[tokio::test]
async fn a_lost_answer_leaves_its_work_done() {
    let registry = TestRegistry::start();
    let chart = Image::helm_chart("a", "1");
    for blob in &chart.blobs {
        registry.put_blob("a", &blob.bytes);
    }
    registry.fail(Fault::nth_request(0, Effect::LoseAnswer));
    let put = client()
        .put(registry.url("/v2/a/manifests/1"))
        .header(CONTENT_TYPE, chart.manifest.descriptor.media_type.as_str())
        .body(chart.manifest.raw.clone());
    assert!(put.send().await.is_err());
    assert_eq!(registry.tagged("a", "1").as_ref(), Some(chart.digest()));
}

#[tokio::test]
async fn basic_logins_are_asked_for() {
    let access = Access::Basic { username: "user", password: "pass" };
    let registry = TestRegistry::start_with(Options { access, ..Options::default() });
    let refused = ask(&registry, "GET", "/v2/").await.expect("an answer");
    assert_eq!(refused.status().as_u16(), 401);
    assert_eq!(header(&refused, "www-authenticate"), "Basic realm=\"test\"");
    for (password, expected) in [("pass", 200), ("other", 401)] {
        let given = client().get(registry.url("/v2/")).basic_auth("user", Some(password));
        assert_eq!(given.send().await.expect("an answer").status().as_u16(), expected);
    }
    assert!(registry.journal()[1].authorized && !registry.journal()[0].authorized);
}

#[tokio::test]
async fn tokens_have_scopes_and_expire() {
    let bearer = Bearer {
        login: Some(("user", "pass")),
        identity_token: Some("identity"),
        uses: Some(2),
        expires_in: Some(60),
        read_only: ["locked".to_owned()].into(),
        ..Bearer::default()
    };
    let access = Access::Bearer(bearer);
    let registry = TestRegistry::start_with(Options { access, ..Options::default() });
    registry.put("a", "1", &Image::helm_chart("a", "1"));
    let challenge = ask(&registry, "POST", "/v2/a/blobs/uploads/?mount=x&from=b").await;
    let challenge = header(&challenge.expect("an answer"), "www-authenticate");
    let host = registry.host();
    let scope = "repository:a:pull,push repository:b:pull";
    let expected =
        format!("Bearer service=\"test-service\",realm=\"http://{host}/token\",scope=\"{scope}\"");
    assert_eq!(challenge, expected);

    assert_eq!(status(&registry, "GET", "/token?service=test-service").await, 401);
    let token = |scope: &str| {
        let url = registry.url(&format!("/token?service=test-service&scope={scope}"));
        let request = client().get(url).basic_auth("user", Some("pass"));
        async move {
            let text = request.send().await.expect("an answer").text().await.expect("text");
            let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let token = answer.get("token").or(answer.get("access_token"));
            token.and_then(serde_json::Value::as_str).expect("a token").to_owned()
        }
    };
    let with = |method: &str, path: &str, token: &str| {
        let request = client().request(method.parse().expect("a method"), registry.url(path));
        let request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        async move { request.send().await.expect("an answer") }
    };
    let pull = token("repository:a:pull").await;
    assert_eq!(with("GET", "/v2/a/manifests/1", &pull).await.status().as_u16(), 200);
    let push = with("POST", "/v2/a/blobs/uploads/", &pull).await;
    assert!(header(&push, "www-authenticate").contains("insufficient_scope"));
    let expired = with("GET", "/v2/a/manifests/1", &pull).await;
    assert!(header(&expired, "www-authenticate").contains("invalid_token"));
    let both = token("repository:a:pull,push").await;
    assert_eq!(with("POST", "/v2/a/blobs/uploads/", &both).await.status().as_u16(), 202);
    let locked = token("repository:locked:pull,push").await;
    assert_eq!(with("POST", "/v2/locked/blobs/uploads/", &locked).await.status().as_u16(), 401);

    let form = "grant_type=refresh_token&service=test-service&refresh_token=identity&scope=repository%3Aa%3Apull";
    let by_identity = client().post(registry.url("/token")).body(form).send().await;
    assert_eq!(by_identity.expect("an answer").status().as_u16(), 200);
}

#[tokio::test]
async fn redirected_blobs_must_not_see_credentials() {
    let redirect = Some(Redirect { uses: Some(2) });
    let registry = TestRegistry::start_with(Options { redirect, ..Options::default() });
    let digest = registry.put_blob("a", b"some bytes");
    let path = format!("/v2/a/blobs/{digest}");
    let answer = ask(&registry, "GET", &path).await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 307);
    let location = header(&answer, LOCATION.as_str());
    let part = client().get(&location).header(RANGE, "bytes=5-").send().await.expect("an answer");
    assert_eq!(part.text().await.expect("text"), "bytes");
    registry.assert_no_violations();
    let careless = client().get(&location).header(AUTHORIZATION, "Bearer x").send().await;
    assert_eq!(careless.expect("an answer").status().as_u16(), 400);
    assert_eq!(registry.violations().len(), 1);
    for expected in [200, 403] {
        let answer = client().get(&location).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), expected);
        // What nobody waits for may never be sent, and then it is not counted.
        answer.bytes().await.expect("bytes");
    }
    assert_eq!(registry.blob_bytes_fetched(), 5 + 10);
}

#[tokio::test]
async fn mounts_need_the_blob_where_they_come_from() {
    for (mounts_refused, from, expected) in [(false, "a", 201), (false, "b", 202), (true, "a", 202)]
    {
        let registry = TestRegistry::start_with(Options { mounts_refused, ..Options::default() });
        let digest = registry.put_blob("a", b"some bytes");
        let path = format!("/v2/c/blobs/uploads/?mount={digest}&from={from}");
        assert_eq!(status(&registry, "POST", &path).await, expected);
        assert_eq!(registry.has_blob("c", &digest), expected == 201);
    }
}

#[tokio::test]
async fn habits_change_what_is_taken_and_answered() {
    let image = Image::oci(&[layer(&[("a", b"1")])]);
    let other = Image::referrer(&image, "application/x", b"");
    let index = Image::index(&[image.clone(), Image::oci_for("linux/arm64", &[])]);
    let put = async |registry: &TestRegistry, tag: &str, image: &Image| {
        let raw: Bytes = image.manifest.raw.clone();
        let request = client()
            .put(registry.url(&format!("/v2/a/manifests/{tag}")))
            .header(CONTENT_TYPE, image.manifest.descriptor.media_type.as_str());
        request.body(raw).send().await.expect("an answer")
    };
    let start = |options: Options| {
        let registry = TestRegistry::start_with(options);
        registry.put("a", "1", &image);
        registry.put_blob("a", &other.blobs[0].bytes);
        registry.put_blob("a", &other.blobs[1].bytes);
        registry
    };

    let registry = start(Options::default());
    assert_eq!(put(&registry, "2", &index).await.status().as_u16(), 404);
    assert_eq!(
        header(&put(&registry, "1", &other).await, "oci-subject"),
        image.digest().to_string()
    );
    registry.forget_blob("a", image.blobs[1].digest());
    assert_eq!(put(&registry, "1", &image).await.status().as_u16(), 404);

    let registry = start(Options { sparse_allowed: true, ..Options::default() });
    assert_eq!(put(&registry, "2", &index).await.status().as_u16(), 201);
    assert_eq!(registry.tagged("a", "2").as_ref(), Some(index.digest()));

    let options = Options { no_referrers: true, no_content_digest: true, ..Options::default() };
    let registry = start(options);
    let answer = put(&registry, "2", &other).await;
    assert_eq!(header(&answer, "oci-subject") + &header(&answer, "docker-content-digest"), "");
    let path = format!("/v2/a/referrers/{}", image.digest());
    assert_eq!(status(&registry, "GET", &path).await, 404);

    let registry = start(Options { immutable_tags: true, ..Options::default() });
    assert_eq!(put(&registry, "1", &image).await.status().as_u16(), 201);
    assert_eq!(put(&registry, "1", &other).await.status().as_u16(), 412);

    let registry = start(Options { body_max_bytes: Some(100), ..Options::default() });
    assert_eq!(put(&registry, "1", &image).await.status().as_u16(), 413);

    let registry = start(Options { manifest_pulls: Some(1), ..Options::default() });
    let first = ask(&registry, "GET", "/v2/a/manifests/1").await.expect("an answer");
    assert_eq!(header(&first, "ratelimit-remaining"), "0;w=21600");
    assert_eq!(status(&registry, "GET", "/v2/a/manifests/1").await, 429);
    assert_eq!(status(&registry, "HEAD", "/v2/a/manifests/1").await, 200);
}

#[tokio::test]
async fn sessions_are_named_in_three_ways() {
    for (locations, start) in [
        (Locations::Relative, "/v2/a/blobs/uploads/"),
        (Locations::Absolute, "http://127.0.0.1:"),
        (Locations::WithState, "http://127.0.0.1:"),
    ] {
        let registry = TestRegistry::start_with(Options { locations, ..Options::default() });
        let answer = ask(&registry, "POST", "/v2/a/blobs/uploads/").await.expect("an answer");
        let location = header(&answer, "location");
        assert!(location.starts_with(start), "{location}");
        let url = if location.starts_with('/') { registry.url(&location) } else { location };
        assert_eq!(url.ends_with("?_state=a%2Bb%3D%3D%2F~"), locations == Locations::WithState);
        let patched = client().patch(&url).body("abc").send().await.expect("an answer");
        assert_eq!(patched.status().as_u16(), 202);
        registry.assert_no_violations();
        if locations == Locations::WithState {
            let decoded = client().patch(url.replace("%2B", "+")).body("abc").send().await;
            assert_eq!(decoded.expect("an answer").status().as_u16(), 404);
            assert_eq!(registry.violations().len(), 1);
        }
    }
}
