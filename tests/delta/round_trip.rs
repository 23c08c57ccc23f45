//! What is made can be applied, and is small where old and new are alike.

use kharon::delta::{Effort, read_needs};
use proptest::prelude::*;

use crate::kit::{apply_delta, make_delta, noise, tar_of};

fn check(name: &str, new: &[u8], old: &[&[u8]], at_most: usize) {
    for effort in [Effort::Fast, Effort::Default, Effort::Max] {
        let delta = make_delta(new, old, effort, 2);
        assert!(delta.len() <= at_most, "{name}, {effort:?}: {} bytes", delta.len());
        assert!(apply_delta(&delta, old).expect("its own delta") == new, "{name}, {effort:?}");
    }
}

/// An executable as a rebuild changes it: another address every 40 bytes or so, and a moved part.
fn rebuilt(old: &[u8]) -> Vec<u8> {
    let mut new = old.to_vec();
    for place in (64..new.len() - 4).step_by(41) {
        new[place] = new[place].wrapping_add(16);
    }
    new.splice(100_000..100_000, noise(9, 300));
    new
}

#[test]
fn what_is_alike_costs_next_to_nothing_whatever_moved() {
    let file = noise(1, 200_000);
    let mut edited = file.clone();
    edited.splice(70_000..70_010, *b"other bytes");
    let library = [b"\x7fELF".to_vec(), noise(2, 300_000)].concat();
    let big = noise(3, 3_000_000);
    let moved = [&big[1_000_000..], b"between", &big[..1_000_000]].concat();
    let text = "all work and no play makes jack a dull boy\n".repeat(3000).into_bytes();
    let old = tar_of(&[("a/x.bin", file.clone()), ("a/lib.so.1.2", library.clone())], 1);
    let second = tar_of(&[("big", big.clone()), ("notes.txt", text.clone())], 1);
    for (name, new, at_most) in [
        ("unchanged", old.clone(), 400),
        (
            "touched",
            tar_of(&[("a/x.bin", file.clone()), ("a/lib.so.1.2", library.clone())], 2),
            500,
        ),
        ("renamed", tar_of(&[("b/y.bin", file.clone())], 2), 500),
        ("edited", tar_of(&[("a/x.bin", edited.clone())], 2), 600),
        ("renamed and edited", tar_of(&[("z/q", edited)], 2), 600),
        ("built again", tar_of(&[("a/lib.so.1.3", rebuilt(&library))], 2), 9000),
        ("moved inside", tar_of(&[("big", moved)], 2), 2000),
        ("grown", tar_of(&[("notes.txt", [text, b"the end".to_vec()].concat())], 2), 500),
        ("new", tar_of(&[("fresh", noise(7, 5000))], 2), 5500),
        ("nothing", Vec::new(), 200),
        ("not a tar", noise(8, 10_000), 10_300),
        ("cut tar", old[..old.len() - 70_000].to_vec(), 400_000),
        ("one byte", vec![7], 200),
    ] {
        check(name, &new, &[&old, &second], at_most);
    }
}

#[test]
fn a_layer_without_a_baseline_is_only_compressed() {
    let text = "nothing to refer to\n".repeat(1000).into_bytes();
    check("text", &tar_of(&[("notes.txt", text)], 1), &[], 500);
    check("noise", &noise(1, 100_000), &[], 100_200);
}

#[test]
fn no_tar_against_no_tar_finds_what_moved() {
    let old = noise(4, 2_000_000);
    let new = [&old[500_000..], &noise(5, 100), &old[..400_000]].concat();
    check("no tars", &new, &[&old], 2000);
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let files: Vec<(String, Vec<u8>)> =
        (0..40).map(|n| (format!("d{n}/f{n}.{}", n % 7), noise(n, 50_000))).collect();
    let named = |edit: u8| {
        let edited = |content: &[u8]| [content, &[edit]].concat();
        files.iter().map(|(path, content)| (path.as_str(), edited(content))).collect::<Vec<_>>()
    };
    let (old, new) = (tar_of(&named(1), 1), tar_of(&named(2), 2));
    let single = make_delta(&new, &[&old], Effort::Fast, 1);
    for threads in [2, 3, 8] {
        assert_eq!(make_delta(&new, &[&old], Effort::Fast, threads), single);
    }
}

#[test]
fn a_baseline_that_saves_nothing_is_not_needed() {
    let useful = tar_of(&[("a", noise(1, 300_000))], 1);
    let useless = tar_of(&[("b", noise(2, 300_000))], 1);
    let new = tar_of(&[("a", noise(1, 300_000)), ("c", noise(3, 1000))], 1);
    let delta = make_delta(&new, &[&useless, &useful], Effort::Default, 1);
    let needs = read_needs(&mut &delta[..]).expect("its own delta");
    assert_eq!(needs.blobs.len(), 1);
    assert_eq!(needs.blobs[0].digest, kharon::digest::Digest::of(&useful));
}

#[test]
fn tars_with_long_names_links_devices_and_sparse_files_come_back() {
    let long = "long/".repeat(60) + "name";
    let mut old = tar_of(&[(&long, noise(1, 9000)), ("plain", noise(2, 9000))], 1);
    let mut builder = tar::Builder::new(Vec::new());
    let special = [
        tar::EntryType::Link,
        tar::EntryType::Symlink,
        tar::EntryType::Char,
        tar::EntryType::Directory,
        tar::EntryType::GNUSparse,
    ];
    for (index, kind) in special.into_iter().enumerate() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        let _ = builder.append_data(&mut header, format!("special{index}"), &b""[..]);
    }
    let pax = [("path", &b"a pax name"[..])];
    builder.append_pax_extensions(pax).expect("a tar in memory");
    old.truncate(old.len() - 1024);
    old.extend(builder.into_inner().expect("a tar in memory"));
    let new = [&old[..5000], b"!", &old[5000..]].concat();
    // The byte too much breaks the tar, so what is behind it may come as new.
    check("special", &new, &[&old], 12_000);
    check("special, the other way", &old, &[&new], 12_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_old_and_new_the_new_comes_back(
        old in proptest::collection::vec(any::<u8>(), 0..4000),
        edits in proptest::collection::vec((any::<usize>(), any::<usize>(), any::<u8>()), 0..12),
        header in prop_oneof![Just(&b""[..]), Just(&b"\x7fELF"[..])],
        in_tar in prop_oneof![Just(1usize), Just(60)],
    ) {
        let old = [header, &old.repeat(in_tar)].concat();
        let mut new = old.clone();
        for (from, to, byte) in edits {
            let (from, to) = (from % (new.len() + 1), to % (old.len() + 1));
            new[from..].reverse();
            new.splice(from..from, old[to..].iter().copied().take(usize::from(byte)));
            new.push(byte);
        }
        let (old, new) = (tar_of(&[("f", old)], 1), tar_of(&[("f", new)], 2));
        let delta = make_delta(&new, &[&old], Effort::Fast, 1);
        prop_assert!(apply_delta(&delta, &[&old]).expect("its own delta") == new);
    }
}
