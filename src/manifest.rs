//! Manifests and indexes: read for what they name, kept as the bytes they came as.
//!
//! Shapes are those of the OCI image-spec (manifest.md, image-index.md) and Docker's schema 2; the
//! unknown is ignored, and nothing here is ever written again by a serialiser, so digests hold.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::{Digest, Mismatch};
use crate::platform::{Platform, or_null};

/// The largest manifest that is read, in bytes: the limit that the distribution-spec names and
/// registries keep.
pub const MANIFEST_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// How deep indexes may stand inside indexes. Real ones have one level.
pub const INDEX_DEPTH_MAX: usize = 4;

/// A media type, without parameters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(String);

impl MediaType {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker image manifest, version 2, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The artifact manifest of an OCI release candidate, which some registries still hold.
    pub const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
    /// Docker schema 1, signed.
    pub const DOCKER_SCHEMA1_SIGNED: &str =
        "application/vnd.docker.distribution.manifest.v1+prettyjws";
    /// Docker schema 1.
    pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
    /// A config or blob without content of interest (image-spec, "Guidance for an Empty Descriptor").
    pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";

    /// Takes the text as it stands in a descriptor or a `Content-Type`; parameters fall away.
    pub fn new(text: &str) -> Self {
        Self(text.split(';').next().unwrap_or_default().trim().to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this names an index or manifest list.
    pub fn is_index(&self) -> bool {
        matches!(self.as_str(), Self::OCI_INDEX | Self::DOCKER_LIST)
    }

    /// Whether this names Docker's schema 1.
    pub fn is_schema1(&self) -> bool {
        matches!(self.as_str(), Self::DOCKER_SCHEMA1 | Self::DOCKER_SCHEMA1_SIGNED)
    }

    /// Whether this names anything that is fetched and pushed as a manifest.
    pub fn is_manifest(&self) -> bool {
        self.is_index()
            || self.is_schema1()
            || matches!(
                self.as_str(),
                Self::OCI_MANIFEST | Self::DOCKER_MANIFEST | Self::OCI_ARTIFACT
            )
    }

    /// Whether this is the config of a container image, which names a platform.
    pub fn is_image_config(&self) -> bool {
        matches!(
            self.as_str(),
            "application/vnd.oci.image.config.v1+json"
                | "application/vnd.docker.container.image.v1+json"
        )
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An OCI descriptor: what a manifest says about content that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of content it is.
    pub media_type: MediaType,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where else it may be fetched from.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free notes.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The platform, for children of an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The kind of artifact, for descriptors in a list of referrers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor of content with these three properties and nothing else.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }

    /// The image that this child of an index attests to, if it is one of `BuildKit`'s attestations.
    pub fn attests_to(&self) -> Option<&str> {
        (self.annotations.get("vnd.docker.reference.type").map(String::as_str)
            == Some("attestation-manifest"))
        .then(|| self.annotations.get("vnd.docker.reference.digest").map(String::as_str))
        .flatten()
    }

    /// Whether its distributor serves the content from elsewhere, so that registries need not hold it.
    pub fn is_foreign(&self) -> bool {
        !self.urls.is_empty()
    }
}

/// A manifest or index: its exact bytes, and what they name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The bytes as the registry holds them.
    pub raw: Bytes,
    /// Media type, digest and size of those bytes.
    pub descriptor: Descriptor,
    /// What it names.
    pub content: Content,
    /// What it refers to (`subject`).
    pub subject: Option<Descriptor>,
}

/// What a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An image or artifact made of blobs.
    Image {
        /// The config; the old artifact manifests have none.
        config: Option<Box<Descriptor>>,
        /// The layers, or the artifact's blobs.
        layers: Vec<Descriptor>,
    },
    /// An index of other manifests.
    Index {
        /// The children that are manifests themselves, in order.
        manifests: Vec<Descriptor>,
        /// Children of any other media type, which registries keep as blobs.
        blobs: Vec<Descriptor>,
    },
}

/// Bytes that are no manifest kharon can carry.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// Not JSON, or not of the shape that the specifications give.
    #[error("expected a manifest, found something else")]
    Json(#[source] serde_json::Error),
    /// Has the lists of an image and of an index (CVE-2021-41190).
    #[error("expected either `manifests` or `layers`, found both")]
    Ambiguous,
    /// Says another media type inside than outside.
    #[error("expected media type `{expected}`, found `{found}` inside")]
    MediaType {
        /// What the registry or the descriptor said.
        expected: MediaType,
        /// What the manifest itself says.
        found: MediaType,
    },
    /// A media type that is none of a manifest.
    #[error("expected the media type of a manifest, found `{0}`")]
    NotAManifest(MediaType),
    /// The format of before 2016, which names no config and no sizes.
    #[error("expected a schema 2 or OCI manifest, found Docker's schema 1")]
    Schema1,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u32>,
    media_type: Option<MediaType>,
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "present")]
    layers: Option<List>,
    blobs: List,
    #[serde(default, deserialize_with = "present")]
    manifests: Option<List>,
    subject: Option<Descriptor>,
}

/// A list that stands there, as `null` where Go wrote an empty one.
type List = Option<Vec<Descriptor>>;

/// Tells a field that is `null` from one that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<List>, D::Error> {
    List::deserialize(deserializer).map(Some)
}

impl Manifest {
    /// Reads `raw`. `media_type` is what its registry or descriptor calls it; without one, the
    /// manifest's own field or its shape decides.
    ///
    /// # Errors
    /// [`InvalidManifest`] says what is wrong with it.
    pub fn parse(raw: Bytes, media_type: Option<&MediaType>) -> Result<Self, InvalidManifest> {
        if !raw.trim_ascii_start().starts_with(b"{") {
            // serde would take a list of the fields' values too.
            return Err(InvalidManifest::Json(serde::de::Error::custom("expected an object")));
        }
        let shape: Shape = serde_json::from_slice(&raw).map_err(InvalidManifest::Json)?;
        if shape.schema_version == Some(1) {
            return Err(InvalidManifest::Schema1);
        }
        let is_list = |list: &Option<List>| list.as_ref().is_some_and(Option::is_some);
        if is_list(&shape.manifests) && (is_list(&shape.layers) || shape.config.is_some()) {
            return Err(InvalidManifest::Ambiguous);
        }
        let media_type = match (media_type.filter(|given| given.is_manifest()), shape.media_type) {
            (Some(given), Some(inside)) if *given != inside => {
                return Err(InvalidManifest::MediaType { expected: given.clone(), found: inside });
            }
            (Some(given), _) => given.clone(),
            (None, Some(inside)) => inside,
            (None, None) if shape.manifests.is_some() && shape.config.is_none() => {
                MediaType::new(MediaType::OCI_INDEX)
            }
            (None, None) => MediaType::new(MediaType::OCI_MANIFEST),
        };
        if !media_type.is_manifest() {
            return Err(InvalidManifest::NotAManifest(media_type));
        }
        let missing = |field| InvalidManifest::Json(serde::de::Error::missing_field(field));
        let content = if media_type.is_index() {
            let children = shape.manifests.ok_or_else(|| missing("manifests"))?.unwrap_or_default();
            let (manifests, blobs) =
                children.into_iter().partition(|child| child.media_type.is_manifest());
            Content::Index { manifests, blobs }
        } else if media_type.as_str() == MediaType::OCI_ARTIFACT {
            let layers = shape.blobs.unwrap_or_default();
            Content::Image { config: None, layers }
        } else {
            Content::Image {
                config: Some(Box::new(shape.config.ok_or_else(|| missing("config"))?)),
                layers: shape.layers.ok_or_else(|| missing("layers"))?.unwrap_or_default(),
            }
        };
        let digest = Digest::of(&raw);
        let descriptor = Descriptor::new(media_type, digest, raw.len() as u64);
        Ok(Self { raw, descriptor, content, subject: shape.subject })
    }

    /// This manifest, if its bytes have `digest`, which may be of another algorithm than SHA-256.
    ///
    /// # Errors
    /// [`Mismatch`] if the bytes are others.
    pub fn verified_as(mut self, digest: &Digest) -> Result<Self, Mismatch> {
        let found = digest.same_algorithm_of(&self.raw);
        if found != *digest {
            return Err(Mismatch::Digest { expected: digest.clone(), found });
        }
        self.descriptor.digest = found;
        Ok(self)
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    /// The blobs that it names, config first; for an index, its children that are no manifests.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, layers) = match &self.content {
            Content::Image { config, layers } => (config.as_deref(), layers.as_slice()),
            Content::Index { blobs, .. } => (None, blobs.as_slice()),
        };
        config.into_iter().chain(layers)
    }

    /// The manifests that it names; none but for an index.
    pub fn children(&self) -> &[Descriptor] {
        match &self.content {
            Content::Index { manifests, .. } => manifests,
            Content::Image { .. } => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn read(json: &str, media_type: Option<&str>) -> Result<Manifest, InvalidManifest> {
        let json =
            json.replace("$D", &format!(r#"{{"mediaType":"x/y","digest":"{DIGEST}","size":1}}"#));
        Manifest::parse(Bytes::from(json), media_type.map(MediaType::new).as_ref())
    }

    #[test]
    fn the_kind_comes_from_outside_or_inside_or_the_shape() {
        for (json, outside, found) in [
            (r#"{"config":$D,"layers":[$D]}"#, None, MediaType::OCI_MANIFEST),
            (r#"{"manifests":[$D]}"#, None, MediaType::OCI_INDEX),
            (r#"{"manifests":[]}"#, Some(MediaType::DOCKER_LIST), MediaType::DOCKER_LIST),
            (
                r#"{"config":$D,"layers":[],"mediaType":"application/vnd.docker.distribution.manifest.v2+json"}"#,
                Some("application/octet-stream"),
                MediaType::DOCKER_MANIFEST,
            ),
            (r#"{"blobs":[$D]}"#, Some(MediaType::OCI_ARTIFACT), MediaType::OCI_ARTIFACT),
        ] {
            let manifest = read(json, outside).expect(json);
            assert_eq!(manifest.descriptor.media_type.as_str(), found, "{json}");
        }
    }

    #[test]
    fn confusing_and_broken_manifests_are_refused() {
        for (json, outside) in [
            ("", None),
            ("[]", None),
            ("[2,null,$D,[],null,null,null]", None),
            ("{}", None),
            (r#"{"manifests":[$D],"layers":[$D]}"#, None),
            (r#"{"manifests":[$D],"config":$D}"#, Some(MediaType::OCI_INDEX)),
            (r#"{"manifests":[$D]}"#, Some(MediaType::OCI_MANIFEST)),
            (r#"{"config":$D}"#, None),
            (r#"{"layers":[]}"#, None),
            (r#"{"config":$D,"manifests":null}"#, None),
            (r#"{"config":$D,"layers":[],"manifests":[]}"#, None),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, None),
            (r#"{"mediaType":"text/html","manifests":[]}"#, None),
            (r#"{"config":{"mediaType":"x","digest":"sha256:1","size":1},"layers":[]}"#, None),
            (r#"{"config":{"mediaType":"x","digest":"$X","size":-1},"layers":[]}"#, None),
            (
                r#"{"config":$D,"layers":[],"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#,
                Some(MediaType::DOCKER_MANIFEST),
            ),
        ] {
            assert!(read(json, outside).is_err(), "{json} was taken");
        }
    }

    #[test]
    fn empty_lists_that_go_wrote_as_null_are_empty() {
        for (json, kind) in [
            (r#"{"manifests":null}"#, MediaType::OCI_INDEX),
            (r#"{"manifests":null,"layers":null}"#, MediaType::OCI_INDEX),
            (r#"{"config":$D,"layers":null}"#, MediaType::OCI_MANIFEST),
            (r#"{"config":$D,"layers":null,"manifests":null}"#, MediaType::OCI_MANIFEST),
        ] {
            let manifest = read(json, None).expect(json);
            assert_eq!(manifest.descriptor.media_type.as_str(), kind, "{json}");
            assert!(manifest.children().is_empty());
            let blobs = usize::from(kind == MediaType::OCI_MANIFEST);
            assert_eq!(manifest.blobs().count(), blobs, "{json}");
        }
        let child = format!(
            r#"{{"mediaType":"{}","digest":"{DIGEST}","size":1,"urls":null,"annotations":null,"platform":{{"os":null}}}}"#,
            MediaType::OCI_MANIFEST
        );
        let index = read(&format!(r#"{{"manifests":[{child}]}}"#), None).expect("valid");
        let child = &index.children()[0];
        assert!(child.urls.is_empty() && child.annotations.is_empty());
        let platform = child.platform.as_ref().expect("a platform");
        assert_eq!(platform.to_string(), "unknown/unknown");
    }

    #[test]
    fn blobs_come_config_first_and_children_in_order() {
        let manifest = read(r#"{"config":$D,"layers":[$D,$D]}"#, None).expect("valid");
        assert_eq!(manifest.blobs().count(), 3);
        assert!(manifest.children().is_empty());
        let child = format!(
            r#"{{"mediaType":"{}","digest":"{DIGEST}","size":1}}"#,
            MediaType::OCI_MANIFEST
        );
        let index = read(&format!(r#"{{"manifests":[$D,{child},{child}]}}"#), None).expect("valid");
        assert_eq!((index.blobs().count(), index.children().len()), (1, 2));
    }
}
