//! One tree, and what entries do to it.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::name::{self, Wish};
use super::report::Why;
use crate::changeset::{Entry, Kind};
use crate::confined::{Adornments, Found, Missing, Place, Root, Unset};

/// What `.wh.` means in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whiteouts {
    /// They take away what lower layers have.
    Applied,
    /// They are files as others.
    Visible,
}

/// A tree that is being written.
pub(super) struct Tree {
    root: Root,
    whiteouts: Whiteouts,
    /// What the layer under way has put there, and all folders above it. Only hashes: they are enough to know it again,
    /// as nobody knows their key.
    put: HashSet<u64>,
    hasher: RandomState,
    /// The folder that was used last, under the name by which it was found.
    last: Option<(Vec<OsString>, Rc<Place>)>,
    /// Modes that folders have in the end, where they have others until then.
    modes: BTreeMap<PathBuf, u32>,
}

/// What became of an entry.
pub(super) enum Became {
    /// It is there, except for some extended attributes.
    There(Vec<Unset>),
    /// A file whose content is to be written.
    File(Open),
    Not(Why),
}

/// A file without its content.
pub(super) struct Open {
    pub(super) file: File,
    place: Rc<Place>,
    name: OsString,
}

impl Tree {
    /// Takes the empty folder `root`.
    pub(super) fn new(root: &Path, whiteouts: Whiteouts) -> io::Result<Self> {
        let (put, hasher) = (HashSet::new(), RandomState::new());
        let root = Root::open(root)?;
        Ok(Self { root, whiteouts, put, hasher, last: None, modes: BTreeMap::new() })
    }

    /// The entries that follow belong to the next layer.
    pub(super) fn begin_layer(&mut self) {
        self.put = HashSet::new();
    }

    /// Modes that folders are still to be given.
    pub(super) fn modes(self) -> BTreeMap<PathBuf, u32> {
        self.modes
    }

    /// Does what `entry` says.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn put(&mut self, entry: &Entry) -> io::Result<Became> {
        self.try_put(entry).or_else(not)
    }

    /// Ends a file whose content was written.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn end(&mut self, open: Open, entry: &Entry) -> io::Result<Became> {
        let Open { file, place, name } = open;
        drop(file);
        self.adorn(&place, &name, entry).or_else(not)
    }

    fn try_put(&mut self, entry: &Entry) -> io::Result<Became> {
        let wish = match self.whiteouts {
            Whiteouts::Applied => name::wish(&entry.name),
            Whiteouts::Visible => name::plain_wish(&entry.name),
        };
        match wish {
            Err(why) => Ok(Became::Not(why)),
            Ok(Wish::Nothing) => Ok(Became::There(Vec::new())),
            Ok(Wish::Top) if entry.kind == Kind::Folder => {
                let top = self.root.top()?;
                self.adorn(&top, OsStr::new("."), entry)
            }
            Ok(Wish::Top) => Ok(Became::Not(Why::NoFolder)),
            Ok(Wish::Hidden(folder, name)) => {
                if let Some(place) = self.folder(folder, Missing::Left)? {
                    let times = place.times()?;
                    self.hide(&place, &name)?;
                    place.set_times(&times)?;
                }
                Ok(Became::There(Vec::new()))
            }
            Ok(Wish::Opaque(folder)) => {
                if let Some(place) = self.folder(folder, Missing::Left)? {
                    self.hide_all(&place)?;
                }
                Ok(Became::There(Vec::new()))
            }
            Ok(Wish::There(folder, name)) => {
                let Some(place) = self.folder(folder, Missing::Created)? else {
                    return Ok(Became::Not(Why::NoFolder));
                };
                // A folder keeps its own times, whatever is put into it.
                let times = place.times()?;
                let became = self.create(&place, name, entry);
                place.set_times(&times)?;
                became
            }
        }
    }

    fn create(&mut self, place: &Rc<Place>, name: OsString, entry: &Entry) -> io::Result<Became> {
        let linked = match entry.kind {
            Kind::Other => return Ok(Became::Not(Why::NoKind)),
            Kind::HardLink => match self.target(&entry.target)? {
                Ok((from, former)) if from.path() == place.path() && former == name => {
                    return Ok(Became::There(Vec::new()));
                }
                Ok(linked) => Some(linked),
                Err(why) => return Ok(Became::Not(why)),
            },
            _ => None,
        };
        let is_there = match place.find(&name)? {
            Some(Found::Folder) if entry.kind == Kind::Folder => true,
            Some(_) => {
                self.remove(place, &name)?;
                false
            }
            None => false,
        };
        match (entry.kind, linked) {
            (Kind::Folder, _) if is_there => {}
            (Kind::Folder, _) => place.create_folder(&name)?,
            (Kind::SymbolicLink, _) => place.create_link(&name, &entry.target)?,
            (Kind::HardLink, Some((from, former))) => {
                place.create_hard_link(&name, &from, &former)?;
                self.remember(&place.path().join(&name));
                // All that it has is its target's.
                return Ok(Became::There(Vec::new()));
            }
            (Kind::CharacterDevice | Kind::BlockDevice | Kind::NamedPipe, _) => {
                place.create_node(&name, entry.kind, entry.device)?;
            }
            _ => {
                let file = place.create_file(&name)?;
                self.remember(&place.path().join(&name));
                return Ok(Became::File(Open { file, place: Rc::clone(place), name }));
            }
        }
        self.remember(&place.path().join(&name));
        self.adorn(place, &name, entry)
    }

    /// Where the target of a hard link is, which is never followed itself.
    fn target(&self, target: &[u8]) -> io::Result<Result<(Place, OsString), Why>> {
        let mut names = match name::places(target) {
            Ok(names) => names,
            Err(why) => return Ok(Err(why)),
        };
        let Some(last) = names.pop() else { return Ok(Err(Why::TargetMissing)) };
        let place = self.root.folder(&names, Missing::Left)?;
        let Some(place) = place else { return Ok(Err(Why::TargetMissing)) };
        Ok(match place.find(&last)? {
            Some(Found::Other) => Ok((place, last)),
            Some(Found::Folder) | None => Err(Why::TargetMissing),
        })
    }

    fn folder(&mut self, names: Vec<OsString>, missing: Missing) -> io::Result<Option<Rc<Place>>> {
        if let Some((last, place)) = &self.last
            && *last == names
        {
            return Ok(Some(Rc::clone(place)));
        }
        let Some(place) = self.root.folder(&names, missing)?.map(Rc::new) else { return Ok(None) };
        self.last = Some((names, Rc::clone(&place)));
        Ok(Some(place))
    }

    fn adorn(&mut self, place: &Place, name: &OsStr, entry: &Entry) -> io::Result<Became> {
        let adornments = Adornments {
            kind: entry.kind,
            mode: entry.mode,
            owner: entry.owner,
            accessed: entry.accessed,
            modified: entry.modified,
            attributes: &entry.attributes,
        };
        let unset = place.adorn(name, &adornments)?;
        if entry.kind == Kind::Folder {
            let path = place.path().join(name);
            if place.mode_for_now(&adornments) == entry.mode {
                self.modes.remove(&path);
            } else {
                self.modes.insert(path, entry.mode);
            }
        }
        Ok(Became::There(unset))
    }

    fn hash(&self, path: &Path) -> u64 {
        self.hasher.hash_one(path)
    }

    /// The layer under way has put `path` there, and with it all folders above.
    fn remember(&mut self, path: &Path) {
        for path in path.ancestors() {
            if !self.put.insert(self.hash(path)) {
                break;
            }
        }
    }

    /// Takes away what lower layers have by this name.
    fn hide(&mut self, place: &Place, name: &OsStr) -> io::Result<()> {
        let path = place.path().join(name);
        if !self.put.contains(&self.hash(&path)) {
            return self.remove(place, name);
        }
        match place.find(name)? {
            Some(Found::Folder) => {
                let inner = place.enter(name)?;
                self.hide_all(&inner)
            }
            Some(Found::Other) | None => Ok(()),
        }
    }

    /// Takes away all that lower layers have in a folder.
    fn hide_all(&mut self, place: &Place) -> io::Result<()> {
        let times = place.times()?;
        for name in place.names()? {
            self.hide(place, &name)?;
        }
        place.set_times(&times)
    }

    fn remove(&mut self, place: &Place, name: &OsStr) -> io::Result<()> {
        // The folder that was used last may be among it, or may be found no longer.
        self.last = None;
        let path = place.path().join(name);
        if !self.modes.is_empty() {
            self.modes.retain(|folder, _| !folder.starts_with(&path));
        }
        place.remove(name)
    }
}

/// Gives folders their modes, those within others first.
pub(super) fn set_modes(root: &Path, modes: BTreeMap<PathBuf, u32>) -> io::Result<()> {
    if modes.is_empty() {
        return Ok(());
    }
    let root = Root::open(root)?;
    for (path, mode) in modes.into_iter().rev() {
        let mut names: Vec<OsString> = path.iter().map(OsStr::to_owned).collect();
        let last = names.pop().unwrap_or_else(|| OsString::from("."));
        if let Some(place) = root.folder(&names, Missing::Left)? {
            place.set_mode(&last, mode)?;
        }
    }
    Ok(())
}

fn not(error: io::Error) -> io::Result<Became> {
    Why::of(&error).map(Became::Not).ok_or(error)
}
