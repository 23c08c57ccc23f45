//! A small good payload for tests, and ways to change it.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use kharon::digest::Digest;
use kharon::manifest::MediaType;
use kharon::payload::{
    Blob, Entry, Image, ImageState, Index, Kind, ManifestEntry, Payload, Referrer, TagTarget,
    Travels, VERSION, Writer,
};
use serde_json::{Value, json};

/// A payload before it is written: entries in order, and the index but for its `entries`.
#[derive(Clone, Debug)]
pub struct Parts {
    pub entries: Vec<(String, Kind, Vec<u8>)>,
    pub index: Index,
}

/// Content with the descriptor that names it.
#[derive(Clone, Debug)]
pub struct Content {
    pub media_type: MediaType,
    pub digest: Digest,
    pub bytes: Vec<u8>,
}

impl Content {
    pub fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        Self { media_type: MediaType::new(media_type), digest, bytes }
    }

    pub fn json(media_type: &str, value: &Value) -> Self {
        Self::new(media_type, value.to_string())
    }

    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }

    pub fn manifest_entry(&self) -> ManifestEntry {
        ManifestEntry {
            media_type: self.media_type.clone(),
            digest: self.digest.clone(),
            size: self.bytes.len() as u64,
        }
    }

    pub fn blob(&self, travels: Travels) -> Blob {
        Blob {
            media_type: self.media_type.clone(),
            digest: self.digest.clone(),
            size: self.bytes.len() as u64,
            travels,
        }
    }

    fn entry(&self, kind: Kind) -> (String, Kind, Vec<u8>) {
        (self.digest.blob_path(), kind, self.bytes.clone())
    }
}

pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// The contents of [`parts`], by what they are.
#[derive(Clone, Debug)]
pub struct Sample {
    pub config: Content,
    pub layer: Content,
    pub base: Content,
    pub manifest: Content,
    pub index: Content,
    pub signature_config: Content,
    pub signature: Content,
    pub foreign: Content,
    pub docker_config: Content,
    pub docker_manifest: Content,
}

pub fn sample() -> Sample {
    let config = Content::new(OCI_CONFIG, r#"{"os":"linux","architecture":"amd64"}"#);
    let layer = Content::new(OCI_LAYER, "the layer that is new");
    let base = Content::new(OCI_LAYER, "the base layer, which the far side has");
    let manifest = Content::json(
        MediaType::OCI_MANIFEST,
        &json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
            "config": config.descriptor(), "layers": [base.descriptor(), layer.descriptor()],
        }),
    );
    let absent = Content::new(MediaType::OCI_MANIFEST, "for another platform, not carried");
    let with_platform = |content: &Content, architecture: &str| {
        let mut descriptor = content.descriptor();
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    };
    let index = Content::json(
        MediaType::OCI_INDEX,
        &json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX,
            "manifests": [with_platform(&manifest, "amd64"), with_platform(&absent, "arm64")],
        }),
    );
    let signature_config = Content::new(MediaType::OCI_EMPTY, "{}");
    let signature = Content::json(
        MediaType::OCI_MANIFEST,
        &json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
            "artifactType": "application/vnd.example.signature",
            "config": signature_config.descriptor(), "layers": [signature_config.descriptor()],
            "subject": index.descriptor(),
        }),
    );
    let foreign =
        Content::new("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "elsewhere");
    let docker_config = Content::new(DOCKER_CONFIG, r#"{"os":"linux","architecture":"arm64"}"#);
    let docker_layer = Content { media_type: MediaType::new(DOCKER_LAYER), ..layer.clone() };
    let docker_manifest = Content::json(
        MediaType::DOCKER_MANIFEST,
        &json!({
            "schemaVersion": 2, "mediaType": MediaType::DOCKER_MANIFEST,
            "config": docker_config.descriptor(),
            "layers": [foreign.descriptor(), docker_layer.descriptor()],
        }),
    );
    Sample {
        config,
        layer,
        base,
        manifest,
        index,
        signature_config,
        signature,
        foreign,
        docker_config,
        docker_manifest,
    }
}

/// Three images: an index of which one platform was chosen, with a signature; a Docker image with a
/// foreign layer; one that was skipped.
pub fn parts() -> Parts {
    let s = sample();
    let python = "python".parse().expect("valid");
    let images = vec![
        Image {
            name: "python:3.9".to_owned(),
            reference: "docker.io/library/python:3.9".to_owned(),
            repository: "python".parse().expect("valid"),
            state: ImageState::Carried,
            resolved: Some(s.index.manifest_entry()),
            platforms: vec!["linux/amd64".parse().expect("valid")],
            tags: vec![tag("3.9", Some(&s.index.digest))],
            manifests: vec![s.manifest.digest.clone(), s.index.digest.clone()],
            absent: Vec::new(),
            referrers: vec![Referrer {
                digest: s.signature.digest.clone(),
                subject: s.index.digest.clone(),
                tag: None,
            }],
            converted_from: None,
        },
        Image {
            name: "team/tool:1".to_owned(),
            reference: "docker.io/team/tool:1".to_owned(),
            repository: "team/tool".parse().expect("valid"),
            state: ImageState::Carried,
            resolved: Some(s.docker_manifest.manifest_entry()),
            platforms: Vec::new(),
            tags: vec![tag("1", Some(&s.docker_manifest.digest))],
            manifests: vec![s.docker_manifest.digest.clone()],
            absent: Vec::new(),
            referrers: Vec::new(),
            converted_from: None,
        },
        Image {
            name: "busybox".to_owned(),
            reference: "docker.io/library/busybox:latest".to_owned(),
            repository: "busybox".parse().expect("valid"),
            state: ImageState::Skipped,
            resolved: None,
            platforms: Vec::new(),
            tags: vec![tag("latest", None)],
            manifests: Vec::new(),
            absent: Vec::new(),
            referrers: Vec::new(),
            converted_from: None,
        },
    ];
    let index = Index {
        version: VERSION,
        tool: "kharon 0.1.0".to_owned(),
        images,
        manifests: [&s.manifest, &s.index, &s.signature, &s.docker_manifest]
            .map(Content::manifest_entry)
            .to_vec(),
        blobs: vec![
            s.config.blob(Travels::Carried),
            s.base.blob(Travels::Expected { repositories: vec![python] }),
            s.layer.blob(Travels::Carried),
            s.signature_config.blob(Travels::Carried),
            s.docker_config.blob(Travels::Carried),
            s.foreign.blob(Travels::LeftOut { urls: vec!["https://example.com/f".to_owned()] }),
        ],
        baselines: Vec::new(),
        plan: None,
        volume: None,
        volumes: Vec::new(),
        making: None,
        entries: Vec::new(),
    };
    let mut entries = vec![
        ("oci-layout".to_owned(), Kind::Small, br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), Kind::Small, br#"{"schemaVersion":2,"manifests":[]}"#.to_vec()),
    ];
    entries.extend(
        [&s.manifest, &s.index, &s.signature, &s.docker_manifest]
            .map(|manifest| manifest.entry(Kind::Small)),
    );
    entries.extend(
        [&s.config, &s.layer, &s.signature_config, &s.docker_config]
            .map(|blob| blob.entry(Kind::Streamed)),
    );
    Parts { entries, index }
}

pub fn tag(tag: &str, digest: Option<&Digest>) -> TagTarget {
    TagTarget { tag: tag.parse().expect("valid"), digest: digest.cloned(), former: Vec::new() }
}

impl Parts {
    /// The payload with `kharon.json` as it should be.
    pub fn write(&self) -> Vec<u8> {
        self.write_with_index(|entries| {
            let index = Index { entries: entries.to_vec(), ..self.index.clone() };
            index.to_json().expect("an index is JSON")
        })
    }

    /// The payload with `kharon.json` changed at the last moment.
    pub fn write_changed(&self, change: impl FnOnce(&mut Value)) -> Vec<u8> {
        self.write_with_index(|entries| {
            let mut index = self.index.clone();
            index.entries = entries.to_vec();
            let mut json = serde_json::to_value(&index).expect("an index is JSON");
            change(&mut json);
            serde_json::to_vec_pretty(&json).expect("a value is JSON")
        })
    }

    /// The payload with any bytes for `kharon.json`.
    pub fn write_with_index(&self, index: impl FnOnce(&[Entry]) -> Vec<u8>) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        self.write_entries(&mut writer);
        let index = index(writer.entries());
        writer.add("kharon.json", &index).expect("memory takes everything");
        writer.finish().expect("memory takes everything")
    }

    pub fn write_entries<W: Write>(&self, writer: &mut Writer<W>) {
        for (name, kind, bytes) in &self.entries {
            match kind {
                Kind::Small => writer.add(name, bytes).expect("memory takes everything"),
                Kind::Streamed => {
                    writer.begin(name, bytes.len() as u64).expect("memory takes everything");
                    for half in bytes.chunks(bytes.len().div_ceil(2).max(1)) {
                        writer.write(half).expect("memory takes everything");
                    }
                    let sha256 = Digest::of(bytes).hex().to_owned();
                    writer.end(sha256).expect("memory takes everything");
                }
            }
        }
    }

    /// The entry whose name starts so.
    pub fn entry(&mut self, name: &str) -> &mut (String, Kind, Vec<u8>) {
        let entry = self.entries.iter_mut().find(|(entry, ..)| entry == name);
        entry.expect("the entry is there")
    }
}

/// Opens bytes as if they were a file called `payload.zip`.
pub fn open(bytes: &[u8]) -> Result<Payload, kharon::payload::Error> {
    Payload::from_file(file(bytes), "payload.zip".to_owned())
}

pub fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file can be made");
    file.write_all(bytes).expect("a temporary file takes bytes");
    file.seek(SeekFrom::Start(0)).expect("a temporary file can be rewound");
    file
}
