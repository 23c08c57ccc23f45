//! Sessions that take a blob (distribution-spec, "Pushing blobs"): opened, given up, mounted instead.

use std::fmt;
use std::sync::Arc;

use super::access::Access;
use super::answer::Response;
use super::client::{Ask, Registry};
use super::error::{Error, Subject};
use super::http::{Method, Request, StatusCode, Url, headers, resolve};
use super::journal::{Record, UploadJournal};
use super::section::{BlobSource, Content};
use super::sending::Sending;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::reference::{RegistryHost, RepositoryName};
use crate::stop::Stop;

/// What most registries take in one request without complaint.
const WHOLE_UP_TO_BYTES: u64 = 64 * 1024 * 1024;

/// An upload that a registry has opened.
pub struct UploadSession {
    /// Where the next request goes. It may hold a signature, and is not shown.
    pub(super) location: Url,
    repository: RepositoryName,
    /// The rights that it was opened with: their token is there, and no body is sent without it.
    access: Access,
    /// The least that the registry takes in one chunk but the last (`OCI-Chunk-Min-Length`).
    pub(super) chunk_min_bytes: u64,
    /// When it was opened, in seconds since 1970.
    begun_seconds: u64,
}

/// What became of an attempt to mount a blob.
#[derive(Debug)]
pub enum Mount {
    /// The blob is there now.
    Mounted,
    /// It has to be uploaded; perhaps the registry has opened the session for that already.
    Refused(Option<UploadSession>),
}

/// How blobs are sent.
#[derive(Clone, Debug)]
pub struct UploadOptions {
    /// How much of a large blob goes into one request, in bytes. At least 1 MiB is sent.
    pub chunk_size_bytes: u64,
    /// The largest blob that goes into one request as a whole, in bytes.
    pub whole_up_to_bytes: u64,
    /// Where sessions of blobs that go in chunks are written down.
    pub journal: Option<UploadJournal>,
    /// What ends uploads in good order: no chunk is torn, and no other request waited for.
    pub stop: Stop,
}

impl Default for UploadOptions {
    fn default() -> Self {
        Self {
            chunk_size_bytes: WHOLE_UP_TO_BYTES,
            whole_up_to_bytes: WHOLE_UP_TO_BYTES,
            journal: None,
            stop: Stop::default(),
        }
    }
}

impl fmt::Debug for UploadSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UploadSession").field(&self.repository.as_str()).finish()
    }
}

impl UploadSession {
    fn read(response: &Response, repository: RepositoryName, ask: &Ask) -> Result<Self, Error> {
        let location = response.location().map_err(|failure| ask.subject.error(failure))?;
        let chunk_min_bytes = response.number(headers::OCI_CHUNK_MIN_LENGTH).unwrap_or(0);
        let (access, begun_seconds) = (ask.access.clone(), Record::now_seconds());
        Ok(Self { location, repository, access, chunk_min_bytes, begun_seconds })
    }

    /// The session as the journal has it.
    pub(super) fn record(&self, registry: &RegistryHost, content: &Content) -> Record {
        Record {
            registry: registry.clone(),
            repository: self.repository.clone(),
            digest: content.digest.clone(),
            size_bytes: content.size_bytes,
            location: self.location.to_string(),
            chunk_min_bytes: self.chunk_min_bytes,
            begun_seconds: self.begun_seconds,
        }
    }

    /// A request to the session, named in errors as `subject`.
    pub(super) fn ask(&self, method: Method, subject: &Subject) -> Ask {
        Ask {
            access: self.access.clone(),
            request: Request::new(method, self.location.clone()),
            subject: subject.clone(),
        }
    }
}

impl Registry {
    /// Asks the registry to take a blob over from another of its repositories. Every refusal means that
    /// the blob has to be uploaded.
    ///
    /// # Errors
    /// Whatever keeps the registry from answering.
    pub async fn mount_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: &RepositoryName,
    ) -> Result<Mount, Error> {
        let (name, from) = (self.api_name(repository), self.api_name(from));
        let subject = self.subject(format!("the mount of `{name}@{digest}` from `{from}`"));
        let path = format!("{name}/blobs/uploads/?mount={digest}&from={from}");
        let ask = self.ask(Method::POST, Access::mount(&name, &from), &path, subject).await?;
        let response = match self.answer(&ask).await {
            Ok(response) => response,
            Err(error) if error.is_refusal() => return Ok(Mount::Refused(None)),
            Err(error) => return Err(error),
        };
        let mount = match response.status() {
            StatusCode::CREATED => Mount::Mounted,
            _ => Mount::Refused(UploadSession::read(&response, name.into_owned(), &ask).ok()),
        };
        response.finish().await;
        Ok(mount)
    }

    /// Opens an upload. A registry that does not let us write says so here.
    ///
    /// # Errors
    /// Whatever keeps the registry from opening one.
    pub async fn start_upload(&self, repository: &RepositoryName) -> Result<UploadSession, Error> {
        let name = self.api_name(repository);
        let subject = self.subject(format!("an upload to `{name}`"));
        let path = format!("{name}/blobs/uploads/");
        let ask = self.ask(Method::POST, Access::push(&name), &path, subject).await?;
        let response = self.answer(&ask).await?;
        let session = UploadSession::read(&response, name.into_owned(), &ask)?;
        response.finish().await;
        Ok(session)
    }

    /// The session of a former run; none where its address cannot be one.
    pub(super) async fn former_session(
        &self,
        record: Record,
    ) -> Result<Option<UploadSession>, Error> {
        let Ok(location) = resolve(self.base().await?, &record.location) else { return Ok(None) };
        Ok(Some(UploadSession {
            location,
            access: Access::push(&record.repository),
            repository: record.repository,
            chunk_min_bytes: record.chunk_min_bytes,
            begun_seconds: record.begun_seconds,
        }))
    }

    /// Removes what the journal knows of an upload, such as one that somebody else has completed.
    pub fn forget_upload(
        &self,
        journal: &UploadJournal,
        repository: &RepositoryName,
        digest: &Digest,
    ) {
        journal.forget(self.host(), &self.api_name(repository), digest);
    }

    /// Gives an upload up. A registry that cannot do that, or does not let us, forgets it in time.
    ///
    /// # Errors
    /// Whatever keeps the registry from answering.
    pub async fn cancel_upload(&self, session: UploadSession) -> Result<(), Error> {
        match self.answer(&self.ask_cancel(&session)).await {
            Ok(response) => response.finish().await,
            // Some fail where they should refuse.
            Err(error) if error.status().is_some() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn ask_cancel(&self, session: &UploadSession) -> Ask {
        let subject = self.subject(format!("the end of an upload to `{}`", session.repository));
        let mut ask = session.ask(Method::DELETE, &subject);
        ask.access = Access::cancel(&session.repository);
        ask
    }

    /// Sends a blob, and returns when the registry has it. A session that the journal knows is gone on
    /// with; else `session` is used first if there is one. Once `options.stop` was asked to end, this
    /// returns no more: it is to be dropped when that has settled.
    ///
    /// `progress` is told how many more bytes are sent, or how many fewer when some go again; at the end
    /// it was told the blob's size in sum.
    ///
    /// # Errors
    /// [`Error::is_damaged_source`] if the source has not the promised digest and size: the upload is
    /// then given up in front of its last bytes. Otherwise whatever keeps the registry from taking it.
    pub async fn upload_blob(
        &self,
        repository: &RepositoryName,
        descriptor: &Descriptor,
        session: Option<UploadSession>,
        source: Arc<dyn BlobSource>,
        options: &UploadOptions,
        progress: &(dyn Fn(i64) + Send + Sync),
    ) -> Result<(), Error> {
        let name = self.api_name(repository).into_owned();
        let content =
            Content { source, digest: descriptor.digest.clone(), size_bytes: descriptor.size };
        Sending::new(self, name, content, options, progress)
            .run(session, options.journal.as_ref())
            .await
    }
}
