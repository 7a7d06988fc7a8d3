//! Comparing digests, two ways: `cargo bench --bench primitives`.
//!
//! The crate's own comparison cannot be called from outside, on purpose: this is the same few lines.

#![allow(missing_docs, reason = "a benchmark")]

#[allow(unreachable_pub, dead_code, reason = "shared by the benchmarks")]
mod report;

use std::hint::black_box;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

fn folded(ours: &[u8; 32], theirs: &[u8; 32]) -> bool {
    let (ours, _) = ours.as_chunks::<8>();
    let (theirs, _) = theirs.as_chunks::<8>();
    let lanes = ours.iter().zip(theirs);
    let difference = lanes.fold(0, |seen, (ours, theirs)| {
        seen | (u64::from_ne_bytes(*ours) ^ u64::from_ne_bytes(*theirs))
    });
    difference.ct_eq(&0).into()
}

fn main() {
    report::forget();
    let mut criterion = report::criterion();
    let ours: [u8; 32] = Sha256::digest(b"a key").into();
    let theirs = ours;
    for bytes in [40, 55, 56, 119, 256] {
        let text = vec![b'x'; bytes];
        criterion.bench_function(&format!("sha256_{bytes}_bytes"), |bencher| {
            bencher.iter(|| Sha256::digest(black_box(&text)));
        });
    }
    criterion.bench_function("compare_folded", |bencher| {
        bencher.iter(|| folded(black_box(&ours), black_box(&theirs)));
    });
    criterion.bench_function("compare_byte_by_byte", |bencher| {
        bencher.iter(|| bool::from(black_box(&ours).ct_eq(black_box(&theirs))));
    });
    println!();
    let ratio = |what, one, other| report::ratio(what, one, other, "");
    ratio("compare, folded to one constant-time question", "compare_folded", "sha256_40_bytes");
    ratio("compare, byte by byte through subtle", "compare_byte_by_byte", "sha256_40_bytes");
    for bytes in [40, 55, 56, 119, 256] {
        let name = format!("sha256_{bytes}_bytes");
        report::ratio(&format!("SHA-256 of {bytes} bytes"), &name, "sha256_40_bytes", "");
    }
}
