//! `inventory`: walks a registry and lists what it really holds, as docs/receipts.md lays it down.
//!
//! First tags, then manifests, then blobs: each part is known in full before it begins. What is listed
//! was seen; whatever cannot be seen is left out, which costs bytes in a payload and nothing else.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use anyhow::anyhow;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::Semaphore;

use crate::convert::layer;
use crate::digest::Digest;
use crate::failure::{Hinted, Unusable};
use crate::make::DEFAULT_JOBS;
use crate::manifest::{Descriptor, INDEX_DEPTH_MAX, Manifest};
use crate::names::TargetNames;
use crate::progress::{Arrival, Event, Reporter};
use crate::receipt::{Kind, Receipt, Repository};
use crate::reference::{RegistryHost, RepositoryName, Tag, TagOrDigest};
use crate::registry::{self, Connections, CredentialStore, Pulled, Registries, Registry};
use crate::schema1::Schema1;
use crate::units::{count, format_bytes};

mod found;

use found::{Found, plain};

/// More tags, manifests and blobs than a receipt of the largest size can list.
const LISTED_MAX: usize = 1_000_000;

/// What to list.
#[derive(Debug)]
pub struct InventoryRequest {
    /// The registry.
    pub registry: RegistryHost,
    /// The repositories, as payloads call them; empty for all that the registry lists.
    pub repositories: Vec<RepositoryName>,
    /// What payloads are pushed with: only what is below it is listed.
    pub prefix: Option<RepositoryName>,
    /// How many requests are under way at once.
    pub jobs: NonZeroUsize,
    /// How the registry is reached.
    pub connections: Connections,
    /// Who we are to it.
    pub credentials: CredentialStore,
}

impl InventoryRequest {
    /// A request to list all of `registry` with everything else as it usually is.
    pub fn new(registry: RegistryHost) -> Self {
        Self {
            registry,
            repositories: Vec::new(),
            prefix: None,
            jobs: DEFAULT_JOBS,
            connections: Connections::default(),
            credentials: CredentialStore::anonymous(),
        }
    }
}

/// Lists what a registry holds.
///
/// # Errors
/// When the registry cannot be reached, does not list its repositories though none was named, or does
/// not show one that was; when it holds more than an inventory can list.
pub async fn inventory(
    request: InventoryRequest,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<Receipt> {
    let InventoryRequest { registry, repositories, prefix, jobs, connections, credentials } =
        request;
    let registries = Registries::new(connections, credentials, Arc::clone(&reporter));
    let walk = Walk {
        registry: registries.registry(&registry)?,
        jobs: jobs.get(),
        requests: Semaphore::new(jobs.get()),
        listed: AtomicUsize::new(0),
        reporter: reporter.as_ref(),
    };
    reporter.phase(format!("looking at `{registry}`"));
    walk.registry.check().await?;
    let repositories = if repositories.is_empty() {
        walk.tags_of_all(walk.catalog(prefix.as_ref()).await?, Denied::Leave).await?
    } else {
        let names = TargetNames { prefix, renames: Vec::new() };
        let all: Result<_, _> = repositories
            .iter()
            .map(|name| Ok::<_, anyhow::Error>(Repository::new(names.of(name)?, name)))
            .collect();
        walk.tags_of_all(all?, Denied::Fail).await?
    };
    let repositories = walk.manifests_of_all(repositories).await?;
    let repositories = walk.blobs_of_all(repositories).await?;
    Ok(Receipt::new(Kind::Inventory, registry, SystemTime::now(), repositories))
}

/// What to do about a repository that may not be read.
#[derive(Clone, Copy)]
enum Denied {
    Leave,
    Fail,
}

/// What a tag leads to.
enum Root {
    Manifest(Box<Manifest>),
    /// An image of Docker's schema 1. Payloads hold its layers, and never its manifest.
    Layers(Vec<Descriptor>),
    /// Something that kharon cannot read.
    Unknown,
}

/// A repository and its tags, before it is known what they name.
type Tagged = (Repository, Vec<Tag>);

struct Walk<'a> {
    registry: Registry,
    jobs: usize,
    requests: Semaphore,
    /// How much was listed so far.
    listed: AtomicUsize,
    reporter: &'a dyn Reporter,
}

impl Walk<'_> {
    /// The repositories that the registry lists, below `prefix` if there is one.
    async fn catalog(&self, prefix: Option<&RepositoryName>) -> anyhow::Result<Vec<Repository>> {
        let names = match self.registry.repositories().await {
            Ok(names) => names,
            Err(error) if error.is_refusal() || error.status() == Some(501) => {
                let host = self.registry.host();
                return Err(anyhow::Error::new(error).context(Hinted::new(
                    format!("`{host}` does not list its repositories"),
                    format!("name them: `kharon inventory -r {host} REPOSITORY…`"),
                )));
            }
            Err(error) => return Err(error.into()),
        };
        let below = |name: RepositoryName| {
            let Some(prefix) = prefix else { return Some(Repository::new(name.clone(), &name)) };
            let rest = name.as_str().strip_prefix(prefix.as_str())?.strip_prefix('/')?;
            let payload_name = rest.parse().ok()?;
            Some(Repository::new(name, &payload_name))
        };
        let repositories: Vec<Repository> = names.into_iter().filter_map(below).collect();
        if repositories.is_empty() {
            let below = prefix.map(|prefix| format!(" below `{prefix}`")).unwrap_or_default();
            self.reporter.warn(format!(
                "`{}` lists no repositories{below}; if there are some, name them",
                self.registry.host()
            ));
        }
        Ok(repositories)
    }

    async fn tags_of_all(
        &self,
        repositories: Vec<Repository>,
        denied: Denied,
    ) -> anyhow::Result<Vec<Tagged>> {
        let number = repositories.len() as u64;
        self.reporter.phase(format!("listing tags of {}", count(number, "repository")));
        let lists = repositories.into_iter().map(|repository| self.tags_of(repository, denied));
        let found: Vec<_> = stream::iter(lists).buffered(self.jobs).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn tags_of(
        &self,
        repository: Repository,
        denied: Denied,
    ) -> anyhow::Result<Option<Tagged>> {
        let name = &repository.name;
        let _turn = self.requests.acquire().await?;
        match (self.registry.tags(name).await, denied) {
            (Ok(Some(tags)), _) => {
                self.count(tags.len())?;
                Ok(Some((repository, tags)))
            }
            (Ok(None), _) => {
                self.reporter
                    .warn(format!("`{name}` is not there, or has no tags: it is not listed"));
                Ok(None)
            }
            (Err(error), Denied::Leave) if error.is_unauthorized() => {
                self.reporter
                    .warn(format!("cannot look into `{name}`, which is not listed: {error}"));
                Ok(None)
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    async fn manifests_of_all(&self, tagged: Vec<Tagged>) -> anyhow::Result<Vec<Repository>> {
        let number: usize = tagged.iter().map(|(_, tags)| tags.len()).sum();
        self.reporter.phase(format!("reading what {} name", count(number as u64, "tag")));
        let reads =
            tagged.into_iter().map(|(repository, tags)| self.manifests_of(repository, tags));
        stream::iter(reads).buffered(self.jobs).try_collect().await
    }

    /// Everything that the tags of one repository lead to. Whether its blobs are there is not known yet.
    async fn manifests_of(
        &self,
        mut repository: Repository,
        tags: Vec<Tag>,
    ) -> anyhow::Result<Repository> {
        let name = repository.name.clone();
        let mut found = Found::default();
        let roots = tags.into_iter().map(|tag| async {
            let root = self.root(&name, &tag).await?;
            anyhow::Ok(root.map(|root| (tag, root)))
        });
        let mut roots = stream::iter(roots).buffered(self.jobs);
        while let Some(root) = roots.try_next().await? {
            let Some((tag, (digest, content))) = root else { continue };
            repository.tags.insert(tag, digest);
            self.count(match content {
                Root::Manifest(manifest) => found.add(&manifest),
                Root::Layers(layers) => found.add_blobs(&layers),
                Root::Unknown => 0,
            })?;
        }
        for _ in 0..=INDEX_DEPTH_MAX {
            let children =
                found.take_children().into_iter().map(|digest| self.child(&name, digest));
            let mut children = stream::iter(children).buffered(self.jobs);
            while let Some(child) = children.try_next().await? {
                self.count(child.map_or(0, |child| found.add(&child)))?;
            }
        }
        if !found.take_children().is_empty() {
            self.reporter.warn(format!(
                "`{name}` has indexes inside indexes, more than {INDEX_DEPTH_MAX} deep: what is below is not listed"
            ));
        }
        (repository.manifests, repository.blobs) = (found.manifests, found.blobs);
        Ok(repository)
    }

    /// What a tag names, and what kharon knows of it. `None` where there is none.
    async fn root(
        &self,
        name: &RepositoryName,
        tag: &Tag,
    ) -> anyhow::Result<Option<(Digest, Root)>> {
        let which = TagOrDigest::Tag(tag.clone());
        let _turn = self.requests.acquire().await?;
        let error = match self.registry.pull(name, &which).await {
            Ok(Pulled::Manifest(manifest)) => {
                return Ok(Some((manifest.digest().clone(), Root::Manifest(manifest))));
            }
            Ok(Pulled::Schema1(document)) => {
                let layers = self.layers(name, tag, &document).await?;
                return Ok(Some((document.digest().clone(), Root::Layers(layers))));
            }
            Err(error) => unless_fatal(error)?,
        };
        if !error.is_unreadable_manifest() {
            self.reporter.warn(format!("`{name}:{tag}` is not listed: {:#}", anyhow!(error)));
            return Ok(None);
        }
        self.reporter.warn(format!("no blobs of `{name}:{tag}` are listed: {:#}", anyhow!(error)));
        let head = self.registry.head_manifest(name, &which).await?;
        Ok(head.and_then(|head| head.digest).map(|digest| (digest, Root::Unknown)))
    }

    /// The layers of an image of Docker's schema 1, which does not say how large they are, as far as they are there.
    async fn layers(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        document: &Schema1,
    ) -> anyhow::Result<Vec<Descriptor>> {
        let mut there = Vec::new();
        let layers: BTreeSet<&Digest> = document.layers().collect();
        for digest in layers {
            match self.registry.blob_size(name, digest).await {
                Ok(Some(size)) => there.push(layer(digest.clone(), size)),
                Ok(None) => self
                    .reporter
                    .warn(format!("layer `{digest}` of `{name}:{tag}` is not there: not listed")),
                Err(error) => {
                    let error = unless_fatal(error)?;
                    self.reporter.warn(format!("a layer of `{name}:{tag}` is not listed: {error}"));
                }
            }
        }
        Ok(there)
    }

    /// A child of an index; none where the index is sparse.
    async fn child(
        &self,
        name: &RepositoryName,
        digest: Digest,
    ) -> anyhow::Result<Option<Manifest>> {
        let _turn = self.requests.acquire().await?;
        match self.registry.manifest(name, &TagOrDigest::Digest(digest.clone())).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if error.is_not_found() => {
                self.reporter.detail(format!(
                    "`{name}` has no manifest `{digest}`, which an index of it names"
                ));
                Ok(None)
            }
            Err(error) => {
                let error = anyhow!(unless_fatal(error)?);
                self.reporter.warn(format!("`{name}@{digest}` is not listed: {error:#}"));
                Ok(None)
            }
        }
    }

    async fn blobs_of_all(&self, repositories: Vec<Repository>) -> anyhow::Result<Vec<Repository>> {
        let all = || repositories.iter().flat_map(|repository| &repository.blobs);
        let (blobs, bytes) =
            (all().count() as u64, all().fold(0_u64, |sum, blob| sum.saturating_add(blob.size)));
        self.reporter.phase(format!(
            "looking for {} ({})",
            count(blobs, "blob"),
            format_bytes(bytes)
        ));
        self.reporter.report(Event::Total { blobs, bytes });
        let looks = repositories.into_iter().map(|repository| self.blobs_of(repository));
        stream::iter(looks).buffered(self.jobs).try_collect().await
    }

    /// The repository with those of its blobs that are there.
    async fn blobs_of(&self, mut repository: Repository) -> anyhow::Result<Repository> {
        let name = repository.name.clone();
        let looks = std::mem::take(&mut repository.blobs).into_iter().map(|blob| async {
            Ok::<_, anyhow::Error>((self.is_there(&name, &blob).await?, blob))
        });
        let mut looks = stream::iter(looks).buffered(self.jobs);
        let mut lost = Vec::new();
        while let Some((is_there, blob)) = looks.try_next().await? {
            if is_there {
                repository.blobs.push(plain(&blob));
            } else if !blob.is_foreign() {
                lost.push(blob.digest);
            }
        }
        if let Some(digest) = lost.first() {
            self.reporter.warn(format!(
                "{} of `{name}` not there, or not as large as manifests say, such as `{digest}`: not listed",
                count(lost.len() as u64, "blob")
            ));
        }
        Ok(repository)
    }

    async fn is_there(&self, name: &RepositoryName, blob: &Descriptor) -> anyhow::Result<bool> {
        let _turn = self.requests.acquire().await?;
        let digest = blob.digest.clone();
        self.reporter.report(Event::BlobStarted { digest: digest.clone(), bytes: blob.size });
        let size = match self.registry.blob_size(name, &digest).await {
            Ok(size) => size,
            Err(error) => {
                let error = unless_fatal(error)?;
                self.reporter.warn(format!("a blob of `{name}` is not listed: {error}"));
                return Ok(false);
            }
        };
        self.reporter.report(Event::BlobFinished { digest, how: Arrival::Present });
        Ok(size == Some(blob.size))
    }

    fn count(&self, more: usize) -> Result<(), Unusable> {
        let listed = self.listed.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if listed <= LISTED_MAX {
            return Ok(());
        }
        let host = self.registry.host();
        Err(Unusable::new(format!("`{host}` has more than {LISTED_MAX} tags, manifests and blobs"))
            .with_hint("take several inventories, each of some repositories"))
    }
}

/// An error that is about one thing and does not end the walk.
fn unless_fatal(error: registry::Error) -> Result<registry::Error, registry::Error> {
    let is_about_one = error.is_refusal() || error.is_unreadable_manifest();
    if is_about_one || error.is_damaged_content() { Ok(error) } else { Err(error) }
}
