//! What deltas save: for each blob that a payload brings, its size and what it takes there.

use std::fmt;

use serde::Serialize;

use crate::digest::Digest;
use crate::units::format_bytes;

/// A blob that is in a payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Packed {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it takes in the payload, in bytes.
    pub carried_bytes: u64,
    /// In which form it is there.
    pub how: How,
}

/// How a blob is in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// As it is.
    Raw,
    /// As a delta, which rebuilds it from old blobs.
    Delta,
    /// Packed better, without old blobs.
    Recompressed,
}

/// All blobs of a payload. As text it is empty where nothing is saved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Savings {
    /// Each blob, in the order of the payload.
    pub blobs: Vec<Packed>,
    /// Their sizes together, in bytes.
    pub bytes: u64,
    /// What they take in the payload together, in bytes.
    pub carried_bytes: u64,
}

impl Savings {
    /// Adds a blob of `size` bytes that takes `carried_bytes` in the payload; `baselines` is the number of
    /// old blobs that its delta needs, none for a raw one.
    pub(crate) fn add(
        &mut self,
        digest: &Digest,
        size: u64,
        carried_bytes: u64,
        baselines: Option<usize>,
    ) {
        let how = match baselines {
            None => How::Raw,
            Some(0) => How::Recompressed,
            Some(_) => How::Delta,
        };
        self.bytes = self.bytes.saturating_add(size);
        self.carried_bytes = self.carried_bytes.saturating_add(carried_bytes);
        self.blobs.push(Packed { digest: digest.clone(), size, carried_bytes, how });
    }

    /// Whether any blob is not raw.
    pub fn has_deltas(&self) -> bool {
        self.blobs.iter().any(|blob| blob.how != How::Raw)
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Raw => "raw",
            Self::Delta => "delta",
            Self::Recompressed => "recompressed",
        })
    }
}

impl fmt::Display for Savings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.has_deltas() {
            return Ok(());
        }
        writeln!(f, "{:24}  {:>10}  {:>10}", "blob", "size", "carried")?;
        for Packed { digest, size, carried_bytes, how } in &self.blobs {
            let (size, carried) = (format_bytes(*size), format_bytes(*carried_bytes));
            writeln!(f, "{:24}  {size:>10}  {carried:>10}  {how}", digest.short())?;
        }
        let saved = self.bytes.saturating_sub(self.carried_bytes);
        writeln!(
            f,
            "{} instead of {}: {} saved ({} %)",
            format_bytes(self.carried_bytes),
            format_bytes(self.bytes),
            format_bytes(saved),
            saved.saturating_mul(100) / self.bytes.max(1),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_saves_something_is_worth_a_table() {
        let (layer, config) = (Digest::of(b"layer"), Digest::of(b"config"));
        let mut savings = Savings::default();
        savings.add(&config, 1000, 1000, None);
        assert_eq!(savings.to_string(), "");
        savings.add(&layer, 9_000_000, 99_000, Some(2));
        let text = savings.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with(&config.short().to_string()) && lines[1].ends_with("raw"));
        assert!(lines[2].contains("9.0 MB") && lines[2].ends_with("delta"), "{text}");
        assert_eq!(lines[3], "100 kB instead of 9.0 MB: 8.9 MB saved (98 %)");
    }
}
