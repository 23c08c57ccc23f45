//! Streams made by the real writers (`fixtures/gzip/make.sh`): each comes back bit for bit, from a recipe of the size that
//! `docs/deltas.md` promises.

use std::fs;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use kharon::gzip::{Analysis, Error, Limits, analyse, rebuild};

/// The largest recipe of each stream, in bytes, by the beginning of its name; the first that fits counts.
const LARGEST_RECIPES: &[(&str, u64)] = &[
    ("go1.2", 40),
    ("klauspost1.11", 450),
    ("klauspost1.13", 450),
    ("klauspost1.15.12", 40),
    ("klauspost1.20.3", 40),
    ("pgzip1.2.5-klauspost1.15.12-level9", 60),
    ("pgzip", 60),
    ("pigz", 150),
    ("gzip-level", 120),
    ("zlib-6-memory", 600),
    ("zlib-flushed", 700),
    ("zlib-members", 120),
    ("zlib-huffman", 200),
    ("zlib", 100),
    // Not modelled: predicted and corrected.
    ("igzip", 3_000),
    ("libdeflate-level12", 5_200),
    ("libdeflate", 1_700),
    ("zopfli", 5_200),
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gzip").join(name)
}

fn streams() -> Vec<(String, Vec<u8>)> {
    let mut streams: Vec<_> = fs::read_dir(fixture(""))
        .expect("fixtures")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "gz"))
        .map(|path| {
            let name = path.file_name().expect("name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("stream"))
        })
        .collect();
    streams.sort();
    streams
}

struct Taken {
    plain: Vec<u8>,
    recipe: Vec<u8>,
    analysis: Analysis,
}

/// A limit that small fixtures of writers without a model need: their beginning costs most.
const GENEROUS: Limits = Limits { recipe_permille: 200, free_bytes: 512, compared_bytes: u64::MAX };

fn take(gzip: &[u8]) -> Result<Taken, Error> {
    let (mut plain, mut recipe) = (Vec::new(), Vec::new());
    let analysis = analyse(gzip, &mut plain, &mut recipe, &GENEROUS)?;
    Ok(Taken { plain, recipe, analysis })
}

fn give(recipe: &[u8], plain: &[u8], limit_bytes: u64) -> Result<Vec<u8>, Error> {
    let mut gzip = Vec::new();
    rebuild(recipe, plain, &mut gzip, limit_bytes)?;
    Ok(gzip)
}

/// A recipe that is made as version 1 made it is also understood as version 1 understood it.
///
/// `KHARON_BLESS=1` writes them anew, which only a version that was never released may do.
fn is_as_in_version_1(name: &str, recipe: &[u8]) {
    let path = fixture("recipes-v1").join(name.replace(".gz", ".recipe"));
    if std::env::var_os("KHARON_BLESS").is_some() {
        fs::write(&path, recipe).expect("written");
    }
    assert!(
        fs::read(path).expect("recipe") == recipe,
        "{name}: another recipe than version 1 made"
    );
}

#[test]
fn streams_of_real_writers_come_back_bit_for_bit_from_small_recipes() {
    let streams = streams();
    assert!(streams.len() >= 40, "only {} fixtures", streams.len());
    for (name, gzip) in streams {
        let taken = take(&gzip).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(taken.analysis.gzip_bytes, gzip.len() as u64, "{name}");
        assert_eq!(taken.analysis.plain_bytes, taken.plain.len() as u64, "{name}");
        assert_eq!(taken.analysis.recipe_bytes, taken.recipe.len() as u64, "{name}");
        if !name.contains("garbage") {
            let mut oracle = Vec::new();
            flate2::read::MultiGzDecoder::new(&gzip[..])
                .read_to_end(&mut oracle)
                .expect("inflates");
            assert!(oracle == taken.plain, "{name}: other plain bytes than zlib's");
        }
        let again = give(&taken.recipe, &taken.plain, gzip.len() as u64);
        assert!(again.unwrap_or_else(|error| panic!("{name}: {error}")) == gzip, "{name} changed");
        let (_, largest) = LARGEST_RECIPES
            .iter()
            .find(|(start, _)| name.starts_with(start))
            .unwrap_or_else(|| panic!("{name} has no limit"));
        let size = taken.analysis.recipe_bytes;
        assert!(size <= *largest, "{name}: recipe of {size} bytes, {largest} allowed");
        is_as_in_version_1(&name, &taken.recipe);
    }
}

#[test]
fn a_model_that_is_right_can_be_believed_from_the_beginning() {
    let exact = ["go1.2", "klauspost1.15.12", "klauspost1.20.3", "pgzip"];
    let mut believed = 0;
    for (name, gzip) in streams() {
        if !exact.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        let mut recipe = Vec::new();
        let limits = Limits { compared_bytes: 0, ..GENEROUS };
        let analysis = analyse(&gzip[..], io::sink(), &mut recipe, &limits).expect("analyses");
        believed += usize::from(!analysis.is_certain);
        let compared = take(&gzip).expect("analyses");
        assert!(compared.analysis.is_certain, "{name}");
        assert!(recipe == compared.recipe, "{name}: another recipe");
    }
    assert!(believed >= 20, "only {believed} models were believed");
}

#[test]
fn a_recipe_is_read_to_its_end_and_no_further() {
    let gzip = fs::read(fixture("zlib-members.gz")).expect("stream");
    let taken = take(&gzip).expect("analyses");
    let mut followed = taken.recipe.clone();
    followed.extend_from_slice(b"what follows");
    let mut reader = Cursor::new(&followed);
    let mut again = Vec::new();
    rebuild(&mut reader, &taken.plain[..], &mut again, gzip.len() as u64).expect("rebuilds");
    assert_eq!(reader.position(), taken.recipe.len() as u64);
    assert!(again == gzip);
}

#[test]
fn a_reader_that_gives_one_byte_at_a_time_changes_nothing() {
    struct Drip<R>(R);
    impl<R: Read> Read for Drip<R> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let end = buffer.len().min(1);
            self.0.read(&mut buffer[..end])
        }
    }
    let gzip = fs::read(fixture("zlib-flushed.gz")).expect("stream");
    let taken = take(&gzip).expect("analyses");
    let (mut plain, mut recipe) = (Vec::new(), Vec::new());
    analyse(Drip(&gzip[..]), &mut plain, &mut recipe, &GENEROUS).expect("analyses");
    assert!(plain == taken.plain && recipe == taken.recipe);
    let mut again = Vec::new();
    rebuild(Drip(&recipe[..]), Drip(&plain[..]), &mut again, gzip.len() as u64).expect("rebuilds");
    assert!(again == gzip);
}

#[test]
fn a_recipe_that_does_not_pay_is_refused() {
    let gzip = fs::read(fixture("zopfli.gz")).expect("stream");
    let strict = Limits { recipe_permille: 10, free_bytes: 0, ..Limits::default() };
    let result = analyse(&gzip[..], Vec::new(), Vec::new(), &strict);
    assert!(matches!(result, Err(Error::NotWorthIt { .. })), "{result:?}");
}
