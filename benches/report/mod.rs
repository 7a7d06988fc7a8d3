//! Reads back what criterion measured in this run and prints ratios.

use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::Criterion;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/criterion")
}

/// Short runs: the ratios are what counts, and each is taken within one run.
pub fn criterion() -> Criterion {
    Criterion::default()
        .output_directory(&folder())
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(100)
        .configure_from_args()
}

/// What an iteration took in the quietest tenth of this run's samples, in nanoseconds; `None` if the
/// benchmark was filtered out. What else a machine does only ever adds time, and not evenly: medians
/// of two benchmarks that ran seconds apart differ by more than what is measured here.
pub fn quiet(name: &str) -> Option<f64> {
    let text = std::fs::read(folder().join(name).join("new/sample.json")).ok()?;
    let sample: Value = serde_json::from_slice(&text).ok()?;
    let numbers = |field: &str| sample[field].as_array()?.iter().map(Value::as_f64).collect();
    let (iterations, times): (Option<Vec<f64>>, Option<Vec<f64>>) =
        (numbers("iters"), numbers("times"));
    let mut each: Vec<f64> =
        times?.iter().zip(iterations?).map(|(time, count)| time / count).collect();
    each.sort_by(f64::total_cmp);
    each.get(each.len() / 10).copied()
}

/// Forgets earlier runs, so that no ratio mixes two.
pub fn forget() {
    let _ = std::fs::remove_dir_all(folder());
}

/// One line: what was added to `base`, in multiples of `unit`, beside the aim.
pub fn added(what: &str, with: &str, base: &str, unit: &str, aim: &str) {
    if let (Some(with), Some(base), Some(unit)) = (quiet(with), quiet(base), quiet(unit)) {
        let added = with - base;
        println!("{what:<58} {added:>8.1} ns  {:>6.2} x  {aim}", added / unit);
    }
}

/// One line: how `one` compares to `other`.
pub fn ratio(what: &str, one: &str, other: &str, aim: &str) {
    if let (Some(one), Some(other)) = (quiet(one), quiet(other)) {
        println!("{what:<58} {one:>8.1} ns  {:>6.2} x  {aim}", one / other);
    }
}
