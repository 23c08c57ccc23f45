//! `expanded.json` and `SHA256SUMS`: what was expanded to where, as docs/proof.md lays down.
//!
//! Written line by line: a layer may have a million files.

use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use super::contents::Absent;
use super::name::Why;
use super::written::Written;
use crate::changeset::Kind;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::manifest::MediaType;

/// The version of `expanded.json` that this kharon writes, and the only one that it reads.
pub const VERSION: u32 = 1;
/// The list of everything.
pub const EXPANDED_NAME: &str = "expanded.json";
/// The list that `sha256sum -c` takes.
pub const SUMS_NAME: &str = "SHA256SUMS";

/// A manifest.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ManifestLine<'a> {
    pub(super) digest: &'a Digest,
    pub(super) media_type: &'a MediaType,
    pub(super) size: u64,
    pub(super) images: &'a [String],
    pub(super) at: &'a str,
}

/// What stands in front of a blob's paths.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BlobHead<'a> {
    pub(super) digest: &'a Digest,
    pub(super) media_type: &'a MediaType,
    pub(super) size: u64,
    pub(super) images: &'a [String],
}

/// What stands behind a blob's paths.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BlobTail<'a> {
    pub(super) form: Form,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<&'a str>,
    pub(super) complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'a str>,
}

/// What a blob became.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Form {
    Tree,
    File,
    Nothing,
}

/// A path of a layer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PathLine<'a> {
    /// As text; what is no UTF-8 in it is replaced.
    pub(super) path: &'a str,
    /// In hexadecimal digits, where the text does not say all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path_bytes: Option<String>,
    pub(super) kind: Kind,
    /// In octal digits.
    pub(super) mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<&'a str>,
    /// Where a link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_created: Option<Why>,
    /// Where the content is, if not under its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<&'a str>,
}

/// Both lists.
#[derive(Debug)]
pub(super) struct Record {
    json: Written,
    sums: Written,
    separator: &'static str,
}

/// Where both lists stood.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    json: u64,
    sums: u64,
}

impl Record {
    /// Begins both lists in `folder`; `indexes` are what the payloads' indexes are known by.
    pub(super) fn begin(folder: &Path, indexes: &[(&str, &Digest)]) -> io::Result<Self> {
        let mut json = Written::begin(folder, EXPANDED_NAME)?;
        let tool = concat!("kharon ", env!("CARGO_PKG_VERSION"));
        writeln!(
            json,
            "{{\n  \"version\": {VERSION},\n  \"tool\": \"{tool}\",\n  \"payloads\": ["
        )?;
        let mut record = Self { json, sums: Written::begin(folder, SUMS_NAME)?, separator: "" };
        for (name, index) in indexes {
            record.line(&serde_json::json!({ "name": name, "index": index }))?;
        }
        record.section("manifests")?;
        Ok(record)
    }

    /// Ends one list of `expanded.json`, and begins the next.
    pub(super) fn section(&mut self, name: &str) -> io::Result<()> {
        self.separator = "";
        write!(self.json, "\n  ],\n  \"{name}\": [\n")
    }

    /// One thing of the list.
    pub(super) fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_string(line)?;
        write!(self.json, "{}    {line}", self.separator)?;
        self.separator = ",\n";
        Ok(())
    }

    /// A blob begins. Its paths follow, then [`Record::end_blob`].
    pub(super) fn begin_blob(&mut self, head: &BlobHead<'_>) -> io::Result<()> {
        let head = serde_json::to_string(head)?;
        let head = head.strip_suffix('}').unwrap_or(&head);
        write!(self.json, "{}    {head},\"paths\":[", self.separator)?;
        self.separator = "\n";
        Ok(())
    }

    /// A path of the blob.
    pub(super) fn path(&mut self, path: &PathLine<'_>) -> io::Result<()> {
        let path = serde_json::to_string(path)?;
        write!(self.json, "{}      {path}", self.separator)?;
        self.separator = ",\n";
        Ok(())
    }

    /// The blob ends.
    pub(super) fn end_blob(&mut self, tail: &BlobTail<'_>) -> io::Result<()> {
        let tail = serde_json::to_string(tail)?;
        let tail = tail.strip_prefix('{').unwrap_or(&tail);
        write!(self.json, "],{tail}")?;
        self.separator = ",\n";
        Ok(())
    }

    /// A file that was created, by its name below the folder.
    pub(super) fn sum(&mut self, sha256: &str, name: &[u8]) -> io::Result<()> {
        self.sums.write_all(&sum_line(sha256, name))
    }

    pub(super) fn mark(&mut self) -> io::Result<Mark> {
        Ok(Mark { json: self.json.mark()?, sums: self.sums.mark()? })
    }

    /// Takes back the paths of a blob since `mark`.
    pub(super) fn rewind(&mut self, mark: Mark) -> io::Result<()> {
        self.separator = "\n";
        self.json.rewind(mark.json)?;
        self.sums.rewind(mark.sums)
    }

    /// Ends both lists and puts them in their places.
    pub(super) fn finish(mut self, absent: &[Absent]) -> io::Result<()> {
        self.section("absent")?;
        for line in absent {
            self.line(line)?;
        }
        self.json.write_all(b"\n  ]\n}\n")?;
        let path = self.json.commit()?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
        self.sums.write_all(&sum_line(hasher.finish().hex(), EXPANDED_NAME.as_bytes()))?;
        self.sums.commit().map(drop)
    }
}

/// A line as coreutils writes it: a backslash in front says that the name is escaped.
fn sum_line(sha256: &str, name: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'\\' => escaped.extend(b"\\\\"),
            b'\n' => escaped.extend(b"\\n"),
            b'\r' => escaped.extend(b"\\r"),
            byte => escaped.push(*byte),
        }
    }
    let mark: &[u8] = if escaped.len() > name.len() { b"\\" } else { b"" };
    [mark, sha256.as_bytes(), b"  ", &escaped, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_coreutils_does() {
        for (name, line) in [
            (&b"a b"[..], &b"00  a b\n"[..]),
            (b"a\\b", b"\\00  a\\\\b\n"),
            (b"a\nb\r", b"\\00  a\\nb\\r\n"),
            (b"\xff", b"00  \xff\n"),
        ] {
            assert_eq!(sum_line("00", name), line);
        }
    }
}
