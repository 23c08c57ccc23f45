//! One tar with all images: the small files first, then the blobs.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Context as _;
use bytes::Bytes;

use crate::manifest::Descriptor;

use super::sink::Sink;
use super::tar;

/// A tar that is being written.
pub(super) struct Tarball<W> {
    out: W,
    name: String,
}

/// What stands in a tar before the first blob.
#[derive(Debug)]
pub(super) struct Head {
    bytes: Vec<u8>,
}

impl Head {
    pub(super) fn new(
        documents: &[(String, Bytes)],
        blobs: &[&Descriptor],
    ) -> std::io::Result<Self> {
        let mut bytes = Vec::new();
        let mut folders: BTreeSet<&str> = BTreeSet::from(["blobs"]);
        let paths: Vec<String> = blobs.iter().map(|blob| blob.digest.blob_path()).collect();
        let names = documents.iter().map(|(name, _)| name).chain(&paths);
        folders.extend(names.filter_map(|name| Some(name.rsplit_once('/')?.0)));
        for folder in folders {
            bytes.extend(tar::folder_header(&format!("{folder}/"))?);
        }
        for (name, content) in documents {
            bytes.extend(tar::file_header(name, content.len() as u64)?);
            bytes.extend_from_slice(content);
            tar::pad(&mut bytes, content.len() as u64)?;
        }
        Ok(Self { bytes })
    }

    /// The length of the whole tar, which is known before anything of it is written.
    pub(super) fn tar_bytes(&self, blobs: &[&Descriptor]) -> anyhow::Result<u64> {
        let mut sum = self.bytes.len() as u64 + tar::END_BYTES;
        for blob in blobs {
            let header = tar::file_header(&blob.digest.blob_path(), blob.size)?.len() as u64;
            let padded = tar::padded_bytes(blob.size);
            let more = padded.and_then(|padded| padded.checked_add(header));
            sum = more.and_then(|more| sum.checked_add(more)).with_context(|| {
                format!("blob `{}` of {} bytes is too large for a tar", blob.digest, blob.size)
            })?;
        }
        Ok(sum)
    }
}

impl<W: Write + Send> Tarball<W> {
    /// Begins a tar. `name` is what errors call it.
    pub(super) fn begin(mut out: W, name: String, head: &Head) -> anyhow::Result<Self> {
        out.write_all(&head.bytes).with_context(|| format!("cannot write {name}"))?;
        Ok(Self { out, name })
    }

    fn cannot_write(&self) -> String {
        format!("cannot write {}", self.name)
    }
}

impl<W: Write + Send> Sink for Tarball<W> {
    fn begin(&mut self, blob: &Descriptor) -> anyhow::Result<()> {
        let header = tar::file_header(&blob.digest.blob_path(), blob.size)?;
        self.out.write_all(&header).with_context(|| self.cannot_write())
    }

    fn put(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.out.write_all(bytes).with_context(|| self.cannot_write())
    }

    fn end(&mut self, blob: &Descriptor) -> anyhow::Result<()> {
        tar::pad(&mut self.out, blob.size).with_context(|| self.cannot_write())
    }

    fn complete(&mut self) -> anyhow::Result<()> {
        let ended = tar::end(&mut self.out).and_then(|()| self.out.flush());
        ended.with_context(|| self.cannot_write())
    }
}
