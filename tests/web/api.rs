//! The API against its document, and the page against what may not be in it.

use bytes::Bytes;
use hyper::Method;
use kharon::manifest::MediaType;
use kharon::receipt::{Kind, Receipt};
use serde_json::{Value, json};

use crate::kit::{Answer, Page, request};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Blob, Image, random_layer};
use crate::support::registry::TestRegistry;

fn document() -> Value {
    serde_json::from_str(include_str!("../../src/web/page/openapi.json")).expect("JSON")
}

/// As much of JSON Schema as the document uses; any other word fails.
fn check(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let all = document();
    if let Some(name) = schema["$ref"].as_str() {
        let found = all.pointer(name.trim_start_matches('#')).expect("a schema");
        return check(found, value, at);
    }
    for (word, rule) in schema.as_object().expect("a schema") {
        let texts = || rule.as_array().into_iter().flatten().filter_map(Value::as_str);
        let holds = match word.as_str() {
            "type" => match rule.as_str().expect("a type") {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_u64(),
                "null" => value.is_null(),
                other => panic!("the type {other}"),
            },
            "minimum" => value.as_u64() >= rule.as_u64(),
            "pattern" => {
                value.as_str().is_some_and(|text| text.parse::<kharon::digest::Digest>().is_ok())
            }
            "enum" => rule.as_array().is_some_and(|allowed| allowed.contains(value)),
            "required" => texts().all(|name| value.get(name).is_some()),
            "oneOf" => {
                let some = rule.as_array().into_iter().flatten();
                some.filter(|schema| check(schema, value, at).is_ok()).count() == 1
            }
            "items" => {
                for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(rule, item, &format!("{at}/{place}"))?;
                }
                true
            }
            "properties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    check(&rule[name], inner, &format!("{at}/{name}"))?;
                }
                true
            }
            "additionalProperties" => value.as_object().is_some_and(|found| {
                found.keys().all(|name| schema["properties"].get(name).is_some())
            }),
            "description" | "format" => true,
            other => panic!("the word {other}"),
        };
        if !holds {
            return Err(format!("{at}: {word} {rule} does not hold for {value}"));
        }
    }
    Ok(())
}

/// The answer must be one that the document has for the path.
fn assert_documented(method: &str, path: &str, answer: &Answer) {
    let route = path.split('?').next().expect("a path");
    let operation = &document()["paths"][route][method];
    let known = &operation["responses"][answer.status.as_str()];
    assert!(known.is_object(), "{method} {path}: {} is not documented", answer.status);
    for name in known["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
        assert!(answer.headers.contains_key(name.as_str()), "{method} {path}: no {name}");
    }
    if method == "head" {
        assert!(answer.bytes().is_empty() && known.get("content").is_none());
        return;
    }
    let (media_type, content) =
        known["content"].as_object().and_then(|all| all.iter().next()).expect("a content");
    assert_eq!(answer.header("content-type").split(';').next(), Some(media_type.as_str()));
    if media_type == "application/json" && content["schema"]["$ref"].is_string() {
        check(&content["schema"], &answer.json(), path).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[tokio::test]
async fn every_answer_is_as_the_document_says() {
    let source = TestRegistry::start();
    let image = Image::oci_for("linux/amd64", &[random_layer(1, 2_000)]);
    source.put("app", "1", &Image::index(std::slice::from_ref(&image)));
    source.put("single", "1", &image);
    source.put("chart", "1", &Image::helm_chart("web", "1.0.0"));
    let page = Page::over(&[&source]);
    let far = "far.example".parse().expect("a host");
    let receipt = Receipt::new(Kind::Inventory, far, std::time::SystemTime::now(), Vec::new());
    let receipt = receipt.to_json().expect("JSON");
    let kept = page.upload(receipt.clone()).await;
    assert_eq!(kept.status, 201);
    assert_documented("post", "/api/v1/baselines", &kept);
    let id = kept.json()["id"].as_str().expect("an id").to_owned();
    let against = format!("/api/v1/plan?image=app:1&baseline={id}");
    for (path, status) in [
        ("/", 200),
        ("/app.js", 200),
        ("/style.css", 200),
        ("/icon.svg", 200),
        ("/openapi.json", 200),
        ("/api/v1/settings", 200),
        ("/api/v1/image?image=app:1&platform=linux/amd64", 200),
        ("/api/v1/image?image=single:1,app:1&platform=all", 200),
        ("/api/v1/tar?image=app:1&platform=all", 200),
        (&against, 200),
        ("/api/v1/payload?image=app:1&has=app:1", 200),
        ("/api/v1/image", 400),
        ("/api/v1/image?image=chart:1", 400),
        ("/api/v1/image?image=app:1&platform=linux/mips", 400),
        ("/api/v1/tar?image=App", 400),
        ("/api/v1/plan?image=app:1", 400),
        ("/api/v1/image?image=other.example/app:1", 403),
        ("/api/v1/image?image=nothing:1", 404),
        ("/api/v1/tar?image=app:2", 404),
        ("/api/v1/payload?image=app:1&baseline=sha256:0", 404),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = page.send(request(method.clone(), path), "").await;
            assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
            assert_documented(&method.as_str().to_lowercase(), path, &answer);
            let policy = answer.header("content-security-policy");
            assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
        }
    }
    source.fail(Fault::on("GET", "/manifests/", Effect::Status(500, Vec::new())).always());
    let failed = page.get("/api/v1/image?image=app:1").await;
    failed.assert_refused(502, "registry", &[&source.host()]);
    assert_documented("get", "/api/v1/image", &failed);
    page.get("/api/v2").await.assert_refused(404, "not-found", &["openapi.json"]);
    let put = page.send(request(Method::PUT, "/api/v1/tar"), "").await;
    put.assert_refused(405, "method-not-allowed", &["GET or HEAD"]);
    assert_eq!(put.header("allow"), "GET, HEAD");
}

#[tokio::test]
async fn an_image_without_an_index_has_the_platform_that_its_config_says() {
    let source = TestRegistry::start();
    let layers = [random_layer(1, 2_000)];
    let known = Image::oci_for("linux/arm64/v8", &layers);
    source.put("known", "1", &known);
    source.put("dockers", "1", &Image::docker_for("linux/s390x", &layers));
    let config = Blob::new("application/vnd.oci.image.config.v1+json", "{}");
    let silent = Image::of_blobs(MediaType::OCI_MANIFEST, config, layers.into(), &json!({}));
    source.put("silent", "1", &silent);
    let page = Page::over(&[&source]);
    for (image, platform) in [
        ("known:1", json!("linux/arm64/v8")),
        ("dockers:1", json!("linux/s390x")),
        ("silent:1", Value::Null),
    ] {
        for more in ["", "&platform=all"] {
            let path = format!("/api/v1/image?image={image}{more}");
            let found = page.get(&path).await;
            assert_eq!(found.status, 200, "{image}: {found:?}");
            assert_documented("get", &path, &found);
            assert_eq!(found.json()["images"][0]["platform"], platform, "{image}");
            assert_eq!(found.json()["images"][0]["platforms"], json!([]), "{image}");
        }
    }
    let config = format!("/blobs/{}", known.blobs[0].digest());
    source.fail(Fault::on("GET", &config, Effect::Status(500, Vec::new())).always());
    let failed = page.get("/api/v1/image?image=known:1").await;
    failed.assert_refused(502, "registry", &["the config of `"]);
}

#[tokio::test]
async fn uploads_are_bounded_and_looked_at() {
    let source = TestRegistry::start();
    let page = Page::over(&[&source]);
    let large = page.upload(vec![b' '; 16 * 1024 * 1024 + 1]).await;
    large.assert_refused(413, "too-large", &["make-payload"]);
    assert_documented("post", "/api/v1/baselines", &large);
    for (body, part) in [
        ("{", "damaged"),
        ("{}", "something else"),
        (r#"{"kind":"receipt","version":9}"#, "version"),
    ] {
        let refused = page.upload(body).await;
        refused.assert_refused(400, "baseline-invalid", &[part, "hint"]);
        assert_documented("post", "/api/v1/baselines", &refused);
    }
    // A form of another site can send no JSON.
    let form = request(Method::POST, "/api/v1/baselines").header("content-type", "text/plain");
    page.send(form, "{}").await.assert_refused(400, "usage", &["application/json"]);
    let long = format!("/api/v1/image?image={}", "a".repeat(20_000));
    page.get(&long).await.assert_refused(413, "too-large", &[]);
}

#[tokio::test]
async fn only_so_many_uploads_and_baselines_are_in_memory() {
    let source = TestRegistry::start();
    source.put("app", "1", &Image::oci(&[random_layer(1, 2_000)]));
    let page = Page::over(&[&source]);
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let silent = http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<hyper::body::Frame<Bytes>, std::io::Error>,
        >());
        let upload = request(Method::POST, "/api/v1/baselines").body(silent).expect("a request");
        let web = page.web.clone();
        waiting.push(tokio::spawn(async move { web.handle(upload).await }));
    }
    tokio::task::yield_now().await;
    let busy = page.upload("{}").await;
    busy.assert_refused(503, "busy", &["too many uploads"]);
    assert_documented("post", "/api/v1/baselines", &busy);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    for upload in waiting {
        drop(upload.await);
    }
    let far = "far.example".parse().expect("a host");
    let receipt = Receipt::new(Kind::Inventory, far, std::time::SystemTime::now(), Vec::new());
    let kept = page.upload(receipt.to_json().expect("JSON")).await;
    let id = kept.json()["id"].as_str().expect("an id").to_owned();
    // One that is named several times is one.
    let plan = format!("/api/v1/plan?image=app:1{}", format!("&baseline={id}").repeat(8));
    assert_eq!(page.get(&plan).await.status, 200);
}

#[tokio::test]
async fn what_a_registry_says_is_text_and_nothing_else() {
    let source = TestRegistry::start();
    let page = Page::over(&[&source]);
    let says =
        json!({ "errors": [{ "code": "X", "message": "<img src=x onerror=alert(1)>\u{1b}[2J" }] });
    let headers = vec![("content-type", "application/json".to_owned())];
    let effect = Effect::Answer(403, headers, says.to_string().into());
    source.fail(Fault::on("GET", "/manifests/", effect).always());
    let answer = page.get("/api/v1/image?image=app:1").await;
    answer.assert_refused(502, "registry", &["<img"]);
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(!answer.json()["error"]["message"].as_str().expect("text").contains('\u{1b}'));
    let script = include_str!("../../src/web/page/app.js");
    for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
        assert!(!script.contains(word), "{word}");
    }
    let html = include_str!("../../src/web/page/index.html");
    for word in ["http:", "https:", "style=", "<style", " onclick", "javascript:"] {
        assert!(!html.contains(word), "{word}");
    }
    assert_eq!(html.matches("<script").count(), html.matches("<script src=\"/").count());
}
