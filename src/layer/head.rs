//! The head of an entry that holds a layer delta (docs/deltas.md, "The entry").

use std::io::Read;
use std::ops::Range;

use super::error::LayerError;

const MAGIC: [u8; 7] = *b"\x89KLAYER";
const VERSION: u8 = 1;
/// Magic, version, form, and the recipe's size.
pub(super) const HEAD_BYTES: u64 = 17;

/// What stands around the plain bytes that the delta gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing: they are the blob.
    Plain,
    /// A gzip stream, which the recipe rebuilds.
    Gzip,
}

/// Where the parts of an entry are, in bytes from its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) form: Form,
    pub(super) recipe: Range<u64>,
    pub(super) delta: Range<u64>,
}

/// The bytes of a head.
pub(super) fn encode(form: Form, recipe_bytes: u64) -> Vec<u8> {
    let form = match form {
        Form::Plain => 0,
        Form::Gzip => 1,
    };
    [&MAGIC[..], &[VERSION, form], &recipe_bytes.to_le_bytes()].concat()
}

/// Reads the head of an entry of `entry_bytes` bytes.
pub(super) fn decode(entry: impl Read, entry_bytes: u64) -> Result<Head, LayerError> {
    let mut bytes = Vec::new();
    entry.take(HEAD_BYTES).read_to_end(&mut bytes).map_err(LayerError::Entry)?;
    let rest = bytes.strip_prefix(&MAGIC).ok_or(LayerError::Head("its magic bytes"))?;
    let (form, size) = match rest {
        [VERSION, 0, size @ ..] => (Form::Plain, size),
        [VERSION, 1, size @ ..] => (Form::Gzip, size),
        [VERSION, ..] | [] => return Err(LayerError::Head("a known form")),
        [version, ..] => return Err(LayerError::Version { found: *version }),
    };
    let size = size.try_into().map_err(|_| LayerError::Head("the size of its recipe"))?;
    let recipe_bytes = u64::from_le_bytes(size);
    let delta = HEAD_BYTES.checked_add(recipe_bytes).filter(|delta| *delta <= entry_bytes);
    let delta = delta.ok_or(LayerError::Head("a recipe inside the entry"))?;
    if form == Form::Plain && recipe_bytes > 0 {
        return Err(LayerError::Head("no recipe for a blob without gzip"));
    }
    Ok(Head { form, recipe: HEAD_BYTES..delta, delta: delta..entry_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_where_the_parts_are() {
        for (form, recipe_bytes) in [(Form::Plain, 0), (Form::Gzip, 45), (Form::Gzip, 1 << 40)] {
            let bytes = encode(form, recipe_bytes);
            assert_eq!(bytes.len() as u64, HEAD_BYTES);
            let delta = HEAD_BYTES + recipe_bytes;
            let expected = Head { form, recipe: HEAD_BYTES..delta, delta: delta..delta + 9 };
            assert_eq!(decode(&bytes[..], delta + 9).expect("a head"), expected);
        }
    }

    #[test]
    fn what_is_no_head_is_refused() {
        let good = encode(Form::Gzip, 45);
        for length in 0..good.len() {
            assert!(decode(&good[..length], 100).is_err(), "{length} bytes");
        }
        assert!(matches!(decode(&good[..], HEAD_BYTES + 44), Err(LayerError::Head(_))));
        assert!(matches!(decode(&encode(Form::Plain, 1)[..], 100), Err(LayerError::Head(_))));
        assert!(matches!(decode(&encode(Form::Gzip, u64::MAX)[..], 100), Err(LayerError::Head(_))));
        let mut newer = good.clone();
        newer[7] = 2;
        assert!(matches!(decode(&newer[..], 100), Err(LayerError::Version { found: 2 })));
    }
}
