//! The fields of a JSON object as Go's `encoding/json` finds them: whatever case their names are written in, the last of
//! several, and `null` for nothing said.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// An object, its values not read yet.
pub(super) struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    pub(super) fn read(json: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// All fields in order, as they are called.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// The value of the field called `name`, if it is there and not `null`.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        let named = self.0.iter().rev().filter(|(found, _)| is_same(found, name));
        named.map(|(_, value)| *value).find(|value| value.get() != "null")
    }

    /// A field whose value is nothing special; of an object, what is in it counts for the caller.
    pub(super) fn get<T: DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>, serde_json::Error> {
        let read = |value: &RawValue| {
            serde_json::from_str(value.get())
                .map_err(|error| serde_json::Error::custom(format!("`{name}`: {error}")))
        };
        self.raw(name).map(read).transpose()
    }

    /// A text; empty if there is none.
    pub(super) fn text(&self, name: &str) -> Result<String, serde_json::Error> {
        Ok(self.get(name)?.unwrap_or_default())
    }

    /// Texts.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, serde_json::Error> {
        let texts: Option<Vec<Option<String>>> = self.get(name)?;
        Ok(texts.map(|texts| texts.into_iter().map(Option::unwrap_or_default).collect()))
    }

    /// The words of a command: texts, or one text.
    pub(super) fn words(&self, name: &str) -> Result<Option<Vec<String>>, serde_json::Error> {
        match self.raw(name) {
            Some(value) if value.get().starts_with('"') => Ok(Some(vec![self.text(name)?])),
            _ => self.texts(name),
        }
    }

    /// The fields of an object in a field.
    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, serde_json::Error> {
        self.raw(name).map(|value| Self::read(value.get())).transpose()
    }
}

/// Go compares names by Unicode's simple folding; beside ASCII's own letters only these two fold to one of them.
fn is_same(found: &str, name: &str) -> bool {
    let folded = |character: char| match character {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    found.chars().map(folded).eq(name.chars().map(folded))
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AllFields)
    }
}

struct AllFields;

impl<'de> Visitor<'de> for AllFields {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_in_any_case_and_the_last_of_several() {
        let json = r#"{"ID": "a", "id": "b", "Id": null, "\u212aind": "c", "list": ["x", null]}"#;
        let fields = Fields::read(json).expect("an object");
        assert_eq!(fields.text("id").expect("a text"), "b");
        assert_eq!(fields.text("kind").expect("a text"), "c");
        assert_eq!(fields.text("nothing").expect("a text"), "");
        assert_eq!(fields.texts("list").expect("texts").expect("some"), ["x", ""]);
        assert_eq!(fields.words("ID").expect("words").expect("some"), ["b"]);
        assert!(fields.texts("id").is_err());
        assert!(Fields::read("[]").is_err());
    }
}
