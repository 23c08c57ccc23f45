//! What all rows have in common: the images, impatience, and how an end is written down.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use kharon::digest::Digest;
use kharon::failure::{ExitCode, hints};
use kharon::manifest::MediaType;
use kharon::registry::Connections;

use crate::deltas::app;
use crate::kit::{self, Job};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Image, random_layer};
use crate::support::registry::TestRegistry;

/// Where nobody listens.
pub const NOWHERE: &str = "http://127.0.0.1:1/elsewhere";
pub const LOGIN_PAGE: &str = "<!DOCTYPE html><html><title>Log in</title></html>";
pub const ONE: NonZeroUsize = NonZeroUsize::MIN;

/// The image that is there before, and what becomes of it: one layer stays, one changes.
pub fn old_image() -> Image {
    Image::oci(&[random_layer(1, 20_000), app(None)])
}

pub fn new_image() -> Image {
    Image::oci(&[random_layer(1, 20_000), app(Some(7)), random_layer(2, 1_500_000)])
}

/// An index of two platforms.
pub fn new_index() -> Image {
    Image::index(&["linux/amd64", "linux/arm64"].map(|platform| {
        Image::oci_for(platform, &[random_layer(1, 20_000), random_layer(3, 3000)])
    }))
}

/// The layer of `image` that faults are about.
pub fn layer(image: &Image, nth: usize) -> String {
    image.layers()[nth].digest().to_string()
}

pub fn config(image: &Image) -> String {
    image.blobs[0].digest().to_string()
}

pub fn other_digest() -> String {
    Digest::of(b"something else").to_string()
}

/// For ever.
pub fn on(method: &str, part: &str, with: Effect) -> Fault {
    Fault::on(method, part, with).always()
}

pub fn answer(status: u16, headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> Effect {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned()));
    Effect::Answer(status, headers.collect(), body.into())
}

/// A page of a proxy or portal that stands in front of a registry.
pub fn page(status: u16) -> Effect {
    answer(status, &[("content-type", "text/html; charset=utf-8")], LOGIN_PAGE)
}

pub fn status(status: u16, headers: &[(&'static str, &str)]) -> Effect {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned()));
    Effect::Status(status, headers.collect())
}

pub fn header(name: &'static str, value: &str) -> Effect {
    Effect::Header(name, Some(value.to_owned()))
}

/// `bytes` as a server sends them that packs everything.
pub fn packed(media_type: &str, bytes: &[u8]) -> Effect {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut writer, bytes).expect("packs");
    let headers = [("content-encoding", "gzip"), ("content-type", media_type)];
    answer(200, &headers, writer.finish().expect("packs"))
}

pub fn index_type() -> &'static str {
    MediaType::OCI_INDEX
}

/// Waits for a second only.
pub fn impatient(registry: &TestRegistry) -> Connections {
    let patience = Duration::from_secs(1);
    Connections {
        header_timeout: patience,
        stall_timeout: patience,
        ..kit::connections(&[registry])
    }
}

/// Code, messages and advice, without what differs from run to run.
pub struct Said {
    job: [(String, &'static str); 3],
    text: String,
}

impl Said {
    pub fn new(job: &Job) -> Self {
        let folder = job.folder.path().display().to_string();
        let job = [(job.source.host(), "SOURCE"), (job.far.host(), "FAR"), (folder, "FOLDER")];
        Self { job, text: String::new() }
    }

    pub fn code(&mut self, code: ExitCode) -> &mut Self {
        self.line(&format!("exit code {}", code as i32))
    }

    pub fn error(&mut self, error: &anyhow::Error) -> &mut Self {
        self.code(ExitCode::of(error)).line(&format!("error: {error:#}"));
        for hint in hints(error) {
            self.line(&format!("hint: {hint}"));
        }
        self
    }

    pub fn warnings(&mut self, warnings: &[String]) -> &mut Self {
        for warning in warnings {
            self.line(&format!("warning: {warning}"));
        }
        self
    }

    pub fn line(&mut self, line: &str) -> &mut Self {
        let replace = |text: String, (old, new): &(String, &str)| text.replace(old, new);
        let line = self.job.iter().fold(line.to_owned(), replace);
        writeln!(self.text, "  {line}").expect("a string");
        self
    }

    pub fn told(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}
