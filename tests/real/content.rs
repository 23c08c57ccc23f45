//! Real content: the quickstart fixture, and images of the Debian packages of this machine.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::fixtures;
use crate::images::{Blob, Image};
use crate::kit::{copy_by_skopeo, put, run};

/// What an image is written as.
#[derive(Clone, Copy, Debug)]
pub enum As {
    Oci,
    DockerSchema2,
}

/// Puts a tag of the quickstart fixture into a registry by skopeo.
#[track_caller]
pub fn put_quickstart(registry: &str, tag: &str, name: &str, form: As) {
    let from = format!("oci:{}:{tag}", fixtures::quickstart().display());
    let arguments: &[&str] = match form {
        As::Oci => &["--all"],
        As::DockerSchema2 => &["--format", "v2s2"],
    };
    copy_by_skopeo(&from, registry, name, arguments);
}

/// The layers of a small Debian image, and of its next version, which adds a program.
#[derive(Debug)]
pub struct Debian {
    pub base: Blob,
    pub shell: Blob,
    pub search: Blob,
}

impl Debian {
    /// Reads the packages' files; every Debian has these.
    pub fn read() -> Self {
        Self {
            base: layer_of_packages(&["base-files", "tar"]),
            shell: layer_of_packages(&["dash", "sed"]),
            search: layer_of_packages(&["grep"]),
        }
    }

    /// The first version.
    pub fn first(&self) -> [Blob; 2] {
        [self.base.clone(), self.shell.clone()]
    }

    /// The next version.
    pub fn next(&self) -> [Blob; 3] {
        [self.base.clone(), self.shell.clone(), self.search.clone()]
    }

    /// Puts both versions as `NAME:1` and `NAME:2`.
    pub fn put(&self, registry: &str, name: &str, form: As) {
        let image = match form {
            As::Oci => Image::oci,
            As::DockerSchema2 => Image::docker,
        };
        put(&image(&self.first()), registry, name, "1");
        put(&image(&self.next()), registry, name, "2");
    }
}

fn layer_of_packages(names: &[&str]) -> Blob {
    let mut paths = BTreeSet::new();
    for name in names {
        let listed = run(Command::new("dpkg").args(["-L", name])).well();
        paths.extend(listed.lines());
    }
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    archive.follow_symlinks(false);
    for path in &paths {
        // `dpkg -L` names the root as `/.`, and what this machine has left out.
        let relative = path.trim_start_matches('/');
        if relative != "." && Path::new(path).symlink_metadata().is_ok() {
            archive.append_path_with_name(path, relative).expect("a readable file of a package");
        }
    }
    let gzip = archive.into_inner().expect("a tar").finish().expect("a gzip stream");
    Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", gzip)
}
