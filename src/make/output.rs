//! Where a payload is written: files under temporary names, or a stream.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;

use crate::digest::{Algorithm, Hasher};
use crate::disk;
use crate::failure::{Usage, hinted};
use crate::payload::Keep;
use crate::replace::Replacement;
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

impl Destination {
    /// The file whose writing can be gone on with by a later run.
    pub(super) fn resumable(&self) -> anyhow::Result<Option<&Path>> {
        match self {
            Self::File(path) if !is_special(path)? => {
                refuse_missing_folder(path)?;
                Ok(Some(path))
            }
            Self::File(_) | Self::Stream(_) => Ok(None),
        }
    }
}

/// What is written to the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One payload.
    Whole,
    /// `NAME.001.zip`, `NAME.002.zip` …, and `NAME.sha256` beside them.
    Volumes,
    /// One volume of several, from 0 on.
    Only(usize),
}

/// What becomes of bytes that a former run left under the temporary names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FormerBytes {
    /// They are written over.
    Discard,
    /// They stay, as far as they turn out right.
    Keep,
}

/// Where the volumes of a payload go, or the payload itself where it is not split.
pub(super) struct Outputs {
    places: Places,
    lengths: Vec<u64>,
    shape: Shape,
    former: FormerBytes,
}

enum Places {
    Stream(Mutex<Option<Box<dyn Write + Send>>>),
    /// For each volume; `None` for those that are not wanted.
    Files(Vec<Option<Place>>),
}

/// A file, and what it is called until it is complete.
#[derive(Clone, Debug)]
struct Place {
    partial: PathBuf,
    path: PathBuf,
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
    place: Option<Place>,
    sha256: Option<String>,
}

impl Outputs {
    /// Looks at the destination for volumes of these `lengths` in bytes.
    ///
    /// # Errors
    /// When the folder is missing, something is in the way, or the space does not suffice.
    pub(super) fn new(
        destination: Destination,
        lengths: &[u64],
        shape: Shape,
        former: FormerBytes,
    ) -> anyhow::Result<Self> {
        let path = match destination {
            Destination::Stream(stream) => {
                return Ok(Self::stream(stream, lengths, shape));
            }
            Destination::File(path) => path,
        };
        if is_special(&path)? {
            let file = OpenOptions::new()
                .write(true)
                .open(&path)
                .with_context(|| format!("cannot write to `{}`", path.display()))?;
            return Ok(Self::stream(Box::new(file), lengths, shape));
        }
        let place = |path: PathBuf| Place { partial: with_suffix(&path, ".partial"), path };
        let places = (0..lengths.len()).map(|volume| match shape {
            Shape::Whole => Some(place(path.clone())),
            Shape::Volumes => Some(place(volume_path(&path, volume))),
            Shape::Only(wanted) => (wanted == volume).then(|| place(path.clone())),
        });
        let places: Vec<_> = places.collect();
        for place in places.iter().flatten() {
            is_special(&place.path)?;
        }
        let outputs =
            Self { places: Places::Files(places), lengths: lengths.to_vec(), shape, former };
        outputs.refuse_bad_folder(&path)?;
        Ok(outputs)
    }

    fn stream(stream: Box<dyn Write + Send>, lengths: &[u64], shape: Shape) -> Self {
        let places = Places::Stream(Mutex::new(Some(stream)));
        Self { places, lengths: lengths.to_vec(), shape, former: FormerBytes::Discard }
    }

    /// Whether a volume goes anywhere.
    pub(super) fn wants(&self, volume: usize) -> bool {
        match &self.places {
            Places::Stream(_) => true,
            Places::Files(places) => places.get(volume).is_some_and(Option::is_some),
        }
    }

    /// Opens a volume for writing, from its beginning on.
    ///
    /// # Errors
    /// When another run writes it.
    pub(super) fn open(&self, volume: usize) -> anyhow::Result<Output> {
        let place = match &self.places {
            Places::Stream(stream) => {
                let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
                let stream = stream.context("a stream holds one payload only")?;
                let sink = Sink::Stream(BufWriter::with_capacity(BUFFER_BYTES, stream));
                return Ok(Output { sink, place: None, written_bytes: 0, hasher: None });
            }
            Places::Files(places) => places.get(volume).cloned().flatten(),
        };
        let sink = match &place {
            None => Sink::Nowhere,
            Some(place) => {
                let file = create_partial(&place.partial, self.former)?;
                Sink::File(BufWriter::with_capacity(BUFFER_BYTES, file))
            }
        };
        let is_listed = self.shape != Shape::Whole && place.is_some();
        let hasher = is_listed.then(|| Hasher::new(Algorithm::Sha256));
        Ok(Output { sink, place, written_bytes: 0, hasher })
    }

    /// What a former run left of a volume: the file, and how many bytes of it may be of use.
    pub(super) fn former(&self, volume: usize) -> Option<(Arc<File>, u64)> {
        let (Places::Files(places), FormerBytes::Keep) = (&self.places, self.former) else {
            return None;
        };
        let place = places.get(volume)?.as_ref()?;
        let file = File::open(&place.partial).ok()?;
        let bytes = file.metadata().ok()?.len().min(self.lengths[volume]);
        Some((Arc::new(file), bytes))
    }

    /// Drops what a former run wrote from the byte `at` of a volume on.
    ///
    /// # Errors
    /// When the files cannot be changed.
    pub(super) fn cut(&self, volume: usize, at: u64) -> anyhow::Result<()> {
        let Places::Files(places) = &self.places else { return Ok(()) };
        for (number, place) in places.iter().enumerate().skip(volume) {
            let Some(Place { partial, .. }) = place else { continue };
            let file = match OpenOptions::new().write(true).open(partial) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file,
            };
            let length = if number == volume { at } else { 0 };
            file.and_then(|file| file.set_len(length.min(file.metadata()?.len())))
                .with_context(|| format!("cannot write `{}`", partial.display()))?;
        }
        Ok(())
    }

    /// Puts complete volumes in their places. Former ones are replaced only by those that are safely on
    /// the disk. `just_before` is called when all of them are.
    ///
    /// # Errors
    /// When a file cannot be renamed, or the list of hashes not be written.
    pub(super) fn commit(
        &self,
        written: &[Written],
        just_before: impl FnOnce(),
    ) -> anyhow::Result<()> {
        let places = || written.iter().filter_map(|written| written.place.as_ref());
        if self.shape == Shape::Volumes || places().any(|place| place.path.exists()) {
            for Place { partial, .. } in places() {
                let file = OpenOptions::new().write(true).open(partial);
                file.and_then(|file| file.sync_all())
                    .with_context(|| format!("cannot write `{}`", partial.display()))?;
            }
        }
        let list = self.list(written)?;
        just_before();
        for Place { partial, path } in places() {
            std::fs::rename(partial, path).with_context(|| {
                format!("cannot rename `{}` to `{}`", partial.display(), path.display())
            })?;
        }
        match list {
            Some((file, text)) => file.commit(text.as_bytes()),
            None => Ok(()),
        }
    }

    /// The list of the volumes' hashes.
    fn list(&self, written: &[Written]) -> anyhow::Result<Option<(Replacement, String)>> {
        let first = written.first().and_then(|written| written.place.as_ref());
        let (Shape::Volumes, Some(first)) = (self.shape, first) else { return Ok(None) };
        let mut text = String::new();
        for written in written {
            if let (Some(place), Some(sha256)) = (&written.place, &written.sha256) {
                let name = place.path.file_name().unwrap_or_default().to_string_lossy();
                text.push_str(&format!("{sha256}  {name}\n"));
            }
        }
        Ok(Some((Replacement::begin(&list_path(&first.path))?, text)))
    }

    /// The complete files, in order.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        match &self.places {
            Places::Stream(_) => Vec::new(),
            Places::Files(places) => {
                places.iter().flatten().map(|place| place.path.clone()).collect()
            }
        }
    }

    fn refuse_bad_folder(&self, path: &Path) -> anyhow::Result<()> {
        refuse_missing_folder(path)?;
        let Places::Files(places) = &self.places else { return Ok(()) };
        let wanted = self.lengths.iter().zip(places).filter(|(_, place)| place.is_some());
        let length_bytes = wanted.fold(0_u64, |sum, (length, _)| sum.saturating_add(*length));
        let there = (0..self.lengths.len()).filter_map(|volume| self.former(volume));
        let there_bytes: u64 = there.map(|(_, bytes)| bytes).sum();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        disk::refuse_full(
            folder.unwrap_or_else(|| Path::new(".")),
            length_bytes.saturating_sub(there_bytes),
            &format!("the payload needs {}", format_bytes(length_bytes)),
            "free some space, write elsewhere with `-f`, or carry fewer images",
        )
    }
}

impl Output {
    /// Ends the volume; it is whole now under its temporary name.
    pub(super) fn finish(self) -> anyhow::Result<Written> {
        let cannot_write = |path: &Path| format!("cannot write `{}`", path.display());
        match (self.sink, &self.place) {
            (Sink::File(file), Some(Place { partial, .. })) => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error);
                file.and_then(|file| {
                    // A former run may have gone further.
                    let is_longer = file.metadata()?.len() > self.written_bytes;
                    if is_longer { file.set_len(self.written_bytes) } else { Ok(()) }
                })
                .with_context(|| cannot_write(partial))?;
            }
            (Sink::Stream(mut stream), _) => stream.flush()?,
            _ => {}
        }
        let sha256 = self.hasher.map(|hasher| hasher.finish().hex().to_owned());
        Ok(Written { place: self.place, sha256 })
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

fn refuse_missing_folder(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        None => Ok(()),
        Some(folder) => Err(hinted(
            format!("the folder `{}` for the payload is not there", folder.display()),
            "create it first, or write elsewhere with `-f`",
        )),
    }
}

/// `NAME` with something behind it.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// `NAME.001.zip` for `NAME.zip`; `volume` counts from 0 on.
pub(super) fn volume_path(path: &Path, volume: usize) -> PathBuf {
    with_suffix(&without_zip(path), &format!(".{:03}.zip", volume + 1))
}

/// `NAME.sha256` for the volume `NAME.001.zip`.
fn list_path(first: &Path) -> PathBuf {
    without_zip(first).with_extension("sha256")
}

fn without_zip(path: &Path) -> PathBuf {
    let is_zip = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip"));
    if is_zip { path.with_extension("") } else { path.to_owned() }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(path: &Path, length_bytes: u64, former: FormerBytes) -> anyhow::Result<Outputs> {
        Outputs::new(Destination::File(path.to_owned()), &[length_bytes], Shape::Whole, former)
    }

    fn open(path: &Path, length_bytes: u64) -> anyhow::Result<(Outputs, Output)> {
        let outputs = outputs(path, length_bytes, FormerBytes::Discard)?;
        let output = outputs.open(0)?;
        Ok((outputs, output))
    }

    fn commit(outputs: &Outputs, output: Output) {
        let written = [output.finish().expect("finished")];
        outputs.commit(&written, || ()).expect("committed");
    }

    #[test]
    fn the_former_payload_stands_until_the_new_one_is_complete() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("payload.zip");
        std::fs::write(&path, "former").expect("written");
        let (outputs, mut output) = open(&path, 3).expect("an output");
        output.write_all(b"new").expect("written");
        output.flush().expect("flushed");
        assert_eq!(std::fs::read(&path).expect("read"), b"former");
        commit(&outputs, output);
        assert_eq!(std::fs::read(&path).expect("read"), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn what_a_killed_run_left_is_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("payload.zip");
        std::fs::write(with_suffix(&path, ".partial"), "left by a killed run").expect("written");
        let (outputs, mut output) = open(&path, 3).expect("an output");
        output.write_all(b"new").expect("written");
        commit(&outputs, output);
        assert_eq!(std::fs::read(&path).expect("read"), b"new");
    }

    #[test]
    fn what_a_killed_run_left_is_kept_where_it_serves() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("payload.zip");
        std::fs::write(with_suffix(&path, ".partial"), "keep this, not that").expect("written");
        let outputs = outputs(&path, 10, FormerBytes::Keep).expect("outputs");
        assert_eq!(outputs.former(0).expect("a former one").1, 10);
        let mut output = outputs.open(0).expect("an output");
        output.keep(b"keep ").expect("kept");
        output.write_all(b"these").expect("written");
        commit(&outputs, output);
        assert_eq!(std::fs::read(&path).expect("read"), b"keep these");
    }

    #[test]
    fn volumes_have_names_of_their_own_and_a_list() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.b.zip");
        let destination = Destination::File(path);
        let outputs = Outputs::new(destination, &[1, 1], Shape::Volumes, FormerBytes::Discard);
        let outputs = outputs.expect("outputs");
        let written = [0, 1].map(|volume| {
            let mut output = outputs.open(volume).expect("an output");
            output.write_all(if volume == 0 { b"x" } else { b"y" }).expect("written");
            output.finish().expect("finished")
        });
        outputs.commit(&written, || ()).expect("committed");
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect(name);
        assert_eq!([read("a.b.001.zip"), read("a.b.002.zip")], ["x", "y"]);
        let hashes = [b"x", b"y"].map(|bytes| crate::digest::Digest::of(bytes));
        let list = format!("{}  a.b.001.zip\n{}  a.b.002.zip\n", hashes[0].hex(), hashes[1].hex());
        assert_eq!(read("a.b.sha256"), list);
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
