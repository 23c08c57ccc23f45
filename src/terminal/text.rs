//! What a person reads: messages without control characters and without secrets, in few colours.

use std::fmt::Write as _;

use super::Verbosity;
use crate::printable;
use crate::progress::Event;

/// Whether the stream takes colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Coloured,
}

impl Paint {
    pub(super) fn warning(self) -> String {
        self.label("warning:", "1;33")
    }

    pub(super) fn error(self) -> String {
        self.label("error:", "1;31")
    }

    pub(super) fn hint(self) -> String {
        self.label("hint:", "1;36")
    }

    fn label(self, label: &str, code: &str) -> String {
        match self {
            Self::Plain => label.to_owned(),
            Self::Coloured => format!("\x1b[{code}m{label}\x1b[0m"),
        }
    }
}

/// The line that an event is worth at this verbosity. Phases and counts are not lines here: how
/// they show is up to who shows progress.
pub(super) fn message_line(event: &Event, verbosity: Verbosity, paint: Paint) -> Option<String> {
    match event {
        Event::Warning { message } => Some(format!("{} {}", paint.warning(), clean(message))),
        Event::Note { message } if verbosity >= Verbosity::Normal => Some(clean(message)),
        Event::Detail { message } if verbosity >= Verbosity::Verbose => Some(clean(message)),
        _ => None,
    }
}

/// Makes a message safe to show: [`without_secrets`], and no character that could move the cursor,
/// recolour the screen or turn the reading order. Messages quote what far hosts say. Further lines
/// are indented, so that none passes for a line of kharon's own.
pub(super) fn clean(message: &str) -> String {
    let mut cleaned = String::with_capacity(message.len());
    for character in without_secrets(message).trim_end().chars() {
        match character {
            '\n' => cleaned.push_str("\n  "),
            '\t' => cleaned.push(' '),
            _ if printable::steers(character) => {
                let _ = write!(cleaned, "{}", character.escape_unicode());
            }
            _ => cleaned.push(character),
        }
    }
    cleaned
}

/// Cuts out of every URL in `message` what can be a secret: the user information (RFC 3986, section
/// 3.2.1) and the query, where signed URLs carry their signature. The last net, not the first: errors
/// are made without secrets.
pub(super) fn without_secrets(message: &str) -> String {
    let mut cleaned = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        let ends_url =
            |c: char| c.is_whitespace() || matches!(c, '`' | '"' | '\'' | '<' | '>' | ')');
        let (url, behind) = after.split_at(after.find(ends_url).unwrap_or(after.len()));
        let (url, query) = url.split_once('?').map_or((url, ""), |(url, _)| (url, "?…"));
        let (authority, path) = url.split_at(url.find('/').unwrap_or(url.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let user = if host.len() < authority.len() { "…@" } else { "" };
        cleaned.extend([before, user, host, path, query]);
        rest = behind;
    }
    cleaned.push_str(rest);
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cannot_steer_the_terminal() {
        let table = [
            ("plain `text` of ünïcode", "plain `text` of ünïcode"),
            ("\x1b[2Jgone", "\\u{1b}[2Jgone"),
            ("a\rb\u{7}", "a\\u{d}b\\u{7}"),
            ("a\u{9b}31m", "a\\u{9b}31m"),
            ("two\nerror: lines\n", "two\n  error: lines"),
            ("a\tb", "a b"),
            ("GET http://u:p@far/v2/", "GET http://…@far/v2/"),
            ("evil\u{202e}txt.exe", "evil\\u{202e}txt.exe"),
        ];
        for (message, shown) in table {
            assert_eq!(clean(message), shown, "{message:?}");
        }
    }

    #[test]
    fn urls_lose_their_secrets() {
        let table = [
            ("no url, no change: a@b?c", "no url, no change: a@b?c"),
            (
                "GET `https://registry.example/v2/` failed",
                "GET `https://registry.example/v2/` failed",
            ),
            ("http://user:pass@host:5000/v2/x", "http://…@host:5000/v2/x"),
            ("proxy http://u:p@ss@proxy", "proxy http://…@proxy"),
            (
                "(https://s3.example/blob?X-Amz-Signature=abc) and on",
                "(https://s3.example/blob?…) and on",
            ),
            ("http://a:b@c?d=e http://f:g@h", "http://…@c?… http://…@h"),
            ("https://host/path@v1", "https://host/path@v1"),
        ];
        for (message, shown) in table {
            assert_eq!(without_secrets(message), shown);
        }
    }

    #[test]
    fn verbosity_picks_the_lines() {
        let message = || "x".to_owned();
        let events = [
            Event::Warning { message: message() },
            Event::Note { message: message() },
            Event::Detail { message: message() },
            Event::Phase { message: message() },
        ];
        let table = [(Verbosity::Quiet, 1), (Verbosity::Normal, 2), (Verbosity::Verbose, 3)];
        for (verbosity, lines) in table {
            let shown = events.iter().filter_map(|e| message_line(e, verbosity, Paint::Plain));
            assert_eq!(shown.count(), lines, "{verbosity:?}");
        }
    }

    #[test]
    fn only_the_label_is_coloured() {
        let event = Event::Warning { message: "far".to_owned() };
        let line = message_line(&event, Verbosity::Quiet, Paint::Coloured);
        assert_eq!(line.as_deref(), Some("\x1b[1;33mwarning:\x1b[0m far"));
    }
}
