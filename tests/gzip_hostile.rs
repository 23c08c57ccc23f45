//! Streams and recipes that are cut, changed or made up: an error or the right bytes, never a panic and never without end.

use std::fs;
use std::path::Path;

use kharon::gzip::{Error, Limits, analyse, rebuild};

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gzip");
    fs::read(folder.join(name)).expect("fixture")
}

/// Repeatable noise, better than none.
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn byte(&mut self) -> u8 {
        self.below(256).to_le_bytes()[0]
    }
}

fn take(gzip: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let (mut plain, mut recipe) = (Vec::new(), Vec::new());
    analyse(
        gzip,
        &mut plain,
        &mut recipe,
        &Limits { recipe_permille: 1000, free_bytes: 4096, ..Limits::default() },
    )?;
    Ok((plain, recipe))
}

/// Whatever comes out of `recipe` stays within the limit.
fn try_recipe(recipe: &[u8], plain: &[u8], limit_bytes: u64) -> Result<Vec<u8>, Error> {
    let mut gzip = Vec::new();
    let result = rebuild(recipe, plain, &mut gzip, limit_bytes);
    assert!(gzip.len() as u64 <= limit_bytes, "{} bytes were written", gzip.len());
    result.map(|_| gzip)
}

#[test]
fn a_stream_that_is_cut_anywhere_is_an_error() {
    let gzip = fixture("zlib-fields.gz");
    for end in (0..gzip.len()).step_by(7).chain(gzip.len() - 20..gzip.len()) {
        let result = take(&gzip[..end]);
        let is_right = match end {
            0 => matches!(result, Err(Error::NotGzip { .. })),
            _ => matches!(result, Err(Error::Truncated { .. })),
        };
        assert!(is_right, "cut at {end}: {:?}", result.err());
    }
}

#[test]
fn a_stream_with_a_changed_bit_is_an_error_or_comes_back() {
    let mut noise = Noise(1);
    for name in ["zlib-fields.gz", "zlib-garbage.gz"] {
        let gzip = fixture(name);
        for _ in 0..150 {
            let mut changed = gzip.clone();
            let at = noise.below(changed.len());
            changed[at] ^= 1 << noise.below(8);
            if let Ok((plain, recipe)) = take(&changed) {
                let again = try_recipe(&recipe, &plain, changed.len() as u64).expect("rebuilds");
                assert!(again == changed, "{name} changed at {at}");
            }
        }
    }
}

#[test]
fn what_is_no_gzip_is_said_to_be_none() {
    let cases: [(&[u8], &str); 5] = [
        (b"", "nothing"),
        (b"PK\x03\x04 a zip", "other bytes"),
        (b"\x1f\x8b\x07\x00 not deflate", "other bytes"),
        (b"\x1f\x8b\x08\xe0 reserved", "reserved flags in its header"),
        (b"\x28\xb5\x2f\xfd zstd", "other bytes"),
    ];
    for (bytes, expected) in cases {
        match take(bytes) {
            Err(Error::NotGzip { found }) => assert_eq!(found, expected),
            other => panic!("{bytes:?}: {:?}", other.err()),
        }
    }
}

#[test]
fn rules_of_deflate_that_are_broken_are_named() {
    let member = |body: &[u8]| [b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", body].concat();
    let cases: [(&[u8], &str); 5] = [
        (&[0b111, 0, 0], "a block of the reserved kind"),
        (&[0b001, 1, 0, 0, 0, 9], "a stored block whose lengths disagree"),
        // Fixed codes: the match of length 3 and distance 1 comes first.
        (&[0b0000_0011, 0b0000_0010, 0, 0, 0, 0, 0, 0], "a match from before the beginning"),
        (
            &[0b001, 1, 0, 0xfe, 0xff, b'x', 0, 0, 0, 0, 1, 0, 0, 0],
            "another checksum than that of the plain bytes",
        ),
        (
            &[0b001, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 7, 0, 0, 0],
            "another size than that of the plain bytes",
        ),
    ];
    for (body, expected) in cases {
        match take(&member(body)) {
            Err(Error::Corrupt { found, .. }) => assert_eq!(found, expected),
            other => panic!("{expected}: {:?}", other.err()),
        }
    }
}

#[test]
fn a_changed_recipe_is_an_error_or_stays_within_the_limit() {
    let mut noise = Noise(2);
    for name in [
        "zlib-fields.gz",
        "zlib-garbage.gz",
        "go1.26-level1.gz",
        "go1.27-level6.gz",
        "libdeflate-level6.gz",
    ] {
        let gzip = fixture(name);
        let (plain, recipe) = take(&gzip).expect("analyses");
        for _ in 0..40 {
            let mut changed = recipe.clone();
            for _ in 0..=noise.below(3) {
                let at = 4 + noise.below(changed.len() - 4);
                changed[at] = noise.byte();
            }
            let _ = try_recipe(&changed, &plain, gzip.len() as u64 + 1000);
        }
    }
}

#[test]
fn a_recipe_that_is_cut_is_an_error() {
    let gzip = fixture("zlib-fields.gz");
    let (plain, recipe) = take(&gzip).expect("analyses");
    for end in 0..recipe.len() {
        let result = try_recipe(&recipe[..end], &plain, gzip.len() as u64);
        assert!(matches!(result, Err(Error::Recipe { .. })), "cut at {end}: {:?}", result.err());
    }
}

#[test]
fn a_made_up_recipe_is_an_error_or_stays_within_the_limit() {
    let mut noise = Noise(3);
    let plain: Vec<u8> = (0..100_000).map(|_| noise.byte() & 3).collect();
    for _ in 0..300 {
        let mut recipe = b"KGR\x01".to_vec();
        recipe.extend((0..2_000).map(|_| noise.byte()));
        let _ = try_recipe(&recipe, &plain, 200_000);
    }
    // Always the likelier choice, and always the other.
    for byte in [0x00, 0xff, 0x01, 0x80] {
        let recipe = [b"KGR\x01".to_vec(), vec![byte; 50_000]].concat();
        let _ = try_recipe(&recipe, &plain, 200_000);
    }
}

#[test]
fn other_plain_bytes_or_too_few_or_too_many_are_noticed_or_harmless() {
    let gzip = fixture("go1.26-level6.gz");
    let (plain, recipe) = take(&gzip).expect("analyses");
    let limit = gzip.len() as u64;
    let short = try_recipe(&recipe, &plain[..plain.len() - 1], limit);
    assert!(matches!(short, Err(Error::PlainTooShort { .. })), "{:?}", short.err());
    let long = try_recipe(&recipe, &[&plain[..], b"x"].concat(), limit);
    assert!(matches!(long, Err(Error::PlainTooLong { .. })), "{:?}", long.err());
    let other: Vec<u8> = plain.iter().map(|byte| byte ^ 0x55).collect();
    assert!(try_recipe(&recipe, &other, limit).map_or(true, |again| again != gzip));
    let small = try_recipe(&recipe, &plain, limit - 1);
    assert!(matches!(small, Err(Error::TooLarge { .. })), "{:?}", small.err());
}

#[test]
fn a_recipe_of_another_version_is_refused_with_a_hint() {
    let error = try_recipe(b"KGR\x02 whatever comes", b"", 100).expect_err("refused");
    assert!(matches!(&error, Error::Version { expected: 1, found } if found == "2"));
    assert!(error.hint().is_some_and(|hint| hint.contains("newer kharon")));
}
