//! One at a time for each stream, however many streams at once.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use media::StreamId;

/// The streams whose turn somebody has.
#[derive(Default)]
pub(crate) struct Turns {
    taken: Mutex<HashSet<StreamId>>,
    given_back: Condvar,
}

/// A turn, until it is dropped.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    stream: StreamId,
}

impl Turns {
    /// Waits until nobody has the stream's turn, and takes it.
    pub fn take(&self, stream: StreamId) -> Turn<'_> {
        let taken = self.lock();
        let free = self.given_back.wait_while(taken, |taken| taken.contains(&stream));
        free.unwrap_or_else(PoisonError::into_inner).insert(stream);
        Turn { turns: self, stream }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<StreamId>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.lock().remove(&self.stream);
        self.turns.given_back.notify_all();
    }
}
