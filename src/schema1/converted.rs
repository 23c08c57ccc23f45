//! Schema 1 made into schema 2.

use bytes::Bytes;

use crate::digest::Digest;
use crate::manifest::{Manifest, MediaType};
use crate::unpack::Packing;

use super::config::config;
use super::document::Schema1;
use super::error::InvalidSchema1;
use super::json::{self, Object};

const CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What reading a layer tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadLayer {
    /// The digest of the layer as it is packed.
    pub digest: Digest,
    /// How long it is so, in bytes.
    pub size_bytes: u64,
    /// How it is packed.
    pub packing: Packing,
    /// The digest of its plain bytes.
    pub diff_id: Digest,
}

/// An image in schema 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// What the manifest of schema 1 was known by.
    pub former: Digest,
    /// The manifest of schema 2.
    pub manifest: Manifest,
    /// The bytes of the config that it names. No registry has them yet.
    pub config: Bytes,
}

impl ReadLayer {
    fn media_type(&self) -> &'static str {
        match self.packing {
            Packing::Gzip => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            Packing::Plain => "application/vnd.docker.image.rootfs.diff.tar",
            Packing::Zstd => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        }
    }
}

impl Schema1 {
    /// The same image in schema 2. `layers` are those of [`Self::layers`], in that order.
    ///
    /// # Errors
    /// When the newest step does not say what a config needs.
    pub fn convert(&self, layers: &[ReadLayer]) -> Result<Converted, InvalidSchema1> {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let config = Bytes::from(config(self, &diff_ids)?);
        let mut out = String::new();
        let mut object = Object::begin(&mut out);
        object.field("schemaVersion").push('2');
        json::string(object.field("mediaType"), MediaType::DOCKER_MANIFEST);
        let size_bytes = config.len() as u64;
        descriptor(object.field("config"), CONFIG, size_bytes, &Digest::of(&config));
        json::list(object.field("layers"), layers, |out, layer| {
            descriptor(out, layer.media_type(), layer.size_bytes, &layer.digest);
        });
        object.end();
        let manifest = Manifest::parse(Bytes::from(out), None)
            .map_err(|error| InvalidSchema1::Json(serde::de::Error::custom(error)))?;
        Ok(Converted { former: self.digest.clone(), manifest, config })
    }
}

fn descriptor(out: &mut String, media_type: &str, size_bytes: u64, digest: &Digest) {
    let mut object = Object::begin(out);
    json::string(object.field("mediaType"), media_type);
    object.field("size").push_str(&size_bytes.to_string());
    json::string(object.field("digest"), &digest.to_string());
    object.end();
}
