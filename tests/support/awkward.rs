//! Layers with everything that is easily got wrong, and trees of files as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use kharon::digest::Digest;
use kharon::manifest::MediaType;
use serde_json::json;
use tar::{EntryType, Header};

use super::images::{Blob, Image};

/// How a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// Who may create what a layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    Everybody,
    Root,
}

/// A layer's tar under construction, of which nothing is checked.
#[derive(Default)]
pub struct LayerTar {
    bytes: Vec<u8>,
    /// The time of the next entry.
    time: u64,
}

impl LayerTar {
    fn header(&mut self, name: &str, kind: EntryType, mode: u32) -> Header {
        self.time += 1000;
        let mut header = Header::new_ustar();
        let name = name.as_bytes();
        if name.len() <= 100 {
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
        } else {
            self.pax(&[("path", name)]);
        }
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_000_000_000 + self.time);
        header.set_uid(0);
        header.set_gid(0);
        header
    }

    fn put(&mut self, mut header: Header, content: &[u8]) {
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    fn pax(&mut self, records: &[(&str, &[u8])]) {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length =
                (rest..rest + 9).find(|it| rest + it.to_string().len() == *it).expect("a length");
            content.extend_from_slice(format!("{length} {key}=").as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        let mut header = Header::new_ustar();
        header.set_path("pax").expect("a name");
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        self.put(header, &content);
    }

    pub fn file(&mut self, name: &str, content: &str) -> &mut Self {
        self.file_of(name, 0o644, content)
    }

    pub fn file_of(&mut self, name: &str, mode: u32, content: &str) -> &mut Self {
        let header = self.header(name, EntryType::Regular, mode);
        self.put(header, content.as_bytes());
        self
    }

    pub fn folder(&mut self, name: &str, mode: u32) -> &mut Self {
        let header = self.header(name, EntryType::Directory, mode);
        self.put(header, b"");
        self
    }

    pub fn link(&mut self, name: &str, target: &str) -> &mut Self {
        self.link_of(EntryType::Symlink, name, target)
    }

    pub fn hard_link(&mut self, name: &str, target: &str) -> &mut Self {
        self.link_of(EntryType::Link, name, target)
    }

    fn link_of(&mut self, kind: EntryType, name: &str, target: &str) -> &mut Self {
        let mut header = self.header(name, kind, 0o777);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.put(header, b"");
        self
    }

    pub fn node(&mut self, name: &str, kind: EntryType, device: (u32, u32)) -> &mut Self {
        let mut header = self.header(name, kind, 0o640);
        header.set_device_major(device.0).expect("a number");
        header.set_device_minor(device.1).expect("a number");
        self.put(header, b"");
        self
    }

    /// A file of somebody, with extended attributes.
    pub fn adorned(
        &mut self,
        name: &str,
        owner: (u64, u64),
        attributes: &[(&str, &[u8])],
    ) -> &mut Self {
        let names: Vec<String> =
            attributes.iter().map(|(name, _)| format!("SCHILY.xattr.{name}")).collect();
        let values = attributes.iter().map(|(_, value)| *value);
        let mut records: Vec<(&str, &[u8])> =
            names.iter().map(String::as_str).zip(values).collect();
        records.push(("mtime", b"1234567890.987654321"));
        self.pax(&records);
        let mut header = self.header(name, EntryType::Regular, 0o600);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        self.put(header, b"adorned");
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.extend([0; 1024]);
        bytes
    }

    pub fn packed(&self, packing: Packing) -> (Blob, Digest) {
        let plain = self.bytes();
        let id = Digest::of(&plain);
        let of_type = |more: &str, bytes: Vec<u8>| {
            Blob::new(&format!("application/vnd.oci.image.layer.v1.tar{more}"), bytes)
        };
        let blob = match packing {
            Packing::Plain => of_type("", plain),
            Packing::Zstd => of_type("+zstd", zstd::encode_all(&plain[..], 3).expect("packed")),
            Packing::Gzip => {
                let level = flate2::Compression::default();
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
                gzip.write_all(&plain).expect("packed");
                of_type("+gzip", gzip.finish().expect("packed"))
            }
        };
        (blob, id)
    }
}

/// An image of these layers, each packed in its way.
pub fn image(layers: &[(&LayerTar, Packing)]) -> Image {
    let packed: Vec<(Blob, Digest)> =
        layers.iter().map(|(layer, packing)| layer.packed(*packing)).collect();
    let ids: Vec<&Digest> = packed.iter().map(|(_, id)| id).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": ids },
    });
    let config = Blob::new("application/vnd.oci.image.config.v1+json", config.to_string());
    let layers = packed.iter().map(|(blob, _)| blob.clone()).collect();
    Image::of_blobs(MediaType::OCI_MANIFEST, config, layers, &json!({}))
}

/// The longest name of [`awkward`].
pub fn long_name() -> String {
    format!("{}/{}", "long".repeat(25), "name".repeat(25))
}

/// An image with all of it; `second` says how one of its layers is packed.
pub fn awkward(second: Packing, whom: For) -> Image {
    let mut base = LayerTar::default();
    base.folder("./", 0o755)
        .folder("./etc/", 0o755)
        .file("./etc/keep", "kept")
        .file("./etc/gone", "low")
        .file("etc/gone0", "another name")
        .folder("d/", 0o755)
        .file("d/x", "low")
        .folder("dd/", 0o755)
        .file("dd/y", "another name")
        .folder("first/", 0o755)
        .file("first/low", "low")
        .folder("first/sub/", 0o755)
        .file("first/sub/low", "low")
        .folder("last/", 0o755)
        .file("last/low", "low")
        .file("last/both", "low")
        .folder("bin/", 0o755)
        .file_of("bin/su", 0o4755, "set-user-ID")
        .file_of("bin/sg", 0o2711, "set-group-ID")
        .folder("tmp/", 0o1777)
        .node("pipe", EntryType::Fifo, (0, 0))
        .file("n\u{e4}me/\u{540d}", "UTF-8")
        .folder("n\u{e4}me", 0o755)
        .file(&long_name(), "200 characters")
        .folder(&"long".repeat(25), 0o755)
        .link("absolute", "/etc")
        .link("up", "../../../../../../../../etc")
        .link("dangling", "/new/place")
        .file("target", "linked")
        .hard_link("hard", "target")
        .link("soft", "target")
        .hard_link("hard-soft", "./soft")
        .file("becomes-folder", "low")
        .folder("becomes-file/", 0o755)
        .file("becomes-file/low", "low")
        .link("becomes-real", "/etc")
        .adorned("note", (0, 0), &[("user.note", b"two\nlines")])
        .folder("closed/", 0o555)
        .file("closed/file", "in it")
        .file("empty", "");
    if whom == For::Root {
        base.node("null", EntryType::Char, (1, 3))
            .node("disk", EntryType::Block, (7, 300))
            .adorned(
                "somebody",
                (1000, 2_000_000),
                &[("security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0")],
            );
    }
    let mut twice = LayerTar::default();
    twice.file("twice", "there");
    let mut upper = LayerTar::default();
    upper
        .file("etc/.wh.gone", "")
        .file("etc/.wh.missing", "")
        .file("./.wh.d", "")
        .file("nowhere/.wh.missing", "")
        .file("first/.wh..wh..opq", "")
        .file("first/new", "up")
        .file("last/new", "up")
        .file("last/both", "up")
        .file("last/.wh..wh..opq", "")
        .file("absolute/through", "in etc")
        .file("up/up", "in etc")
        .file("up/.wh.gone0", "")
        .folder("new/", 0o755)
        .folder("new/place/", 0o750)
        .file("dangling/through", "in new/place")
        .file("../escape", "inside")
        .file("/absolute-name", "inside")
        .file("etc/../../../escape2", "inside")
        .hard_link("late", "hard")
        .hard_link("by-link", "absolute/keep")
        .folder("becomes-folder", 0o711)
        .file("becomes-folder/file", "up")
        .file("becomes-file", "up")
        .folder("becomes-real/", 0o755)
        .file("becomes-real/file", "up");
    let mut top = LayerTar::default();
    top.file(".wh.target", "").folder("etc/", 0o700).file("closed/second", "in it");
    image(&[
        (&base, Packing::Gzip),
        (&twice, Packing::Gzip),
        (&upper, second),
        (&twice, Packing::Gzip),
        (&top, Packing::Plain),
    ])
}

/// All that is below a folder: kind, mode, owner, times, targets, links, content and extended attributes.
pub fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut listing = BTreeMap::new();
    let mut first_of: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(below) = waiting.pop() {
        let path = root.join(&below);
        let metadata = std::fs::symlink_metadata(&path).expect("it is there");
        let kind = metadata.file_type();
        let mut line = format!("{:o} {}:{}", metadata.mode(), metadata.uid(), metadata.gid());
        // The root's own time is that of its last change.
        if !below.as_os_str().is_empty() {
            write!(line, " {}.{:09}", metadata.mtime(), metadata.mtime_nsec()).expect("text");
        }
        if kind.is_dir() {
            let mut names: Vec<_> = std::fs::read_dir(&path)
                .expect("a folder")
                .map(|entry| entry.expect("an entry").file_name())
                .collect();
            names.sort_by(|a, b| b.cmp(a));
            waiting.extend(names.into_iter().map(|name| below.join(name)));
        } else if kind.is_symlink() {
            write!(line, " -> {}", std::fs::read_link(&path).expect("a link").display())
                .expect("text");
        } else if kind.is_file() {
            let content = std::fs::read(&path).expect("a file");
            write!(line, " {:?}", String::from_utf8_lossy(&content)).expect("text");
        } else if kind.is_char_device() || kind.is_block_device() {
            write!(line, " device {}", metadata.rdev()).expect("text");
        }
        if !kind.is_dir() && metadata.nlink() > 1 {
            match first_of.get(&metadata.ino()) {
                Some(first) => write!(line, " is {}", first.display()).expect("text"),
                None => drop(first_of.insert(metadata.ino(), below.clone())),
            }
        }
        for (name, value) in attributes(&path) {
            write!(line, " {name}={value:?}").expect("text");
        }
        listing.insert(String::from_utf8_lossy(below.as_os_str().as_bytes()).into_owned(), line);
    }
    listing
}

fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut list = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("a value");
        value.truncate(length);
        (String::from_utf8_lossy(name).into_owned(), value)
    };
    let mut all: Vec<_> = names.map(value).collect();
    all.sort();
    all
}
