//! Files of which a tar leaves out the zeros. Pure.

use std::io;

/// Where the data of a file is, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sparse {
    /// Offset and length.
    parts: Vec<(u64, u64)>,
    real_size: u64,
}

/// What comes next of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Zeros(u64),
    Data(u64),
    End,
}

impl Sparse {
    /// Of the numbers offset, length, offset, … of a file whose data has `packed_bytes`.
    pub(super) fn new(numbers: &[u64], real_size: u64, packed_bytes: u64) -> io::Result<Self> {
        let wrong = || io::Error::other("a map of a sparse file that makes no sense");
        let (pairs, []) = numbers.as_chunks::<2>() else { return Err(wrong()) };
        let (mut end, mut sum, mut parts) = (0_u64, 0_u64, Vec::new());
        for [offset, length] in pairs {
            let next = offset.checked_add(*length).ok_or_else(wrong)?;
            if *offset < end || next > real_size {
                return Err(wrong());
            }
            (end, sum) = (next, sum + length);
            if *length > 0 {
                parts.push((*offset, *length));
            }
        }
        if sum != packed_bytes {
            return Err(wrong());
        }
        parts.reverse();
        Ok(Self { parts, real_size })
    }

    /// What is at `position`, and how far.
    pub(super) fn at(&mut self, position: u64) -> Next {
        while self.parts.last().is_some_and(|(offset, length)| offset + length <= position) {
            self.parts.pop();
        }
        match self.parts.last() {
            _ if position >= self.real_size => Next::End,
            Some((offset, length)) if *offset <= position => Next::Data(offset + length - position),
            Some((offset, _)) => Next::Zeros(offset - position),
            None => Next::Zeros(self.real_size - position),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_and_data_follow_each_other() {
        let mut sparse = Sparse::new(&[2, 3, 7, 1, 9, 0], 9, 4).expect("a map");
        for (position, next) in [
            (0, Next::Zeros(2)),
            (2, Next::Data(3)),
            (4, Next::Data(1)),
            (5, Next::Zeros(2)),
            (7, Next::Data(1)),
            (8, Next::Zeros(1)),
            (9, Next::End),
        ] {
            assert_eq!(sparse.at(position), next, "{position}");
        }
        for (numbers, real, packed) in
            [(&[0, 1][..], 1, 2), (&[0], 1, 0), (&[0, 2], 1, 2), (&[1, 1, 0, 1], 3, 2)]
        {
            assert!(Sparse::new(numbers, real, packed).is_err(), "{numbers:?}");
        }
        assert!(Sparse::new(&[u64::MAX, 1], u64::MAX, 1).is_err());
    }
}
