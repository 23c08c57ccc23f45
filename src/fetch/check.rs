//! Hashes blobs on a thread of its own, beside whoever writes them: hashing and writing take about
//! as long, so together they are twice as fast.

use std::sync::mpsc::{Receiver, RecvError, SyncSender, sync_channel};
use std::thread::Scope;

use bytes::Bytes;

use crate::digest::{Algorithm, Digest, Hasher, Mismatch, Verifier};

/// How many pieces may wait for the hash. Their bytes are shared with the writer.
const PIECES_WAITING_MAX: usize = 8;

/// The SHA-256 of a blob that is what its digest says, in hexadecimal digits.
type Verdict = Result<String, Mismatch>;

enum Step {
    Begin { digest: Digest, size_bytes: u64, parts: Parts },
    Bytes(Vec<Bytes>),
    EndPart,
    End,
}

/// Whether a blob is written whole or in parts, each of which has a hash of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    One,
    Several,
}

/// The near end of the thread that hashes.
pub(crate) struct Checker {
    steps: SyncSender<Step>,
    verdicts: Receiver<Verdict>,
}

impl Checker {
    pub(crate) fn start<'scope>(scope: &'scope Scope<'scope, '_>) -> Self {
        let (steps, waiting) = sync_channel(PIECES_WAITING_MAX);
        let (verdict, verdicts) = sync_channel(1);
        scope.spawn(move || check(&waiting, &verdict));
        Self { steps, verdicts }
    }

    /// A blob begins; its bytes follow.
    pub(crate) fn begin(&self, digest: Digest, size_bytes: u64, parts: Parts) {
        self.send(Step::Begin { digest, size_bytes, parts });
    }

    /// The next bytes of the blob.
    pub(crate) fn take(&self, pieces: Vec<Bytes>) {
        self.send(Step::Bytes(pieces));
    }

    /// A part of the blob ends: its SHA-256 in hexadecimal digits.
    ///
    /// # Errors
    /// Only if the thread panicked.
    pub(crate) fn end_part(&self) -> Result<Verdict, RecvError> {
        self.send(Step::EndPart);
        self.verdicts.recv()
    }

    /// The blob ends: its SHA-256 in hexadecimal digits, whatever algorithm its digest has.
    ///
    /// # Errors
    /// Only if the thread panicked.
    pub(crate) fn end(&self) -> Result<Verdict, RecvError> {
        self.send(Step::End);
        self.verdicts.recv()
    }

    fn send(&self, step: Step) {
        // A thread that is gone shows when its verdict is asked for.
        let _ = self.steps.send(step);
    }
}

/// A blob that is being hashed.
struct Open {
    verifier: Verifier,
    /// Entries are listed by SHA-256; a blob that is named by another algorithm is hashed twice.
    sha256: Option<Hasher>,
    part: Option<Hasher>,
    mismatch: Option<Mismatch>,
}

fn check(steps: &Receiver<Step>, verdicts: &SyncSender<Verdict>) {
    let mut open: Option<(Digest, Open)> = None;
    for step in steps {
        match (step, &mut open) {
            (Step::Begin { digest, size_bytes, parts }, _) => {
                let is_other = digest.algorithm() != Algorithm::Sha256;
                let verifier = Verifier::new(digest.clone(), size_bytes);
                let sha256 = is_other.then(|| Hasher::new(Algorithm::Sha256));
                let part = (parts == Parts::Several).then(|| Hasher::new(Algorithm::Sha256));
                open = Some((digest, Open { verifier, sha256, part, mismatch: None }));
            }
            (Step::Bytes(pieces), Some((_, blob))) => {
                for piece in pieces {
                    blob.take(&piece);
                }
            }
            (Step::EndPart, Some((_, blob))) => {
                let part = blob.part.replace(Hasher::new(Algorithm::Sha256));
                let sha256 = part.map(|part| part.finish().hex().to_owned()).unwrap_or_default();
                if verdicts.send(Ok(sha256)).is_err() {
                    return;
                }
            }
            (Step::End, _) => {
                let Some((digest, blob)) = open.take() else { return };
                if verdicts.send(blob.finish(&digest)).is_err() {
                    return;
                }
            }
            (Step::Bytes(_) | Step::EndPart, None) => return,
        }
    }
}

impl Open {
    fn take(&mut self, bytes: &[u8]) {
        if self.mismatch.is_none() {
            self.mismatch = self.verifier.update(bytes).err();
        }
        for hasher in self.sha256.iter_mut().chain(&mut self.part) {
            hasher.update(bytes);
        }
    }

    fn finish(self, digest: &Digest) -> Verdict {
        if let Some(mismatch) = self.mismatch {
            return Err(mismatch);
        }
        self.verifier.finish()?;
        let sha256 = self.sha256.map(Hasher::finish);
        Ok(sha256.as_ref().unwrap_or(digest).hex().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(digest: &Digest, size_bytes: u64, pieces: &[&'static [u8]]) -> Verdict {
        std::thread::scope(|scope| {
            let checker = Checker::start(scope);
            // A former blob leaves nothing behind.
            checker.begin(Digest::of(b"former"), 6, Parts::One);
            checker.take(vec![Bytes::from_static(b"former")]);
            assert!(checker.end().expect("a verdict").is_ok());
            checker.begin(digest.clone(), size_bytes, Parts::One);
            for piece in pieces {
                checker.take(vec![Bytes::from_static(piece)]);
            }
            checker.end().expect("a verdict")
        })
    }

    #[test]
    fn a_blob_is_known_by_its_sha256_whatever_its_digest() {
        let sha256 = Digest::of(b"content");
        assert_eq!(verdict(&sha256, 7, &[b"con", b"tent"]), Ok(sha256.hex().to_owned()));
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"content");
        let sha512 = hasher.finish();
        assert_eq!(verdict(&sha512, 7, &[b"content"]), Ok(sha256.hex().to_owned()));
    }

    #[test]
    fn each_part_has_a_hash_of_its_own() {
        let hash = |bytes: &[u8]| Ok(Digest::of(bytes).hex().to_owned());
        std::thread::scope(|scope| {
            let checker = Checker::start(scope);
            checker.begin(Digest::of(b"content"), 7, Parts::Several);
            for part in [&b"con"[..], b"tent"] {
                checker.take(vec![Bytes::from_static(part)]);
                assert_eq!(checker.end_part().expect("a verdict"), hash(part));
            }
            assert_eq!(checker.end().expect("a verdict"), hash(b"content"));
        });
    }

    #[test]
    fn what_is_too_short_too_long_or_other_is_told() {
        let digest = Digest::of(b"content");
        let short = verdict(&digest, 7, &[b"con"]);
        assert!(matches!(short, Err(Mismatch::TooShort { .. })), "{short:?}");
        let long = verdict(&digest, 7, &[b"content", b"more"]);
        assert!(matches!(long, Err(Mismatch::TooLong { .. })), "{long:?}");
        assert!(verdict(&digest, 7, &[b"contend"]).is_err());
    }
}
