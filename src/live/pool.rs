//! Blocking reads of the store, off the runtime's threads and few at a time.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// So many reads at once: more would only queue up in the disk.
const AT_ONCE: usize = 16;

/// A bound on blocking work, over the runtime's own blocking threads.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Semaphore>);

impl Pool {
    pub fn new() -> Pool {
        Pool(Arc::new(Semaphore::new(AT_ONCE)))
    }

    /// Runs `work` on a thread that may block.
    ///
    /// The permit goes with the work, so that a caller who gives up does not let in more than the bound.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let permit = self.0.clone().acquire_owned().await.expect("the semaphore is never closed");
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        match done.await {
            Ok(value) => value,
            Err(failure) => match failure.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Blocking work is cancelled only when the runtime goes down, and then nobody polls us again.
                Err(_) => std::future::pending().await,
            },
        }
    }
}
