//! Why images cannot travel, or not together.

use crate::digest::Digest;
use crate::reference::{RepositoryName, Tag};

/// The most bytes that the blobs of one payload may have together: more than any disk that crosses a
/// gap holds, and so little that no sum of sizes overflows.
pub(super) const BLOBS_MAX_BYTES: u64 = 1 << 50;

/// Images that cannot travel, or not together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Two manifests give one blob different sizes: one of them lies.
    #[error(
        "expected blob `{digest}` to have {expected} bytes as `{first}` says, found {found} in `{second}`"
    )]
    Size {
        /// The blob.
        digest: Digest,
        /// The size that was said first, in bytes.
        expected: u64,
        /// Which image said so.
        first: String,
        /// The other size, in bytes.
        found: u64,
        /// Which image said that.
        second: String,
    },
    /// Sizes that cannot be true.
    #[error(
        "expected blobs of at most {BLOBS_MAX_BYTES} bytes together, found blob `{digest}` of {size} bytes in `{image}`"
    )]
    TooLarge {
        /// The blob that is too much.
        digest: Digest,
        /// Its size as its manifest says, in bytes.
        size: u64,
        /// The image that names it.
        image: String,
    },
    /// Two images would set one tag at the far side to different manifests.
    #[error("`{first}` and `{second}` would both set the tag `{repository}:{tag}` at the far side")]
    Tag {
        /// The far repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// The image that sets it first.
        first: String,
        /// The image that sets it to something else.
        second: String,
    },
}
