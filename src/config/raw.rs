//! The keys of `config.toml` as they are written.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{Config, RegistrySettings};
use crate::failure::Usage;
use crate::printable::escaped;
use crate::reference::RegistryHost;
use crate::registry::PasswordSource;
use crate::units::parse_rate;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawConfig {
    limit_rate: Option<Spanned<String>>,
    #[serde(default)]
    registry: BTreeMap<Spanned<String>, RawRegistry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRegistry {
    mirror: Option<OneOrMany>,
    mirror_only: Option<bool>,
    ca_file: Option<OneOrMany>,
    plain_http: Option<bool>,
    username: Option<String>,
    /// Known only to be refused.
    password: Option<Spanned<IgnoredAny>>,
    password_env: Option<Spanned<String>>,
    password_file: Option<Spanned<String>>,
    credential_helper: Option<Spanned<String>>,
    limit_rate: Option<Spanned<String>>,
}

/// One text, or several, each with its place.
struct OneOrMany(Spanned<Texts>);

enum Texts {
    One(String),
    Many(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

/// Keeps the places of a list's texts, which an untagged enum loses.
struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or a list of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts::One(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
        let mut many = Vec::new();
        while let Some(text) = list.next_element()? {
            many.push(text);
        }
        Ok(Texts::Many(many))
    }
}

impl OneOrMany {
    fn into_list(self) -> Vec<Spanned<String>> {
        let span = self.0.span();
        match self.0.into_inner() {
            Texts::One(one) => vec![Spanned::new(span, one)],
            Texts::Many(many) => many,
        }
    }
}

/// A file and its text, for messages.
struct Source<'a> {
    text: &'a str,
    file: &'a Path,
}

pub(super) fn parse(text: &str, file: &Path) -> Result<Config, Usage> {
    let source = Source { text, file };
    let raw: RawConfig = toml::from_str(text).map_err(|error| {
        // A value may be a password in the wrong place.
        let what = error.message().lines().next().unwrap_or_default();
        source.error(error.span(), what).with_hint("docs/configuration.md lists all keys")
    })?;
    let mut config = Config {
        rate_limit_bytes_per_second: source.rate(raw.limit_rate)?,
        registries: BTreeMap::new(),
    };
    for (name, registry) in raw.registry {
        let span = name.span();
        let host: RegistryHost = source.value(&name, "registry")?;
        let settings = source.registry(registry)?;
        if config.registries.insert(host.clone(), settings).is_some() {
            let what = format!("registry `{host}` is named twice");
            return Err(source.error(Some(span), &what).with_hint("put its keys together"));
        }
    }
    Ok(config)
}

impl Source<'_> {
    fn error(&self, span: Option<Range<usize>>, what: &str) -> Usage {
        let file = self.file.display();
        let what = escaped(what);
        let line = span.and_then(|span| self.text.get(..span.start)).map(line_of);
        Usage::new(match line {
            Some(line) => format!("`{file}`, line {line}: {what}"),
            None => format!("`{file}`: {what}"),
        })
    }

    fn value<T: FromStr<Err: fmt::Display>>(
        &self,
        text: &Spanned<String>,
        key: &str,
    ) -> Result<T, Usage> {
        let parsed = text.get_ref().parse();
        parsed.map_err(|error| self.error(Some(text.span()), &format!("`{key}`: {error}")))
    }

    fn rate(&self, text: Option<Spanned<String>>) -> Result<Option<u64>, Usage> {
        let parse = |text: Spanned<String>| {
            parse_rate(text.get_ref())
                .map_err(|error| self.error(Some(text.span()), &format!("`limit-rate`: {error}")))
        };
        text.map(parse).transpose()
    }

    fn registry(&self, raw: RawRegistry) -> Result<RegistrySettings, Usage> {
        if let Some(password) = &raw.password {
            let what = "`password` cannot stand in this file";
            return Err(self.error(Some(password.span()), what).with_hint(
                "name where it is found: `password-env`, `password-file` or `credential-helper`",
            ));
        }
        let mirrors = raw.mirror.map(|mirrors| {
            let mirrors = mirrors.into_list();
            mirrors.iter().map(|mirror| self.value(mirror, "mirror")).collect()
        });
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let path = |path: Spanned<String>| folder.join(path.into_inner());
        let username = raw.username;
        let has_helper = raw.credential_helper.is_some();
        let sources = [
            raw.password_env.map(|name| (name.span(), PasswordSource::Variable(name.into_inner()))),
            raw.password_file.map(|file| (file.span(), PasswordSource::File(path(file)))),
            raw.credential_helper.map(|name| {
                let settings = self.file.to_owned();
                (name.span(), PasswordSource::Helper { name: name.into_inner(), settings })
            }),
        ];
        let mut sources = sources.into_iter().flatten();
        let password = sources.next();
        if let Some((span, _)) = sources.next() {
            let what =
                "a registry has one of `password-env`, `password-file` and `credential-helper`";
            return Err(self.error(Some(span), what).with_hint("take the others out"));
        }
        if let (Some(_), true, Some((span, _))) = (&username, has_helper, &password) {
            let what = "`credential-helper` knows the user name, `username` cannot stand beside it";
            return Err(self.error(Some(span.clone()), what).with_hint("take `username` out"));
        }
        Ok(RegistrySettings {
            mirrors: mirrors.transpose()?,
            mirror_only: raw.mirror_only,
            ca_files: raw.ca_file.map(|files| files.into_list().into_iter().map(path).collect()),
            plain_http: raw.plain_http,
            username,
            password: password.map(|(_, source)| source),
            rate_limit_bytes_per_second: self.rate(raw.limit_rate)?,
        })
    }
}

/// The line that follows what stands before it, from 1 on.
fn line_of(before: &str) -> usize {
    before.matches('\n').count() + 1
}
