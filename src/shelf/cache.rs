//! Rebuilt blobs on disk, up to a limit: what was not read for the longest time goes first.
//!
//! Each stands in a file of its own, `sha256-<hex>`, and gets that name when it is whole and right. What
//! a former run left is used again, and checked again by who reads it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context as _;
use tempfile::{NamedTempFile, TempDir};

use super::lock;
use crate::digest::Digest;
use crate::failure::Hinted;
use crate::layout::Lock;

/// How many bytes are kept unless asked otherwise.
pub const DEFAULT_CACHE_BYTES: u64 = 10_000_000_000;
/// How files begin that are not whole yet.
const UNFINISHED: &str = ".rebuilding-";
const HINT: &str = "free some space there, or name another folder with `--cache-dir`";

#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    limit_bytes: u64,
    kept: Mutex<Kept>,
    _lock: Lock,
    /// The folder where none was named: it goes away with this.
    _temporary: Option<TempDir>,
}

#[derive(Debug, Default)]
struct Kept {
    files: HashMap<Digest, Entry>,
    bytes: u64,
    /// Counts the uses.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    size_bytes: u64,
    used: u64,
}

impl Cache {
    /// Opens the cache in `folder`, or one in `workdir` that goes away.
    pub(super) fn open(
        folder: Option<&Path>,
        workdir: &Path,
        limit_bytes: u64,
    ) -> anyhow::Result<Self> {
        let cannot = |folder: &Path| {
            Hinted::new(format!("cannot keep rebuilt layers in `{}`", folder.display()), HINT)
        };
        let (folder, temporary) = if let Some(folder) = folder {
            (folder.to_owned(), None)
        } else {
            let made = tempfile::Builder::new().prefix("kharon-serve-").tempdir_in(workdir);
            let made = made.with_context(|| cannot(workdir))?;
            (made.path().to_owned(), Some(made))
        };
        fs::create_dir_all(&folder).with_context(|| cannot(&folder))?;
        let held = Lock::take(folder.join("lock")).with_context(|| cannot(&folder))?;
        let cache = Self {
            limit_bytes,
            kept: Mutex::new(left_in(&folder).with_context(|| cannot(&folder))?),
            folder,
            _lock: held,
            _temporary: temporary,
        };
        cache.make_room(0, &mut lock(&cache.kept));
        Ok(cache)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        lock(&self.kept).files.contains_key(digest)
    }

    /// A blob that is kept, if it has this size.
    pub(super) fn get(&self, digest: &Digest, size_bytes: u64) -> Option<File> {
        let mut kept = lock(&self.kept);
        kept.clock += 1;
        let now = kept.clock;
        let entry = kept.files.get_mut(digest)?;
        entry.used = now;
        let open = File::open(self.path(digest)).ok();
        let file = open.filter(|file| file.metadata().is_ok_and(|found| found.len() == size_bytes));
        if file.is_none() {
            self.drop_file(digest, &mut kept);
        }
        file
    }

    /// A file to rebuild a blob into.
    pub(super) fn begin(&self) -> anyhow::Result<NamedTempFile> {
        let begun = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.folder);
        begun.with_context(|| {
            let folder = self.folder.display();
            Hinted::new(format!("cannot write to `{folder}`"), HINT)
        })
    }

    /// Keeps a blob that is whole and right, if it is not larger than all that may be kept.
    pub(super) fn keep(
        &self,
        file: NamedTempFile,
        digest: &Digest,
        size_bytes: u64,
    ) -> anyhow::Result<File> {
        if size_bytes > self.limit_bytes {
            return Ok(file.into_file());
        }
        let mut kept = lock(&self.kept);
        self.make_room(size_bytes, &mut kept);
        let path = self.path(digest);
        let file =
            file.persist(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
        kept.clock += 1;
        let entry = Entry { size_bytes, used: kept.clock };
        let former = kept.files.insert(digest.clone(), entry);
        kept.bytes = kept.bytes + size_bytes - former.map_or(0, |former| former.size_bytes);
        Ok(file)
    }

    pub(super) fn remove(&self, digest: &Digest) {
        self.drop_file(digest, &mut lock(&self.kept));
    }

    fn make_room(&self, size_bytes: u64, kept: &mut Kept) {
        while kept.bytes.saturating_add(size_bytes) > self.limit_bytes {
            let oldest = kept.files.iter().min_by_key(|(_, entry)| entry.used);
            let Some(digest) = oldest.map(|(digest, _)| digest.clone()) else { return };
            self.drop_file(&digest, kept);
        }
    }

    /// Who reads the file goes on reading it.
    fn drop_file(&self, digest: &Digest, kept: &mut Kept) {
        if let Some(entry) = kept.files.remove(digest) {
            kept.bytes = kept.bytes.saturating_sub(entry.size_bytes);
            drop(fs::remove_file(self.path(digest)));
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(file_name(digest))
    }
}

fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}

/// What a former run kept; what it was about to write is removed.
fn left_in(folder: &Path) -> std::io::Result<Kept> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(UNFINISHED) {
            fs::remove_file(entry.path())?;
        } else if let Ok(digest) = name.replacen('-', ":", 1).parse::<Digest>() {
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                found.push((metadata.modified()?, digest, metadata.len()));
            }
        }
    }
    found.sort();
    let mut kept = Kept::default();
    for (_, digest, size_bytes) in found {
        kept.clock += 1;
        kept.bytes += size_bytes;
        kept.files.insert(digest, Entry { size_bytes, used: kept.clock });
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    fn keep(cache: &Cache, text: &str) -> Digest {
        let digest = Digest::of(text.as_bytes());
        let mut file = cache.begin().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        cache.keep(file, &digest, text.len() as u64).expect("kept");
        digest
    }

    fn names(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a name"));
        entries.filter(|entry| entry.file_name() != "lock").count()
    }

    #[test]
    fn what_was_not_read_for_the_longest_time_goes_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(Some(folder.path()), folder.path(), 10).expect("opens");
        let (one, two) = (keep(&cache, "1111"), keep(&cache, "2222"));
        let mut reading = cache.get(&two, 4).expect("kept");
        assert!(cache.get(&one, 4).is_some());
        let three = keep(&cache, "3333");
        assert!(cache.has(&one) && !cache.has(&two) && cache.has(&three));
        let mut text = String::new();
        reading.read_to_string(&mut text).expect("still readable");
        assert_eq!(text, "2222");
        let large = keep(&cache, "more than may be kept");
        assert!(!cache.has(&large) && cache.has(&one));
        assert_eq!(names(folder.path()), 2);
    }

    #[test]
    fn what_a_former_run_kept_is_found_and_the_rest_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(Some(folder.path()), folder.path(), 100).expect("opens");
        let digest = keep(&cache, "text");
        assert!(Cache::open(Some(folder.path()), folder.path(), 100).is_err());
        drop(cache);
        fs::write(folder.path().join(format!("{UNFINISHED}x")), "half").expect("written");
        let cache = Cache::open(Some(folder.path()), folder.path(), 100).expect("opens");
        assert_eq!(names(folder.path()), 1);
        assert!(cache.get(&digest, 4).is_some());
        assert!(cache.get(&digest, 5).is_none() && !cache.has(&digest));
    }

    #[test]
    fn a_cache_that_may_keep_less_than_it_did_keeps_what_was_written_last() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(Some(folder.path()), folder.path(), 100).expect("opens");
        let digests = ["1111", "2222", "3333"].map(|text| keep(&cache, text));
        drop(cache);
        for (age, digest) in digests.iter().enumerate() {
            let file = File::options().write(true).open(folder.path().join(file_name(digest)));
            let written = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000 + age as u64);
            file.expect("a file").set_modified(written).expect("set");
        }
        let cache = Cache::open(Some(folder.path()), folder.path(), 8).expect("opens");
        assert_eq!(digests.map(|digest| cache.has(&digest)), [false, true, true]);
        assert_eq!(names(folder.path()), 2);
        assert_eq!(lock(&cache.kept).bytes, 8);
    }

    #[test]
    fn what_is_not_the_caches_own_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let digest = Digest::of(b"a folder of that name");
        fs::create_dir(folder.path().join(file_name(&digest))).expect("a folder");
        for name in ["notes.txt", "sha256-short", "sha256"] {
            fs::write(folder.path().join(name), "mine").expect("written");
        }
        let cache = Cache::open(Some(folder.path()), folder.path(), 4).expect("opens");
        assert!(!cache.has(&digest));
        keep(&cache, "1111");
        keep(&cache, "2222");
        assert_eq!(names(folder.path()), 5);
        assert_eq!(lock(&cache.kept).bytes, 4);
    }

    #[test]
    fn a_blob_that_is_kept_twice_or_removed_counts_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(Some(folder.path()), folder.path(), 10).expect("opens");
        let digest = keep(&cache, "1111");
        assert_eq!(keep(&cache, "1111"), digest);
        assert_eq!(lock(&cache.kept).bytes, 4);
        // A file that somebody took away is not there any more.
        fs::remove_file(folder.path().join(file_name(&digest))).expect("removed");
        assert!(cache.get(&digest, 4).is_none() && !cache.has(&digest));
        cache.remove(&digest);
        assert_eq!(lock(&cache.kept).bytes, 0);
        assert!(cache.get(&digest, 4).is_none());
    }

    #[test]
    fn a_folder_that_cannot_be_a_cache_is_named_with_advice() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("written");
        for (cache, workdir) in [(Some(file.as_path()), folder.path()), (None, file.as_path())] {
            let error = Cache::open(cache, workdir, 10).expect_err("no folder");
            assert!(error.to_string().contains("cannot keep rebuilt layers in `"), "{error}");
            assert!(error.to_string().contains("file"), "{error}");
            assert!(crate::failure::hints(&error).iter().any(|hint| hint.contains("--cache-dir")));
        }
    }

    #[test]
    fn a_cache_without_a_folder_leaves_nothing() {
        let workdir = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(None, workdir.path(), 100).expect("opens");
        keep(&cache, "text");
        drop(cache);
        assert_eq!(fs::read_dir(workdir.path()).expect("a folder").count(), 0);
    }
}
