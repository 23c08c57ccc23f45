//! What goes wrong, when, and how.
//!
//! ```ignore
//! registry.fail(Fault::on("GET", "/blobs/", Effect::CutBodyAfter(1000)));            // the first one
//! registry.fail(Fault::on("PATCH", "", Effect::CutRequestAfter(10)).skip(2).times(3)); // 3rd to 5th
//! registry.fail(Fault::nth_request(7, Effect::CloseBeforeHeaders));                     // sweeps
//! ```

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::http::request::Parts;

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Effect {
    /// This status and these headers, after the request's body was read; the registry itself is not asked.
    Status(u16, Vec<(&'static str, String)>),
    /// This text with 200, and no header that says what it is; the registry itself is not asked.
    Body(String),
    /// This status, these headers and this body, whatever was asked for; the registry itself is not asked.
    Answer(u16, Vec<(&'static str, String)>, Bytes),
    /// A body without end, with 200; the registry itself is not asked.
    Endless,
    /// The connection ends before the request's body is read; the registry itself is not asked.
    CloseBeforeHeaders,
    /// The registry does all that was asked for, then the connection ends without an answer.
    LoseAnswer,
    /// No answer comes, ever.
    Hang,
    /// The answer comes so much later.
    Wait(Duration),
    /// The answer's body ends after so many bytes, with the connection.
    CutBodyAfter(u64),
    /// Nothing more comes after so many bytes of the answer's body.
    StallBodyAfter(u64),
    /// The connection ends after so many bytes of the request's body. Those bytes count.
    CutRequestAfter(u64),
    /// No more than so many bytes of the request's body are read, and no answer comes.
    StallRequestAfter(u64),
    /// The whole content comes with 200, whatever range was asked for.
    IgnoreRange,
    /// The byte at this offset of the answer's body is another.
    Corrupt(u64),
    /// A header of the answer is set, or with `None` taken away.
    Header(&'static str, Option<String>),
}

type Matcher = Box<dyn Fn(&Parts) -> bool + Send + Sync>;

/// An effect and the requests that it befalls. Without more, the first one that matches.
pub struct Fault {
    on: Matcher,
    skip: usize,
    times: usize,
    with: Effect,
}

impl Fault {
    /// Requests with this method (empty: any) whose path and query contain this text.
    pub fn on(method: &str, part: &str, with: Effect) -> Self {
        let (method, part) = (method.to_owned(), part.to_owned());
        Self::matching(
            move |head| {
                (method.is_empty() || head.method.as_str() == method)
                    && head.uri.to_string().contains(&part)
            },
            with,
        )
    }

    /// Requests that `on` says yes to.
    pub fn matching(on: impl Fn(&Parts) -> bool + Send + Sync + 'static, with: Effect) -> Self {
        Self { on: Box::new(on), skip: 0, times: 1, with }
    }

    /// The n-th request from now on, from 0, whatever it is.
    pub fn nth_request(nth: usize, with: Effect) -> Self {
        Self::matching(|_| true, with).skip(nth)
    }

    /// Lets so many matching requests pass first.
    pub fn skip(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    /// Befalls so many requests.
    pub fn times(mut self, count: usize) -> Self {
        self.times = count;
        self
    }

    /// Befalls all requests from then on.
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }
}

/// The faults of a registry, and how often they struck.
#[derive(Default)]
pub(super) struct Faults {
    faults: Vec<Fault>,
    pub(super) struck: usize,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
    }

    /// What befalls this request: every fault counts it, the first that is due strikes.
    pub(super) fn strike(&mut self, head: &Parts) -> Option<Effect> {
        let mut struck = None;
        for fault in self.faults.iter_mut().filter(|fault| (fault.on)(head)) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if fault.times > 0 && struck.is_none() {
                fault.times -= 1;
                struck = Some(fault.with.clone());
            }
        }
        self.struck += usize::from(struck.is_some());
        struck
    }
}

/// What a body does at some byte of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    Cut(u64),
    Stall(u64),
    Corrupt(u64),
}

/// A body without end.
pub(super) struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 8192])))))
    }
}

/// A body to which something happens.
pub(super) struct Faulty<B> {
    body: B,
    at: Option<At>,
    passed_bytes: u64,
    /// Whether what was passed had its chance to leave before the end.
    is_flushed: bool,
}

impl<B> Faulty<B> {
    pub(super) fn new(body: B, at: Option<At>) -> Self {
        Self { body, at, passed_bytes: 0, is_flushed: false }
    }

    fn shorten(&self, data: &Bytes, limit: u64) -> Bytes {
        let left = usize::try_from(limit - self.passed_bytes).unwrap_or(usize::MAX);
        data.slice(..data.len().min(left))
    }

    fn damage(&self, data: Bytes, offset: u64) -> Bytes {
        let place = offset.checked_sub(self.passed_bytes).and_then(|at| usize::try_from(at).ok());
        match place.filter(|at| *at < data.len()) {
            Some(at) => {
                let mut bytes = data.to_vec();
                bytes[at] ^= 0xff;
                bytes.into()
            }
            None => data,
        }
    }
}

impl<B> Body for Faulty<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.at {
            Some(At::Cut(limit)) if self.passed_bytes >= limit && !self.is_flushed => {
                self.is_flushed = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(At::Cut(limit)) if self.passed_bytes >= limit => {
                return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())));
            }
            Some(At::Stall(limit)) if self.passed_bytes >= limit => return Poll::Pending,
            _ => {}
        }
        let frame = match std::task::ready!(Pin::new(&mut self.body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error.into())))),
            Some(Ok(frame)) => frame,
        };
        let Ok(data) = frame.into_data() else { return Poll::Ready(None) };
        let data = match self.at {
            Some(At::Cut(limit) | At::Stall(limit)) => self.shorten(&data, limit),
            Some(At::Corrupt(offset)) => self.damage(data, offset),
            None => data,
        };
        self.passed_bytes += data.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.at.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
