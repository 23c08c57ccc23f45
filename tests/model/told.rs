//! What a sequence tells: its story, and how much of what it did.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// What came of sequences, so that a reader sees that they did something.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub sequences: usize,
    pub payloads: usize,
    pub failed_makes: usize,
    pub with_baselines: usize,
    pub deltas: usize,
    pub pushes: usize,
    pub complete: usize,
    pub left_out: usize,
    pub refused: usize,
    pub kept_tags: usize,
    pub rebuilt: usize,
    pub copied_or_mounted: usize,
    pub inventories: usize,
    pub never_pushed: usize,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.sequences += other.sequences;
        self.payloads += other.payloads;
        self.failed_makes += other.failed_makes;
        self.with_baselines += other.with_baselines;
        self.deltas += other.deltas;
        self.pushes += other.pushes;
        self.complete += other.complete;
        self.left_out += other.left_out;
        self.refused += other.refused;
        self.kept_tags += other.kept_tags;
        self.rebuilt += other.rebuilt;
        self.copied_or_mounted += other.copied_or_mounted;
        self.inventories += other.inventories;
        self.never_pushed += other.never_pushed;
    }
}

/// What was done so far, to be read by a person.
#[derive(Clone, Default)]
pub struct Story(Arc<Mutex<String>>);

impl Story {
    pub fn tell(&self, line: &str) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(told, "{line}").expect("memory");
    }

    pub fn told(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
