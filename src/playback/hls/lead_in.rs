//! The first segment of a run, so that a player can put it right behind the run before.
//!
//! Pictures that are shown out of order are decoded earlier than shown, by a delay that is the same for a whole
//! run. A player that maps times at a discontinuity puts the first *decode* time where the last picture before
//! ended (hls.js does), and so would wait for the length of the delay with nothing to show. Here the first pictures
//! are decoded in a burst, no earlier than the first of them is shown: the delay is gone, every presentation time
//! and every payload byte stays.

use media::container::cmaf::{self, Entry, Sample};
use media::{Timescale, TrackId};

/// The segment with its first decode times moved as late as they can be; none when it needs none, or is not ours.
pub(super) fn without_delay(segment: &[u8], track: TrackId) -> Option<Vec<u8>> {
    let samples = cmaf::part_samples(segment).ok()?;
    let dts = late_start(&samples)?;
    let end = samples.last().map(|last| last.dts + i64::from(last.duration))?;
    let ends = dts.iter().skip(1).copied().chain([end]);
    let entries = samples.iter().zip(&dts).zip(ends).map(|((sample, dts), end)| {
        Some(Entry {
            duration: u32::try_from(end - dts).ok()?,
            offset: u32::try_from(sample.pts - dts).ok()?,
            size: u32::try_from(sample.range.len()).ok()?,
            sync: sample.sync,
        })
    });
    let entries = entries.collect::<Option<Vec<_>>>()?;
    // moof, mfhd: its sequence number follows a version (ISO/IEC 14496-12 section 8.8.5).
    let number = u32::from_be_bytes(segment.get(20..24)?.try_into().ok()?);
    let mut out = Vec::with_capacity(segment.len() + entries.len() * 4);
    let payloads = samples.iter().map(|sample| &segment[sample.range.clone()]);
    let first = u64::try_from(*dts.first()?).ok()?;
    cmaf::append(&mut out, 0, track, number, first, &entries, payloads).ok()?;
    Some(out)
}

/// New decode times: as they are, but for the first ones, which are spread evenly from the latest start on.
fn late_start(samples: &[Sample]) -> Option<Vec<i64>> {
    let mut latest = samples.iter().map(|sample| sample.pts).collect::<Vec<_>>();
    for at in (1..latest.len()).rev() {
        latest[at - 1] = latest[at - 1].min(latest[at] - 1);
    }
    let start = *latest.first()?;
    if start <= samples.first()?.dts {
        return None;
    }
    let burst = samples.iter().position(|sample| sample.dts > start)?;
    let until = samples.get(burst)?.dts - start;
    let spread = (0..burst).map(|at| start + until * at as i64 / burst as i64);
    let wanted = spread.chain(samples.iter().skip(burst).map(|sample| sample.dts));
    let dts = wanted.zip(&latest).map(|(wanted, latest)| wanted.min(*latest)).collect::<Vec<_>>();
    dts.windows(2).all(|pair| pair[0] < pair[1]).then_some(dts)
}

/// Whether pictures of a run that starts with these times are decoded noticeably earlier than shown.
pub(super) fn is_needed(first_pts: i64, first_dts: i64, timescale: Timescale) -> bool {
    timescale.to_micros(first_pts.saturating_sub(first_dts)) > NO_DELAY_US
}

/// A delay of a rounding's size is none.
const NO_DELAY_US: i64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures of 40 ms in 90 kHz, with these presentation times in pictures, decoded `delay` pictures early.
    fn segment(pts: &[i64], delay: i64) -> Vec<u8> {
        let entries = pts.iter().enumerate().map(|(at, pts)| Entry {
            duration: 3600,
            offset: u32::try_from((pts - at as i64 + delay) * 3600).expect("decoded before shown"),
            size: at as u32 + 1,
            sync: at == 0,
        });
        let entries = entries.collect::<Vec<_>>();
        let payloads = (0..pts.len()).map(|at| vec![at as u8; at + 1]).collect::<Vec<_>>();
        let mut out = Vec::new();
        cmaf::append(&mut out, 0, TrackId(1), 9, 900_000, &entries, payloads.iter().map(|payload| &payload[..]))
            .expect("small");
        out
    }

    const PYRAMID: [i64; 9] = [0, 4, 2, 1, 3, 8, 6, 5, 7];

    #[test]
    fn first_picture_is_decoded_when_it_is_shown_and_all_are_shown_as_before() {
        let stored = segment(&PYRAMID, 2);
        let served = without_delay(&stored, TrackId(1)).expect("has a delay");
        let (before, after) = (cmaf::part_samples(&stored).expect("ours"), cmaf::part_samples(&served).expect("ours"));
        assert_eq!(after[0].dts, after[0].pts);
        assert!(after.windows(2).all(|pair| pair[0].dts < pair[1].dts));
        for (before, after) in before.iter().zip(&after) {
            assert_eq!((before.pts, before.sync), (after.pts, after.sync));
            assert!(after.dts <= after.pts);
            assert_eq!(stored[before.range.clone()], served[after.range.clone()]);
        }
        // What follows it is decoded as before.
        assert_eq!(before[8].dts, after[8].dts);
        assert_eq!(before[8].duration, after[8].duration);
        assert_eq!(served[20..24], 9_u32.to_be_bytes());
    }

    #[test]
    fn pictures_in_order_and_strange_bytes_stay_as_stored() {
        assert_eq!(without_delay(&segment(&[0, 1, 2, 3], 0), TrackId(1)), None);
        assert_eq!(without_delay(&segment(&[0], 2), TrackId(1)), None, "nothing after it shows where to go on");
        let stored = segment(&PYRAMID, 2);
        for end in 0..stored.len() {
            assert_eq!(without_delay(&stored[..end], TrackId(1)), None);
        }
    }
}
