//! A stopwatch for a few nanoseconds: the processor's own count where there is one.

use std::time::{Duration, Instant};

/// The count; nothing that stands before it in the program happens after it, nor the other way round.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "reading the count is an intrinsic")]
pub fn ticks() -> u64 {
    use std::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: every processor of this architecture has both.
    unsafe {
        _mm_lfence();
        let count = _rdtsc();
        _mm_lfence();
        count
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub fn ticks() -> u64 {
    use std::sync::LazyLock;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap()
}

/// How many nanoseconds a tick has.
pub fn nanoseconds_per_tick() -> f64 {
    let (start, before) = (Instant::now(), ticks());
    while start.elapsed() < Duration::from_millis(100) {}
    let (elapsed, count) = (start.elapsed(), ticks() - before);
    elapsed.as_secs_f64() * 1e9 / as_float(count.cast_signed())
}

#[allow(clippy::cast_precision_loss, reason = "counts of seconds, well below 2^52")]
pub fn as_float(count: i64) -> f64 {
    count as f64
}
