//! What a registry wants to see: `WWW-Authenticate`, by RFC 9110, section 11.6.1.
//!
//! Read as generously as it is spelled: several challenges in one header or in several, parameters in
//! any order and case, values quoted or not. What cannot be understood is passed over.

/// One challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password.
    Basic,
    /// A token of the service at `realm`.
    Bearer(Bearer),
}

/// Where a token is to be had, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bearer {
    /// The address of the token service.
    pub(super) realm: String,
    /// Who the token is for.
    pub(super) service: Option<String>,
    /// What the registry says that the request needs, in parts.
    pub(super) scopes: Vec<String>,
}

/// Reads all challenges out of the values of all headers of that name.
pub(super) fn parse<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Challenge> {
    values
        .flat_map(|value| raw_challenges(value).iter().filter_map(understood).collect::<Vec<_>>())
        .collect()
}

struct Raw {
    scheme: String,
    parameters: Vec<(String, String)>,
}

fn understood(raw: &Raw) -> Option<Challenge> {
    let value = |name: &str| {
        let found = raw.parameters.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    match raw.scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            let scopes = value("scope").unwrap_or_default();
            let scopes = scopes.split_ascii_whitespace().map(str::to_owned).collect();
            Some(Challenge::Bearer(Bearer {
                realm: value("realm")?,
                service: value("service"),
                scopes,
            }))
        }
        _ => None,
    }
}

fn raw_challenges(text: &str) -> Vec<Raw> {
    let mut found: Vec<Raw> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',' || c == '"');
        let (word, after) = split_word(rest, |c| c == '=');
        if word.is_empty() && after.is_empty() {
            return found;
        }
        rest = after.trim_start();
        if let Some(value) = rest.strip_prefix('=') {
            let (value, after) = split_value(value.trim_start());
            if let Some(challenge) = found.last_mut() {
                challenge.parameters.push((word.to_ascii_lowercase(), value));
            }
            rest = after;
        } else {
            found.push(Raw { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
        }
    }
}

fn split_word(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    let is_end = |c: char| c.is_ascii_whitespace() || matches!(c, ',' | '"') || ends(c);
    text.split_at(text.find(is_end).unwrap_or(text.len()))
}

fn split_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, rest) = split_word(text, |_| false);
        return (word.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scopes: &[&str]) -> Challenge {
        Challenge::Bearer(Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        })
    }

    #[test]
    fn challenges_are_read_however_they_are_spelled() {
        let full = bearer("https://a/t", Some("s"), &["repository:x:pull,push"]);
        for (values, expected) in [
            (
                vec![r#"Bearer realm="https://a/t",service="s",scope="repository:x:pull,push""#],
                vec![full.clone()],
            ),
            (
                vec![
                    r#"bearer   SCOPE = "repository:x:pull,push" , Service=s ,, rEaLm=https://a/t"#,
                ],
                vec![full.clone()],
            ),
            (
                vec![
                    r#"Negotiate abc==, Bearer realm="https://a/t",service=s,scope="repository:x:pull,push", BASIC realm="r""#,
                ],
                vec![full.clone(), Challenge::Basic],
            ),
            (
                vec!["Basic", r#"Bearer realm="https://a/t""#],
                vec![Challenge::Basic, bearer("https://a/t", None, &[])],
            ),
            (
                vec![r#"Bearer realm="https://a/t?x=1\"2,3\\",scope="a:b:c  d:e:f""#],
                vec![bearer(r#"https://a/t?x=1"2,3\"#, None, &["a:b:c", "d:e:f"])],
            ),
            (vec![r#"Bearer realm="https://a/t"#], vec![bearer("https://a/t", None, &[])]),
            (
                vec![r#"Bearer realm="https://a/t",error="insufficient_scope""#],
                vec![bearer("https://a/t", None, &[])],
            ),
            (vec![r#"Bearer service="s""#], vec![]),
            (vec!["", ",,,", "=", "=\"", "\"", "Digest x", "a=b"], vec![]),
        ] {
            assert_eq!(parse(values.iter().copied()), expected, "{values:?}");
        }
    }
}
