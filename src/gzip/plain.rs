//! The stretch of plain bytes that is held in memory: some behind the current position, some in front.

/// How much is kept behind the current position: a match reaches 32 KiB back, the largest unit that a model works on as a
/// whole is 64 KiB long, and one encoder looks at the beginning of a buffer of 320 KiB.
const KEPT_BYTES: usize = 448 << 10;
/// How much may pile up behind that before it is thrown away.
const SLACK_BYTES: usize = 1 << 20;

/// Plain bytes from [`Plain::start`] to [`Plain::end`], counted from the beginning of the stream.
#[derive(Clone, Debug, Default)]
pub struct Plain {
    bytes: Vec<u8>,
    start: u64,
}

impl Plain {
    /// The position of the first byte that is held.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The position behind the last byte that is held.
    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Everything that is held.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the bytes are, to append to them.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The bytes from `from` to `to`, as far as they are held.
    pub fn range(&self, from: u64, to: u64) -> &[u8] {
        let index =
            |position: u64| (position.saturating_sub(self.start) as usize).min(self.bytes.len());
        &self.bytes[index(from)..index(to)]
    }

    /// Throws away what nothing at or behind `position` can need.
    pub fn forget_before(&mut self, position: u64) {
        let behind = position.saturating_sub(self.start) as usize;
        if behind > KEPT_BYTES + SLACK_BYTES {
            let gone = behind - KEPT_BYTES;
            self.bytes.drain(..gone);
            self.start += gone as u64;
        }
    }
}
