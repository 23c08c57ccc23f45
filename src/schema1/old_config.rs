//! What Docker before 1.8.3 said of an image, with everything that later versions always say.
//!
//! The fields and which of them may be missing are those of `Schema2V1Image` and `Schema2Config` in containers/image; what
//! these do not know is left out.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::Error as _;

use super::created::created;
use super::fields::Fields;
use super::json::{self, Object};

type Outcome<T> = Result<T, serde_json::Error>;

/// The fields of a config, as JSON.
pub(super) fn fields(image: &Fields<'_>) -> Outcome<BTreeMap<&'static str, String>> {
    let mut fields = BTreeMap::new();
    let names =
        ["comment", "container", "docker_version", "author", "architecture", "variant", "os"];
    for name in names {
        let text = image.text(name)?;
        if !text.is_empty() {
            fields.insert(name, string(&text));
        }
    }
    fields.insert("created", string(&created(image, "created")?));
    let run = image.object("container_config")?;
    fields.insert("container_config", container(&run.unwrap_or(Fields::read("{}")?))?);
    if let Some(config) = image.object("config")? {
        fields.insert("config", container(&config)?);
    }
    Ok(fields)
}

/// How a container is run.
fn container(config: &Fields<'_>) -> Outcome<String> {
    let mut out = String::new();
    let mut writer = Writer { config, object: Object::begin(&mut out) };
    writer.text("Hostname")?;
    writer.text("Domainname")?;
    writer.text("User")?;
    writer.flag("AttachStdin")?;
    writer.flag("AttachStdout")?;
    writer.flag("AttachStderr")?;
    writer.unless_empty("ExposedPorts", Fields::set)?;
    writer.flag("Tty")?;
    writer.flag("OpenStdin")?;
    writer.flag("StdinOnce")?;
    writer.always("Env", Fields::list)?;
    writer.always("Cmd", Fields::command)?;
    writer.unless_empty("Healthcheck", health)?;
    writer.flag_if_set("ArgsEscaped")?;
    writer.text("Image")?;
    writer.always("Volumes", Fields::set)?;
    writer.text("WorkingDir")?;
    writer.always("Entrypoint", Fields::command)?;
    writer.flag_if_set("NetworkDisabled")?;
    writer.unless_empty("MacAddress", Fields::filled)?;
    writer.always("OnBuild", Fields::list)?;
    writer.always("Labels", Fields::labels)?;
    writer.unless_empty("StopSignal", Fields::filled)?;
    writer.unless_empty("StopTimeout", Fields::number)?;
    writer.unless_empty("Shell", Fields::command)?;
    writer.object.end();
    Ok(out)
}

/// How a container is looked after.
fn health(config: &Fields<'_>, name: &str) -> Outcome<Option<String>> {
    let Some(check) = config.object(name)? else { return Ok(None) };
    let mut out = String::new();
    let mut writer = Writer { config: &check, object: Object::begin(&mut out) };
    writer.unless_empty("Test", Fields::list)?;
    for name in ["StartPeriod", "StartInterval", "Interval", "Timeout", "Retries"] {
        let number: Option<i64> = check.get(name)?;
        if let Some(number) = number.filter(|number| *number != 0) {
            writer.object.field(name).push_str(&number.to_string());
        }
    }
    writer.object.end();
    Ok(Some(out))
}

fn string(text: &str) -> String {
    let mut out = String::new();
    json::string(&mut out, text);
    out
}

struct Writer<'a, 'b> {
    config: &'a Fields<'b>,
    object: Object<'a>,
}

/// Reads a field and gives it as JSON.
type Read<'b> = fn(&Fields<'b>, &str) -> Outcome<Option<String>>;

impl<'b> Writer<'_, 'b> {
    fn text(&mut self, name: &str) -> Outcome<()> {
        let text = self.config.text(name)?;
        json::string(self.object.field(name), &text);
        Ok(())
    }

    fn flag(&mut self, name: &str) -> Outcome<()> {
        let is_set: bool = self.config.get(name)?.unwrap_or(false);
        self.object.field(name).push_str(if is_set { "true" } else { "false" });
        Ok(())
    }

    fn flag_if_set(&mut self, name: &str) -> Outcome<()> {
        let is_set: bool = self.config.get(name)?.unwrap_or(false);
        if is_set { self.flag(name) } else { Ok(()) }
    }

    /// Writes a field, and `null` where there is nothing to write.
    fn always(&mut self, name: &str, read: Read<'b>) -> Outcome<()> {
        let json = read(self.config, name)?;
        self.object.field(name).push_str(json.as_deref().unwrap_or("null"));
        Ok(())
    }

    fn unless_empty(&mut self, name: &str, read: Read<'b>) -> Outcome<()> {
        let json = read(self.config, name)?;
        let is_empty = |json: &String| json == "[]" || (json == "{}" && name == "ExposedPorts");
        if let Some(json) = json.filter(|json| !is_empty(json)) {
            self.object.field(name).push_str(&json);
        }
        Ok(())
    }
}

impl Fields<'_> {
    fn filled(&self, name: &str) -> Outcome<Option<String>> {
        Ok(Some(self.text(name)?).filter(|text| !text.is_empty()).map(|text| string(&text)))
    }

    fn number(&self, name: &str) -> Outcome<Option<String>> {
        Ok(self.get::<i64>(name)?.map(|number| number.to_string()))
    }

    fn list(&self, name: &str) -> Outcome<Option<String>> {
        Ok(self.texts(name)?.map(|texts| as_list(&texts)))
    }

    fn command(&self, name: &str) -> Outcome<Option<String>> {
        Ok(self.words(name)?.map(|words| as_list(&words)))
    }

    /// An object that is a set: only its names count.
    fn set(&self, name: &str) -> Outcome<Option<String>> {
        let Some(set) = self.object(name)? else { return Ok(None) };
        for (item, value) in set.all().filter(|(_, value)| value.get() != "null") {
            Fields::read(value.get()).map_err(|error| {
                serde_json::Error::custom(format!("`{item}` in `{name}`: {error}"))
            })?;
        }
        let names: BTreeSet<&str> = set.all().map(|(name, _)| name).collect();
        let mut out = String::new();
        let mut object = Object::begin(&mut out);
        for name in names {
            object.field(name).push_str("{}");
        }
        object.end();
        Ok(Some(out))
    }

    fn labels(&self, name: &str) -> Outcome<Option<String>> {
        let Some(labels) = self.get::<BTreeMap<String, Option<String>>>(name)? else {
            return Ok(None);
        };
        let mut out = String::new();
        let mut object = Object::begin(&mut out);
        for (name, label) in labels {
            json::string(object.field(&name), &label.unwrap_or_default());
        }
        object.end();
        Ok(Some(out))
    }
}

fn as_list(texts: &[String]) -> String {
    let mut out = String::new();
    json::list(&mut out, texts, |out, text| json::string(out, text));
    out
}
