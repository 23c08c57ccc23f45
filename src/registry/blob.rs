//! A blob at a registry, read by ranges (distribution-spec, "Pulling blobs"; RFC 9110, section 14).
//!
//! Where a registry redirects to a storage service, that address serves all further ranges until it
//! is refused. Streams that tear go on where they tore. Nothing is hashed here.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::Mutex;

use super::access::Access;
use super::answer::Response;
use super::client::{Ask, Registry};
use super::error::{Error, Failure, Kind, Subject, Trouble};
use super::http::{Http, Method, Request, Url, authority, headers, same_origin};
use super::manifests::unless_not_found;
use super::retry::Attempts;
use super::section::BlobSource;
use crate::digest::{Digest, Mismatch};
use crate::manifest::Descriptor;
use crate::reference::{RegistryHost, RepositoryName};

/// How often a remembered address may change under one request before the registry itself is asked.
const ADDRESS_CHANGES_MAX: usize = 3;

/// A blob that can be read in parts. Clones share what was learned about where it lies.
#[derive(Clone, Debug)]
pub struct RemoteBlob(Arc<Inner>);

struct Inner {
    http: Arc<Http>,
    origin: Origin,
    descriptor: Descriptor,
    subject: Subject,
    address: Mutex<Option<Address>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.descriptor.digest)
    }
}

/// Who is asked first.
enum Origin {
    Registry(Registry, RepositoryName),
    Foreign(Vec<Url>),
}

/// Where the blob was found to lie.
#[derive(Clone, PartialEq, Eq)]
enum Address {
    /// At the registry itself.
    Origin,
    /// Where the registry sent us.
    At(Url),
}

/// An answer that has the wanted bytes in it.
struct Found {
    response: Response,
    /// How many bytes stand in front of the wanted ones.
    skip_bytes: u64,
    /// Whether the whole blob comes, though a part of it was asked for.
    is_whole: bool,
}

impl RemoteBlob {
    pub(super) fn foreign(http: Arc<Http>, descriptor: &Descriptor) -> Result<Self, Error> {
        let urls = descriptor.urls.iter().filter_map(|url| url.parse::<Url>().ok());
        let urls: Vec<Url> =
            urls.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()).collect();
        let host = urls.first().and_then(|url| authority(url).parse().ok());
        let host: RegistryHost = host.unwrap_or_else(RegistryHost::docker_hub);
        let subject = Subject::new(&host, format!("foreign layer `{}`", descriptor.digest));
        if urls.is_empty() {
            let what = "expected an http or https address in `urls`, found none".to_owned();
            return Err(subject.error(Kind::Protocol(what)));
        }
        Ok(Self::new(http, Origin::Foreign(urls), descriptor, subject))
    }

    fn new(http: Arc<Http>, origin: Origin, descriptor: &Descriptor, subject: Subject) -> Self {
        let (descriptor, address) = (descriptor.clone(), Mutex::default());
        Self(Arc::new(Inner { http, origin, descriptor, subject, address }))
    }

    /// What the blob is said to be.
    pub fn descriptor(&self) -> &Descriptor {
        &self.0.descriptor
    }

    fn size_bytes(&self) -> u64 {
        self.0.descriptor.size
    }

    /// Begins to read `range`, in bytes from the blob's beginning; what lies behind its end is cut off.
    ///
    /// # Errors
    /// Whatever keeps the registry from sending it.
    pub async fn open(&self, range: Range<u64>) -> Result<BlobStream, Error> {
        let end = range.end.min(self.size_bytes());
        let range = range.start.min(end)..end;
        let mut stream = BlobStream {
            blob: self.clone(),
            position: range.start,
            extent: range,
            body: None,
            skip_bytes: 0,
            attempts: self.0.http.attempts(),
        };
        if !stream.extent.is_empty() || self.size_bytes() == 0 {
            let found = stream.connect().await?;
            if found.is_whole && stream.position == 0 {
                stream.extent.end = self.size_bytes();
            }
            stream.read_from(found);
        }
        Ok(stream)
    }

    async fn find(&self, range: &Range<u64>) -> Result<Found, Error> {
        let response = self.request(range).await?;
        check_range(response, range, self.size_bytes())
            .map_err(|failure| self.0.subject.error(failure))
    }

    /// Asks where the blob is known to lie, or its origin. Only one asks the origin for the first time;
    /// the others wait for what it learns.
    async fn request(&self, range: &Range<u64>) -> Result<Response, Error> {
        for _ in 0..ADDRESS_CHANGES_MAX {
            let mut address = self.0.address.lock().await;
            match address.clone() {
                None => return self.ask_origin(range, &mut address).await,
                Some(Address::Origin) => break,
                Some(Address::At(url)) => {
                    drop(address);
                    match self.ask_at(url.clone(), range).await {
                        Err(error) if is_refused(&error) => self.forget(&Address::At(url)).await,
                        answer => return answer,
                    }
                }
            }
        }
        let mut address = None;
        let answer = self.ask_origin(range, &mut address).await;
        if address.is_some() {
            *self.0.address.lock().await = address;
        }
        answer
    }

    async fn forget(&self, refused: &Address) {
        let mut address = self.0.address.lock().await;
        if address.as_ref() == Some(refused) {
            *address = None;
        }
    }

    fn request_for(&self, url: Url, range: &Range<u64>) -> Request {
        let request = Request::get(url).with(headers::ACCEPT_ENCODING, "identity");
        if *range == (0..self.size_bytes()) {
            return request;
        }
        request.with(headers::RANGE, &format!("bytes={}-{}", range.start, range.end - 1))
    }

    async fn ask_at(&self, url: Url, range: &Range<u64>) -> Result<Response, Error> {
        let sent = self.0.http.send(&self.request_for(url, range), None).await;
        let response = sent.map_err(|failure| self.0.subject.error(failure))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.0.subject.error(response.refusal().await))
    }

    async fn ask_origin(
        &self,
        range: &Range<u64>,
        address: &mut Option<Address>,
    ) -> Result<Response, Error> {
        let (registry, repository) = match &self.0.origin {
            Origin::Registry(registry, repository) => (registry, repository),
            Origin::Foreign(urls) => return self.ask_in_turn(urls, range, address).await,
        };
        let mut ask = registry.ask_blob(Method::GET, repository, &self.0.descriptor.digest).await?;
        let url = ask.request.url.clone();
        ask.request = self.request_for(url.clone(), range);
        let response = registry.answer_once(&ask).await?;
        *address = Some(if same_origin(response.url(), &url) {
            Address::Origin
        } else {
            Address::At(response.url().clone())
        });
        Ok(response)
    }

    async fn ask_in_turn(
        &self,
        urls: &[Url],
        range: &Range<u64>,
        address: &mut Option<Address>,
    ) -> Result<Response, Error> {
        let mut last = None;
        for url in urls {
            match self.ask_at(url.clone(), range).await {
                Ok(response) => {
                    *address = Some(Address::At(response.url().clone()));
                    return Ok(response);
                }
                Err(error) => last = Some(error),
            }
        }
        let none = || Kind::Protocol("no address left".to_owned());
        Err(last.unwrap_or_else(|| self.0.subject.error(none())))
    }
}

/// Whether an address does not serve any longer, rather than having trouble that passes by.
fn is_refused(error: &Error) -> bool {
    error.is_refusal() || error.is_unreachable()
}

/// Judges what a server made of `Range`.
fn check_range(response: Response, range: &Range<u64>, size_bytes: u64) -> Result<Found, Failure> {
    let whole = 0..size_bytes;
    if response.status() != 206 {
        // The server ignored the range, or there was none.
        if let Some(found) = response.number(headers::CONTENT_LENGTH).filter(|n| *n != size_bytes) {
            let what = format!("expected a blob of {size_bytes} bytes, found {found}");
            return Err(response.failure(Kind::Protocol(what)));
        }
        let (skip_bytes, is_whole) = (range.start, *range != whole);
        return Ok(Found { response, skip_bytes, is_whole });
    }
    let given = response.value(headers::CONTENT_RANGE).unwrap_or_default();
    let is_right = content_range(given).is_some_and(|(first, last, total)| {
        first == range.start && last < range.end && total.is_none_or(|total| total == size_bytes)
    });
    if is_right {
        return Ok(Found { response, skip_bytes: 0, is_whole: false });
    }
    let (first, last) = (range.start, range.end.saturating_sub(1));
    let shown: String = given.chars().filter(|c| !c.is_control()).take(100).collect();
    let what = format!("expected `bytes {first}-{last}/{size_bytes}`, found `{shown}`");
    Err(response.failure(Kind::Protocol(what)))
}

/// Reads `bytes FIRST-LAST/TOTAL`, where the total may be `*`.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (unit, rest) = text.trim().split_once(char::is_whitespace)?;
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        number => Some(number.parse().ok()?),
    };
    (unit.eq_ignore_ascii_case("bytes") && first <= last).then_some((first, last, total))
}

/// The bytes of a part of a blob, in order.
pub struct BlobStream {
    blob: RemoteBlob,
    extent: Range<u64>,
    position: u64,
    body: Option<Response>,
    skip_bytes: u64,
    attempts: Attempts,
}

impl std::fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {:?} at {}", self.extent, self.blob, self.position)
    }
}

impl BlobStream {
    /// Which bytes of the blob come. More than was asked for only where a server gives the whole blob
    /// to one who wanted its beginning.
    pub fn extent(&self) -> Range<u64> {
        self.extent.clone()
    }

    /// The next bytes, none behind the last one. A stream that tears or stands still is taken up
    /// again where it tore. Can be dropped while it waits; no byte is lost then.
    ///
    /// # Errors
    /// If the stream tore more often than is tolerated without a byte in between;
    /// [`Error::is_damaged_content`] if the registry has fewer bytes than it should.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.position < self.extent.end {
            if self.body.is_none() {
                let found = self.connect().await?;
                self.read_from(found);
            }
            let Some(body) = self.body.as_mut() else { continue };
            let error = match body.piece().await {
                Ok(Some(piece)) => match self.wanted(piece) {
                    Some(piece) => return Ok(Some(piece)),
                    None => continue,
                },
                Ok(None) => self.ended_early(),
                Err(failure) => self.blob.0.subject.error(failure),
            };
            self.body = None;
            self.attempts.pause_after(error).await.map_err(|error| self.judged(error))?;
        }
        self.body = None;
        Ok(None)
    }

    async fn connect(&mut self) -> Result<Found, Error> {
        loop {
            match self.blob.find(&(self.position..self.extent.end)).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    let paused = self.attempts.pause_after(error).await;
                    paused.map_err(|error| self.judged(error))?;
                }
            }
        }
    }

    fn read_from(&mut self, found: Found) {
        self.skip_bytes = found.skip_bytes;
        self.body = Some(found.response);
    }

    /// The part of `piece` that was asked for.
    fn wanted(&mut self, mut piece: Bytes) -> Option<Bytes> {
        let skipped = self.skip_bytes.min(piece.len() as u64);
        self.skip_bytes -= skipped;
        let left = self.extent.end - self.position;
        // Both are at most the piece's length, which is a `usize`.
        let _ = piece.split_to(usize::try_from(skipped).unwrap_or(usize::MAX));
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        if piece.is_empty() {
            return None;
        }
        self.position += piece.len() as u64;
        self.attempts.reset();
        Some(piece)
    }

    /// A clean end in front of the last byte: perhaps a proxy gave up, so it is worth another try.
    fn ended_early(&self) -> Error {
        let kind = Kind::Transport { trouble: Trouble::EndedEarly, source: None };
        self.blob.0.subject.error(kind)
    }

    /// Ends and refusals that say that there are no more bytes are damage.
    fn judged(&self, error: Error) -> Error {
        let no_more = error.trouble() == Some(Trouble::EndedEarly) || error.status() == Some(416);
        if !no_more {
            return error;
        }
        let Descriptor { digest, size, .. } = self.blob.descriptor();
        let (digest, expected, found) = (digest.clone(), *size, self.position);
        self.blob.0.subject.error(Kind::Damaged(Mismatch::TooShort { digest, expected, found }))
    }
}

impl BlobSource for RemoteBlob {
    fn open(&self, from_byte: u64) -> BoxStream<'static, io::Result<Bytes>> {
        let blob = self.clone();
        let opened = async move { Self::open(&blob, from_byte..u64::MAX).await };
        stream::once(opened)
            .flat_map(|opened| match opened {
                Ok(stream) => pieces(stream).left_stream(),
                Err(error) => stream::iter([Err(io::Error::other(error))]).right_stream(),
            })
            .boxed()
    }
}

fn pieces(stream: BlobStream) -> impl stream::Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some(stream), |stream| async {
        let mut stream = stream?;
        match stream.next().await {
            Ok(piece) => piece.map(|piece| (Ok(piece), Some(stream))),
            Err(error) => Some((Err(io::Error::other(error)), None)),
        }
    })
}

impl Registry {
    async fn ask_blob(
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
        let name = self.api_name(repository);
        let subject = self.subject(format!("blob `{name}@{}`", descriptor.digest));
        let origin = Origin::Registry(self.clone(), name.into_owned());
        RemoteBlob::new(Arc::clone(self.http()), origin, descriptor, subject)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        for (text, expected) in [
            ("bytes 0-0/10", Some((0, 0, Some(10)))),
            ("Bytes  5-9/*", Some((5, 9, None))),
            ("bytes 5-4/10", None),
            ("bytes */10", None),
            ("5-9/10", None),
            ("items 5-9/10", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }
}
