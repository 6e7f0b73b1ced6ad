//! A session while it records: channels and ports to tracks, orders to the sink, reports to the client.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media::{DropReason, StreamName};
use tracing::{info, warn};

use super::udp::Pair;
use crate::ingest::{Feed, Sink};
use crate::live::Ended;
use crate::protocol::rtp::receive::{Moment, Receiver};
use crate::protocol::rtp::reorder;
use crate::protocol::rtsp::session::SetUp;
use crate::protocol::rtsp::transport::Lower;

/// Between receiver reports (RFC 3550 section 6.2).
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Between looks at the time, and at whether the credential is still in force (revoked within 5 s).
const TICK: Duration = Duration::from_secs(1);

/// Most bytes of a session that are no packets, and are left out between those that are.
const GARBAGE_MAX: u64 = 16 << 20;

/// What an interleaved channel carries; tracks in the order of SETUP.
#[derive(Clone, Copy)]
struct Channel {
    track: u8,
    is_rtcp: bool,
}

/// What becomes of the packets of a track that was set up.
pub(super) enum Intake {
    /// They are stored.
    Received(Box<Receiver>),
    /// Nobody here knows the format, named for people: they are counted, and left out.
    LeftOut(String),
}

/// A track that was set up.
enum Track {
    /// The feed knows it by this number.
    Fed(usize),
    LeftOut {
        what: String,
        packets: u64,
    },
}

/// A stream being taken in.
pub(super) struct Recording {
    stream: StreamName,
    peer: SocketAddr,
    channels: [Option<Channel>; 256],
    tracks: Vec<Track>,
    /// RTCP channel of each track; none for datagrams.
    report_channels: Vec<Option<u8>>,
    /// Bytes between packets that were none.
    garbage: u64,
    feed: Feed,
    sink: Sink,
    since: Instant,
    ticked: Instant,
    report_at: Instant,
    account_at: Instant,
    /// Whether it was said which tracks are missing.
    told: bool,
}

impl Recording {
    /// Takes `tracks`, each as the intake at the same place says.
    pub(super) fn new(
        stream: StreamName,
        peer: SocketAddr,
        set_up: &[SetUp],
        intakes: Vec<Intake>,
        sink: Sink,
        now: Instant,
    ) -> Recording {
        let mut channels = [None; 256];
        let mut report_channels = Vec::with_capacity(set_up.len());
        // At most as many as a description has sections.
        for (track, set_up) in (0u8..).zip(set_up) {
            match set_up.lower {
                Lower::Interleaved { rtp, rtcp } => {
                    channels[usize::from(rtp)] = Some(Channel { track, is_rtcp: false });
                    channels[usize::from(rtcp)] = Some(Channel { track, is_rtcp: true });
                    report_channels.push(Some(rtcp));
                }
                Lower::Datagrams { .. } => report_channels.push(None),
            }
        }
        let (mut tracks, mut receivers) = (Vec::new(), Vec::new());
        for intake in intakes {
            match intake {
                Intake::Received(receiver) => {
                    tracks.push(Track::Fed(receivers.len()));
                    receivers.push(*receiver);
                }
                Intake::LeftOut(what) => {
                    warn!(%stream, %peer, what, "a track is left out: this server does not store its format");
                    tracks.push(Track::LeftOut { what, packets: 0 });
                }
            }
        }
        Recording {
            stream,
            peer,
            channels,
            tracks,
            report_channels,
            garbage: 0,
            feed: Feed::new(receivers, now),
            sink,
            since: now,
            ticked: now,
            report_at: now + REPORT_EVERY,
            account_at: now + TICK,
            told: false,
        }
    }

    /// A packet of the connection.
    pub(super) fn interleaved(&mut self, channel: u8, bytes: &[u8], at: Moment) {
        // A channel that was not set up is the client's own business.
        if let Some(Channel { track, is_rtcp }) = self.channels[usize::from(channel)] {
            self.packet(usize::from(track), is_rtcp, bytes, at);
        }
    }

    /// Whether something comes by this channel.
    pub(super) fn has_channel(&self, channel: u8) -> bool {
        self.channels[usize::from(channel)].is_some()
    }

    /// So many bytes between packets were none. False when there were too many for the connection to go on.
    pub(super) fn garbage(&mut self, bytes: usize) -> bool {
        if self.garbage == 0 {
            warn!(stream = %self.stream, peer = %self.peer, bytes, "bytes between RTP packets are none, and left out");
        }
        self.garbage += bytes as u64;
        metrics::counter!("kinora_rtsp_garbage_bytes_total").increment(bytes as u64);
        self.garbage <= GARBAGE_MAX
    }

    /// A datagram of the `track`-th pair of ports.
    pub(super) fn datagram(&mut self, track: usize, is_rtcp: bool, bytes: &[u8], at: Moment) {
        self.packet(track, is_rtcp, bytes, at);
    }

    fn packet(&mut self, track: usize, is_rtcp: bool, bytes: &[u8], at: Moment) {
        match (self.tracks.get_mut(track), is_rtcp) {
            (Some(Track::Fed(track)), false) => self.feed.rtp(*track, bytes, at),
            (Some(Track::Fed(track)), true) => self.feed.rtcp(*track, bytes, at),
            (Some(Track::LeftOut { packets, .. }), false) => *packets += 1,
            (Some(Track::LeftOut { .. }), true) | (None, _) => {}
        }
    }

    /// When [`Recording::tick`] is due.
    pub(super) fn wake(&self) -> Instant {
        self.ticked + if self.feed.is_reordering() { reorder::MAX_WAIT / 2 } else { TICK }
    }

    /// Time went by: gives up what is missing, and reports to the client.
    pub(super) fn tick(&mut self, at: Moment, pairs: &[Pair], out: &mut Vec<u8>) {
        self.ticked = at.now;
        self.feed.tick(at);
        if at.now >= self.account_at {
            self.account_at = at.now + TICK;
            self.account(pairs);
        }
        if at.now < self.report_at {
            return;
        }
        self.report_at = at.now + REPORT_EVERY;
        let reports = self.feed.reports(at.now);
        for (track, set_up) in self.tracks.iter().enumerate() {
            let Track::Fed(fed) = set_up else { continue };
            let report = &reports[*fed];
            match (self.report_channels[track], pairs.get(track)) {
                (Some(channel), _) => {
                    let length = u16::try_from(report.len()).expect("a report is far below 64 KiB");
                    out.extend_from_slice(&[b'$', channel]);
                    out.extend_from_slice(&length.to_be_bytes());
                    out.extend_from_slice(report);
                }
                (None, Some(pair)) => pair.report(report),
                (None, None) => {}
            }
        }
    }

    /// Says what came, and what of it is not stored.
    fn account(&self, pairs: &[Pair]) {
        let mut account = self.feed.account();
        account.dropped.count(DropReason::ForeignDatagram, pairs.iter().map(|pair| pair.foreign).sum());
        for track in &self.tracks {
            if let Track::LeftOut { what, packets } = track {
                account.packets += packets;
                account.dropped.count(DropReason::UnsupportedTrack, *packets);
                account.notes.push(format!("a track is not recorded: this server does not store {what}"));
            }
        }
        self.sink.account(account);
    }

    /// Whether the wait for descriptions is over and none came.
    pub(super) fn is_hopeless(&self) -> bool {
        !self.feed.is_waiting() && !self.feed.is_described()
    }

    /// Carries out what is due.
    ///
    /// # Errors
    /// When this publisher must stop.
    pub(super) async fn deliver(&mut self) -> Result<(), Ended> {
        if !self.told && !self.feed.is_waiting() {
            self.told = true;
            for missing in self.feed.undescribed() {
                warn!(stream = %self.stream, peer = %self.peer, track = missing.track, why = missing.why, "a track is left out");
            }
        }
        while let Some(order) = self.feed.pop() {
            self.sink.apply(order).await?;
        }
        Ok(())
    }

    /// Resolves when this publisher must stop.
    pub(super) async fn ended(&mut self) -> Ended {
        self.sink.ended().await
    }

    /// The session is over; `taken_away` when the stream is no longer ours to write.
    pub(super) async fn end(mut self, at: Moment, pairs: &[Pair], why: &str, taken_away: bool) {
        if !taken_away {
            self.feed.finish(at);
            // An end in this moment is told by the same log line.
            let _ = self.deliver().await;
        }
        self.account(pairs);
        let left_out: Vec<_> = self
            .tracks
            .iter()
            .filter_map(|track| match track {
                Track::LeftOut { what, packets } => Some(format!("{packets} packets of {what}")),
                Track::Fed(_) => None,
            })
            .collect();
        let counters: Vec<_> = self.feed.counters().collect();
        let sum = |field: fn(&crate::protocol::rtp::receive::Counters) -> u64| counters.iter().map(field).sum::<u64>();
        let (lost, late, malformed) = (sum(|c| c.lost), sum(|c| c.late), sum(|c| c.malformed));
        let (wrong_type, wrong_source) = (sum(|c| c.wrong_payload_type), sum(|c| c.wrong_source));
        let seconds = at.now.saturating_duration_since(self.since).as_secs();
        info!(
            stream = %self.stream, peer = %self.peer, why, seconds, packets = sum(|c| c.packets), units = sum(|c| c.units),
            lost, late, malformed, skipped = sum(|c| c.payloads.of(DropReason::UnusedPayload)), broken = sum(|c| c.payloads.of(DropReason::BrokenUnit)),
            wrong_type, wrong_source, left_out = left_out.join(", "), garbage = self.garbage,
            "publishing ends"
        );
        self.sink.finish().await;
    }
}
