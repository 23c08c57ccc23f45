//! A blob at a registry, read by ranges (distribution-spec, "Pulling blobs"; RFC 9110, section 14).
//!
//! Where a registry redirects to a storage service, that address serves all further ranges until it
//! is refused. Nothing is hashed here.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::answer::Response;
use super::client::Registry;
use super::error::{Error, Kind, Subject};
use super::http::{Http, Method, Request, Url, authority, headers, same_origin};
use super::mirrored::{Asked, Turn};
use super::range::{self, Found};
use super::stream::{BlobStream, Rest};
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

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    /// At this registry itself, or at this mirror.
    Origin(RegistryHost),
    /// Where that registry sent us.
    At(Url, Option<RegistryHost>),
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
            return Err(subject.error(Kind::NoAddress));
        }
        Ok(Self::new(http, Origin::Foreign(urls), descriptor, subject))
    }

    /// A blob in a repository, as the registry's addresses name that.
    pub(super) fn at(registry: &Registry, name: RepositoryName, descriptor: &Descriptor) -> Self {
        let subject = registry.subject(format!("blob `{name}@{}`", descriptor.digest));
        let origin = Origin::Registry(registry.clone(), name);
        Self::new(Arc::clone(registry.http()), origin, descriptor, subject)
    }

    fn new(http: Arc<Http>, origin: Origin, descriptor: &Descriptor, subject: Subject) -> Self {
        let (descriptor, address) = (descriptor.clone(), Mutex::default());
        Self(Arc::new(Inner { http, origin, descriptor, subject, address }))
    }

    /// What the blob is said to be.
    pub fn descriptor(&self) -> &Descriptor {
        &self.0.descriptor
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.0.descriptor.size
    }

    /// Begins to read `range`, in bytes from the blob's beginning; what lies behind its end is cut off.
    ///
    /// # Errors
    /// Whatever keeps the registry from sending it.
    pub async fn open(&self, range: Range<u64>) -> Result<BlobStream, Error> {
        BlobStream::open(self.clone(), range, Rest::Cut).await
    }

    /// As [`Self::open`], but a server that gives the whole blob, whatever is asked for, gives everything
    /// from the range's start on.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_rest(&self, range: Range<u64>) -> Result<BlobStream, Error> {
        BlobStream::open(self.clone(), range, Rest::Take).await
    }

    pub(super) fn http(&self) -> &Http {
        &self.0.http
    }

    pub(super) fn subject(&self) -> &Subject {
        &self.0.subject
    }

    /// Asks for `range`, one time.
    pub(super) async fn find(&self, range: &Range<u64>) -> Result<Found, Error> {
        let response = self.request(range).await?;
        let found = range::check(response, range, self.size_bytes());
        found.map_err(|failure| self.0.subject.error(failure))
    }

    /// Asks where the blob is known to lie, or its origin. Only one asks the origin for the first time;
    /// the others wait for what it learns.
    async fn request(&self, range: &Range<u64>) -> Result<Response, Error> {
        let mut known = None;
        for _ in 0..ADDRESS_CHANGES_MAX {
            let mut address = self.0.address.lock().await;
            match address.clone() {
                None => return self.ask_origin(range, None, &mut address).await,
                Some(Address::Origin(host)) => {
                    known = Some(host);
                    break;
                }
                Some(Address::At(url, host)) => {
                    drop(address);
                    match self.ask_at(url.clone(), host.clone(), range).await {
                        Err(error) if is_refused(&error) => {
                            self.forget(&Address::At(url, host)).await;
                        }
                        answer => return answer,
                    }
                }
            }
        }
        let mut address = None;
        let answer = self.ask_origin(range, known.as_ref(), &mut address).await;
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

    async fn ask_at(
        &self,
        url: Url,
        on_behalf_of: Option<RegistryHost>,
        range: &Range<u64>,
    ) -> Result<Response, Error> {
        let request = Request { on_behalf_of, ..self.request_for(url, range) };
        let sent = self.0.http.send(&request, None).await;
        let response = sent.map_err(|failure| self.0.subject.error(failure))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.0.subject.error(response.refusal().await))
    }

    /// Asks the registry or its mirrors, `known` first.
    async fn ask_origin(
        &self,
        range: &Range<u64>,
        known: Option<&RegistryHost>,
        address: &mut Option<Address>,
    ) -> Result<Response, Error> {
        let (registry, repository) = match &self.0.origin {
            Origin::Registry(registry, repository) => (registry, repository),
            Origin::Foreign(urls) => return self.ask_in_turn(urls, range, address).await,
        };
        let mut turn = Turn::new(registry, Some(repository));
        if let Some(known) = known {
            turn.begin_at(known);
        }
        loop {
            let place = turn.place();
            let name = place.name(repository);
            let answer = self.ask_registry(&place.registry, &name, range, address).await;
            if let Some(answer) = turn.settled(answer, Asked::Once) {
                return answer;
            }
        }
    }

    async fn ask_registry(
        &self,
        registry: &Registry,
        repository: &RepositoryName,
        range: &Range<u64>,
        address: &mut Option<Address>,
    ) -> Result<Response, Error> {
        let mut ask = registry.ask_blob(Method::GET, repository, &self.0.descriptor.digest).await?;
        let url = ask.request.url.clone();
        ask.request = self.request_for(url.clone(), range);
        let response = registry.answer_once(&ask).await?;
        let host = registry.host().clone();
        *address = Some(if same_origin(response.url(), &url) {
            Address::Origin(host)
        } else {
            Address::At(response.url().clone(), Some(host))
        });
        Ok(response)
    }

    async fn ask_in_turn(
        &self,
        urls: &[Url],
        range: &Range<u64>,
        address: &mut Option<Address>,
    ) -> Result<Response, Error> {
        let mut kept: Option<Error> = None;
        for url in urls {
            match self.ask_at(url.clone(), None, range).await {
                Ok(response) => {
                    *address = Some(Address::At(response.url().clone(), None));
                    return Ok(response);
                }
                // What may pass by is worth more than what will not.
                Err(_) if kept.as_ref().is_some_and(Error::is_temporary) => {}
                Err(error) => kept = Some(error),
            }
        }
        Err(kept.unwrap_or_else(|| self.0.subject.error(Kind::NoAddress)))
    }
}

/// Whether an address does not serve any longer, rather than having trouble that passes by.
fn is_refused(error: &Error) -> bool {
    error.is_refusal() || error.is_unreachable()
}
