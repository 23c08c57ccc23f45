//! From a layer delta to the blob, through two threads: one applies the delta, one puts the gzip on.

use std::io::{self, BufWriter, Read, Write};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::thread;

use crate::delta::{self, Needs, Spool};
use crate::digest::Digest;
use crate::gzip;
use crate::verified::{VerifiedReader, VerifiedWriter};

use super::error::LayerError;
use super::head::{self, Form, Head};

/// How much goes through the pipe at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// DEFLATE says at most this many plain bytes with one byte (RFC 1951: 258 bytes with two bits).
const DEFLATE_RATIO_MAX: u64 = 1032;

/// On how many threads gzip is put on: more do not help, as what is left for one takes about as long as that.
const THREADS_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(5);

/// On how many threads gzip is put on here.
pub(super) fn threads() -> NonZeroUsize {
    let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    threads.min(THREADS_MAX)
}

/// Opens an entry at a byte.
type Open<'a> = dyn Fn(u64) -> Box<dyn Read + Send + 'a> + Send + Sync + 'a;

/// An entry of a payload that rebuilds a blob.
pub struct LayerDelta<'a> {
    open: Box<Open<'a>>,
    head: Head,
    digest: Digest,
    size_bytes: u64,
}

impl<'a> LayerDelta<'a> {
    /// The entry of `entry_bytes` bytes that `open` reads from any byte on, and that should give the blob
    /// `digest` of `size_bytes` bytes.
    ///
    /// # Errors
    /// [`LayerError`] if it does not begin as a layer delta.
    pub fn new(
        open: impl Fn(u64) -> Box<dyn Read + Send + 'a> + Send + Sync + 'a,
        entry_bytes: u64,
        digest: Digest,
        size_bytes: u64,
    ) -> Result<Self, LayerError> {
        let head = head::decode(open(0), entry_bytes)?;
        Ok(Self { open: Box::new(open), head, digest, size_bytes })
    }

    /// What it needs of which baseline blobs.
    ///
    /// # Errors
    /// [`LayerError::Delta`] if its tables are wrong, [`LayerError::TooLarge`] if it would give more plain
    /// bytes than a blob of this size can hold.
    pub fn needs(&self) -> Result<Needs, LayerError> {
        let needs = delta::read_needs(&mut self.part(&self.head.delta))?;
        let limit = match self.head.form {
            Form::Plain => self.size_bytes,
            Form::Gzip => self.size_bytes.saturating_mul(DEFLATE_RATIO_MAX),
        };
        let found = needs.output_bytes;
        if found > limit { Err(LayerError::TooLarge { limit, found }) } else { Ok(needs) }
    }

    /// Whether the recipe has this digest.
    pub(super) fn check_recipe(&self, digest: &Digest) -> Result<(), LayerError> {
        let Range { start, end } = self.head.recipe;
        VerifiedReader::new(self.part(&self.head.recipe), digest.clone(), end - start)
            .finish()
            .map_err(LayerError::Entry)
    }

    /// Whether the delta gives the plain bytes that it promises.
    pub(super) fn check_plain(&self, spool: &Spool, workdir: &Path) -> Result<(), LayerError> {
        let mut delta = self.part(&self.head.delta);
        Ok(delta::apply(&mut delta, spool, workdir, &mut io::sink())?)
    }

    /// Writes the blob to `out`, from what `spool` has of the baselines. What was written before an error
    /// is worth nothing.
    ///
    /// # Errors
    /// [`LayerError`], also when the blob has another digest than it should.
    pub fn rebuild(
        &self,
        spool: &Spool,
        workdir: &Path,
        out: impl Write + Send,
    ) -> Result<(), LayerError> {
        let out = BufWriter::with_capacity(BUFFER_BYTES, out);
        let mut out = VerifiedWriter::new(out, self.digest.clone(), self.size_bytes);
        let mut delta = self.part(&self.head.delta);
        match self.head.form {
            Form::Plain => delta::apply(&mut delta, spool, workdir, &mut out)?,
            Form::Gzip => self.put_gzip_on(&mut delta, spool, workdir, &mut out)?,
        }
        out.flush().map_err(LayerError::Write)?;
        out.finish().map_err(LayerError::Rebuilt)
    }

    fn put_gzip_on(
        &self,
        delta: &mut (impl Read + Send),
        spool: &Spool,
        workdir: &Path,
        gzip: &mut (impl Write + Send),
    ) -> Result<(), LayerError> {
        let (plain, mut plain_end) = io::pipe().map_err(LayerError::Write)?;
        thread::scope(|scope| {
            let applying = scope.spawn(move || delta::apply(delta, spool, workdir, &mut plain_end));
            let recipe = self.part(&self.head.recipe);
            let rebuilt = gzip::rebuild_on(threads(), recipe, plain, gzip, self.size_bytes);
            let applied = match applying.join() {
                Ok(applied) => applied,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            match (applied, rebuilt) {
                // One that broke off takes the other with it.
                (Err(error), Ok(_) | Err(gzip::Error::PlainTooShort { .. })) => Err(error.into()),
                (_, Err(error)) => Err(error.into()),
                (Ok(()), Ok(_)) => Ok(()),
            }
        })
    }

    fn part(&self, range: &Range<u64>) -> impl Read + Send + 'a {
        let part = (self.open)(range.start).take(range.end - range.start);
        io::BufReader::with_capacity(BUFFER_BYTES, part)
    }
}
