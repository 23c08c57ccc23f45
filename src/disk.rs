//! Room on disks, looked at before it is needed.

use std::path::Path;

use crate::failure::hinted;
use crate::units::format_bytes;

/// Refuses to go on where less than `needed_bytes` are free in `folder`; `why` says what needs them.
pub(crate) fn refuse_full(
    folder: &Path,
    needed_bytes: u64,
    why: &str,
    hint: &str,
) -> anyhow::Result<()> {
    match fs4::available_space(folder) {
        Ok(free_bytes) if free_bytes < needed_bytes => {
            let (free, folder) = (format_bytes(free_bytes), folder.display());
            Err(hinted(format!("{why}, but only {free} are free in `{folder}`"), hint))
        }
        // A file system that cannot say how much is free will say so when it is full.
        _ => Ok(()),
    }
}

/// After this much was written it is looked again how much is free, in bytes.
const LOOK_EVERY_BYTES: u64 = 64 << 20;
/// What stays free on the disk, in bytes: a bomb should not take the last byte from others.
pub(crate) const RESERVE_BYTES: u64 = 128 << 20;

/// What is written into a folder, which stops before the disk is full.
#[derive(Debug, Default)]
pub(crate) struct Room {
    unlooked_bytes: u64,
}

impl Room {
    /// Refuses to go on where the disk of `folder` is nearly full. `doing` is what would go on.
    pub(crate) fn wrote(
        &mut self,
        bytes: u64,
        folder: &Path,
        doing: &str,
        hint: &str,
    ) -> anyhow::Result<()> {
        self.unlooked_bytes += bytes;
        if self.unlooked_bytes < LOOK_EVERY_BYTES {
            return Ok(());
        }
        self.unlooked_bytes = 0;
        let why = format!("{doing} leaves {} free", format_bytes(RESERVE_BYTES));
        refuse_full(folder, RESERVE_BYTES + LOOK_EVERY_BYTES, &why, hint)
    }
}
