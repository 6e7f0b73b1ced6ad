//! Work that several share: made once, however many want its outcome, and ended when nobody has for a while.
//!
//! ```text
//!   join(key) --> runs already: one more reader of it
//!             \-> else: the work is started, and runs until it ends or had no reader for `linger`
//! ```
//!
//! Each reader has the units that were sent since it joined; one that is too slow misses the oldest and is told how many.
//!
//! Not here: what the work is ([`super::shared_transcodes`] shares transcodes).

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Units that wait for a reader: beyond it the oldest are lost to it.
const WAITING_MAX: usize = 128;

/// What is shared, by key. `S` is what each reader must know of the work, `T` a unit, `E` how it ended.
pub(super) struct Shares<K, S, T, E> {
    linger: Duration,
    entries: Arc<Entries<K, S, T, E>>,
}

type Entries<K, S, T, E> = Mutex<HashMap<K, Entry<S, T, E>>>;

struct Entry<S, T, E> {
    state: S,
    sender: broadcast::Sender<T>,
    end: Arc<OnceLock<E>>,
}

/// What a reader sees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Seen<T> {
    Unit(T),
    /// The reader was too slow for so many.
    Missed(u64),
    /// The work ended.
    End,
}

/// One reader. The work goes on while there is one.
pub(super) struct Reader<S, T, E> {
    pub state: S,
    units: broadcast::Receiver<T>,
    end: Arc<OnceLock<E>>,
}

impl<S, T: Clone, E> Reader<S, T, E> {
    /// What comes next. May be dropped and called again.
    pub async fn next(&mut self) -> Seen<T> {
        match self.units.recv().await {
            Ok(unit) => Seen::Unit(unit),
            Err(RecvError::Lagged(count)) => Seen::Missed(count),
            Err(RecvError::Closed) => Seen::End,
        }
    }

    /// How the work ended; none while it runs.
    pub fn ended(&self) -> Option<&E> {
        self.end.get()
    }
}

fn lock<K, S, T, E>(entries: &Entries<K, S, T, E>) -> MutexGuard<'_, HashMap<K, Entry<S, T, E>>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, S, T, E> Shares<K, S, T, E>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    S: Clone + Send + 'static,
    T: Clone + Send + 'static,
    E: Send + Sync + 'static,
{
    /// Nothing yet; work without readers goes on for `linger`.
    pub fn new(linger: Duration) -> Shares<K, S, T, E> {
        Shares { linger, entries: Arc::default() }
    }

    /// One more reader of the work with this key, which `start` begins when it does not run: it gives what readers must
    /// know, and the work itself, which sends its units and is dropped when nobody wants them any more.
    ///
    /// Call it within a runtime.
    ///
    /// # Errors
    /// Those of `start`.
    pub fn join<F, W>(
        &self,
        key: &K,
        start: impl FnOnce(broadcast::Sender<T>) -> Result<(S, W), F>,
    ) -> Result<Reader<S, T, E>, F>
    where
        W: Future<Output = E> + Send + 'static,
    {
        let mut entries = lock(&self.entries);
        if let Some(Entry { state, sender, end }) = entries.get(key) {
            return Ok(Reader { state: state.clone(), units: sender.subscribe(), end: end.clone() });
        }
        let (sender, units) = broadcast::channel(WAITING_MAX);
        let end = Arc::new(OnceLock::new());
        let (state, work) = start(sender.clone())?;
        let entry = Entry { state: state.clone(), sender: sender.clone(), end: end.clone() };
        entries.insert(key.clone(), entry);
        let kept = Kept { entries: self.entries.clone(), key: key.clone(), linger: self.linger, sender };
        let ended = end.clone();
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = work => Some(outcome),
                () = kept.until_nobody_reads() => None,
            };
            if let Some(outcome) = outcome {
                let _ = ended.set(outcome);
            }
        });
        Ok(Reader { state, units, end })
    }

    /// How much work runs.
    #[cfg(test)]
    fn count(&self) -> usize {
        lock(&self.entries).len()
    }
}

/// An entry while its work runs: taken out with it, whatever becomes of it.
struct Kept<K: Eq + Hash, S, T, E> {
    entries: Arc<Entries<K, S, T, E>>,
    key: K,
    linger: Duration,
    sender: broadcast::Sender<T>,
}

impl<K: Eq + Hash, S, T, E> Kept<K, S, T, E> {
    /// Returns when there was no reader for the while that work lingers, with the entry taken out.
    async fn until_nobody_reads(&self) {
        loop {
            self.sender.closed().await;
            tokio::time::sleep(self.linger).await;
            if self.take_out_unread() {
                return;
            }
        }
    }

    fn take_out_unread(&self) -> bool {
        // Under the lock nobody joins.
        let mut entries = lock(&self.entries);
        let unread = self.sender.receiver_count() == 0;
        if unread {
            self.take_out(&mut entries);
        }
        unread
    }

    fn take_out(&self, entries: &mut HashMap<K, Entry<S, T, E>>) {
        // Another may have the key since.
        if entries.get(&self.key).is_some_and(|entry| entry.sender.same_channel(&self.sender)) {
            entries.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash, S, T, E> Drop for Kept<K, S, T, E> {
    fn drop(&mut self) {
        let entries = self.entries.clone();
        self.take_out(&mut lock(&entries));
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::mpsc;

    use super::*;

    /// Longer than any test.
    const LONG: Duration = Duration::from_secs(3600);

    type Counts = Shares<&'static str, usize, u32, &'static str>;

    /// Work that sends what it is given, and counts how often it was started and how many of it run.
    #[derive(Clone, Default)]
    struct Bench {
        started: Arc<AtomicUsize>,
        running: Arc<AtomicUsize>,
    }

    struct Running(Arc<AtomicUsize>);

    impl Drop for Running {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl Bench {
        fn join(&self, shares: &Counts, mut feed: mpsc::UnboundedReceiver<u32>) -> Reader<usize, u32, &'static str> {
            let joined = shares.join(&"gate", |sender| {
                let number = self.started.fetch_add(1, Ordering::SeqCst);
                self.running.fetch_add(1, Ordering::SeqCst);
                let running = Running(self.running.clone());
                let work = async move {
                    let _running = running;
                    while let Some(unit) = feed.recv().await {
                        let _ = sender.send(unit);
                    }
                    "no more units"
                };
                Ok::<_, Infallible>((number, work))
            });
            joined.unwrap_or_else(|never| match never {})
        }
    }

    #[tokio::test]
    async fn work_is_started_once_and_read_by_all() {
        let (shares, bench) = (Counts::new(LONG), Bench::default());
        let (units, feed) = mpsc::unbounded_channel();
        let mut first = bench.join(&shares, feed);
        units.send(1).expect("it is read");
        assert_eq!(first.next().await, Seen::Unit(1));
        let mut second = bench.join(&shares, mpsc::unbounded_channel().1);
        units.send(2).expect("it is read");
        assert_eq!((first.next().await, second.next().await), (Seen::Unit(2), Seen::Unit(2)));
        assert_eq!((bench.started.load(Ordering::SeqCst), second.state), (1, 0));
        drop(units);
        assert_eq!((first.next().await, second.next().await), (Seen::End, Seen::End));
        assert_eq!((first.ended(), shares.count()), (Some(&"no more units"), 0));
        let (_units, feed) = mpsc::unbounded_channel();
        assert_eq!(bench.join(&shares, feed).state, 1, "who comes later starts it again");
    }

    #[tokio::test]
    async fn work_goes_on_for_those_who_come_back() {
        let (shares, bench) = (Counts::new(LONG), Bench::default());
        let (units, feed) = mpsc::unbounded_channel();
        drop(bench.join(&shares, feed));
        // The task sees that nobody reads.
        tokio::task::yield_now().await;
        units.send(6).expect("it still runs");
        let mut reader = bench.join(&shares, mpsc::unbounded_channel().1);
        units.send(7).expect("it still runs");
        let seen = reader.next().await;
        assert!(seen == Seen::Unit(6) || seen == Seen::Unit(7), "{seen:?}");
        assert_eq!((reader.state, bench.started.load(Ordering::SeqCst)), (0, 1));
    }

    #[tokio::test]
    async fn work_ends_when_nobody_reads() {
        let (shares, bench) = (Counts::new(Duration::ZERO), Bench::default());
        let (units, feed) = mpsc::unbounded_channel();
        let first = bench.join(&shares, feed);
        let second = bench.join(&shares, mpsc::unbounded_channel().1);
        drop(first);
        tokio::task::yield_now().await;
        assert!(!units.is_closed(), "one reader is left");
        drop(second);
        units.closed().await;
        assert_eq!((bench.running.load(Ordering::SeqCst), shares.count()), (0, 0));
    }

    #[tokio::test]
    async fn a_slow_reader_misses_the_oldest_and_is_told() {
        let (shares, bench) = (Counts::new(LONG), Bench::default());
        let (units, feed) = mpsc::unbounded_channel();
        let mut quick = bench.join(&shares, feed);
        let mut slow = bench.join(&shares, mpsc::unbounded_channel().1);
        for unit in 0..WAITING_MAX as u32 + 3 {
            units.send(unit).expect("it is read");
            assert_eq!(quick.next().await, Seen::Unit(unit));
        }
        assert_eq!(slow.next().await, Seen::Missed(3));
        assert_eq!(slow.next().await, Seen::Unit(3));
    }

    #[tokio::test]
    async fn what_cannot_be_started_leaves_nothing_behind() {
        let shares = Counts::new(LONG);
        let refused = shares.join(&"gate", |_| Err::<(usize, std::future::Ready<&'static str>), _>("no"));
        assert_eq!((refused.err(), shares.count()), (Some("no"), 0));
    }

    #[tokio::test]
    async fn work_that_panics_is_over_for_its_readers_and_can_be_started_again() {
        let shares = Counts::new(LONG);
        let mut reader = shares
            .join(&"gate", |_| Ok::<_, Infallible>((0, async { panic!("a broken invariant") })))
            .unwrap_or_else(|never| match never {});
        assert_eq!((reader.next().await, reader.ended()), (Seen::End, None));
        assert_eq!(shares.count(), 0);
    }
}
