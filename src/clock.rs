//! Time as a value. The only place that asks the system what time it is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Tells the time. The layer asks only for a key that can expire.
pub trait Clock: Send + Sync + 'static {
    /// The time of day, now.
    fn now(&self) -> SystemTime;
}

/// Rounded down, so that every store can keep it exactly. Times before 1970 are not met here.
pub(crate) fn to_milliseconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH
        + Duration::from_secs(since.as_secs())
        + Duration::from_millis(since.subsec_millis().into())
}

/// When so much time will have passed, by the clock of Tokio's time limits, which tests may stop; far ahead, where that
/// is too long to be told. Panics where Tokio has no timers.
pub(crate) fn deadline(after: Duration) -> tokio::time::Instant {
    tokio::time::sleep(after).deadline()
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "it is a name, and has nothing")]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

impl<T: Clock + ?Sized> Clock for Arc<T> {
    fn now(&self) -> SystemTime {
        (**self).now()
    }
}

/// Measures how long ago something was. Unlike a [`Clock`], nobody sets it back.
#[cfg(feature = "cache")]
#[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
pub trait Monotonic: Send + Sync + 'static {
    /// The time since some moment that stays the same while the process runs. Never goes back.
    fn elapsed(&self) -> Duration;
}

/// On Linux and Android it goes on while the machine is suspended: what was cached before that is as
/// old afterwards as it looks on the wall. (A virtual machine whose host stops it, clocks and all,
/// cannot know.) Elsewhere it is [`Instant`](std::time::Instant), which may stand still meanwhile.
#[cfg(feature = "cache")]
impl Monotonic for SystemClock {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn elapsed(&self) -> Duration {
        suspension::elapsed()
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn elapsed(&self) -> Duration {
        use std::time::Instant;
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        START.elapsed()
    }
}

/// Time that goes on in suspension, for less than the system's own clock of that kind costs.
///
/// `CLOCK_BOOTTIME` takes longer to read than a cache takes to answer. The coarse clocks, which the
/// kernel sets at every tick, take a fifth of that, and stand still in suspension; but the time of day
/// does not, so it has then moved away from the monotonic clock, and only then (or when somebody set
/// it) is the real clock asked how long the suspension was.
#[cfg(all(feature = "cache", any(target_os = "linux", target_os = "android")))]
mod suspension {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use rustix::time::{ClockId, clock_gettime};

    /// How far the time of day was ahead of the monotonic clock when the suspension was last asked for.
    static AHEAD: AtomicI64 = AtomicI64::new(i64::MIN);
    /// For how long the machine had been suspended then. Noted before `AHEAD`, read after it.
    static SUSPENDED: AtomicI64 = AtomicI64::new(0);

    /// What the two may drift apart, in nanoseconds, before the suspension is asked for again; and how
    /// much of one may go unseen.
    const UNSEEN: u64 = 50_000_000;

    /// To a few milliseconds.
    pub(super) fn elapsed() -> Duration {
        let monotonic = now(ClockId::MonotonicCoarse);
        let ahead = now(ClockId::RealtimeCoarse) - monotonic;
        if ahead.abs_diff(AHEAD.load(Ordering::Acquire)) > UNSEEN {
            // In this order: what passes between the two is taken for suspension, and not for none.
            let running = now(ClockId::Monotonic);
            let suspended = now(ClockId::Boottime) - running;
            SUSPENDED.fetch_max(suspended, Ordering::Release);
            AHEAD.store(ahead, Ordering::Release);
        }
        let elapsed = monotonic + SUSPENDED.load(Ordering::Acquire);
        Duration::from_nanos(u64::try_from(elapsed).unwrap_or(0))
    }

    fn now(clock: ClockId) -> i64 {
        let time = clock_gettime(clock);
        // 292 years fit.
        time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
    }
}

#[cfg(feature = "cache")]
impl<T: Monotonic + ?Sized> Monotonic for Arc<T> {
    fn elapsed(&self) -> Duration {
        (**self).elapsed()
    }
}

/// A clock that a test sets by hand; its clones share one time.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_api_key::{Clock, ManualClock};
///
/// let clock = ManualClock::at(SystemTime::UNIX_EPOCH);
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<Hands>>);

#[derive(Debug)]
struct Hands {
    now: SystemTime,
    #[cfg(feature = "cache")]
    elapsed: Duration,
}

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn at(now: SystemTime) -> Self {
        Self(Arc::new(Mutex::new(Hands {
            now,
            #[cfg(feature = "cache")]
            elapsed: Duration::ZERO,
        })))
    }

    /// Lets time pass: for the time of day and, with the feature `cache`, as `Monotonic`.
    ///
    /// # Panics
    ///
    /// When the time would leave what [`SystemTime`] can hold.
    pub fn advance(&self, by: Duration) {
        let mut hands = self.lock();
        hands.now += by;
        #[cfg(feature = "cache")]
        {
            hands.elapsed += by;
        }
    }

    /// Sets the time of day, forward or back. No time passes by that.
    pub fn set(&self, now: SystemTime) {
        self.lock().now = now;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Hands> {
        // Hands point somewhere at any moment: a panic elsewhere cannot have left half of one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        self.lock().now
    }
}

#[cfg(feature = "cache")]
impl Monotonic for ManualClock {
    fn elapsed(&self) -> Duration {
        self.lock().elapsed
    }
}
