//! Deciding without refusing, for putting keys in front of an API that has callers already. Loud while
//! it is on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;

/// How often it is said that nothing is refused, in seconds.
const REMINDED_EVERY: u64 = 60;

/// What is known of a layer that refuses nothing.
#[derive(Debug, Default)]
pub(crate) struct Shadow {
    reminded_at: AtomicU64,
    passed: AtomicU64,
}

impl Shadow {
    /// The headers of a request as they came, which it is given back if it would have been refused.
    #[cold]
    pub(super) fn keep(&self, headers: &HeaderMap, now: SystemTime) -> HeaderMap {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let before = self.reminded_at.load(Ordering::Relaxed);
        let is_time = now.abs_diff(before) >= REMINDED_EVERY;
        let exchange = |now| {
            self.reminded_at.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
        };
        if is_time && exchange(now).is_ok() {
            let passed = self.passed.swap(0, Ordering::Relaxed);
            tracing::error!(
                target: "tower_api_key",
                passed,
                "SHADOW MODE: no request is refused; so many would have been since this was said last"
            );
        }
        headers.clone()
    }

    /// A request goes on that would have been refused.
    pub(super) fn passed(&self) {
        self.passed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Marks the requests of a layer that refuses nothing, for what is inside of it.
#[derive(Clone, Copy)]
pub(super) struct InShadow;
