//! A place where tests hold up or fail a recorder; nothing in the program itself.

#[cfg(not(test))]
pub(super) use self::none::Faults;
#[cfg(test)]
pub(super) use self::some::Faults;

#[cfg(not(test))]
mod none {
    use store::AppendError;

    /// No faults.
    pub(in crate::live) struct Faults;

    impl Faults {
        pub fn new() -> Faults {
            Faults
        }

        /// Whether fragments may be handed to the store.
        pub fn open(&self) -> bool {
            true
        }

        /// The error that the next append meets instead of the store.
        pub fn next(&self) -> Option<AppendError> {
            None
        }

        /// Resolves when `open` changed.
        pub async fn changed(&self) {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod some {
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use store::AppendError;
    use tokio::sync::Notify;

    /// Faults that a test sets.
    #[derive(Default)]
    pub(in crate::live) struct Faults {
        stuck: AtomicBool,
        changed: Notify,
        errors: Mutex<VecDeque<AppendError>>,
        panics: AtomicBool,
    }

    impl Faults {
        pub fn new() -> Faults {
            Faults::default()
        }

        pub fn open(&self) -> bool {
            !self.stuck.load(Ordering::SeqCst)
        }

        pub fn next(&self) -> Option<AppendError> {
            assert!(!self.panics.swap(false, Ordering::SeqCst), "as asked for");
            self.errors.lock().unwrap().pop_front()
        }

        pub async fn changed(&self) {
            self.changed.notified().await;
        }

        /// The disk takes nothing while `stuck`.
        pub fn stick(&self, stuck: bool) {
            self.stuck.store(stuck, Ordering::SeqCst);
            self.changed.notify_waiters();
            self.changed.notify_one();
        }

        /// The recorder panics at the next fragment.
        pub fn panic(&self) {
            self.panics.store(true, Ordering::SeqCst);
        }

        /// The next appends fail so.
        pub fn fail(&self, errors: impl IntoIterator<Item = AppendError>) {
            self.errors.lock().unwrap().extend(errors);
        }
    }
}
