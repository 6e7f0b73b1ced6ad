//! What a push tells: progress while it runs, and a summary at its end.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::clip::Clip;
use super::connection::Lost;
use super::push::Counters;

/// How a stream ended.
pub(super) struct StreamResult {
    pub(super) uri: String,
    pub(super) counters: Arc<Counters>,
    pub(super) lost: Option<Lost>,
    pub(super) seconds: f64,
}

/// What was sent, over all streams and for each.
#[derive(Serialize)]
pub(super) struct Summary {
    seconds: f64,
    bytes: u64,
    failed: usize,
    streams: Vec<StreamSummary>,
}

#[derive(Serialize)]
struct StreamSummary {
    url: String,
    seconds: f64,
    tracks: Vec<TrackSummary>,
    reconnects: u64,
    packets_dropped: u64,
    late_ms_max: u64,
    error: Option<String>,
}

#[derive(Serialize)]
struct TrackSummary {
    codec: String,
    frames: u64,
    bytes: u64,
}

fn sum(counters: &[AtomicU64]) -> u64 {
    counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
}

impl Summary {
    pub(super) fn new(clip: &Clip, results: Vec<StreamResult>) -> Summary {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let track = |counters: &Counters, at: usize| TrackSummary {
            codec: format!("{:?}", clip.tracks[at].track.codec).to_ascii_lowercase(),
            frames: load(&counters.frames[at]),
            bytes: load(&counters.bytes[at]),
        };
        let stream = |result: &StreamResult| StreamSummary {
            url: result.uri.clone(),
            seconds: result.seconds,
            tracks: (0..clip.tracks.len()).map(|at| track(&result.counters, at)).collect(),
            reconnects: load(&result.counters.reconnects),
            packets_dropped: load(&result.counters.dropped),
            late_ms_max: load(&result.counters.late_us_max) / 1000,
            error: result.lost.as_ref().map(ToString::to_string),
        };
        Summary {
            seconds: results.iter().map(|result| result.seconds).fold(0.0, f64::max),
            bytes: results.iter().map(|result| sum(&result.counters.bytes)).sum(),
            failed: results.iter().filter(|result| result.lost.is_some()).count(),
            streams: results.iter().map(stream).collect(),
        }
    }

    pub(super) fn is_success(&self) -> bool {
        self.failed == 0
    }

    pub(super) fn print_json(&self) {
        println!("{}", serde_json::to_string(self).expect("numbers and texts are JSON"));
    }

    pub(super) fn print_text(&self) {
        for stream in &self.streams {
            let tracks: Vec<String> =
                stream.tracks.iter().map(|track| format!("{} {} frames", track.codec, track.frames)).collect();
            let error = stream.error.as_ref().map(|error| format!("; {error}")).unwrap_or_default();
            println!("{}: {} in {:.1} s{error}", stream.url, tracks.join(", "), stream.seconds);
        }
        println!("{} bytes in {:.1} s, {} of {} failed", self.bytes, self.seconds, self.failed, self.streams.len());
    }
}

/// Tells on standard error how it goes: every second on a terminal, every ten elsewhere.
pub(super) async fn progress(counters: Vec<Arc<Counters>>, epoch: Instant) {
    let on_terminal = std::io::stderr().is_terminal();
    let period = Duration::from_secs(if on_terminal { 1 } else { 10 });
    let mut before = 0;
    loop {
        sleep(period).await;
        let sending = counters.iter().filter(|one| one.is_sending.load(Ordering::Relaxed)).count();
        let frames: u64 = counters.iter().map(|one| sum(&one.frames)).sum();
        let bytes: u64 = counters.iter().map(|one| sum(&one.bytes)).sum();
        let late_ms =
            counters.iter().map(|one| one.late_us_recent.swap(0, Ordering::Relaxed)).max().unwrap_or(0) / 1000;
        let megabits = (bytes - before) as f64 * 8.0 / 1e6 / period.as_secs_f64();
        before = bytes;
        let line = format!(
            "{:.0} s: {sending} of {} streams sending, {frames} frames, {megabits:.1} Mbit/s, {late_ms} ms late at most",
            epoch.elapsed().as_secs_f64(),
            counters.len()
        );
        if on_terminal { eprint!("\r\x1b[K{line}") } else { eprintln!("{line}") }
    }
}
