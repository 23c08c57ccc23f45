//! Which content goes into which volume. Pure, and the same for the same plan and size.
//!
//! Each content goes, in the order of the plan, into the first volume that has room for it. One that is
//! larger than a whole volume is cut: it fills up the last volume, and as many new ones as it needs.

use std::ops::Range;

/// Parts shorter than this are not worth an entry and a request at the far side, in bytes.
const PART_MIN_BYTES: u64 = 64 << 10;
/// More contents than this do not go into one volume: its marker at the far side names them all, and
/// registries take manifests of up to 4 MiB.
const CONTENTS_MAX: usize = 10_000;
/// The most volumes of one payload, each of which has a tag at the far side until all have arrived.
pub(super) const VOLUMES_MAX: usize = 9_999;

/// What is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) size_bytes: u64,
    /// What an entry of it takes in a volume beside its bytes.
    pub(super) around_bytes: u64,
}

/// A content or a part of it in a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// The content's place in the list.
    pub(super) item: usize,
    /// Which of its bytes.
    pub(super) range: Range<u64>,
}

#[derive(Debug, Default)]
struct Volume {
    shares: Vec<Share>,
    left_bytes: u64,
}

/// Shares `items` out among volumes that have room for `room_bytes` each. `None` where that is too little
/// to be worth it, or too many volumes would be needed.
pub(super) fn cut(items: &[Item], room_bytes: u64) -> Option<Vec<Vec<Share>>> {
    let mut volumes: Vec<Volume> = Vec::new();
    for (item, &Item { size_bytes, around_bytes }) in items.iter().enumerate() {
        let needed = size_bytes.saturating_add(around_bytes);
        let fits = |volume: &&mut Volume| {
            volume.left_bytes >= needed && volume.shares.len() < CONTENTS_MAX
        };
        let whole = Share { item, range: 0..size_bytes };
        if let Some(volume) = volumes.iter_mut().find(fits) {
            volume.put(whole, needed);
        } else if needed <= room_bytes {
            volumes.push(Volume { shares: Vec::new(), left_bytes: room_bytes });
            volumes.last_mut()?.put(whole, needed);
        } else {
            cut_up(&mut volumes, item, items[item], room_bytes)?;
        }
        if volumes.len() > VOLUMES_MAX {
            return None;
        }
    }
    Some(volumes.into_iter().map(|volume| volume.shares).collect())
}

fn cut_up(volumes: &mut Vec<Volume>, item: usize, of: Item, room_bytes: u64) -> Option<()> {
    if room_bytes < of.around_bytes + PART_MIN_BYTES {
        return None;
    }
    let mut start = 0;
    while start < of.size_bytes {
        if volumes.len() > VOLUMES_MAX {
            return None;
        }
        let is_usable = |volume: &&mut Volume| {
            volume.left_bytes >= of.around_bytes + PART_MIN_BYTES
                && volume.shares.len() < CONTENTS_MAX
        };
        if volumes.last_mut().as_ref().is_none_or(|volume| !is_usable(volume)) {
            volumes.push(Volume { shares: Vec::new(), left_bytes: room_bytes });
        }
        let volume = volumes.last_mut()?;
        let end = of.size_bytes.min(start + volume.left_bytes - of.around_bytes);
        volume.put(Share { item, range: start..end }, end - start + of.around_bytes);
        if end < of.size_bytes {
            // The next part begins the next volume, and nothing comes behind this one.
            volume.left_bytes = 0;
        }
        start = end;
    }
    Some(())
}

impl Volume {
    fn put(&mut self, share: Share, needed_bytes: u64) {
        self.shares.push(share);
        self.left_bytes -= needed_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    /// The items of each volume, and which of their bytes.
    type Cuts = Vec<Vec<(usize, Range<u64>)>>;

    fn cut_sizes(sizes: &[u64], room: u64) -> Option<Cuts> {
        let items: Vec<Item> =
            sizes.iter().map(|size| Item { size_bytes: *size, around_bytes: 10 }).collect();
        let volumes = cut(&items, room)?;
        let shares = |volume: Vec<Share>| volume.into_iter().map(|share| (share.item, share.range));
        Some(volumes.into_iter().map(|volume| shares(volume).collect()).collect())
    }

    #[test]
    fn small_contents_fill_what_larger_ones_leave() {
        let sizes = [600 * KIB, 700 * KIB, 100 * KIB, 300 * KIB];
        let whole = |item: usize| (item, 0..sizes[item]);
        assert_eq!(
            cut_sizes(&sizes, 1000 * KIB),
            Some(vec![vec![whole(0), whole(2)], vec![whole(1)], vec![whole(3)]])
        );
    }

    #[test]
    fn what_is_larger_than_a_volume_is_cut_and_nothing_comes_between_its_parts() {
        let room = 200 * KIB;
        let sizes = [100 * KIB, 450 * KIB, 20 * KIB];
        let volumes = cut_sizes(&sizes, room).expect("volumes");
        let first = room - 10 - (100 * KIB + 10);
        assert_eq!(
            volumes,
            [
                vec![(0, 0..100 * KIB), (1, 0..first)],
                vec![(1, first..first + room - 10)],
                vec![(1, first + room - 10..450 * KIB), (2, 0..20 * KIB)],
            ]
        );
        for volume in volumes {
            let taken: u64 = volume.iter().map(|(_, range)| range.end - range.start + 10).sum();
            assert!(taken <= room, "{taken}");
        }
    }

    #[test]
    fn volumes_that_are_too_small_or_too_many_are_refused() {
        assert_eq!(cut_sizes(&[KIB; 3], 100 * KIB).map(|volumes| volumes.len()), Some(1));
        assert_eq!(cut_sizes(&[100 * KIB], 60 * KIB), None);
        assert_eq!(cut_sizes(&[10_000 * 70 * KIB], 64 * KIB + 10), None);
        assert_eq!(cut_sizes(&[0, 0], 64 * KIB).map(|volumes| volumes.len()), Some(1));
    }

    #[test]
    fn a_volume_has_no_more_contents_than_its_marker_can_name() {
        let volumes = cut_sizes(&vec![1; CONTENTS_MAX + 1], u64::MAX / 2).expect("volumes");
        assert_eq!(volumes.iter().map(Vec::len).collect::<Vec<_>>(), [CONTENTS_MAX, 1]);
    }
}
