//! The paths of this server.

use hyper::Method;

use super::answer::{Code, Refusal};
use super::guard::Kind;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A file of the page: its media type and content.
    File(&'static str, &'static str),
    Settings,
    Image,
    Tar,
    Plan,
    Payload,
    Baselines,
}

const GET: &[Method] = &[Method::GET, Method::HEAD];
const POST: &[Method] = &[Method::POST];

/// All paths, and the methods of each.
pub(super) const ROUTES: &[(&str, &[Method], Route)] = &[
    ("/", GET, Route::File("text/html; charset=utf-8", include_str!("page/index.html"))),
    ("/app.js", GET, Route::File("text/javascript; charset=utf-8", include_str!("page/app.js"))),
    ("/style.css", GET, Route::File("text/css; charset=utf-8", include_str!("page/style.css"))),
    ("/icon.svg", GET, Route::File("image/svg+xml", include_str!("page/icon.svg"))),
    ("/openapi.json", GET, Route::File("application/json", include_str!("page/openapi.json"))),
    ("/api/v1/settings", GET, Route::Settings),
    ("/api/v1/image", GET, Route::Image),
    ("/api/v1/tar", GET, Route::Tar),
    ("/api/v1/plan", GET, Route::Plan),
    ("/api/v1/payload", GET, Route::Payload),
    ("/api/v1/baselines", POST, Route::Baselines),
];

impl Route {
    /// The route of a path that knows the method.
    pub(super) fn of(method: &Method, path: &str) -> Result<Self, Refusal> {
        let Some((_, methods, route)) = ROUTES.iter().find(|(known, ..)| *known == path) else {
            return Err(Refusal::new(Code::NotFound, "there is no such path here")
                .with_hint("`/openapi.json` lists all paths"));
        };
        if methods.contains(method) {
            return Ok(*route);
        }
        let allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
        let message = format!("expected {}, found another method", allowed.join(" or "));
        Err(Refusal::new(Code::MethodNotAllowed, message)
            .with(hyper::header::ALLOW, allowed.join(", ")))
    }

    /// Who may ask for it.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::File(..) => Kind::Page,
            _ => Kind::Api,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_document_has_all_paths_and_no_other() {
        let document: Value =
            serde_json::from_str(include_str!("page/openapi.json")).expect("JSON");
        let mut documented = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for method in methods.as_object().expect("methods").keys() {
                documented.insert((path.clone(), method.to_ascii_uppercase()));
            }
        }
        let mut served = BTreeSet::new();
        for (path, methods, _) in ROUTES {
            for method in *methods {
                served.insert(((*path).to_owned(), method.to_string()));
            }
        }
        assert_eq!(documented, served);
    }
}
