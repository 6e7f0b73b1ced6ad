//! The sweeper: lets the oldest media go, by each stream's retention and when the volume runs out of space.
//!
//! What is dropped is said first: how far is on stable storage in the catalog before the first block is unlinked, so that
//! nothing below is ever reported lost, or comes back. Positions say how far; `retained_from`, a time, is for people.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use media::{GapReason, Position, ServerTime, StreamId};
use metrics::{counter, gauge};
use store::{Expiry, StoreError};

use super::hub::Hub;
use super::publisher::Ended;
use crate::catalog::{Catalog, CatalogError, Stream};
use crate::telemetry::pulse::Part;

/// A sweep without a sign of life for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// How soon the next sweep comes while space is short.
const SHORT: Duration = Duration::from_secs(1);

/// When and how far the sweeper goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SweeperSettings {
    /// Between two sweeps. Default 10 s.
    pub every: Duration,
    /// Free share of the volume, in thousandths, under which the oldest blocks of all streams go: the store's own
    /// setting. Default 150.
    pub soft_free_permille: u32,
    /// Free share under which nothing is recorded, likewise. Default 50.
    pub hard_free_permille: u32,
    /// What each stream keeps when it is not our own media that fills the volume. Default 1 h.
    pub min_retention: Duration,
}

impl Default for SweeperSettings {
    fn default() -> SweeperSettings {
        SweeperSettings {
            every: Duration::from_secs(10),
            soft_free_permille: 150,
            hard_free_permille: 50,
            min_retention: Duration::from_secs(3600),
        }
    }
}

impl SweeperSettings {
    /// Free share from which recording goes on after the volume was full: above the mark where it
    /// stopped, so that it does not start and stop with every block.
    fn resume_permille(&self) -> u64 {
        let (soft, hard) = (u64::from(self.soft_free_permille), u64::from(self.hard_free_permille));
        hard + (soft.saturating_sub(hard) / 10).max(5)
    }

    /// Whether a volume with these bytes is too full to record on.
    fn is_full(&self, free: u64, total: u64, was_full: bool) -> bool {
        let mark = if was_full { self.resume_permille() } else { u64::from(self.hard_free_permille) };
        total > 0 && free_permille(free, total) < mark
    }

    /// Bytes to free so that the volume is back above its soft mark.
    fn shortage(&self, free: u64, total: u64) -> u64 {
        let mark = u128::from(total) * u128::from(self.soft_free_permille) / 1000;
        u64::try_from(mark).unwrap_or(u64::MAX).saturating_sub(free)
    }
}

fn free_permille(free: u64, total: u64) -> u64 {
    let permille = u128::from(free) * 1000 / u128::from(total.max(1));
    u64::try_from(permille).unwrap_or(u64::MAX)
}

/// The volume, as last looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Space {
    /// Bytes free for us; 0 before the first look.
    pub free: u64,
    /// Bytes in all; 0 before the first look.
    pub total: u64,
    /// Nothing is recorded until space is freed.
    pub full: bool,
    /// It is short and nothing more is dropped: streams are down to their minimum.
    pub minimum_kept: bool,
    /// Bytes of it that are our media, as far as that was counted: while it is short.
    pub stored: u64,
}

/// In how many sweeps in a row the minimum must hold before that is said: our own media may fill the volume meanwhile.
const HELD_SWEEPS: u32 = 10;

/// What streams keep while other files fill the volume.
///
/// On a small volume our own media may be all that fills it, and less than the minimum. Then new media must replace old, or recording would
/// stop. So half way from the soft to the hard mark the minimum is a size: what is stored then. What is recorded beyond that is dropped
/// again; what others take is not made up for.
#[derive(Default)]
struct Minimum {
    size: Option<u64>,
    held: u32,
}

impl Minimum {
    /// Bytes of the minimum that may go, with `stored` bytes now.
    fn beyond(&self, stored: u64) -> u64 {
        self.size.map_or(0, |size| stored.saturating_sub(size))
    }

    /// The volume is short, and `stored` bytes are left after dropping.
    fn is_short(&mut self, keeps_minimum: bool, is_pressing: bool, stored: u64) {
        self.held = if keeps_minimum { self.held.saturating_add(1) } else { 0 };
        if is_pressing {
            self.size.get_or_insert(stored);
        }
    }

    /// The volume has room with `stored` bytes.
    fn has_room(&mut self, stored: u64) {
        self.held = 0;
        // With less stored than then it may be only what we dropped: others may take that, too.
        self.size = self.size.filter(|size| stored < *size);
    }

    fn is_kept(&self) -> bool {
        self.held >= HELD_SWEEPS
    }
}

/// Why a stream could not be swept; the next sweep tries again.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Hub {
    /// The volume, as the sweeper last found it.
    pub(crate) fn space(&self) -> Space {
        *self.space.borrow()
    }

    /// An append met a full volume: nobody publishes until the sweeper finds room.
    pub(super) fn volume_filled(&self) {
        self.space.send_modify(|space| space.full = true);
    }

    pub(super) fn found_space(&self, found: Space) {
        gauge!("kinora_volume_free_bytes").set(found.free as f64);
        gauge!("kinora_volume_total_bytes").set(found.total as f64);
        gauge!("kinora_volume_full").set(if found.full { 1.0 } else { 0.0 });
        gauge!("kinora_volume_minimum_kept").set(if found.minimum_kept { 1.0 } else { 0.0 });
        let Space { full: was_full, minimum_kept: was_kept, .. } = self.space.send_replace(found);
        match (was_kept, found.minimum_kept) {
            (false, true) => tracing::error!(
                free = found.free,
                total = found.total,
                stored = found.stored,
                "the volume is short and every stream is down to storage.min_retention: what else there is are other files, which \
                 dropping media does not help against; free space on it, or give it more"
            ),
            (true, false) => tracing::info!(free = found.free, "streams may grow beyond storage.min_retention again"),
            _ => {}
        }
        match (was_full, found.full) {
            (false, true) => tracing::warn!(free = found.free, "the volume is full: nothing is recorded"),
            (true, false) => tracing::info!(free = found.free, "the volume has room: recording goes on"),
            _ => {}
        }
        if found.full {
            for state in self.states() {
                state.vacate_any(Ended::DiskFull, GapReason::DiskFull);
            }
        }
    }

    /// Lets memory go of what the store is about to delete.
    fn release_through(&self, stream: StreamId, through: Position) {
        if let Some(state) = self.existing(stream) {
            state.shared().tail.release_through(through);
        }
    }

    fn forget_all_idle(&self) {
        for stream in self.states().iter().map(|state| state.id).collect::<Vec<_>>() {
            self.forget_idle(stream);
        }
    }
}

/// The one task that deletes media by rule.
pub(crate) struct Sweeper {
    hub: Arc<Hub>,
    catalog: Arc<Catalog>,
    settings: SweeperSettings,
    /// What an earlier life had said to drop and did not get to is dropped now.
    caught_up: AtomicBool,
    minimum: Mutex<Minimum>,
    part: Arc<Part>,
}

impl Sweeper {
    pub(crate) fn new(hub: Arc<Hub>, catalog: Arc<Catalog>, settings: SweeperSettings) -> Sweeper {
        let part = Part::new("sweeper", PATIENCE, false);
        Sweeper { hub, catalog, settings, caught_up: AtomicBool::new(false), minimum: Mutex::default(), part }
    }

    /// Sweeps until the hub stops.
    pub(crate) async fn run(self) {
        let (hub, every) = (self.hub.clone(), self.settings.every);
        let sweeper = Arc::new(self);
        loop {
            let worker = sweeper.clone();
            sweeper.part.beat();
            let swept = tokio::task::spawn_blocking(move || worker.sweep(worker.hub.believed_now())).await;
            sweeper.part.rest();
            let wait = match swept {
                Ok(wait) => wait,
                Err(failure) => {
                    // Without a sweeper the volume fills up: whatever failed is tried again.
                    tracing::error!(%failure, "the sweep failed");
                    metrics::counter!("kinora_panics_total", "part" => "sweep").increment(1);
                    every
                }
            };
            tokio::select! {
                () = hub.stopping.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One sweep over all streams, by a clock that shows `now`. Returns how long the next one may wait. Blocks.
    pub(super) fn sweep(&self, now: ServerTime) -> Duration {
        self.hub.forget_all_idle();
        let streams = self.catalog.all_streams();
        let mut failures = 0u64;
        for stream in &streams {
            self.part.beat();
            if let Err(error) = self.expire(stream, now) {
                // One of each sweep is told in full; more would say the same.
                if failures == 0 {
                    tracing::warn!(stream = %stream.name, %error, "retention failed; it is tried again");
                }
                failures += 1;
            }
        }
        if failures > 1 {
            tracing::warn!(failures, "retention failed on several streams");
        }
        self.caught_up.store(failures == 0, Ordering::Relaxed);
        match self.watch_space(&streams) {
            Ok(short) if short => SHORT.min(self.settings.every),
            Ok(_) => self.settings.every,
            Err(error) => {
                tracing::warn!(%error, "the volume's space is not known");
                self.settings.every
            }
        }
    }

    /// Drops what the stream's own retention says at `now`.
    fn expire(&self, stream: &Stream, now: ServerTime) -> Result<(), SweepError> {
        let retention = stream.settings.retention;
        let left_over = stream.dropped.filter(|_| !self.caught_up.load(Ordering::Relaxed));
        let mut freed = 0;
        if let Some(through) = left_over {
            freed += self.hub.store.drop_through(stream.id, through)?;
        }
        if let Some(expiry) = self.hub.store.expiry(stream.id, now, retention.max_age, retention.max_bytes)? {
            freed += self.drop(stream, expiry)?;
        }
        counter!("kinora_blocks_expired_bytes_total").increment(freed);
        Ok(())
    }

    /// Says how far the stream is dropped, durably, then drops it. Returns the bytes freed.
    fn drop(&self, stream: &Stream, expiry: Expiry) -> Result<u64, SweepError> {
        if stream.dropped.is_none_or(|dropped| dropped < expiry.through) {
            self.catalog.set_retained_from(stream.id, expiry.ends, expiry.through)?;
        }
        self.hub.release_through(stream.id, expiry.through);
        Ok(self.hub.store.drop_through(stream.id, expiry.through)?)
    }

    /// Keeps the volume above its soft mark by dropping the oldest blocks of all streams, and stops or
    /// resumes recording at the hard one. True when space is short still.
    fn watch_space(&self, streams: &[Arc<Stream>]) -> Result<bool, StoreError> {
        let (mut free, mut total) = self.hub.store.space()?;
        let mut minimum = self.minimum.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stored = 0;
        if self.settings.shortage(free, total) > 0 {
            stored = self.make_room(streams, &mut minimum)?;
            (free, total) = self.hub.store.space()?;
        } else {
            if minimum.size.is_some() {
                stored = self.hub.store.stored_bytes()?;
            }
            minimum.has_room(stored);
        }
        let full = self.settings.is_full(free, total, self.hub.space().full);
        self.hub.found_space(Space { free, total, full, minimum_kept: minimum.is_kept(), stored });
        Ok(full || self.settings.shortage(free, total) > 0)
    }

    /// Drops the oldest blocks, whosoever they are, until the volume is above its soft mark again or streams have their minimum left.
    /// Returns the bytes that are left.
    fn make_room(&self, streams: &[Arc<Stream>], minimum: &mut Minimum) -> Result<u64, StoreError> {
        let mut freed = 0u64;
        let stored = self.hub.store.stored_bytes()?;
        let plan = self.hub.store.reclaim_plan(self.settings.min_retention, minimum.beyond(stored))?;
        for (id, expiry) in plan.drops {
            // A stream that the catalog does not know is being deleted.
            let Some(stream) = streams.iter().find(|stream| stream.id == id) else { continue };
            match self.drop(stream, expiry) {
                Ok(bytes) => freed = freed.saturating_add(bytes),
                Err(error) => tracing::warn!(stream = %stream.name, %error, "its oldest media stays"),
            }
        }
        if freed > 0 {
            counter!("kinora_blocks_evicted_bytes_total").increment(freed);
            tracing::info!(freed, "dropped the oldest media to free space");
        }
        let left = stored.saturating_sub(freed);
        minimum.is_short(plan.keeps_minimum, plan.is_pressing, left);
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recording_stops_at_the_hard_mark_and_resumes_above_it() {
        let settings = SweeperSettings::default();
        assert!(!settings.is_full(50, 1000, false));
        assert!(settings.is_full(49, 1000, false));
        assert!(settings.is_full(50, 1000, true), "not at the mark where it stopped");
        assert!(settings.is_full(59, 1000, true));
        assert!(!settings.is_full(60, 1000, true));
    }

    #[test]
    fn volume_of_unknown_size_is_not_full() {
        assert!(!SweeperSettings::default().is_full(0, 0, false));
        assert_eq!(SweeperSettings::default().shortage(0, 0), 0);
    }

    #[test]
    fn shortage_is_what_the_soft_mark_lacks() {
        let settings = SweeperSettings::default();
        assert_eq!(settings.shortage(100, 1000), 50);
        assert_eq!(settings.shortage(150, 1000), 0);
        assert_eq!(settings.shortage(0, u64::MAX), u64::try_from(u128::from(u64::MAX) * 150 / 1000).unwrap());
    }

    #[test]
    fn the_minimum_is_given_up_for_our_own_media_and_for_nothing_else() {
        let mut minimum = Minimum::default();
        assert_eq!(minimum.beyond(3200), 0);
        minimum.is_short(true, false, 3100);
        assert_eq!(minimum.beyond(9999), 0, "it grows while that does not press");
        minimum.is_short(true, true, 3200);
        // Our own media: as much goes as comes.
        assert_eq!(minimum.beyond(3200), 0);
        assert_eq!(minimum.beyond(3500), 300);
        minimum.is_short(false, false, 3150);
        minimum.has_room(3150);
        assert_eq!(minimum.beyond(3500), 300, "it is not forgotten for what was dropped just now");
        // Others' files.
        assert_eq!(minimum.beyond(3100), 0);
        for sweep in 1..=HELD_SWEEPS {
            assert!(!minimum.is_kept());
            minimum.is_short(true, true, 3100);
            assert_eq!(minimum.is_kept(), sweep == HELD_SWEEPS);
        }
        // They are gone.
        minimum.has_room(3200);
        assert!(!minimum.is_kept());
        assert_eq!(minimum.beyond(9999), 0);
    }
}
