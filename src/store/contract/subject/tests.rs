use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;

use super::*;
use crate::store::MemoryStore;

/// For what does not hang: to print where a panic came from takes its time.
const LONG: Duration = Duration::from_mins(1);
/// For what does.
const SHORT: Duration = Duration::from_millis(50);

/// Needs the runtime when it is dropped, as a pool of connections may.
struct NeedsRuntime(Arc<AtomicBool>);

impl Drop for NeedsRuntime {
    fn drop(&mut self) {
        drop(tokio::spawn(async {}));
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Examines a store within a limit; what was said, and whether what was kept was let go.
fn said<P: Future<Output = ()> + Send + 'static>(
    limit: Duration,
    promise: impl FnOnce(Arc<dyn KeyRegistry>) -> P + 'static,
) -> (Option<String>, bool) {
    let was_dropped = Arc::new(AtomicBool::new(false));
    let kept = NeedsRuntime(Arc::clone(&was_dropped));
    let open = async || Subject::new(MemoryStore::new()).keeping(kept);
    let said = catch_unwind(AssertUnwindSafe(|| check_within(limit, open, promise)));
    let said = said.err().map(|said| {
        let fixed = said.downcast_ref::<&str>().map(|&text| text.to_owned());
        fixed.unwrap_or_else(|| said.downcast_ref::<String>().unwrap().clone())
    });
    (said, was_dropped.load(Ordering::SeqCst))
}

#[test]
fn a_kept_promise_says_nothing() {
    assert_eq!(said(LONG, async |_| {}), (None, true));
}

#[test]
fn a_broken_promise_says_what_it_says() {
    let (said, was_dropped) = said(LONG, async |_| panic!("it is broken"));
    assert_eq!(said.unwrap(), "it is broken");
    assert!(was_dropped);
}

#[test]
fn a_store_that_hangs_is_said_to_hang() {
    for (said, was_dropped) in [
        said(SHORT, async |_| std::future::pending().await),
        // Blocks its thread, long past the limit.
        said(SHORT, async |_| sleep(Duration::from_secs(5))),
    ] {
        assert!(said.unwrap().ends_with("is not over after 50ms: the store hangs"));
        assert!(was_dropped);
    }
}
