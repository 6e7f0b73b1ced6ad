//! Decode times from presentation times.
//!
//! RTP says when a picture is shown and in which order pictures are decoded, not when. The decode times
//! given here are the presentation times sorted, given out in decode order, moved earlier by a delay that
//! is constant for the track set. So decode times rise, no picture is shown before it is decoded, and what
//! the sender said about presentation is kept to the tick.
//!
//! Where pictures are missing (lost, or never made by an encoder that skips), sorted times run ahead of the
//! pictures that are there. Those are decoded as late as they can be, ticks apart if need be: a missing
//! picture is no reason to break the stream.

/// Times of one sample on the stream's timeline, in ticks of its track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Timed {
    pub dts: i64,
    pub pts: i64,
}

/// The first decode time that was promised is too late for these pictures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct StartTooLate;

/// Gives pictures their decode times.
///
/// `pts` are in decode order. `start`, when given, is the first decode time, already promised by the
/// duration of the sample before it; a picture that would be shown up to `slack` ticks before that is shown
/// that much later.
pub(super) fn picture_times(
    pts: &[i64],
    delay: i64,
    start: Option<i64>,
    slack: i64,
    sorted: &mut Vec<i64>,
    out: &mut Vec<Timed>,
) -> Result<(), StartTooLate> {
    sorted.clear();
    sorted.extend_from_slice(pts);
    sorted.sort_unstable();
    out.clear();
    // First, the latest decode time of each that leaves a tick for each one after it.
    out.extend(pts.iter().map(|pts| Timed { dts: *pts, pts: *pts }));
    for at in (1..out.len()).rev() {
        out[at - 1].dts = out[at - 1].dts.min(out[at].dts - 1);
    }
    let latest = out.first().map_or(i64::MAX, |first| first.dts);
    if start.is_some_and(|start| start.saturating_sub(slack) > latest) {
        return Err(StartTooLate);
    }
    let mut before: Option<i64> = None;
    for (timed, from_low) in out.iter_mut().zip(sorted.iter()) {
        let dts = match (before, start) {
            (None, Some(start)) => start,
            (None, None) => (from_low - delay).min(timed.dts),
            (Some(before), _) => (from_low - delay).min(timed.dts).max(before + 1),
        };
        *timed = Timed { dts, pts: timed.pts.max(dts) };
        before = Some(dts);
    }
    Ok(())
}

/// How many pictures at most are decoded before a picture and shown after it: missing pictures never add.
pub(super) fn reorder_depth(pts: &[i64]) -> u32 {
    let depth_at =
        |at: usize| pts[at.saturating_sub(DEPTH_WINDOW)..at].iter().filter(|before| **before > pts[at]).count();
    (0..pts.len()).map(depth_at).max().unwrap_or(0) as u32
}

/// Codecs allow 16 pictures between.
const DEPTH_WINDOW: usize = 32;

/// The smallest delay with which pictures of these presentation times, in decode order, are never late.
pub(super) fn delay_needed(pts: &[i64], sorted: &mut Vec<i64>) -> i64 {
    sorted.clear();
    sorted.extend_from_slice(pts);
    sorted.sort_unstable();
    sorted.iter().zip(pts).map(|(from_low, shown)| from_low - shown).max().unwrap_or(0).max(0)
}

/// The middle one of the steps between sorted presentation times; none for fewer than two different times.
pub(super) fn median_step(sorted: &[i64], steps: &mut Vec<i64>) -> Option<i64> {
    steps.clear();
    steps.extend(sorted.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > 0));
    steps.sort_unstable();
    steps.get(steps.len() / 2).copied()
}

/// Gives sound its decode times, which are its presentation times.
///
/// `wanted` are those of the track's clock; `floor` is where the samples before end. Sound that must move
/// back, after its track was found to be late, closes up by one hundredth of its length and never overlaps.
pub(super) fn sound_times(wanted: impl Iterator<Item = i64>, floor: Option<i64>, out: &mut Vec<Timed>) {
    out.clear();
    let mut before: Option<(i64, i64)> = None;
    for wanted in wanted {
        let earliest = match before {
            None => floor.unwrap_or(wanted),
            Some((dts, was_wanted)) => {
                let step = (wanted - was_wanted).max(0);
                let behind = dts > was_wanted;
                dts + if behind { (step - step.div_euclid(100)).max(1) } else { 1 }
            }
        };
        let dts = wanted.max(earliest);
        out.push(Timed { dts, pts: dts });
        before = Some((dts, wanted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pts: &[i64], delay: i64, start: Option<i64>, dts: &[i64]) {
        let mut out = Vec::new();
        picture_times(pts, delay, start, 16, &mut Vec::new(), &mut out).expect("the start is early enough");
        assert_eq!(out.iter().map(|timed| timed.dts).collect::<Vec<_>>(), dts);
        assert_eq!(out.iter().map(|timed| timed.pts).collect::<Vec<_>>(), pts);
    }

    #[test]
    fn pictures_in_order_are_decoded_when_shown() {
        check(&[1000, 4000, 7000], 0, None, &[1000, 4000, 7000]);
    }

    #[test]
    fn pyramid_of_b_pictures_is_decoded_two_pictures_early() {
        // I P b B b, shown I b B b P.
        check(&[0, 12_000, 6_000, 3_000, 9_000], 6_000, None, &[-6_000, -3_000, 0, 3_000, 6_000]);
        assert_eq!(delay_needed(&[0, 12_000, 6_000, 3_000, 9_000], &mut Vec::new()), 6_000);
    }

    #[test]
    fn first_decode_time_stays_as_promised() {
        check(&[9_000, 3_000, 6_000], 6_000, Some(-3_100), &[-3_100, 0, 3_000]);
    }

    #[test]
    fn missing_picture_squeezes_the_next_ones_and_breaks_nothing() {
        // I P B b, and the b that is shown at 9,000 is lost.
        check(&[0, 12_000, 6_000, 3_000], 6_000, None, &[-6_000, -3_000, 0, 3_000]);
        check(&[0, 12_000, 6_000, 3_000, 15_000], 6_000, Some(-6_000), &[-6_000, -3_000, 0, 3_000, 9_000]);
        check(&[0, 9_000, 3_000], 0, None, &[0, 2_999, 3_000]);
        assert_eq!(reorder_depth(&[0, 12_000, 6_000, 3_000]), 2);
        assert_eq!(reorder_depth(&[0, 12_000, 6_000, 3_000, 9_000]), 2);
    }

    #[test]
    fn promised_start_that_is_too_late_is_refused() {
        let result = picture_times(&[3_000, 6_000], 0, Some(3_500), 16, &mut Vec::new(), &mut Vec::new());
        assert_eq!(result, Err(StartTooLate));
    }

    #[test]
    fn same_time_twice_keeps_both_times_where_it_can() {
        check(&[0, 0, 3_000], 0, None, &[-1, 0, 3_000]);
        let mut out = Vec::new();
        picture_times(&[0, 0, 3_000], 0, Some(0), 16, &mut Vec::new(), &mut out).expect("a tick is slack");
        assert_eq!(out[1], Timed { dts: 1, pts: 1 });
        assert_eq!(out[2], Timed { dts: 3_000, pts: 3_000 });
    }

    #[test]
    fn sound_that_must_move_back_closes_up_by_one_percent() {
        let mut out = Vec::new();
        sound_times((0..200).map(|n| n * 1000), Some(1_000), &mut out);
        assert_eq!(out[0].dts, 1_000);
        assert_eq!(out[1].dts, 1_990);
        assert_eq!(out[100].dts, 100_000);
        assert_eq!(out[199].dts, 199_000);
        assert!(out.windows(2).all(|pair| pair[0].dts < pair[1].dts));
    }

    #[test]
    fn a_hole_in_sound_stays_a_hole() {
        let mut out = Vec::new();
        sound_times([0, 1_000, 5_000].into_iter(), None, &mut out);
        assert_eq!(out.iter().map(|timed| timed.dts).collect::<Vec<_>>(), [0, 1_000, 5_000]);
    }
}
