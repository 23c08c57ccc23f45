//! Layers into trees: each entry into every tree that is written.

use std::collections::BTreeMap;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use super::report::{NotCreated, NotSet};
use super::tree::{Became, Open, Tree, Whiteouts};
use crate::changeset::{Changeset, Entry, Flaw};
use crate::confined::Unset;
use crate::disk::Room;
use crate::failure::hinted;
use crate::progress::Reporter;
use crate::save::Incoming;
use crate::unpack::plain_reader;

const BUFFER_BYTES: usize = 256 << 10;
const HINT_ROOM: &str = "free some space, or name another folder with `--to`";

/// Where trees go.
#[derive(Clone, Debug)]
pub(super) struct Trees {
    /// That of all layers.
    pub(super) merged: Option<PathBuf>,
    /// That of each layer alone, by its number.
    pub(super) single: BTreeMap<usize, PathBuf>,
}

/// A layer that comes.
#[derive(Clone, Debug)]
pub(super) struct Numbered {
    /// 1 is the lowest.
    pub(super) number: usize,
    /// What errors call it.
    pub(super) name: String,
}

/// What was written, and what was not.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) not_created: Vec<NotCreated>,
    pub(super) not_set: Vec<NotSet>,
    /// Modes of folders that are to be set in the end, by tree.
    pub(super) modes: Vec<(PathBuf, BTreeMap<PathBuf, u32>)>,
}

/// Writes all layers that come. Blocks: for a thread of its own.
pub(super) fn unpack(
    mut incoming: Incoming<'_>,
    layers: &[Numbered],
    trees: &Trees,
    room_in: &Path,
    reporter: &Arc<dyn Reporter>,
) -> anyhow::Result<Outcome> {
    let open = |path: &PathBuf, whiteouts| {
        Tree::new(path, whiteouts).with_context(|| format!("cannot open `{}`", path.display()))
    };
    let mut unpacking = Unpacking {
        outcome: Outcome::default(),
        room: Room::default(),
        room_in,
        reporter,
        buffer: vec![0; BUFFER_BYTES],
        layer: 0,
    };
    let mut merged = match &trees.merged {
        Some(path) => Some(open(path, Whiteouts::Applied)?),
        None => None,
    };
    while let Some(content) = incoming.begin()? {
        let layer = layers.get(content).context("a layer came that nobody asked for")?;
        unpacking.layer = layer.number;
        let mut into = Vec::new();
        let single = trees.single.get(&layer.number);
        if let Some(path) = single {
            into.push(open(path, Whiteouts::Visible)?);
        }
        if let Some(mut merged) = merged.take() {
            merged.begin_layer();
            into.push(merged);
        }
        let put = unpacking.layer(&mut incoming, &mut into);
        // What is wrong with its bytes says more than what came of them.
        let read = incoming.end();
        if let Err(Failed::Disk(error)) = put {
            return Err(error);
        }
        read?;
        if let Err(Failed::Layer(flaw)) = put {
            let message = format!("cannot unpack {}: {flaw}", layer.name);
            return Err(hinted(message, "no engine can run this image; have it built again"));
        }
        if trees.merged.is_some() {
            merged = into.pop();
        }
        if let (Some(path), Some(tree)) = (single, into.pop()) {
            unpacking.outcome.modes.push((path.clone(), tree.modes()));
        }
    }
    if let (Some(path), Some(tree)) = (&trees.merged, merged) {
        unpacking.outcome.modes.push((path.clone(), tree.modes()));
    }
    Ok(unpacking.outcome)
}

enum Failed {
    Layer(Flaw),
    Disk(anyhow::Error),
}

impl From<Flaw> for Failed {
    fn from(flaw: Flaw) -> Self {
        Self::Layer(flaw)
    }
}

struct Unpacking<'a> {
    outcome: Outcome,
    room: Room,
    room_in: &'a Path,
    reporter: &'a Arc<dyn Reporter>,
    buffer: Vec<u8>,
    /// The number of the layer under way.
    layer: usize,
}

impl Unpacking<'_> {
    fn layer(&mut self, packed: &mut Incoming<'_>, trees: &mut [Tree]) -> Result<(), Failed> {
        let plain = plain_reader(packed).map_err(Flaw::from)?;
        let mut changeset = Changeset::new(plain);
        while let Some(entry) = changeset.next()? {
            self.outcome.entries += 1;
            let mut files: Vec<(usize, Open)> = Vec::new();
            for (at, tree) in trees.iter_mut().enumerate() {
                match tree.put(&entry).map_err(|error| self.disk(error))? {
                    Became::File(open) => files.push((at, open)),
                    became => self.note(&entry, became),
                }
            }
            self.copy(&mut changeset, &mut files)?;
            for (at, open) in files {
                let ended = trees[at].end(open, &entry).map_err(|error| self.disk(error))?;
                self.note(&entry, ended);
            }
        }
        Ok(())
    }

    /// Writes the content of an entry into all of its files.
    fn copy(&mut self, content: &mut impl Read, files: &mut [(usize, Open)]) -> Result<(), Failed> {
        if files.is_empty() {
            return Ok(());
        }
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Flaw::from(error).into()),
            };
            for (_, open) in files.iter_mut() {
                let written = open.file.write_all(&self.buffer[..count]);
                written.map_err(|error| self.disk(error))?;
                self.outcome.bytes += count as u64;
                let (folder, doing) = (self.room_in, "extracting");
                self.room.wrote(count as u64, folder, doing, HINT_ROOM).map_err(Failed::Disk)?;
            }
        }
    }

    fn note(&mut self, entry: &Entry, became: Became) {
        match became {
            Became::File(_) => {}
            Became::Not(why) => {
                let lacking = NotCreated::new(self.layer, &entry.name, entry.kind, why);
                self.reporter.warn(format!("not created: {lacking}"));
                self.outcome.not_created.push(lacking);
            }
            Became::There(unset) => {
                for Unset { attribute, error } in unset {
                    let path = String::from_utf8_lossy(&entry.name).into_owned();
                    let why = error.to_string();
                    let not_set = NotSet { layer: self.layer, path, attribute, why };
                    self.reporter.warn(format!("not set: {not_set}"));
                    self.outcome.not_set.push(not_set);
                }
            }
        }
    }

    fn disk(&self, error: io::Error) -> Failed {
        let message =
            format!("cannot write layer {} into `{}`", self.layer, self.room_in.display());
        Failed::Disk(anyhow::Error::new(error).context(message))
    }
}
