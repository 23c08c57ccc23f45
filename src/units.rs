//! Sizes, rates and times as people read and write them.
//!
//! The one home of human numbers: pure, no clock, no floating point. Sizes are decimal when shown
//! (1 kB = 1000 B), because registries and cloud bills count so; when read, `GB` is decimal and
//! `GiB` is binary.

use std::time::{Duration, SystemTime};

/// Decimal units, each a thousand times the one before.
const DECIMAL: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// Digits after the point that are read: more cannot matter, as 10^18 bytes have 18 of them.
const MAX_FRACTION_DIGITS: usize = 18;

/// A text that is no size or rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSize {
    /// Not a number with a unit.
    #[error("expected a size such as `500MB` or `4.7GiB`, found `{0}`")]
    Shape(String),
    /// A number, but behind it no unit that kharon knows.
    #[error("expected a unit such as `kB`, `MB`, `GB` or `GiB`, found `{0}`")]
    Unit(String),
    /// More bytes than 64 bits count.
    #[error("expected a size below 18 EB, found `{0}`")]
    TooLarge(String),
    /// A rate at which nothing would ever move.
    #[error("expected a rate above zero, found `{0}`")]
    Zero(String),
    /// A size that holds nothing.
    #[error("expected a size above zero, found `{0}`")]
    Nothing(String),
}

impl InvalidSize {
    /// What to write instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Shape(_) | Self::Zero(_) | Self::Nothing(_) | Self::TooLarge(_) => None,
            Self::Unit(unit)
                if unit.to_ascii_lowercase().contains("bit") || unit.contains("bps") =>
            {
                Some("rates are in bytes: divide bits by eight, `100Mbit` is `12.5MB`".to_owned())
            }
            Self::Unit(_) => Some(
                "units are B, kB, MB, GB, TB (thousands) and KiB, MiB, GiB, TiB (times 1024)"
                    .to_owned(),
            ),
        }
    }
}

/// Reads a size in bytes: a decimal number and a unit, such as `4.7GB`, `64MiB` or `4096`.
///
/// The unit's case does not matter, its `B` may be left out (`64Mi`, `10M`), one space may stand
/// before it. Parts of a byte are dropped.
///
/// # Errors
/// Fails if the text has another shape or the size does not fit 64 bits.
pub fn parse_size(text: &str) -> Result<u64, InvalidSize> {
    let shape = || InvalidSize::Shape(text.to_owned());
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > MAX_FRACTION_DIGITS {
        return Err(shape());
    }
    let too_large = || InvalidSize::TooLarge(text.to_owned());
    let multiplier = multiplier(unit.strip_prefix(' ').unwrap_or(unit))?;
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let fraction_digits = fraction.len();
    let fraction: u64 = fraction.parse().map_err(|_| shape())?;
    let scale = (0..fraction_digits).fold(1_u128, |scale, _| scale * 10);
    let bytes = u128::from(whole) * u128::from(multiplier)
        + u128::from(fraction) * u128::from(multiplier) / scale;
    u64::try_from(bytes).map_err(|_| too_large())
}

/// Media that volumes are made for, and what fits on them in bytes.
const MEDIA: [(&str, u64); 3] =
    [("dvd", 4_700_000_000), ("dvd-dl", 8_500_000_000), ("fat32", 4_294_967_295)];

/// Reads the size of a volume in bytes: a size, or `dvd`, `dvd-dl` or `fat32`.
///
/// # Errors
/// Fails where [`parse_size`] does, and for zero.
pub fn parse_volume_size(text: &str) -> Result<u64, InvalidSize> {
    let lower = text.to_ascii_lowercase();
    if let Some((_, bytes)) = MEDIA.iter().find(|(name, _)| *name == lower) {
        return Ok(*bytes);
    }
    match parse_size(text)? {
        0 => Err(InvalidSize::Nothing(text.to_owned())),
        bytes => Ok(bytes),
    }
}

/// Reads a rate in bytes per second: a size, with or without `/s` behind it.
///
/// # Errors
/// Fails where [`parse_size`] does, and for zero.
pub fn parse_rate(text: &str) -> Result<u64, InvalidSize> {
    match parse_size(text.strip_suffix("/s").unwrap_or(text))? {
        0 => Err(InvalidSize::Zero(text.to_owned())),
        bytes_per_second => Ok(bytes_per_second),
    }
}

fn multiplier(unit: &str) -> Result<u64, InvalidSize> {
    let lower = unit.to_ascii_lowercase();
    let (prefix, step) = match lower.strip_suffix('b').unwrap_or(&lower) {
        binary if binary.len() == 2 && binary.ends_with('i') => (&binary[..1], 1024_u64),
        decimal => (decimal, 1000),
    };
    let power = match prefix {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        "e" => 6,
        _ => return Err(InvalidSize::Unit(unit.to_owned())),
    };
    Ok(step.pow(power))
}

/// A size for people: two digits or more, decimal units, such as `999 B`, `1.2 GB` or `85 MB`.
pub fn format_bytes(bytes: u64) -> String {
    let power = power_for(bytes);
    format!("{} {}", in_unit(bytes, power), DECIMAL[power])
}

/// Two sizes in the larger one's unit, such as `1.2 of 3.4 GB`.
pub fn format_bytes_of(done_bytes: u64, total_bytes: u64) -> String {
    let power = power_for(done_bytes.max(total_bytes));
    let unit = DECIMAL[power];
    format!("{} of {} {unit}", in_unit(done_bytes, power), in_unit(total_bytes, power))
}

/// A rate for people, such as `85 MB/s`.
pub fn format_rate(bytes_per_second: u64) -> String {
    format!("{}/s", format_bytes(bytes_per_second))
}

/// A time for people, in its two largest units: `26 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_millis() >= 500);
    let pair = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => pair(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// A moment in UTC as RFC 3339 has it, such as `2026-03-01T12:00:00Z`; parts of a second are dropped.
pub fn format_time(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of the day so many days after 1970-01-01, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

/// The power of a thousand in which `bytes`, rounded, still has less than four digits.
fn power_for(bytes: u64) -> usize {
    let mut power = 0;
    let mut unit: u64 = 1;
    while power + 1 < DECIMAL.len() && rounded(bytes, unit) >= 1000 {
        power += 1;
        unit *= 1000;
    }
    power
}

/// One digit after the point below ten, none above; bytes are never broken.
fn in_unit(bytes: u64, power: usize) -> String {
    let unit = (0..power).fold(1_u64, |unit, _| unit * 1000);
    if power == 0 {
        return bytes.to_string();
    }
    let tenths = rounded(bytes, unit / 10);
    if tenths >= 100 {
        return rounded(bytes, unit).to_string();
    }
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn rounded(bytes: u64, unit: u64) -> u64 {
    bytes / unit + u64::from(bytes % unit >= unit.div_ceil(2))
}

/// A number of things: `1 image`, `2 images`, `3 repositories`. `noun` takes an `s` for its plural, with
/// `ie` for a `y`.
pub fn count(number: u64, noun: &str) -> String {
    match noun.strip_suffix('y') {
        _ if number == 1 => format!("1 {noun}"),
        Some(stem) => format!("{number} {stem}ies"),
        None => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_decimal_and_binary_units() {
        let table = [
            ("0", 0),
            ("4096", 4096),
            ("1B", 1),
            ("500MB", 500_000_000),
            ("4.7GB", 4_700_000_000),
            ("64MiB", 64 << 20),
            ("64Mi", 64 << 20),
            ("10M", 10_000_000),
            ("10mb", 10_000_000),
            ("1.5 KiB", 1536),
            ("0.0015kB", 1),
            ("2TiB", 2 << 40),
            ("18446744073709551615", u64::MAX),
            ("15.999EiB", 18_445_591_152_204_944_769),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_and_named() {
        type Refusal = fn(String) -> InvalidSize;
        let table: [(&str, Refusal, &str); 12] = [
            ("", InvalidSize::Shape, ""),
            ("GB", InvalidSize::Shape, "GB"),
            ("-1GB", InvalidSize::Shape, "-1GB"),
            (".5GB", InvalidSize::Shape, ".5GB"),
            ("5.GB", InvalidSize::Shape, "5.GB"),
            ("1.2.3GB", InvalidSize::Shape, "1.2.3GB"),
            ("0.0000000000000000001GB", InvalidSize::Shape, "0.0000000000000000001GB"),
            ("5 parsecs", InvalidSize::Unit, "parsecs"),
            ("5  GB", InvalidSize::Unit, " GB"),
            ("5é", InvalidSize::Unit, "é"),
            ("16EiB", InvalidSize::TooLarge, "16EiB"),
            ("99999999999999999999", InvalidSize::TooLarge, "99999999999999999999"),
        ];
        for (text, refusal, found) in table {
            assert_eq!(parse_size(text), Err(refusal(found.to_owned())), "{text}");
        }
    }

    #[test]
    fn rates_are_sizes_per_second_and_never_zero() {
        assert_eq!(parse_rate("10MB"), Ok(10_000_000));
        assert_eq!(parse_rate("1.5MiB/s"), Ok(1_572_864));
        assert_eq!(parse_rate("0"), Err(InvalidSize::Zero("0".to_owned())));
        let bits = parse_rate("100Mbit").expect_err("bits are refused");
        assert!(bits.hint().is_some_and(|hint| hint.contains("12.5MB")));
    }

    #[test]
    fn sizes_are_shown_with_two_digits_or_more() {
        let table = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9949, "9.9 kB"),
            (9950, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (1_240_000_000, "1.2 GB"),
            (85_000_000, "85 MB"),
            (u64::MAX, "18 EB"),
        ];
        for (bytes, text) in table {
            assert_eq!(format_bytes(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn pairs_share_the_larger_unit() {
        assert_eq!(format_bytes_of(1_200_000_000, 3_400_000_000), "1.2 of 3.4 GB");
        assert_eq!(format_bytes_of(0, 40_000_000_000), "0.0 of 40 GB");
        assert_eq!(format_bytes_of(10, 999), "10 of 999 B");
        assert_eq!(format_rate(85_400_000), "85 MB/s");
    }

    #[test]
    fn times_are_shown_in_two_units() {
        let table = [
            (0, "0 s"),
            (26_400, "26 s"),
            (59_600, "1 min"),
            (200_000, "3 min 20 s"),
            (7_500_000, "2 h 5 min"),
            (273_600_000, "3 d 4 h"),
        ];
        for (milliseconds, text) in table {
            assert_eq!(format_duration(Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn moments_are_shown_in_utc() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (68_169_599, "1972-02-28T23:59:59Z"),
            (68_169_600, "1972-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(format_time(time), text);
        }
    }
}
