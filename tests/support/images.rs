//! Content for tests: layers, images, indexes, charts, signatures.
//!
//! Everything is made of what is given alone, so digests are the same in each run.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use kharon::digest::Digest;
use kharon::manifest::{Descriptor, Manifest, MediaType};
use serde_json::{Value, json};

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const HELM_CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const COSIGN_PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Bytes and what they are called.
#[derive(Clone, Debug)]
pub struct Blob {
    pub descriptor: Descriptor,
    pub bytes: Bytes,
}

impl Blob {
    pub fn new(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let size = bytes.len() as u64;
        let descriptor = Descriptor::new(MediaType::new(media_type), Digest::of(&bytes), size);
        Self { descriptor, bytes }
    }

    pub fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    /// The same bytes under another media type.
    fn called(&self, media_type: &str) -> Self {
        Self::new(media_type, self.bytes.clone())
    }
}

/// A layer: these files in a tar, gzipped.
pub fn layer(files: &[(&str, &[u8])]) -> Blob {
    layer_at(Compression::default(), files)
}

/// The same at a level of compression.
pub fn layer_at(level: Compression, files: &[(&str, &[u8])]) -> Blob {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), level));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, *content).expect("a tar");
    }
    let gzip = archive.into_inner().expect("a tar");
    Blob::new(OCI_LAYER, gzip.finish().expect("a gzip stream"))
}

/// A layer of one file of random bytes, so that it is about as large as asked for.
pub fn random_layer(seed: u64, size_bytes: usize) -> Blob {
    layer_at(Compression::none(), &[("random", &random_bytes(seed, size_bytes))])
}

/// Random bytes that are the same for the same seed (xorshift64*).
pub fn random_bytes(seed: u64, size_bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size_bytes + 8);
    while bytes.len() < size_bytes {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.write_all(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()).expect("memory");
    }
    bytes.truncate(size_bytes);
    bytes
}

/// A manifest and all that belongs to it.
#[derive(Clone, Debug)]
pub struct Image {
    pub manifest: Manifest,
    /// Config first, then layers; none for an index.
    pub blobs: Vec<Blob>,
    /// The children of an index.
    pub children: Vec<Image>,
    /// `os/architecture[/variant]` of an image, for indexes to name.
    pub platform: Option<String>,
}

impl Image {
    /// An OCI image for linux/amd64.
    pub fn oci(layers: &[Blob]) -> Self {
        Self::oci_for("linux/amd64", layers)
    }

    /// An OCI image for a platform.
    pub fn oci_for(platform: &str, layers: &[Blob]) -> Self {
        let layers: Vec<_> = layers.iter().map(|layer| layer.called(OCI_LAYER)).collect();
        let config = config(platform, OCI_CONFIG, &layers);
        let image = Self::of_blobs(MediaType::OCI_MANIFEST, config, layers, &json!({}));
        Self { platform: Some(platform.to_owned()), ..image }
    }

    /// A Docker schema 2 image for linux/amd64.
    pub fn docker(layers: &[Blob]) -> Self {
        Self::docker_for("linux/amd64", layers)
    }

    /// A Docker schema 2 image for a platform.
    pub fn docker_for(platform: &str, layers: &[Blob]) -> Self {
        let layers: Vec<_> = layers.iter().map(|layer| layer.called(DOCKER_LAYER)).collect();
        let config = config(platform, DOCKER_CONFIG, &layers);
        let image = Self::of_blobs(MediaType::DOCKER_MANIFEST, config, layers, &json!({}));
        Self { platform: Some(platform.to_owned()), ..image }
    }

    /// An OCI index of images, in order, each with its platform.
    pub fn index(children: &[Image]) -> Self {
        Self::index_of(MediaType::OCI_INDEX, children)
    }

    /// A Docker manifest list.
    pub fn docker_list(children: &[Image]) -> Self {
        Self::index_of(MediaType::DOCKER_LIST, children)
    }

    fn index_of(media_type: &str, children: &[Image]) -> Self {
        let manifests: Vec<_> = children.iter().map(Image::as_child).collect();
        let document =
            json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
        let manifest = parsed(&document);
        Self { manifest, blobs: Vec::new(), children: children.to_vec(), platform: None }
    }

    /// What `BuildKit` puts beside an image in its index: a manifest of platform `unknown/unknown`.
    pub fn attestation(of: &Image) -> Self {
        let statement =
            json!({ "subject": of.digest(), "predicateType": "https://slsa.dev/provenance/v0.2" });
        let layer = Blob::new("application/vnd.in-toto+json", statement.to_string());
        let config = config("unknown/unknown", OCI_CONFIG, std::slice::from_ref(&layer));
        let image = Self::of_blobs(MediaType::OCI_MANIFEST, config, vec![layer], &json!({}));
        let mut image = Self { platform: Some("unknown/unknown".to_owned()), ..image };
        let annotations = [
            ("vnd.docker.reference.type", "attestation-manifest".to_owned()),
            ("vnd.docker.reference.digest", of.digest().to_string()),
        ];
        image.manifest.descriptor.annotations =
            annotations.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        image
    }

    /// A Helm chart as an OCI artifact.
    pub fn helm_chart(name: &str, version: &str) -> Self {
        let config = json!({ "name": name, "version": version, "apiVersion": "v2" });
        let config = Blob::new(HELM_CONFIG, config.to_string());
        let chart = layer(&[(&format!("{name}/Chart.yaml"), version.as_bytes())]);
        let layers = vec![chart.called(HELM_CHART)];
        Self::of_blobs(MediaType::OCI_MANIFEST, config, layers, &json!({}))
    }

    /// An artifact that refers to `subject` by the OCI 1.1 field.
    pub fn referrer(subject: &Image, artifact_type: &str, content: &[u8]) -> Self {
        let config = Blob::new(MediaType::OCI_EMPTY, &b"{}"[..]);
        let layer = Blob::new("application/octet-stream", content.to_vec());
        let more = json!({
            "artifactType": artifact_type,
            "subject": plain_descriptor(&subject.manifest.descriptor),
            "annotations": { "org.example.note": "of a test" },
        });
        Self::of_blobs(MediaType::OCI_MANIFEST, config, vec![layer], &more)
    }

    /// A signature as cosign stores it: to be put under the tag [`Image::signature_tag`].
    pub fn cosign_signature(of: &Image) -> Self {
        let payload = json!({ "critical": { "image": { "docker-manifest-digest": of.digest() } } });
        let layer = Blob::new(COSIGN_PAYLOAD, payload.to_string());
        let config = config("", OCI_CONFIG, std::slice::from_ref(&layer));
        Self::of_blobs(MediaType::OCI_MANIFEST, config, vec![layer], &json!({}))
    }

    /// `sha256-<hex>.sig`
    pub fn signature_tag(&self) -> String {
        format!("{}.sig", self.digest().tag_form())
    }

    /// A manifest of any blobs, with more fields if wanted.
    pub fn of_blobs(media_type: &str, config: Blob, layers: Vec<Blob>, more: &Value) -> Self {
        let descriptors: Vec<_> =
            layers.iter().map(|layer| plain_descriptor(&layer.descriptor)).collect();
        let mut document = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": plain_descriptor(&config.descriptor),
            "layers": descriptors,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            document[key] = value.clone();
        }
        let blobs = std::iter::once(config).chain(layers).collect();
        Self { manifest: parsed(&document), blobs, children: Vec::new(), platform: None }
    }

    pub fn digest(&self) -> &Digest {
        self.manifest.digest()
    }

    /// The layers, without the config.
    pub fn layers(&self) -> &[Blob] {
        self.blobs.get(1..).unwrap_or_default()
    }

    /// All blobs of it and its children, each digest once.
    pub fn all_blobs(&self) -> Vec<Blob> {
        let mut blobs = self.blobs.clone();
        blobs.extend(self.children.iter().flat_map(Image::all_blobs));
        blobs.sort_by(|a, b| a.digest().cmp(b.digest()));
        blobs.dedup_by(|a, b| a.digest() == b.digest());
        blobs
    }

    fn as_child(&self) -> Value {
        let mut child = plain_descriptor(&self.manifest.descriptor);
        if let Some(platform) = &self.platform {
            child["platform"] = platform_of(platform);
        }
        if !self.manifest.descriptor.annotations.is_empty() {
            child["annotations"] = json!(self.manifest.descriptor.annotations);
        }
        child
    }

    /// Pushes it over HTTP, for registries that are not in this process: `base` is
    /// `http://host:port`. Without a tag (`""`) by digest.
    pub async fn push_to(&self, base: &str, repository: &str, tag: &str) {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build();
        self.push_with(&client.expect("a client"), base, repository, tag).await;
    }

    async fn push_with(&self, client: &reqwest::Client, base: &str, repository: &str, tag: &str) {
        for child in &self.children {
            Box::pin(child.push_with(client, base, repository, "")).await;
        }
        for blob in &self.blobs {
            let start = client.post(format!("{base}/v2/{repository}/blobs/uploads/")).send().await;
            let start = start.expect("an answer");
            let location = start.headers()["location"].to_str().expect("text");
            let location = if location.starts_with('/') {
                format!("{base}{location}")
            } else {
                location.to_owned()
            };
            let mark = if location.contains('?') { '&' } else { '?' };
            let url = format!("{location}{mark}digest={}", blob.digest());
            let ended = client.put(url).body(blob.bytes.clone()).send().await.expect("an answer");
            assert_eq!(ended.status().as_u16(), 201);
        }
        let digest = self.digest().to_string();
        let what = if tag.is_empty() { digest.as_str() } else { tag };
        let ended = client
            .put(format!("{base}/v2/{repository}/manifests/{what}"))
            .header("content-type", self.manifest.descriptor.media_type.as_str())
            .body(self.manifest.raw.clone())
            .send()
            .await
            .expect("an answer");
        assert_eq!(ended.status().as_u16(), 201);
    }
}

fn config(platform: &str, media_type: &str, layers: &[Blob]) -> Blob {
    let mut document = json!({
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(diff_id).collect::<Vec<_>>() },
    });
    let platform = platform_of(platform);
    for (key, value) in platform.as_object().into_iter().flatten() {
        document[key] = value.clone();
    }
    Blob::new(media_type, document.to_string())
}

/// The digest of the tar inside of a layer; of the bytes themselves where they are no gzip stream.
fn diff_id(layer: &Blob) -> Digest {
    let mut plain = Vec::new();
    let mut gzip = flate2::read::GzDecoder::new(&layer.bytes[..]);
    match std::io::copy(&mut gzip, &mut plain) {
        Ok(_) => Digest::of(&plain),
        Err(_) => Digest::of(&layer.bytes),
    }
}

fn platform_of(text: &str) -> Value {
    let mut parts = text.split('/').filter(|part| !part.is_empty());
    let mut platform = json!({});
    for key in ["os", "architecture", "variant"] {
        if let Some(part) = parts.next() {
            platform[key] = part.into();
        }
    }
    platform
}

fn plain_descriptor(descriptor: &Descriptor) -> Value {
    json!({ "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size })
}

fn parsed(document: &Value) -> Manifest {
    Manifest::parse(document.to_string().into(), None).expect("a manifest")
}
