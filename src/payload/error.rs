//! Why a file is no payload that kharon can use, and what a person can do about it.

use std::error::Error as StdError;
use std::fmt;

use crate::printable::escaped;

use super::fault::{Fault, NotRegular};

/// A payload that cannot be used, and why.
#[derive(Debug)]
pub struct Error {
    payload: String,
    fault: Box<Fault>,
}

impl Error {
    pub(super) fn new(payload: &str, fault: Fault) -> Self {
        Self { payload: payload.to_owned(), fault: Box::new(fault) }
    }

    /// What is wrong.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        self.fault.hint()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A fault quotes the payload, and what is quoted must not steer a terminal.
        write!(f, "payload `{}`: {}", escaped(&self.payload), escaped(&self.fault.to_string()))
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.fault.source()
    }
}

const AGAIN: &str = "the transfer was incomplete: compare the file's size and checksum with those of \
                     the original, and copy it again";
const DAMAGED: &str =
    "the file was damaged or changed on its way: copy it again, or make the payload anew";
const FORGED: &str =
    "copying does not do this: the payload was changed, or is not kharon's; make it anew";
const REPACK: &str = "a payload may be packed again, but stored (`zip -0`), without a password, and \
                      with its entries at the top, not inside a folder";
const NEWER: &str = "the payload was made by a newer kharon: use that version to read it";
const WRITTEN: &str = "name the file that `kharon make-payload` or docker-charon wrote";
const LIMIT: &str = "carry fewer images in one payload";

impl Fault {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io(error) => {
                let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<NotRegular>());
                return cause.map(|cause| cause.hint().to_owned());
            }
            Self::Empty | Self::CutShort { .. } | Self::HeaderLost { .. } => AGAIN,
            Self::NotAZip | Self::NoIndex => WRITTEN,
            Self::UnknownName { .. } | Self::Encrypted { .. } | Self::Compressed { .. } => REPACK,
            Self::Signature(invalid) => invalid.hint(),
            Self::Version { .. } | Self::Travels { .. } => NEWER,
            Self::IndexTooLarge { .. } | Self::ManifestsTooLarge { .. } => LIMIT,
            Self::ImageUntagged { .. } | Self::ImageName { .. } => {
                "docker-charon carries images by `repository:tag` only: make the payload with such \
                 names, without a registry"
            }
            Self::Directory(_)
            | Self::Header { .. }
            | Self::Content { .. }
            | Self::EntrySize { .. } => DAMAGED,
            _ => FORGED,
        };
        Some(hint.to_owned())
    }
}

impl NotRegular {
    fn hint(self) -> &'static str {
        match self {
            Self::Folder => WRITTEN,
            Self::Stream => {
                "pipe it into `kharon push-payload` without `-f`, or copy it into a file first"
            }
        }
    }
}
