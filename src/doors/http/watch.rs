//! Watches streams and the volume, and tells those who listen.
//!
//! The rooms below know nothing of listeners: the watch looks at the edges that live readers wake on, several times
//! a second. While nobody listens it looks only at who publishes: the newest events are kept for those who ask later.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use media::{ServerTime, StreamId, StreamName};
use serde_json::{Value, json};
use store::Clock;
use tokio::sync::broadcast;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::App;
use super::time::format_server;
use super::v1::server::SpaceState;
use crate::auth::RefusalNotice;
use crate::catalog::Stream;
use crate::live::{ClockStep, Edge, NotStored};

/// After this event nothing comes.
pub(crate) const STOPPING: &str = "server_stopping";

const FRAGMENT: &str = "fragment_persisted";

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// `stream_created`, `stream_deleted`, `publisher_came`, `publisher_left`, `fragment_persisted`, `disk`,
    /// `clock`, `not_stored`, `credential_refused`, `server_stopping`.
    pub(crate) kind: &'static str,
    pub(crate) stream: Option<StreamName>,
    at: ServerTime,
    id: u64,
    more: Value,
}

impl Event {
    /// The event as JSON.
    pub(crate) fn value(&self) -> Value {
        let mut out = json!({"id": self.id, "type": self.kind, "at": format_server(self.at)});
        if let Some(stream) = &self.stream {
            out["stream"] = json!(stream.as_str());
        }
        if let (Value::Object(more), Some(out)) = (&self.more, out.as_object_mut()) {
            out.extend(more.clone());
        }
        out
    }
}

/// Tells events to those who listen. Bounded: who is too slow misses some, and is told how many.
pub(crate) struct Events {
    sender: broadcast::Sender<Event>,
    clock: Arc<dyn Clock>,
    next_id: AtomicU64,
    /// The newest, oldest first; without fragments, which would push everything else out.
    recent: Mutex<VecDeque<Event>>,
}

/// Events kept for a slow listener.
const BACKLOG: usize = 1024;

/// Events kept for those who ask later.
const RECENT: usize = 200;

impl Events {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Events {
        Events { sender: broadcast::channel(BACKLOG).0, clock, next_id: AtomicU64::new(1), recent: Mutex::default() }
    }

    /// Hears events from now on; none when `most` listen already.
    pub(crate) fn listen(&self, most: usize) -> Option<Listening> {
        (self.sender.receiver_count() < most).then(|| Listening(self.sender.subscribe()))
    }

    fn heard(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    fn tell(&self, kind: &'static str, stream: Option<&StreamName>, more: Value) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let event = Event { kind, stream: stream.cloned(), at: self.clock.now(), id, more };
        if kind != FRAGMENT {
            let mut recent = self.kept();
            if recent.len() == RECENT {
                recent.pop_front();
            }
            recent.push_back(event.clone());
        }
        // Nobody listening is no failure.
        let _ = self.sender.send(event);
    }

    /// What happened lately, the newest first; at most the last 200, none of them a fragment.
    pub(crate) fn recent(&self) -> Vec<Value> {
        self.kept().iter().rev().map(Event::value).collect()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Event>> {
        // Whole events only, whatever panicked beside them.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last event there is.
    pub(crate) fn server_stopping(&self) {
        self.tell(STOPPING, None, Value::Null);
    }

    pub(crate) fn stream_created(&self, stream: &Stream) {
        self.tell("stream_created", Some(&stream.name), Value::Null);
    }

    pub(crate) fn stream_deleted(&self, stream: &Stream) {
        self.tell("stream_deleted", Some(&stream.name), Value::Null);
    }
}

/// One listener.
pub(crate) struct Listening(broadcast::Receiver<Event>);

impl Listening {
    pub(crate) async fn next(&mut self) -> Result<Event, broadcast::error::RecvError> {
        self.0.recv().await
    }
}

/// How often edges are looked at, and how often the catalog and the volume are.
const GLANCE: Duration = Duration::from_millis(200);
const SURVEY: Duration = Duration::from_secs(2);

/// Runs until `stop`.
pub(crate) async fn watch_streams(app: Arc<App>, stop: CancellationToken) {
    let mut ticks = interval(GLANCE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut surveyed = Instant::now();
    let mut space = (SpaceState::Ok, false);
    let mut steps = 0;
    let mut seen: Option<HashMap<StreamName, Seen>> = None;
    let mut live = HashSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let survey = surveyed.elapsed() >= SURVEY;
        if survey {
            surveyed = Instant::now();
            space = look_at_space(&app, space);
            steps = look_at_clock(&app, steps);
            app.audience.forget_gone(std::time::Instant::now());
        }
        tell_not_stored(&app);
        tell_refusals(&app);
        let now_live = app.hub.live_streams();
        if seen.is_none() {
            look_at_publishers(&app, &live, &now_live);
        }
        live = now_live;
        if !app.events.heard() {
            seen = None;
            continue;
        }
        if survey || seen.is_none() {
            seen = Some(look_at_catalog(&app, seen.take()));
        }
        for (name, seen) in seen.iter_mut().flatten() {
            seen.glance(&app.events, name);
        }
    }
}

/// What the watch knows of a stream.
struct Seen {
    edge: watch::Receiver<Edge>,
    last: Edge,
    /// The edge was empty at the first look, and what is stored is still being looked up: it is no news when found.
    unread: bool,
}

impl Seen {
    fn glance(&mut self, events: &Events, name: &StreamName) {
        let now = *self.edge.borrow_and_update();
        let before = std::mem::replace(&mut self.last, now);
        if now.live && !before.live {
            events.tell("publisher_came", Some(name), Value::Null);
        }
        let old_news = std::mem::take(&mut self.unread) && !now.live && !before.live;
        if now == before {
            self.unread = old_news;
        }
        if now.persisted > before.persisted && !old_news {
            let position = json!({"epoch": now.persisted.epoch.0, "sequence": now.persisted.sequence.0});
            events.tell(FRAGMENT, Some(name), position);
        }
        if before.live && !now.live {
            events.tell("publisher_left", Some(name), Value::Null);
        }
    }
}

/// Tells who came and who left, while nobody looks closer.
fn look_at_publishers(app: &App, before: &HashSet<StreamId>, now: &HashSet<StreamId>) {
    let came = now.difference(before).map(|id| (id, "publisher_came"));
    let left = before.difference(now).map(|id| (id, "publisher_left"));
    for (id, kind) in left.chain(came) {
        // One that is not there was deleted meanwhile, which was told.
        if let Some(stream) = app.catalog.stream_by_id(*id) {
            app.events.tell(kind, Some(&stream.name), Value::Null);
        }
    }
}

/// The streams there are; those that a door other than this one created are told of here.
fn look_at_catalog(app: &App, before: Option<HashMap<StreamName, Seen>>) -> HashMap<StreamName, Seen> {
    let first_look = before.is_none();
    let mut before = before.unwrap_or_default();
    let streams = app.catalog.all_streams();
    let mut now = HashMap::with_capacity(streams.len());
    for stream in streams {
        let seen = before.remove(&stream.name).unwrap_or_else(|| {
            let edge = app.hub.edge(stream.id);
            let last = if first_look { *edge.borrow() } else { Edge::default() };
            Seen { edge, last, unread: first_look && last == Edge::default() }
        });
        now.insert(stream.name.clone(), seen);
    }
    now
}

/// Tells when the volume runs full or has room again; the sweeper is who looks at it.
fn look_at_space(app: &App, before: (SpaceState, bool)) -> (SpaceState, bool) {
    let found = app.hub.space();
    let config = app.config();
    let storage = &config.storage;
    let judged = SpaceState::of(found.free, found.total, storage.soft_free_permille, storage.hard_free_permille);
    let state = if found.full { SpaceState::Full } else { judged };
    let now = (state, found.minimum_kept);
    if now != before {
        let space = json!({
            "state": state,
            "free_bytes": found.free,
            "total_bytes": found.total,
            "minimum_kept": found.minimum_kept,
        });
        app.events.tell("disk", None, space);
    }
    now
}

/// Tells of credentials that were refused, to those who may see the whole server.
fn tell_refusals(app: &App) {
    for RefusalNotice { door, reason, peer, asked, count } in app.access.refusals.take() {
        let more = json!({"door": door, "reason": reason, "peer": peer.to_string(), "asked": asked, "count": count});
        app.events.tell("credential_refused", None, more);
    }
}

/// Tells of streams whose media is not stored.
fn tell_not_stored(app: &App) {
    for (id, NotStored { nothing, dropped, notes }) in app.hub.take_notices() {
        let Some(stream) = app.catalog.stream_by_id(id) else { continue };
        let reasons: BTreeMap<_, _> = dropped.iter().map(|(reason, count)| (reason.as_str(), count)).collect();
        let more = json!({"nothing_stored": nothing, "dropped": reasons, "notes": notes});
        app.events.tell("not_stored", Some(&stream.name), more);
    }
}

/// Tells that this server's clock was set; the sweeper is who looks at it.
fn look_at_clock(app: &App, before: u64) -> u64 {
    let ClockStep { number, by_us, held_us } = app.hub.clock_step();
    if number != before {
        let seconds = |micros: i64| micros / 1_000_000;
        app.events.tell("clock", None, json!({"by_seconds": seconds(by_us), "held_seconds": seconds(held_us)}));
    }
    number
}

#[cfg(test)]
mod tests {
    use media::{Epoch, Position, Sequence};
    use store::clock::ManualClock;

    use super::*;

    fn events() -> Events {
        Events::new(Arc::new(ManualClock::new(ServerTime::from_micros(1_000_000))))
    }

    #[tokio::test]
    async fn edges_become_events() {
        let events = events();
        let mut listening = events.listen(10).expect("room");
        let name = StreamName::new("gate").expect("a name");
        let (sender, edge) = watch::channel(Edge::default());
        let mut seen = Seen { edge, last: Edge::default(), unread: false };
        seen.glance(&events, &name);
        let position = Position { epoch: Epoch(1), sequence: Sequence(7) };
        sender.send_replace(Edge { live: true, persisted: position, ..Edge::default() });
        seen.glance(&events, &name);
        sender.send_replace(Edge { live: false, persisted: position, ..Edge::default() });
        seen.glance(&events, &name);
        seen.glance(&events, &name);
        events.tell("end", None, Value::Null);
        let mut kinds = Vec::new();
        while let Ok(event) = listening.next().await {
            kinds.push(event.kind);
            if event.kind == "fragment_persisted" {
                let value: Value = event.value();
                assert_eq!((&value["stream"], &value["sequence"]), (&json!("gate"), &json!(7)));
                assert_eq!(value["at"], "1970-01-01T00:00:01.000000Z");
            }
            if event.kind == "end" {
                break;
            }
        }
        assert_eq!(kinds, ["publisher_came", "fragment_persisted", "publisher_left", "end"]);
    }

    #[tokio::test]
    async fn what_was_stored_before_anybody_listened_is_no_event() {
        let events = events();
        let mut listening = events.listen(10).expect("room");
        let name = StreamName::new("gate").expect("a name");
        let (sender, edge) = watch::channel(Edge::default());
        let mut seen = Seen { edge, last: Edge::default(), unread: true };
        let stored = Position { epoch: Epoch(1), sequence: Sequence(7) };
        let fresh = Position { epoch: Epoch(2), sequence: Sequence(1) };
        seen.glance(&events, &name);
        for (live, persisted) in [(false, stored), (true, stored), (true, fresh)] {
            sender.send_replace(Edge { live, persisted, ..Edge::default() });
            seen.glance(&events, &name);
        }
        let mut kinds = Vec::new();
        for _ in 0..2 {
            kinds.push(listening.next().await.expect("an event").kind);
        }
        assert_eq!(kinds, ["publisher_came", "fragment_persisted"]);
    }

    #[tokio::test]
    async fn a_slow_listener_is_told_what_it_missed_and_too_many_are_refused() {
        let events = events();
        let mut slow = events.listen(1).expect("room");
        assert!(events.listen(1).is_none(), "full");
        for _ in 0..BACKLOG + 5 {
            events.tell("disk", None, Value::Null);
        }
        let missed = slow.next().await.expect_err("missed");
        assert_eq!(missed, broadcast::error::RecvError::Lagged(5));
        assert_eq!(slow.next().await.expect("the oldest kept").id, 6);
        let recent = events.recent();
        assert_eq!((recent.len(), &recent[0]["id"]), (RECENT, &json!(BACKLOG + 5)));
    }

    #[tokio::test]
    async fn the_newest_events_are_kept_but_for_fragments() {
        let events = events();
        let name = StreamName::new("gate").expect("a name");
        events.tell("publisher_came", Some(&name), Value::Null);
        for _ in 0..RECENT {
            events.tell(FRAGMENT, Some(&name), Value::Null);
        }
        events.tell("publisher_left", Some(&name), Value::Null);
        let kinds: Vec<Value> = events.recent().iter().map(|event| event["type"].clone()).collect();
        assert_eq!(kinds, ["publisher_left", "publisher_came"]);
    }
}
