//! The plain bytes that a stream is rebuilt from, read ahead of where they are needed if a model looks ahead.

use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::mpsc::Sender;
use std::thread::Scope;

use super::error::Error;
use super::foresight::{Foresight, Pending, STRETCH_BYTES};
use super::model::Parameters;
use super::plain::Plain;

/// How much may pile up in front of what is still needed before it is thrown away.
const SLACK_BYTES: usize = 1 << 20;

/// Reads plain bytes.
pub struct Supply<'scope, 'env, R> {
    reader: R,
    /// What was read ahead, from `start` on; what is behind the current position too, as long as a stretch may need it.
    bytes: Vec<u8>,
    start: u64,
    threads: Option<Threads<'scope, 'env>>,
    foresight: Option<Foresight<'scope, 'env>>,
}

/// Where to look ahead.
pub struct Threads<'scope, 'env> {
    /// Where threads may begin.
    pub scope: &'scope Scope<'scope, 'env>,
    /// How many at once.
    pub count: NonZeroUsize,
    /// Where what they find can be taken from.
    pub pending: Sender<Pending<'scope>>,
}

impl<'scope, 'env, R: Read> Supply<'scope, 'env, R> {
    /// Bytes from `reader`.
    pub fn new(reader: R, threads: Option<Threads<'scope, 'env>>) -> Self {
        Self { reader, bytes: Vec::new(), start: 0, threads, foresight: None }
    }

    /// A member with this model begins at `origin`.
    pub fn begin_member(&mut self, parameters: Parameters, origin: u64) {
        self.foresight = self
            .threads
            .as_ref()
            .filter(|_| self.start <= origin)
            .and_then(|t| Foresight::new(t.scope, parameters, origin, t.pending.clone()));
    }

    /// Has `plain` reach to `position`, which it does not yet.
    ///
    /// # Errors
    /// [`Error::PlainTooShort`] and [`Error::ReadPlain`].
    pub fn reach(&mut self, plain: &mut Plain, position: u64) -> Result<(), Error> {
        self.look_ahead(plain.end(), position)?;
        self.read_to(position)?;
        let from = (plain.end() - self.start) as usize;
        let to = ((position - self.start) as usize).min(self.bytes.len());
        plain.tail().extend_from_slice(&self.bytes[from..to]);
        self.forget_before(plain.end());
        if plain.end() < position {
            return Err(Error::PlainTooShort { plain_bytes: plain.end() });
        }
        Ok(())
    }

    /// Begins stretches as far ahead of `position` as there are threads for, once the member has turned out not to be a short
    /// one, of which there may be thousands; `end` is what was reached so far.
    fn look_ahead(&mut self, end: u64, position: u64) -> Result<(), Error> {
        let Some(threads) = &self.threads else { return Ok(()) };
        let ahead = position + STRETCH_BYTES * threads.count.get() as u64;
        let is_long = |foresight: &mut Foresight| end >= foresight.origin + STRETCH_BYTES;
        let Some(mut foresight) = self.foresight.take_if(is_long) else { return Ok(()) };
        foresight.next = foresight.next.max(end);
        while foresight.next <= ahead {
            let (from, to) = (foresight.from(), foresight.to());
            self.read_to(to)?;
            let index = |position: u64| (position - self.start) as usize;
            // The model finds the tokens of the last stretch itself.
            let Some(bytes) = self.bytes.get(index(from)..index(to)) else { break };
            foresight.begin(bytes.to_vec());
        }
        self.foresight = Some(foresight);
        Ok(())
    }

    /// Reads up to `position`, if there is so much.
    fn read_to(&mut self, position: u64) -> Result<(), Error> {
        let missing = (position - self.start).saturating_sub(self.bytes.len() as u64);
        if missing > 0 {
            let mut part = self.reader.by_ref().take(missing);
            part.read_to_end(&mut self.bytes).map_err(Error::ReadPlain)?;
        }
        Ok(())
    }

    fn forget_before(&mut self, position: u64) {
        let from = self.foresight.as_ref().map_or(position, Foresight::from);
        let gone = (from.min(position) - self.start) as usize;
        if gone > SLACK_BYTES || gone == self.bytes.len() {
            self.bytes.drain(..gone);
            self.start += gone as u64;
        }
    }

    /// Whether there are plain bytes behind `position`, up to which they were used.
    ///
    /// # Errors
    /// [`Error::ReadPlain`].
    pub fn is_longer_than(&mut self, position: u64) -> Result<bool, Error> {
        self.read_to(position + 1)?;
        Ok(self.start + self.bytes.len() as u64 > position)
    }
}
