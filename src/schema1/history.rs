//! One entry of the history, which schema 1 calls `v1Compatibility`.

use super::created::created;
use super::fields::Fields;
use super::json::{self, Object};

/// What a step of the build says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) parent: String,
    /// Whether its layer is an empty one that only stands in for a step without any.
    pub(super) is_throwaway: bool,
    created: String,
    created_by: String,
    author: String,
    comment: String,
}

impl Entry {
    pub(super) fn read(json: &str) -> Result<Self, serde_json::Error> {
        let fields = Fields::read(json)?;
        let run = fields.object("container_config")?;
        let words = run.map(|run| run.words("Cmd")).transpose()?.flatten();
        Ok(Self {
            id: fields.text("id")?,
            parent: fields.text("parent")?,
            is_throwaway: fields.get("throwaway")?.unwrap_or(false),
            created: created(&fields, "created")?,
            created_by: words.unwrap_or_default().join(" "),
            author: fields.text("author")?,
            comment: fields.text("comment")?,
        })
    }

    /// Writes it as an entry of a config's `history`.
    pub(super) fn write(&self, out: &mut String) {
        let mut object = Object::begin(out);
        json::string(object.field("created"), &self.created);
        for (name, text) in
            [("author", &self.author), ("created_by", &self.created_by), ("comment", &self.comment)]
        {
            if !text.is_empty() {
                json::string(object.field(name), text);
            }
        }
        if self.is_throwaway {
            object.field("empty_layer").push_str("true");
        }
        object.end();
    }
}
