//! Receipts and inventories: what a registry at the far side holds, as docs/receipts.md lays it down.
//!
//! Pure: bytes in, bytes out.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::failure::Unusable;
use crate::manifest::Descriptor;
use crate::reference::{RegistryHost, RepositoryName, Tag};
use crate::units::format_time;

mod lines;

/// The version of the format that this kharon writes, and the only one that it reads.
pub const VERSION: u32 = 1;
/// The largest receipt that is written or read, in bytes: some 350,000 blobs.
pub const RECEIPT_MAX_BYTES: u64 = 64 * 1024 * 1024;
const SEVERAL: &str = "take several inventories, each of fewer repositories";

/// What a registry holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The format's version.
    pub version: u32,
    /// Who says so.
    pub kind: Kind,
    /// What wrote it.
    pub tool: String,
    /// The registry.
    pub registry: RegistryHost,
    /// When it was written, as RFC 3339 has it.
    pub time: String,
    /// What is in which repository.
    pub repositories: Vec<Repository>,
}

/// How it is known what a registry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A push proved it.
    Receipt,
    /// A walk through the registry found it.
    Inventory,
}

/// What is in one repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Repository {
    /// Its name at the registry.
    pub name: RepositoryName,
    /// Its name in payloads, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_name: Option<RepositoryName>,
    /// What its tags name.
    #[serde(default)]
    pub tags: BTreeMap<Tag, Digest>,
    /// Its manifests and indexes.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    /// What these name.
    #[serde(default)]
    pub blobs: Vec<Descriptor>,
}

impl Repository {
    /// A repository in which nothing is known to be.
    pub fn new(name: RepositoryName, payload_name: &RepositoryName) -> Self {
        let payload_name = (*payload_name != name).then(|| payload_name.clone());
        Self { name, payload_name, tags: BTreeMap::new(), manifests: Vec::new(), blobs: Vec::new() }
    }

    /// What payloads call it.
    pub fn name_in_payloads(&self) -> &RepositoryName {
        self.payload_name.as_ref().unwrap_or(&self.name)
    }
}

/// Bytes that are no receipt or inventory that kharon can use.
#[derive(Debug, thiserror::Error)]
pub enum InvalidReceipt {
    /// Not JSON, or not of the documented shape.
    #[error("expected a receipt or inventory, found a damaged one")]
    Shape(#[source] serde_json::Error),
    /// JSON of something else.
    #[error("expected a receipt or inventory, found something else")]
    Other,
    /// A version that this kharon does not know.
    #[error("expected version {VERSION} of receipts and inventories, found {0}")]
    Version(u64),
    /// More bytes than a receipt may have.
    #[error("expected at most {RECEIPT_MAX_BYTES} bytes of a receipt or inventory, found more")]
    TooLarge,
}

impl InvalidReceipt {
    /// What a person can do about it.
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::Shape(_) => {
                "the file was cut or changed on its way: copy it again, or take a new inventory"
            }
            Self::Other => {
                "name what `push-payload --receipt` or `kharon inventory` wrote, or a payload"
            }
            Self::Version(_) => "it was written by a newer kharon: use that version to read it",
            Self::TooLarge => SEVERAL,
        };
        hint.to_owned()
    }
}

impl Receipt {
    /// What `registry` held at `time`, by name.
    pub fn new(
        kind: Kind,
        registry: RegistryHost,
        time: SystemTime,
        mut repositories: Vec<Repository>,
    ) -> Self {
        repositories.sort_by(|one, other| one.name.cmp(&other.name));
        let tool = concat!("kharon ", env!("CARGO_PKG_VERSION")).to_owned();
        Self { version: VERSION, kind, tool, registry, time: format_time(time), repositories }
    }

    /// Reads a receipt or inventory.
    ///
    /// # Errors
    /// [`InvalidReceipt`] says what is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidReceipt> {
        #[derive(Deserialize)]
        struct Head {
            version: Option<u64>,
            kind: Option<String>,
        }
        if json.len() as u64 > RECEIPT_MAX_BYTES {
            return Err(InvalidReceipt::TooLarge);
        }
        let head: Head = serde_json::from_slice(json).map_err(InvalidReceipt::Shape)?;
        match (head.kind.as_deref(), head.version) {
            (Some("receipt" | "inventory"), Some(version)) if version == u64::from(VERSION) => {
                serde_json::from_slice(json).map_err(InvalidReceipt::Shape)
            }
            (Some("receipt" | "inventory"), Some(version)) => Err(InvalidReceipt::Version(version)),
            _ => Err(InvalidReceipt::Other),
        }
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// If it would have more than [`RECEIPT_MAX_BYTES`].
    pub fn to_json(&self) -> anyhow::Result<Vec<u8>> {
        let json = lines::to_vec(self)?;
        if json.len() as u64 > RECEIPT_MAX_BYTES {
            let message =
                format!("what `{}` holds needs more than {RECEIPT_MAX_BYTES} bytes", self.registry);
            return Err(Unusable::new(message).with_hint(SEVERAL).into());
        }
        Ok(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::MediaType;
    use std::time::Duration;

    fn parse(json: &str) -> Result<Receipt, InvalidReceipt> {
        let host = r#""tool":"t","registry":"far.example","time":"","repositories""#;
        Receipt::parse(json.replace("$REST", host).as_bytes())
    }

    fn receipt() -> Receipt {
        let descriptor = |bytes: &[u8]| {
            Descriptor::new(MediaType::new("x/y"), Digest::of(bytes), bytes.len() as u64)
        };
        let name: RepositoryName = "mirror/app".parse().expect("valid");
        let repository = Repository {
            tags: [("1".parse().expect("valid"), Digest::of(b"manifest"))].into(),
            manifests: vec![descriptor(b"manifest")],
            blobs: vec![descriptor(b"b"), descriptor(b"a")],
            ..Repository::new(name, &"app".parse().expect("valid"))
        };
        let empty: RepositoryName = "a".parse().expect("valid");
        let registry = "far.example:5000".parse().expect("valid");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(951_782_400);
        let repositories = vec![repository, Repository::new(empty.clone(), &empty)];
        Receipt::new(Kind::Inventory, registry, time, repositories)
    }

    #[test]
    fn a_receipt_is_read_as_it_was_written_and_has_a_line_for_each_blob() {
        let json = receipt().to_json().expect("written");
        assert_eq!(Receipt::parse(&json).expect("read"), receipt());
        let text = String::from_utf8(json).expect("text");
        let digest = Digest::of(b"a");
        let line = format!(
            "        {{ \"mediaType\": \"x/y\", \"digest\": \"{digest}\", \"size\": 1 }}\n"
        );
        assert!(text.contains(&line), "{text}");
        for part in [
            "\n  \"time\": \"2000-02-29T00:00:00Z\",\n",
            "\n      \"name\": \"a\",\n      \"tags\": {},\n",
            "\n      \"payloadName\": \"app\",\n      \"tags\": {\n        \"1\": \"sha256:",
            "\n    }\n  ]\n}\n",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }

    #[test]
    fn what_a_later_minor_version_adds_is_passed_over() {
        let json = r#"{"new":[{}],"kind":"receipt","version":1,$REST:[{"name":"a","more":1}]}"#;
        let receipt = parse(json).expect("read");
        assert_eq!(receipt.kind, Kind::Receipt);
        assert_eq!(receipt.repositories[0].name_in_payloads().as_str(), "a");
    }

    #[test]
    fn what_is_no_receipt_is_told_from_a_damaged_and_a_newer_one() {
        type Is = fn(&InvalidReceipt) -> bool;
        let damaged: Is = |error| matches!(error, InvalidReceipt::Shape(_));
        let other: Is = |error| matches!(error, InvalidReceipt::Other);
        let newer: Is = |error| matches!(error, InvalidReceipt::Version(2));
        let table: [(&str, Is); 12] = [
            ("", damaged),
            (r#"{"version":1,"kind":"receipt""#, damaged),
            (r#"{"version":1,"kind":"receipt"}"#, damaged),
            (r#"{"version":1,"kind":"receipt",$REST:[{"name":"A"}]}"#, damaged),
            (r#"{"version":1,"kind":"receipt",$REST:[{"name":"a","tags":{"1":"x"}}]}"#, damaged),
            (r#"{"version":1,"kind":"receipt",$REST:[]}]"#, damaged),
            ("{}", other),
            (r#"{"version":1,"images":[]}"#, other),
            (r#"{"kind":"receipt",$REST:[]}"#, other),
            (r#"{"version":1,"kind":"Secret",$REST:[]}"#, other),
            (r#"{"version":2,"kind":"inventory"}"#, newer),
            (r#"{"version":2,"kind":"receipt",$REST:[{"name":{}}]}"#, newer),
        ];
        for (json, is) in table {
            let error = parse(json).expect_err(json);
            assert!(is(&error), "{json}: {error:?}");
        }
        let large = " ".repeat((64 << 20) + 1);
        assert!(matches!(Receipt::parse(large.as_bytes()), Err(InvalidReceipt::TooLarge)));
    }
}
