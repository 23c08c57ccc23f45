//! What goes from the network to the writer.

use bytes::Bytes;

use crate::digest::Digest;

/// What comes next. Entries that the writer makes itself come by themselves.
pub(crate) enum Piece {
    /// What brings a blob begins.
    Begin(NewEntry),
    /// The next bytes of it.
    Bytes(Vec<Bytes>),
    /// The next bytes of it, which a former run wrote.
    Kept(Vec<Bytes>),
    /// It ends.
    End,
    /// Everything is there; nothing comes after this.
    Complete,
}

/// A blob as it is, or the delta that rebuilds it.
#[derive(Clone, Debug)]
pub(crate) struct NewEntry {
    /// Its place among the contents that are written.
    pub(crate) content: usize,
    pub(crate) size_bytes: u64,
    /// The digest of these bytes.
    pub(crate) digest: Digest,
    /// The blob that they bring.
    pub(crate) blob: Digest,
    /// The image that this is carried for.
    pub(crate) image: String,
}
