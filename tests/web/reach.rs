//! What registries and strangers may not have this server do.

use hyper::Method;
use kharon::web::Settings;
use serde_json::json;

use crate::kit::{Page, host, request, settings};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Image, random_layer};
use crate::support::registry::TestRegistry;

/// A registry with an image, and another one that it must not lead to.
fn scene() -> (TestRegistry, TestRegistry, Image) {
    let (source, inner) = (TestRegistry::start(), TestRegistry::start());
    let image = Image::oci(&[random_layer(1, 5_000)]);
    source.put("app", "1", &image);
    inner.put("app", "1", &image);
    (source, inner, image)
}

fn port(registry: &TestRegistry) -> String {
    registry.host().rsplit(':').next().expect("a port").to_owned()
}

#[tokio::test]
async fn registries_lead_to_no_private_address() {
    let (source, inner, image) = scene();
    let page = Page::over(&[&source]);
    let port = port(&inner);
    let manifest = format!("/v2/app/manifests/{}", image.digest());
    for authority in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("a.localhost:{port}"),
        format!("2130706433:{port}"),
        format!("0x7f.1:{port}"),
        format!("0.0.0.0:{port}"),
        format!("[::1]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        "169.254.169.254".to_owned(),
        "10.0.0.1".to_owned(),
    ] {
        for (part, effect) in [
            (
                "/manifests/",
                Effect::Status(307, vec![("location", format!("http://{authority}{manifest}"))]),
            ),
            (
                "/manifests/",
                Effect::Status(
                    401,
                    vec![(
                        "www-authenticate",
                        format!("Bearer realm=\"http://{authority}/token\",service=\"x\""),
                    )],
                ),
            ),
        ] {
            source.heal();
            source.fail(Fault::on("GET", part, effect.clone()).always());
            let answer = page.get("/api/v1/image?image=app:1").await;
            answer.assert_refused(502, "registry", &[]);
            let text = answer.json()["error"]["message"].to_string();
            // A name may not be known at all.
            assert!(
                text.contains("public address") || text.contains("no host of that name"),
                "{authority} {effect:?}: {text}"
            );
        }
        source.heal();
        let blob = image.layers()[0].digest();
        let location = format!("http://{authority}/v2/app/blobs/{blob}");
        let effect = Effect::Status(307, vec![("location", location)]);
        source.fail(Fault::on("GET", blob.hex(), effect).always());
        let tar = page.get("/api/v1/tar?image=app:1").await;
        assert!(tar.body.is_none(), "{authority} was asked for a blob");
    }
    assert!(inner.journal().is_empty(), "{:?}", inner.journal());
}

#[tokio::test]
async fn a_host_that_was_allowed_may_be_led_to() {
    let (source, inner, image) = scene();
    let mut more = settings(&[&source, &inner]);
    more.registry = host(&source);
    let page = Page::with(more);
    let location = inner.url(&format!("/v2/app/manifests/{}", image.digest()));
    let effect = Effect::Status(307, vec![("location", location)]);
    source.fail(Fault::on("GET", "/manifests/", effect).always());
    assert_eq!(page.get("/api/v1/image?image=app:1").await.status, 200);
    assert!(!inner.journal().is_empty());
}

#[tokio::test]
async fn a_layer_from_elsewhere_is_not_fetched_inside() {
    let (source, inner, _) = scene();
    let mut layer = random_layer(7, 3_000);
    inner.put_blob("app", &layer.bytes);
    let url = inner.url(&format!("/v2/app/blobs/{}", layer.digest()));
    layer = crate::support::images::Blob::new(
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        layer.bytes.clone(),
    );
    let config = Image::docker(&[]).blobs[0].clone();
    let mut manifest = json!({ "layers": [{
        "mediaType": layer.descriptor.media_type, "digest": layer.digest(),
        "size": layer.descriptor.size, "urls": [url],
    }] });
    let media_type = "application/vnd.docker.distribution.manifest.v2+json";
    let image = Image::of_blobs(media_type, config, Vec::new(), &manifest);
    manifest.take();
    source.put("windows", "1", &image);
    let page = Page::over(&[&source]);
    assert!(page.get("/api/v1/tar?image=windows:1").await.body.is_none());
    assert!(inner.journal().is_empty(), "{:?}", inner.journal());
}

#[tokio::test]
async fn registries_that_were_not_allowed_are_not_asked() {
    let (source, inner, _) = scene();
    let page = Page::over(&[&source]);
    let other = inner.host();
    for path in [
        format!("/api/v1/image?image={other}/app:1"),
        format!("/api/v1/image?image=app:1&registry={other}"),
        format!("/api/v1/tar?image={other}/app:1"),
        format!("/api/v1/plan?image=app:1&has={other}/app:1"),
        format!("/api/v1/payload?image={other}/app:1&has=app:1"),
        "/api/v1/image?image=169.254.169.254/latest/meta-data".to_owned(),
    ] {
        let answer = page.get(&path).await;
        answer.assert_refused(403, "registry-not-allowed", &["--allow-registry", &source.host()]);
    }
    assert!(inner.journal().is_empty() && source.journal().is_empty());
}

#[tokio::test]
async fn other_sites_and_other_names_get_nothing() {
    let (source, ..) = scene();
    let names = ["images.example".to_owned()].into();
    let page = Page::with(Settings { public_names: names, ..settings(&[&source]) });
    for (method, path) in
        [(Method::GET, "/api/v1/tar?image=app:1"), (Method::POST, "/api/v1/baselines")]
    {
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let request = request(method.clone(), path).header(name, value);
            page.send(request, "").await.assert_refused(403, "cross-site", &[]);
        }
    }
    for path in ["/", "/api/v1/settings", "/nothing"] {
        let request = || hyper::Request::get(path);
        let rebound = page.send(request().header("host", "evil.example:5000"), "").await;
        rebound.assert_refused(421, "wrong-host", &["--public-name"]);
        page.send(request(), "").await.assert_refused(421, "wrong-host", &[]);
        let known = page.send(request().header("host", "images.example"), "").await;
        assert_ne!(known.status, 421);
    }
    assert!(source.journal().is_empty());
}
