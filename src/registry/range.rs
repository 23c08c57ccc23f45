//! What a server makes of `Range` (RFC 9110, section 14).

use std::ops::Range;

use super::answer::Response;
use super::error::{Failure, Kind};
use super::http::headers;

/// An answer that has the wanted bytes in it.
pub(super) struct Found {
    pub(super) response: Response,
    /// How many bytes stand in front of the wanted ones.
    pub(super) skip_bytes: u64,
    /// Whether the whole blob comes, though a part of it was asked for.
    pub(super) is_whole: bool,
}

/// Judges what a server made of `Range`.
pub(super) fn check(
    response: Response,
    range: &Range<u64>,
    size_bytes: u64,
) -> Result<Found, Failure> {
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
pub(super) fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
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
