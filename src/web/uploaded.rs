//! Baselines that visitors uploaded: kept in memory for a while, as they came.
//!
//! A baseline is named by the digest of its bytes, which nobody can guess who does not have it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::digest::Digest;
use crate::receipt::Receipt;

/// The largest baseline that is taken, in bytes: some 80,000 blobs.
pub(super) const BASELINE_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// What all of them have together at most, in bytes.
const ALL_MAX_BYTES: u64 = 4 * BASELINE_MAX_BYTES;
/// How long one is kept after it was last used.
pub(super) const KEPT: Duration = Duration::from_secs(60 * 60);

/// The baselines that are kept, those used last at the end.
#[derive(Debug, Default)]
pub(super) struct Uploaded(VecDeque<Baseline>);

#[derive(Debug)]
struct Baseline {
    digest: Digest,
    bytes: Bytes,
    used_at: Instant,
}

impl Uploaded {
    /// Keeps what was found to be a receipt. Those longest unused give way.
    pub(super) fn keep(&mut self, bytes: Bytes, now: Instant) -> Digest {
        let digest = Digest::of(&bytes);
        self.0.retain(|kept| kept.digest != digest);
        self.0.push_back(Baseline { digest: digest.clone(), bytes, used_at: now });
        while self.bytes() > ALL_MAX_BYTES {
            self.0.pop_front();
        }
        digest
    }

    /// What was kept under a name.
    pub(super) fn find(&mut self, name: &str, now: Instant) -> Option<Bytes> {
        self.0.retain(|kept| now.duration_since(kept.used_at) < KEPT);
        let at = self.0.iter().position(|kept| kept.digest.to_string() == name)?;
        let mut found = self.0.remove(at)?;
        found.used_at = now;
        let bytes = found.bytes.clone();
        self.0.push_back(found);
        Some(bytes)
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|kept| kept.bytes.len() as u64).sum()
    }
}

/// How many repositories and blobs a receipt names.
pub(super) fn counts(receipt: &Receipt) -> (usize, usize) {
    let blobs = receipt.repositories.iter().map(|repository| repository.blobs.len()).sum();
    (receipt.repositories.len(), blobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn baselines_are_kept_for_a_while_and_within_bounds() {
        let (mut uploaded, now) = (Uploaded::default(), Instant::now());
        let large = |fill: u8| {
            Bytes::from(vec![fill; usize::try_from(BASELINE_MAX_BYTES).expect("a length")])
        };
        let names: Vec<String> =
            (0..4).map(|fill| uploaded.keep(large(fill), now).to_string()).collect();
        assert_eq!(uploaded.find(&names[0], now), Some(large(0)));
        // One more: the one that was used longest ago goes.
        let last = uploaded.keep(Bytes::from_static(b"x"), now).to_string();
        let found: Vec<bool> =
            names.iter().map(|name| uploaded.find(name, now).is_some()).collect();
        assert_eq!(found, [true, false, true, true]);
        // The same again is no other.
        assert_eq!(uploaded.keep(Bytes::from_static(b"x"), now).to_string(), last);
        assert_eq!(uploaded.0.len(), 4);
        assert_eq!(uploaded.find(&last, now + KEPT), None);
        assert_eq!(uploaded.bytes(), 0);
    }
}
