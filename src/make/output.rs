//! Where a payload is written: a file under a temporary name, or a stream.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::disk;
use crate::failure::{Usage, hinted};
use crate::units::format_bytes;

/// The buffer in front of the file, for headers: blobs come in larger pieces, which pass it by.
const BUFFER_BYTES: usize = 16 * 1024;

/// Where the payload goes.
pub enum Destination {
    /// To this path, which is replaced only when the payload is complete. Until then the bytes are
    /// in `PATH.partial`.
    File(PathBuf),
    /// Into a stream, such as stdout.
    Stream(Box<dyn Write + Send>),
}

/// An output in use.
pub(super) enum Output {
    Partial { file: BufWriter<File>, partial: PathBuf, path: PathBuf },
    Direct(BufWriter<Box<dyn Write + Send>>),
}

impl Output {
    /// Opens the destination for a payload of `length_bytes` bytes.
    ///
    /// # Errors
    /// When the folder is missing, something is in the way, or the space does not suffice.
    pub(super) fn open(destination: Destination, length_bytes: u64) -> anyhow::Result<Self> {
        let path = match destination {
            Destination::Stream(stream) => {
                return Ok(Self::Direct(BufWriter::with_capacity(BUFFER_BYTES, stream)));
            }
            Destination::File(path) => path,
        };
        if is_special(&path)? {
            let file = OpenOptions::new()
                .write(true)
                .open(&path)
                .with_context(|| format!("cannot write to `{}`", path.display()))?;
            return Ok(Self::Direct(BufWriter::with_capacity(BUFFER_BYTES, Box::new(file))));
        }
        let partial = partial_name(&path);
        let file = create_partial(&partial)?;
        refuse_full_disk(&partial, length_bytes)?;
        Ok(Self::Partial { file: BufWriter::with_capacity(BUFFER_BYTES, file), partial, path })
    }

    /// Puts the complete payload in its place. A former payload is replaced only by one that is
    /// safely on the disk.
    pub(super) fn commit(self) -> anyhow::Result<()> {
        match self {
            Self::Direct(mut stream) => Ok(stream.flush()?),
            Self::Partial { file, partial, path } => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                if path.exists() {
                    file.sync_all()
                        .with_context(|| format!("cannot write `{}`", partial.display()))?;
                }
                std::fs::rename(&partial, &path).with_context(|| {
                    format!("cannot rename `{}` to `{}`", partial.display(), path.display())
                })
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Partial { file, .. } => file.write(bytes),
            Self::Direct(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Partial { file, .. } => file.flush(),
            Self::Direct(stream) => stream.flush(),
        }
    }
}

/// `NAME.partial` beside `NAME`.
fn partial_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// Whether `path` is there and is no file that could be replaced: a device or a pipe.
fn is_special(path: &Path) -> anyhow::Result<bool> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(Usage::new(format!(
            "expected a file to write the payload to, found the folder `{}`",
            path.display()
        ))
        .with_hint("name the file too, such as `-f FOLDER/payload.zip`")
        .into()),
        Ok(metadata) => Ok(!metadata.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot look at `{}`", path.display())),
    }
}

fn create_partial(partial: &Path) -> anyhow::Result<File> {
    let folder = partial.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(hinted(
            format!("the folder `{}` for the payload is not there", folder.display()),
            "create it first, or write elsewhere with `-f`",
        ));
    }
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
    if file.metadata().with_context(cannot_write)?.len() > 0 {
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

fn refuse_full_disk(partial: &Path, length_bytes: u64) -> anyhow::Result<()> {
    let folder = partial.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    disk::refuse_full(
        folder,
        length_bytes,
        &format!("the payload needs {}", format_bytes(length_bytes)),
        "free some space, write elsewhere with `-f`, or carry fewer images",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, length_bytes: u64) -> anyhow::Result<Output> {
        Output::open(Destination::File(path.to_owned()), length_bytes)
    }

    #[test]
    fn the_former_payload_stands_until_the_new_one_is_complete() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("payload.zip");
        std::fs::write(&path, "former").expect("written");
        let mut output = open(&path, 3).expect("an output");
        output.write_all(b"new").expect("written");
        output.flush().expect("flushed");
        assert_eq!(std::fs::read(&path).expect("read"), b"former");
        output.commit().expect("committed");
        assert_eq!(std::fs::read(&path).expect("read"), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn what_a_killed_run_left_is_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("payload.zip");
        std::fs::write(partial_name(&path), "left by a killed run").expect("written");
        let mut output = open(&path, 3).expect("an output");
        output.write_all(b"new").expect("written");
        output.commit().expect("committed");
        assert_eq!(std::fs::read(&path).expect("read"), b"new");
    }

    #[test]
    fn an_output_that_cannot_work_is_refused_before_anything_is_fetched() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = folder.path().join("missing").join("payload.zip");
        for (path, length_bytes, part) in [
            (missing.as_path(), 1, "is not there"),
            (folder.path(), 1, "found the folder"),
            (&folder.path().join("huge.zip"), u64::MAX, "are free in"),
        ] {
            let error = open(path, length_bytes).err().expect("an error").to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn two_runs_do_not_write_one_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("payload.zip");
        let first = open(&path, 1).expect("an output");
        let error = open(&path, 1).err().expect("an error").to_string();
        assert!(error.contains("another run is writing"), "{error}");
        drop(first);
    }
}
