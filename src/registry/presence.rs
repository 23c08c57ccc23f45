//! Whether a registry has a blob, and how large it is (distribution-spec, "Checking if content exists").

use super::access::Access;
use super::blob::RemoteBlob;
use super::client::{Ask, Registry};
use super::error::{Error, Kind, Trouble};
use super::http::{Method, headers};
use super::manifests::unless_not_found;
use super::range::content_range;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::reference::RepositoryName;

impl Registry {
    pub(super) async fn ask_blob(
        &self,
        method: Method,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Ask, Error> {
        let name = self.api_name(repository);
        let subject = self.subject(format!("blob `{name}@{digest}`"));
        let path = format!("{name}/blobs/{digest}");
        self.ask(method, Access::pull(&name), &path, subject).await
    }

    /// A blob to be read. Nothing is sent yet.
    pub fn blob(&self, repository: &RepositoryName, descriptor: &Descriptor) -> RemoteBlob {
        RemoteBlob::at(self, self.api_name(repository).into_owned(), descriptor)
    }

    /// A blob's size in bytes as the registry tells it (HEAD), none if it has no such blob.
    ///
    /// # Errors
    /// Whatever keeps the registry from answering.
    pub async fn blob_size(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, Error> {
        let ask = self.ask_blob(Method::HEAD, repository, digest).await?;
        match unless_not_found(self.answer(&ask).await) {
            Ok(None) => return Ok(None),
            Ok(Some(response)) => {
                if let Some(size_bytes) = response.number(headers::CONTENT_LENGTH) {
                    return Ok(Some(size_bytes));
                }
            }
            // A storage service may have signed its address for GET alone.
            Err(error) if error.is_refusal() && error.is_elsewhere() => {}
            Err(error) => return Err(error),
        }
        match self.probe(repository, digest).await? {
            Some(Probe { size_bytes: Some(size_bytes) }) => Ok(Some(size_bytes)),
            Some(Probe { size_bytes: None }) => {
                let what = "expected the blob's size, found none".to_owned();
                Err(ask.subject.error(Kind::Protocol(what)))
            }
            None => Ok(None),
        }
    }

    /// Whether a blob can really be read: its first byte is fetched, because an answer to HEAD may come
    /// from a cache.
    ///
    /// # Errors
    /// Whatever keeps the registry from answering.
    pub async fn can_read_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, Error> {
        Ok(self.probe(repository, digest).await?.is_some())
    }

    /// Fetches a blob's first byte, none if there is no such blob.
    async fn probe(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Probe>, Error> {
        let mut ask = self.ask_blob(Method::GET, repository, digest).await?;
        ask.request = ask.request.with(headers::RANGE, "bytes=0-0");
        let mut attempts = self.http().attempts();
        loop {
            match self.probe_once(&ask).await {
                Ok(probe) => return Ok(Some(probe)),
                Err(error) if error.is_not_found() => return Ok(None),
                // There is no first byte, so it is an empty blob.
                Err(error) if error.status() == Some(416) => {
                    return Ok(Some(Probe { size_bytes: Some(0) }));
                }
                Err(error) => attempts.pause_after(error).await?,
            }
        }
    }

    async fn probe_once(&self, ask: &Ask) -> Result<Probe, Error> {
        let mut response = self.answer_once(ask).await?;
        let size_bytes = match response.value(headers::CONTENT_RANGE).map(content_range) {
            Some(range) => range.and_then(|(_, _, total)| total),
            None => response.number(headers::CONTENT_LENGTH),
        };
        let piece = response.piece().await.map_err(|failure| ask.subject.error(failure))?;
        if piece.is_none() && size_bytes != Some(0) {
            let kind = Kind::Transport { trouble: Trouble::EndedEarly, source: None };
            return Err(ask.subject.error(kind));
        }
        Ok(Probe { size_bytes })
    }
}

/// What a blob's first byte tells.
struct Probe {
    size_bytes: Option<u64>,
}
