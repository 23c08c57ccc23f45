//! Where a payload is written, in all its volumes: files under temporary names, or a stream.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;

use crate::disk;
use crate::failure::{Usage, hinted};
use crate::replace::Replacement;
use crate::units::format_bytes;

use super::output::{FormerBytes, Listing, Output, Place, Written};

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
            if shape == Shape::Volumes {
                let message =
                    format!("volumes cannot go to `{}`, which is no file", path.display());
                return Err(Usage::new(message)
                    .with_hint("name a file with `-f payload.zip`")
                    .into());
            }
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
                return Ok(Output::into_stream(stream));
            }
            Places::Files(places) => places.get(volume).cloned().flatten(),
        };
        let Some(place) = place else { return Ok(Output::nowhere()) };
        let listing = if self.shape == Shape::Whole { Listing::No } else { Listing::Yes };
        Output::into_file(place, self.former, listing)
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
            written.iter().try_for_each(Written::sync)?;
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
                text.extend([sha256, "  ", &*name, "\n"]);
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

    /// Volumes of a former payload that had more of them: they lie beside the new ones and are none of theirs.
    pub(super) fn left_over(&self) -> Vec<PathBuf> {
        let paths = self.paths();
        let (Shape::Volumes, Some(first)) = (self.shape, paths.first()) else { return Vec::new() };
        let name = without_zip(first).with_extension("");
        let more = (self.lengths.len()..).map(|volume| volume_path(&name, volume));
        more.take_while(|path| path.exists()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Keep as _;

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
        let [third, fifth] = ["a.b.003.zip", "a.b.005.zip"].map(|name| folder.path().join(name));
        std::fs::write(&third, "former").expect("written");
        std::fs::write(fifth, "former").expect("written");
        assert_eq!(outputs.left_over(), [third]);
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
