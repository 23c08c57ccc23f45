//! Variables in the values of a compose file (compose specification, "Interpolation").

/// Defaults in defaults in defaults: more than anybody writes.
const DEPTH_MAX: usize = 16;

/// `text` with its variables replaced; those that are not set and have no default go to `unset`.
///
/// # Errors
/// What is wrong: a variable that is required is not set, or this is no valid use of one.
pub(super) fn interpolate(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
) -> Result<String, String> {
    replace(text, variable, unset, 0)
}

fn replace(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
    depth: usize,
) -> Result<String, String> {
    let invalid = || format!("expected a variable such as `${{TAG:-latest}}`, found `{text}`");
    if depth > DEPTH_MAX {
        return Err(invalid());
    }
    let mut whole = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        whole.push_str(before);
        if let Some(behind) = behind.strip_prefix('$') {
            whole.push('$');
            rest = behind;
        } else if let Some(inside) = behind.strip_prefix('{') {
            let end = closing(inside).ok_or_else(invalid)?;
            let (name, operator) = inside[..end].split_at(name_length(&inside[..end]));
            if name.is_empty() {
                return Err(invalid());
            }
            let value = variable(name);
            let filled = || value.clone().filter(|value| !value.is_empty());
            let (chosen, word) = match operator {
                "" => (value.clone(), None),
                _ if operator.starts_with(":-") => (filled(), Some(&operator[2..])),
                _ if operator.starts_with('-') => (value.clone(), Some(&operator[1..])),
                _ if operator.starts_with(":+") => {
                    (unless(filled().as_ref()), Some(&operator[2..]))
                }
                _ if operator.starts_with('+') => (unless(value.as_ref()), Some(&operator[1..])),
                _ if operator.starts_with(":?") => {
                    (Some(required(filled(), name, &operator[2..])?), None)
                }
                _ if operator.starts_with('?') => {
                    (Some(required(value.clone(), name, &operator[1..])?), None)
                }
                _ => return Err(invalid()),
            };
            match (chosen, word) {
                (Some(value), _) => whole.push_str(&value),
                (None, Some(word)) => whole.push_str(&replace(word, variable, unset, depth + 1)?),
                (None, None) => unset.push(name.to_owned()),
            }
            rest = &inside[end + 1..];
        } else {
            let (name, behind) = behind.split_at(name_length(behind));
            if name.is_empty() {
                return Err(invalid());
            }
            match variable(name) {
                Some(value) => whole.push_str(&value),
                None => unset.push(name.to_owned()),
            }
            rest = behind;
        }
    }
    whole.push_str(rest);
    Ok(whole)
}

/// What stands for a variable that gives way to another word where it has a value: nothing where it has
/// none.
fn unless(value: Option<&String>) -> Option<String> {
    match value {
        Some(_) => None,
        None => Some(String::new()),
    }
}

fn required(value: Option<String>, name: &str, message: &str) -> Result<String, String> {
    value.ok_or_else(|| {
        let message = if message.is_empty() { "it is required" } else { message };
        format!("variable `{name}` is not set ({message})")
    })
}

/// The length of the variable's name that `text` begins with.
fn name_length(text: &str) -> usize {
    let is_name = |(place, byte): &(usize, u8)| {
        byte.is_ascii_alphabetic() || *byte == b'_' || (*place > 0 && byte.is_ascii_digit())
    };
    text.bytes().enumerate().take_while(is_name).count()
}

/// Where the brace is that closes what `text` is the inside of.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((place, byte)) = bytes.next() {
        match byte {
            b'$' if bytes.peek().is_some_and(|(_, next)| *next == b'{') => depth += 1,
            b'}' if depth == 0 => return Some(place),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_as_compose_does_it() {
        let variable = |name: &str| match name {
            "TAG" => Some("3.9".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("python:3.9", Some("python:3.9")),
            ("python:$TAG", Some("python:3.9")),
            ("python:${TAG}-slim", Some("python:3.9-slim")),
            ("$TAG$TAG", Some("3.93.9")),
            ("${NONE:-a}|${EMPTY:-a}|${TAG:-a}", Some("a|a|3.9")),
            ("${NONE-a}|${EMPTY-a}", Some("a|")),
            ("${NONE:+a}|${EMPTY:+a}|${TAG:+a}", Some("||a")),
            ("${NONE+a}|${EMPTY+a}|${TAG+a}", Some("|a|a")),
            ("${NONE:-${ALSO:-b}}c", Some("bc")),
            ("${NONE:-$TAG}", Some("3.9")),
            ("$NONE|${NONE}", Some("|")),
            ("a$$TAG$${TAG}", Some("a$TAG${TAG}")),
            ("${TAG:?set it}", Some("3.9")),
            ("${NONE:?set it}", None),
            ("${EMPTY:?set it}", None),
            ("${EMPTY?set it}", Some("")),
            ("${TAG", None),
            ("${}", None),
            ("${1TAG}", None),
            ("$", None),
            ("$-", None),
            ("${TAG/a/b}", None),
        ] {
            let mut unset = Vec::new();
            let found = interpolate(text, &variable, &mut unset).ok();
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_set_is_told_unless_there_is_another_word() {
        let mut unset = Vec::new();
        let none = |_: &str| None;
        interpolate("$A${B}${C:-c}${D:-$E}${F:+f}", &none, &mut unset).expect("valid");
        assert_eq!(unset, ["A", "B", "E"]);
    }
}
