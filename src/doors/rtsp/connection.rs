//! One connection: bytes and datagrams in, the session and its feed in the middle, answers and reports out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use media::TrackId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Rtsp;
use super::gate::{Claimant, Credential, Denied, Permit};
use super::recording::{Intake, Recording};
use super::udp::{self, Announced, Pair};
use super::unfinished::{self, Unfinished};
use crate::doors::crowd::Place;
use crate::live::Ended;
use crate::protocol::rtp::receive::{Moment, Receiver};
use crate::protocol::rtsp::session::{self, Ask, Reply, Session, TIMEOUT_SECONDS};
use crate::protocol::rtsp::transport::Lower;
use crate::protocol::rtsp::wire::{self, Item, Request, WireError};
use crate::protocol::sdp::Format;

/// Read at once while recording: many packets a wake-up.
const READ_BYTES: usize = 64 << 10;
/// Read at once before that: most idle connections never need more.
const IDLE_READ_BYTES: usize = 4 << 10;
/// Requests that may stand in one read; a client that has not read so many answers is not talking to us.
const MAX_PIPELINED: usize = 100;
/// A client that does not take our answers for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// When a session ends, datagrams that left before its last request may come after it: they are taken until none came
/// for so long,
const DRAIN_QUIET: Duration = Duration::from_millis(100);
/// and at most for so long.
const DRAIN_MAX: Duration = Duration::from_millis(300);
/// Wait for the last datagrams of a client that has ended: FFmpeg ends the moment after it sent them.
const LINGER: Duration = Duration::from_millis(100);
/// Most rounds of taking them.
const LINGER_ROUNDS: usize = 64;

/// What is known of a connection when it comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    pub number: u64,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub encrypted: bool,
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    Closed,
    Teardown,
    Io(io::Error),
    Wire(WireError),
    Flooded,
    NoCredential,
    /// It made room for another stranger of its network.
    Displaced,
    /// The credential that the session came with is no longer in force.
    Revoked,
    Silent,
    /// A packet or request was begun and not finished, or a session set up and not recorded.
    Unfinished,
    OtherVersion,
    NothingDescribed,
    Publisher(Ended),
    Shutdown,
}

enum Event {
    Read(io::Result<usize>),
    Datagrams,
    Tick,
    Ended(Ended),
    Displaced,
    Shutdown,
}

struct Connection {
    door: Arc<Rtsp>,
    about: About,
    place: Place,
    session: Session,
    buffer: BytesMut,
    /// What a datagram is received into; empty while there are no ports for them.
    datagram: Vec<u8>,
    replies: Vec<u8>,
    permit: Option<Permit>,
    /// Ports of each track that was set up, in the order of the session's tracks; empty for interleaved tracks.
    pairs: Vec<Pair>,
    recording: Option<Recording>,
    since: Instant,
    /// The last sign of life.
    alive: Instant,
    unfinished: Unfinished,
}

/// Serves a connection to its end.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    door: Arc<Rtsp>,
    mut stream: S,
    about: About,
    place: Place,
    shutdown: CancellationToken,
) {
    let mut random = [0u8; 16];
    if let Err(error) = getrandom::fill(&mut random) {
        warn!(%error, "rtsp: no randomness for a session id");
        return;
    }
    let now = Instant::now();
    let id = format!("{:032x}", u128::from_le_bytes(random));
    let session = Session::new(id, !about.encrypted, &door.settings().path_prefix);
    let mut connection = Connection {
        door,
        about,
        place,
        session,
        buffer: BytesMut::new(),
        datagram: Vec::new(),
        replies: Vec::new(),
        permit: None,
        pairs: Vec::new(),
        recording: None,
        since: now,
        alive: now,
        unfinished: Unfinished::default(),
    };
    loop {
        let event = connection.select(&mut stream, &shutdown).await;
        let applied = connection.apply(event).await;
        let written = connection.write(&mut stream).await;
        let Err(end) = applied.and(written) else { continue };
        connection.end_session(&end).await;
        if !matches!(end, End::Teardown) {
            break;
        }
        connection.begin_anew();
    }
    // Tells TLS peers that this is the end, and not an attacker's cut.
    let _ = tokio::time::timeout(WRITE_TIMEOUT, stream.shutdown()).await;
}

impl Connection {
    async fn select<S: AsyncRead + Unpin>(&mut self, stream: &mut S, shutdown: &CancellationToken) -> Event {
        let wake = self.wake();
        self.buffer.reserve(if self.recording.is_some() { READ_BYTES } else { IDLE_READ_BYTES });
        let datagrams = udp::ready(&self.pairs);
        let displaced = self.place.displaced();
        let recording = &mut self.recording;
        let ended = async {
            match recording {
                Some(recording) => recording.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = stream.read_buf(&mut self.buffer) => Event::Read(read),
            () = datagrams => Event::Datagrams,
            ended = ended => Event::Ended(ended),
            () = tokio::time::sleep_until(wake.into()) => Event::Tick,
            () = displaced.cancelled(), if self.permit.is_none() => Event::Displaced,
            () = shutdown.cancelled() => Event::Shutdown,
        }
    }

    /// When to look at the time again.
    fn wake(&self) -> Instant {
        let silent = self.alive + Duration::from_secs(TIMEOUT_SECONDS);
        let silent = self.unfinished.due().map_or(silent, |due| due.min(silent));
        match (&self.recording, &self.permit) {
            (Some(recording), _) => recording.wake().min(silent),
            (None, Some(_)) => silent.min(self.alive + unfinished::PATIENCE),
            (None, None) => self.since + self.door.settings().limits.unauthenticated_lifetime.0,
        }
    }

    async fn apply(&mut self, event: Event) -> Result<(), End> {
        let started = Instant::now();
        let outcome = self.act_on(event).await;
        // A client that the disk holds back is not silent.
        self.alive += started.elapsed();
        self.unfinished.wait(started.elapsed());
        outcome
    }

    async fn act_on(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Read(Ok(0)) => return Err(End::Closed),
            Event::Read(Ok(_)) => {
                // Keep-alive requests do not keep a session whose packets would come by datagrams (they count there).
                if self.pairs.is_empty() || self.recording.is_none() {
                    self.alive = Instant::now();
                }
                let before = self.buffer.len();
                self.take_bytes().await?;
                self.unfinished.look(self.buffer.len(), before, Instant::now());
            }
            Event::Read(Err(error)) => return Err(End::Io(error)),
            Event::Datagrams => {
                self.take_datagrams();
            }
            Event::Tick => self.tick()?,
            Event::Ended(ended) => return Err(End::Publisher(ended)),
            Event::Displaced => return Err(End::Displaced),
            Event::Shutdown => return Err(End::Shutdown),
        }
        self.deliver().await
    }

    fn at(&self) -> Moment {
        Moment { now: Instant::now(), wall: self.door.clock.now() }
    }

    /// Takes apart what was read.
    async fn take_bytes(&mut self) -> Result<(), End> {
        let at = self.at();
        let mut requests = 0;
        loop {
            if wire::is_no_packet(&self.buffer) && self.skip_garbage() {
                continue;
            }
            let (request, taken) = match wire::next(&self.buffer) {
                Ok(None) => return Ok(()),
                Ok(Some((Item::Data { channel, payload }, taken))) => {
                    if let Some(recording) = &mut self.recording {
                        recording.interleaved(channel, payload, at);
                    }
                    (None, taken)
                }
                Ok(Some((Item::Request(request), taken))) => (Some(request), taken),
                Ok(Some((Item::OtherVersion(request), taken))) => {
                    self.buffer.advance(taken);
                    let reply = self.session.refuse(&request, 505, "RTSP Version Not Supported");
                    self.log_refusal(&request, &reply);
                    self.queue(reply);
                    return Err(End::OtherVersion);
                }
                Ok(Some((Item::Response, taken))) => (None, taken),
                Err(error) => {
                    if self.skip_garbage() {
                        continue;
                    }
                    self.queue(session::write(error.status(), &error.to_string(), &[]));
                    return Err(End::Wire(error));
                }
            };
            self.buffer.advance(taken);
            let Some(request) = request else { continue };
            requests += 1;
            if requests > MAX_PIPELINED {
                self.queue(self.session.refuse(&request, 503, "too many requests at once"));
                return Err(End::Flooded);
            }
            // A request may end the session: what came before it counts.
            self.deliver().await?;
            self.answer(&request).await?;
        }
    }

    /// Leaves out bytes between interleaved packets that are none, up to the next packet or request: some cameras put them
    /// there. False when nothing is recorded over this connection, or there were too many.
    fn skip_garbage(&mut self) -> bool {
        let Some(recording) = &mut self.recording else { return false };
        if !self.pairs.is_empty() {
            return false;
        }
        let garbage = wire::garbage(&self.buffer, |channel| recording.has_channel(channel));
        self.buffer.advance(garbage);
        recording.garbage(garbage)
    }

    /// Takes what the sockets hold, up to a bound; whether there was anything.
    fn take_datagrams(&mut self) -> bool {
        let at = self.at();
        if self.pairs.is_empty() {
            return false;
        }
        self.datagram.resize(udp::MAX_DATAGRAM, 0);
        let (mut any, mut heard) = (false, false);
        for (track, pair) in self.pairs.iter_mut().enumerate() {
            for which in [udp::RTP, udp::RTCP] {
                // Bounded, so that one track cannot starve the connection.
                for _ in 0..64 {
                    let Some(bytes) = pair.receive(which, &mut self.datagram, at.now) else { break };
                    any = true;
                    heard |= which == udp::RTP;
                    if let Some(recording) = &mut self.recording {
                        recording.datagram(track, which == udp::RTCP, bytes, at);
                    }
                }
            }
        }
        if heard {
            self.alive = at.now;
        }
        any
    }

    /// The client has ended: its last datagrams may still be in the sockets, or on the way behind its last request.
    async fn take_last_datagrams(&mut self) {
        if self.pairs.is_empty() || self.recording.is_none() {
            return;
        }
        tokio::time::sleep(LINGER).await;
        for _ in 0..LINGER_ROUNDS {
            if !self.take_datagrams() || self.deliver().await.is_err() {
                return;
            }
        }
    }

    /// Takes the datagrams that are here or still on their way when the session has ended.
    async fn drain(&mut self) {
        let until = Instant::now() + DRAIN_MAX;
        while Instant::now() < until {
            let quiet = (Instant::now() + DRAIN_QUIET).min(until);
            if tokio::time::timeout_at(quiet.into(), udp::ready(&self.pairs)).await.is_err() {
                return;
            }
            self.take_datagrams();
            if self.deliver().await.is_err() {
                return;
            }
        }
    }

    fn tick(&mut self) -> Result<(), End> {
        let at = self.at();
        if at.now >= self.alive + Duration::from_secs(TIMEOUT_SECONDS) {
            return Err(End::Silent);
        }
        let never_recorded =
            self.permit.is_some() && self.recording.is_none() && at.now >= self.alive + unfinished::PATIENCE;
        if never_recorded || self.unfinished.due().is_some_and(|due| at.now >= due) {
            return Err(End::Unfinished);
        }
        if let Some(recording) = &mut self.recording {
            if !self.permit.as_ref().is_some_and(|permit| self.door.gate.is_in_force(permit)) {
                return Err(End::Revoked);
            }
            recording.tick(at, &self.pairs, &mut self.replies);
            return if recording.is_hopeless() { Err(End::NothingDescribed) } else { Ok(()) };
        }
        let known_by = self.since + self.door.settings().limits.unauthenticated_lifetime.0;
        if self.permit.is_none() && at.now >= known_by { Err(End::NoCredential) } else { Ok(()) }
    }

    async fn deliver(&mut self) -> Result<(), End> {
        match &mut self.recording {
            Some(recording) => recording.deliver().await.map_err(End::Publisher),
            None => Ok(()),
        }
    }

    async fn answer(&mut self, request: &Request) -> Result<(), End> {
        let reply = match self.session.request(request) {
            Ask::Reply(reply) => {
                if reply.status >= 400 {
                    self.log_refusal(request, &reply);
                }
                reply
            }
            Ask::Teardown(reply) => {
                self.queue(reply);
                return Err(End::Teardown);
            }
            Ask::Announce(stream) => self.announce(request, stream).await,
            Ask::SetUp { media, lower } => self.set_up(request, media, lower),
            Ask::Record => self.record(request).await,
        };
        self.queue(reply);
        Ok(())
    }

    async fn announce(&mut self, request: &Request, stream: media::StreamName) -> Reply {
        let credential = Credential {
            header: request.header("Authorization").map(str::to_owned),
            method: request.method.clone(),
            connection: self.about.number,
            confidential: self.about.encrypted || self.about.peer.ip().to_canonical().is_loopback(),
            peer: self.about.peer,
        };
        match self.door.gate.authorise(credential, stream).await {
            Ok(permit) => {
                self.place.known();
                self.permit = Some(permit);
                let reply = self.session.announce(request);
                // Announced again, before anything was recorded.
                self.pairs.clear();
                if reply.status != 200 {
                    self.log_refusal(request, &reply);
                }
                reply
            }
            Err(denied) => self.deny(request, denied),
        }
    }

    fn set_up(&mut self, request: &Request, media: usize, lower: Lower) -> Reply {
        let mut ports = None;
        if let Lower::Datagrams { rtp, rtcp } = lower
            && let Some(payload_type) = self.session.media().get(media).map(|media| media.payload_type)
        {
            let range = self.door.settings().udp_ports.clone();
            let announced = Announced { peer: self.about.peer.ip(), ports: [rtp, rtcp], payload_type };
            let bound =
                Pair::bind(self.about.local.ip(), range.as_ref(), announced).and_then(|pair| Ok((pair.ports()?, pair)));
            match bound {
                Ok((bound, pair)) => {
                    ports = Some(bound);
                    self.pairs.push(pair);
                }
                Err(error) => {
                    warn!(peer = %self.about.peer, %error, "rtsp: no ports for datagrams");
                    return self.session.refuse(request, 453, "no free ports for datagrams: use TCP");
                }
            }
        }
        self.session.set_up(request, media, lower, ports)
    }

    async fn record(&mut self, request: &Request) -> Reply {
        let Some(permit) = &self.permit else {
            return self.session.refuse(request, 455, "ANNOUNCE comes first");
        };
        let datagrams = !self.pairs.is_empty();
        let protocol = match (datagrams, self.about.encrypted) {
            (true, _) => "rtsp+udp",
            (false, false) => "rtsp+tcp",
            (false, true) => "rtsps+tcp",
        };
        let streams_max = self.door.settings().streams_max;
        let who = Claimant { protocol, peer: self.about.peer, can_wait: !datagrams };
        let sink = match self.door.gate.claim(permit, who, streams_max).await {
            Ok(sink) => sink,
            Err(denied) => return self.deny(request, denied),
        };
        let Some(intakes) = self.intakes(datagrams) else {
            return self.session.refuse(request, 500, "Internal Server Error");
        };
        info!(stream = %permit.stream, peer = %self.about.peer, protocol, tracks = intakes.len(), "publishing starts");
        let now = Instant::now();
        self.recording =
            Some(Recording::new(permit.stream.clone(), self.about.peer, self.session.tracks(), intakes, sink, now));
        self.alive = now;
        self.session.record(request)
    }

    /// How each track is received, in the order of SETUP; those that we store are numbered in the order of the description.
    fn intakes(&self, datagrams: bool) -> Option<Vec<Intake>> {
        let (tracks, all) = (self.session.tracks(), self.session.media());
        let intake = |media: usize| {
            if let Format::Unknown { what } = &all.get(media)?.format {
                return Some(Intake::LeftOut(what.clone()));
            }
            let known = |media: usize| !matches!(all[media].format, Format::Unknown { .. });
            let number = 1 + tracks.iter().filter(|other| other.media < media && known(other.media)).count();
            let mut ssrc = [0u8; 4];
            getrandom::fill(&mut ssrc).ok()?;
            let id = TrackId(u32::try_from(number).ok()?);
            Receiver::new(id, all.get(media)?, datagrams, u32::from_le_bytes(ssrc)).map(Box::new).map(Intake::Received)
        };
        tracks.iter().map(|track| intake(track.media)).collect()
    }

    fn deny(&self, request: &Request, denied: Denied) -> Reply {
        let reply = match denied {
            // Every client comes without a credential first: that is no news.
            Denied::Challenge(challenges) => return self.session.challenge(request, &challenges),
            Denied::No(status, why) => self.session.refuse(request, status, &why),
        };
        self.log_refusal(request, &reply);
        reply
    }

    fn log_refusal(&self, request: &Request, reply: &Reply) {
        let line = String::from_utf8_lossy(&reply.bytes);
        let answer = line.lines().next().unwrap_or_default();
        info!(peer = %self.about.peer, method = request.method, uri = %request.uri.escape_debug(), answer, "rtsp: refused");
    }

    fn queue(&mut self, reply: Reply) {
        self.replies.extend_from_slice(&reply.bytes);
    }

    async fn write<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> Result<(), End> {
        if self.replies.is_empty() {
            return Ok(());
        }
        let write = async {
            stream.write_all(&self.replies).await?;
            stream.flush().await
        };
        let written = tokio::time::timeout(WRITE_TIMEOUT, write).await;
        self.replies.clear();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(End::Io(error)),
            Err(_) => Err(End::Io(io::Error::new(io::ErrorKind::TimedOut, "the client takes no answers"))),
        }
    }

    /// A session ended by TEARDOWN: the client may announce another, and has to show its credential again.
    fn begin_anew(&mut self) {
        self.session.reset();
        self.pairs.clear();
        self.permit = None;
        self.since = Instant::now();
        self.alive = self.since;
    }

    async fn end_session(&mut self, end: &End) {
        if self.recording.is_some() && !self.pairs.is_empty() && !matches!(end, End::Publisher(_) | End::Revoked) {
            self.drain().await;
        }
        let foreign: u64 = self.pairs.iter().map(|pair| pair.foreign).sum();
        if foreign > 0 {
            metrics::counter!("kinora_rtsp_foreign_datagrams_total").increment(foreign);
            warn!(peer = %self.about.peer, count = foreign, "rtsp: datagrams of others were dropped");
        }
        let why = end.to_string();
        if matches!(end, End::Teardown | End::Closed | End::Io(_)) {
            self.take_last_datagrams().await;
        }
        let at = self.at();
        match self.recording.take() {
            Some(recording) => {
                let taken_away = matches!(end, End::Publisher(_));
                recording.end(at, &self.pairs, &why, taken_away).await;
            }
            None => debug!(peer = %self.about.peer, why, "rtsp: connection ends"),
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Closed => f.write_str("the client closed the connection"),
            End::Teardown => f.write_str("the client ended the session"),
            End::Io(error) => write!(f, "{error}"),
            End::Wire(error) => write!(f, "{error}"),
            End::Flooded => f.write_str("too many requests at once"),
            End::NoCredential => f.write_str("no credential in time"),
            End::Revoked => f.write_str("its credential was revoked or has expired"),
            End::Silent => write!(f, "nothing came for {TIMEOUT_SECONDS} s"),
            End::Unfinished => {
                write!(f, "what was begun was not finished within {} s", unfinished::PATIENCE.as_secs())
            }
            End::OtherVersion => f.write_str("another version of RTSP than 1.0"),
            End::NothingDescribed => f.write_str("no track could be described"),
            End::Publisher(ended) => write!(f, "{ended}"),
            End::Displaced => f.write_str("it made room for another stranger of its network"),
            End::Shutdown => f.write_str("the server is stopping"),
        }
    }
}
