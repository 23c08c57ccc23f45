//! What the verbs are asked for in a sequence, and what they wrote, in the words of the model.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use kharon::delta::Effort;
use kharon::make::{DeltaRequest, Deltas, ImageName, MakeRequest, Recompress};
use kharon::payload;
use kharon::push::{OnMissing, PushRequest, TagPolicy};
use kharon::receipt::Receipt;
use kharon::reference::RepositoryName;

use crate::belief::{Known, Name, Packed, Payload, Travels};
use crate::content;
use crate::kit::Job;
use crate::support::images::Image;

/// How a payload is made.
pub struct Make {
    pub wanted: BTreeMap<Name, Option<Image>>,
    pub files: Vec<(String, Known)>,
    pub transferred: Vec<(Name, Image)>,
    pub deltas: Deltas,
    pub recompress: Recompress,
    pub jobs: NonZeroUsize,
}

impl Make {
    pub fn request(&self, job: &Job) -> MakeRequest {
        let names = |all: Vec<&Name>| -> Vec<ImageName> {
            let all: Vec<String> = all.into_iter().map(joined).collect();
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            crate::kit::names(&job.source, &all)
        };
        let delta = DeltaRequest {
            deltas: self.deltas,
            recompress: self.recompress,
            effort: Effort::Fast,
            ..DeltaRequest::default()
        };
        MakeRequest {
            wanted: names(self.wanted.keys().collect()),
            already_transferred: names(self.transferred.iter().map(|(name, _)| name).collect()),
            against: self.files.iter().map(|(file, _)| job.path(file)).collect(),
            delta,
            jobs: self.jobs,
            ..job.request(&[])
        }
    }

    pub fn described(&self) -> String {
        let wanted: Vec<_> = self.wanted.keys().map(joined).collect();
        let files: Vec<_> = self.files.iter().map(|(file, _)| file.as_str()).collect();
        let transferred: Vec<_> = self.transferred.iter().map(|(name, _)| joined(name)).collect();
        format!(
            "{wanted:?} against {files:?}, transferred {transferred:?}, deltas {:?}, recompress {:?}",
            self.deltas, self.recompress
        )
    }
}

/// How one is pushed.
#[derive(Debug)]
pub struct Push {
    pub prefix: Option<&'static str>,
    pub policy: TagPolicy,
    pub on_missing: OnMissing,
    pub receipt: Option<String>,
    pub jobs: NonZeroUsize,
}

impl Push {
    pub fn request(&self, job: &Job) -> PushRequest {
        let mut request = job.push_request();
        request.names.prefix = self.prefix.map(|prefix| prefix.parse().expect("a repository"));
        request.receipt = self.receipt.as_ref().map(|file| job.path(file));
        PushRequest {
            tag_policy: self.policy,
            on_missing: self.on_missing,
            jobs: self.jobs,
            ..request
        }
    }
}

/// The payload as its index says, compared with what the baseline says.
pub fn read(file: &str, images: Vec<Packed>, payload: &payload::Payload, known: &Known) -> Payload {
    let index = payload.index();
    let texts = |repositories: &[RepositoryName]| -> BTreeSet<String> {
        repositories.iter().map(ToString::to_string).collect()
    };
    let mut blobs = BTreeMap::new();
    for blob in &index.blobs {
        let travels = match &blob.travels {
            payload::index::Travels::Carried => Travels::Carried,
            payload::index::Travels::Delta { baselines } => Travels::Delta(baselines.clone()),
            payload::index::Travels::Expected { repositories } => {
                let repositories = texts(repositories);
                assert_eq!(known.blobs.get(&blob.digest), Some(&repositories), "{}", blob.digest);
                Travels::Expected(repositories)
            }
            payload::index::Travels::LeftOut { .. } => panic!("no layer is foreign"),
        };
        blobs.insert(blob.digest.clone(), travels);
    }
    let baselines: BTreeMap<_, _> = index
        .baselines
        .iter()
        .map(|blob| (blob.digest.clone(), texts(&blob.repositories)))
        .collect();
    for (digest, repositories) in &baselines {
        assert_eq!(known.blobs.get(digest), Some(repositories), "baseline {digest}");
    }
    for (packed, image) in images.iter().zip(&index.images) {
        assert_eq!(image.name, joined(&packed.name));
        let former: BTreeSet<_> = image.tags[0].former.iter().cloned().collect();
        if let Some(carried) = &packed.carried {
            assert_eq!(image.tags[0].digest.as_ref(), Some(carried.digest()));
            assert_eq!(former, packed.former, "what `{}` may name", image.name);
        }
    }
    Payload { file: file.to_owned(), images, blobs, baselines }
}

pub fn known_of(list: &Receipt) -> Known {
    let mut known = Known::default();
    for repository in &list.repositories {
        let name = repository.name_in_payloads().as_str();
        for blob in &repository.blobs {
            known.add_blob(name, &blob.digest);
        }
        for (tag, digest) in &repository.tags {
            known.add_tag(name, tag.as_str(), digest);
        }
    }
    known
}

pub fn joined((repository, tag): &Name) -> String {
    format!("{repository}:{tag}")
}

pub fn described(image: &Image) -> String {
    let blobs: Vec<String> =
        content::blobs(image).iter().map(|x| x.hex()[..8].to_owned()).collect();
    format!("{} of {}", &image.digest().hex()[..12], blobs.join(" "))
}
