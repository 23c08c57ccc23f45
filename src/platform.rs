//! Platforms, as the OCI image-index names them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::printable::escaped;

/// An operating system, an architecture and sometimes a variant: `linux/arm64/v8`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// As Go's `GOOS`; empty where an index does not say.
    #[serde(default, deserialize_with = "or_null")]
    pub os: String,
    /// As Go's `GOARCH`; empty where an index does not say.
    #[serde(default, deserialize_with = "or_null")]
    pub architecture: String,
    /// The CPU's variant, such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The version of the operating system, which Windows images carry.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
}

/// A text that does not name a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a platform such as `linux/amd64` or `linux/arm/v7`, found `{0}`")]
pub struct InvalidPlatform(String);

impl Platform {
    /// How well `self`, as asked for, is served by `offered`: `None` where it is not, else the
    /// smaller the better. A variant that was not asked for takes the usual one first
    /// (`arm` is `arm/v7`, `arm64` is `arm64/v8`), then whichever comes first in the index.
    pub fn distance(&self, offered: &Self) -> Option<u8> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let usual = match self.architecture.as_str() {
            "arm" => Some("v7"),
            "arm64" => Some("v8"),
            "amd64" => Some("v1"),
            _ => None,
        };
        let wanted = self.variant.as_deref();
        let found = offered.variant.as_deref();
        if wanted == found {
            Some(0)
        } else if wanted.or(usual) == found.or(usual) {
            Some(1)
        } else if wanted.is_none() {
            Some(2)
        } else {
            None
        }
    }

    /// The platform with the version of its operating system where that is known, in containerd's
    /// notation: `windows(10.0.20348)/amd64`.
    pub fn with_version(&self) -> String {
        match &self.os_version {
            Some(version) if !version.is_empty() => {
                let os = format!("{}({version})", or_unknown(&self.os));
                Self { os, ..self.clone() }.to_string()
            }
            _ => self.to_string(),
        }
    }

    /// The platform as part of a tag: `linux-arm-v7`.
    pub fn tag_form(&self) -> String {
        self.to_string().replace('/', "-")
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let is_word = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [os, architecture, rest @ ..] if rest.len() <= 1 && parts.iter().all(is_word) => {
                Ok(Self {
                    os: (*os).to_lowercase(),
                    architecture: (*architecture).to_lowercase(),
                    variant: rest.first().map(|variant| (*variant).to_lowercase()),
                    os_version: None,
                })
            }
            _ => Err(InvalidPlatform(text.to_owned())),
        }
    }
}

/// Registries may say anything in JSON: what would steer a terminal is escaped.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (os, architecture) = (or_unknown(&self.os), or_unknown(&self.architecture));
        write!(f, "{}/{}", escaped(os), escaped(architecture))?;
        match &self.variant {
            Some(variant) => write!(f, "/{}", escaped(variant)),
            None => Ok(()),
        }
    }
}

fn or_unknown(word: &str) -> &str {
    if word.is_empty() { "unknown" } else { word }
}

/// Reads what is empty also from `null`, as Go writes it.
pub(crate) fn or_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_reads_back_as_it_was_written() {
        for text in ["linux/amd64", "linux/arm/v7", "windows/amd64"] {
            assert_eq!(text.parse::<Platform>().expect(text).to_string(), text);
        }
        for text in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/amd64 "] {
            assert!(text.parse::<Platform>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_platform_from_json_cannot_steer_a_terminal() {
        let json = r#"{"os":"linux\u001b[2J","architecture":"a\nb","variant":"v\u202e","os.version":"\r1"}"#;
        let platform: Platform = serde_json::from_str(json).expect("a platform");
        assert_eq!(platform.to_string(), r"linux\u{1b}[2J/a\u{a}b/v\u{202e}");
        assert_eq!(platform.with_version(), r"linux\u{1b}[2J(\u{d}1)/a\u{a}b/v\u{202e}");
    }

    #[test]
    fn a_variant_is_matched_as_engines_do() {
        for (wanted, offered, distance) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/arm64", "linux/arm64/v8", Some(1)),
            ("linux/arm64/v8", "linux/arm64", Some(1)),
            ("linux/arm", "linux/arm/v7", Some(1)),
            ("linux/arm", "linux/arm/v5", Some(2)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/amd64", "linux/amd64/v3", Some(2)),
            ("linux/amd64", "windows/amd64", None),
        ] {
            let wanted: Platform = wanted.parse().expect("valid");
            let offered: Platform = offered.parse().expect("valid");
            assert_eq!(wanted.distance(&offered), distance, "{wanted} by {offered}");
        }
    }
}
