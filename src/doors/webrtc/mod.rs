//! The WebRTC door: one UDP port for all peers, and the sessions that WHIP and WHEP make.
//!
//! [`Webrtc`] is what the HTTP routes hold: it answers offers and hands sessions to the loop ([`run::Loop`]), which owns the
//! socket. Nothing is sent to an address that has not proven to know a session's password; a session that is not connected
//! 10 s after its offer is forgotten.
//!
//! Not here: what offers say and how peers are driven (`protocol/webrtc`), what viewers are sent (`playback/whep`), how
//! packets become units (`ingest/whip`), and HTTP (`doors/http/whip.rs`, `whep.rs`).

mod addresses;
mod directory;
mod run;
mod session;
mod socket;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use media::{ProducerTime, StreamId, StreamName, TrackId, TrackSet};
use store::{Select, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::publishing::{self, Rooms};
use crate::auth::Principal;
use crate::catalog::random;
use crate::ingest::Sink;
use crate::ingest::whip::{self, Over, Whip};
use crate::live::PublisherInfo;
use crate::playback::whep::{self, Unplayable, Viewer};
use crate::protocol::webrtc::{Answer, Credentials, Identity, Kind, Offer, OfferError, Peer, PeerError, stun};
use crate::telemetry::pulse::essential;
use crate::workers::SharedTranscodes;
use addresses::Addresses;
use directory::{Directory, Entry, Key, Reservation};
use run::{Command, Loop};
use session::{Channel, Publishing, Role, Session, Watching};

pub(crate) use directory::{Refused, Way};
pub(crate) use socket::bind;

/// Commands that wait for the loop.
const MAX_COMMANDS: usize = 1_024;

/// Says what the door's metrics mean; call once, after the recorder of metrics is installed.
pub(crate) fn describe_metrics() {
    metrics::describe_gauge!("kinora_webrtc_sessions", "WebRTC sessions, by way and by whether they are connected");
    metrics::describe_histogram!(
        "kinora_webrtc_connect_seconds",
        metrics::Unit::Seconds,
        "From an offer to a connection"
    );
    metrics::describe_counter!("kinora_webrtc_dropped_packets_total", "Packets that there was no room for, by way");
    metrics::describe_counter!(
        "kinora_webrtc_refused_datagrams_total",
        "Datagrams of nobody who has proven who they are"
    );
    metrics::describe_counter!(
        "kinora_webrtc_skips_total",
        "Times that viewers of a stream were behind what memory holds"
    );
}

/// How the door behaves.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// At which addresses peers reach us, port 0 for the socket's own; empty: those of the machine.
    pub public_addresses: Vec<SocketAddr>,
    /// Most sessions.
    pub max_sessions: usize,
    /// Most sessions that are not connected yet.
    pub max_pending: usize,
    /// Most streams: publishing creates none beyond. A reload may change it.
    pub streams_max: usize,
    /// Pictures that cannot be sent as they are are made into H.264.
    pub transcode: bool,
}

/// Who offers.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub principal: Principal,
    pub stream: StreamName,
    /// Where the request came from.
    pub peer: SocketAddr,
    /// Which of our addresses it reached.
    pub reached: IpAddr,
}

/// A session that was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answered {
    /// Names it in its URL: 128 random bits.
    pub id: String,
    /// Our answer.
    pub sdp: String,
    /// Names the session's ICE credentials.
    pub etag: String,
}

/// Why an offer is not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Offer(#[from] OfferError),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Publishing(#[from] publishing::Refused),
    #[error(transparent)]
    Unplayable(#[from] Unplayable),
    #[error("nobody publishes stream {0} now")]
    NotLive(StreamName),
    #[error("stream {0} has nothing at that time or later")]
    NoMedia(StreamName),
    #[error("the store cannot be read: {0}")]
    Store(#[from] StoreError),
    #[error("the offer cannot be answered: {0}")]
    Peer(#[from] PeerError),
    #[error("the server is stopping")]
    Stopping,
    #[error("no random numbers")]
    Random,
}

/// The door.
pub(crate) struct Webrtc {
    rooms: Rooms,
    settings: Settings,
    /// The one of the settings that a reload changes.
    streams_max: AtomicUsize,
    addresses: Addresses,
    identity: Identity,
    directory: Directory,
    commands: mpsc::Sender<Command>,
    keys: AtomicU64,
    /// Publishing sessions: at a stop they hand over what they hold before the hub closes.
    cameras: TaskTracker,
}

impl Webrtc {
    /// Opens the door on a socket of [`bind`]; the loop runs among `tasks` until `stop`.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn open(
        socket: std::net::UdpSocket,
        rooms: Rooms,
        transcodes: Arc<SharedTranscodes>,
        settings: Settings,
        tasks: &TaskTracker,
        cameras: &TaskTracker,
        stop: CancellationToken,
    ) -> std::io::Result<Arc<Webrtc>> {
        let bound = socket.local_addr()?;
        let identity = Identity::generate().map_err(std::io::Error::other)?;
        let (commands, inbox) = mpsc::channel(MAX_COMMANDS);
        let directory = Directory::default();
        let socket = socket::Socket::new(socket)?;
        let (hub, access, clock) = (rooms.hub.clone(), rooms.access.clone(), rooms.clock.clone());
        let running = Loop::new(socket, directory.clone(), hub, access, transcodes, clock, inbox);
        tasks.spawn(essential("webrtc", running.run(stop)));
        let mut public = settings.public_addresses.clone();
        for address in public.iter_mut().filter(|address| address.port() == 0) {
            address.set_port(bound.port());
        }
        let addresses = Addresses { bound, public };
        let (keys, streams_max) = (AtomicU64::new(1), AtomicUsize::new(settings.streams_max));
        let cameras = cameras.clone();
        Ok(Arc::new(Webrtc { rooms, settings, streams_max, addresses, identity, directory, commands, keys, cameras }))
    }

    /// Takes the limits of these settings that can change while the door is open.
    pub(crate) fn set_limits(&self, fresh: &Settings) {
        self.streams_max.store(fresh.streams_max, Ordering::Relaxed);
    }

    fn streams_max(&self) -> usize {
        self.streams_max.load(Ordering::Relaxed)
    }

    /// Connected WebRTC viewers of the stream.
    pub(crate) fn viewers(&self, stream: StreamId) -> u64 {
        self.directory.viewers(stream)
    }

    /// Answers a publisher's offer (WHIP). The seat is taken when the peer is connected, not before: an offer that comes to
    /// nothing takes nobody's place.
    ///
    /// # Errors
    /// When the offer, the credential or the stream's publisher do not allow it.
    pub(crate) async fn publish(self: &Arc<Self>, asker: Asker, offer: &[u8]) -> Result<Answered, Error> {
        let now = Instant::now();
        let room = self.admit(Way::In, &asker, now)?;
        let offer = Offer::read(offer)?;
        let chosen = whip::choose(&offer)?;
        let who = PublisherInfo {
            credential: asker.principal.id.clone(),
            protocol: "whip",
            peer: asker.peer.to_string(),
            can_wait: false,
            sends_on_request: true,
        };
        let (rooms, principal, stream) = (self.rooms.clone(), asker.principal.clone(), asker.stream.clone());
        let found = tokio::task::spawn_blocking(move || rooms.permit(&principal, &stream)).await;
        let found = found.unwrap_or(Err(publishing::Refused::Broken))?;
        if let Some(found) = &found {
            self.rooms.check(found, &who)?;
        }
        let id = new_id()?;
        let mut peer = Peer::publisher(&offer, &chosen, &self.identity, now)?;
        let answer = peer.answer(&self.addresses.candidates(asker.reached), now)?;
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        let pictures = chosen.iter().position(|(kind, _)| *kind == Kind::Video);
        let role = Role::Publisher(Publishing {
            payload_types: chosen.iter().map(|(_, codec)| codec.payload_type).collect(),
            sources: vec![None; chosen.len()],
            pictures,
            incoming: None,
            start: Some(self.starter(key, &asker, who, whip::receivers(&chosen, now), pictures)),
        });
        let stream_id = found.map_or(StreamId(uuid::Uuid::nil()), |stream| stream.id);
        self.enter(room, key, id, peer, role, (Way::In, stream_id), asker, now, answer).await
    }

    /// What takes the seat and publishes, once the peer is connected.
    fn starter(
        self: &Arc<Self>,
        key: Key,
        asker: &Asker,
        who: PublisherInfo,
        feed: crate::ingest::Feed,
        pictures: Option<usize>,
    ) -> Box<dyn FnOnce(mpsc::Receiver<whip::Incoming>) + Send> {
        let (door, asker) = (self.clone(), asker.clone());
        Box::new(move |incoming| {
            let tracker = door.cameras.clone();
            tracker.spawn(async move {
                let claimed = door.rooms.claim(asker.principal, asker.stream.clone(), who, door.streams_max()).await;
                let publisher = match claimed {
                    Ok(publisher) => publisher,
                    Err(refused) => {
                        tracing::warn!(stream = %asker.stream, %refused, "a WebRTC publisher is refused");
                        let _ = door.commands.send(Command::End(key, "its stream is not to be had")).await;
                        return;
                    }
                };
                let asks = door.commands.clone();
                let ask = move || {
                    // When the loop has no room for a command, the next look asks again.
                    let _ = asks.try_send(Command::AskForKeyPicture(key));
                };
                let clock = door.rooms.clock.clone();
                let pictures = pictures.and_then(|at| u32::try_from(at + 1).ok()).map(TrackId);
                let whip = Whip::new(feed, Sink::Live(publisher), pictures, move || clock.now(), ask);
                let over = whip.run(incoming).await;
                let why = match over {
                    Over::Ended(_) => "its publishing was ended",
                    Over::Closed => "the peer left",
                    Over::Hopeless => "nothing that it sent can be recorded",
                };
                tracing::info!(stream = %asker.stream, %over, "WebRTC publishing ends");
                let _ = door.commands.send(Command::End(key, why)).await;
            });
        })
    }

    /// Answers a viewer's offer (WHEP): it is shown `stream` live, or `from` an instant of its past on.
    ///
    /// # Errors
    /// When the offer and what the stream is do not meet, or there is nothing to show.
    pub(crate) async fn view(
        self: &Arc<Self>,
        asker: Asker,
        stream: StreamId,
        from: Option<ProducerTime>,
        offer: &[u8],
    ) -> Result<Answered, Error> {
        let now = Instant::now();
        let room = self.admit(Way::Out, &asker, now)?;
        let offer = Offer::read(offer)?;
        let tracks = match from {
            None => self.rooms.hub.live_tracks(stream).ok_or_else(|| Error::NotLive(asker.stream.clone()))?,
            Some(from) => self.tracks_at(stream, from).await?.ok_or_else(|| Error::NoMedia(asker.stream.clone()))?,
        };
        let (plan, chosen) = whep::choose(&tracks, &offer, self.settings.transcode)?;
        let id = new_id()?;
        let sent: Vec<_> = chosen.iter().map(|one| (one.kind, one.offered.clone())).collect();
        let mut peer = Peer::viewer(&offer, &sent, &self.identity, now)?;
        let answer = peer.answer(&self.addresses.candidates(asker.reached), now)?;
        let first = |kind| -> Result<Option<u32>, Error> {
            let has = chosen.iter().any(|one| one.kind == kind);
            has.then(|| Ok(u32::from_be_bytes(random().map_err(|_| Error::Random)?) >> 1)).transpose()
        };
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        let allowed = self.rooms.access.media_range(&asker.principal);
        let viewer = Viewer::new(first(Kind::Video)?, first(Kind::Audio)?);
        let role = Role::Viewer(Watching {
            channel: match from {
                None => Channel::Live { stream, plan },
                Some(from) => Channel::Past { stream, plan, from, allowed, viewer: key },
            },
            viewer: match allowed {
                Some((since, _)) => viewer.since(since),
                None => viewer,
            },
            kinds: chosen.iter().map(|one| one.kind).collect(),
            codecs: chosen.iter().map(|one| one.codec).collect(),
            asked: None,
            caught_up: None,
            report_at: now,
            reports: 0,
            congested: 0,
        });
        self.enter(room, key, id, peer, role, (Way::Out, stream), asker, now, answer).await
    }

    /// The tracks of the first fragment that ends after `from`.
    async fn tracks_at(&self, stream: StreamId, from: ProducerTime) -> Result<Option<Arc<TrackSet>>, Error> {
        let select = Select::Producer(from, ProducerTime::from_micros(i64::MAX));
        let hub = &self.rooms.hub;
        let timeline = hub.timeline(stream, select, 1).await?;
        let Some(first) = timeline.fragments.first() else { return Ok(None) };
        Ok(hub.track_set(stream, first.info.track_set).await?)
    }

    fn admit(&self, way: Way, asker: &Asker, now: Instant) -> Result<Reservation, Error> {
        let limits = (self.settings.max_pending, self.settings.max_sessions);
        Ok(self.directory.admit(way, &asker.principal.id, asker.peer.ip(), limits, now)?)
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a session, which is made here alone")]
    async fn enter(
        &self,
        room: Reservation,
        key: Key,
        id: String,
        peer: Peer,
        role: Role,
        (way, stream): (Way, StreamId),
        asker: Asker,
        now: Instant,
        Answer { sdp, credentials }: Answer,
    ) -> Result<Answered, Error> {
        // What is live is seen as long as now is within what the credential may see; the past ends by itself.
        let until = match &role {
            Role::Viewer(Watching { channel: Channel::Live { .. }, .. }) => {
                self.rooms.access.media_range(&asker.principal).map(|(_, to)| to)
            }
            _ => None,
        };
        let session = Session {
            key,
            id: id.clone(),
            password: stun::key(&credentials.password),
            ufrag: credentials.ufrag,
            peer,
            role,
            principal: asker.principal.clone(),
            until,
            stream_name: asker.stream.to_string(),
            since: now,
            connected: None,
            heard: now,
            due: now + Duration::from_millis(100),
            addresses: Vec::new(),
            nominated: None,
            nominating: None,
        };
        let name = asker.stream.to_string();
        let etag = etag(&session.ufrag);
        let tag = etag.clone();
        let entry = |claim| Entry { key, way, stream, name, claim, etag: tag, patches: 0, connected: false };
        // A client that hangs up here leaves nothing behind.
        let entered = self.directory.enter(room, id.clone(), entry);
        if self.commands.send(Command::Add(Box::new(session))).await.is_err() {
            return Err(Error::Stopping);
        }
        entered.keep();
        Ok(Answered { id, sdp, etag })
    }

    /// Ends the session of this URL; whether there was one that the credential owns.
    pub(crate) async fn end(&self, way: Way, stream: &StreamName, id: &str, principal: &Principal) -> bool {
        let Some(entry) = self.directory.owned(id, way, stream.as_str(), &principal.id) else { return false };
        let _ = self.commands.send(Command::End(entry.key, "its owner ended it")).await;
        true
    }

    /// Changes the session of this URL as `fragment` says, a part of an offer: new candidates are none of our business, since the
    /// peer's checks tell where it is; new credentials restart ICE.
    ///
    /// # Errors
    /// When the credential owns no such session, `if_match` is not its tag, or it was changed too often.
    pub(crate) async fn change(
        &self,
        way: Way,
        asker: &Asker,
        id: &str,
        if_match: &str,
        fragment: &str,
    ) -> Result<Option<Restarted>, ChangeError> {
        let entry =
            self.directory.owned(id, way, asker.stream.as_str(), &asker.principal.id).ok_or(ChangeError::None)?;
        if !self.directory.patch(id) {
            return Err(ChangeError::Often);
        }
        if if_match != "*" && if_match != entry.etag {
            return Err(ChangeError::Tag);
        }
        let Some(theirs) = Credentials::of_sdp(fragment) else {
            // Candidates alone name the session by its tag (RFC 9725 section 4.3.1).
            return if if_match == "*" { Err(ChangeError::Tag) } else { Ok(None) };
        };
        let (reply, answered) = oneshot::channel();
        let here = self.addresses.candidates(asker.reached);
        let command = Command::Restart { key: entry.key, theirs, here, reply };
        self.commands.send(command).await.map_err(|_| ChangeError::None)?;
        let Some(Answer { sdp, credentials }) = answered.await.map_err(|_| ChangeError::None)?? else {
            return Ok(None);
        };
        let etag = etag(&credentials.ufrag);
        self.directory.renew(id, etag.clone());
        // RFC 8840 section 9.1: the lines about ICE, by the section that carries it.
        let kept = ["a=ice-ufrag:", "a=ice-pwd:", "a=candidate:", "a=end-of-candidates", "a=ice-lite", "a=mid:", "m="];
        let mut lines: Vec<&str> = Vec::new();
        for line in sdp.lines().filter(|line| kept.iter().any(|start| line.starts_with(start))) {
            // Those of the first section are those of all.
            if line.starts_with("m=") && lines.iter().any(|line| line.starts_with("m=")) {
                break;
            }
            lines.push(line);
        }
        let fragment = lines.iter().flat_map(|line| [line, "\r\n"]).collect();
        Ok(Some(Restarted { fragment, etag }))
    }
}

/// What a restart of ICE is answered with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Restarted {
    /// The part of our answer that changed.
    pub fragment: String,
    pub etag: String,
}

/// Why a session is not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("there is no such session")]
    None,
    #[error("the session was changed too often; make a new one")]
    Often,
    #[error("If-Match is not the session's ETag")]
    Tag,
    #[error("ICE cannot be restarted: {0}")]
    Peer(#[from] PeerError),
}

/// The entity tag of an ICE session (RFC 9725 section 4.3.1).
fn etag(ufrag: &str) -> String {
    format!("\"{ufrag}\"")
}

fn new_id() -> Result<String, Error> {
    let bits: [u8; 16] = random().map_err(|_| Error::Random)?;
    Ok(uuid::Uuid::from_bytes(bits).simple().to_string())
}
