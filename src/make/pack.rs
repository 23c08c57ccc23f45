//! The sequential writer of a payload: checks each blob while it writes it, and puts the payload in
//! place only when everything is in it.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::digest::{Algorithm, Digest, Hasher, Mismatch, Verifier};
use crate::failure::FromRegistry;
use crate::manifest::Descriptor;
use crate::payload::Writer;
use crate::progress::{Arrival, Event, Reporter};

use super::entries::Entries;
use super::output::Output;

/// What comes next in the payload.
pub(super) enum Piece {
    /// A whole small entry.
    Small { entry: String, bytes: Bytes },
    /// A blob of this image begins.
    Begin { blob: Descriptor, image: String },
    /// The next bytes of the blob.
    Bytes(Bytes),
    /// The blob ends.
    End,
    /// Everything is there; nothing comes after this.
    Complete,
}

/// A blob that is being written.
struct Open {
    descriptor: Descriptor,
    /// The image that it is carried for.
    image: String,
    verifier: Verifier,
    /// Entries are listed by SHA-256; a blob that is named by another algorithm is hashed twice.
    sha256: Option<Hasher>,
}

impl Open {
    fn new(descriptor: Descriptor, image: String) -> Self {
        let digest = &descriptor.digest;
        let sha256 =
            (digest.algorithm() != Algorithm::Sha256).then(|| Hasher::new(Algorithm::Sha256));
        let verifier = Verifier::new(digest.clone(), descriptor.size);
        Self { descriptor, image, verifier, sha256 }
    }

    fn is_wrong(image: &str, mismatch: Mismatch) -> anyhow::Error {
        anyhow::Error::new(FromRegistry(mismatch)).context(format!("cannot carry image `{image}`"))
    }
}

/// Writes the pieces to `output` and commits it; `entries` names the
/// entries and makes the last one out of all others. Blocks: for a thread of its own.
///
/// # Errors
/// When the output cannot be written, when a blob is not what its digest says, or when the pieces
/// end before [`Piece::Complete`]. The output is then left as it is and not committed.
pub(super) fn write_payload(
    output: Output,
    pieces: mpsc::Receiver<Piece>,
    entries: &Entries,
    reporter: &Arc<dyn Reporter>,
) -> anyhow::Result<()> {
    let cannot_write = "cannot write the payload";
    let mut writer = Writer::new(output);
    write_pieces(&mut writer, pieces, entries, reporter)?;
    let (entry, bytes) = entries.last(writer.entries())?;
    writer.add(&entry, &bytes).context(cannot_write)?;
    let output = writer.finish().context(cannot_write)?;
    output.commit()
}

fn write_pieces(
    writer: &mut Writer<Output>,
    mut pieces: mpsc::Receiver<Piece>,
    entries: &Entries,
    reporter: &Arc<dyn Reporter>,
) -> anyhow::Result<()> {
    let cannot_write = "cannot write the payload";
    let mut open: Option<Open> = None;
    while let Some(piece) = pieces.blocking_recv() {
        match (piece, open.as_mut()) {
            (Piece::Small { entry, bytes }, None) => {
                writer.add(&entry, &bytes).context(cannot_write)?;
            }
            (Piece::Begin { blob, image }, None) => {
                let entry = entries.blob_entry(&blob.digest);
                writer.begin(&entry, blob.size).context(cannot_write)?;
                open = Some(Open::new(blob, image));
            }
            (Piece::Bytes(bytes), Some(blob)) => {
                let seen = blob.verifier.update(&bytes);
                seen.map_err(|mismatch| Open::is_wrong(&blob.image, mismatch))?;
                if let Some(sha256) = &mut blob.sha256 {
                    sha256.update(&bytes);
                }
                writer.write(&bytes).context(cannot_write)?;
            }
            (Piece::End, Some(_)) => {
                if let Some(blob) = open.take() {
                    let digest = end_blob(writer, blob)?;
                    reporter.report(Event::BlobFinished { digest, how: Arrival::Packed });
                }
            }
            (Piece::Complete, None) => return Ok(()),
            _ => return Err(anyhow!("the pieces of the payload came out of order")),
        }
    }
    Err(Abandoned.into())
}

fn end_blob(writer: &mut Writer<Output>, blob: Open) -> anyhow::Result<Digest> {
    blob.verifier.finish().map_err(|mismatch| Open::is_wrong(&blob.image, mismatch))?;
    let digest = blob.descriptor.digest;
    let sha256 =
        blob.sha256.map_or_else(|| digest.hex().to_owned(), |hash| hash.finish().hex().to_owned());
    writer.end(sha256).context("cannot write the payload")?;
    Ok(digest)
}

/// The pieces ended early: whoever sent them knows why.
#[derive(Debug, thiserror::Error)]
#[error("the payload was not completed")]
pub(super) struct Abandoned;
