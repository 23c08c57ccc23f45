//! How encoders turn frequencies into code lengths, and code lengths into the header of a dynamic block.
//!
//! Optimal codes are not unique. Each way here is one encoder family's, with its ties.

use super::code::{
    CodeHeader, MAX_CODE_BITS, MAX_LENGTH_CODE_BITS, greedy_steps, length_code_count,
    step_histogram,
};
use super::token::{DISTANCE_SYMBOLS, Histogram, LITERAL_SYMBOLS};

/// Literal and length symbols that encoders use.
const USED_LITERALS: usize = 286;
/// Distance symbols that encoders use.
const USED_DISTANCES: usize = 30;

/// Whose way a block's codes were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeStyle {
    /// Go's and klauspost's: package-merge, a pair before a leaf of the same weight; both alphabets in one run of lengths.
    Go,
    /// The same, but all 286 and 30 symbols are named.
    GoAll,
    /// zlib's: a heap with ties by depth, too deep codes repaired; the alphabets' lengths apart.
    Zlib,
}

/// The header that `style` makes for a block with these frequencies.
pub fn predict_header(style: CodeStyle, histogram: &Histogram) -> CodeHeader {
    let mut literals = [0; LITERAL_SYMBOLS];
    let mut distances = [0; DISTANCE_SYMBOLS];
    let mut steps = Vec::with_capacity(128);
    let mut length_code = [0; 19];
    let mut weights = histogram.distances;
    let (literal_count, distance_count);
    if style == CodeStyle::Zlib {
        tree_lengths(&histogram.literals[..USED_LITERALS], MAX_CODE_BITS, &mut literals);
        tree_lengths(&weights[..USED_DISTANCES], MAX_CODE_BITS, &mut distances);
        literal_count = used(&literals).max(257);
        distance_count = used(&distances).max(1);
        greedy_steps(&literals[..literal_count], &mut steps);
        greedy_steps(&distances[..distance_count], &mut steps);
        tree_lengths(&step_histogram(&steps), MAX_LENGTH_CODE_BITS, &mut length_code);
    } else {
        if style == CodeStyle::Go && weights.iter().all(|&weight| weight == 0) {
            weights[0] = 1;
        }
        package_lengths(&histogram.literals[..USED_LITERALS], MAX_CODE_BITS, &mut literals);
        package_lengths(&weights[..USED_DISTANCES], MAX_CODE_BITS, &mut distances);
        (literal_count, distance_count) = match style {
            CodeStyle::GoAll => (USED_LITERALS, USED_DISTANCES),
            _ => (used(&literals).max(257), used(&distances).max(1)),
        };
        let mut lengths = Vec::with_capacity(USED_LITERALS + USED_DISTANCES);
        lengths.extend_from_slice(&literals[..literal_count]);
        lengths.extend_from_slice(&distances[..distance_count]);
        greedy_steps(&lengths, &mut steps);
        package_lengths(&step_histogram(&steps), MAX_LENGTH_CODE_BITS, &mut length_code);
    }
    CodeHeader {
        literal_count,
        distance_count,
        length_code_count: length_code_count(&length_code),
        length_code,
        steps,
        literals,
        distances,
    }
}

/// The code lengths of the run-length code's own symbols in `style`.
pub fn predict_length_code(style: CodeStyle, weights: &[u32; 19]) -> [u8; 19] {
    let mut length_code = [0; 19];
    if style == CodeStyle::Zlib {
        tree_lengths(weights, MAX_LENGTH_CODE_BITS, &mut length_code);
    } else {
        package_lengths(weights, MAX_LENGTH_CODE_BITS, &mut length_code);
    }
    length_code
}

/// The run-length code of these lengths in `style`.
pub fn predict_steps(
    style: CodeStyle,
    literals: &[u8],
    distances: &[u8],
) -> Vec<super::code::LengthStep> {
    let mut steps = Vec::with_capacity(128);
    if style == CodeStyle::Zlib {
        greedy_steps(literals, &mut steps);
        greedy_steps(distances, &mut steps);
    } else {
        greedy_steps(&[literals, distances].concat(), &mut steps);
    }
    steps
}

fn used(lengths: &[u8]) -> usize {
    lengths.iter().rposition(|&length| length != 0).map_or(0, |index| index + 1)
}

/// Optimal code lengths of at most `max_bits`, by package-merge.
///
/// Symbols are ranked by weight, then by number. Where a leaf and a pair weigh the same, the pair comes first. One or two
/// symbols get one bit each.
pub fn package_lengths(weights: &[u32], max_bits: usize, lengths: &mut [u8]) {
    let mut leaves: Vec<(u32, usize)> = weights
        .iter()
        .enumerate()
        .filter(|&(_, &weight)| weight != 0)
        .map(|(symbol, &weight)| (weight, symbol))
        .collect();
    if leaves.len() <= 2 {
        for &(_, symbol) in &leaves {
            lengths[symbol] = 1;
        }
        return;
    }
    leaves.sort_unstable();
    let levels = max_bits.min(leaves.len() - 1);
    let wanted = 2 * leaves.len() - 2;
    // For each level, bottom first: the weights of its items, and which of them are leaves.
    let mut items: Vec<u64> = leaves.iter().map(|&(weight, _)| u64::from(weight)).collect();
    let mut leaf_flags: Vec<Vec<bool>> = vec![vec![true; items.len()]];
    for _ in 1..levels {
        let (merged, flags) = merge_level(&leaves, &items, wanted);
        items = merged;
        leaf_flags.push(flags);
    }
    let mut taken = wanted;
    let mut leaves_of_level = vec![0; levels];
    for (level, flags) in leaf_flags.iter().enumerate().rev() {
        let leaf_count = flags[..taken].iter().filter(|&&is_leaf| is_leaf).count();
        leaves_of_level[level] = leaf_count;
        taken = 2 * (taken - leaf_count);
    }
    // A leaf's code is as long as the number of levels on which it was taken; the lightest are taken most often.
    for leaf_count in leaves_of_level {
        for &(_, symbol) in &leaves[..leaf_count] {
            lengths[symbol] += 1;
        }
    }
}

fn merge_level(leaves: &[(u32, usize)], below: &[u64], wanted: usize) -> (Vec<u64>, Vec<bool>) {
    let mut items = Vec::with_capacity(wanted);
    let mut flags = Vec::with_capacity(wanted);
    let mut next_leaf = leaves.iter().map(|&(weight, _)| u64::from(weight)).peekable();
    let mut next_pair = below.chunks_exact(2).map(|pair| pair[0] + pair[1]).peekable();
    while items.len() < wanted {
        let is_leaf = match (next_leaf.peek(), next_pair.peek()) {
            (Some(leaf), Some(pair)) => leaf < pair,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => break,
        };
        let item = if is_leaf { next_leaf.next() } else { next_pair.next() };
        items.extend(item);
        flags.push(is_leaf);
    }
    (items, flags)
}

/// Huffman code lengths as zlib makes them.
///
/// A heap joins the two lightest nodes, by weight and then by depth; at least two symbols get a code. Leaves deeper than
/// `max_bits` are raised there, and the code is mended by pushing shallower leaves down.
fn tree_lengths(weights: &[u32], max_bits: usize, lengths: &mut [u8]) {
    let symbols = weights.len();
    let mut weight: Vec<u32> = weights.to_vec();
    let mut heap: Vec<usize> = (0..symbols).filter(|&symbol| weights[symbol] != 0).collect();
    let mut highest = heap.last().copied();
    while heap.len() < 2 {
        // A code of one symbol is made whole with symbol 0 or 1, or the next one.
        let symbol = match highest {
            Some(last) if last < 2 => last + 1,
            _ => 0,
        };
        if symbol > highest.unwrap_or(0) || highest.is_none() {
            highest = Some(symbol);
        }
        weight[symbol] = 1;
        heap.push(symbol);
    }
    let mut depth = vec![0u8; symbols];
    let mut parent = vec![0usize; 2 * symbols];
    let lighter = |weight: &[u32], depth: &[u8], a: usize, b: usize| {
        weight[a] < weight[b] || (weight[a] == weight[b] && depth[a] <= depth[b])
    };
    for index in (0..heap.len() / 2).rev() {
        sift_down(&mut heap, index, |a, b| lighter(&weight, &depth, a, b));
    }
    // The nodes in the order in which they were joined, lightest first.
    let mut joined = Vec::with_capacity(2 * symbols);
    while heap.len() > 1 {
        let first = heap[0];
        if let Some(last) = heap.pop() {
            heap[0] = last;
        }
        sift_down(&mut heap, 0, |a, b| lighter(&weight, &depth, a, b));
        let second = heap[0];
        joined.extend([first, second]);
        let node = weight.len();
        weight.push(weight[first].wrapping_add(weight[second]));
        depth.push(depth[first].max(depth[second]) + 1);
        parent[first] = node;
        parent[second] = node;
        heap[0] = node;
        sift_down(&mut heap, 0, |a, b| lighter(&weight, &depth, a, b));
    }
    let counts = limit_depths(&joined, &parent, symbols, max_bits);
    let mut leaves = joined.iter().filter(|&&node| node < symbols);
    for bits in (1..=max_bits).rev() {
        for &symbol in leaves.by_ref().take(counts[bits]) {
            lengths[symbol] = bits as u8;
        }
    }
}

/// How many leaves get each number of bits.
fn limit_depths(
    joined: &[usize],
    parent: &[usize],
    symbols: usize,
    max_bits: usize,
) -> [usize; 16] {
    let mut counts = [0usize; 16];
    let mut bits = vec![0usize; parent.len()];
    let mut too_deep = 0usize;
    for &node in joined.iter().rev() {
        let mut node_bits = bits[parent[node]] + 1;
        if node_bits > max_bits {
            node_bits = max_bits;
            too_deep += 1;
        }
        bits[node] = node_bits;
        if node < symbols {
            counts[node_bits] += 1;
        }
    }
    while too_deep > 0 {
        let Some(shallow) = (1..max_bits).rev().find(|&bits| counts[bits] > 0) else { break };
        counts[shallow] -= 1;
        counts[shallow + 1] += 2;
        counts[max_bits] -= 1;
        too_deep = too_deep.saturating_sub(2);
    }
    counts
}

fn sift_down(heap: &mut [usize], start: usize, lighter: impl Fn(usize, usize) -> bool) {
    let Some(&node) = heap.get(start) else { return };
    let mut index = start;
    loop {
        let mut child = 2 * index + 1;
        if child >= heap.len() {
            break;
        }
        if child + 1 < heap.len() && lighter(heap[child + 1], heap[child]) {
            child += 1;
        }
        if lighter(node, heap[child]) {
            break;
        }
        heap[index] = heap[child];
        index = child;
    }
    heap[index] = node;
}
