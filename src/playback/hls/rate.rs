//! Real bit rates and frame rates of a list of fragments.

use media::FragmentInfo;

use super::rendition::{Rendition, TrackSets};

/// Bits a second of a rendition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Rates {
    /// Of the heaviest run of segments of at least half a target duration: what BANDWIDTH means
    /// (draft-pantos-hls-rfc8216bis section 4.4.6.2).
    pub peak: u64,
    /// Of all of it.
    pub average: u64,
    /// Pictures a second, in thousandths, of all of it; 0 when there is no time to count in.
    pub frames_milli: u64,
}

/// The rates of `rendition` over `fragments`; none when it has no samples there.
pub(super) fn rates(
    fragments: &[FragmentInfo],
    sets: &TrackSets,
    rendition: Rendition,
    target_seconds: u32,
) -> Option<Rates> {
    let half_target_us = u64::from(target_seconds) * 500_000;
    let (mut bytes, mut micros, mut samples) = (0u64, 0u64, 0u64);
    let mut peak = 0;
    // The run that ends here, as short as it can be while it is at least half a target long.
    let mut run: std::collections::VecDeque<(u64, u64)> = std::collections::VecDeque::new();
    let (mut run_bytes, mut run_micros) = (0u64, 0u64);
    let mut met = false;
    for info in fragments {
        let Some(track) = sets.get(info.track_set).and_then(|set| rendition.track(set)) else { continue };
        let Some(part) = info.track(track.id) else { continue };
        met = true;
        let lasts = span_micros(part.first_dts, part.duration, track.timescale);
        bytes += u64::from(part.len);
        micros += lasts;
        samples += u64::from(part.samples);
        run.push_back((u64::from(part.len), lasts));
        run_bytes += u64::from(part.len);
        run_micros += lasts;
        while let Some((first_bytes, first_micros)) = run.front().copied() {
            if run_micros - first_micros < half_target_us {
                break;
            }
            run.pop_front();
            run_bytes -= first_bytes;
            run_micros -= first_micros;
        }
        if run_micros >= half_target_us {
            peak = peak.max(per_second(run_bytes * 8, run_micros));
        }
    }
    let average = per_second(bytes * 8, micros);
    met.then_some(Rates { peak: peak.max(average), average, frames_milli: per_second(samples * 1000, micros) })
}

/// Microseconds between two points of the stream's timeline, each rounded alone: spans that touch add up without
/// drift.
pub(super) fn span_micros(first: i64, duration: u64, timescale: media::Timescale) -> u64 {
    let end = first.saturating_add(i64::try_from(duration).unwrap_or(i64::MAX));
    let micros = timescale.to_micros(end).saturating_sub(timescale.to_micros(first));
    u64::try_from(micros).unwrap_or(0)
}

/// `count` in `micros`, per second, rounded up; 0 for no time.
fn per_second(count: u64, micros: u64) -> u64 {
    if micros == 0 {
        return 0;
    }
    u64::try_from((u128::from(count) * 1_000_000).div_ceil(u128::from(micros))).unwrap_or(u64::MAX)
}
