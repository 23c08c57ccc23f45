//! One process at a time may change a layout.
//!
//! The lock is a file that names its process: its id, when it started and in which run of the machine. A lock that a
//! killed process left behind is told by that and taken over. Where the system has no `/proc`, a
//! lock that was left behind must be removed by hand. Processes that cannot see each other (two
//! containers on one folder) are not told apart from dead ones.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::Error;

/// The file `lock`, which is removed on drop.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
}

impl Lock {
    pub(crate) fn take(path: PathBuf) -> Result<Self, Error> {
        let own = owner(std::process::id());
        for _ in 0..3 {
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    file.write_all(own.as_bytes()).map_err(Error::io("write", &path))?;
                    return Ok(Self { path });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => remove_if_left(&path)?,
                Err(error) => return Err(Error::io("create", &path)(error)),
            }
        }
        Err(Error::InUse { path, process: "unknown".to_owned() })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

fn remove_if_left(path: &Path) -> Result<(), Error> {
    let found = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.map_err(Error::io("read", path))?,
    };
    let process = found.split_whitespace().next().unwrap_or("unknown");
    let told_apart = Path::new("/proc/self/stat").exists();
    let gone = process.parse().is_ok_and(|id: u32| owner(id) != found);
    if told_apart && gone {
        return fs::remove_file(path).map_err(Error::io("remove", path));
    }
    Err(Error::InUse { path: path.to_owned(), process: process.to_owned() })
}

/// `<process> <its start in clock ticks> <boot of the machine>`, as far as it can be known.
fn owner(process: u32) -> String {
    let fields = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The command's name stands in brackets and may hold blanks: fields are counted behind it. The
    // start is field 22 of proc(5), the 20th behind the name.
    let start = fields.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19));
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("{process} {} {}\n", start.unwrap_or("-"), boot.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_released_on_drop() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let lock = Lock::take(path.clone()).expect("free");
        assert!(matches!(Lock::take(path.clone()), Err(Error::InUse { .. })));
        drop(lock);
        Lock::take(path).expect("free again");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_lock_left_by_a_dead_process_is_taken_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let own = owner(std::process::id());
        for left in [own.replacen(' ', " 1", 1), "4194305 17 some-run\n".to_owned()] {
            fs::write(&path, left).expect("written");
            Lock::take(path.clone()).expect("taken over");
        }
    }
}
