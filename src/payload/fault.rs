//! Everything that can be wrong with a payload. Each fault names the entry, image or digest that is
//! wrong.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::digest::{Digest, Mismatch};
use crate::manifest::{InvalidManifest, MediaType};
use crate::minisign::InvalidText;
use crate::printable::escaped;
use crate::reference::{InvalidReference, RepositoryName, Tag};

use super::index::VERSION;
use super::signed::SIGNATURE_NAME;

/// An error of the zip library, kept apart from its type.
pub type ZipFault = Box<dyn StdError + Send + Sync>;

/// Something that is no regular file, as the cause of [`Fault::Io`]: it says nothing about a payload.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum NotRegular {
    #[error("expected a regular file, found a folder")]
    Folder,
    #[error("expected a regular file, found a pipe or device")]
    Stream,
}

/// How long a file should have been, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Exactly this long.
    Exactly(u64),
    /// At least this long; nothing in what is there says how much longer.
    AtLeast(u64),
    /// Longer, by nobody knows how much.
    Unknown,
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(bytes) => write!(f, "{bytes} bytes"),
            Self::AtLeast(bytes) => write!(f, "at least {bytes} bytes"),
            Self::Unknown => f.write_str("more bytes"),
        }
    }
}

/// What is wrong with a payload.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    // The file.
    /// The file cannot be opened or read.
    #[error("cannot be read")]
    Io(#[source] io::Error),
    /// The file has no bytes.
    #[error("expected a zip, found an empty file")]
    Empty,
    /// The file is something else.
    #[error("expected a zip, found something else")]
    NotAZip,
    /// The file ends early.
    #[error("expected {expected}, found only {found}")]
    CutShort {
        /// How long it should be.
        expected: Length,
        /// How long it is, in bytes.
        found: u64,
    },

    // The zip.
    /// Begins as a zip and has no directory, though no entry is cut short.
    #[error("expected the header of a zip entry at byte {offset}, found something else")]
    HeaderLost {
        /// Where, counted from the start of the file.
        offset: u64,
    },
    /// The directory or its end records are damaged.
    #[error("expected an intact zip directory, found a damaged one")]
    Directory(#[source] ZipFault),
    /// Directory and local header say different things about an entry.
    #[error("expected the headers of the entry `{name}` to agree, found a difference")]
    Header {
        /// The entry.
        name: String,
        /// What differs.
        #[source]
        source: ZipFault,
    },
    /// Two entries of one name.
    #[error("expected each entry once, found `{name}` twice")]
    EntryTwice {
        /// The entry.
        name: String,
    },
    /// Two entries share bytes, or an entry reaches into the directory.
    #[error("expected entries apart from each other, found `{name}` overlapping what follows it")]
    Overlap {
        /// The entry.
        name: String,
    },
    /// An entry that the directory does not list.
    #[error("expected every entry in the zip directory, found one that is hidden from it")]
    Hidden,
    /// A name that points out of its folder.
    #[error("expected plain relative names, found the entry `{name}`")]
    UnsafeName {
        /// The entry.
        name: String,
    },
    /// A name that no payload has.
    #[error("expected only the entries of a payload, found `{name}`")]
    UnknownName {
        /// The entry.
        name: String,
    },
    /// An encrypted entry.
    #[error("expected a plain entry, found `{name}` encrypted")]
    Encrypted {
        /// The entry.
        name: String,
    },
    /// An entry compressed by anything but deflate.
    #[error("expected a stored entry, found `{name}` compressed by {method}")]
    Compressed {
        /// The entry.
        name: String,
        /// The method's name.
        method: String,
    },
    /// An entry that has to be read at once and is damaged.
    #[error("expected intact bytes in the entry `{name}`, found others")]
    Content {
        /// The entry.
        name: String,
    },
    /// An entry of another size than the index says.
    #[error("expected {expected} bytes in the entry `{name}`, found {found}")]
    EntrySize {
        /// The entry.
        name: String,
        /// What the index says, in bytes.
        expected: u64,
        /// What the zip says, in bytes.
        found: u64,
    },
    /// An entry that the index lists and the zip lacks.
    #[error("expected the entry `{name}`, found none")]
    EntryMissing {
        /// The entry.
        name: String,
    },
    /// An entry that the zip has and the index does not list.
    #[error("expected only entries that the index lists, found `{name}`")]
    EntryUnlisted {
        /// The entry.
        name: String,
    },

    // The index.
    /// Neither format's index is there.
    #[error("expected an entry `kharon.json` or `payload_descriptor.json`, found neither")]
    NoIndex,
    /// The index is larger than a reader takes.
    #[error("expected at most {limit} bytes in the entry `{name}`, found {found}")]
    IndexTooLarge {
        /// The entry.
        name: String,
        /// The limit in bytes.
        limit: u64,
        /// Its size in bytes.
        found: u64,
    },
    /// The signature is larger than a reader takes.
    #[error("expected at most {limit} bytes in the entry `{SIGNATURE_NAME}`, found {found}")]
    SignatureTooLarge {
        /// The limit in bytes.
        limit: u64,
        /// Its size in bytes.
        found: u64,
    },
    /// The signature is none.
    #[error("entry `{SIGNATURE_NAME}`: {0}")]
    Signature(InvalidText),
    /// The index is not JSON, or not of the documented shape.
    #[error("expected the entry `{name}` to be an index, found something else")]
    IndexShape {
        /// The entry.
        name: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A version that this kharon does not know.
    #[error("expected version {VERSION} of the payload format, found {found}")]
    Version {
        /// The version.
        found: u64,
    },
    /// A way to travel that this kharon does not know.
    #[error(
        "expected the blob `{digest}` to be carried, expected, left-out or a delta, found it to travel as `{found}`"
    )]
    Travels {
        /// The blob.
        digest: Digest,
        /// How it travels.
        found: String,
    },
    /// Something the index should list once stands there twice.
    #[error("expected the index to list each thing once, found `{name}` twice")]
    ListedTwice {
        /// What.
        name: String,
    },
    /// A hash in the index that is none.
    #[error("expected a SHA-256 in 64 hexadecimal digits for the entry `{name}`, found `{found}`")]
    Hash {
        /// The entry.
        name: String,
        /// What stands there.
        found: String,
    },
    /// An entry of the zip that nothing in the index has a use for.
    #[error(
        "expected the entry `{name}` to be a manifest, a carried blob or a delta, found none of them"
    )]
    EntryIdle {
        /// The entry.
        name: String,
    },
    /// An expected blob without a place where it is expected.
    #[error("expected a repository that holds the blob `{digest}`, found none")]
    NoRepository {
        /// The blob.
        digest: Digest,
    },

    /// A delta's baseline is neither at the far side nor whole in the payload, or named twice.
    #[error(
        "expected a baseline of `{digest}` that is expected or carried, once each, found `{baseline}`"
    )]
    BaselineUnusable {
        /// The blob that the delta rebuilds.
        digest: Digest,
        /// The baseline.
        baseline: Digest,
    },
    /// A blob that is listed as baseline and serves no delta.
    #[error("expected each baseline to serve a delta, found the idle `{digest}`")]
    BaselineIdle {
        /// The blob.
        digest: Digest,
    },

    // Volumes.
    /// A number that no volume of the payload has.
    #[error("expected the number of a volume from 1 to {last}, found {found}")]
    VolumeNumber {
        /// The number.
        found: u32,
        /// How many volumes there are.
        last: usize,
    },
    /// Two files that are not volumes of one payload.
    #[error("expected a volume of the same payload as `{first}`, found another payload")]
    OtherPayload {
        /// The file that was opened first.
        first: String,
    },

    // Manifests.
    /// A manifest is larger than a reader takes.
    #[error("expected at most {limit} bytes in the manifest `{name}`, found {found}")]
    ManifestTooLarge {
        /// The entry.
        name: String,
        /// The limit in bytes.
        limit: u64,
        /// Its size in bytes.
        found: u64,
    },
    /// All manifests together are larger than a reader takes.
    #[error("expected at most {limit} bytes of manifests in one payload, found {found}")]
    ManifestsTooLarge {
        /// The limit in bytes.
        limit: u64,
        /// Their sizes together, in bytes.
        found: u64,
    },
    /// Bytes that are no manifest.
    #[error("expected the entry `{name}` to be a manifest, found something else")]
    Manifest {
        /// The entry.
        name: String,
        /// What is wrong.
        #[source]
        source: InvalidManifest,
    },
    /// Bytes that have another digest than their name.
    #[error("{0}")]
    ManifestContent(Mismatch),
    /// A manifest that says another media type than the index.
    #[error("expected media type `{expected}` for the manifest `{digest}`, found `{found}`")]
    ManifestMediaType {
        /// The manifest.
        digest: Digest,
        /// What the index says.
        expected: MediaType,
        /// What it is.
        found: MediaType,
    },
    /// A manifest names a blob that the index does not list.
    #[error("expected the blob `{blob}` of the manifest `{manifest}` in the index, found no trace")]
    BlobUnlisted {
        /// The manifest.
        manifest: Digest,
        /// The blob.
        blob: Digest,
    },
    /// Two places give a blob or manifest different sizes.
    #[error("expected {expected} bytes for `{digest}` as its manifest says, found {found}")]
    SizeDiffers {
        /// The blob or child.
        digest: Digest,
        /// What the manifest says, in bytes.
        expected: u64,
        /// What the index says, in bytes.
        found: u64,
    },
    /// A child of an index that is not sparse is absent.
    #[error("expected the manifest `{child}` that the index `{index}` names, found none")]
    ChildMissing {
        /// The index.
        index: Digest,
        /// The child.
        child: Digest,
    },
    /// An index stands in front of one of its children.
    #[error("expected the manifest `{child}` in front of the index `{index}`, found it behind")]
    ChildLate {
        /// The index.
        index: Digest,
        /// The child.
        child: Digest,
    },

    // Images.
    /// A text of the index that would steer a terminal, or forge a line of what is printed.
    #[error("expected text without control characters, found `{}`", escaped(.text))]
    Control {
        /// The text: the tool, or an image's name or reference.
        text: String,
    },
    /// An image, tag or referrer names a manifest that is not there.
    #[error("expected the manifest `{digest}` of the image `{image}`, found none")]
    ImageManifest {
        /// The image.
        image: String,
        /// The manifest.
        digest: Digest,
    },
    /// A tag, index or referrer of an image names a manifest that is in the payload for another one.
    #[error(
        "expected the manifest `{digest}` among those of the image `{image}`, found it elsewhere"
    )]
    ImageStranger {
        /// The image.
        image: String,
        /// The manifest.
        digest: Digest,
    },
    /// A carried image that does not say what it is.
    #[error("expected a digest for the image `{image}`, found none")]
    ImageUnresolved {
        /// The image.
        image: String,
    },
    /// A skipped image that has manifests all the same.
    #[error("expected nothing of the skipped image `{image}`, found manifests")]
    ImageNotSkipped {
        /// The image.
        image: String,
    },
    /// One tag is to name two things.
    #[error("expected one manifest for `{repository}:{tag}`, found two")]
    TagTwice {
        /// The far repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
    },
    /// docker-charon's place for a blob that breaks the grammar.
    #[error("expected the far repository of the blob `{digest}`, found something else")]
    FarRepository {
        /// The blob.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: InvalidReference,
    },
    /// docker-charon's image without a tag.
    #[error("expected a tag behind the image `{image}`, found none")]
    ImageUntagged {
        /// The image.
        image: String,
    },
    /// docker-charon's image whose name breaks the grammar.
    #[error("expected the name of an image, found `{image}`")]
    ImageName {
        /// The image.
        image: String,
        /// Which part.
        #[source]
        source: InvalidReference,
    },
}
