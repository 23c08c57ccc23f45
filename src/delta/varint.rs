//! Numbers as the delta format writes them: seven bits a byte, the lowest first, the top bit set on
//! all bytes but the last. Signed numbers are folded first, so that small ones stay short.

use super::error::DeltaError;

/// Appends `value`.
pub(super) fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

/// Appends the distance from `from` to `to`, either way.
pub(super) fn put_step(bytes: &mut Vec<u8>, from: u64, to: u64) {
    let folded = if to >= from { (to - from) << 1 } else { ((from - to - 1) << 1) | 1 };
    put(bytes, folded);
}

/// Reads numbers off the front of a part of the delta.
#[derive(Clone, Debug)]
pub(super) struct Numbers<'a> {
    part: &'static str,
    rest: &'a [u8],
}

impl<'a> Numbers<'a> {
    pub(super) fn new(part: &'static str, bytes: &'a [u8]) -> Self {
        Self { part, rest: bytes }
    }

    /// The next byte as it is.
    pub(super) fn byte(&mut self) -> Result<u8, DeltaError> {
        let (&first, rest) =
            self.rest.split_first().ok_or(DeltaError::Truncated { part: self.part })?;
        self.rest = rest;
        Ok(first)
    }

    /// The next `count` bytes as they are.
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DeltaError> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(DeltaError::Truncated { part: self.part })?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next number.
    pub(super) fn number(&mut self) -> Result<u64, DeltaError> {
        let part = self.part;
        decode(part, || self.byte())
    }

    /// The next number as a size in memory; it must be at most `limit`.
    pub(super) fn size(&mut self, what: &'static str, limit: usize) -> Result<usize, DeltaError> {
        bounded(what, self.number()?, limit)
    }

    /// The next signed step, taken from `from`.
    pub(super) fn step(&mut self, from: u64) -> Result<u64, DeltaError> {
        let folded = self.number()?;
        let distance = folded >> 1;
        let to = if folded & 1 == 0 {
            from.checked_add(distance)
        } else {
            from.checked_sub(distance).and_then(|to| to.checked_sub(1))
        };
        to.ok_or(DeltaError::Invalid { part: self.part, expected: "an offset inside the needs" })
    }

    /// Steps over `count` numbers.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), DeltaError> {
        for _ in 0..count {
            self.number()?;
        }
        Ok(())
    }

    /// Refuses bytes that are left over.
    pub(super) fn finish(self) -> Result<(), DeltaError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DeltaError::Invalid { part: self.part, expected: "no further bytes" })
        }
    }
}

/// `value` as a size in memory of at most `limit`.
pub(super) fn bounded(what: &'static str, value: u64, limit: usize) -> Result<usize, DeltaError> {
    match usize::try_from(value) {
        Ok(size) if size <= limit => Ok(size),
        _ => Err(DeltaError::Limit { what, limit: limit as u64, found: value }),
    }
}

/// Reads one number from wherever `next` takes its bytes.
pub(super) fn decode(
    part: &'static str,
    mut next: impl FnMut() -> Result<u8, DeltaError>,
) -> Result<u64, DeltaError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = next()?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DeltaError::Invalid { part, expected: "numbers of at most 64 bits" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_steps_come_back_as_they_were() {
        let values = [0, 1, 127, 128, 300, 1 << 20, u64::MAX >> 1, u64::MAX];
        let mut bytes = Vec::new();
        for value in values {
            put(&mut bytes, value);
        }
        let steps = [(0, 0), (5, 4), (4, 5), (1 << 40, 0), (0, 1 << 40)];
        for (from, to) in steps {
            put_step(&mut bytes, from, to);
        }
        let mut numbers = Numbers::new("test", &bytes);
        for value in values {
            assert_eq!(numbers.number().expect("in range"), value);
        }
        for (from, to) in steps {
            assert_eq!(numbers.step(from).expect("in range"), to);
        }
        numbers.finish().expect("nothing is left");
    }

    #[test]
    fn numbers_that_are_cut_or_too_long_are_refused() {
        for bytes in [&[][..], &[0x80], &[0xff; 10], &[0xff; 11]] {
            assert!(Numbers::new("test", bytes).number().is_err(), "{bytes:?} was taken");
        }
    }
}
