//! Any bytes as a gzip stream: an error, or they come back.
#![no_main]

use kharon::gzip::{Limits, analyse, rebuild};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|gzip: &[u8]| {
    let limits = Limits { recipe_permille: 100_000, free_bytes: 1 << 20 };
    let (mut plain, mut recipe) = (Vec::new(), Vec::new());
    if analyse(gzip, &mut plain, &mut recipe, &limits).is_ok() {
        let mut again = Vec::new();
        rebuild(&recipe[..], &plain[..], &mut again, gzip.len() as u64).expect("its own recipe");
        assert!(again == gzip);
    }
});
