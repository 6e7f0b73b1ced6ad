//! The recorder: the tail's first reader, one task for each stream that is published.
//!
//! It hands fragments to the store in order, a few ahead of their acknowledgement so that they share a
//! sync, and tells the tail what became of each. It lives as long as somebody publishes and a while
//! longer, so that a publisher who comes right back goes on in the same block; then it seals the block.
//!
//! A fragment that the disk refuses was final when it closed and has its ordinal, so a hole stays where
//! it was; fragments that were closed before we knew are still recorded, and the next one that starts
//! says why (`storage_error`, `disk_full`).

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use media::GapReason;
use store::{AppendError, Stored};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::hub::Hub;
use super::meters::Meters;
use super::publisher::Ended;
use super::state::StreamState;
use super::tail::{Entry, Fate};

/// Fragments handed to the store and not acknowledged yet, at most.
const IN_FLIGHT: usize = 8;

/// Bytes of all streams handed to the store beyond which each stream has one fragment there, and the rest
/// waits in its tail.
const IN_FLIGHT_BYTES: u64 = 256 << 20;

/// Complaints about one stream's disk are told this often, with their count.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// How often a publisher is looked after while the longest fragment lasts.
const LOOKS: u32 = 4;

type Append = Pin<Box<dyn Future<Output = (Entry, Result<Stored, AppendError>)> + Send>>;

/// After a recorder that failed, before the next begins.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1000 });

/// Records until nobody publishes any more.
///
/// A panic in here belongs to this stream. Its publisher's session ends, fragments that were on their way to the disk are lost, as
/// far as anybody is told, and another recorder goes on behind them.
pub(super) async fn record(hub: Arc<Hub>, state: Arc<StreamState>, meters: Meters) {
    loop {
        let recorder = Recorder::new(hub.clone(), state.clone(), meters.clone());
        if AssertUnwindSafe(recorder.run()).catch_unwind().await.is_ok() {
            break;
        }
        tracing::error!(stream = %state.id, "the stream's recorder panicked: its publisher's session ends, and another one records");
        metrics::counter!("kinora_panics_total", "part" => "recorder").increment(1);
        state.vacate_any(Ended::Failed, GapReason::StorageError);
        for entry in state.taken() {
            meters.refused(entry.fragment.body.len() as u64);
            state.settle(entry.fragment.info.position, Fate::Lost, hub.tail_share().bytes());
        }
        tokio::time::sleep(PAUSE).await;
    }
    let stream = state.id;
    drop(state);
    hub.forget_idle(stream);
}

struct Recorder {
    hub: Arc<Hub>,
    state: Arc<StreamState>,
    meters: Meters,
    in_flight: FuturesOrdered<Append>,
    /// Bytes of those; a part of the hub's.
    in_flight_bytes: u64,
    /// The store holds an open block of ours.
    unsealed: bool,
    /// The store does not take the stream's fragments any more.
    gone: bool,
    refused: u64,
    complained: Option<Instant>,
    /// When to look whether the publisher fell silent.
    looks: Interval,
}

/// What a recorder waits for.
enum Event {
    /// The store answered for the oldest fragment in flight.
    Answer(Entry, Result<Stored, AppendError>),
    /// The tail has something new, or the publisher left.
    Work,
    /// Time to look whether the publisher fell silent.
    Look,
    /// Nobody has published for a while, or the server stops.
    Idle,
}

impl Recorder {
    pub fn new(hub: Arc<Hub>, state: Arc<StreamState>, meters: Meters) -> Recorder {
        let in_flight = FuturesOrdered::new();
        let mut looks = interval((hub.settings.fragment_max / LOOKS).max(Duration::from_millis(1)));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Recorder {
            hub,
            state,
            meters,
            in_flight,
            in_flight_bytes: 0,
            unsealed: false,
            gone: false,
            refused: 0,
            complained: None,
            looks,
        }
    }

    /// Records until nobody publishes any more.
    pub async fn run(mut self) {
        loop {
            self.hand_over();
            match self.select().await {
                Event::Answer(entry, answer) => self.apply(entry, answer),
                Event::Work => {}
                Event::Look => self.state.close_silent(self.hub.settings.fragment_max),
                Event::Idle => {
                    self.seal().await;
                    if self.state.retire() {
                        break;
                    }
                }
            }
        }
    }

    /// Gives the store what the tail has for it.
    fn hand_over(&mut self) {
        while self.may_hand_over() {
            let Some(entry) = self.state.take_next() else { break };
            if self.gone {
                self.refuse(&entry);
                continue;
            }
            let bytes = entry.fragment.body.len() as u64;
            self.in_flight_bytes += bytes;
            self.hub.in_flight_bytes.fetch_add(bytes, Ordering::Relaxed);
            let append: Append = match self.hub.faults.next() {
                Some(error) => Box::pin(std::future::ready((entry, Err(error)))),
                None => {
                    let answer = self.hub.store.append(self.state.id, (*entry.fragment).clone());
                    Box::pin(async move { (entry, answer.await) })
                }
            };
            self.in_flight.push_back(append);
            self.unsealed = true;
        }
    }

    /// Whether the store is to get one more; one of each stream always, so that none starves.
    fn may_hand_over(&self) -> bool {
        let crowded = self.hub.in_flight_bytes.load(Ordering::Relaxed) > IN_FLIGHT_BYTES;
        let most = if crowded { 1 } else { IN_FLIGHT };
        self.in_flight.len() < most && self.hub.faults.open()
    }

    async fn select(&mut self) -> Event {
        let done = self.in_flight.is_empty() && self.state.is_done();
        tokio::select! {
            Some((entry, answer)) = self.in_flight.next() => Event::Answer(entry, answer),
            () = self.state.work.notified() => Event::Work,
            () = self.hub.faults.changed() => Event::Work,
            () = idle(&self.hub), if done => Event::Idle,
            _ = self.looks.tick(), if !done => Event::Look,
        }
    }

    fn apply(&mut self, entry: Entry, answer: Result<Stored, AppendError>) {
        let bytes = entry.fragment.body.len() as u64;
        self.in_flight_bytes -= bytes;
        self.hub.in_flight_bytes.fetch_sub(bytes, Ordering::Relaxed);
        match answer {
            Ok(_) => {
                self.meters.persisted(bytes, entry.closed);
                self.state.settle(entry.fragment.info.position, Fate::Persisted, self.hub.tail_share().bytes());
                if self.refused > 0 {
                    tracing::info!(stream = %self.state.id, refused = self.refused, "recording again");
                    (self.refused, self.complained) = (0, None);
                }
            }
            // The publisher is told first, so that who sees the loss sees its consequences too.
            Err(AppendError::Disk(why)) => {
                self.state.break_recording(GapReason::StorageError);
                self.complain(&why);
                self.refuse(&entry);
            }
            Err(AppendError::Full) => {
                self.hub.volume_filled();
                self.state.vacate_any(Ended::DiskFull, GapReason::DiskFull);
                self.state.break_recording(GapReason::DiskFull);
                self.complain("volume full");
                self.refuse(&entry);
            }
            Err(AppendError::Gone) => {
                self.gone = true;
                let ended = if self.hub.is_stopping() { Ended::Stopping } else { Ended::Deleted };
                self.state.vacate_any(ended, GapReason::ServerStopped);
                self.refuse(&entry);
            }
        }
    }

    fn refuse(&mut self, entry: &Entry) {
        self.meters.refused(entry.fragment.body.len() as u64);
        self.state.settle(entry.fragment.info.position, Fate::Lost, self.hub.tail_share().bytes());
    }

    fn complain(&mut self, why: &str) {
        self.refused += 1;
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            tracing::warn!(stream = %self.state.id, why, refused = self.refused, "fragments are not recorded");
        }
    }

    /// Seals the block, and says why the next one will not continue it.
    async fn seal(&mut self) {
        if std::mem::take(&mut self.unsealed) && !self.gone {
            let why = self.state.shared().left.unwrap_or(GapReason::PublisherLeft);
            self.hub.store.seal(self.state.id, why).await;
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // None are left but after a panic.
        self.hub.in_flight_bytes.fetch_sub(self.in_flight_bytes, Ordering::Relaxed);
    }
}

/// Resolves when a recorder with nothing to do has waited long enough.
async fn idle(hub: &Hub) {
    tokio::select! {
        () = tokio::time::sleep(hub.settings.idle_after) => {}
        () = hub.stopping.cancelled() => {}
    }
}
