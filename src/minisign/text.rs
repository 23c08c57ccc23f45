//! The lines of minisign's files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What stands in front of the first comment.
pub(super) const UNTRUSTED: &str = "untrusted comment: ";
/// What stands in front of the comment that is signed.
pub(super) const TRUSTED: &str = "trusted comment: ";

/// A line of base64.
pub(super) fn encode(parts: &[&[u8]]) -> String {
    STANDARD.encode(parts.concat())
}

/// The bytes of a line of base64, if there are `N` of them.
pub(super) fn decode<const N: usize>(line: &str) -> Option<[u8; N]> {
    STANDARD.decode(line.trim_end()).ok()?.try_into().ok()
}

/// Cuts the first `N` bytes off.
pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}
