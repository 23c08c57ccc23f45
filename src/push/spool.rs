//! A payload on standard input: read in place where it can seek, else kept in a temporary file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::Context as _;

use crate::disk;
use crate::failure::Hinted;
use crate::payload::Payload;

/// How the payload is called in messages.
const NAME: &str = "standard input";
/// What must stay free in the work folder, in bytes: others write there too.
const RESERVE_BYTES: u64 = 4 * 1024 * 1024;
/// How much is copied at once, in bytes.
const COPY_BYTES: usize = 1024 * 1024;
/// How often the free space is looked at, in bytes copied.
const LOOK_EVERY_BYTES: u64 = 4 * 1024 * 1024;

/// Opens the payload on standard input. A pipe is copied into `workdir`, where the copy has no name and
/// goes away with the process.
///
/// # Errors
/// When the work folder has not the space, or when the payload is damaged.
pub fn payload_from_stdin(workdir: &Path) -> anyhow::Result<Payload> {
    if let Some(file) = seekable_stdin() {
        return Ok(Payload::from_file(file, NAME.to_owned())?);
    }
    let mut copy = tempfile::tempfile_in(workdir).with_context(|| {
        Hinted::new(
            format!("cannot keep the payload of a pipe in `{}`", workdir.display()),
            "name another folder with `--workdir`",
        )
    })?;
    copy_into(&mut io::stdin().lock(), &mut copy, workdir)?;
    Ok(Payload::from_file(copy, NAME.to_owned())?)
}

/// Standard input as a file of its own, if it is one.
#[cfg(unix)]
fn seekable_stdin() -> Option<File> {
    use std::os::fd::AsFd as _;
    let owned = io::stdin().as_fd().try_clone_to_owned().ok()?;
    Some(File::from(owned)).filter(is_regular)
}

/// Standard input as a file of its own, if it is one.
#[cfg(windows)]
fn seekable_stdin() -> Option<File> {
    use std::os::windows::io::AsHandle as _;
    let owned = io::stdin().as_handle().try_clone_to_owned().ok()?;
    Some(File::from(owned)).filter(is_regular)
}

fn is_regular(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file())
}

fn copy_into(input: &mut impl Read, copy: &mut File, workdir: &Path) -> anyhow::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut since_look = LOOK_EVERY_BYTES;
    loop {
        if since_look >= LOOK_EVERY_BYTES {
            // A pipe does not say how much is to come.
            disk::refuse_full(
                workdir,
                RESERVE_BYTES + LOOK_EVERY_BYTES,
                "the payload of a pipe has to be kept",
                "name a folder with more space with `--workdir`, or push from a file with `-f`",
            )?;
            since_look = 0;
        }
        let length = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("cannot read the payload from standard input"),
        };
        copy.write_all(&buffer[..length])
            .with_context(|| format!("cannot keep the payload in `{}`", workdir.display()))?;
        since_look += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek as _, SeekFrom};

    #[test]
    fn a_pipe_is_copied_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut copy = tempfile::tempfile_in(folder.path()).expect("a file");
        let bytes: Vec<u8> = (0..=250).cycle().take(3 * COPY_BYTES + 7).collect();
        copy_into(&mut bytes.as_slice(), &mut copy, folder.path()).expect("copied");
        let mut found = Vec::new();
        copy.seek(SeekFrom::Start(0)).expect("sought");
        copy.read_to_end(&mut found).expect("read");
        assert!(found == bytes);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
