//! The loop: one task that owns the socket and all sessions.
//!
//! [`Loop::select`] waits for whatever comes first, [`Loop::apply`] acts on it without waiting. Nothing in here waits for a
//! peer: what a viewer has no room for is left out, what a publisher's recorder has no room for is dropped and counted.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use store::Clock;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::directory::{Directory, Key};
use super::session::{Channel, Out, Role, Session, Wish};
use super::socket::{Batch, Came, Socket};
use crate::auth::Access;
use crate::live::Hub;
use crate::playback::whep::{Catchup, Fed, Packed, Past, Relay, Units};
use crate::protocol::webrtc::{Answer, Credentials, Kind, PeerError, State, stun};
use crate::workers::SharedTranscodes;

/// Media that waits for the loop; relays wait beyond that.
const MAX_FED: usize = 1_024;
/// Between looks at all sessions, at most and at least.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_NOT_BEFORE: Duration = Duration::from_millis(2);
/// Between looks at credentials: one that was revoked ends its sessions within 5 s.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Batches of datagrams received in a row before media is looked at again.
const MAX_BATCHES: usize = 8;

/// What others ask of the loop.
pub(super) enum Command {
    /// A session that was answered.
    Add(Box<Session>),
    /// Its owner ends it, or its publishing is over.
    End(Key, &'static str),
    /// Ask a publisher for a key picture.
    AskForKeyPicture(Key),
    /// The peer goes on with other ICE credentials: our answer, or none when they are those it has.
    Restart {
        key: Key,
        theirs: Credentials,
        here: Vec<SocketAddr>,
        reply: oneshot::Sender<Result<Option<Answer>, PeerError>>,
    },
}

/// What is watched, and by whom.
struct Watched {
    viewers: Vec<Key>,
    catchup: Catchup,
    /// Key pictures are made when they are asked for.
    asks: bool,
    /// Asks for one.
    wanted: Arc<Notify>,
    task: AbortHandle,
}

/// What the loop works with.
pub(super) struct Loop {
    out: Out,
    directory: Directory,
    hub: Arc<Hub>,
    access: Arc<Access>,
    transcodes: Arc<SharedTranscodes>,
    clock: Arc<dyn Clock>,
    commands: mpsc::Receiver<Command>,
    fed: mpsc::Receiver<(Channel, Fed)>,
    feeder: mpsc::Sender<(Channel, Fed)>,
    sessions: HashMap<Key, Session>,
    by_ufrag: HashMap<String, Key>,
    by_address: HashMap<SocketAddr, Key>,
    watched: HashMap<Channel, Watched>,
    look_at: Instant,
    looked: Instant,
    checked: Instant,
    came: Vec<Came>,
}

enum Wake {
    Readable,
    Command(Command),
    Fed(Channel, Fed),
    Look,
    Stop,
}

impl Loop {
    pub(super) fn new(
        socket: Socket,
        directory: Directory,
        hub: Arc<Hub>,
        access: Arc<Access>,
        transcodes: Arc<SharedTranscodes>,
        clock: Arc<dyn Clock>,
        commands: mpsc::Receiver<Command>,
    ) -> Loop {
        let (feeder, fed) = mpsc::channel(MAX_FED);
        let now = Instant::now();
        Loop {
            out: Out { socket, batch: Batch::new(), sendings: Vec::new() },
            directory,
            hub,
            access,
            transcodes,
            clock,
            commands,
            fed,
            feeder,
            sessions: HashMap::new(),
            by_ufrag: HashMap::new(),
            by_address: HashMap::new(),
            watched: HashMap::new(),
            look_at: now,
            looked: now,
            checked: now,
            came: Vec::new(),
        }
    }

    /// Runs until `stop`; then every peer is told.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            match self.select(&stop).await {
                Wake::Stop => break,
                wake => self.apply(wake),
            }
        }
        for key in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.end(key, "the server stops");
        }
    }

    async fn select(&mut self, stop: &CancellationToken) -> Wake {
        let look_at = if self.sessions.is_empty() { None } else { Some(self.look_at) };
        let look = async {
            match look_at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => Wake::Stop,
            Some(command) = self.commands.recv() => Wake::Command(command),
            Some((channel, fed)) = self.fed.recv() => Wake::Fed(channel, fed),
            () = self.out.socket.readable() => Wake::Readable,
            () = look => Wake::Look,
        }
    }

    fn apply(&mut self, wake: Wake) {
        let now = Instant::now();
        match wake {
            Wake::Readable => self.receive(now),
            Wake::Fed(channel, fed) => self.feed(channel, fed, now),
            Wake::Command(command) => self.command(command, now),
            Wake::Look | Wake::Stop => {}
        }
        // What is due is due however much comes.
        if now >= self.look_at {
            self.look(now);
        }
    }

    fn command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Add(session) => {
                self.by_ufrag.insert(session.ufrag.clone(), session.key);
                self.look_at = now;
                if let Role::Viewer(watching) = &session.role {
                    let (channel, key) = (watching.channel, session.key);
                    self.watch(channel, key);
                }
                self.sessions.insert(session.key, *session);
            }
            Command::End(key, why) => self.end(key, why),
            Command::Restart { key, theirs, here, reply } => {
                // Without a session there is nobody who answers, which says as much.
                let Some(session) = self.sessions.get_mut(&key) else { return };
                let answered = session.restart(&theirs, &here, now);
                if let Ok(Some(Answer { credentials, .. })) = &answered {
                    self.by_ufrag.retain(|_, named| *named != key);
                    self.by_ufrag.insert(credentials.ufrag.clone(), key);
                    self.look_at = now;
                }
                // Whoever asked may have gone.
                let _ = reply.send(answered);
                self.flush(key);
            }
            Command::AskForKeyPicture(key) => {
                let Some(session) = self.sessions.get_mut(&key) else { return };
                let Role::Publisher(publishing) = &session.role else { return };
                let source = publishing.pictures.and_then(|track| publishing.sources[track]);
                if let Some(source) = source {
                    // A peer that is gone tells by its state.
                    let _ = session.peer.ask_for_key_picture(source, now);
                    self.flush(key);
                }
            }
        }
    }

    /// Adds a viewer to what it watches, and starts that for the first.
    fn watch(&mut self, channel: Channel, key: Key) {
        if let Some(watched) = self.watched.get_mut(&channel) {
            watched.viewers.push(key);
            return;
        }
        let (stream, plan) = (channel.stream(), channel.plan());
        let (wanted, transcodes) = (Arc::new(Notify::new()), self.transcodes.clone());
        let (hub, out) = (self.hub.clone(), self.feeder.clone());
        let relay = Relay { key: channel, hub, stream, plan, transcodes, wanted: wanted.clone(), out };
        let task = tokio::spawn(async move {
            let units = match channel {
                Channel::Live { .. } => relay.hub.units(stream).await.map(Units::Live),
                Channel::Past { from, allowed, .. } => {
                    Past::open(relay.hub.clone(), stream, from, allowed).await.map(Units::Past)
                }
            };
            match units {
                Ok(units) => relay.run(units).await,
                Err(error) => {
                    tracing::warn!(%stream, %error, "viewers cannot be shown a stream");
                    let _ = relay.out.send((channel, Fed::Over)).await;
                }
            }
        });
        let (viewers, catchup, task) = (vec![key], Catchup::default(), task.abort_handle());
        self.watched.insert(channel, Watched { viewers, catchup, asks: false, wanted, task });
    }

    fn receive(&mut self, now: Instant) {
        let mut came = std::mem::take(&mut self.came);
        for _ in 0..MAX_BATCHES {
            let more = self.out.socket.receive(|one| came.push(one));
            for one in came.drain(..) {
                self.datagram(one, now);
            }
            if !more {
                break;
            }
        }
        self.came = came;
    }

    fn datagram(&mut self, came: Came, now: Instant) {
        let Some(key) = self.whose(&came) else { return };
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let wish = session.receive(came.from, came.bytes, &*self.clock, now);
        self.after(key, wish, now);
    }

    /// Whose datagram it is: a STUN request is its session's when its sender knows that session's password, and from then
    /// on everything from there. All else is nobody's, and not answered.
    fn whose(&mut self, came: &Came) -> Option<Key> {
        if !stun::is_stun(&came.bytes) || stun::is_response(&came.bytes) {
            let key = self.by_address.get(&came.from).copied();
            if key.is_none() {
                refused("address");
            }
            return key;
        }
        let Some(request) = stun::request(&came.bytes) else {
            refused("stun");
            return None;
        };
        let session = self.by_ufrag.get(request.ufrag).and_then(|key| self.sessions.get_mut(key));
        let Some(session) = session.filter(|session| request.is_from(&session.password)) else {
            refused("stun");
            return None;
        };
        let key = session.key;
        session.nominating = request.nominates.then_some(came.from);
        if let Some(forgotten) = session.proven(came.from, came.to) {
            self.by_address.remove(&forgotten);
        }
        if let Some(before) = self.by_address.insert(came.from, key)
            && before != key
            && let Some(other) = self.sessions.get_mut(&before)
        {
            other.forget(came.from);
        }
        Some(key)
    }

    /// What follows when a session took something.
    fn after(&mut self, key: Key, wish: Option<Wish>, now: Instant) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        self.look_at = self.look_at.min(session.due.max(self.looked + LOOK_NOT_BEFORE));
        if session.connected.is_none() && session.peer.state() == State::Connected {
            self.connected(key, now);
        }
        if let Some(wish) = wish {
            self.grant(key, wish, now);
        }
        self.flush(key);
    }

    fn connected(&mut self, key: Key, now: Instant) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.connected = Some(now);
        self.directory.connected(&session.id);
        let took = now.saturating_duration_since(session.since).as_secs_f64();
        metrics::histogram!("kinora_webrtc_connect_seconds").record(took);
        let wish = match &mut session.role {
            Role::Publisher(publishing) => {
                if let Some(start) = publishing.start.take() {
                    let (sender, receiver) = mpsc::channel(crate::ingest::whip::MAX_WAITING);
                    publishing.incoming = Some(sender);
                    start(receiver);
                }
                None
            }
            Role::Viewer(watching) => {
                let nothing = (Catchup::default(), false);
                let watched = self.watched.get(&watching.channel);
                let (catchup, asks) = watched.map_or((&nothing.0, false), |watched| (&watched.catchup, watched.asks));
                session.start(catchup, asks, now)
            }
        };
        if let Some(wish) = wish {
            self.grant(key, wish, now);
        }
        self.look_at = now;
    }

    fn grant(&mut self, key: Key, wish: Wish, now: Instant) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Role::Viewer(watching) = &mut session.role else { return };
        let Some(watched) = self.watched.get(&watching.channel) else { return };
        if watched.asks {
            watched.wanted.notify_one();
        } else if wish == Wish::CatchUp && watching.viewer.catch_up(&watched.catchup, now) {
            watching.caught_up = Some(now);
            self.look_at = now;
        }
    }

    fn feed(&mut self, channel: Channel, fed: Fed, now: Instant) {
        let Some(watched) = self.watched.get_mut(&channel) else { return };
        match fed {
            Fed::Unit(unit) => {
                if unit.kind == Kind::Video {
                    watched.catchup.take(&unit);
                }
                let viewers = std::mem::take(&mut watched.viewers);
                for key in &viewers {
                    self.show(*key, &unit, now);
                }
                // Nobody comes or goes meanwhile.
                if let Some(watched) = self.watched.get_mut(&channel) {
                    watched.viewers = viewers;
                }
            }
            Fed::Skipped | Fed::Idle => {
                watched.catchup.clear();
                for key in watched.viewers.clone() {
                    if let Some(Session { role: Role::Viewer(watching), .. }) = self.sessions.get_mut(&key) {
                        watching.viewer.skip();
                    }
                }
                if matches!(fed, Fed::Skipped) {
                    metrics::counter!("kinora_webrtc_skips_total").increment(1);
                }
            }
            Fed::Tracks { tracks, makes_key_pictures } => {
                watched.asks = makes_key_pictures;
                watched.catchup.clear();
                let viewers = watched.viewers.clone();
                for key in viewers {
                    let Some(Session { role: Role::Viewer(watching), .. }) = self.sessions.get_mut(&key) else {
                        continue;
                    };
                    watching.viewer.skip();
                    let plan = watching.channel.plan();
                    let still = watching.codecs.iter().all(|codec| plan.sends(&tracks, *codec));
                    if !still {
                        self.end(key, "the stream's codec changed: it is to be asked for anew");
                    }
                }
            }
            Fed::Failed(_) | Fed::Over => {
                let why = if let Fed::Failed(why) = fed { why } else { "there is nothing more to show" };
                for key in watched.viewers.clone() {
                    self.end(key, why);
                }
            }
        }
    }

    fn show(&mut self, key: Key, unit: &Arc<Packed>, now: Instant) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.show(unit, &mut self.out, now);
        session.flush(&mut self.out);
    }

    fn flush(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.flush(&mut self.out);
        }
    }

    /// Looks at every session: what is due, and what is over.
    fn look(&mut self, now: Instant) {
        let check = now.saturating_duration_since(self.checked) >= CHECK_EVERY;
        if check {
            self.checked = now;
            self.count();
        }
        self.looked = now;
        let (mut next, mut over) = (now + LOOK_EVERY, Vec::new());
        let wall = self.clock.now();
        let mut wishes = Vec::new();
        for (key, session) in &mut self.sessions {
            if now >= session.due
                && let Some(wish) = session.tick(&*self.clock, now)
            {
                wishes.push((*key, wish));
            }
            session.advance(&mut self.out, now);
            session.flush(&mut self.out);
            if let Some(why) = session.over(now) {
                over.push((*key, why));
            } else if check && !self.access.is_in_force(&session.principal) {
                over.push((*key, "its credential was revoked or has expired"));
            } else if check && session.until.is_some_and(|until| until.micros() <= wall.micros()) {
                over.push((*key, "its credential may not see what comes now"));
            }
            next = next.min(session.due).min(session.advance_due().unwrap_or(next));
        }
        for (key, wish) in wishes {
            self.grant(key, wish, now);
        }
        for (key, why) in over {
            self.end(key, why);
        }
        self.look_at = next.max(now + LOOK_NOT_BEFORE);
    }

    /// Says how many sessions there are.
    fn count(&self) {
        for (way, is_out) in [("in", false), ("out", true)] {
            for (state, is_connected) in [("connecting", false), ("connected", true)] {
                let counted = self.sessions.values().filter(|session| {
                    matches!(session.role, Role::Viewer(_)) == is_out && session.connected.is_some() == is_connected
                });
                metrics::gauge!("kinora_webrtc_sessions", "way" => way, "state" => state).set(counted.count() as f64);
            }
        }
    }

    fn end(&mut self, key: Key, why: &str) {
        let Some(mut session) = self.sessions.remove(&key) else { return };
        session.peer.close();
        session.flush(&mut self.out);
        self.by_ufrag.remove(&session.ufrag);
        for (address, _) in &session.addresses {
            if self.by_address.get(address) == Some(&key) {
                self.by_address.remove(address);
            }
        }
        self.directory.remove(&session.id);
        let (way, seconds) = match &session.role {
            Role::Publisher(_) => ("in", session.since.elapsed().as_secs()),
            Role::Viewer(_) => ("out", session.since.elapsed().as_secs()),
        };
        let connected = session.connected.is_some();
        tracing::info!(stream = session.stream_name, way, why, seconds, connected, "WebRTC session ends");
        if let Role::Viewer(watching) = &session.role
            && let Some(watched) = self.watched.get_mut(&watching.channel)
        {
            watched.viewers.retain(|viewer| *viewer != key);
            if watched.viewers.is_empty() {
                watched.task.abort();
                self.watched.remove(&watching.channel);
            }
        }
        if self.sessions.is_empty() {
            // A crowd that left leaves no memory behind.
            self.sessions.shrink_to_fit();
            self.by_ufrag.shrink_to_fit();
            self.by_address.shrink_to_fit();
            self.count();
        }
    }
}

fn refused(why: &'static str) {
    metrics::counter!("kinora_webrtc_refused_datagrams_total", "why" => why).increment(1);
}
