//! WHIP: a WebRTC publisher's packets become units of a publisher, and it is asked for the key pictures that they lack.
//!
//! A browser makes a key picture when it is asked for one and else hardly ever. So one is asked for when the last is older
//! than a fragment should be, when a viewer needs one, and when something was lost that pictures refer to; once in
//! [`ASK_EVERY`] at most. Not here: the session (`doors/webrtc`), what packets mean (`protocol/rtp`).

mod choose;

use std::time::{Duration, Instant};

use media::{RandomAccess, ServerTime, TrackId};
use tokio::sync::mpsc;

use super::{Feed, Order, Sink};
use crate::live::{Ended, Told};
use crate::protocol::rtp::receive::Moment;
use crate::protocol::rtp::reorder;

pub(crate) use choose::{choose, receivers};

/// Fragments of a publisher that makes key pictures on request are this long.
const KEY_PICTURE_EVERY: Duration = Duration::from_secs(2);
/// Key pictures are asked for no more often: each costs the publisher many pictures' worth of bits.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Between looks at the time.
const TICK: Duration = Duration::from_millis(100);
/// Between two accounts of what came.
const ACCOUNT_EVERY: Duration = Duration::from_secs(1);
/// Packets that wait to be taken; with more than that the session is beyond help and loses some.
pub(crate) const MAX_WAITING: usize = 4_096;

/// What a session hands over.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// An RTP packet of the `track`-th track, decrypted, with its header.
    Packet { track: usize, bytes: bytes::Bytes, at: Moment },
    /// At `timestamp` of a source the sender's clock showed `ntp`.
    Clock { track: usize, ssrc: u32, timestamp: u32, ntp: u64, at: Moment },
}

/// Why a publishing session is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Over {
    #[error("{0}")]
    Ended(Ended),
    #[error("the session closed")]
    Closed,
    #[error("nothing that was sent can be recorded")]
    Hopeless,
}

/// One session on its way to a publisher.
pub(crate) struct Whip<A, W> {
    feed: Feed,
    sink: Sink,
    /// What the server's clock shows.
    wall: W,
    /// Asks the session for a key picture.
    ask: A,
    /// The track of pictures.
    pictures: Option<TrackId>,
    account_at: Instant,
    last_key: Instant,
    asked: Option<Instant>,
    wanted: bool,
    told: bool,
}

enum Wake {
    Incoming(Incoming),
    Closed,
    Told(Told),
    Tick,
}

impl<A: FnMut(), W: Fn() -> ServerTime> Whip<A, W> {
    /// `ask` is called when a key picture is needed, at most once in [`ASK_EVERY`].
    pub(crate) fn new(feed: Feed, sink: Sink, pictures: Option<TrackId>, wall: W, ask: A) -> Whip<A, W> {
        let last_key = Instant::now();
        Whip {
            feed,
            sink,
            wall,
            ask,
            pictures,
            account_at: last_key + ACCOUNT_EVERY,
            last_key,
            asked: None,
            wanted: false,
            told: false,
        }
    }

    /// Takes what comes until the session closes or the publisher must stop; all that came is persisted then.
    pub(crate) async fn run(mut self, mut incoming: mpsc::Receiver<Incoming>) -> Over {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let over = loop {
            let wake = tokio::select! {
                came = incoming.recv() => came.map_or(Wake::Closed, Wake::Incoming),
                told = self.sink.told() => Wake::Told(told),
                _ = ticks.tick() => Wake::Tick,
            };
            let over = match wake {
                Wake::Incoming(came) => self.take(came).await,
                Wake::Closed => Some(Over::Closed),
                Wake::Told(Told::Ended(ended)) => Some(Over::Ended(ended)),
                Wake::Told(Told::KeyPictureWanted) => {
                    self.wanted = true;
                    None
                }
                Wake::Tick => self.tick().await,
            };
            if let Some(over) = over {
                break over;
            }
            self.ask_if_due(Instant::now());
        };
        if !matches!(over, Over::Ended(_)) {
            let at = self.now();
            self.feed.finish(at);
            // An end in this moment is the end that is told.
            let _ = self.deliver().await;
        }
        self.sink.account(self.feed.account());
        self.sink.finish().await;
        over
    }

    async fn take(&mut self, came: Incoming) -> Option<Over> {
        match came {
            Incoming::Packet { track, bytes, at } => self.feed.rtp(track, &bytes, at),
            Incoming::Clock { track, ssrc, timestamp, ntp, at } => self.feed.clock(track, ssrc, timestamp, ntp, at),
        }
        self.deliver().await
    }

    async fn tick(&mut self) -> Option<Over> {
        let at = self.now();
        self.feed.tick(at);
        if at.now >= self.account_at {
            self.account_at = at.now + ACCOUNT_EVERY;
            self.sink.account(self.feed.account());
        }
        if let Some(over) = self.deliver().await {
            return Some(over);
        }
        let waits = self.feed.is_waiting();
        if !waits && !std::mem::replace(&mut self.told, true) {
            for missing in self.feed.undescribed() {
                tracing::warn!(track = missing.track, why = missing.why, "a track is left out");
            }
        }
        (!waits && !self.feed.is_described()).then_some(Over::Hopeless)
    }

    async fn deliver(&mut self) -> Option<Over> {
        while let Some(order) = self.feed.pop() {
            if let Order::Unit(unit) = &order
                && Some(unit.track) == self.pictures
            {
                if unit.random_access != RandomAccess::No {
                    self.last_key = Instant::now();
                    self.wanted = false;
                } else if unit.loss_before > 0 {
                    self.wanted = true;
                }
            }
            if let Err(ended) = self.sink.apply(order).await {
                return Some(Over::Ended(ended));
            }
        }
        None
    }

    fn ask_if_due(&mut self, now: Instant) {
        let old = now.saturating_duration_since(self.last_key) >= KEY_PICTURE_EVERY;
        let lately = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < ASK_EVERY);
        if self.pictures.is_some() && (self.wanted || old) && !lately {
            self.asked = Some(now);
            (self.ask)();
        }
    }

    fn now(&self) -> Moment {
        Moment { now: Instant::now(), wall: (self.wall)() }
    }
}

// Missing packets are given up by the tick.
const _: () = assert!(TICK.as_millis() <= reorder::MAX_WAIT.as_millis());
