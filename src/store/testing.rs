//! Fragments for tests: small, whole, each telling who it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::container::cmaf;
use media::{
    ClockSource, Codec, Epoch, Fragment, FragmentInfo, GapReason, Ordinal, Position, ProducerTime, Sequence,
    ServerTime, StartKind, StreamId, StreamName, Timescale, Track, TrackId, TrackSet, TrackSetId,
};
use uuid::Uuid;

use crate::{Settings, StreamIdentity};

/// Two G.711 tracks.
pub(crate) fn tracks() -> Arc<TrackSet> {
    let track = |id| Track {
        id: TrackId(id),
        codec: Codec::Pcmu,
        timescale: Timescale::new(8000).expect("not zero"),
        sample_entry: ulaw(),
        codec_string: None,
        width: 0,
        height: 0,
        frame_rate_millis: None,
        reorder_depth: None,
        channels: 1,
    };
    Arc::new(TrackSet::new(vec![track(1), track(2)]).expect("two tracks"))
}

fn ulaw() -> Bytes {
    let mut entry = vec![0, 0, 0, 36];
    entry.extend_from_slice(b"ulaw");
    entry.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
    entry.extend_from_slice(&[0; 8]);
    entry.extend_from_slice(&[0, 1, 0, 16, 0, 0, 0, 0]);
    entry.extend_from_slice(&(8000u32 << 16).to_be_bytes());
    entry.into()
}

/// Makes the fragments of one stream, one second each.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    pub epoch: u32,
    pub sequence: u64,
    pub ordinal: u64,
    pub discontinuities: u64,
    pub track_set: u32,
    /// Bytes of each track's payload.
    pub payload: usize,
    pub break_next: Option<GapReason>,
}

/// The wall time at which feeds start.
pub(crate) const START_US: i64 = 1_700_000_000_000_000;

/// After everything that is ever written.
pub(crate) const END: Position = Position { epoch: Epoch(u32::MAX), sequence: Sequence(u64::MAX) };

impl Feed {
    pub(crate) fn new(epoch: u32) -> Feed {
        Feed { epoch, sequence: 0, ordinal: 0, discontinuities: 0, track_set: 1, payload: 300, break_next: None }
    }

    pub(crate) fn next(&mut self) -> Fragment {
        self.sequence += 1;
        let ordinal = self.ordinal;
        self.ordinal += 1;
        let break_before = if ordinal == 0 { Some(GapReason::Started) } else { self.break_next.take() };
        self.discontinuities += u64::from(break_before.is_some() && ordinal > 0);
        let mut body = Vec::new();
        let dts = 80_000 + ordinal * 8000;
        let parts: Vec<_> = [1, 2]
            .into_iter()
            .map(|track| {
                let payload: Vec<u8> = (0..self.payload).map(|i| (i as u64 ^ ordinal ^ track) as u8).collect();
                let size = u32::try_from(payload.len()).expect("small");
                let entries = [cmaf::Entry { duration: 8000, offset: 0, size, sync: true }];
                let payloads = std::iter::once(payload.as_slice());
                let sequence = ordinal as u32 * 2 + track as u32;
                cmaf::append(&mut body, 0, TrackId(track as u32), sequence, dts, &entries, payloads).expect("small")
            })
            .collect();
        let time = START_US + ordinal as i64 * 1_000_000;
        let info = FragmentInfo {
            position: Position { epoch: Epoch(self.epoch), sequence: Sequence(self.sequence) },
            ordinal: Ordinal(ordinal),
            discontinuities: self.discontinuities,
            track_set: TrackSetId(self.track_set),
            start: StartKind::Closed,
            break_before,
            end_of_session: false,
            damaged: false,
            producer_time: ProducerTime::from_micros(time),
            clock_source: ClockSource::Arrival,
            clock_error_us: 1000,
            server_time: ServerTime::from_micros(time + 50_000),
            duration_us: 1_000_000,
            tracks: parts,
            body_len: u32::try_from(body.len()).expect("small"),
        };
        Fragment { info, tracks: tracks(), body: body.into() }
    }
}

pub(crate) fn stream(n: u128) -> StreamId {
    StreamId(Uuid::from_u128(n))
}

pub(crate) fn identity(n: u128) -> StreamIdentity {
    StreamIdentity {
        id: stream(n),
        name: StreamName::new(&format!("stream-{n}")).expect("a name"),
        created: ServerTime::from_micros(START_US),
    }
}

/// Small blocks, so that a short test sees many.
pub(crate) fn settings(root: &Path) -> Settings {
    Settings {
        rotate_after: Duration::from_secs(5),
        tick: Duration::from_millis(1),
        hard_free_permille: 0,
        soft_free_permille: 0,
        ..Settings::new(PathBuf::from(root))
    }
}

/// Waits for a future on this thread.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
