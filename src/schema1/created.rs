//! When something was made, as Go reads and writes it (RFC 3339).

use serde::de::Error as _;

use super::fields::Fields;

/// What Go writes of a time that was never set.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// Go knows nanoseconds and nothing finer.
const FRACTION_DIGITS_MAX: usize = 9;

/// The time in the field called `name`, as Go would write it again.
pub(super) fn created(fields: &Fields<'_>, name: &str) -> Result<String, serde_json::Error> {
    let Some(text) = fields.get::<String>(name)? else { return Ok(NEVER.to_owned()) };
    normal(&text).ok_or_else(|| {
        serde_json::Error::custom(format!("`{name}`: expected a time, found `{text}`"))
    })
}

/// The same time without the zeros at the end of its fraction, and with `Z` for no offset.
fn normal(text: &str) -> Option<String> {
    let (seconds, rest) = (text.get(..19)?, text.get(19..)?);
    is_time(seconds)?;
    let (fraction, zone) = match rest.strip_prefix(['.', ',']) {
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            (rest.get(..digits).filter(|digits| !digits.is_empty())?, rest.get(digits..)?)
        }
        None => ("", rest),
    };
    let fraction = fraction.get(..FRACTION_DIGITS_MAX).unwrap_or(fraction).trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{seconds}{point}{fraction}{}", normal_zone(zone)?))
}

/// Whether `text` is a day that there is and a time of it.
fn is_time(text: &str) -> Option<()> {
    let shape = "dddd-dd-ddTdd:dd:dd";
    let fits = |(found, expected): (u8, u8)| match expected {
        b'd' => found.is_ascii_digit(),
        other => found == other,
    };
    if !text.bytes().zip(shape.bytes()).all(fits) {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u32>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    ((1..=days).contains(&day) && hour < 24 && minute < 60 && second < 60).then_some(())
}

fn normal_zone(zone: &str) -> Option<&str> {
    if zone == "Z" {
        return Some(zone);
    }
    let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    let number = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| is_number)
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    match (hours, minutes) {
        (0, 0) => Some("Z"),
        (0..24, 0..60) => Some(zone),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_does() {
        for (text, written) in [
            ("2015-10-31T22:22:54.690851953Z", Some("2015-10-31T22:22:54.690851953Z")),
            ("2015-10-31T22:22:54.500000000Z", Some("2015-10-31T22:22:54.5Z")),
            ("2015-10-31T22:22:54.000Z", Some("2015-10-31T22:22:54Z")),
            ("2015-10-31T22:22:54.1234567891Z", Some("2015-10-31T22:22:54.123456789Z")),
            ("2016-02-29T00:00:00+00:00", Some("2016-02-29T00:00:00Z")),
            ("2016-02-29T00:00:00-07:30", Some("2016-02-29T00:00:00-07:30")),
            ("2015-02-29T00:00:00Z", None),
            ("2015-10-31 22:22:54Z", None),
            ("2015-10-31T22:22:54", None),
            ("2015-10-31T22:22:54.Z", None),
            ("2015-10-31T22:22:54+24:00", None),
            ("2015-10-31T22:22:54+1:00", None),
            ("", None),
        ] {
            assert_eq!(normal(text).as_deref(), written, "{text}");
        }
    }
}
