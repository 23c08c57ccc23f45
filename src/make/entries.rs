//! The entries of a payload around its blobs, in either format: everything but the blobs' bytes is
//! known as soon as the plan stands.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::digest::Digest;
use crate::failure::{Hinted, hinted};
use crate::manifest::Manifest;
use crate::payload::index::{self, Entry, Image, Index, Travels};
use crate::payload::{self, Fault, Kind, PlannedEntry, charon, oci_index, payload_length};
use crate::plan::{Plan, PlannedBlob};

use super::Format;
use crate::minisign::SecretKey;

/// The entries of one payload.
pub(super) struct Entries {
    format: Format,
    index: Index,
    key: Option<SecretKey>,
    before: Vec<(String, Bytes)>,
    after: Vec<(String, Bytes)>,
    /// `payload_descriptor.json`, which says nothing of what was written; empty in kharon's format.
    descriptor: Vec<u8>,
    payload_bytes: u64,
}

impl Entries {
    /// The entries for `plan`.
    ///
    /// # Errors
    /// When docker-charon's format was asked for and cannot hold the plan, when the plan is more than
    /// a reader of payloads takes, and when it does not hang together.
    pub(super) fn new(plan: &Plan, format: Format, key: Option<SecretKey>) -> anyhow::Result<Self> {
        let manifests = plan.manifests.iter().map(|manifest| (&manifest.descriptor).into());
        let blobs = plan.blobs.iter().map(|blob| index::Blob {
            media_type: blob.descriptor.media_type.clone(),
            digest: blob.descriptor.digest.clone(),
            size: blob.descriptor.size,
            travels: blob.travels.clone(),
        });
        let index = Index {
            version: index::VERSION,
            tool: concat!("kharon ", env!("CARGO_PKG_VERSION")).to_owned(),
            images: plan.images.clone(),
            manifests: manifests.collect(),
            blobs: blobs.collect(),
            baselines: plan.baselines.clone(),
            entries: Vec::new(),
        };
        let (before, after, descriptor) = match format {
            Format::Kharon => (layout_entries(&index, &plan.manifests)?, Vec::new(), Vec::new()),
            Format::Charon => {
                (Vec::new(), charon_manifests(plan)?, charon_descriptor(&index, plan)?)
            }
        };
        payload::check_planned(&index, &plan.manifests).map_err(explain)?;
        let mut entries = Self { format, index, key, before, after, descriptor, payload_bytes: 0 };
        entries.payload_bytes = entries.length(plan)?;
        Ok(entries)
    }

    /// The length of the payload that will be written, in bytes.
    pub(super) fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// The small entries before the blobs.
    pub(super) fn before(&self) -> &[(String, Bytes)] {
        &self.before
    }

    /// The small entries after the blobs.
    pub(super) fn after(&self) -> &[(String, Bytes)] {
        &self.after
    }

    /// The entry that holds a blob, raw or as a delta, and its size in bytes.
    pub(super) fn entry_of(&self, blob: &PlannedBlob) -> (String, u64) {
        let digest = &blob.descriptor.digest;
        match (self.format, &blob.travels) {
            (_, Travels::Delta { .. }) => (payload::delta_entry_name(digest), blob.delta_bytes),
            (Format::Kharon, _) => (digest.blob_path(), blob.descriptor.size),
            (Format::Charon, _) => (charon::blob_entry_name(digest), blob.descriptor.size),
        }
    }

    /// The last entries: the index, which describes all `written` ones, and the signature over it.
    pub(super) fn last(&self, written: &[Entry]) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        match self.format {
            Format::Kharon => {
                let index = Index { entries: written.to_vec(), ..self.index.clone() };
                let json = index.to_json()?;
                let signed = self.key.as_ref().map(|key| payload::sign_index(key, &json));
                let signed = signed.transpose()?;
                let index = (index::ENTRY_NAME.to_owned(), json);
                Ok(std::iter::once(index).chain(signed).collect())
            }
            Format::Charon => Ok(vec![(charon::ENTRY_NAME.to_owned(), self.descriptor.clone())]),
        }
    }

    fn length(&self, plan: &Plan) -> anyhow::Result<u64> {
        let small =
            |(name, bytes): &(String, Bytes)| (name.clone(), bytes.len() as u64, Kind::Small);
        let blobs = plan.packed().map(|blob| {
            let (entry, bytes) = self.entry_of(blob);
            (entry, bytes, Kind::Streamed)
        });
        let planned: Vec<(String, u64, Kind)> = self
            .before
            .iter()
            .map(small)
            .chain(blobs)
            .chain(self.after.iter().map(small))
            .collect();
        // Every SHA-256 and signature has the same length, so that of the last entries is known before
        // their content.
        let sha256 = "0".repeat(64);
        let written: Vec<Entry> = planned
            .iter()
            .map(|(name, size, _)| Entry {
                name: name.clone(),
                size: *size,
                sha256: sha256.clone(),
            })
            .collect();
        let last = self.last(&written)?;
        let limit = index::INDEX_MAX_BYTES;
        if let Some((name, bytes)) = last.iter().find(|(_, bytes)| bytes.len() as u64 > limit) {
            let (name, found) = (name.clone(), bytes.len() as u64);
            return Err(explain(Fault::IndexTooLarge { name, limit, found }));
        }
        let last = last.into_iter().map(|(name, bytes)| (name, bytes.len() as u64, Kind::Small));
        let last: Vec<(String, u64, Kind)> = last.collect();
        let entries = planned.iter().chain(&last);
        Ok(payload_length(entries.map(|(name, size_bytes, kind)| PlannedEntry {
            name,
            size_bytes: *size_bytes,
            kind: *kind,
        })))
    }
}

/// The manifests of docker-charon's format, one for each image.
fn charon_manifests(plan: &Plan) -> anyhow::Result<Vec<(String, Bytes)>> {
    let names: Vec<String> = plan.images.iter().map(charon_name).collect();
    charon::check_entry_names(names.iter().map(String::as_str))?;
    let by_digest: BTreeMap<&Digest, &Manifest> =
        plan.manifests.iter().map(|manifest| (manifest.digest(), manifest)).collect();
    let mut entries = Vec::new();
    for (image, name) in plan.images.iter().zip(&names) {
        let root = image.resolved.as_ref().map(|root| &root.digest);
        let target = image.tags.first().and_then(|target| target.digest.as_ref());
        let Some(manifest) = target.or(root).and_then(|digest| by_digest.get(digest)) else {
            continue;
        };
        let tag = image.tags.first().map(|target| &target.tag);
        charon::check_carriable(&image.name, tag, manifest)?;
        entries.push((charon::manifest_entry_name(name), manifest.raw.clone()));
    }
    Ok(entries)
}

/// The name of an image in docker-charon's format. One without a tag is refused before it is used.
fn charon_name(image: &Image) -> String {
    let tagged =
        image.tags.first().map(|target| charon::image_name(&image.repository, &target.tag));
    tagged.unwrap_or_else(|| image.name.clone())
}

fn charon_descriptor(index: &Index, plan: &Plan) -> anyhow::Result<Vec<u8>> {
    let names: Vec<String> = index.images.iter().map(charon_name).collect();
    let images = names.iter().map(String::as_str).zip(index.images.iter().map(|image| image.state));
    let mut blobs = Vec::with_capacity(index.blobs.len());
    for (blob, planned) in index.blobs.iter().zip(&plan.blobs) {
        blobs.push((&blob.digest, charon::place(&planned.source.to_string(), blob)?));
    }
    Ok(charon::descriptor_json(images, blobs))
}

/// Says what a reader would refuse, before it is written.
fn explain(fault: Fault) -> anyhow::Error {
    match fault {
        Fault::ManifestsTooLarge { .. } | Fault::IndexTooLarge { .. } => hinted(
            format!("the images are too many for one payload: {fault}"),
            "make several payloads, each with some of the images",
        ),
        fault => anyhow::Error::new(fault).context(Hinted::new(
            "no reader would take this payload, so it is not written",
            "a registry contradicts itself, or this is a bug of kharon: please report it",
        )),
    }
}

fn layout_entries(index: &Index, manifests: &[Manifest]) -> anyhow::Result<Vec<(String, Bytes)>> {
    let index_json = oci_index::index_json(&index.images, &index.manifests)?;
    let mut entries = vec![
        (payload::LAYOUT_NAME.to_owned(), Bytes::from_static(oci_index::LAYOUT)),
        (payload::LAYOUT_INDEX_NAME.to_owned(), Bytes::from(index_json)),
    ];
    let manifests =
        manifests.iter().map(|manifest| (manifest.digest().blob_path(), manifest.raw.clone()));
    entries.extend(manifests);
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{ExitCode, hints};
    use crate::manifest::{MANIFEST_MAX_BYTES, MediaType};
    use crate::payload::index::{ImageState, ManifestEntry, TagTarget};
    use crate::reference::{Reference, RegistryHost};

    fn manifest(padding_bytes: u64) -> Manifest {
        let padding = " ".repeat(usize::try_from(padding_bytes).expect("small"));
        let json = format!(r#"{{"manifests":[]{padding}}}"#);
        Manifest::parse(Bytes::from(json), None).expect("a manifest")
    }

    fn image(manifest: &Manifest) -> Image {
        Image {
            name: "app:1".to_owned(),
            reference: "docker.io/library/app:1".to_owned(),
            repository: "app".parse().expect("valid"),
            state: ImageState::Carried,
            resolved: Some(ManifestEntry::from(&manifest.descriptor)),
            platforms: Vec::new(),
            tags: Vec::new(),
            manifests: vec![manifest.digest().clone()],
            absent: Vec::new(),
            referrers: Vec::new(),
        }
    }

    fn refused(images: Vec<Image>, manifests: Vec<Manifest>) -> String {
        let plan = Plan { images, manifests, blobs: Vec::new(), baselines: Vec::new() };
        let error = Entries::new(&plan, Format::Kharon, None).err().expect("an error");
        format!("{error:#}; {}", hints(&error).join("; "))
    }

    #[test]
    fn a_plan_that_no_reader_would_take_is_refused() {
        let (large, small) = (manifest(MANIFEST_MAX_BYTES - 100), manifest(0));
        let good = Plan {
            images: vec![image(&small)],
            manifests: vec![small.clone()],
            blobs: Vec::new(),
            baselines: Vec::new(),
        };
        assert!(Entries::new(&good, Format::Kharon, None).is_ok());
        let too_many = refused(vec![image(&large)], vec![large; 65]);
        let too_long = usize::try_from(index::INDEX_MAX_BYTES).expect("small");
        let long_name = Image { name: "x".repeat(too_long), ..image(&small) };
        let too_much = refused(vec![long_name], vec![small.clone()]);
        let (tag, digest) = ("1".parse().expect("valid"), Some(Digest::of(b"elsewhere")));
        let tags = vec![TagTarget { tag, digest, former: Vec::new() }];
        let lying = refused(vec![Image { tags, ..image(&small) }], vec![small]);
        for (text, parts) in [
            (too_many, ["bytes of manifests in one payload", "make several payloads"]),
            (too_much, ["in the entry `kharon.json`", "make several payloads"]),
            (lying, ["no reader would take this payload", "please report it"]),
        ] {
            for part in parts {
                assert!(text.contains(part), "no `{part}` in {text}");
            }
        }
    }

    #[test]
    fn a_foreign_layer_that_is_left_out_has_no_place_in_docker_charons_format() {
        let (config, layer) = (Digest::of(b"config"), Digest::of(b"layer"));
        let json = format!(
            r#"{{"mediaType":"{}","config":{{"mediaType":"x/y","digest":"{config}","size":1}},
                "layers":[{{"mediaType":"x/y","digest":"{layer}","size":1,"urls":["http://x/"]}}]}}"#,
            MediaType::DOCKER_MANIFEST
        );
        let manifest = Manifest::parse(Bytes::from(json), None).expect("a manifest");
        let source = Reference::parse("app:1", &RegistryHost::docker_hub()).expect("a reference");
        let travels = |at| match at {
            0 => Travels::Carried,
            _ => Travels::LeftOut { urls: Vec::new() },
        };
        let blobs = manifest.blobs().enumerate().map(|(at, descriptor)| PlannedBlob {
            descriptor: descriptor.clone(),
            travels: travels(at),
            source: source.clone(),
            delta_bytes: 0,
        });
        let (tag, digest) = ("1".parse().expect("valid"), Some(manifest.digest().clone()));
        let tags = vec![TagTarget { tag, digest, former: Vec::new() }];
        let images = vec![Image { tags, ..image(&manifest) }];
        let plan = Plan {
            images,
            blobs: blobs.collect(),
            baselines: Vec::new(),
            manifests: vec![manifest],
        };
        assert!(Entries::new(&plan, Format::Kharon, None).is_ok());
        let error = Entries::new(&plan, Format::Charon, None).err().expect("an error");
        assert_eq!(ExitCode::of(&error), ExitCode::Usage);
        assert!(error.to_string().contains(&format!("found `{layer}` left out")), "{error}");
        assert!(hints(&error).concat().contains("--foreign-layers"));
    }
}
