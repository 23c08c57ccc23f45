//! A tar as a tree of files, by the tar crate.
//!
//! Creates files, hard links to files of the same tree, and folders, each new and none through a link, as there
//! is none. Writes down everything else, and keeps its content beside the tree.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Write as _};
use std::path::{Path, PathBuf};

use tar::{Archive, Entry, Header};

use super::folder::{Folder, odd_of, tree_of};
use super::meter::{Limit, Meter, plain_max_bytes};
use super::name::{self, Why};
use super::record::{PathLine, Record};
use crate::changeset::Kind;
use crate::digest::{Algorithm, Digest, Hasher, to_hex};
use crate::unpack::plain_reader;

const BLOCK_BYTES: usize = 512;
const BUFFER_BYTES: usize = 256 << 10;
/// How many hashes of linked files are kept: some 400 KiB.
const LINKED_MAX: usize = 4096;
/// What decides how a tar is read on: a second value would be read by some and not by others.
const PAX_ONCE: [&[u8]; 3] = [b"path", b"linkpath", b"size"];

/// Why a layer did not become a tree.
#[derive(Debug)]
pub(super) enum Stop {
    /// It does not begin as a tar.
    NoTar,
    /// It begins as a tar and does not go on as one that all readers agree on.
    Broken(String),
    /// It has more plain bytes than any layer of its size.
    TooLarge,
    /// The folder cannot be written.
    Disk(anyhow::Error),
}

/// What a tree has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) paths: u64,
    pub(super) not_created: u64,
    pub(super) bytes: u64,
}

/// A tree that is being written.
pub(super) struct Tree<'a> {
    folder: &'a mut Folder,
    record: &'a mut Record,
    name: String,
    odd_name: String,
    odd: u64,
    size: u64,
    spent: Meter,
    linked: HashMap<PathBuf, Content>,
    buffer: Vec<u8>,
    pub(super) counts: Counts,
}

/// The content of a file.
#[derive(Clone, Debug)]
struct Content {
    size: u64,
    sha256: String,
}

/// A path as its header has it.
struct Found {
    name: Vec<u8>,
    kind: Kind,
    mode: u32,
    target: Option<Vec<u8>>,
    size: u64,
}

impl<'a> Tree<'a> {
    /// An empty tree for the layer `digest` of `size` bytes.
    pub(super) fn new(
        folder: &'a mut Folder,
        record: &'a mut Record,
        digest: &Digest,
        size: u64,
    ) -> Self {
        Self {
            folder,
            record,
            name: tree_of(digest),
            odd_name: odd_of(digest),
            odd: 0,
            size,
            spent: Meter::new(plain_max_bytes(size)),
            linked: HashMap::new(),
            buffer: vec![0; BUFFER_BYTES],
            counts: Counts::default(),
        }
    }

    /// Writes all of the layer `raw`, packed as it may be.
    pub(super) fn fill(&mut self, raw: impl Read + Send) -> Result<(), Stop> {
        let meter = Meter::new(plain_max_bytes(self.size));
        let stop = |error: &io::Error| match meter.hit() {
            Some(Limit::Plain) => Stop::TooLarge,
            Some(Limit::Between) => Stop::Broken("a header without end".to_owned()),
            None => Stop::Broken(error.to_string()),
        };
        let mut plain = meter.read(plain_reader(raw).map_err(|error| stop(&error))?);
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        let first = plain.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block);
        first.map_err(|error| stop(&error))?;
        if !is_header(&block) {
            return Err(Stop::NoTar);
        }
        fs::create_dir(self.folder.path().join(&self.name)).map_err(disk)?;
        let mut archive = Archive::new(Cursor::new(block).chain(plain));
        let mut entries = archive.entries().map_err(|error| stop(&error))?;
        loop {
            meter.between_files();
            let next = entries.next();
            meter.in_file();
            let Some(next) = next else { break };
            let mut entry = next.map_err(|error| stop(&error))?;
            let found = look(&mut entry)?;
            self.counts.paths += 1;
            self.put(&found, &mut entry).map_err(|put| match (put, meter.hit()) {
                (Stop::Broken(_), Some(_)) => Stop::TooLarge,
                (put, _) => put,
            })?;
            io::copy(&mut entry, &mut io::sink()).map_err(|error| stop(&error))?;
        }
        self.behind(archive.into_inner()).map_err(|behind| match (behind, meter.hit()) {
            (Stop::Broken(_), Some(_)) => Stop::TooLarge,
            (behind, _) => behind,
        })
    }

    fn put(&mut self, found: &Found, content: &mut impl Read) -> Result<(), Stop> {
        let place = name::place(&found.name);
        let (created, content) = match (found.kind, place) {
            (Kind::Folder, Ok(path)) => (self.put_folder(&path)?, None),
            (Kind::HardLink, Ok(path)) => match self.put_link(&path, found.target.as_deref())? {
                Ok(content) => (Ok(()), Some((content, None))),
                Err(why) => (Err(why), None),
            },
            (Kind::File, Ok(path)) => match self.create(&path)? {
                Ok(file) => {
                    let content = self.copy(content, file)?;
                    self.sum(&content, &path)?;
                    (Ok(()), Some((content, None)))
                }
                Err(why) => (Err(why), self.put_odd(content)?),
            },
            (Kind::File, Err(why)) => (Err(why), self.put_odd(content)?),
            (Kind::Folder | Kind::HardLink, Err(why)) => (Err(why), None),
            // Links and devices have no content; what nobody knows may have some.
            _ => (Err(Why::Kind), self.put_odd(content)?),
        };
        self.write_down(found, created.err(), content.as_ref())
    }

    fn put_folder(&self, path: &Path) -> Result<Result<(), Why>, Stop> {
        self.make(path, |path| match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            created => created,
        })
    }

    fn create(&self, path: &Path) -> Result<Result<File, Why>, Stop> {
        if path.as_os_str().is_empty() {
            return Ok(Err(Why::NameTaken));
        }
        self.make(path, |path| File::options().write(true).create_new(true).open(path))
    }

    /// A second name for a file of this tree. Its content is that of the first.
    fn put_link(
        &mut self,
        path: &Path,
        target: Option<&[u8]>,
    ) -> Result<Result<Content, Why>, Stop> {
        let target = match name::place(target.unwrap_or_default()) {
            Ok(target) => target,
            Err(why) => return Ok(Err(why)),
        };
        let file = self.root().join(&target);
        if !fs::symlink_metadata(&file).is_ok_and(|metadata| metadata.is_file()) {
            return Ok(Err(Why::TargetMissing));
        }
        if let Err(why) = self.make(path, |path| fs::hard_link(&file, path))? {
            return Ok(Err(why));
        }
        let content = if let Some(content) = self.linked.get(&target) {
            content.clone()
        } else {
            let content = self.hash(&file)?;
            if self.linked.len() == LINKED_MAX {
                self.linked.clear();
            }
            self.linked.insert(target, content.clone());
            content
        };
        self.sum(&content, path)?;
        Ok(Ok(content))
    }

    /// Makes something at `path` in the tree, with the folders that lead there.
    fn make<T>(
        &self,
        path: &Path,
        create: impl Fn(&Path) -> io::Result<T>,
    ) -> Result<Result<T, Why>, Stop> {
        let path = self.root().join(path);
        let made = match (create(&path), path.parent()) {
            (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(parent).and_then(|()| create(&path))
            }
            (made, _) => made,
        };
        match made {
            Ok(made) => Ok(Ok(made)),
            Err(error) => name::of_error(&error).map(Err).ok_or_else(|| disk(error)),
        }
    }

    /// Keeps content that has no place in the tree, unless there is none.
    fn put_odd(
        &mut self,
        content: &mut impl Read,
    ) -> Result<Option<(Content, Option<String>)>, Stop> {
        let mut first = [0];
        if read(content, &mut first)? == 0 {
            return Ok(None);
        }
        let folder = self.folder.path().join(&self.odd_name);
        if self.odd == 0 {
            fs::create_dir(&folder).map_err(disk)?;
        }
        self.odd += 1;
        let file = File::create_new(folder.join(self.odd.to_string())).map_err(disk)?;
        let content = self.copy(&mut first.chain(content), file)?;
        let name = format!("{}/{}", self.odd_name, self.odd);
        self.record.sum(&content.sha256, name.as_bytes()).map_err(disk)?;
        Ok(Some((content, Some(name))))
    }

    fn copy(&mut self, content: &mut impl Read, mut file: File) -> Result<Content, Stop> {
        let (mut hasher, mut size) = (Hasher::new(Algorithm::Sha256), 0);
        loop {
            let count = read(content, &mut self.buffer)?;
            if count == 0 {
                break;
            }
            // A sparse file has bytes that stand nowhere in the tar.
            self.spent.take(count as u64).map_err(|_| Stop::TooLarge)?;
            hasher.update(&self.buffer[..count]);
            file.write_all(&self.buffer[..count]).map_err(disk)?;
            self.folder.wrote(count as u64).map_err(Stop::Disk)?;
            size += count as u64;
        }
        self.counts.bytes += size;
        Ok(Content { size, sha256: hasher.finish().hex().to_owned() })
    }

    /// Reads a file of the tree again. That counts too: a tar can name as many links as it has blocks.
    fn hash(&mut self, path: &Path) -> Result<Content, Stop> {
        let mut file = self.spent.read(File::open(path).map_err(disk)?);
        let mut hasher = Hasher::new(Algorithm::Sha256);
        match io::copy(&mut file, &mut hasher) {
            Ok(size) => Ok(Content { size, sha256: hasher.finish().hex().to_owned() }),
            Err(_) if self.spent.hit().is_some() => Err(Stop::TooLarge),
            Err(error) => Err(disk(error)),
        }
    }

    /// Readers that look on behind the end of a tar find nothing there, or it is kept.
    fn behind(&mut self, mut rest: impl Read) -> Result<(), Stop> {
        let mut buffer = vec![0; BLOCK_BYTES];
        loop {
            let count = read(&mut rest, &mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            if let Some(at) = buffer[..count].iter().position(|byte| *byte != 0) {
                let mut content = buffer[at..count].chain(rest);
                let odd = self.put_odd(&mut content)?;
                let size = odd.as_ref().map_or(0, |(content, _)| content.size);
                let found =
                    Found { name: Vec::new(), kind: Kind::Other, mode: 0, target: None, size };
                self.counts.paths += 1;
                return self.write_down(&found, Some(Why::BehindTheEnd), odd.as_ref());
            }
        }
    }

    fn write_down(
        &mut self,
        found: &Found,
        not_created: Option<Why>,
        content: Option<&(Content, Option<String>)>,
    ) -> Result<(), Stop> {
        self.counts.not_created += u64::from(not_created.is_some());
        let path = String::from_utf8_lossy(&found.name);
        let line = PathLine {
            path_bytes: matches!(path, Cow::Owned(_)).then(|| to_hex(&found.name)),
            path: &path,
            kind: found.kind,
            mode: format!("{:04o}", found.mode & 0o7777),
            size: content
                .map(|(content, _)| content.size)
                .or((found.kind == Kind::File).then_some(found.size)),
            sha256: content.map(|(content, _)| content.sha256.as_str()),
            target: found
                .target
                .as_ref()
                .map(|target| String::from_utf8_lossy(target).into_owned()),
            not_created,
            at: content.and_then(|(_, at)| at.as_deref()),
        };
        self.record.path(&line).map_err(disk)
    }

    fn sum(&mut self, content: &Content, path: &Path) -> Result<(), Stop> {
        let name = [self.name.as_bytes(), b"/", &bytes_of(path)].concat();
        self.record.sum(&content.sha256, &name).map_err(disk)
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }
}

/// Removes the tree of a layer, and what stands beside it.
pub(super) fn remove(folder: &Path, digest: &Digest) -> io::Result<()> {
    for name in [tree_of(digest), odd_of(digest)] {
        match fs::remove_dir_all(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Reads the header of an entry. Refuses what one reader takes for content and another for the next header.
fn look(entry: &mut Entry<'_, impl Read>) -> Result<Found, Stop> {
    let broken = |error: io::Error| Stop::Broken(error.to_string());
    let mut seen = [false; PAX_ONCE.len()];
    // Of a header that is an entry of its own, this would read all of the content into memory.
    let has_own = entry.header().entry_type().is_pax_global_extensions()
        || entry.header().entry_type().is_pax_local_extensions();
    let extensions = if has_own { None } else { entry.pax_extensions().map_err(broken)? };
    for extension in extensions.into_iter().flatten() {
        let key = extension.map_err(broken)?.key_bytes();
        if key.starts_with(b"GNU.sparse.") {
            return Err(Stop::Broken(
                "a sparse file in the pax form, which is not expanded".into(),
            ));
        }
        if let Some(at) = PAX_ONCE.iter().position(|once| *once == key)
            && std::mem::replace(&mut seen[at], true)
        {
            return Err(Stop::Broken("a pax header that says one thing twice".into()));
        }
    }
    let name = entry.path_bytes().into_owned();
    let kind = Kind::of(entry.header(), &name);
    let size = entry.size();
    if size > 0 && !matches!(kind, Kind::File | Kind::Other) {
        let name = String::from_utf8_lossy(&name).into_owned();
        return Err(Stop::Broken(format!("content of `{name}`, which is no file")));
    }
    let target = entry.link_name_bytes().map(Cow::into_owned);
    let target = target.filter(|_| matches!(kind, Kind::HardLink | Kind::SymbolicLink));
    Ok(Found { name, kind, mode: entry.header().mode().unwrap_or_default(), target, size })
}

/// Whether a tar may begin so: with a header whose checksum is right, or with its end.
fn is_header(block: &[u8]) -> bool {
    if block.len() < BLOCK_BYTES {
        return false;
    }
    let sum = block.iter().enumerate().map(|(at, byte)| match at {
        148..156 => u32::from(b' '),
        _ => u32::from(*byte),
    });
    let is_end = || block.iter().all(|byte| *byte == 0);
    Header::from_byte_slice(block).cksum().is_ok_and(|found| found == sum.sum::<u32>()) || is_end()
}

fn read(content: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Stop> {
    loop {
        match content.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read.map_err(|error| Stop::Broken(error.to_string())),
        }
    }
}

fn disk(error: io::Error) -> Stop {
    Stop::Disk(anyhow::Error::new(error).context("cannot write what a layer has"))
}

#[cfg(unix)]
fn bytes_of(path: &Path) -> Cow<'_, [u8]> {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).into()
}

#[cfg(not(unix))]
fn bytes_of(path: &Path) -> Cow<'_, [u8]> {
    path.to_string_lossy().replace('\\', "/").into_bytes().into()
}
