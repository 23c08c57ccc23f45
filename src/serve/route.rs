//! What a URL means: the endpoints of the distribution-spec (section "Endpoints").

use hyper::StatusCode;

use super::answer::{Code, Refusal};
use crate::digest::Digest;
use crate::layout::UploadId;
use crate::reference::{RepositoryName, TagOrDigest};

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Base,
    Catalog,
    Tags(RepositoryName),
    Manifest(RepositoryName, TagOrDigest),
    Blob(RepositoryName, Digest),
    Uploads(RepositoryName),
    Upload(RepositoryName, UploadId),
    Referrers(RepositoryName, Digest),
}

impl Route {
    /// Reads a path. A repository may have parts that look like endpoints: the end decides.
    pub(super) fn of(path: &str) -> Result<Self, Refusal> {
        let unknown =
            || Refusal::new(Code::Unsupported, "no such endpoint").status(StatusCode::NOT_FOUND);
        let path = decode(path).ok_or_else(unknown)?;
        let rest = match path.as_str() {
            "/v2" | "/v2/" => return Ok(Self::Base),
            "/v2/_catalog" => return Ok(Self::Catalog),
            path => path.strip_prefix("/v2/").ok_or_else(unknown)?,
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let name = |parts: &[&str]| {
            let name: Result<RepositoryName, _> = parts.join("/").parse();
            name.map_err(|error| Refusal::new(Code::NameInvalid, error))
        };
        let digest = |text: &str| {
            text.parse::<Digest>().map_err(|error| Refusal::new(Code::DigestInvalid, error))
        };
        match parts.as_slice() {
            [of @ .., "blobs", "uploads"] | [of @ .., "blobs", "uploads", ""] => {
                Ok(Self::Uploads(name(of)?))
            }
            [of @ .., "blobs", "uploads", id] => {
                let id =
                    id.parse().map_err(|error| Refusal::new(Code::BlobUploadUnknown, error))?;
                Ok(Self::Upload(name(of)?, id))
            }
            [of @ .., "tags", "list"] => Ok(Self::Tags(name(of)?)),
            [of @ .., "blobs", text] => Ok(Self::Blob(name(of)?, digest(text)?)),
            [of @ .., "referrers", text] => Ok(Self::Referrers(name(of)?, digest(text)?)),
            [of @ .., "manifests", text] => Ok(Self::Manifest(name(of)?, tag_or_digest(text)?)),
            _ => Err(unknown()),
        }
    }
}

fn tag_or_digest(text: &str) -> Result<TagOrDigest, Refusal> {
    if text.contains(':') {
        let digest = text.parse().map_err(|error| Refusal::new(Code::DigestInvalid, error))?;
        return Ok(TagOrDigest::Digest(digest));
    }
    // The distribution-spec has no name for a bad tag: to who pulls it is one that is not there.
    let invalid = |error| Refusal::new(Code::TagInvalid, error).status(StatusCode::NOT_FOUND);
    let tag = text.parse().map_err(invalid)?;
    Ok(TagOrDigest::Tag(tag))
}

/// The parameters behind the `?`, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads them; what cannot be decoded falls away. A `+` is a `+`: media types have them, and
    /// none of the values here has a blank.
    pub(super) fn of(text: Option<&str>) -> Self {
        let pairs = text.unwrap_or_default().split('&').filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key)?, decode(value)?))
        });
        Self(pairs.collect())
    }

    /// The first value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// All values of a key.
    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(found, _)| found == key).map(|(_, value)| value.as_str())
    }
}

/// Undoes percent-encoding (RFC 3986, section 2.1); `None` where it is broken or no UTF-8.
fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// A value as it may stand in a query: everything but unreserved characters encoded.
pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const ID: &str = "01234567-89ab-cdef-0011-223344556677";

    fn name(text: &str) -> RepositoryName {
        text.parse().expect("valid")
    }

    #[test]
    fn a_path_names_an_endpoint() {
        let digest: Digest = DIGEST.parse().expect("valid");
        let id = ID.parse().expect("valid");
        let tag = |text: &str| TagOrDigest::Tag(text.parse().expect("valid"));
        for (path, route) in [
            ("/v2/".to_owned(), Route::Base),
            ("/v2".to_owned(), Route::Base),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/b/tags/list".to_owned(), Route::Tags(name("a/b"))),
            ("/v2/a/manifests/1.0".to_owned(), Route::Manifest(name("a"), tag("1.0"))),
            (
                format!("/v2/a/manifests/{}", DIGEST.replace(':', "%3A")),
                Route::Manifest(name("a"), TagOrDigest::Digest(digest.clone())),
            ),
            (
                "/v2/a/manifests/manifests/b".to_owned(),
                Route::Manifest(name("a/manifests"), tag("b")),
            ),
            (format!("/v2/a/blobs/{DIGEST}"), Route::Blob(name("a"), digest.clone())),
            (format!("/v2/a/referrers/{DIGEST}"), Route::Referrers(name("a"), digest)),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads".to_owned(), Route::Uploads(name("a"))),
            ("/v2/blobs/uploads/blobs/uploads/".to_owned(), Route::Uploads(name("blobs/uploads"))),
            (format!("/v2/a/blobs/uploads/{ID}"), Route::Upload(name("a"), id)),
        ] {
            assert_eq!(Route::of(&path).expect(&path), route, "{path}");
        }
    }

    #[test]
    fn other_paths_and_tricks_with_paths_name_nothing() {
        for path in [
            "/",
            "/v1/",
            "/v2/a",
            "/v2//tags/list",
            "/v2/tags/list",
            "/v2/A/tags/list",
            "/v2/../tags/list",
            "/v2/a%2f..%2f..%2fb/tags/list",
            "/v2/a/blobs/sha256:..%2f..%2f..%2fetc%2fpasswd",
            "/v2/a/blobs/sha256:abc",
            "/v2/a/blobs/uploads/..",
            "/v2/a/blobs/uploads/..%2F..%2Flock",
            "/v2/a/manifests/.hidden",
            "/v2/a/manifests/",
            "/v2/a/tags/list%",
            "/v2/a/tags/list%zz",
        ] {
            assert!(Route::of(path).is_err(), "{path} was taken");
        }
    }

    #[test]
    fn a_query_is_decoded() {
        let query = Query::of(Some("a=x%2By&b=x+y&a=2&c&d=%zz"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["x+y", "2"]);
        assert_eq!((query.get("b"), query.get("c"), query.get("d")), (Some("x+y"), Some(""), None));
        assert_eq!(
            Query::of(Some(&format!("k={}", encode("a+b&c=%/é")))).get("k"),
            Some("a+b&c=%/é")
        );
        assert_eq!(Query::of(None).get("a"), None);
    }
}
