//! Silence as it is coded: what a track of sound holds where nothing was recorded.
//!
//! Here: units of which any number can follow each other, and any unit of the track, and that every decoder turns into zeros. Not
//! here: how many a pause takes (`playback::clip`).
//!
//! For AAC other than LC there are none: with SBR and PS a unit without their data is allowed, and nobody was seen to play it
//! in the middle of a track; the error resilient and low delay kinds have another syntax.

use bytes::Bytes;

use super::{aac, opus};
use crate::{Codec, Track};

/// Opus: one CELT frame of 20 ms with its silence flag set (RFC 6716 sections 3.1 and 4.3), which every decoder takes after any
/// other packet, and turns into as many channels as it has.
const OPUS: &[u8] = &[0xf8, 0xff, 0xfe];
const OPUS_TICKS: u32 = 960;
/// G.711: 20 ms of the code for zero.
const PCMU: &[u8] = &[0xff; 160];
const PCMA: &[u8] = &[0xd5; 160];

/// A coded unit of silence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Silence {
    /// Its bytes.
    pub payload: Bytes,
    /// How long it is, in ticks of the track.
    pub ticks: u32,
    /// Each tick is a byte of its own: any part of it is a unit too.
    pub divisible: bool,
}

impl Silence {
    /// A unit of silence of this track; none when it is not known how that is coded.
    pub fn of(track: &Track) -> Option<Silence> {
        let hz = track.timescale.hz();
        let unit = |payload: &'static [u8], ticks, divisible| Silence {
            payload: Bytes::from_static(payload),
            ticks,
            divisible,
        };
        match track.codec {
            Codec::Aac => {
                let description = aac::config_of_entry(&track.sample_entry).ok()?;
                let config = aac::Config::parse(description).ok().filter(|config| config.sample_rate == hz)?;
                let payload = aac::silence(description)?.into();
                Some(Silence { payload, ticks: config.frame_samples, divisible: false })
            }
            Codec::Opus if hz == opus::CLOCK && track.channels <= 2 => Some(unit(OPUS, OPUS_TICKS, false)),
            Codec::Pcmu if hz == 8_000 => Some(unit(PCMU, 160, true)),
            Codec::Pcma if hz == 8_000 => Some(unit(PCMA, 160, true)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrackId;
    use crate::codec::{g711, h264};

    #[track_caller]
    fn check(config: &[u8], payload: &str, ticks: u32) {
        let track = aac::track(TrackId(2), config).expect("a configuration");
        let silence = Silence::of(&track).expect("AAC-LC");
        let hex: String = silence.payload.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((hex.as_str(), silence.ticks), (payload, ticks));
    }

    // What FFmpeg makes of these is heard in `tests/it/clip_sound.rs`.
    #[test]
    fn aac_lc_has_silence_for_up_to_six_channels() {
        check(&[0x11, 0x88], "00000007", 1024);
        check(&[0x11, 0x8c], "00000007", 960);
        check(&[0x11, 0x90], "21000000001c", 1024);
        check(&[0x11, 0x98], "000000010800000000e0", 1024);
        check(&[0x11, 0xa0], "00000001080000000002000007", 1024);
        check(&[0x11, 0xa8], "00000001080000000023000000001c", 1024);
        check(&[0x11, 0xb0], "00000001080000000023000000000c000000e0", 1024);
    }

    #[test]
    fn nothing_is_made_up_for_other_kinds() {
        // SBR, in both ways to say so; PS; the error resilient kind.
        for config in [&[0x2b, 0x11, 0x88, 0x00][..], &[0x13, 0x10, 0x56, 0xe5, 0x98], &[0xeb, 0x09, 0x88, 0x00]] {
            let track = aac::track(TrackId(2), config).expect("a configuration");
            assert_eq!(Silence::of(&track), None, "{config:02x?}");
        }
        let sps = [
            0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x50, 0x87, 0x88, 0x88, 0xc0, 0x44, 0x00, 0x00, 0x0f, 0xa4, 0x00,
            0x03, 0xa9, 0x80, 0x3c, 0x50, 0xa6, 0x58,
        ];
        let pictures = h264::track(TrackId(1), &sps, &[&[0x68, 0xea, 0xe3, 0xcb, 0x22, 0xc0]]).expect("real sets");
        assert_eq!(Silence::of(&pictures), None);
    }

    #[test]
    fn opus_and_g711_have_20_ms_of_it() {
        let opus = opus::track(TrackId(2), 2).expect("stereo");
        let silence = Silence::of(&opus).expect("Opus");
        assert_eq!(opus::packet_samples(&silence.payload), Some(silence.ticks));
        for (law, zero) in [(g711::Law::Mu, 0xff), (g711::Law::A, 0xd5)] {
            let silence = Silence::of(&g711::track(TrackId(2), law)).expect("G.711");
            assert_eq!((&silence.payload[..], silence.ticks, silence.divisible), (&[zero; 160][..], 160, true));
        }
    }
}
