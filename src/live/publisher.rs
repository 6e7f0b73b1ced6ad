//! The one writer of a stream, as ingest holds it.

use std::sync::Arc;

use media::{AccessUnit, GapReason, ProducerTime, ServerTime, TrackId, TrackSet};
use store::StoreError;
use tokio::sync::watch;

use super::account::Account;
use super::hub::Share;
use super::seat::Accepted;
use super::state::StreamState;

/// Who publishes, for the second-publisher rule, logs and status.
#[derive(Clone, Debug)]
pub(crate) struct PublisherInfo {
    /// The credential: [`crate::auth::Principal::id`].
    pub credential: String,
    /// `rtsp+tcp`, `rtsp+udp`, later `whip`, `put_media`.
    pub protocol: &'static str,
    /// Address of the peer.
    pub peer: String,
    /// Whether the source can be held back (TCP) or must lose media when the disk is stuck (UDP, WebRTC).
    pub can_wait: bool,
    /// Whether the source makes a key picture when it is asked for one (WebRTC).
    pub sends_on_request: bool,
}

/// Why publishing did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// Somebody is there whom the stream's `on_second_publisher` does not let this credential replace.
    #[error(
        "stream {stream} is being published from {peer} since {}, and this credential may not take over",
        shown(since)
    )]
    Busy { stream: String, peer: String, since: ServerTime },
    /// This credential had the seat, from this address, and lost it to who sits there now.
    #[error(
        "stream {stream} was taken over by {peer}, which is publishing it; this publisher may take it back when that one is \
         silent, or after a minute without trying"
    )]
    Displaced { stream: String, peer: String },
    #[error("the volume is full; nothing is recorded until space is freed")]
    DiskFull,
    #[error("the server is stopping")]
    Stopping,
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn shown(time: &ServerTime) -> String {
    jiff::Timestamp::from_microsecond(time.micros()).map_or_else(|_| "?".into(), |time| format!("{time:.0}"))
}

/// Why a publisher must stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("another publisher took over")]
    TakenOver,
    #[error("the stream was deleted")]
    Deleted,
    #[error("the server is stopping")]
    Stopping,
    #[error("the volume is full")]
    DiskFull,
    #[error("recording it failed inside the server; its log has more")]
    Failed,
}

/// The one writer of a stream. Dropping it ends the session: its open fragment is closed and persisted.
pub(crate) struct Publisher {
    pub(super) state: Arc<StreamState>,
    pub(super) session: u64,
    pub(super) ended: watch::Receiver<Option<Ended>>,
    /// Bytes not on disk beyond which we wait or drop.
    pub(super) budget: Share,
}

impl Publisher {
    /// Says what the units are; before the first unit, and again whenever parameters change (a set that
    /// does not continue the one before closes the open fragment).
    pub(crate) fn set_tracks(&mut self, tracks: TrackSet) {
        self.state.set_tracks(self.session, tracks);
    }

    /// "At `ticks` of the session's own timeline of `track`, the producer's clock showed `producer`", from an RTCP sender
    /// report that arrived at `arrival`.
    pub(crate) fn sender_report(&mut self, track: TrackId, ticks: i64, producer: ProducerTime, arrival: ServerTime) {
        self.state.sender_report(self.session, track, ticks, producer, arrival);
    }

    /// The clock that arrival is read from was set, by so much: units and reports from here on have it as it is now. Between
    /// two of these arrival goes on as a monotonic clock does.
    pub(crate) fn clock_was_set(&mut self, by_us: i64) {
        self.state.clock_was_set(self.session, by_us);
    }

    /// Appends a unit; units of a track come in decode order. Waits while the disk is behind, when the source can.
    ///
    /// # Errors
    /// When the session is over; nothing that is pushed after that is recorded.
    pub(crate) async fn push(&mut self, unit: AccessUnit) -> Result<(), Ended> {
        let mut unit = match self.state.accept(self.session, unit, self.budget.bytes()) {
            Accepted::Done => return Ok(()),
            Accepted::Over => return Err(self.reason()),
            Accepted::Full(unit) => unit,
        };
        loop {
            let mut settled = std::pin::pin!(self.state.settled.notified());
            settled.as_mut().enable();
            unit = match self.state.accept(self.session, unit, self.budget.bytes()) {
                Accepted::Done => return Ok(()),
                Accepted::Over => return Err(self.reason()),
                Accepted::Full(unit) => unit,
            };
            tokio::select! {
                () = settled => {}
                ended = wait_for_end(&mut self.ended) => return Err(ended),
            }
        }
    }

    /// Appends bytes to the newest unit of `track`, which is still open: its sender ended it too early. Who watches live
    /// has seen the unit without them.
    pub(crate) fn push_rest(&mut self, track: TrackId, data: &[u8]) {
        self.state.accept_rest(self.session, track, data);
    }

    /// Says what has come since the session began, and what of it did not become units.
    pub(crate) fn account(&self, account: Account) {
        self.state.account(self.session, account);
    }

    /// Resolves when this publisher must stop.
    pub(crate) async fn ended(&mut self) -> Ended {
        wait_for_end(&mut self.ended).await
    }

    /// Closes the open fragment, waits until everything is persisted, and leaves.
    ///
    /// On a stuck disk this takes as long as the disk does: a caller with less time drops it, which gives
    /// up the wait and nothing else.
    pub(crate) async fn finish(self) {
        self.leave();
        let newest = self.state.shared().tail.newest();
        self.state.settled_to(newest).await;
    }

    fn leave(&self) {
        self.state.vacate_session(self.session, Ended::Stopping, GapReason::PublisherLeft);
    }

    /// Why the session is over; it is.
    fn reason(&self) -> Ended {
        self.ended.borrow().unwrap_or(Ended::Stopping)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.leave();
    }
}

async fn wait_for_end(ended: &mut watch::Receiver<Option<Ended>>) -> Ended {
    // The seat drops the sender only after it has said why.
    let _closed = ended.wait_for(Option::is_some).await.is_err();
    ended.borrow().unwrap_or(Ended::Stopping)
}
