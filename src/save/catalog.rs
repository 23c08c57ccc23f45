//! `catalog.json`: which images a merged folder holds.
//!
//! docs/save.md has its fields. It is replaced as a whole once everything that it names is there.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::manifest::{Descriptor, MediaType};
use crate::replace::Replacement;

use super::damaged::DamagedFolder;

/// Its name in the folder.
pub(super) const CATALOG_NAME: &str = "catalog.json";
/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;
/// The largest catalog that is read, in bytes.
const CATALOG_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// The images of a merged folder by their full names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Catalog {
    pub(super) images: BTreeMap<String, Descriptor>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    images: BTreeMap<String, WrittenImage>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenImage {
    media_type: MediaType,
    digest: Digest,
    size: u64,
}

impl Catalog {
    /// Reads the catalog of `folder`; `None` where there is none.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(CATALOG_NAME);
        let cannot_read = || format!("cannot read `{}`", path.display());
        match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(cannot_read),
            Ok(metadata) if metadata.len() > CATALOG_MAX_BYTES => {
                let why = format!("it has more than {CATALOG_MAX_BYTES} bytes");
                return Err(DamagedFolder::new(path, why).into());
            }
            Ok(_) => {}
        }
        let bytes = fs::read(&path).with_context(cannot_read)?;
        Self::parse(&bytes).map(Some).map_err(|why| DamagedFolder::new(path, why).into())
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let written: Written = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if written.version != VERSION {
            return Err(format!("expected version {VERSION}, found {}", written.version));
        }
        let describe = |(name, image): (String, WrittenImage)| {
            (name, Descriptor::new(image.media_type, image.digest, image.size))
        };
        Ok(Self { images: written.images.into_iter().map(describe).collect() })
    }

    /// Replaces the catalog of `folder`.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path: PathBuf = folder.join(CATALOG_NAME);
        let describe = |(name, image): (&String, &Descriptor)| {
            let Descriptor { media_type, digest, size, .. } = image.clone();
            (name.clone(), WrittenImage { media_type, digest, size })
        };
        let images = self.images.iter().map(describe).collect();
        let mut json = serde_json::to_vec_pretty(&Written { version: VERSION, images })?;
        json.push(b'\n');
        Replacement::begin(&path)?.commit(&json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Catalog::read(folder.path()).expect("none"), None);
        let media_type = MediaType::new(MediaType::OCI_MANIFEST);
        let image = Descriptor::new(media_type, Digest::of(b"x"), 1);
        let images = BTreeMap::from([("localhost/app:1".to_owned(), image)]);
        let catalog = Catalog { images };
        catalog.write(folder.path()).expect("written");
        assert_eq!(Catalog::read(folder.path()).expect("read"), Some(catalog));
    }

    #[test]
    fn what_is_no_catalog_is_refused_with_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        for text in ["", "[]", "{", r#"{"version":2,"images":{}}"#, r#"{"version":1}"#] {
            fs::write(folder.path().join(CATALOG_NAME), text).expect("written");
            let error = Catalog::read(folder.path()).expect_err("an error").to_string();
            assert!(error.contains("catalog.json` is damaged"), "{error}");
        }
    }
}
