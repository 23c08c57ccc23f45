//! Text from outside that is shown to a person: what in it would steer a terminal.
//!
//! Pure. Registries and payloads choose names, platforms and messages; none of them may move the
//! cursor, recolour the screen, turn the reading order or begin a line of its own.

use std::fmt::Write as _;

/// Whether a terminal would obey `character` rather than show it.
pub(crate) fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}')
        || turns_reading_order(character)
}

/// Unicode's bidirectional controls (UAX #9, section 2).
fn turns_reading_order(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{061c}')
        || ('\u{202a}'..='\u{202e}').contains(&character)
        || ('\u{2066}'..='\u{2069}').contains(&character)
}

/// One line of `text` in which all that [`steers`] is escaped, as in `\u{1b}`.
pub(crate) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if steers(character) {
            let _infallible = write!(shown, "{}", character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        for (text, shown) in [
            ("plain ünïcode", "plain ünïcode"),
            ("\x1b[2J", "\\u{1b}[2J"),
            ("two\nlines\r\u{85}\u{2028}", "two\\u{a}lines\\u{d}\\u{85}\\u{2028}"),
            ("evil\u{202e}txt.exe", "evil\\u{202e}txt.exe"),
        ] {
            assert_eq!(escaped(text), shown);
        }
    }
}
