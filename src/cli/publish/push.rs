//! Pushing: one task per stream, all on one thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use store::{Clock, SystemClock};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::Target;
use super::clip::{Clip, FRAME};
use super::connection::{Connection, Lost, Transport};
use super::pace::Pace;
use super::report;

/// Time between sender reports.
const REPORT_PERIOD: Duration = Duration::from_secs(5);
/// A server that takes nothing for so long is gone.
const STALL: Duration = Duration::from_secs(15);
/// Output that waits; beyond it no more packets are made until the server reads.
const MAX_OUTPUT: usize = 1 << 20;
/// Handshakes at the same time.
const MAX_HANDSHAKES: usize = 32;
/// How long it is waited before a new connection: twice as long each time, until one has held for a while.
const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Packets that are sent over UDP without a pause, well within a receiver's usual buffer.
const UDP_BURST: usize = 32;

/// What is pushed, and how.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) clip: Arc<Clip>,
    /// How often; none for ever, with new connections when one is lost.
    pub(super) count: Option<u64>,
    pub(super) streams: u32,
    pub(super) udp: bool,
    pub(super) speed: f64,
}

/// What a stream has sent so far.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Access units by place of the track.
    pub(super) frames: Vec<AtomicU64>,
    /// Bytes of access units by place of the track.
    pub(super) bytes: Vec<AtomicU64>,
    /// Packets that the system did not take (UDP).
    pub(super) dropped: AtomicU64,
    /// Connections after the first.
    pub(super) reconnects: AtomicU64,
    /// The most that a unit was sent too late, in microseconds.
    pub(super) late_us_max: AtomicU64,
    /// The same since progress was last told.
    pub(super) late_us_recent: AtomicU64,
    /// It is past its handshake.
    pub(super) is_sending: AtomicBool,
}

struct Push {
    options: Options,
    target: Target,
    counters: Arc<Counters>,
    stop: watch::Receiver<bool>,
    handshakes: Arc<Semaphore>,
    /// Where in a group of pictures this stream's start lies, so that streams do not send key frames together.
    phase: Duration,
    epoch: Instant,
}

/// Pushes all streams to their ends, or until an interrupt.
pub(super) async fn all(options: &Options, target: &Target) -> Vec<report::StreamResult> {
    let (stop_now, stop) = watch::channel(false);
    let interrupts = tokio::spawn(async move {
        let mut asked = false;
        while tokio::signal::ctrl_c().await.is_ok() {
            if asked {
                std::process::exit(130);
            }
            asked = true;
            let _ = stop_now.send(true);
        }
        // Without signals there is nothing to wait for, but the channel must stay open.
        std::future::pending::<()>().await;
    });
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let group_us = options.clip.group_us.clamp(20_000, 2_000_000) as u64;
    let (epoch, mut running) = (Instant::now(), Vec::new());
    for number in 1..=options.streams {
        let one = || options.clip.tracks.iter().map(|_| AtomicU64::new(0)).collect();
        let counters = Arc::new(Counters { frames: one(), bytes: one(), ..Counters::default() });
        let phase = Duration::from_micros(group_us * u64::from(number - 1) / u64::from(options.streams));
        let push = Push {
            options: options.clone(),
            target: target.numbered(number, options.streams),
            counters: counters.clone(),
            stop: stop.clone(),
            handshakes: handshakes.clone(),
            phase: phase.div_f64(options.speed),
            epoch,
        };
        let uri = push.target.uri.clone();
        let task = async move { (push.run().await, epoch.elapsed()) };
        running.push((uri, counters, tokio::spawn(task)));
    }
    let counters = running.iter().map(|(_, counters, _)| counters.clone()).collect();
    let progress = tokio::spawn(report::progress(counters, epoch));
    let mut results = Vec::new();
    for (uri, counters, task) in running {
        let (lost, elapsed) = match task.await {
            Ok(ended) => ended,
            Err(error) => (Some(Lost::Broken(format!("stopped by a fault of ours: {error}"))), epoch.elapsed()),
        };
        results.push(report::StreamResult { uri, counters, lost, seconds: elapsed.as_secs_f64() });
    }
    progress.abort();
    interrupts.abort();
    results
}

enum End {
    /// The last round is sent.
    Done,
    Interrupted,
}

impl Push {
    /// Pushes the stream; what went wrong, if it ended by that.
    async fn run(mut self) -> Option<Lost> {
        let mut wait = WAIT_MIN;
        loop {
            let began = Instant::now();
            let result = self.session().await;
            let was_sending = self.counters.is_sending.swap(false, Ordering::Relaxed);
            let lost = match result {
                Ok(End::Done | End::Interrupted) => return None,
                Err(lost) => lost,
            };
            if lost.is_final() || self.options.count.is_some() {
                eprintln!("{}: {lost}", self.target.uri);
                return Some(lost);
            }
            if was_sending && began.elapsed() > WAIT_MAX {
                wait = WAIT_MIN;
            }
            let jitter = f64::from(random() % 1000) / 2000.0 + 0.75;
            let pause = wait.mul_f64(jitter);
            eprintln!("{}: {lost}; trying again in {:.1} s", self.target.uri, pause.as_secs_f64());
            tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => return None,
                () = sleep(pause) => {}
            }
            wait = (wait * 2).min(WAIT_MAX);
            self.counters.reconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn session(&mut self) -> Result<End, Lost> {
        let clip = self.options.clip.clone();
        let mut pace = Pace::new(&clip, self.options.count, random);
        let mut connection = {
            let _permit = self.handshakes.acquire().await.expect("the semaphore is never closed");
            tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => return Ok(End::Interrupted),
                connection = Connection::open(&self.target, &clip, &mut pace, self.options.udp) => connection?,
            }
        };
        let start = self.start();
        tokio::select! {
            _ = self.stop.wait_for(|stop| *stop) => {}
            () = sleep_until(start) => {}
        }
        self.counters.is_sending.store(true, Ordering::Relaxed);
        let end = self.send(&mut connection, &mut pace, start).await?;
        self.report(&mut connection, &pace, start, true);
        connection.close().await?;
        Ok(end)
    }

    /// The next instant at which this stream may start: the phase of its group.
    fn start(&self) -> Instant {
        let now = Instant::now();
        if self.options.streams == 1 {
            return now;
        }
        let group = (self.options.clip.group_us.clamp(20_000, 2_000_000) as f64 / self.options.speed) as u64;
        let passed = now.duration_since(self.epoch).as_micros() as u64;
        let phase = self.phase.as_micros() as u64;
        let rounds = passed.saturating_sub(phase).div_ceil(group.max(1));
        self.epoch + Duration::from_micros(phase + rounds * group)
    }

    async fn send(&mut self, connection: &mut Connection, pace: &mut Pace, start: Instant) -> Result<End, Lost> {
        let clip = self.options.clip.clone();
        let at = |media_us: i64| start + Duration::from_micros(media_us.max(0) as u64).div_f64(self.options.speed);
        let keep_alive_period = connection.keep_alive_period();
        let mut next_report = start;
        let mut next_keep_alive = start + keep_alive_period;
        let mut progress_at = start;
        let mut packets = Vec::new();
        loop {
            let now = Instant::now();
            if now >= next_report {
                self.report(connection, pace, start, false);
                next_report = now + REPORT_PERIOD;
            }
            if now >= next_keep_alive {
                connection.keep_alive();
                next_keep_alive = now + keep_alive_period;
            }
            let mut next_due = None;
            while let Some((unit, media_us)) = pace.peek(&clip) {
                let due = at(media_us);
                if due > now || connection.output.len() > MAX_OUTPUT {
                    next_due = Some(due);
                    break;
                }
                let late_us = now.duration_since(due).as_micros() as u64;
                self.counters.late_us_max.fetch_max(late_us, Ordering::Relaxed);
                self.counters.late_us_recent.fetch_max(late_us, Ordering::Relaxed);
                match &connection.transports[unit.track] {
                    Transport::Interleaved => pace.take(&clip, &mut connection.output),
                    Transport::Udp { rtp, .. } => {
                        packets.clear();
                        pace.take(&clip, &mut packets);
                        send_datagrams(rtp, &packets, &self.counters).await;
                    }
                }
                self.counters.frames[unit.track].fetch_add(1, Ordering::Relaxed);
                self.counters.bytes[unit.track].fetch_add(unit.len, Ordering::Relaxed);
            }
            if connection.flush()? || connection.output.is_empty() {
                progress_at = Instant::now();
            }
            let Some(due) = next_due else {
                // The last unit lasts, too: a file takes its own length.
                return self.finish(connection, &clip, start).await;
            };
            let full = connection.output.len() > MAX_OUTPUT;
            let mut wake = next_report.min(next_keep_alive);
            if !full {
                wake = wake.min(due);
            }
            if !connection.output.is_empty() {
                wake = wake.min(progress_at + STALL);
            }
            tokio::select! {
                biased;
                _ = self.stop.wait_for(|stop| *stop) => return Ok(End::Interrupted),
                ready = connection.ready() => {
                    ready?;
                    connection.listen()?;
                }
                () = sleep_until(wake) => {}
            }
            if !connection.output.is_empty() && progress_at.elapsed() >= STALL {
                return Err(Lost::Broken("the server stopped reading".to_owned()));
            }
        }
    }

    /// Waits for the end of the last round.
    async fn finish(&mut self, connection: &mut Connection, clip: &Clip, start: Instant) -> Result<End, Lost> {
        let rounds = self.options.count.unwrap_or(1);
        let length_us = clip.round_start(rounds, media::Timescale::MICROS).max(0) as u64;
        let end = start + Duration::from_micros(length_us).div_f64(self.options.speed);
        loop {
            connection.flush()?;
            tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => return Ok(End::Interrupted),
                () = sleep_until(end) => return Ok(End::Done),
                ready = connection.ready() => {
                    ready?;
                    connection.listen()?;
                }
            }
        }
    }

    /// Sends a sender report for each track.
    fn report(&self, connection: &mut Connection, pace: &Pace, start: Instant, ends: bool) {
        let elapsed = start.elapsed();
        let now = SystemClock.now();
        let media_us = elapsed.mul_f64(self.options.speed).as_micros() as i64;
        // At another speed than its own, media time and wall time agree only at the start: the report keeps the
        // media's own rate.
        let wall = now.plus_micros(media_us - elapsed.as_micros() as i64);
        for (at, transport) in connection.transports.iter().enumerate() {
            let bytes = pace.report(&self.options.clip, at, media_us, wall).write("kinora-publish", ends);
            match transport {
                Transport::Interleaved => {
                    connection.output.extend([b'$', pace.tracks[at].channel.wrapping_add(1)]);
                    connection.output.extend((bytes.len() as u16).to_be_bytes());
                    connection.output.extend(bytes);
                }
                // One that is lost is followed by another.
                Transport::Udp { rtcp, .. } => drop(rtcp.try_send(&bytes)),
            }
        }
    }
}

/// Sends the packets in the interleaved frames `packets` as datagrams, with a pause after each burst.
async fn send_datagrams(socket: &tokio::net::UdpSocket, packets: &[u8], counters: &Counters) {
    let (mut at, mut count) = (0, 0);
    while at < packets.len() {
        let end = at + FRAME + usize::from(u16::from_be_bytes([packets[at + 2], packets[at + 3]]));
        if socket.send(&packets[at + FRAME..end]).await.is_err() {
            counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
        at = end;
        count += 1;
        if count % UDP_BURST == 0 && at < packets.len() {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Numbers that only need to differ: without a source of randomness they are zero.
    let _ = getrandom::fill(&mut bytes);
    u32::from_le_bytes(bytes)
}
