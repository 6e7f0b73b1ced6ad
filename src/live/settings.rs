//! The room's limits.

use std::time::Duration;

/// Limits of the live room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// A fragment is cut at the first random access point after this. Default 1 s.
    pub fragment_min: Duration,
    /// A fragment is cut here whatever comes. Default 10 s.
    pub fragment_max: Duration,
    /// Audio-only streams are cut here. Default 2 s.
    pub audio_fragment: Duration,
    /// Unpersisted bytes per stream before its publisher is held back. Default 64 MiB.
    pub unpersisted_bytes: u64,
    /// The same of all streams, shared evenly among those that are published. Default 1 GiB.
    pub unpersisted_bytes_total: u64,
    /// Persisted bytes per stream kept in memory for live readers. Default 8 MiB.
    pub tail_bytes: u64,
    /// The same of all streams, shared evenly among those that are published. Default 512 MiB.
    pub tail_bytes_total: u64,
    /// A block is sealed when nobody has published for this long. Default 20 s.
    pub idle_after: Duration,
    /// Whether metrics carry the stream's name. Default true.
    pub stream_labels: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            fragment_min: Duration::from_secs(1),
            fragment_max: Duration::from_secs(10),
            audio_fragment: Duration::from_secs(2),
            unpersisted_bytes: 64 << 20,
            unpersisted_bytes_total: 1 << 30,
            tail_bytes: 8 << 20,
            tail_bytes_total: 512 << 20,
            idle_after: Duration::from_secs(20),
            stream_labels: true,
        }
    }
}

impl Settings {
    /// What of them concerns the fragmenter.
    pub(super) fn fragmenter(&self) -> media::fragmenter::Settings {
        media::fragmenter::Settings {
            min: self.fragment_min,
            max: self.fragment_max,
            audio: self.audio_fragment,
            ..media::fragmenter::Settings::default()
        }
    }
}
