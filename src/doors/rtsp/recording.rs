//! A session while it records: channels and ports to tracks, orders to the sink, reports to the client.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media::StreamName;
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

/// What an interleaved channel carries.
#[derive(Clone, Copy)]
struct Channel {
    track: u8,
    is_rtcp: bool,
}

/// A stream being taken in.
pub(super) struct Recording {
    stream: StreamName,
    peer: SocketAddr,
    channels: [Option<Channel>; 256],
    /// RTCP channel of each track; none for datagrams.
    report_channels: Vec<Option<u8>>,
    feed: Feed,
    sink: Sink,
    since: Instant,
    ticked: Instant,
    report_at: Instant,
    /// Whether it was said which tracks are missing.
    told: bool,
}

impl Recording {
    /// Takes `tracks`, each by the receiver at the same place.
    pub(super) fn new(
        stream: StreamName,
        peer: SocketAddr,
        tracks: &[SetUp],
        receivers: Vec<Receiver>,
        sink: Sink,
        now: Instant,
    ) -> Recording {
        let mut channels = [None; 256];
        let mut report_channels = Vec::with_capacity(tracks.len());
        // At most as many as a track set holds.
        for (track, set_up) in (0u8..).zip(tracks) {
            match set_up.lower {
                Lower::Interleaved { rtp, rtcp } => {
                    channels[usize::from(rtp)] = Some(Channel { track, is_rtcp: false });
                    channels[usize::from(rtcp)] = Some(Channel { track, is_rtcp: true });
                    report_channels.push(Some(rtcp));
                }
                Lower::Datagrams { .. } => report_channels.push(None),
            }
        }
        Recording {
            stream,
            peer,
            channels,
            report_channels,
            feed: Feed::new(receivers, now),
            sink,
            since: now,
            ticked: now,
            report_at: now + REPORT_EVERY,
            told: false,
        }
    }

    /// A packet of the connection.
    pub(super) fn interleaved(&mut self, channel: u8, bytes: &[u8], at: Moment) {
        match self.channels[usize::from(channel)] {
            Some(Channel { track, is_rtcp: false }) => self.feed.rtp(usize::from(track), bytes, at),
            Some(Channel { track, is_rtcp: true }) => self.feed.rtcp(usize::from(track), bytes, at),
            // A channel that was not set up: the client's own business.
            None => {}
        }
    }

    /// A datagram of the `track`-th pair of ports.
    pub(super) fn datagram(&mut self, track: usize, is_rtcp: bool, bytes: &[u8], at: Moment) {
        match is_rtcp {
            false => self.feed.rtp(track, bytes, at),
            true => self.feed.rtcp(track, bytes, at),
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
        if at.now < self.report_at {
            return;
        }
        self.report_at = at.now + REPORT_EVERY;
        for (track, report) in self.feed.reports(at.now).iter().enumerate() {
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
    pub(super) async fn end(mut self, at: Moment, why: &str, taken_away: bool) {
        if !taken_away {
            self.feed.finish(at);
            // An end in this moment is told by the same log line.
            let _ = self.deliver().await;
        }
        let counters: Vec<_> = self.feed.counters().collect();
        let sum = |field: fn(&crate::protocol::rtp::receive::Counters) -> u64| counters.iter().map(field).sum::<u64>();
        let (lost, late, malformed) = (sum(|c| c.lost), sum(|c| c.late), sum(|c| c.malformed));
        let (wrong_type, wrong_source) = (sum(|c| c.wrong_payload_type), sum(|c| c.wrong_source));
        metrics::counter!("kinora_rtp_packets_total").increment(sum(|c| c.packets));
        metrics::counter!("kinora_rtp_lost_packets_total").increment(lost);
        metrics::counter!("kinora_rtp_dropped_packets_total").increment(late + malformed + wrong_type + wrong_source);
        let seconds = at.now.saturating_duration_since(self.since).as_secs();
        info!(
            stream = %self.stream, peer = %self.peer, why, seconds, packets = sum(|c| c.packets), units = sum(|c| c.units),
            lost, late, malformed, wrong_type, wrong_source, "publishing ends"
        );
        self.sink.finish().await;
    }
}
