//! YAML as far as lists of images need it: texts, lists and mappings, each with its line. The home of
//! `serde_saphyr`, which reads YAML 1.2, of which JSON is a part.

use std::collections::BTreeMap;
use std::fmt;
use std::thread;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Options, Spanned};

/// The most nodes of a text, those that aliases repeat included: a cluster's whole export has fewer.
const NODES_MAX: usize = 1_000_000;
/// The most documents of a text: the largest charts have hundreds.
const DOCUMENTS_MAX: usize = 20_000;
/// The most levels: the deepest schemas of custom resources have about forty.
const DEPTH_MAX: usize = 128;
/// What reading so many levels takes at the most, in a build without any optimisation.
const STACK_BYTES: usize = 16 << 20;
/// The longest text that may be an image or the name of something, in bytes. Longer ones are only known
/// to be there, so that no alias multiplies them.
const TEXT_MAX_BYTES: usize = 4096;

/// Something in a document.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it stands, from 1 on.
    pub(super) line: u64,
    pub(super) value: Value,
}

/// What it is.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    LongText,
    Number,
    Boolean,
    Nothing,
    List(Vec<Node>),
    Map(BTreeMap<String, Node>),
}

impl Value {
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::LongText => "a long text",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::Nothing => "nothing",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

impl Node {
    /// A field of a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(fields) => fields.get(key),
            _ => None,
        }
    }

    /// The text in a field of a mapping.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Why a text is no YAML.
#[derive(Debug)]
pub(super) struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Unreadable {
    fn new(error: &Error) -> Self {
        let text = error.without_snippet().to_string();
        let one_line: Vec<&str> = text.split_whitespace().collect();
        Self(crate::printable::escaped(&one_line.join(" ")))
    }
}

/// The documents in `text`, without empty ones.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, Unreadable> {
    thread::scope(|scope| {
        let reading = thread::Builder::new().stack_size(STACK_BYTES);
        let reading = reading
            .spawn_scoped(scope, || serde_saphyr::from_multiple_with_options(text, options()));
        let reading = reading.map_err(|error| Unreadable(format!("no thread for it: {error}")))?;
        match reading.join() {
            Ok(read) => read.map_err(|error| Unreadable::new(&error)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: NODES_MAX,
            max_events: NODES_MAX * 3,
            max_documents: DOCUMENTS_MAX,
            max_depth: DEPTH_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: NODES_MAX },
        // The last one counts for kubectl too, and charts repeat labels.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        // YAML 1.2: `on`, `y` and `no` are texts.
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        ignore_binary_tag_for_string: true,
        with_snippet: false,
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { line: referenced.line(), value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

macro_rules! numbers {
    ($($visit:ident: $number:ty),*) => {$(
        fn $visit<E>(self, _: $number) -> Result<Value, E> {
            Ok(Value::Number)
        }
    )*};
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    numbers!(visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64);

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Boolean)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        let fits = text.len() <= TEXT_MAX_BYTES;
        Ok(if fits { Value::Text(text.to_owned()) } else { Value::LongText })
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Value, E> {
        Ok(Value::LongText)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            list.push(entry);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(Key(key)) = fields.next_key()? {
            match key {
                Some(key) => drop(map.insert(key, fields.next_value()?)),
                None => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Map(map))
    }
}

/// The name of a field; none if it is no text nor number, so that nothing asks for it.
struct Key(Option<String>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyKey)
    }
}

struct AnyKey;

impl<'de> Visitor<'de> for AnyKey {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, text: &str) -> Result<Key, E> {
        Ok(Key((text.len() <= TEXT_MAX_BYTES).then(|| text.to_owned())))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Key, E> {
        Ok(Key(Some(value.to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Key, E> {
        Ok(Key(Some(number.to_string())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Key, E> {
        Ok(Key(Some(number.to_string())))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Key, E> {
        Ok(Key(None))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Key, E> {
        Ok(Key(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Key, E> {
        Ok(Key(None))
    }

    fn visit_unit<E>(self) -> Result<Key, E> {
        Ok(Key(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Key, A::Error> {
        while entries.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Key(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Key, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Key(None))
    }
}
