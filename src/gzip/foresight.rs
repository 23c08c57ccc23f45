//! What a model will say farther on, found out on other threads.
//!
//! Some models' predictions depend on the plain bytes around a position and on nothing else. Of such a model another one can begin
//! anywhere, say at a place where no token begins: sooner or later both say a token that begins at the same position, and from
//! there on the same ones. So the plain bytes are cut into stretches, each with its tokens found by itself;
//! [`Foreseen`] takes over what fits, and asks the model where nothing does. What comes out is the same with and without.

use std::sync::mpsc::{Receiver, Sender};
use std::thread::{Scope, ScopedJoinHandle};

use super::model::{Model, Parameters, Prediction, View};
use super::token::{MAX_DISTANCE, Token};

/// How many plain bytes a stretch has.
pub const STRETCH_BYTES: u64 = 512 << 10;
/// Tokens are looked for from so much before the stretch on, so that its first one most likely fits.
const APPROACH_BYTES: u64 = 4 << 10;
/// How much before a stretch matters to its tokens.
pub const BEFORE_BYTES: u64 = APPROACH_BYTES + MAX_DISTANCE as u64;
/// How much behind it: more than such a model looks at beyond the position that it is asked for.
pub const BEHIND_BYTES: u64 = 1 << 10;

/// Where there is no stretch, after how many plain bytes it is looked for again.
const PAUSE_BYTES: u64 = 4 << 10;

/// A stretch whose tokens are being found.
pub struct Pending<'scope> {
    /// Where its member began: another member knows nothing of what is before its own beginning.
    origin: u64,
    to: u64,
    tokens: ScopedJoinHandle<'scope, Tokens>,
}

/// Tokens one after the other.
struct Tokens {
    /// Where the first one begins.
    start: u64,
    tokens: Vec<Token>,
}

/// Begins stretches of one member.
pub struct Foresight<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    parameters: Parameters,
    /// Where the member began.
    pub origin: u64,
    /// Where the next stretch begins.
    pub next: u64,
    pending: Sender<Pending<'scope>>,
}

impl<'scope, 'env> Foresight<'scope, 'env> {
    /// For a member that begins at `origin`. None where the model is not of that sort.
    pub fn new(
        scope: &'scope Scope<'scope, 'env>,
        parameters: Parameters,
        origin: u64,
        pending: Sender<Pending<'scope>>,
    ) -> Option<Self> {
        let next = origin;
        let new = Self { scope, parameters, origin, next, pending };
        parameters.depends_on_plain_alone().then_some(new)
    }

    /// The first position that matters to the next stretch.
    pub fn from(&self) -> u64 {
        self.next.saturating_sub(BEFORE_BYTES).max(self.origin)
    }

    /// The position behind the last one that matters to it.
    pub fn to(&self) -> u64 {
        self.next + STRETCH_BYTES + BEHIND_BYTES
    }

    /// Begins the next stretch; `bytes` are those from [`Self::from`] to [`Self::to`].
    pub fn begin(&mut self, bytes: Vec<u8>) {
        let (parameters, origin, start) = (self.parameters, self.origin, self.from());
        let (from, to) = (self.next, self.next + STRETCH_BYTES);
        let find = move || {
            let view = View { bytes: &bytes, start, limit: start + bytes.len() as u64 };
            tokens_of(parameters, origin, &view, from, to)
        };
        // Where nobody waits for it any more, it is not missed.
        let _ = self.pending.send(Pending { origin, to, tokens: self.scope.spawn(find) });
        self.next = to;
    }
}

/// The tokens that begin between `from` and `to`.
fn tokens_of(parameters: Parameters, origin: u64, view: &View<'_>, from: u64, to: u64) -> Tokens {
    let mut model = parameters.model();
    let mut position = from.saturating_sub(APPROACH_BYTES).max(origin);
    model.resume(view, origin, position);
    let mut found = Tokens { start: from, tokens: Vec::new() };
    while position < to {
        if found.tokens.is_empty() {
            found.start = position;
        }
        let Prediction { token, .. } = model.predict(view, position);
        model.commit(view, position, token);
        if position >= from {
            found.tokens.push(token);
        }
        position += token.plain_bytes() as u64;
    }
    found
}

/// A model that takes over what was found ahead.
pub struct Foreseen<'m, 'scope> {
    model: &'m mut dyn Model,
    pending: &'m Receiver<Pending<'scope>>,
    found: Found,
    lookahead: u64,
    origin: u64,
    /// Whether the model knows everything up to the current position.
    is_awake: bool,
    /// Before this position nothing is taken over: the model remembers a flush, of which nothing is known ahead, or there was
    /// no stretch a moment ago.
    blind_until: u64,
}

/// The stretch that is gone through.
#[derive(Default)]
struct Found {
    tokens: Vec<Token>,
    /// Which one is next, and where it begins.
    index: usize,
    position: u64,
    /// Where the stretch ends.
    to: u64,
}

impl<'m, 'scope> Foreseen<'m, 'scope> {
    /// `model` with what comes through `pending`.
    pub fn new(model: &'m mut dyn Model, pending: &'m Receiver<Pending<'scope>>) -> Self {
        let (found, lookahead) = (Found::default(), model.lookahead() as u64);
        Self { model, pending, found, lookahead, origin: 0, is_awake: true, blind_until: 0 }
    }

    /// The token that was found for `position`.
    #[inline]
    fn foreseen(&mut self, view: &View<'_>, position: u64) -> Option<Token> {
        let is_clear = position + self.lookahead <= view.limit && position >= self.blind_until;
        if !is_clear {
            return None;
        }
        if position >= self.found.to && !self.next_stretch(position) {
            self.blind_until = position + PAUSE_BYTES;
            return None;
        }
        let found = &mut self.found;
        while found.position < position {
            found.position += found.tokens.get(found.index)?.plain_bytes() as u64;
            found.index += 1;
        }
        let is_there = found.position == position;
        is_there.then(|| found.tokens.get(found.index).copied()).flatten()
    }

    #[cold]
    fn next_stretch(&mut self, position: u64) -> bool {
        while let Ok(pending) = self.pending.try_recv() {
            if pending.origin != self.origin || pending.to <= position {
                continue;
            }
            let Tokens { start, tokens } = match pending.tokens.join() {
                Ok(tokens) => tokens,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            self.found = Found { tokens, index: 0, position: start, to: pending.to };
            return true;
        }
        false
    }

    fn wake(&mut self, view: &View<'_>, position: u64) {
        if !self.is_awake {
            self.model.resume(view, self.origin, position);
            self.is_awake = true;
        }
    }
}

impl Model for Foreseen<'_, '_> {
    fn lookahead(&self) -> usize {
        self.model.lookahead()
    }

    fn restart(&mut self, view: &View<'_>, position: u64, dictionary_bytes: usize) {
        self.origin = position - dictionary_bytes as u64;
        self.is_awake = true;
        self.model.restart(view, position, dictionary_bytes);
    }

    fn flush(&mut self, view: &View<'_>, position: u64) {
        self.wake(view, position);
        self.blind_until = position + MAX_DISTANCE as u64;
        self.model.flush(view, position);
    }

    #[inline]
    fn predict(&mut self, view: &View<'_>, position: u64) -> Prediction {
        if let Some(token) = self.foreseen(view, position) {
            self.is_awake = false;
            return Prediction::new(token);
        }
        self.wake(view, position);
        self.model.predict(view, position)
    }

    #[inline]
    fn commit(&mut self, view: &View<'_>, position: u64, token: Token) {
        if self.is_awake {
            self.model.commit(view, position, token);
        }
    }

    fn resume(&mut self, view: &View<'_>, origin: u64, position: u64) {
        self.origin = origin;
        self.is_awake = true;
        self.model.resume(view, origin, position);
    }

    fn rank(
        &self,
        view: &View<'_>,
        position: u64,
        length: usize,
        distance: usize,
    ) -> Option<usize> {
        self.model.rank(view, position, length, distance)
    }

    fn ranked(&self, view: &View<'_>, position: u64, length: usize, rank: usize) -> Option<usize> {
        self.model.ranked(view, position, length, rank)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::gzip::huffman::CodeStyle;
    use crate::gzip::model::{Boundary, Kind};

    /// Words, zeros, noise, and what was there before.
    fn plain(bytes: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let mut plain: Vec<u8> = Vec::new();
        while plain.len() < bytes {
            match random() % 16 {
                0 => plain.extend((0..random() % 3_000).map(|_| random() as u8)),
                1 => plain.resize(plain.len() + random() as usize % 40_000, 0),
                2 if plain.len() > 50_000 => {
                    let at = plain.len() - 1 - random() as usize % 40_000;
                    let part = plain[at..].iter().take(5_000).copied().collect::<Vec<_>>();
                    plain.extend(part);
                }
                _ => {
                    let words = ["layer", "usr/share", "the ", "\0\0\0\0\0\0\0\0", "0000644"];
                    for _ in 0..200 {
                        plain.extend(words[random() as usize % words.len()].bytes());
                        plain.extend((random() as u16 % 50).to_be_bytes());
                    }
                }
            }
        }
        plain.truncate(bytes);
        plain
    }

    /// Compares what a model says with and without foresight, and says how often it was asked all the same.
    fn asked(level: u8, plain: &[u8], flushes: &[u64], misses_every: usize) -> usize {
        struct Counting(Box<dyn Model>, usize);
        impl Model for Counting {
            fn lookahead(&self) -> usize {
                self.0.lookahead()
            }
            fn restart(&mut self, view: &View<'_>, position: u64, dictionary_bytes: usize) {
                self.0.restart(view, position, dictionary_bytes);
            }
            fn flush(&mut self, view: &View<'_>, position: u64) {
                self.0.flush(view, position);
            }
            fn predict(&mut self, view: &View<'_>, position: u64) -> Prediction {
                self.1 += 1;
                self.0.predict(view, position)
            }
            fn commit(&mut self, view: &View<'_>, position: u64, token: Token) {
                self.0.commit(view, position, token);
            }
            fn resume(&mut self, view: &View<'_>, origin: u64, position: u64) {
                self.0.resume(view, origin, position);
            }
        }
        let parameters =
            Parameters::new(Kind::GoLazy, level, CodeStyle::Go, Boundary::Tokens(1 << 14));
        thread::scope(|scope| {
            let (pending, foreseen) = mpsc::channel();
            let mut foresight = Foresight::new(scope, parameters, 0, pending).expect("possible");
            while let Some(bytes) = plain.get(foresight.from() as usize..foresight.to() as usize) {
                foresight.begin(bytes.to_vec());
            }
            let mut model = parameters.model();
            let mut counting = Counting(parameters.model(), 0);
            let mut foreseen = Foreseen::new(&mut counting, &foreseen);
            let end = plain.len() as u64;
            let mut position = 0;
            let start = View { bytes: plain, start: 0, limit: end };
            model.restart(&start, 0, 0);
            foreseen.restart(&start, 0, 0);
            let mut count = 0;
            for &limit in flushes.iter().chain([&end]) {
                let view = View { bytes: plain, start: 0, limit };
                while position < limit {
                    let expected = model.predict(&view, position).token;
                    let found = foreseen.predict(&view, position).token;
                    assert_eq!(found, expected, "level {level} at {position}");
                    count += 1;
                    let token = if count % misses_every == 0 {
                        Token::literal(plain[position as usize])
                    } else {
                        expected
                    };
                    model.commit(&view, position, token);
                    foreseen.commit(&view, position, token);
                    position += token.plain_bytes() as u64;
                }
                model.flush(&view, position);
                foreseen.flush(&view, position);
            }
            counting.1
        })
    }

    #[test]
    fn what_was_found_for_one_member_says_nothing_of_the_next() {
        let part = plain(STRETCH_BYTES as usize / 2);
        let plain = [&part[..], &part, &part, &part].concat();
        let (second, end) = (part.len() as u64 + 5_000, plain.len() as u64);
        let parameters = Parameters::new(Kind::GoLazy, 6, CodeStyle::Go, Boundary::Tokens(1 << 14));
        thread::scope(|scope| {
            let (pending, foreseen) = mpsc::channel();
            // Begun for the member before, and not used up by it.
            let mut foresight = Foresight::new(scope, parameters, 0, pending).expect("possible");
            let bytes = plain[..foresight.to() as usize].to_vec();
            foresight.begin(bytes);
            let (mut model, mut own) = (parameters.model(), parameters.model());
            let mut foreseen = Foreseen::new(&mut *own, &foreseen);
            let view = View { bytes: &plain, start: 0, limit: end };
            model.restart(&view, second, 0);
            foreseen.restart(&view, second, 0);
            let mut position = second;
            while position < end {
                let token = model.predict(&view, position).token;
                assert_eq!(foreseen.predict(&view, position).token, token, "at {position}");
                model.commit(&view, position, token);
                foreseen.commit(&view, position, token);
                position += token.plain_bytes() as u64;
            }
        });
    }

    #[test]
    fn what_is_found_ahead_is_what_the_model_says() {
        let plain = plain(3 * STRETCH_BYTES as usize + 70_000);
        for level in [4, 6, 9] {
            let all = plain.len();
            // Behind the last stretch, and a little at the beginning of each.
            let few = asked(level, &plain, &[], usize::MAX);
            assert!(few < all / 50, "level {level}: asked {few} times of {all}");
            asked(level, &plain, &[], 5_000);
            asked(level, &plain, &[1, 100_000, 100_001, 600_000, 1_300_000], 20_000);
        }
    }
}
