//! The life of a transcode: a process is started, given units, watched, and replaced once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use media::codec::{h264, nal, opus};
use media::time::rescale;
use media::transcoding::{Made, OPUS_PACKET_SAMPLES, Reply, Request, Setup, Unit};
use media::{AccessUnit, RandomAccess, ServerTime, Timescale, Track, TrackId};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::inlet::Next;
use super::line::Line;
use super::{Shared, Target, TranscodeError, TranscodeSettings};
use crate::workers::meters::TranscodeMeters;
use crate::workers::program::{Broken, START_MAX};

/// Units that a process may have at a time: one that it works on, and the next.
const IN_FLIGHT_MAX: usize = 3;
/// Wishes for key frames within this are one.
const KEY_WISHES: Duration = Duration::from_millis(500);
/// A process that has worked for so long is forgiven: the one that replaces it may fail again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(300);
/// A process is weighed each time it has worked on so many units.
const WEIGHED_EACH: u64 = 500;
/// What comes out belongs to what went in within this, in seconds.
const AWAY_MAX: i64 = 600;

/// A transcode.
pub(super) struct Run {
    settings: TranscodeSettings,
    setup: Setup,
    id: TrackId,
    target: Target,
    shared: Arc<Shared>,
    units: mpsc::Sender<Result<Arc<AccessUnit>, TranscodeError>>,
    track: watch::Sender<Option<Track>>,
    meters: Arc<TranscodeMeters>,
    /// Time of the unit that was given last, in ticks of what comes out, and when it came to us.
    newest: (i64, ServerTime),
    /// Somebody wants a key frame.
    wants_key: bool,
    asked_for_key: Option<Instant>,
}

/// What a transcode waits for.
enum Wake {
    Reply(Result<Reply, Broken>),
    /// A unit may be there.
    Input,
    /// The process did nothing for too long.
    Late,
    /// Nobody takes units any more.
    Left,
}

/// How far a process is.
struct Work {
    line: Line,
    /// Units that it was given and has not answered.
    in_flight: usize,
    /// Units that it has worked on.
    took: u64,
    /// It has been told that there are no more.
    told_end: bool,
    /// It did something, or was given something when it had nothing.
    moved: Instant,
}

/// How a process ended.
enum Outcome {
    /// With everything done.
    Done,
    /// It is of no more use.
    Broken(Broken),
    /// It says that it cannot.
    Refused(TranscodeError),
    Left,
}

impl Run {
    pub fn new(
        settings: TranscodeSettings,
        setup: Setup,
        (id, target): (TrackId, Target),
        shared: Arc<Shared>,
        units: mpsc::Sender<Result<Arc<AccessUnit>, TranscodeError>>,
        track: watch::Sender<Option<Track>>,
        meters: Arc<TranscodeMeters>,
    ) -> Run {
        let newest = (0, ServerTime::default());
        Run { settings, setup, id, target, shared, units, track, meters, newest, wants_key: false, asked_for_key: None }
    }

    /// Works until there is nothing more to do, and says why it ended when it must.
    pub async fn run(mut self) {
        self.meters.running.increment(1.0);
        let mut was_replaced = false;
        loop {
            let since = Instant::now();
            let broken = match self.with_process().await {
                Outcome::Done | Outcome::Left => break,
                Outcome::Refused(error) => {
                    tracing::warn!(%error, target = ?self.target, "a track cannot be transcoded");
                    let _ = self.units.send(Err(error)).await;
                    break;
                }
                Outcome::Broken(broken) => broken,
            };
            was_replaced &= since.elapsed() < FORGIVEN_AFTER;
            self.meters.failures.increment(1);
            let error = match broken {
                Broken::NoProgram(text) => TranscodeError::NoProgram(text),
                Broken::Died(why) if was_replaced => TranscodeError::Died(why),
                Broken::Died(why) => {
                    tracing::warn!(why, target = ?self.target, "a process that transcodes failed and is replaced");
                    was_replaced = true;
                    let left_out = self.shared.lock().begin_anew();
                    self.meters.left_out.increment(left_out);
                    continue;
                }
            };
            tracing::warn!(%error, target = ?self.target, "a transcode ends");
            let _ = self.units.send(Err(error)).await;
            break;
        }
        self.meters.running.decrement(1.0);
    }

    /// The life of one process.
    async fn with_process(&mut self) -> Outcome {
        let units = self.units.clone();
        let line = tokio::select! {
            () = units.closed() => return Outcome::Left,
            line = self.begin() => line,
        };
        let mut work = match line {
            Ok(Ok(line)) => {
                self.shared.pid.store(line.pid(), Ordering::Relaxed);
                Work { line, in_flight: 0, took: 0, told_end: false, moved: Instant::now() }
            }
            Ok(Err(refused)) => return Outcome::Refused(refused),
            Err(broken) => return Outcome::Broken(broken),
        };
        loop {
            self.give(&mut work);
            let wake = self.select(&mut work).await;
            match self.apply(&mut work, wake) {
                Ok(None) => {}
                // There is room: nothing was read before there was.
                Ok(Some(unit)) => {
                    if self.units.try_send(Ok(unit)).is_err() {
                        return Outcome::Left;
                    }
                }
                Err(outcome) => {
                    // What it was given and did not answer is lost with it.
                    self.meters.left_out.increment(work.in_flight as u64);
                    return outcome;
                }
            }
        }
    }

    /// Starts a process and its work.
    async fn begin(&self) -> Result<Result<Line, TranscodeError>, Broken> {
        let mut line = Line::open(&self.settings).await?;
        line.say(&Request::Start(self.setup.clone()));
        for expected in [Reply::Ready, Reply::Started] {
            let reply = timeout(START_MAX, line.next()).await;
            match reply.map_err(|_| Broken::Died("it took too long to start"))?? {
                Reply::Failed { kind, text } => return Ok(Err(TranscodeError::Refused { kind, text })),
                reply if reply == expected => {}
                _ => return Err(Broken::Died("it does not keep to the messages")),
            }
        }
        Ok(Ok(line))
    }

    /// Gives the process what it may have.
    fn give(&mut self, work: &mut Work) {
        while work.in_flight < IN_FLIGHT_MAX && !work.told_end {
            let mut inlet = self.shared.lock();
            self.wants_key |= inlet.take_key_wish();
            let next = inlet.next();
            drop(inlet);
            self.shared.room.notify_one();
            if work.in_flight == 0 && next.is_some() {
                work.moved = Instant::now();
            }
            match next {
                None => return,
                Some(Next::End) => {
                    work.line.say(&Request::End);
                    work.told_end = true;
                }
                Some(Next::Unit { unit, after_gap }) => {
                    if self.wants_key && self.asked_for_key.is_none_or(|asked| asked.elapsed() >= KEY_WISHES) {
                        work.line.say(&Request::KeyFrame);
                        (self.wants_key, self.asked_for_key) = (false, Some(Instant::now()));
                    }
                    let (from, to) = self.timescales();
                    self.newest = (rescale(unit.pts, from, to), unit.arrival);
                    let data = unit.data.to_vec();
                    work.line.say(&Request::Unit(Unit { pts: unit.pts, after_gap, data }));
                    work.in_flight += 1;
                }
            }
        }
    }

    /// Ticks of what goes in, and of what comes out.
    fn timescales(&self) -> (Timescale, Timescale) {
        let of = |hz: u32| Timescale::new(hz).unwrap_or(Timescale::VIDEO);
        match &self.setup {
            Setup::Sound { timescale, .. } => (of(*timescale), of(opus::CLOCK)),
            Setup::Pictures { timescale, .. } => (of(*timescale), of(*timescale)),
        }
    }

    async fn select(&self, work: &mut Work) -> Wake {
        let has_room = work.in_flight < IN_FLIGHT_MAX && !work.told_end;
        let reply = async {
            // Nothing is read before there is room for it: a process that nobody reads waits, and units wait before it.
            if self.units.capacity() == 0 {
                match self.units.reserve().await {
                    Ok(permit) => drop(permit),
                    Err(_) => return Wake::Left,
                }
                work.moved = Instant::now();
            }
            let owes = work.in_flight > 0 || work.told_end;
            let late = work.moved + self.settings.patience;
            tokio::select! {
                reply = work.line.next() => Wake::Reply(reply),
                () = sleep_until(late), if owes => Wake::Late,
            }
        };
        tokio::select! {
            wake = reply => wake,
            () = self.units.closed() => Wake::Left,
            () = self.shared.wake.notified(), if has_room => Wake::Input,
        }
    }

    fn apply(&mut self, work: &mut Work, wake: Wake) -> Result<Option<Arc<AccessUnit>>, Outcome> {
        let reply = match wake {
            Wake::Input => return Ok(None),
            Wake::Left => return Err(Outcome::Left),
            Wake::Late => return Err(Outcome::Broken(Broken::Died("it hangs"))),
            Wake::Reply(reply) => reply.map_err(Outcome::Broken)?,
        };
        let broken = |why| Err(Outcome::Broken(Broken::Died(why)));
        work.moved = Instant::now();
        match reply {
            Reply::Made(made) => match self.unit(made) {
                Some(unit) => Ok(Some(unit)),
                None => broken("it made what cannot be"),
            },
            Reply::Took if work.in_flight > 0 => {
                work.in_flight -= 1;
                work.took += 1;
                match work.took.is_multiple_of(WEIGHED_EACH) && work.line.is_bloated() {
                    true => broken("it holds too much memory"),
                    false => Ok(None),
                }
            }
            Reply::Ended if work.told_end => Err(Outcome::Done),
            Reply::Failed { kind, text } => Err(Outcome::Refused(TranscodeError::Refused { kind, text })),
            Reply::Ready | Reply::Started | Reply::Took | Reply::Ended => broken("it does not keep to the messages"),
        }
    }

    /// A unit that was made; none when it cannot be of what went in.
    fn unit(&mut self, made: Made) -> Option<Arc<AccessUnit>> {
        let (newest, arrival) = self.newest;
        let away = i64::from(self.timescales().1.hz()) * AWAY_MAX;
        if made.pts.abs_diff(newest) > away.unsigned_abs() {
            return None;
        }
        let (data, random_access, duration) = match self.target {
            Target::Opus => {
                let samples = opus::packet_samples(&made.data).filter(|samples| *samples == OPUS_PACKET_SAMPLES)?;
                (Bytes::from(made.data), RandomAccess::Closed, Some(samples))
            }
            Target::H264 => {
                let classified = h264::classify(nal::annex_b(&made.data));
                if !classified.has_picture {
                    return None;
                }
                if let Some(sps) = classified.sps.first() {
                    let track = h264::track(self.id, sps, &classified.pps).ok()?;
                    self.track.send_if_modified(|known| {
                        let is_new = known.as_ref() != Some(&track);
                        *known = Some(track);
                        is_new
                    });
                }
                (nal::annex_b_to_length_prefixed(&made.data), classified.random_access, None)
            }
        };
        self.meters.units.increment(1);
        Some(Arc::new(AccessUnit {
            track: self.id,
            pts: made.pts,
            duration,
            random_access,
            disposable: false,
            loss_before: 0,
            arrival,
            data,
        }))
    }
}
