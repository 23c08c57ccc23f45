//! The entries of a payload around its blobs, in either format: everything but the blobs' bytes is
//! known as soon as the plan stands.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::digest::Digest;
use crate::failure::{Hinted, hinted};
use crate::manifest::Manifest;
use crate::payload::index::{self, Entry, Image, Index, MadeDelta, Making, Travels};
use crate::payload::{self, Fault, charon, oci_index};
use crate::plan::{DeltaEntry, Plan, PlannedBlob};

use super::Format;
use super::cut::Share;
use crate::minisign::SecretKey;

/// The entries of one payload, in all its volumes.
pub(super) struct Entries {
    pub(super) format: Format,
    pub(super) index: Index,
    /// Signs the index of each volume.
    pub(super) key: Option<SecretKey>,
    pub(super) before: Vec<(String, Bytes)>,
    pub(super) after: Vec<(String, Bytes)>,
    /// `payload_descriptor.json`, which says nothing of what was written; empty in kharon's format.
    pub(super) descriptor: Vec<u8>,
    pub(super) is_split: bool,
    pub(super) contents: Vec<Content>,
    /// The length of each volume in bytes; of the payload, where it is not split.
    pub(super) lengths: Vec<u64>,
}

/// How a payload is split.
#[derive(Clone, Debug)]
pub(super) struct Split {
    /// The most that a volume may have, in bytes.
    pub(super) volume_bytes: u64,
    /// How deltas were made, if there are any.
    pub(super) making: Making,
}

/// What brings a blob: one entry, or where it was cut, one for each part.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) blob: Digest,
    pub(super) parts: Vec<Part>,
}

/// An entry of a volume.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// The volume, from 0 on.
    pub(super) volume: usize,
    pub(super) name: String,
    pub(super) size_bytes: u64,
    /// Where its header begins in the volume.
    pub(super) header_start: u64,
    /// Where its bytes do.
    pub(super) start: u64,
}

impl Content {
    pub(super) fn size_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.size_bytes).sum()
    }
}

impl Entries {
    /// The entries for `plan`.
    ///
    /// # Errors
    /// When docker-charon's format was asked for and cannot hold the plan, when the plan is more than
    /// a reader of payloads takes, when it does not hang together, and when volumes are too small.
    pub(super) fn new(
        plan: &Plan,
        format: Format,
        split: Option<&Split>,
        key: Option<SecretKey>,
    ) -> anyhow::Result<Self> {
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
            plan: None,
            volume: None,
            volumes: Vec::new(),
            making: split.and_then(|split| making(split, plan)),
            entries: Vec::new(),
        };
        let (before, after, descriptor) = match format {
            Format::Kharon => (layout_entries(&index, &plan.manifests)?, Vec::new(), Vec::new()),
            Format::Charon => {
                (Vec::new(), charon_manifests(plan)?, charon_descriptor(&index, plan)?)
            }
        };
        payload::check_planned(&index, &plan.manifests).map_err(explain)?;
        let (is_split, contents, lengths) = (split.is_some(), Vec::new(), Vec::new());
        let mut entries =
            Self { format, index, key, before, after, descriptor, is_split, contents, lengths };
        let packed: Vec<&PlannedBlob> = plan.packed().collect();
        match split {
            None => {
                let whole = |(item, blob): (usize, &&PlannedBlob)| Share {
                    item,
                    range: 0..blob.packed_bytes(),
                };
                let shares = packed.iter().enumerate().map(whole).collect();
                entries.place(&packed, &[shares])?;
            }
            Some(split) => entries.split(&packed, split.volume_bytes)?,
        }
        Ok(entries)
    }

    /// The length of the payload that will be written, in bytes, all volumes together.
    pub(super) fn payload_bytes(&self) -> u64 {
        self.lengths.iter().fold(0, |sum, length| sum.saturating_add(*length))
    }

    /// The length of each volume, in bytes.
    pub(super) fn lengths(&self) -> &[u64] {
        &self.lengths
    }

    /// Whether the payload comes in volumes, be it only one.
    pub(super) fn is_split(&self) -> bool {
        self.is_split
    }

    /// The payload's own index, but for what each volume adds.
    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// What brings the blobs, in the order in which it is written.
    pub(super) fn contents(&self) -> &[Content] {
        &self.contents
    }

    /// Whether something of what brings `blob` is in a volume, from 0 on.
    pub(super) fn is_in(&self, blob: &Digest, volume: usize) -> bool {
        let mut brings = self.contents.iter().filter(|content| content.blob == *blob);
        brings.any(|content| content.parts.iter().any(|part| part.volume == volume))
    }

    /// The small entries before the blobs, in each volume.
    pub(super) fn before(&self) -> &[(String, Bytes)] {
        &self.before
    }

    /// The small entries after the blobs.
    pub(super) fn after(&self) -> &[(String, Bytes)] {
        &self.after
    }

    /// The last entries of a volume: the index, which describes all that were `written` into it, and the signature
    /// over that.
    pub(super) fn last(
        &self,
        volume: usize,
        written: &[Entry],
    ) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        match self.format {
            Format::Kharon => {
                let number = u32::try_from(volume + 1)?;
                let index = Index {
                    entries: written.to_vec(),
                    volume: self.is_split().then_some(number),
                    ..self.index.clone()
                };
                let json = index.to_json()?;
                let signed = self.key.as_ref().map(|key| payload::sign_index(key, &json));
                let signed = signed.transpose()?;
                let index = (index::ENTRY_NAME.to_owned(), json);
                Ok(std::iter::once(index).chain(signed).collect())
            }
            Format::Charon => Ok(vec![(charon::ENTRY_NAME.to_owned(), self.descriptor.clone())]),
        }
    }

    /// The entry that holds a blob, raw or as a delta.
    pub(super) fn name_of(&self, blob: &PlannedBlob) -> String {
        let digest = &blob.descriptor.digest;
        match (self.format, &blob.travels) {
            (_, Travels::Delta { .. }) => payload::delta_entry_name(digest),
            (Format::Kharon, _) => digest.blob_path(),
            (Format::Charon, _) => charon::blob_entry_name(digest),
        }
    }
}

/// How the deltas of `plan` were made, if it has any.
fn making(split: &Split, plan: &Plan) -> Option<Making> {
    let deltas = plan.blobs.iter().filter_map(|planned| {
        let DeltaEntry { size_bytes, sha256 } = planned.delta.clone()?;
        Some(MadeDelta { blob: planned.descriptor.digest.clone(), size: size_bytes, sha256 })
    });
    let deltas: Vec<MadeDelta> = deltas.collect();
    (!deltas.is_empty()).then(|| Making { deltas, ..split.making.clone() })
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
pub(super) fn explain(fault: Fault) -> anyhow::Error {
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

pub(super) fn layout_entries(
    index: &Index,
    manifests: &[Manifest],
) -> anyhow::Result<Vec<(String, Bytes)>> {
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
            converted_from: None,
        }
    }

    fn refused(images: Vec<Image>, manifests: Vec<Manifest>) -> String {
        let (blobs, baselines, made) = (Vec::new(), Vec::new(), BTreeMap::new());
        let plan = Plan { images, manifests, blobs, baselines, made };
        let error = Entries::new(&plan, Format::Kharon, None, None).err().expect("an error");
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
            made: BTreeMap::new(),
        };
        assert!(Entries::new(&good, Format::Kharon, None, None).is_ok());
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
            delta: None,
        });
        let (tag, digest) = ("1".parse().expect("valid"), Some(manifest.digest().clone()));
        let tags = vec![TagTarget { tag, digest, former: Vec::new() }];
        let images = vec![Image { tags, ..image(&manifest) }];
        let plan = Plan {
            images,
            blobs: blobs.collect(),
            baselines: Vec::new(),
            made: BTreeMap::new(),
            manifests: vec![manifest],
        };
        assert!(Entries::new(&plan, Format::Kharon, None, None).is_ok());
        let error = Entries::new(&plan, Format::Charon, None, None).err().expect("an error");
        assert_eq!(ExitCode::of(&error), ExitCode::Usage);
        assert!(error.to_string().contains(&format!("found `{layer}` left out")), "{error}");
        assert!(hints(&error).concat().contains("--foreign-layers"));
    }
}
