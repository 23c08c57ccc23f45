//! The page over TLS, for users only.

use kharon::listen::Listener;
use kharon::web::{Settings, Web};

use crate::kit::{Page, settings};
use crate::support::images::{Image, random_layer};
use crate::support::registry::TestRegistry;
use crate::support::tls::{client, logins, tls};

#[tokio::test]
async fn page_api_and_downloads_are_for_users_alone() {
    let source = TestRegistry::start();
    source.put("app", "1", &Image::oci(&[random_layer(1, 200_000)]));
    let tar = "/api/v1/tar?image=app:1";
    let expected = Page::over(&[&source]).get(tar).await.bytes().clone();
    let of_users = Settings { logins: Some(logins()), ..settings(&[&source]) };
    let page = Page::with(of_users);
    let any = ([127, 0, 0, 1], 0).into();
    let listener = Listener::bind(any, Some(tls())).await.expect("a port");
    let url = listener.url();
    assert!(url.starts_with("https://"), "{url}");
    let web: Web = page.web.clone();
    tokio::spawn(listener.run(web, std::future::pending::<()>()));
    let client = client();
    source.clear_journal();
    for path in
        ["/", "/app.js", "/openapi.json", "/api/v1/settings", "/api/v1/image?image=app:1", tar]
    {
        for login in [None, Some(("me", "wrong")), Some(("nobody", "secret")), Some(("me", ""))] {
            for method in [reqwest::Method::GET, reqwest::Method::HEAD] {
                let mut request = client.request(method.clone(), url.clone() + path);
                if let Some((name, password)) = login {
                    request = request.basic_auth(name, Some(password));
                }
                let refused = request.send().await.expect("an answer");
                assert_eq!(refused.status(), 401, "{method} {path} {login:?}");
                let challenge = refused.headers()["www-authenticate"].to_str().expect("text");
                assert!(challenge.starts_with("Basic "), "{challenge}");
                assert_eq!(refused.headers()["x-content-type-options"], "nosniff");
                let text = refused.text().await.expect("text");
                assert!(!text.contains("script"), "{text}");
            }
        }
    }
    let form = client.post(url.clone() + "/api/v1/baselines").body("{}");
    assert_eq!(form.send().await.expect("an answer").status(), 401);
    assert!(source.journal().is_empty(), "nobody asked the registry for strangers");
    let get = async |path: &str| {
        let request = client.get(url.clone() + path).basic_auth("me", Some("secret"));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        answer.bytes().await.expect("a body")
    };
    assert!(get("/").await.starts_with(b"<!doctype html>"));
    let found: serde_json::Value =
        serde_json::from_slice(&get("/api/v1/image?image=app:1").await).expect("JSON");
    let download = found["download"].as_str().expect("an address");
    assert!(get(download).await == expected);
    let plain = client.get(url.replace("https:", "http:")).send().await.expect("an answer");
    assert_eq!(plain.status(), 400);
    assert!(plain.text().await.expect("text").contains("speaks https"));
}
