//! One file of a payload on its way: written under a temporary name from its beginning on, over or behind
//! what a former run left.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::digest::{Algorithm, Hasher};
use crate::failure::hinted;
use crate::payload::Keep;

/// The buffer in front of the file, for headers: blobs come in larger pieces, which pass it by.
const BUFFER_BYTES: usize = 16 * 1024;

/// What becomes of bytes that a former run left under the temporary names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FormerBytes {
    /// They are written over.
    Discard,
    /// They stay, as far as they turn out right.
    Keep,
}

/// Whether a file is hashed as a whole, for a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    Yes,
    No,
}

/// A file, and what it is called until it is complete.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) partial: PathBuf,
    pub(super) path: PathBuf,
}

/// One volume on its way.
pub(super) struct Output {
    sink: Sink,
    place: Option<Place>,
    written_bytes: u64,
    /// Of volumes, whose hashes are listed.
    hasher: Option<Hasher>,
}

enum Sink {
    File(BufWriter<File>),
    Stream(BufWriter<Box<dyn Write + Send>>),
    Nowhere,
}

/// A volume that is complete under its temporary name.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) place: Option<Place>,
    pub(super) sha256: Option<String>,
    /// Nobody else writes it until it has its name.
    file: Option<File>,
}

impl Written {
    /// Has it on the disk.
    pub(super) fn sync(&self) -> anyhow::Result<()> {
        let (Some(file), Some(Place { partial, .. })) = (&self.file, &self.place) else {
            return Ok(());
        };
        file.sync_all().with_context(|| format!("cannot write `{}`", partial.display()))
    }
}

impl Output {
    /// One that is streamed.
    pub(super) fn into_stream(stream: Box<dyn Write + Send>) -> Self {
        Self::new(Sink::Stream(BufWriter::with_capacity(BUFFER_BYTES, stream)), None, Listing::No)
    }

    /// One that nobody wants.
    pub(super) fn nowhere() -> Self {
        Self::new(Sink::Nowhere, None, Listing::No)
    }

    /// One that goes into a file, under its temporary name.
    ///
    /// # Errors
    /// When another run writes it.
    pub(super) fn into_file(
        place: Place,
        former: FormerBytes,
        listing: Listing,
    ) -> anyhow::Result<Self> {
        let file = create_partial(&place.partial, former)?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(Self::new(Sink::File(file), Some(place), listing))
    }

    fn new(sink: Sink, place: Option<Place>, listing: Listing) -> Self {
        let hasher = (listing == Listing::Yes).then(|| Hasher::new(Algorithm::Sha256));
        Self { sink, place, written_bytes: 0, hasher }
    }

    /// Ends the volume; it is whole now under its temporary name.
    pub(super) fn finish(self) -> anyhow::Result<Written> {
        let cannot_write = |path: &Path| format!("cannot write `{}`", path.display());
        let file = match (self.sink, &self.place) {
            (Sink::File(file), Some(Place { partial, .. })) => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error);
                let file = file.and_then(|file| {
                    // A former run may have gone further.
                    if file.metadata()?.len() > self.written_bytes {
                        file.set_len(self.written_bytes)?;
                    }
                    Ok(file)
                });
                Some(file.with_context(|| cannot_write(partial))?)
            }
            (Sink::Stream(mut stream), _) => {
                stream.flush()?;
                None
            }
            _ => None,
        };
        let sha256 = self.hasher.map(|hasher| hasher.finish().hex().to_owned());
        Ok(Written { place: self.place, sha256, file })
    }

    fn count(&mut self, bytes: &[u8]) {
        self.written_bytes += bytes.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.sink {
            Sink::File(file) => file.write(bytes)?,
            Sink::Stream(stream) => stream.write(bytes)?,
            Sink::Nowhere => bytes.len(),
        };
        self.count(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::File(file) => file.flush(),
            Sink::Stream(stream) => stream.flush(),
            Sink::Nowhere => Ok(()),
        }
    }
}

impl Keep for Output {
    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.sink {
            Sink::File(file) => {
                let distance = i64::try_from(bytes.len()).map_err(io::Error::other)?;
                file.seek(SeekFrom::Current(distance))?;
            }
            Sink::Stream(stream) => stream.write_all(bytes)?,
            Sink::Nowhere => {}
        }
        self.count(bytes);
        Ok(())
    }
}

fn create_partial(partial: &Path, former: FormerBytes) -> anyhow::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(partial)
        .with_context(|| format!("cannot create `{}`", partial.display()))?;
    match file.try_lock() {
        // Some network file systems have no locks; then there is only the user's care.
        Ok(()) | Err(TryLockError::Error(_)) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(hinted(
                format!("another run is writing `{}`", partial.display()),
                "wait for it, or write under another name with `-f`",
            ));
        }
    }
    refuse_renamed(&file, partial)?;
    let cannot_write = || format!("cannot write `{}`", partial.display());
    // ext4 starts writing a file back when it is closed if it was ever cut to nothing.
    if former == FormerBytes::Discard && file.metadata().with_context(cannot_write)?.len() > 0 {
        file.set_len(0).with_context(cannot_write)?;
    }
    Ok(file)
}

/// Between opening and locking, another run may have put the file in place as its payload.
#[cfg(unix)]
fn refuse_renamed(file: &File, partial: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let (opened, named) = (file.metadata()?, std::fs::metadata(partial));
    if named.is_ok_and(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino())) {
        return Ok(());
    }
    Err(hinted(
        format!("another run has just finished with `{}`", partial.display()),
        "look at what it wrote, and run this again",
    ))
}

/// Elsewhere a file in use cannot be renamed.
#[cfg(not(unix))]
fn refuse_renamed(_file: &File, _partial: &Path) -> anyhow::Result<()> {
    Ok(())
}
