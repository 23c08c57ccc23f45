//! Sessions that take a blob (distribution-spec, "Pushing blobs"): opened, given up, mounted instead.

use std::fmt;
use std::sync::Arc;

use super::access::Access;
use super::answer::Response;
use super::client::{Ask, Registry};
use super::error::{Error, Subject};
use super::http::{Method, Request, StatusCode, Url, headers};
use super::section::{BlobSource, Content};
use super::sending::Sending;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::reference::RepositoryName;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadOptions {
    /// How much of a large blob goes into one request, in bytes. At least 1 MiB is sent.
    pub chunk_size_bytes: u64,
    /// The largest blob that goes into one request as a whole, in bytes.
    pub whole_up_to_bytes: u64,
}

impl Default for UploadOptions {
    fn default() -> Self {
        Self { chunk_size_bytes: WHOLE_UP_TO_BYTES, whole_up_to_bytes: WHOLE_UP_TO_BYTES }
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
        Ok(Self { location, repository, access: ask.access.clone(), chunk_min_bytes })
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

    /// Sends a blob, and returns when the registry has it. `session` is used first if there is one.
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
        Sending::new(self, name, content, options, progress).run(session).await
    }
}
