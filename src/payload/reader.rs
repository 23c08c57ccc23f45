//! Opens a payload of either format and answers what is in it.
//!
//! Promises that the structure was checked before anything is handed out: docs/payload-format.md,
//! section "Reading". Manifests are verified and kept; blobs are only located, so whoever reads one
//! checks its digest.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::charon;
use super::directory::Directory;
use super::error::Error;
use super::fault::{Fault, NotRegular};
use super::headers::DESCRIPTOR_SIGNATURE;
use super::index::{self, Index};
use super::manifests::Manifests;
use super::signed::{NotSigned, Seal};
use super::source::BlobReader;
use super::{native, structure};
use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::minisign::{PublicKey, Signature};

/// The longest data descriptor: signature, CRC-32 and two sizes of 8 bytes.
const DESCRIPTOR_MAX_BYTES: usize = 24;

/// Which tool's format a payload has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// kharon's own.
    Native,
    /// docker-charon's.
    Charon,
}

/// An open payload whose structure is right. Reads from several threads at a time.
#[derive(Debug)]
pub struct Payload {
    name: String,
    format: Format,
    directory: Directory,
    contents: Contents,
}

/// What one of the formats says about a zip.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) index: Index,
    pub(super) seal: Seal,
    pub(super) manifests: Manifests,
    /// Carried blobs, by the position of their entry.
    pub(super) blobs: HashMap<Digest, usize>,
    /// Entries that rebuild a blob, by its digest and their position.
    pub(super) deltas: HashMap<Digest, usize>,
    /// For every entry, in order.
    pub(super) promised: Vec<Promised>,
}

/// What an entry's bytes must be.
#[derive(Clone, Debug, Default)]
pub(super) struct Promised {
    pub(super) sha256: Option<String>,
    pub(super) digest: Option<Digest>,
}

/// An entry of an open payload, for whoever reads all of them.
#[derive(Clone, Debug)]
pub struct EntryReader<'a> {
    /// The entry's name.
    pub name: &'a str,
    /// The CRC-32 in the directory.
    pub crc32: u32,
    /// The SHA-256 that the index promises, in hexadecimal digits.
    pub sha256: Option<&'a str>,
    /// The digest that its content is known by.
    pub digest: Option<&'a Digest>,
    /// Its bytes.
    pub content: BlobReader,
    /// Whether a data descriptor follows the bytes.
    has_descriptor: bool,
}

impl EntryReader<'_> {
    /// Whether the data descriptor, where there is one, says what the directory says. Its signature
    /// is optional, its sizes have 4 or 8 bytes (APPNOTE 4.3.9).
    ///
    /// # Errors
    /// What the file answers.
    pub fn descriptor_agrees(&self) -> io::Result<bool> {
        if !self.has_descriptor {
            return Ok(true);
        }
        let mut buffer = [0; DESCRIPTOR_MAX_BYTES];
        let filled = self.content.read_behind(&mut buffer)?;
        let found = &buffer[..filled];
        let sizes = [self.content.stored_bytes(), self.content.size_bytes()];
        let long: Vec<u8> = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
        let short: Vec<u8> = sizes.iter().flat_map(|size| low_half(*size)).collect();
        let unsigned = found.strip_prefix(&DESCRIPTOR_SIGNATURE).unwrap_or(found);
        Ok([found, unsigned].into_iter().any(|descriptor| {
            let sizes = descriptor.strip_prefix(&self.crc32.to_le_bytes());
            sizes.is_some_and(|sizes| sizes.starts_with(&long) || sizes.starts_with(&short))
        }))
    }
}

/// The lower four bytes, as a 4-byte field holds them.
fn low_half(size: u64) -> impl Iterator<Item = u8> {
    size.to_le_bytes().into_iter().take(4)
}

impl Payload {
    /// Opens the payload at `path`.
    ///
    /// # Errors
    /// [`Error`] if the file cannot be read, is no payload, or is a damaged one.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        // Looked at before it is opened: opening a named pipe waits for its writer.
        let unreadable = |error| Error::new(&name, Fault::Io(error));
        refuse_special(&fs::metadata(path).map_err(unreadable)?).map_err(unreadable)?;
        let file = File::open(path).map_err(unreadable)?;
        Self::from_file(file, name)
    }

    /// Opens the payload in `file`, which messages call `name`.
    ///
    /// # Errors
    /// As [`Payload::open`].
    pub fn from_file(file: File, name: String) -> Result<Self, Error> {
        match read(Arc::new(file)) {
            Ok((format, directory, contents)) => Ok(Self { name, format, directory, contents }),
            Err(fault) => Err(Error::new(&name, fault)),
        }
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which tool's format it has.
    pub fn format(&self) -> Format {
        self.format
    }

    /// What it holds and expects; for docker-charon's format made from what is there.
    pub fn index(&self) -> &Index {
        &self.contents.index
    }

    /// The SHA-256 of the entry that holds the index, as it was read.
    pub fn index_digest(&self) -> &Digest {
        &self.contents.seal.digest
    }

    /// The signature over the index, if there is one. It is not checked yet.
    pub fn signature(&self) -> Option<&Signature> {
        self.contents.seal.signature.as_ref().map(|(signature, _)| signature)
    }

    /// Whether `key` signed the index, and with it the size and hash of every other entry. Those who want
    /// the content to be right as well read it ([`verify`](crate::verify::verify)).
    ///
    /// # Errors
    /// [`NotSigned`] says what is there instead.
    pub fn check_signature(&self, key: &PublicKey) -> Result<(), NotSigned> {
        self.contents.seal.check(&self.name, self.format, key)
    }

    /// The file's length in bytes.
    pub fn length_bytes(&self) -> u64 {
        self.directory.length_bytes
    }

    /// The manifest with this digest, if the payload has it.
    pub fn manifest(&self, digest: &Digest) -> Option<&Manifest> {
        self.contents.manifests.get(digest)
    }

    /// The bytes of the blob with this digest, if the payload carries it. They are not checked yet.
    pub fn blob(&self, digest: &Digest) -> Option<BlobReader> {
        let position = *self.contents.blobs.get(digest)?;
        Some(self.directory.reader(&self.directory.entries[position]))
    }

    /// The bytes of the entry that rebuilds the blob with this digest, if the payload has one. They are
    /// not checked yet.
    pub fn delta(&self, digest: &Digest) -> Option<BlobReader> {
        let position = *self.contents.deltas.get(digest)?;
        Some(self.directory.reader(&self.directory.entries[position]))
    }

    /// Every entry of the zip, in the order of its directory.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = EntryReader<'_>> {
        self.directory.entries.iter().zip(&self.contents.promised).map(|(entry, promised)| {
            EntryReader {
                name: &entry.name,
                crc32: entry.crc32,
                sha256: promised.sha256.as_deref(),
                digest: promised.digest.as_ref(),
                content: self.directory.reader(entry),
                has_descriptor: entry.has_descriptor,
            }
        })
    }
}

/// Refuses what cannot be read at any offset.
fn refuse_special(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let found = if metadata.is_dir() { NotRegular::Folder } else { NotRegular::Stream };
    Err(io::Error::new(io::ErrorKind::InvalidInput, found))
}

fn read(file: Arc<File>) -> Result<(Format, Directory, Contents), Fault> {
    file.metadata().and_then(|metadata| refuse_special(&metadata)).map_err(Fault::Io)?;
    let directory = Directory::read(file)?;
    let (format, contents) = if let Some((_, entry)) = directory.get(index::ENTRY_NAME) {
        (Format::Native, native::read(&directory, entry)?)
    } else if let Some((_, entry)) = directory.get(charon::ENTRY_NAME) {
        (Format::Charon, charon::read(&directory, entry)?)
    } else {
        return Err(Fault::NoIndex);
    };
    structure::check(&contents.index, &contents.manifests)?;
    Ok((format, directory, contents))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{ExitCode, hints};

    fn refused(path: &Path) -> (ExitCode, String) {
        let error = anyhow::Error::new(Payload::open(path).expect_err("an error"));
        (ExitCode::of(&error), format!("{error:#}; {}", hints(&error).join("; ")))
    }

    #[test]
    fn a_folder_is_no_damaged_payload() {
        let folder = tempfile::tempdir().expect("a folder");
        let (code, text) = refused(folder.path());
        assert_eq!(code, ExitCode::Failed, "{text}");
        assert!(text.contains("expected a regular file, found a folder"), "{text}");
        assert!(text.contains("make-payload"), "{text}");
    }

    #[test]
    #[cfg(unix)]
    fn a_pipe_or_device_is_no_damaged_payload() {
        use std::os::fd::AsRawFd as _;
        let (reader, _writer) = io::pipe().expect("a pipe");
        let pipe = format!("/dev/fd/{}", reader.as_raw_fd());
        for path in ["/dev/null", &pipe] {
            let (code, text) = refused(path.as_ref());
            assert_eq!(code, ExitCode::Failed, "{text}");
            assert!(text.contains("expected a regular file, found a pipe or device"), "{text}");
            assert!(text.contains("pipe it into"), "{text}");
        }
    }
}
