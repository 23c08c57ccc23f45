//! Entries shared out among volumes: where each begins, what the index says of it, how long it all gets.

use std::collections::HashMap;

use anyhow::{Context as _, bail};
use bytes::Bytes;

use crate::failure::Usage;
use crate::minisign::SecretKey;
use crate::payload::index::{self, Entry, Index, Volume, VolumeContent};
use crate::payload::{Fault, Kind, PlannedEntry, entry_starts, part_entry_name, payload_length};
use crate::plan::{Plan, PlannedBlob};
use crate::units::format_bytes;

use super::Format;
use super::cut::{Item, Share, VOLUMES_MAX, cut};
use super::entries::{Content, Entries, Part, explain, layout_entries};

/// What an entry takes at most beside its bytes: headers, records, and its lines in the index.
const AROUND_BYTES: u64 = 512;
/// How often its name stands in all that.
const AROUND_NAMES: u64 = 4;

impl Entries {
    /// The entries of a payload that was split, as the `index` of one of its volumes has them; `plan` is what it
    /// was made by.
    ///
    /// # Errors
    /// When the index lists contents that the plan does not have.
    pub(super) fn of_index(
        index: &Index,
        plan: &Plan,
        key: Option<SecretKey>,
    ) -> anyhow::Result<Self> {
        let mut entries = Self {
            format: Format::Kharon,
            index: Index { volume: None, entries: Vec::new(), ..index.clone() },
            key,
            before: layout_entries(index, &plan.manifests)?,
            after: Vec::new(),
            descriptor: Vec::new(),
            is_split: true,
            contents: Vec::new(),
            lengths: Vec::new(),
        };
        let packed: Vec<&PlannedBlob> = plan.packed().collect();
        let mut begun: HashMap<&str, (usize, u64)> = HashMap::new();
        let mut wholes = HashMap::new();
        for (item, blob) in packed.iter().enumerate() {
            let digest = &blob.descriptor.digest;
            wholes.insert(entries.name_of(blob), item);
            wholes.insert(part_entry_name(digest, 0), item);
        }
        let mut volumes = Vec::with_capacity(index.volumes.len());
        for volume in &index.volumes {
            let mut shares = Vec::with_capacity(volume.contents.len());
            for VolumeContent { name, size } in &volume.contents {
                let stem = name.strip_prefix("parts/").and_then(|_| name.rsplit_once('/'));
                let known = match stem {
                    Some((stem, _)) => wholes.get(&format!("{stem}/0")),
                    None => wholes.get(name),
                };
                let item = *known.with_context(|| format!("`{name}` is not planned"))?;
                let (_, start) =
                    begun.entry(stem.map_or(name, |(stem, _)| stem)).or_insert((item, 0));
                let range = *start..*start + size;
                *start = range.end;
                shares.push(Share { item, range });
            }
            volumes.push(shares);
        }
        entries.place(&packed, &volumes)?;
        if entries.index.volumes != index.volumes {
            bail!("the contents of the volumes are not those of the plan");
        }
        entries.index.plan.clone_from(&index.plan);
        Ok(entries)
    }

    /// Finds cuts with which no volume has more than `volume_bytes`.
    pub(super) fn split(
        &mut self,
        packed: &[&PlannedBlob],
        volume_bytes: u64,
    ) -> anyhow::Result<()> {
        let items: Vec<Item> = packed
            .iter()
            .map(|blob| Item {
                size_bytes: blob.packed_bytes(),
                around_bytes: AROUND_BYTES + AROUND_NAMES * self.name_of(blob).len() as u64,
            })
            .collect();
        // What an index with all contents takes is known when the cuts are, which depend on it.
        let mut reserved_bytes = self.index.to_json()?.len() as u64 + AROUND_BYTES;
        loop {
            let around = self.before.iter().map(|(name, bytes)| {
                let entry = AROUND_BYTES + AROUND_NAMES * name.len() as u64;
                entry + bytes.len() as u64
            });
            let around_bytes = around.sum::<u64>().saturating_add(reserved_bytes);
            let room_bytes = volume_bytes.saturating_sub(around_bytes);
            let volumes = cut(&items, room_bytes)
                .filter(|volumes| volumes.len() <= VOLUMES_MAX)
                .ok_or_else(|| too_small(volume_bytes, around_bytes, &items))?;
            let volumes = if volumes.is_empty() { vec![Vec::new()] } else { volumes };
            self.place(packed, &volumes)?;
            let longest = self.lengths.iter().copied().max().unwrap_or_default();
            if longest <= volume_bytes {
                return Ok(());
            }
            reserved_bytes = reserved_bytes.saturating_add(longest - volume_bytes + 1);
        }
    }

    /// Puts the shares of each volume into it.
    pub(super) fn place(
        &mut self,
        packed: &[&PlannedBlob],
        volumes: &[Vec<Share>],
    ) -> anyhow::Result<()> {
        self.contents.clear();
        self.lengths.clear();
        let mut names: Vec<Vec<(String, u64)>> = Vec::with_capacity(volumes.len());
        let mut at: Vec<(usize, usize)> = Vec::new();
        for (volume, shares) in volumes.iter().enumerate() {
            let mut entries = Vec::with_capacity(shares.len());
            for Share { item, range } in shares {
                let blob = packed[*item];
                let is_whole = *range == (0..blob.packed_bytes());
                if range.start == 0 {
                    let digest = blob.descriptor.digest.clone();
                    self.contents.push(Content { blob: digest, parts: Vec::new() });
                }
                let place = self.contents.len() - 1;
                let content = &mut self.contents[place];
                let name = if is_whole {
                    self.name_of(blob)
                } else {
                    part_entry_name(&blob.descriptor.digest, content.parts.len() + 1)
                };
                let size_bytes = range.end - range.start;
                entries.push((name.clone(), size_bytes));
                at.push((place, self.contents[place].parts.len()));
                let (header_start, start) = (0, 0);
                let part = Part { volume, name, size_bytes, header_start, start };
                self.contents[place].parts.push(part);
            }
            names.push(entries);
        }
        self.list_volumes(&names)?;
        let mut at = at.into_iter();
        for (volume, contents) in names.iter().enumerate() {
            let starts = self.measure(volume, contents)?;
            for (header_start, start) in starts {
                if let Some((place, part)) = at.next() {
                    let part = &mut self.contents[place].parts[part];
                    (part.header_start, part.start) = (header_start, start);
                }
            }
        }
        Ok(())
    }

    /// Writes into the index what each volume holds, if the payload is split.
    fn list_volumes(&mut self, names: &[Vec<(String, u64)>]) -> anyhow::Result<()> {
        if !self.is_split {
            return Ok(());
        }
        let listed = names.iter().map(|names| {
            let contents = names.iter();
            let contents =
                contents.map(|(name, size)| VolumeContent { name: name.clone(), size: *size });
            Volume { contents: contents.collect() }
        });
        self.index.volumes = listed.collect();
        self.index.plan = Some(self.index.plan_digest()?);
        Ok(())
    }

    /// Notes the length of a volume with these `contents`, and gives where their headers and bytes begin.
    fn measure(
        &mut self,
        volume: usize,
        contents: &[(String, u64)],
    ) -> anyhow::Result<Vec<(u64, u64)>> {
        let small =
            |(name, bytes): &(String, Bytes)| (name.clone(), bytes.len() as u64, Kind::Small);
        let blobs = contents.iter().map(|(name, size)| (name.clone(), *size, Kind::Streamed));
        let mut planned: Vec<(String, u64, Kind)> = self
            .before
            .iter()
            .map(small)
            .chain(blobs)
            .chain(self.after.iter().map(small))
            .collect();
        // Every SHA-256 and signature has the same length, so that of the last entries is known before
        // their content.
        let sha256 = "0".repeat(64);
        let written: Vec<Entry> = planned
            .iter()
            .map(|(name, size, _)| Entry {
                name: name.clone(),
                size: *size,
                sha256: sha256.clone(),
            })
            .collect();
        for (name, bytes) in self.last(volume, &written)? {
            let (limit, found) = (index::INDEX_MAX_BYTES, bytes.len() as u64);
            if found > limit {
                return Err(explain(Fault::IndexTooLarge { name, limit, found }));
            }
            planned.push((name, found, Kind::Small));
        }
        let entries = || {
            planned.iter().map(|(name, size_bytes, kind)| PlannedEntry {
                name,
                size_bytes: *size_bytes,
                kind: *kind,
            })
        };
        self.lengths.push(payload_length(entries()));
        let starts = entry_starts(entries()).skip(self.before.len()).take(contents.len());
        Ok(starts.collect())
    }
}

fn too_small(volume_bytes: u64, around_bytes: u64, items: &[Item]) -> anyhow::Error {
    let contents = items.iter().map(|item| item.size_bytes).fold(0, u64::saturating_add);
    let least = around_bytes.saturating_add(contents / VOLUMES_MAX as u64).saturating_add(1 << 20);
    Usage::new(format!(
        "volumes of {} are too small for what each of them holds, or would be more than {VOLUMES_MAX}",
        format_bytes(volume_bytes)
    ))
    .with_hint(format!("use `--volume-size` with {} or more", format_bytes(least)))
    .into()
}
