//! What is wrong with a manifest of schema 1.

/// Bytes that are no manifest of schema 1, or one that nobody can convert.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSchema1 {
    /// Not JSON, or not of the shape that the specification gives.
    #[error("expected a manifest of Docker's schema 1, found something else")]
    Json(#[source] serde_json::Error),
    /// Called schema 1, and none.
    #[error("expected `schemaVersion` 1 as its media type says, found {0}")]
    Version(String),
    /// Has the lists of another kind of manifest as well.
    #[error("expected a manifest of Docker's schema 1, found `{0}` in it too")]
    Ambiguous(&'static str),
    /// Its signatures do not say what they sign.
    #[error("its signatures do not say what they sign: {0}")]
    Signature(&'static str),
    /// Layers and history do not belong together.
    #[error("expected as many entries of history as layers, found {history} and {layers}")]
    Lengths {
        /// How many layers it names.
        layers: usize,
        /// How many entries its history has.
        history: usize,
    },
    /// It names no layer at all.
    #[error("expected at least one layer in a manifest of Docker's schema 1, found none")]
    NoLayers,
    /// An entry of its history, from 1 on, is not JSON or not of the shape that images have.
    #[error("entry {place} of its history cannot be read")]
    History {
        /// Which one; the first is the newest.
        place: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// An entry of its history, from 1 on, is called something that is no ID.
    #[error(
        "expected 64 hexadecimal digits as ID of entry {place} of its history, found `{found}`"
    )]
    Id {
        /// Which one.
        place: usize,
        /// What it is called.
        found: String,
    },
    /// An ID stands in its history twice, with others in between.
    #[error("the ID `{0}` stands in its history twice")]
    TwiceThere(String),
    /// An entry of its history, from 1 on, is not made from the one before it.
    #[error("expected `{expected}` as parent of entry {place} of its history, found `{found}`")]
    Parent {
        /// Which one.
        place: usize,
        /// The ID of the entry that is older by one; empty for the oldest.
        expected: String,
        /// What it says.
        found: String,
    },
}
