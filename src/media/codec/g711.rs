//! ITU-T G.711: telephone sound, 8 kHz, one byte a sample.

use super::entry;
use crate::{Codec, Timescale, Track, TrackId};

/// Which of the two companding laws.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Law {
    /// PCMU.
    Mu,
    /// PCMA.
    A,
}

/// A mono track at 8 kHz. No player of HLS or MSE takes it, so it has no codec string.
pub fn track(id: TrackId, law: Law) -> Track {
    let (codec, kind) = match law {
        Law::Mu => (Codec::Pcmu, b"ulaw"),
        Law::A => (Codec::Pcma, b"alaw"),
    };
    Track {
        id,
        codec,
        timescale: Timescale::new(8000).expect("not zero"),
        sample_entry: entry::audio(kind, 1, 8000, &[]),
        codec_string: None,
        width: 0,
        height: 0,
        frame_rate_millis: None,
        reorder_depth: None,
        channels: 1,
    }
}
