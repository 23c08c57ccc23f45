//! Files that Python has open.

use std::fs::File;
use std::io;

/// How Python numbers an open file: its descriptor, on Windows the handle below that.
#[cfg(unix)]
pub type Number = std::os::fd::RawFd;
/// How Python numbers an open file: its descriptor, on Windows the handle below that.
#[cfg(windows)]
pub type Number = isize;

/// The file with that number, as a file of its own that is closed apart from Python's.
///
/// A payload has gigabytes, so an open one is not copied only to be read.
#[cfg(unix)]
pub fn file(number: Number) -> io::Result<File> {
    use std::os::fd::BorrowedFd;
    if number < 0 {
        return Err(io::Error::other("expected an open file, found none"));
    }
    // SAFETY: the caller in `kharon/_files.py` has its file object open, and keeps it while this function runs.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(File::from(borrowed.try_clone_to_owned()?))
}

/// As on other systems.
#[cfg(windows)]
pub fn file(number: Number) -> io::Result<File> {
    use std::os::windows::io::{BorrowedHandle, RawHandle};
    // SAFETY: the caller in `kharon/_files.py` has its file object open, and keeps it while this function runs.
    let borrowed = unsafe { BorrowedHandle::borrow_raw(number as RawHandle) };
    Ok(File::from(borrowed.try_clone_to_owned()?))
}
