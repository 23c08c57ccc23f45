//! Blobs on their way in: in one request, in two, or in chunks.
//!
//! What arrived counts, even where the connection broke in the middle of a request: a client asks
//! for the session (`GET`) and goes on from there, also inside of a chunk.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName, LOCATION, RANGE};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use tokio::task::{JoinHandle, spawn_blocking};

use super::answer::{Code, Refusal, bare};
use super::route::Query;
use super::store::Folder;
use super::{RequestBody, Server, blocking, created, unsupported};
use crate::digest::{Algorithm, Digest};
use crate::layout::{self, NoSession, Session, Turn, Unfinished, UploadId, Writer};
use crate::listen::Body;
use crate::reference::RepositoryName;

/// How much is gathered before it is hashed and written, in bytes.
const WRITE_BYTES: usize = 1024 * 1024;
/// How long a client may send nothing in the middle of a request before its connection is given up.
const STALL_MAX: Duration = Duration::from_secs(5 * 60);
const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");
const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Opens a session, or mounts a blob, or takes a whole blob at once.
pub(super) async fn post<B: RequestBody>(
    server: &Server,
    folder: &Folder,
    head: &Parts,
    body: Pin<&mut B>,
    name: RepositoryName,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let digest_of = |text: &str| {
        text.parse::<Digest>().map_err(|error| Refusal::new(Code::DigestInvalid, error))
    };
    if let Some(mount) = query.get("mount").map(digest_of).transpose()?
        && server.store.size_bytes(&mount).await.is_ok()
    {
        return Ok(created(blob_location(&name, &mount), &mount));
    }
    let digest = query.get("digest").map(digest_of).transpose()?;
    let algorithm = match (&digest, query.get("digest-algorithm")) {
        (Some(digest), _) => digest.algorithm(),
        (None, None | Some("sha256")) => Algorithm::Sha256,
        (None, Some("sha512")) => Algorithm::Sha512,
        (None, Some(other)) => {
            let message = format!("expected sha256 or sha512, found `{other}`");
            return Err(Refusal::new(Code::DigestInvalid, message));
        }
    };
    let (repository, uploads) = (name.clone(), Arc::clone(&folder.uploads));
    let start = move || {
        uploads.start(&repository, algorithm).map_err(|error| match error {
            NoSession::TooMany => Refusal::new(Code::TooManyRequests, error),
            NoSession::Layout(error) => error.into(),
        })
    };
    let session = blocking(start).await?;
    let Some(digest) = digest else {
        let minimum = (CHUNK_MIN_LENGTH, "1".to_owned());
        return Ok(progress(StatusCode::ACCEPTED, &name, &session, &[minimum]));
    };
    let ended = receive(&session, head, body).await;
    let finished = match ended {
        Ok(turn) => finish(folder, &session, turn, digest, &name).await,
        Err(refusal) => Err(refusal),
    };
    folder.uploads.remove(session.id());
    finished
}

/// Everything that is done with an open session.
pub(super) async fn on_session<B: RequestBody>(
    folder: &Folder,
    method: &Method,
    head: &Parts,
    body: Pin<&mut B>,
    name: RepositoryName,
    id: UploadId,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let session = folder.uploads.get(&name, id).ok_or_else(unknown)?;
    match *method {
        Method::GET => Ok(progress(StatusCode::NO_CONTENT, &name, &session, &[])),
        Method::PATCH => {
            receive(&session, head, body).await?;
            Ok(progress(StatusCode::ACCEPTED, &name, &session, &[]))
        }
        Method::PUT => {
            let digest = query.get("digest").unwrap_or_default().parse();
            let digest = digest.map_err(|error| Refusal::new(Code::DigestInvalid, error))?;
            let turn = receive(&session, head, body).await?;
            finish(folder, &session, turn, digest, &name).await
        }
        Method::DELETE => {
            folder.uploads.remove(id);
            drop(session.take_over().await);
            Ok(bare(StatusCode::NO_CONTENT, &[]))
        }
        _ => Err(unsupported(method)),
    }
}

fn unknown() -> Refusal {
    Refusal::new(Code::BlobUploadUnknown, "no such upload here; it ended or was idle for an hour")
}

fn blob_location(name: &RepositoryName, digest: &Digest) -> String {
    format!("/v2/{name}/blobs/{digest}")
}

/// How far a session is. `0-0` stands for nothing and for one byte, as everywhere.
fn progress(
    status: StatusCode,
    name: &RepositoryName,
    session: &Session,
    more: &[(HeaderName, String)],
) -> Response<Body> {
    let last = session.received_bytes().saturating_sub(1);
    let mut headers = vec![
        (LOCATION, format!("/v2/{name}/blobs/uploads/{}", session.id())),
        (RANGE, format!("0-{last}")),
        (UPLOAD_ID, session.id().to_string()),
    ];
    headers.extend_from_slice(more);
    bare(status, &headers)
}

/// Takes the body of a request into a session, after what is there already.
async fn receive<B: RequestBody>(
    session: &Arc<Session>,
    head: &Parts,
    mut body: Pin<&mut B>,
) -> Result<Turn, Refusal> {
    let turn = session.take_over().await;
    let position = turn.writer.position().ok_or_else(unknown)?;
    check_range(head, position, session)?;
    let Turn { writer, mut next } = turn;
    let mut pipe = Pipe { state: Writing::Idle(writer), gathered: Vec::new(), gathered_bytes: 0 };
    loop {
        let frame = tokio::select! {
            biased;
            _ = next.changed() => return Err(taken_over()),
            frame = tokio::time::timeout(STALL_MAX, body.frame()) => frame,
        };
        match frame {
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    session.touch();
                    pipe.push(data).await?;
                }
            }
            Ok(Some(Err(_))) | Err(_) => {
                pipe.end().await?;
                return Err(Refusal::new(Code::BlobUploadInvalid, "the upload broke off"));
            }
            Ok(None) => return Ok(Turn { writer: pipe.end().await?, next }),
        }
    }
}

fn taken_over() -> Refusal {
    Refusal::new(Code::BlobUploadInvalid, "another request goes on with this upload")
        .status(StatusCode::CONFLICT)
}

/// A chunk must begin where the session stands, and be as long as it says.
fn check_range(head: &Parts, position: u64, session: &Session) -> Result<(), Refusal> {
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = text(CONTENT_RANGE) else { return Ok(()) };
    let invalid = || Refusal::new(Code::BlobUploadInvalid, format!("no range: `{range}`"));
    // As the distribution-spec writes it, or as RFC 9110 does.
    let plain = range.trim().trim_start_matches("bytes").trim();
    let plain = plain.split('/').next().unwrap_or_default();
    let (first, last) = plain.split_once('-').ok_or_else(invalid)?;
    let first: u64 = first.parse().map_err(|_| invalid())?;
    let last: u64 = last.parse().map_err(|_| invalid())?;
    if first != position {
        let message = format!("expected the byte {position} next, found {first}");
        return Err(Refusal::new(Code::BlobUploadInvalid, message)
            .status(StatusCode::RANGE_NOT_SATISFIABLE)
            .header(RANGE, format!("0-{}", position.saturating_sub(1)))
            .header(LOCATION, head.uri.path().to_owned())
            .header(UPLOAD_ID, session.id().to_string()));
    }
    let length = text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| Some(length) != last.checked_sub(first).map(|end| end + 1)) {
        let message = "the range and the length of the chunk differ";
        return Err(Refusal::new(Code::SizeInvalid, message).status(StatusCode::BAD_REQUEST));
    }
    Ok(())
}

type OwnedWriter = tokio::sync::OwnedMutexGuard<Writer>;
type Written = (OwnedWriter, Result<(), layout::Error>);

/// Gathers what arrives while what came before is hashed and written on another thread. The writer
/// goes along with each write: should the request vanish, the write ends in order.
struct Pipe {
    state: Writing,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
}

enum Writing {
    Idle(OwnedWriter),
    Busy(JoinHandle<Written>),
    Broken,
}

impl Pipe {
    async fn push(&mut self, data: Bytes) -> Result<(), Refusal> {
        self.gathered_bytes += data.len();
        self.gathered.push(data);
        if self.gathered_bytes >= WRITE_BYTES {
            let writer = self.writer().await?;
            self.write(writer);
        }
        Ok(())
    }

    /// Writes what is left and gives the writer back.
    async fn end(mut self) -> Result<OwnedWriter, Refusal> {
        let writer = self.writer().await?;
        if self.gathered.is_empty() {
            return Ok(writer);
        }
        self.write(writer);
        self.writer().await
    }

    fn write(&mut self, mut writer: OwnedWriter) {
        let gathered = std::mem::take(&mut self.gathered);
        self.gathered_bytes = 0;
        self.state = Writing::Busy(spawn_blocking(move || {
            let written = writer.append(&gathered);
            (writer, written)
        }));
    }

    async fn writer(&mut self) -> Result<OwnedWriter, Refusal> {
        let broken = || Refusal::new(Code::Unknown, "the upload cannot go on");
        match std::mem::replace(&mut self.state, Writing::Broken) {
            Writing::Idle(writer) => Ok(writer),
            Writing::Busy(writing) => {
                let (writer, written) = writing.await.map_err(|_| broken())?;
                written?;
                Ok(writer)
            }
            Writing::Broken => Err(broken()),
        }
    }
}

/// Ends a session as a blob. Bytes that are not what was promised are of no use: the session ends too.
async fn finish(
    folder: &Folder,
    session: &Arc<Session>,
    turn: Turn,
    digest: Digest,
    name: &RepositoryName,
) -> Result<Response<Body>, Refusal> {
    let mut writer = turn.writer;
    let (wanted, layout) = (digest.clone(), Arc::clone(&folder.layout));
    let finished = blocking(move || Ok(writer.finish(&wanted, &layout))).await?;
    match finished {
        Ok(()) => {}
        Err(Unfinished::Layout(error)) => return Err(error.into()),
        Err(Unfinished::Mismatch(mismatch)) => {
            folder.uploads.remove(session.id());
            return Err(Refusal::new(Code::DigestInvalid, mismatch));
        }
    }
    folder.uploads.remove(session.id());
    Ok(created(blob_location(name, &digest), &digest))
}
