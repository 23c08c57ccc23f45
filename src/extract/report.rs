//! What came of extracting.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

use crate::changeset::Kind;
use crate::digest::Digest;
use crate::failure::ExitCode;
use crate::units::{count, format_bytes};

/// What was extracted, and what was not. Its JSON has these fields in camel case; keys may be added.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtractReport {
    /// The full name of the image.
    pub image: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The folder.
    pub folder: PathBuf,
    /// Where the tree of all layers is; none where one layer alone was asked for.
    pub merged: Option<PathBuf>,
    /// The layers that were read.
    pub layers: Vec<ExtractedLayer>,
    /// How many entries they have.
    pub entries: u64,
    /// How many bytes of files were written.
    pub bytes: u64,
    /// What could not be created.
    pub not_created: Vec<NotCreated>,
    /// What could not be set of what is there.
    pub not_set: Vec<NotSet>,
}

/// A layer that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtractedLayer {
    /// 1 is the lowest.
    pub number: usize,
    /// Its digest.
    pub digest: Digest,
    /// Where its own tree is, if it has one.
    pub folder: Option<PathBuf>,
}

/// An entry that is not in the tree.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotCreated {
    /// The number of its layer.
    pub layer: usize,
    /// Its name as the layer has it.
    pub path: String,
    kind: Kind,
    why: Why,
}

/// An extended attribute that a file lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotSet {
    /// The number of the file's layer.
    pub layer: usize,
    /// The file as the layer has it.
    pub path: String,
    /// The name of the attribute.
    pub attribute: String,
    /// Why it could not be set.
    pub why: String,
}

/// Why an entry was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Why {
    /// Something that no engine creates.
    NoKind,
    /// This system has no such files.
    NotHere,
    /// Only the superuser may create it.
    NotPermitted,
    NameNotAllowed,
    NameTooLong,
    /// A folder on the way is none, or the tree itself would be one.
    NoFolder,
    TargetMissing,
    TooManyLinks,
    WhiteoutOfNothing,
}

impl Why {
    /// What an error says of the entry that was to be created; `None` where it says something of the disk.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        use io::ErrorKind::{
            AlreadyExists, InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound,
            PermissionDenied, TooManyLinks, Unsupported,
        };
        /// Unix: bytes that a file system takes for no text.
        const ILLEGAL_SEQUENCE: [i32; 2] = [84, 92];
        /// Unix: links that lead in a circle.
        const LOOPS: [i32; 2] = [40, 62];
        let number = error.raw_os_error().filter(|_| cfg!(unix));
        match error.kind() {
            AlreadyExists | NotADirectory | IsADirectory => Some(Self::NoFolder),
            InvalidFilename => Some(Self::NameTooLong),
            InvalidInput => Some(Self::NameNotAllowed),
            NotFound => Some(Self::TargetMissing),
            PermissionDenied => Some(Self::NotPermitted),
            TooManyLinks => Some(Self::TooManyLinks),
            Unsupported => Some(Self::NotHere),
            _ if number.is_some_and(|number| ILLEGAL_SEQUENCE.contains(&number)) => {
                Some(Self::NameNotAllowed)
            }
            _ if number.is_some_and(|number| LOOPS.contains(&number)) => Some(Self::TooManyLinks),
            _ => None,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoKind => "no engine creates what it is",
            Self::NotHere => "this system has no such files",
            Self::NotPermitted => "only root may create it",
            Self::NameNotAllowed => "this system has no such names",
            Self::NameTooLong => "its name is too long, or its folders lie too deep",
            Self::NoFolder => "what should be its folder is none",
            Self::TargetMissing => "what it links to is not there",
            Self::TooManyLinks => "too many links",
            Self::WhiteoutOfNothing => "it is a whiteout of nothing",
        })
    }
}

impl NotCreated {
    pub(super) fn new(layer: usize, name: &[u8], kind: Kind, why: Why) -> Self {
        Self { layer, path: String::from_utf8_lossy(name).into_owned(), kind, why }
    }
}

impl fmt::Display for NotCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::File => "file",
            Kind::HardLink => "hard link",
            Kind::Folder => "folder",
            Kind::SymbolicLink => "symbolic link",
            Kind::CharacterDevice => "character device",
            Kind::BlockDevice => "block device",
            Kind::NamedPipe => "named pipe",
            Kind::Other => "entry",
        };
        write!(f, "{kind} `{}` of layer {}: {}", self.path, self.layer, self.why)
    }
}

impl fmt::Display for NotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layer, path, attribute, why } = self;
        write!(f, "`{attribute}` of `{path}` of layer {layer}: {why}")
    }
}

impl ExtractReport {
    /// How a run that came to this ends: a tree that lacks something is no success.
    pub fn exit_code(&self) -> ExitCode {
        if self.not_created.is_empty() { ExitCode::Done } else { ExitCode::Failed }
    }
}

/// One line, for people.
impl fmt::Display for ExtractReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "extracted `{}` into {}: {} with {} ({})",
            self.image,
            self.folder.display(),
            count(self.layers.len() as u64, "layer"),
            match self.entries {
                1 => "1 entry".to_owned(),
                entries => format!("{entries} entries"),
            },
            format_bytes(self.bytes),
        )?;
        match self.not_created.len() {
            0 => Ok(()),
            lacking => write!(f, "; {lacking} not created"),
        }
    }
}
