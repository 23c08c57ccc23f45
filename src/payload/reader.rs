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
use super::index::{self, Index, Travels};
use super::manifests::Manifests;
use super::signed::{NotSigned, Seal};
use super::source::BlobReader;
use super::{native, structure, volumes};
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

/// An open payload whose structure is right, or those of its volumes that are at hand. Reads from several
/// threads at a time.
#[derive(Debug)]
pub struct Payload {
    name: String,
    format: Format,
    index: Index,
    manifests: Manifests,
    /// At least one, by their numbers.
    files: Vec<OpenFile>,
}

/// One zip.
#[derive(Debug)]
struct OpenFile {
    name: String,
    /// Which volume it is, where the payload was split.
    volume: Option<u32>,
    seal: Seal,
    directory: Directory,
    held: HeldContents,
    /// For every entry, in order.
    promised: Vec<Promised>,
}

/// What one of the formats says about a zip.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) index: Index,
    pub(super) seal: Seal,
    pub(super) manifests: Manifests,
    pub(super) held: HeldContents,
    /// For every entry, in order.
    pub(super) promised: Vec<Promised>,
}

/// What brings blobs in one zip, by the positions of the entries.
#[derive(Debug, Default)]
pub(super) struct HeldContents {
    /// Carried blobs.
    pub(super) blobs: HashMap<Digest, usize>,
    /// Entries that rebuild a blob.
    pub(super) deltas: HashMap<Digest, usize>,
    /// Parts of either, with their numbers.
    pub(super) parts: HashMap<(Digest, usize), usize>,
}

/// A content of one volume, for whoever has only that.
#[derive(Clone, Debug)]
pub struct ContentReader {
    /// Which volume it is in, where the payload was split.
    pub volume: Option<u32>,
    /// The entry's name.
    pub name: String,
    /// The blob that it brings, or a part of it.
    pub blob: Digest,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// Its bytes.
    pub content: BlobReader,
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
    /// What messages call the volume that it is in; `None` where the payload was not split.
    pub volume: Option<&'a str>,
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
    /// What messages call it.
    pub fn label(&self) -> String {
        match self.volume {
            None => self.name.to_owned(),
            Some(volume) => format!("{} of {volume}", self.name),
        }
    }

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
            Ok((format, directory, contents)) => {
                let Contents { index, seal, manifests, held, promised } = contents;
                let volume = index.volume;
                let file = OpenFile { name: name.clone(), volume, seal, directory, held, promised };
                Ok(Self { name, format, index, manifests, files: vec![file] })
            }
            Err(fault) => Err(Error::new(&name, fault)),
        }
    }

    /// Whether `volume` is of the same payload.
    ///
    /// # Errors
    /// [`Error`] if it is not.
    pub fn check_volume(&self, volume: &Self) -> Result<(), Error> {
        if volumes::belong_together(&self.index, &volume.index) {
            return Ok(());
        }
        Err(Error::new(&volume.name, Fault::OtherPayload { first: self.name.clone() }))
    }

    /// Volumes of one payload as what they hold together. One that comes twice counts once.
    ///
    /// # Errors
    /// [`Error`] if they are no volumes of one payload. None without any.
    pub fn join(volumes: Vec<Self>) -> Result<Option<Self>, Error> {
        let mut volumes = volumes.into_iter();
        let Some(mut all) = volumes.next() else { return Ok(None) };
        for volume in volumes {
            all.check_volume(&volume)?;
            for file in volume.files {
                if all.files.iter().all(|known| known.volume != file.volume) {
                    all.files.push(file);
                }
            }
        }
        all.files.sort_by_key(|file| file.volume);
        if let [_, _, ..] = all.files.as_slice() {
            let names: Vec<&str> = all.files.iter().map(|file| file.name.as_str()).collect();
            all.name = names.join("`, `");
        }
        Ok(Some(all))
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which tool's format it has.
    pub fn format(&self) -> Format {
        self.format
    }

    /// What it holds and expects; for docker-charon's format made from what is there. Of several volumes at
    /// hand, that of the first.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The digest of the index of each file, as it was read, and what messages call the file.
    pub fn indexes(&self) -> impl Iterator<Item = (&str, &Digest)> {
        self.files.iter().map(|file| (file.name.as_str(), &file.seal.digest))
    }

    /// The signature over the index, of the first file if there are several. It is not checked yet.
    pub fn signature(&self) -> Option<&Signature> {
        let first = self.files.first()?;
        first.seal.signature.as_ref().map(|(signature, _)| signature)
    }

    /// Whether `key` signed the index of each file, and with it the size and hash of every other entry. Those who
    /// want the content to be right as well read it ([`verify`](crate::verify::verify)).
    ///
    /// # Errors
    /// [`NotSigned`] says what is there instead.
    pub fn check_signature(&self, key: &PublicKey) -> Result<(), NotSigned> {
        self.files.iter().try_for_each(|file| file.seal.check(&file.name, self.format, key))
    }

    /// The length in bytes of all files.
    pub fn length_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.directory.length_bytes).sum()
    }

    /// The numbers of the volumes at hand; none where the payload was not split.
    pub fn volumes(&self) -> impl Iterator<Item = u32> {
        self.files.iter().filter_map(|file| file.volume)
    }

    /// The numbers of the volumes that are not at hand.
    pub fn missing_volumes(&self) -> Vec<u32> {
        let last = u32::try_from(self.index.volumes.len()).unwrap_or(u32::MAX);
        (1..=last).filter(|number| self.volumes().all(|there| there != *number)).collect()
    }

    /// The manifest with this digest, if the payload has it.
    pub fn manifest(&self, digest: &Digest) -> Option<&Manifest> {
        self.manifests.get(digest)
    }

    /// The bytes of the blob with this digest, if the payload carries it and all of them are at hand. They are
    /// not checked yet.
    pub fn blob(&self, digest: &Digest) -> Option<BlobReader> {
        let is_whole = |held: &HeldContents| held.blobs.get(digest).copied();
        self.whole(is_whole).or_else(|| self.parts_of(digest, Travelling::Raw))
    }

    /// The bytes of the entry that rebuilds the blob with this digest, if the payload has one and all of them are
    /// at hand. They are not checked yet.
    pub fn delta(&self, digest: &Digest) -> Option<BlobReader> {
        let is_whole = |held: &HeldContents| held.deltas.get(digest).copied();
        self.whole(is_whole).or_else(|| self.parts_of(digest, Travelling::Delta))
    }

    /// How many bytes the entry has that rebuilds the blob with this digest, in whatever volumes it is.
    pub fn delta_bytes(&self, digest: &Digest) -> Option<u64> {
        let listed = self.index.making.iter().flat_map(|making| &making.deltas);
        let listed = listed.filter(|made| made.blob == *digest).map(|made| made.size).next();
        listed.or_else(|| Some(self.delta(digest)?.size_bytes()))
    }

    fn whole(&self, position: impl Fn(&HeldContents) -> Option<usize>) -> Option<BlobReader> {
        self.files.iter().find_map(|file| Some(file.reader(position(&file.held)?)))
    }

    /// All parts of what brings a blob, if that is what they bring.
    fn parts_of(&self, digest: &Digest, travelling: Travelling) -> Option<BlobReader> {
        let part = |number| {
            let part = (digest.clone(), number);
            self.whole(|held| held.parts.get(&part).copied())
        };
        let first = part(1)?;
        let listed = self.index.blobs.iter().find(|blob| blob.digest == *digest)?;
        let size_bytes = match (&listed.travels, travelling) {
            (Travels::Carried, Travelling::Raw) => listed.size,
            (Travels::Delta { .. }, Travelling::Delta) => self.listed_bytes(digest),
            _ => return None,
        };
        let more = (2..).map_while(part);
        let joined = BlobReader::joined([first].into_iter().chain(more));
        (joined.size_bytes() == size_bytes).then_some(joined)
    }

    /// How many bytes the parts of a blob have that the volumes list.
    fn listed_bytes(&self, digest: &Digest) -> u64 {
        let contents = self.index.volumes.iter().flat_map(|volume| &volume.contents);
        let is_part =
            |name: &str| volumes::read_part_name(name).is_some_and(|(blob, _)| blob == *digest);
        contents.filter(|content| is_part(&content.name)).map(|content| content.size).sum()
    }

    /// What brings blobs in the volumes at hand, each entry by itself, in the order of the payload.
    pub fn contents(&self) -> Vec<ContentReader> {
        let mut contents = Vec::new();
        for file in &self.files {
            let HeldContents { blobs, deltas, parts } = &file.held;
            let whole = blobs.iter().chain(deltas);
            let parts = parts.iter().map(|((digest, _), position)| (digest, position));
            let mut positions: Vec<_> = whole.chain(parts).collect();
            positions.sort_by_key(|(_, position)| **position);
            for (blob, &position) in positions {
                let sha256 = file.promised[position].sha256.clone();
                contents.push(ContentReader {
                    volume: file.volume,
                    name: file.directory.entries[position].name.clone(),
                    blob: blob.clone(),
                    sha256: sha256.unwrap_or_default(),
                    content: file.reader(position),
                });
            }
        }
        contents
    }

    /// Every entry of every file, in the order of their directories.
    pub fn entries(&self) -> impl Iterator<Item = EntryReader<'_>> {
        self.files.iter().flat_map(|file| {
            file.directory.entries.iter().zip(&file.promised).map(|(entry, promised)| EntryReader {
                volume: file.volume.is_some().then_some(file.name.as_str()),
                name: &entry.name,
                crc32: entry.crc32,
                sha256: promised.sha256.as_deref(),
                digest: promised.digest.as_ref(),
                content: file.directory.reader(entry),
                has_descriptor: entry.has_descriptor,
            })
        })
    }
}

/// How a blob travels that comes in parts.
#[derive(Clone, Copy)]
enum Travelling {
    Raw,
    Delta,
}

impl OpenFile {
    fn reader(&self, position: usize) -> BlobReader {
        self.directory.reader(&self.directory.entries[position])
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
