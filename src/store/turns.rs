//! Asking once for many. Knows no store.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// One question at a time: whoever comes while it is being asked shares the answer to the next, which is
/// asked after they came.
#[derive(Debug)]
pub(super) struct Turns<T> {
    /// How many times it was asked.
    asked: AtomicU64,
    /// The last answer, and to which time.
    last: Mutex<Option<(u64, T)>>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { asked: AtomicU64::new(0), last: Mutex::new(None) }
    }
}

impl<T: Clone> Turns<T> {
    /// The answer to a question that was asked after this call. Dropped, it leaves the asking to the next.
    pub(super) async fn ask(&self, ask: impl Future<Output = T>) -> T {
        let came = self.asked.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some((time, answer)) = &*last
            && *time > came
        {
            return answer.clone();
        }
        let time = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = ask.await;
        *last = Some((time, answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    /// Of a hundred who ask at once, the first asks alone and all others together; and nobody gets what
    /// was true before they came.
    #[tokio::test(start_paused = true)]
    async fn those_who_wait_share_the_next_answer() {
        let (turns, truth) = (Arc::new(Turns::default()), Arc::new(AtomicU64::new(0)));
        let times = Arc::new(AtomicU64::new(0));
        let asking: Vec<_> = (0..100)
            .map(|_| {
                let (turns, truth) = (Arc::clone(&turns), Arc::clone(&truth));
                let times = Arc::clone(&times);
                tokio::spawn(async move {
                    let came = truth.fetch_add(1, Ordering::SeqCst) + 1;
                    let ask = async {
                        let seen = truth.load(Ordering::SeqCst);
                        times.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        seen
                    };
                    assert!(turns.ask(ask).await >= came, "an answer from before");
                })
            })
            .collect();
        for asked in asking {
            asked.await.unwrap();
        }
        assert_eq!(times.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_leaves_the_asking_to_the_next() {
        let turns = Arc::new(Turns::default());
        let hangs = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.ask(std::future::pending()).await }
        });
        tokio::task::yield_now().await;
        let next = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.ask(async { 7 }).await }
        });
        tokio::task::yield_now().await;
        hangs.abort();
        assert_eq!(next.await.unwrap(), 7);
    }
}
