//! Which images are meant: arguments, and files that name more.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use kharon::failure::Usage;
use kharon::lists::{self, Found, FoundImage, ImagePath};
use kharon::make::{self, ImageName};
use kharon::reference::RegistryHost;
use kharon::terminal::Terminal;
use kharon::units::{count, format_bytes};

/// The largest list of images that is read, in bytes.
const LIST_MAX_BYTES: u64 = 16 * 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct ImagesArgs {
    /// Images as `[registry/]repository[:tag][@digest]`, each also a comma-separated list
    #[arg(value_name = "IMAGES")]
    images: Vec<String>,
    /// Read more images from this file: a list with one per line where `#` begins a comment, Kubernetes
    /// manifests, or a compose file; `-` is stdin (repeatable)
    #[arg(long, value_name = "FILE")]
    images_from: Vec<PathBuf>,
    /// Where else an image stands in such manifests, such as spec.image, spec.jobs[].image or
    /// Prometheus=spec.image for one kind only (repeatable)
    #[arg(long, value_name = "[KIND=]PATH", requires = "images_from")]
    image_path: Vec<ImagePath>,
}

/// A file that names images, and how messages call it.
struct Named {
    name: String,
    found: Found,
}

impl ImagesArgs {
    /// Whether one of the files is stdin.
    pub(super) fn reads_stdin(&self) -> bool {
        self.images_from.iter().any(|path| is_stdin(path))
    }

    /// All images, each once. Says what was found where.
    pub(super) async fn wanted(
        &self,
        registry: &RegistryHost,
        terminal: &Terminal,
    ) -> anyhow::Result<Vec<ImageName>> {
        let mut images = make::parse_images(&self.images, registry)?;
        let mut known: HashSet<_> = images.iter().map(|image| image.reference.clone()).collect();
        let mut met = vec![false; self.image_path.len()];
        for path in &self.images_from {
            let (path, paths) = (path.clone(), self.image_path.clone());
            // A pipe that says nothing must not keep a signal from ending the run.
            let named = tokio::task::spawn_blocking(move || Named::read(&path, &paths)).await??;
            // What is left out may be why a name is none.
            for left in &named.found.left {
                terminal.reporter().warn(format!("{}: {left}", named.name));
            }
            let more = named.images(registry)?;
            let before = known.len();
            known.extend(more.iter().map(|image| image.reference.clone()));
            named.tell(more.len(), known.len() - before, terminal);
            named.tell_documents(&more, terminal);
            images.extend(more);
            met.iter_mut().zip(&named.found.paths_met).for_each(|(met, now)| *met |= now);
        }
        if let Some((path, _)) = self.image_path.iter().zip(met).find(|(_, met)| !met) {
            let what = format!("`--image-path {path}` names nothing in what --images-from reads");
            return Err(Usage::new(what)
                .with_hint("check its spelling, and the kind in front of it")
                .into());
        }
        Ok(make::each_once(images))
    }
}

impl Named {
    fn read(path: &Path, paths: &[ImagePath]) -> anyhow::Result<Self> {
        let name =
            if is_stdin(path) { "stdin".to_owned() } else { format!("`{}`", path.display()) };
        let text = read_list(path, &name)?;
        // A variable that is no text cannot be part of an image's name.
        let variable = |name: &str| std::env::var_os(name)?.into_string().ok();
        let found = lists::find(&text, &name, paths, &variable)?;
        Ok(Self { name, found })
    }

    fn images(&self, registry: &RegistryHost) -> Result<Vec<ImageName>, Usage> {
        let image = |found: &FoundImage| {
            let parsed = make::parse_image(&found.name, registry);
            parsed.map_err(|error| error.at(&format!("{}, {}", self.name, found.place)))
        };
        self.found.images.iter().map(image).collect()
    }

    fn tell(&self, all: usize, new: usize, terminal: &Terminal) {
        let images = count(all as u64, "image");
        let within = match self.found.documents {
            Some(documents) => {
                let with: HashSet<u64> = self.places().map(|(line, _)| line).collect();
                format!(" in {} of {}", with.len(), count(documents as u64, "document"))
            }
            None => String::new(),
        };
        let again = match all - new {
            0 => String::new(),
            again => format!(", {again} of them named before"),
        };
        terminal.reporter().note(format!("{}: {images}{within}{again}", self.name));
    }

    /// Says which document brought which image.
    fn tell_documents(&self, images: &[ImageName], terminal: &Terminal) {
        let mut documents: Vec<((u64, &str), Vec<String>)> = Vec::new();
        for (place, image) in self.places().zip(images) {
            let name = image.reference.to_string();
            match documents.last_mut() {
                Some((last, names)) if *last == place => names.push(name),
                _ => documents.push((place, vec![name])),
            }
        }
        for ((line, title), names) in documents {
            let names = names.join(", ");
            terminal.reporter().detail(format!("{} line {line}, {title}: {names}", self.name));
        }
    }

    /// Line and title of the document of each image, if there are documents.
    fn places(&self) -> impl Iterator<Item = (u64, &str)> {
        let within = self.found.images.iter().filter_map(|image| image.place.within.as_ref());
        within.map(|within| (within.document_line, within.document.as_str()))
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn read_list(path: &Path, name: &str) -> anyhow::Result<String> {
    let context = || format!("cannot read the list of images from {name}");
    let mut text = String::new();
    let read = if is_stdin(path) {
        std::io::stdin().lock().take(LIST_MAX_BYTES + 1).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path).with_context(context)?;
        file.take(LIST_MAX_BYTES + 1).read_to_string(&mut text)
    };
    let length_bytes = read.with_context(context)?;
    if length_bytes as u64 > LIST_MAX_BYTES {
        let most = format_bytes(LIST_MAX_BYTES);
        let usage = Usage::new(format!("the list of images in {name} has more than {most}"));
        return Err(usage.with_hint("split it, and name each part with `--images-from`").into());
    }
    Ok(text)
}
