//! Replaces a found match by one whose end is better.

use super::super::chains::Found;
use super::super::{View, common_length, load32};
use super::KlauspostLazy;
use crate::gzip::token::{MAX_DISTANCE, MAX_MATCH};

/// How many bytes of a better end's match may be literals instead.
const END_OFFSET: u64 = 2;

/// How better ends are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The match begins where the replaced one began.
    SameStart,
    /// It may begin up to two bytes later.
    LaterStart,
}

impl KlauspostLazy {
    /// The match to say instead of `former`, which begins one byte before: perhaps the same. Literals that come before it
    /// are said at once.
    pub(super) fn better_end(&mut self, view: &View<'_>, former: Found, lookahead: u64) -> Found {
        match self.version.ends {
            Ends::SameStart => self.with_same_start(view, former, lookahead),
            Ends::LaterStart => self.with_later_start(view, former, lookahead),
        }
    }

    /// Where the bytes at `end` were last, less `back`; none where that is too far or nowhere.
    fn place_of_end(&self, view: &View<'_>, end: u64, back: u64) -> Option<u64> {
        let head = self.chains.head(Self::hash(load32(view.bytes, view.index(end))));
        let distance = self.chains.place(self.at).wrapping_sub(head);
        if usize::from(distance) > MAX_DISTANCE {
            return None;
        }
        (self.at - u64::from(distance)).checked_sub(back)
    }

    fn with_same_start(&self, view: &View<'_>, former: Found, lookahead: u64) -> Found {
        let start = self.at - 1;
        let length = former.length as u64;
        if start + length + END_OFFSET >= self.insert_end() {
            return former;
        }
        let back = 4 - END_OFFSET;
        let Some(place) = self.place_of_end(view, start + length - back, length - back) else {
            return former;
        };
        if place <= self.lowest() || place >= start {
            return former;
        }
        let most = lookahead.min(MAX_MATCH as u64) as usize;
        let longer = common_length(view.bytes, view.index(place), view.index(start), most);
        if longer <= former.length {
            return former;
        }
        Found { length: longer, distance: (start - place) as usize }
    }

    fn with_later_start(&mut self, view: &View<'_>, former: Found, lookahead: u64) -> Found {
        let start = self.at - 1;
        let length = former.length as u64;
        if former.length >= MAX_MATCH - END_OFFSET as usize || start + length >= self.insert_end() {
            return former;
        }
        let Some(place) = self.place_of_end(view, start + length, length) else { return former };
        if place <= self.lowest() + END_OFFSET || place >= start {
            return former;
        }
        let distance = (start - place) as usize;
        if distance == former.distance {
            return former;
        }
        let most = (lookahead.min(MAX_MATCH as u64 + END_OFFSET) - END_OFFSET) as usize;
        let (place, index) = (view.index(place), view.index(start));
        let skipped = END_OFFSET as usize;
        let mut longer = common_length(view.bytes, place + skipped, index + skipped, most);
        if longer <= former.length {
            return former;
        }
        for offset in (0..skipped).rev() {
            if longer >= MAX_MATCH || view.bytes[index + offset] != view.bytes[place + offset] {
                for owed in 0..=offset {
                    self.literal(view, start + owed as u64);
                    self.at += 1;
                    self.insert_through(view, self.at);
                }
                break;
            }
            longer += 1;
        }
        Found { length: longer, distance }
    }
}
