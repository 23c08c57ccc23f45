//! JSON as Go's `encoding/json` writes it, to the byte: digests hang on it.

use std::fmt::Write as _;

/// Writes `text` as a string. What HTML takes for its own is escaped, and so are the two line separators of JavaScript.
pub(super) fn string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' => escaped(out, character),
            other => kept(out, other),
        }
    }
    out.push('"');
}

/// Writes valid JSON as it is, without the space between its tokens, and escaped as in [`string`].
pub(super) fn compact(out: &mut String, json: &str) {
    let (mut is_inside, mut is_escaped) = (false, false);
    for character in json.chars() {
        if !is_inside && matches!(character, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        if character == '"' && !is_escaped {
            is_inside = !is_inside;
        }
        is_escaped = character == '\\' && !is_escaped;
        kept(out, character);
    }
}

fn kept(out: &mut String, character: char) {
    match character {
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => escaped(out, character),
        other => out.push(other),
    }
}

fn escaped(out: &mut String, character: char) {
    // A `String` takes everything.
    let _ = write!(out, "\\u{:04x}", u32::from(character));
}

/// An object under way.
pub(super) struct Object<'a> {
    out: &'a mut String,
    is_empty: bool,
}

impl<'a> Object<'a> {
    pub(super) fn begin(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, is_empty: true }
    }

    /// Begins a field; its value is to be written into what this gives.
    pub(super) fn field(&mut self, name: &str) -> &mut String {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.out.push(',');
        }
        string(self.out, name);
        self.out.push(':');
        self.out
    }

    pub(super) fn end(self) {
        self.out.push('}');
    }
}

/// Writes a list.
pub(super) fn list<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    write: impl Fn(&mut String, T),
) {
    out.push('[');
    for (place, item) in items.into_iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_does() {
        for (text, written) in [
            ("plain \u{e4}\u{7f}", "\"plain \u{e4}\u{7f}\""),
            ("a<b>&\"c\"\\/", r#""a\u003cb\u003e\u0026\"c\"\\/""#),
            ("\n\r\t\u{8}\u{c}\u{1}\u{1f}", r#""\n\r\t\b\f\u0001\u001f""#),
            ("\u{2028}\u{2029}", r#""\u2028\u2029""#),
        ] {
            let mut out = String::new();
            string(&mut out, text);
            assert_eq!(out, written);
        }
    }

    #[test]
    fn json_is_made_compact_and_nothing_else() {
        for (json, written) in [
            (
                " { \"a b\" : [ 1.50 , 2e3 ] ,\n\t\"\\\" x\" : null } ",
                r#"{"a b":[1.50,2e3],"\" x":null}"#,
            ),
            (r#"{"a": "\\", "b": "x > y"}"#, r#"{"a":"\\","b":"x \u003e y"}"#),
            (r#""\u00e4\/ \ud800""#, r#""\u00e4\/ \ud800""#),
        ] {
            let mut out = String::new();
            compact(&mut out, json);
            assert_eq!(out, written);
        }
    }
}
