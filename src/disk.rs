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
