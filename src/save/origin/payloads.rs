//! Payloads as a place of images. What they expect at the far side is read there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::task::spawn_blocking;

use crate::baselines::{Baselines, Finder, Place};
use crate::digest::Digest;
use crate::failure::{BaselineMissing, Usage, hinted};
use crate::fetch::Source;
use crate::make::ImageName;
use crate::manifest::{Descriptor, Manifest};
use crate::payload::{Blob, Image, ImageState, Payload, Travels};
use crate::progress::Reporter;
use crate::prove::gather;
use crate::reference::{Reference, RegistryHost};
use crate::registry::Registry;
use crate::units::count;
use crate::verify::Problem;

use super::Blame;

const HINT_ELSEWHERE: &str =
    "name the registry that has them with `-r`, or an OCI image layout with `--baseline-dir`";

/// The payloads, and what was found for them elsewhere.
pub(crate) struct Payloads {
    opened: Vec<Arc<Payload>>,
    registry: Option<Registry>,
    baselines: Baselines,
    reporter: Arc<dyn Reporter>,
    /// Blobs that travelled as deltas, rebuilt in temporary files.
    rebuilt: BTreeMap<Digest, Arc<File>>,
    /// Blobs that did not travel.
    elsewhere: BTreeMap<Digest, Place>,
}

impl Payloads {
    pub(super) fn new(
        payloads: Vec<Arc<Payload>>,
        registry: Option<Registry>,
        baselines: Baselines,
        reporter: Arc<dyn Reporter>,
    ) -> Self {
        let (rebuilt, elsewhere) = (BTreeMap::new(), BTreeMap::new());
        Self { opened: payloads, registry, baselines, reporter, rebuilt, elsewhere }
    }

    fn images(&self) -> impl Iterator<Item = (&Image, Reference)> {
        let images = self.opened.iter().flat_map(|payload| &payload.index().images);
        let carried = images.filter(|image| image.state == ImageState::Carried);
        carried.filter_map(|image| {
            let reference = Reference::parse(&image.reference, &RegistryHost::docker_hub()).ok()?;
            Some((image, reference))
        })
    }

    pub(super) fn all(&self) -> Vec<ImageName> {
        self.images()
            .map(|(image, reference)| ImageName { name: image.name.clone(), reference })
            .collect()
    }

    /// An image is known by its name as it was typed, by its full name, and by what it is called at the far side.
    fn find(&self, wanted: &ImageName) -> Option<(&Image, Reference)> {
        let is_meant = |(image, reference): &(&Image, Reference)| {
            let far =
                image.tags.iter().map(|target| format!("{}:{}", image.repository, target.tag));
            image.name == wanted.name
                || reference.to_string() == wanted.reference.to_string()
                || far.into_iter().any(|name| name == wanted.name)
        };
        self.images().find(is_meant)
    }

    pub(super) fn reference(&self, image: &ImageName) -> Reference {
        self.find(image).map_or_else(|| image.reference.clone(), |(_, reference)| reference)
    }

    pub(super) fn root(&self, image: &ImageName) -> anyhow::Result<Manifest> {
        let Some((found, _)) = self.find(image) else {
            let names: Vec<String> = self.all().into_iter().map(|image| image.name).collect();
            let message = format!("`{}` is not in the payload", image.name);
            return Err(Usage::new(message)
                .with_hint(format!("it brings {}", names.join(", ")))
                .into());
        };
        let root = found.resolved.as_ref().map(|root| &root.digest);
        let root =
            root.with_context(|| format!("the payload does not say what `{}` is", image.name));
        self.manifest(&image.name, root?)
    }

    pub(super) fn manifest(&self, name: &str, digest: &Digest) -> anyhow::Result<Manifest> {
        let found = self.opened.iter().find_map(|payload| payload.manifest(digest));
        found.cloned().ok_or_else(|| {
            hinted(
                format!("the payload does not bring the manifest `{digest}` of `{name}`"),
                "choose a platform that it brings with `--platform`",
            )
        })
    }

    /// What the payloads say of a blob, and which of them brings it in its way.
    fn planned(&self, digest: &Digest) -> impl Iterator<Item = (&Arc<Payload>, &Blob)> {
        self.opened.iter().filter_map(move |payload| {
            let mut blobs = payload.index().blobs.iter();
            Some((payload, blobs.find(|blob| blob.digest == *digest)?))
        })
    }

    pub(super) async fn prepare(
        &mut self,
        blobs: &[(&Reference, &Descriptor)],
        jobs: usize,
    ) -> anyhow::Result<()> {
        let missing: BTreeMap<&Digest, &Reference> = blobs
            .iter()
            .filter(|(_, blob)| self.opened.iter().all(|it| it.blob(&blob.digest).is_none()))
            .map(|(reference, blob)| (&blob.digest, *reference))
            .collect();
        let mut deltas = BTreeSet::new();
        let mut lacking: BTreeMap<String, Vec<&Digest>> = BTreeMap::new();
        for (digest, reference) in missing {
            if self.planned(digest).any(|(payload, _)| payload.delta(digest).is_some()) {
                deltas.insert(digest);
                continue;
            }
            match self.look_for(digest).await? {
                Some(place) => drop(self.elsewhere.insert(digest.clone(), place)),
                None => lacking.entry(reference.to_string()).or_default().push(digest),
            }
        }
        self.refuse_lacking(&lacking)?;
        self.rebuild(&deltas, jobs).await
    }

    fn finder(&self, payload: &Arc<Payload>) -> Finder {
        Finder {
            payload: Arc::clone(payload),
            registry: self.registry.clone(),
            baselines: self.baselines.clone(),
            reporter: Arc::clone(&self.reporter),
        }
    }

    async fn look_for(&self, digest: &Digest) -> anyhow::Result<Option<Place>> {
        for (payload, blob) in self.planned(digest) {
            let named = match &blob.travels {
                Travels::Expected { repositories } => repositories.as_slice(),
                _ => &[],
            };
            let candidates = [named, &self.baselines.repositories].concat();
            if let Some(place) = self.finder(payload).place(digest, &candidates).await? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    fn refuse_lacking(&self, lacking: &BTreeMap<String, Vec<&Digest>>) -> anyhow::Result<()> {
        let Some((name, digests)) = lacking.first_key_value() else { return Ok(()) };
        let volumes: Vec<u32> = self.opened.iter().flat_map(|it| it.missing_volumes()).collect();
        if !volumes.is_empty() {
            let volumes: Vec<String> = volumes.iter().map(ToString::to_string).collect();
            return Err(Usage::new(format!("`{name}` lacks blobs of volumes that are not here"))
                .with_hint(format!("name volume {} too", volumes.join(" and ")))
                .into());
        }
        if self.registry.is_none() {
            let blobs = count(digests.len() as u64, "blob");
            let message =
                format!("`{name}` lacks {blobs} that the payload expects at the far side");
            return Err(Usage::new(message).with_hint(HINT_ELSEWHERE).into());
        }
        let line = |(name, digests): (&String, &Vec<&Digest>)| {
            let digests: Vec<String> = digests.iter().map(|digest| format!("`{digest}`")).collect();
            format!("{name}: {}", digests.join(", "))
        };
        Err(BaselineMissing { images: lacking.iter().map(line).collect(), lacks_image: false }
            .into())
    }

    async fn rebuild(&mut self, deltas: &BTreeSet<&Digest>, jobs: usize) -> anyhow::Result<()> {
        for payload in self.opened.clone() {
            let wanted: Vec<Digest> = deltas
                .iter()
                .filter(|digest| payload.delta(digest).is_some())
                .filter(|digest| !self.rebuilt.contains_key(**digest))
                .map(|digest| (*digest).clone())
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let gathered = gather(&self.finder(&payload), jobs).await?;
            for problem in gathered.problems {
                let of_wanted =
                    matches!(&problem, Problem::Delta(it) if wanted.contains(&it.digest));
                if of_wanted {
                    return Err(problem.into());
                }
            }
            if let Some(lost) = wanted.iter().find(|digest| gathered.unproved.contains(digest)) {
                return Err(Usage::new(format!(
                    "`{lost}` travels as a delta, and what it was made against is not here"
                ))
                .with_hint(HINT_ELSEWHERE)
                .into());
            }
            self.reporter.phase(format!("rebuilding {}", count(wanted.len() as u64, "layer")));
            let (restorer, workdir) = (gathered.restorer, self.baselines.workdir.clone());
            let rebuilt = spawn_blocking(move || {
                let rebuild = |digest: Digest| {
                    let file = tempfile::tempfile_in(&workdir).with_context(|| {
                        format!("cannot create a temporary file in `{}`", workdir.display())
                    })?;
                    restorer.restore(&digest, &file)?;
                    anyhow::Ok((digest, Arc::new(file)))
                };
                wanted.into_iter().map(rebuild).collect::<anyhow::Result<Vec<_>>>()
            });
            self.rebuilt.extend(rebuilt.await??);
        }
        Ok(())
    }

    /// As [`Self::source`], for a blob that was not prepared.
    pub(super) async fn small(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> anyhow::Result<(Source, Blame)> {
        if self.opened.iter().any(|it| it.blob(&blob.digest).is_some()) {
            return self.source(reference, blob);
        }
        match self.look_for(&blob.digest).await? {
            Some(place) => self.at(&place, blob),
            None => Err(lacks(reference, blob)),
        }
    }

    pub(super) fn source(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> anyhow::Result<(Source, Blame)> {
        if let Some(file) = self.rebuilt.get(&blob.digest) {
            return Ok((Source::File(Arc::clone(file)), Blame::Payload));
        }
        let carried = self.opened.iter().find_map(|payload| payload.blob(&blob.digest));
        match (carried, self.elsewhere.get(&blob.digest)) {
            (Some(reader), _) => {
                let open = move |at| -> std::io::Result<Box<dyn std::io::Read + Send>> {
                    Ok(Box::new(reader.clone().bytes_from(at)))
                };
                Ok((Source::Reader(Arc::new(open)), Blame::Payload))
            }
            (None, Some(place)) => self.at(place, blob),
            (None, None) => Err(lacks(reference, blob)),
        }
    }

    fn at(&self, place: &Place, blob: &Descriptor) -> anyhow::Result<(Source, Blame)> {
        match (place, &self.registry) {
            (Place::Folder(path), _) => {
                let file = File::open(path);
                let file = file.with_context(|| format!("cannot open `{}`", path.display()))?;
                // The path of a blob is the folder's and three names more.
                let folder = path.ancestors().nth(3).unwrap_or(path).to_owned();
                Ok((Source::File(Arc::new(file)), Blame::Folder(folder)))
            }
            (Place::Repository(repository), Some(registry)) => {
                Ok((Source::Registry(registry.blob(repository, blob)), Blame::Registry))
            }
            _ => Err(hinted(format!("blob `{}` is not there", blob.digest), HINT_ELSEWHERE)),
        }
    }
}

fn lacks(reference: &Reference, blob: &Descriptor) -> anyhow::Error {
    Usage::new(format!(
        "`{reference}` lacks blob `{}`, which the payload does not bring",
        blob.digest
    ))
    .with_hint(HINT_ELSEWHERE)
    .into()
}
