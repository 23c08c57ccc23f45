//! Manifests and indexes at a registry (distribution-spec, "Pulling manifests", "Pushing manifests").

use super::access::Access;
use super::answer::Response;
use super::client::{Ask, Registry};
use super::error::{Error, Kind, Subject};
use super::http::{Body, Method, headers};
use super::mirrored::{Asked, Turn};
use crate::digest::{Digest, Mismatch};
use crate::manifest::{InvalidManifest, MANIFEST_MAX_BYTES, Manifest, MediaType};
use crate::reference::{RepositoryName, TagOrDigest};
use crate::schema1::Schema1;

/// Everything that we may be given; the last part is for registries that know other kinds yet.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.oci.artifact.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws, \
    */*";

/// What a registry sends where a manifest is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// A manifest that can be carried.
    Manifest(Box<Manifest>),
    /// One of Docker's schema 1, which has to be converted.
    Schema1(Box<Schema1>),
}

impl Pulled {
    /// The digest that it is known by.
    pub fn digest(&self) -> &Digest {
        match self {
            Self::Manifest(manifest) => manifest.digest(),
            Self::Schema1(document) => document.digest(),
        }
    }
}

/// What a registry says about a manifest without sending it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// Its digest, where the registry gives one.
    pub digest: Option<Digest>,
    /// Its media type, where the registry gives one of a manifest.
    pub media_type: Option<MediaType>,
    /// Its size in bytes.
    pub size: Option<u64>,
}

/// What a registry did with a manifest's `subject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectSupport {
    /// It lists the manifest as a referrer by itself (`OCI-Subject`).
    Acknowledged,
    /// It said nothing: whoever pushes keeps the list in the fallback tag.
    NotAcknowledged,
}

fn digest_of(response: &Response) -> Option<Digest> {
    response.value(headers::DOCKER_CONTENT_DIGEST)?.parse().ok()
}

fn media_type_of(response: &Response) -> Option<MediaType> {
    response.value(headers::CONTENT_TYPE).map(MediaType::new).filter(MediaType::is_manifest)
}

impl Registry {
    fn subject_of(&self, name: &RepositoryName, which: &TagOrDigest) -> Subject {
        let separator = match which {
            TagOrDigest::Tag(_) => ':',
            TagOrDigest::Digest(_) => '@',
        };
        self.subject(format!("manifest `{name}{separator}{which}`"))
    }

    async fn ask_manifest(
        &self,
        method: Method,
        access: fn(&RepositoryName) -> Access,
        repository: &RepositoryName,
        which: &TagOrDigest,
    ) -> Result<Ask, Error> {
        let name = self.api_name(repository);
        let subject = self.subject_of(&name, which);
        let path = format!("{name}/manifests/{which}");
        self.ask(method, access(&name), &path, subject).await
    }

    /// Fetches a manifest as [`Self::pull`] does; one of Docker's schema 1 is refused.
    ///
    /// # Errors
    /// As [`Self::pull`]; [`Error::is_unreadable_manifest`] for schema 1.
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        which: &TagOrDigest,
    ) -> Result<Manifest, Error> {
        match self.pull(repository, which).await? {
            Pulled::Manifest(manifest) => Ok(*manifest),
            Pulled::Schema1(_) => Err(self.refuse_schema1(repository, which)),
        }
    }

    /// What there is to say where schema 1 is of no use.
    pub(crate) fn refuse_schema1(&self, repository: &RepositoryName, which: &TagOrDigest) -> Error {
        let subject = self.subject_of(&self.api_name(repository), which);
        subject.error(Kind::Manifest(InvalidManifest::Schema1))
    }

    /// Fetches what there is. By digest, its bytes have that digest, those that are signed where it is of schema 1; by
    /// tag, they have the one that the registry gave for them, if it gave one.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; [`Error::is_damaged_content`] if its bytes are others;
    /// whatever else keeps the registry from sending one.
    pub async fn pull(
        &self,
        repository: &RepositoryName,
        which: &TagOrDigest,
    ) -> Result<Pulled, Error> {
        let name = self.api_name(repository);
        let mut turn = Turn::new(self, Some(&name));
        loop {
            let place = turn.place();
            let answer = place.registry.pull_here(&place.name(&name), which).await;
            if let Some(answer) = turn.settled(answer, Asked::Often) {
                return answer;
            }
        }
    }

    async fn pull_here(
        &self,
        repository: &RepositoryName,
        which: &TagOrDigest,
    ) -> Result<Pulled, Error> {
        let mut ask = self.ask_manifest(Method::GET, Access::pull, repository, which).await?;
        ask.request = ask.request.with(headers::ACCEPT, ACCEPT);
        let (response, raw) = self.read(&ask, MANIFEST_MAX_BYTES).await?;
        let promised = match which {
            TagOrDigest::Digest(digest) => Some(digest.clone()),
            TagOrDigest::Tag(_) => digest_of(&response),
        };
        let media_type = media_type_of(&response);
        if is_schema1(media_type.as_ref(), &raw) {
            let document =
                Schema1::parse(&raw).map_err(|error| ask.subject.error(Kind::Schema1(error)))?;
            if let Some(expected) = promised.filter(|promised| !document.is(promised)) {
                let found = document.digest().clone();
                return Err(ask.subject.error(Kind::Damaged(Mismatch::Digest { expected, found })));
            }
            return Ok(Pulled::Schema1(Box::new(document)));
        }
        if let Some(expected) = &promised {
            let found = expected.same_algorithm_of(&raw);
            same_digest(expected, found, &ask.subject)?;
        }
        let manifest = Manifest::parse(raw, media_type.as_ref())
            .map_err(|error| ask.subject.error(Kind::Manifest(error)))?;
        let manifest = match which {
            TagOrDigest::Tag(_) => Ok(manifest),
            TagOrDigest::Digest(digest) => manifest.verified_as(digest),
        };
        let manifest = manifest.map_err(|mismatch| ask.subject.error(Kind::Damaged(mismatch)))?;
        Ok(Pulled::Manifest(Box::new(manifest)))
    }

    /// Fetches a manifest as [`Self::manifest`] does, none if the registry says that there is none.
    ///
    /// # Errors
    /// As [`Self::manifest`], but for "not found". A registry that denies what it does not know gives
    /// an error.
    pub async fn find_manifest(
        &self,
        repository: &RepositoryName,
        which: &TagOrDigest,
    ) -> Result<Option<Manifest>, Error> {
        unless_not_found(self.manifest(repository, which).await)
    }

    /// Asks for a manifest without fetching it (HEAD), none if there is none.
    ///
    /// # Errors
    /// Whatever keeps the registry from answering.
    pub async fn head_manifest(
        &self,
        repository: &RepositoryName,
        which: &TagOrDigest,
    ) -> Result<Option<ManifestHead>, Error> {
        let name = self.api_name(repository);
        let mut turn = Turn::new(self, Some(&name));
        loop {
            let place = turn.place();
            let answer = place.registry.head_here(&place.name(&name), which).await;
            if let Some(answer) = turn.settled(answer, Asked::Often) {
                return unless_not_found(answer);
            }
        }
    }

    async fn head_here(
        &self,
        repository: &RepositoryName,
        which: &TagOrDigest,
    ) -> Result<ManifestHead, Error> {
        let mut ask = self.ask_manifest(Method::HEAD, Access::pull, repository, which).await?;
        ask.request = ask.request.with(headers::ACCEPT, ACCEPT);
        let response = self.answer(&ask).await?;
        Ok(ManifestHead {
            digest: digest_of(&response),
            media_type: media_type_of(&response),
            size: response.number(headers::CONTENT_LENGTH),
        })
    }

    /// The digest that a tag or digest names, none if it names nothing. A registry that does not tell
    /// it in an answer to HEAD is asked for the manifest.
    ///
    /// # Errors
    /// Whatever keeps the registry from answering.
    pub async fn manifest_digest(
        &self,
        repository: &RepositoryName,
        which: &TagOrDigest,
    ) -> Result<Option<Digest>, Error> {
        match self.head_manifest(repository, which).await {
            Ok(Some(ManifestHead { digest: Some(digest), .. })) => return Ok(Some(digest)),
            Ok(None) => return Ok(None),
            Err(error) if !error.is_refusal() || error.is_unauthorized() => return Err(error),
            Ok(Some(_)) | Err(_) => {}
        }
        let pulled = unless_not_found(self.pull(repository, which).await)?;
        Ok(pulled.map(|pulled| pulled.digest().clone()))
    }

    /// Pushes a manifest, with the bytes that it has, under a tag or its digest.
    ///
    /// # Errors
    /// [`Error::is_damaged_content`] if the registry says that it keeps other bytes; whatever else
    /// keeps it from taking the manifest.
    pub async fn put_manifest(
        &self,
        repository: &RepositoryName,
        which: &TagOrDigest,
        manifest: &Manifest,
    ) -> Result<SubjectSupport, Error> {
        let mut ask = self.ask_manifest(Method::PUT, Access::push, repository, which).await?;
        ask.request = ask
            .request
            .with(headers::CONTENT_TYPE, manifest.descriptor.media_type.as_str())
            .with_body(Body::Bytes(manifest.raw.clone()));
        let response = self.answer_within(self.http().attempts().of_content(), &ask).await?;
        if let Some(kept) = digest_of(&response) {
            same_digest(&kept.same_algorithm_of(&manifest.raw), kept, &ask.subject)?;
        }
        let support = match response.value(headers::OCI_SUBJECT) {
            Some(_) => SubjectSupport::Acknowledged,
            None => SubjectSupport::NotAcknowledged,
        };
        response.finish().await;
        Ok(support)
    }
}

impl Registry {
    /// Deletes the manifest that a tag or digest names (distribution-spec, "Deleting manifests"). Says whether it
    /// is gone; `false` where the registry deletes nothing.
    ///
    /// # Errors
    /// Whatever else keeps the registry from it.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        which: &TagOrDigest,
    ) -> Result<bool, Error> {
        let Some(digest) = self.manifest_digest(repository, which).await? else { return Ok(true) };
        let which = TagOrDigest::Digest(digest);
        let ask = self.ask_manifest(Method::DELETE, Access::cancel, repository, &which).await?;
        match self.answer(&ask).await {
            Ok(response) => {
                response.finish().await;
                Ok(true)
            }
            Err(error) if error.is_not_found() => Ok(true),
            Err(error) if error.is_refusal() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether something is of schema 1, or called so. Registries call it by other names too, `application/json` among them.
fn is_schema1(media_type: Option<&MediaType>, raw: &[u8]) -> bool {
    let is_called_so = media_type.is_some_and(MediaType::is_schema1);
    is_called_so || (media_type.is_none() && Schema1::is_one(raw))
}

fn same_digest(expected: &Digest, found: Digest, subject: &Subject) -> Result<(), Error> {
    if *expected == found {
        return Ok(());
    }
    let mismatch = Mismatch::Digest { expected: expected.clone(), found };
    Err(subject.error(Kind::Damaged(mismatch)))
}

/// Takes "not found" for an answer.
pub(super) fn unless_not_found<T>(found: Result<T, Error>) -> Result<Option<T>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
