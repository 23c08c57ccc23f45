//! What a request asks for, out of its query: images, a platform, and what the far side has.

use std::collections::BTreeSet;

use crate::failure::Usage;
use crate::make::{self, ImageName, is_repository};
use crate::platform::Platform;
use crate::reference::{RegistryHost, Tag};
use crate::save::{Platforms, SavedImage, file_name};

use super::answer::{Code, Refusal};

/// The most images that one request may name.
const IMAGES_MAX: usize = 20;
/// The most baselines that one request may name.
const BASELINES_MAX: usize = 8;
/// The longest name of a file, in characters.
const FILE_NAME_MAX_CHARS: usize = 200;

/// A query, taken apart.
#[derive(Debug, Default)]
pub(super) struct Query {
    image: Vec<String>,
    has: Vec<String>,
    baseline: Vec<String>,
    registry: Option<String>,
    platform: Option<String>,
}

/// What is wanted of which images.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) images: Vec<ImageName>,
    pub(super) has: Vec<ImageName>,
    /// The names of uploaded baselines.
    pub(super) baselines: Vec<String>,
    /// The registry of names that have none.
    registry: RegistryHost,
    platform: Asked,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    All,
    One(Platform),
}

impl Query {
    /// Takes apart the part behind the `?`. Fields of forms may be empty.
    pub(super) fn of(query: Option<&str>) -> Result<Self, Refusal> {
        let mut found = Self::default();
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let value = value.trim().to_owned();
            let once = match key.as_ref() {
                _ if value.is_empty() => continue,
                "image" => {
                    found.image.push(value);
                    continue;
                }
                "has" => {
                    found.has.push(value);
                    continue;
                }
                "baseline" => {
                    found.baseline.push(value);
                    continue;
                }
                "registry" => &mut found.registry,
                "platform" => &mut found.platform,
                _ => {
                    return Err(Refusal::new(
                        Code::Usage,
                        "expected `image`, `registry`, `platform`, `has` or `baseline`, found another parameter",
                    ));
                }
            };
            if once.replace(value).is_some() {
                return Err(Refusal::new(Code::Usage, format!("`{key}` stands there twice")));
            }
        }
        Ok(found)
    }

    /// What is wanted, if its registries are `allowed`. Names without a registry belong to `usual` unless
    /// the query says otherwise.
    pub(super) fn wanted(
        self,
        usual: &RegistryHost,
        allowed: &BTreeSet<RegistryHost>,
    ) -> Result<Wanted, Refusal> {
        let registry = match &self.registry {
            None => usual.clone(),
            Some(text) => text
                .parse()
                .map_err(|error| Refusal::new(Code::Usage, format!("`registry`: {error}")))?,
        };
        let parse = |lists: &[String]| -> Result<Vec<ImageName>, Refusal> {
            let images = make::parse_images(lists, &registry).map_err(refuse)?;
            Ok(images.into_iter().map(with_tag).collect())
        };
        let wanted = Wanted {
            images: parse(&self.image)?,
            has: parse(&self.has)?,
            baselines: self.baseline,
            registry: registry.clone(),
            platform: match self.platform.as_deref() {
                None => Asked::Nothing,
                Some("all") => Asked::All,
                Some(text) => Asked::One(
                    text.parse().map_err(|error| Refusal::new(Code::Usage, format!("{error}")))?,
                ),
            },
        };
        if wanted.images.is_empty() {
            return Err(Refusal::new(Code::Usage, "no image was named")
                .with_hint("name one with `image`, such as `python:3.9`"));
        }
        let most = wanted.images.len().max(wanted.has.len());
        if most > IMAGES_MAX {
            let message = format!("expected at most {IMAGES_MAX} images at once, found {most}");
            return Err(Refusal::new(Code::Usage, message).with_hint("name fewer of them"));
        }
        if wanted.baselines.len() > BASELINES_MAX {
            let message = format!("expected at most {BASELINES_MAX} baselines");
            return Err(Refusal::new(Code::Usage, message).with_hint("name fewer of them"));
        }
        let hosts = wanted.images.iter().chain(&wanted.has).map(|image| &image.reference.registry);
        match hosts.into_iter().find(|host| !allowed.contains(host)) {
            None => Ok(wanted),
            Some(host) => Err(not_allowed(host, allowed)),
        }
    }
}

/// The image, with the tag in its name that is meant where none was typed.
fn with_tag(image: ImageName) -> ImageName {
    let is_bare = is_repository(&image.name);
    let name = if is_bare { format!("{}:{}", image.name, Tag::latest()) } else { image.name };
    ImageName { name, ..image }
}

fn refuse(usage: Usage) -> Refusal {
    Refusal::from(&anyhow::Error::new(usage))
}

fn not_allowed(host: &RegistryHost, allowed: &BTreeSet<RegistryHost>) -> Refusal {
    let allowed: Vec<String> = allowed.iter().map(|host| format!("`{host}`")).collect();
    let message =
        format!("the registry `{host}` is not allowed here; allowed are {}", allowed.join(", "));
    Refusal::new(Code::RegistryNotAllowed, message)
        .with_hint("whoever runs this server allows more with `--allow-registry`")
}

impl Wanted {
    /// The platforms for a tar.
    pub(super) fn platforms(&self) -> Platforms {
        match &self.platform {
            Asked::Nothing => Platforms::Machine,
            Asked::All => Platforms::All,
            Asked::One(platform) => Platforms::One(platform.clone()),
        }
    }

    /// The platforms for a payload; none for all.
    pub(super) fn platforms_to_carry(&self) -> Vec<Platform> {
        match &self.platform {
            Asked::Nothing | Asked::All => Vec::new(),
            Asked::One(platform) => vec![platform.clone()],
        }
    }

    /// What a file with the images is called, of characters that no system minds.
    pub(super) fn file_name(&self, extension: &str) -> String {
        let mut name = match self.images.as_slice() {
            [image] => file_name(image),
            _ => "images".to_owned(),
        };
        if let Asked::One(platform) = &self.platform {
            name = format!("{name}_{}", platform.tag_form());
        }
        let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let name: String = name.chars().take(FILE_NAME_MAX_CHARS).map(safe).collect();
        format!("{name}.{extension}")
    }

    /// The address of a download of these images. Tags of images that were looked at are pinned to what they were.
    pub(super) fn address(&self, path: &str, seen: &[SavedImage]) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (place, image) in self.images.iter().enumerate() {
            let pinned = seen.get(place).filter(|_| image.reference.digest.is_none());
            let name = pinned.map(|seen| format!("{}@{}", image.name, seen.root.digest));
            query.append_pair("image", name.as_ref().unwrap_or(&image.name));
        }
        query.append_pair("registry", self.registry.as_str());
        for image in &self.has {
            query.append_pair("has", &image.name);
        }
        for baseline in &self.baselines {
            query.append_pair("baseline", baseline);
        }
        match &self.platform {
            Asked::Nothing => {}
            Asked::All => drop(query.append_pair("platform", "all")),
            Asked::One(platform) => drop(query.append_pair("platform", &platform.to_string())),
        }
        format!("{path}?{}", query.finish())
    }

    /// The images as people know them.
    pub(super) fn names(&self) -> String {
        let names: Vec<&str> = self.images.iter().map(|image| image.name.as_str()).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(query: &str) -> Result<Wanted, Refusal> {
        let allowed = BTreeSet::from([
            RegistryHost::docker_hub(),
            "localhost:5000".parse().expect("a registry"),
        ]);
        Query::of(Some(query))?.wanted(&RegistryHost::docker_hub(), &allowed)
    }

    #[test]
    fn a_query_names_images_of_allowed_registries() {
        for (query, file, names) in [
            ("image=python:3.9", "python_3.9.tar", "python:3.9"),
            (
                "image=python%3A3.9&platform=linux%2Farm64&has=",
                "python_3.9_linux-arm64.tar",
                "python:3.9",
            ),
            ("image=a,b&image=c&platform=all", "images.tar", "a:latest, b:latest, c:latest"),
            ("image=app:1&registry=localhost:5000", "app_1.tar", "app:1"),
            (
                "image=+localhost:5000/t/app:1+",
                "localhost_5000_t_app_1.tar",
                "localhost:5000/t/app:1",
            ),
        ] {
            let wanted = wanted(query).unwrap_or_else(|refusal| panic!("{query}: {refusal:?}"));
            assert_eq!((wanted.file_name("tar").as_str(), wanted.names().as_str()), (file, names));
        }
        let wanted = wanted("image=app:1&registry=localhost:5000").expect("wanted");
        assert_eq!(wanted.images[0].reference.to_string(), "localhost:5000/app:1");
    }

    #[test]
    fn other_queries_are_refused() {
        let many = (0..21).map(|number| format!("a{number}"));
        let many = format!("image={}", many.collect::<Vec<_>>().join(","));
        for (query, part) in [
            ("", "no image was named"),
            ("image=&registry=docker.io", "no image was named"),
            ("image=Bad:1", "`Bad:1`"),
            ("image=a&platform=linux", "expected a platform"),
            ("image=a&registry=http://x", "`registry`"),
            ("image=a&registry=docker.io&registry=x", "twice"),
            ("image=a&url=http://x", "another parameter"),
            ("image=ghcr.io/a/b", "`ghcr.io` is not allowed"),
            ("image=a&has=169.254.169.254/a", "`169.254.169.254` is not allowed"),
            ("image=a&registry=localhost:5001", "`localhost:5001` is not allowed"),
            (&many, "at most 20 images"),
        ] {
            let refusal = wanted(query).expect_err(query);
            assert!(format!("{refusal:?}").contains(part), "{query}: {refusal:?}");
        }
    }
}
