//! Whatever a writer makes of random bytes and random tars comes back bit for bit.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use kharon::gzip::{Limits, analyse, rebuild};
use proptest::collection::vec;
use proptest::prelude::*;

/// Random content may have no recipe that pays; here it is to have one all the same.
const ANY: Limits =
    Limits { recipe_permille: 10_000, free_bytes: 1 << 20, compared_bytes: u64::MAX };

fn comes_back(name: &str, gzip: &[u8], plain: &[u8]) {
    let (mut found, mut recipe) = (Vec::new(), Vec::new());
    analyse(gzip, &mut found, &mut recipe, &ANY).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(found == plain, "{name}: other plain bytes");
    let mut again = Vec::new();
    rebuild(&recipe[..], plain, &mut again, gzip.len() as u64)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(again == gzip, "{name}: another stream");
}

/// Noise, one byte again and again, a phrase again and again, words.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec!["the", "of", "layer", "tar", "0123456789", "\n", "\t\t"]);
    let part = prop_oneof![
        vec(any::<u8>(), 0..2_000),
        (any::<u8>(), 0..70_000_usize).prop_map(|(byte, count)| vec![byte; count]),
        (vec(any::<u8>(), 1..40), 1..400_usize).prop_map(|(phrase, times)| phrase.repeat(times)),
        vec(words, 0..3_000).prop_map(|words| words.join(" ").into_bytes()),
    ];
    vec(part, 0..5).prop_map(|parts| parts.concat())
}

fn tar() -> impl Strategy<Value = Vec<u8>> {
    vec((0..0o1000_u32, content()), 0..5).prop_map(|files| {
        let mut builder = tar::Builder::new(Vec::new());
        for (number, (mode, content)) in files.into_iter().enumerate() {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(mode);
            let path = format!("usr/share/file-{number}");
            builder.append_data(&mut header, path, &content[..]).expect("a tar in memory");
        }
        builder.into_inner().expect("a tar in memory")
    })
}

fn plain() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![content(), tar()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn what_zlib_rs_makes_at_any_level_comes_back(
        plain in plain(),
        level in 0..=9_u32,
        flushes in vec(any::<prop::sample::Index>(), 0..3),
        members in 1..3_usize,
    ) {
        let mut gzip = Vec::new();
        let mut cuts: Vec<_> = flushes.iter().map(|flush| flush.index(plain.len() + 1)).collect();
        cuts.sort_unstable();
        for _ in 0..members {
            let mut writer = GzEncoder::new(&mut gzip, Compression::new(level));
            let mut start = 0;
            for &cut in &cuts {
                writer.write_all(&plain[start..cut]).expect("packs");
                writer.flush().expect("packs");
                start = cut;
            }
            writer.write_all(&plain[start..]).expect("packs");
            writer.finish().expect("packs");
        }
        comes_back(&format!("level {level}"), &gzip, &plain.repeat(members));
    }
}

/// Programs that write gzip from stdin to stdout.
const WRITERS: &[&[&str]] = &[
    &["gzip", "-1"],
    &["gzip", "-6"],
    &["gzip", "-9"],
    &["gzip", "-6", "--rsyncable"],
    &["pigz", "-1"],
    &["pigz", "-6"],
    &["pigz", "-9"],
    &["pigz", "-6", "-b", "32"],
    &["pigz", "-6", "-i"],
    &["libdeflate-gzip", "-c", "-1"],
    &["libdeflate-gzip", "-c", "-6"],
    &["libdeflate-gzip", "-c", "-12"],
    &["igzip", "-c", "-0"],
    &["igzip", "-c", "-3"],
];

/// What `writer` makes of `plain`; nothing where there is no such program.
fn run(writer: &[&str], plain: &[u8]) -> Option<Vec<u8>> {
    let mut program = Command::new(writer[0])
        .args(&writer[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let (stdin, stdout) = (program.stdin.take(), program.stdout.take());
    let mut gzip = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.expect("a pipe").write_all(plain).expect("reads its input"));
        stdout.expect("a pipe").read_to_end(&mut gzip).expect("writes");
    });
    assert!(program.wait().expect("ends").success(), "{writer:?} failed");
    Some(gzip)
}

#[test]
#[ignore = "needs gzip, and takes pigz, libdeflate-gzip and igzip where they are"]
fn what_programs_make_comes_back() {
    assert!(run(WRITERS[0], b"").is_some(), "no gzip");
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(8)
    });
    let outcome = runner.run(&plain(), |plain| {
        for writer in WRITERS {
            if let Some(gzip) = run(writer, &plain) {
                comes_back(&writer.join(" "), &gzip, &plain);
            }
        }
        Ok(())
    });
    outcome.expect("every stream comes back");
}
