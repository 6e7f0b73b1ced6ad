use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::container::cmaf;
use crate::{ClockSource, Codec, Epoch, Ordinal, StartKind, Timescale, Track};

const V: TrackId = TrackId(1);
const A: TrackId = TrackId(2);
/// Wall time at which tests begin, in microseconds.
const NOW: i64 = 1_700_000_000_000_000;
const FRAME: i64 = 3_000;

fn track(id: TrackId, codec: Codec, hz: u32, mark: u8) -> Track {
    let mut entry = vec![0u8; 90];
    entry[3] = 90;
    entry[4..8].copy_from_slice(if codec.is_video() { b"avc1" } else { b"mp4a" });
    entry[89] = mark;
    let timescale = Timescale::new(hz).expect("not zero");
    crate::codec::track_from_sample_entry(id, timescale, entry.into()).unwrap_or(Track {
        id,
        codec,
        timescale,
        sample_entry: Bytes::new(),
        codec_string: None,
        width: 0,
        height: 0,
        frame_rate_millis: None,
        reorder_depth: None,
        channels: 0,
    })
}

fn pictures() -> Track {
    Track { codec: Codec::H264, ..track(V, Codec::H264, 90_000, 0) }
}

fn sound() -> Track {
    Track { codec: Codec::Aac, ..track(A, Codec::Aac, 48_000, 0) }
}

fn set(tracks: &[Track]) -> TrackSet {
    TrackSet::new(tracks.to_vec()).expect("a good set")
}

fn fragmenter(tracks: &[Track]) -> Fragmenter {
    let mut fragmenter = Fragmenter::new(Settings::default(), ClockPolicy::Auto, Continuation::new_stream(Epoch(3)));
    assert!(fragmenter.set_tracks(set(tracks)).is_empty());
    fragmenter
}

fn unit(track: TrackId, pts: i64, arrival_us: i64, random_access: RandomAccess) -> AccessUnit {
    AccessUnit {
        track,
        pts,
        duration: (track == A).then_some(1024),
        random_access,
        disposable: false,
        loss_before: 0,
        arrival: ServerTime::from_micros(NOW + arrival_us),
        data: Bytes::from(format!("{}:{pts}", track.0)),
    }
}

/// Pictures of 30 a second with a closed start every `gop`, shown in the order given by `pattern` (offsets from
/// the decode order, in pictures), arriving in time.
fn picture(n: i64, gop: i64, pattern: &[i64]) -> AccessUnit {
    let place = n % gop;
    let shift = if place == 0 { 0 } else { pattern[((place - 1) as usize) % pattern.len()] };
    let access = if place == 0 { RandomAccess::Closed } else { RandomAccess::No };
    unit(V, (n + shift) * FRAME, n * 1_000_000 / 30, access)
}

fn frame_of_sound(n: i64) -> AccessUnit {
    unit(A, n * 1024, n * 1024 * 1_000_000 / 48_000, RandomAccess::Closed)
}

/// All units in order of arrival, sound of the same instant after pictures.
fn merged(mut units: Vec<AccessUnit>) -> Vec<AccessUnit> {
    units.sort_by_key(|unit| (unit.arrival, unit.track));
    units
}

fn push_all(fragmenter: &mut Fragmenter, units: impl IntoIterator<Item = AccessUnit>) -> Vec<Fragment> {
    units.into_iter().flat_map(|unit| fragmenter.push(unit).closed).collect()
}

/// One sample read back: fragment's ordinal, presentation time, bytes.
type Read = (u64, i64, Vec<u8>);

/// Checks what holds for any stream, and gives each track's samples.
fn check_stream(fragments: &[Fragment]) -> [Vec<Read>; 2] {
    let mut read = [Vec::new(), Vec::new()];
    for (at, fragment) in fragments.iter().enumerate() {
        let info = &fragment.info;
        let before = at.checked_sub(1).map(|at| &fragments[at].info);
        assert_eq!(info.body_len as usize, fragment.body.len());
        assert!(!info.tracks.is_empty());
        if let Some(before) = before {
            assert_eq!(info.ordinal.0, before.ordinal.0 + 1);
            assert!(info.position > before.position);
            assert!(info.server_time >= before.server_time);
            assert!(info.producer_time > before.producer_time, "{before:?} {info:?}");
            let broken = u64::from(info.break_before.is_some());
            assert_eq!(info.discontinuities, before.discontinuities + broken);
            assert!(info.track_set == before.track_set || info.break_before.is_some());
            assert!(info.track_set != before.track_set || info.break_before != Some(GapReason::TracksChanged));
        }
        let mut end = 0;
        for part in &info.tracks {
            assert_eq!(part.offset, end);
            end += part.len;
            let hz = fragment.tracks.track(part.track).expect("a track of the set").timescale;
            let samples = cmaf::samples(&fragment.body, part).expect("our own bytes");
            assert_eq!(samples[0].dts, part.first_dts);
            assert_eq!(samples.iter().map(|sample| sample.pts).min(), Some(part.first_pts));
            for pair in samples.windows(2) {
                assert!(pair[0].duration > 0);
                assert_eq!(pair[0].dts + i64::from(pair[0].duration), pair[1].dts);
            }
            assert!(samples.iter().all(|sample| sample.pts >= sample.dts));
            assert!(hz.to_micros(part.first_dts) >= FIRST_STREAM_TIME_US);
            if let Some(last) = fragments[..at].iter().rev().find_map(|earlier| earlier.info.track(part.track)) {
                let last_end = last.first_dts + last.duration as i64;
                let follows = before.is_some_and(|before| before.track(part.track).is_some());
                if info.break_before.is_none() && part.track == V && follows {
                    assert_eq!(part.first_dts, last_end);
                } else {
                    assert!(part.first_dts >= last_end, "{last:?} {part:?}");
                }
            }
            read[part.track.0 as usize - 1].extend(
                samples.into_iter().map(|sample| (info.ordinal.0, sample.pts, fragment.body[sample.range].to_vec())),
            );
        }
        assert_eq!(end, info.body_len);
    }
    read
}

/// Checks that these samples are these units, all of them, at times that differ by a constant.
fn check_samples<'a>(read: &[Read], sent: impl IntoIterator<Item = &'a AccessUnit>) {
    let sent = sent.into_iter().collect::<Vec<_>>();
    assert_eq!(read.len(), sent.len());
    for ((_, pts, bytes), unit) in read.iter().zip(&sent) {
        assert_eq!(bytes, &unit.data[..]);
        assert_eq!(pts - read[0].1, unit.pts - sent[0].pts);
    }
}

fn of(units: &[AccessUnit], track: TrackId) -> impl Iterator<Item = &AccessUnit> {
    units.iter().filter(move |unit| unit.track == track)
}

/// Stream time of a sample, in microseconds.
fn stream_us(read: &Read, hz: i64) -> i64 {
    read.1 * 1_000_000 / hz
}

const IN_ORDER: &[i64] = &[0];
/// P b B b: three pictures between references, two deep.
const PYRAMID: &[i64] = &[3, 0, -2, -1];

#[test]
fn pictures_are_cut_at_random_access_points_and_sound_at_the_same_time() {
    let units = merged((0..150).map(|n| picture(n, 30, IN_ORDER)).chain((0..234).map(frame_of_sound)).collect());
    let mut fragmenter = fragmenter(&[pictures(), sound()]);
    fragmenter.sender_report(V, 0, ProducerTime::from_micros(NOW), ServerTime::from_micros(NOW));
    fragmenter.sender_report(A, 0, ProducerTime::from_micros(NOW), ServerTime::from_micros(NOW));
    let mut fragments = push_all(&mut fragmenter, units.clone());
    assert_eq!(fragments.len(), 4);
    fragments.extend(fragmenter.close(true));
    assert_eq!(fragments.len(), 5);
    let [video, audio] = check_stream(&fragments);
    check_samples(&video, of(&units, V));
    check_samples(&audio, of(&units, A));
    assert_eq!(fragments[0].info.break_before, Some(GapReason::Started));
    assert!(fragments[1..].iter().all(|fragment| fragment.info.break_before.is_none()));
    assert!(fragments.iter().all(|fragment| fragment.info.start == StartKind::Closed));
    assert_eq!(fragments.iter().filter(|fragment| fragment.info.end_of_session).count(), 1);
    assert!(fragments[4].info.end_of_session);
    assert_eq!(fragments[1].info.duration_us, 1_000_000);
    assert_eq!(fragments[1].info.producer_time.micros(), NOW + 1_000_000);
    assert_eq!(fragments[1].info.clock_source, ClockSource::SenderReport);
    assert_eq!(fragments[1].info.server_time.micros(), NOW + 1_000_000);
    for (n, fragment) in fragments.iter().enumerate().skip(1) {
        let first = fragment.info.track(A).expect("sound").first_pts * 1_000_000 / 48_000;
        let cut = fragment.info.track(V).expect("pictures").first_pts * 1_000_000 / 90_000;
        assert!((cut..cut + 21_334).contains(&first), "fragment {n}: sound at {first}, pictures at {cut}");
    }
    assert_eq!(fragmenter.dropped(), Dropped::default());
    assert_eq!(fragmenter.open_bytes(), 0);
}

#[test]
fn b_pictures_keep_their_times_and_decode_in_order() {
    let units = (0..91).map(|n| picture(n, 29, PYRAMID)).collect::<Vec<_>>();
    let mut fragmenter = fragmenter(&[pictures()]);
    let mut fragments = push_all(&mut fragmenter, units.clone());
    fragments.extend(fragmenter.close(true));
    let [video, _] = check_stream(&fragments);
    check_samples(&video, &units);
    assert!(fragments.iter().all(|fragment| fragment.info.track_set == TrackSetId(1)));
    let first = fragments[0].info.track(V).expect("pictures");
    assert_eq!(first.first_pts - first.first_dts, 2 * FRAME);
}

#[test]
fn leading_pictures_of_an_open_start_lie_before_it() {
    // A start every 32 pictures whose leading pictures are shown before it.
    let units = (0..128).map(|n| {
        let place = n % 32;
        let shift = if n < 32 { 0 } else { [3, 0, -2, -1][(place % 4) as usize] };
        let access = if n == 0 {
            RandomAccess::Closed
        } else if place == 0 {
            RandomAccess::Open
        } else {
            RandomAccess::No
        };
        unit(V, (n + shift) * FRAME, n * 1_000_000 / 30, access)
    });
    let units = units.collect::<Vec<_>>();
    let mut track = pictures();
    track.reorder_depth = Some(2);
    let mut fragmenter = fragmenter(&[track]);
    let mut fragments = push_all(&mut fragmenter, units.clone());
    fragments.extend(fragmenter.close(true));
    assert_eq!(fragments.len(), 4);
    assert_eq!(fragments[2].info.start, StartKind::Open);
    let [video, _] = check_stream(&fragments);
    check_samples(&video, &units);
}

#[test]
fn long_group_is_cut_at_the_maximum_and_marked_dependent() {
    let units = (0..700).map(|n| picture(n, 10_000, PYRAMID)).collect::<Vec<_>>();
    let mut fragmenter = fragmenter(&[pictures()]);
    let mut fragments = push_all(&mut fragmenter, units.clone());
    fragments.extend(fragmenter.close(false));
    let [video, _] = check_stream(&fragments);
    check_samples(&video, &units);
    assert_eq!(fragments.len(), 3);
    assert_eq!(fragments[1].info.start, StartKind::Dependent);
    assert!(fragments[0].info.duration_us <= 10_100_000);
    assert!(!fragments[2].info.end_of_session);
}

#[test]
fn group_as_long_as_the_maximum_is_not_cut_before_its_end() {
    let units = (0..901).map(|n| picture(n, 300, IN_ORDER)).collect::<Vec<_>>();
    let fragments = push_all(&mut fragmenter(&[pictures()]), units);
    assert_eq!(fragments.len(), 3);
    assert!(fragments.iter().all(|fragment| fragment.info.start == StartKind::Closed));
}

#[test]
fn pictures_before_the_first_random_access_point_are_dropped_and_counted() {
    let units = merged((10..70).map(|n| picture(n, 30, IN_ORDER)).chain((16..110).map(frame_of_sound)).collect());
    let mut fragmenter = fragmenter(&[pictures(), sound()]);
    let mut fragments = push_all(&mut fragmenter, units.clone());
    fragments.extend(fragmenter.close(true));
    let [video, audio] = check_stream(&fragments);
    check_samples(&video, of(&units, V).skip(20));
    assert_eq!(
        fragmenter.dropped().of(DropReason::BeforeRandomAccess) as usize,
        20 + of(&units, A).count() - audio.len()
    );
}

#[test]
fn sound_that_came_early_waits_for_its_fragment() {
    // Sound half a second ahead of pictures.
    let early = (0..234).map(|n| {
        let mut unit = frame_of_sound(n);
        unit.arrival = unit.arrival.plus_micros(-500_000);
        unit
    });
    let units = merged((0..150).map(|n| picture(n, 30, IN_ORDER)).chain(early).collect());
    let mut fragmenter = fragmenter(&[pictures(), sound()]);
    for track in [V, A] {
        fragmenter.sender_report(track, 0, ProducerTime::from_micros(NOW), ServerTime::from_micros(NOW));
    }
    let mut fragments = push_all(&mut fragmenter, units.clone());
    fragments.extend(fragmenter.close(true));
    check_samples(&check_stream(&fragments)[1], of(&units, A));
    let part = fragments[2].info.track(A).expect("sound");
    let cut = fragments[2].info.track(V).expect("pictures").first_pts * 48_000 / 90_000;
    assert!((cut..cut + 1_025).contains(&part.first_pts));
}

#[test]
fn gstreamer_sends_the_frame_before_the_start_with_the_time_of_the_start() {
    let mut fragmenter = fragmenter(&[pictures(), sound()]);
    let units = (0..90).map(|n| picture(n, 30, &[0])).chain((0..140).map(frame_of_sound));
    let mut units = merged(units.collect());
    let first = units.iter().position(|unit| unit.track == A).expect("sound");
    let early = AccessUnit { data: Bytes::from_static(b"before"), ..units[first].clone() };
    units.insert(first, early);
    let mut fragments = push_all(&mut fragmenter, units);
    fragments.extend(fragmenter.close(true));
    let [video, audio] = check_stream(&fragments);
    assert_eq!(audio.len(), 141);
    assert_eq!(audio[0].2, b"before");
    assert!(audio.windows(2).all(|pair| pair[1].1 - pair[0].1 == 1024), "each frame has its length");
    // Two rates meet: a tick may be lost in between.
    assert!((stream_us(&audio[1], 48_000) - stream_us(&video[0], 90_000)).abs() < 50, "and its place");
}

#[test]
fn first_reports_after_seconds_still_put_sound_and_picture_in_step_from_the_start() {
    // As GStreamer's rtspclientsink sends: unrelated clocks, sound that arrives 300 ms after pictures of the
    // same instant, reports after 2.1 and 2.9 s.
    let video = (0..300).map(|n| picture(n, 29, PYRAMID));
    let audio = (0..468).map(|n| {
        let mut unit = frame_of_sound(n);
        unit.pts += 777_777;
        unit.arrival = unit.arrival.plus_micros(300_000);
        unit
    });
    let units = merged(video.chain(audio).collect());
    let mut fragmenter = fragmenter(&[pictures(), sound()]);
    let mut fragments = Vec::new();
    for (track, hz, at, base) in [(V, 90_000, 2_100_000, 0), (A, 48_000, 2_900_000, 777_777)] {
        let before = units.iter().filter(|unit| unit.arrival.micros() < NOW + at).count();
        let pushed =
            if track == V { 0 } else { units.iter().filter(|unit| unit.arrival.micros() < NOW + 2_100_000).count() };
        fragments.extend(push_all(&mut fragmenter, units[pushed..before].to_vec()));
        assert!(fragments.is_empty());
        let time = ProducerTime::from_micros(NOW + at);
        fragmenter.sender_report(track, base + at * hz / 1_000_000, time, ServerTime::from_micros(NOW + at));
    }
    let pushed = units.iter().filter(|unit| unit.arrival.micros() < NOW + 2_900_000).count();
    fragments.extend(push_all(&mut fragmenter, units[pushed..].to_vec()));
    fragments.extend(fragmenter.close(true));
    let [video, audio] = check_stream(&fragments);
    check_samples(&video, of(&units, V));
    check_samples(&audio, of(&units, A));
    assert!((stream_us(&video[0], 90_000) - stream_us(&audio[0], 48_000)).abs() < 100);
    assert!(fragments[1..].iter().all(|fragment| fragment.info.break_before.is_none()));
}

#[test]
fn without_reports_arrival_relates_the_tracks_and_one_late_packet_moves_nothing() {
    let audio = (0..468).map(|n| {
        let mut unit = frame_of_sound(n);
        unit.pts += 1_000_000;
        if n == 0 {
            unit.arrival = unit.arrival.plus_micros(15_000);
        }
        unit
    });
    let units = merged((0..300).map(|n| picture(n, 30, IN_ORDER)).chain(audio).collect());
    let mut fragmenter = fragmenter(&[pictures(), sound()]);
    let mut fragments = push_all(&mut fragmenter, units.clone());
    fragments.extend(fragmenter.close(true));
    let [video, audio] = check_stream(&fragments);
    check_samples(&video, of(&units, V));
    check_samples(&audio, of(&units, A));
    assert!((stream_us(&video[0], 90_000) - stream_us(&audio[0], 48_000)).abs() < 1_000);
    assert!(fragments.iter().all(|fragment| fragment.info.clock_source == ClockSource::Arrival));
}

#[test]
fn sound_that_drifts_is_put_in_step_again_and_never_overlaps() {
    for drift_permille in [-3, 3] {
        // The sound's clock is off; its reports tell.
        let audio = (0..5_600).map(|n| {
            let mut unit = frame_of_sound(n);
            let true_us = n * 1024 * 1_000_000 / 48_000;
            unit.arrival = ServerTime::from_micros(NOW + true_us * (1_000 + drift_permille) / 1_000);
            unit
        });
        let units = merged((0..3_600).map(|n| picture(n, 30, IN_ORDER)).chain(audio).collect());
        let mut fragmenter = fragmenter(&[pictures(), sound()]);
        let mut fragments = Vec::new();
        let mut report_at = 0;
        for unit in units.clone() {
            while unit.arrival.micros() - NOW >= report_at {
                let now = NOW + report_at;
                let ticks = report_at * 48_000 / 1_000_000 * 1_000 / (1_000 + drift_permille);
                fragmenter.sender_report(
                    V,
                    report_at * 9 / 100,
                    ProducerTime::from_micros(now),
                    ServerTime::from_micros(now),
                );
                fragmenter.sender_report(A, ticks, ProducerTime::from_micros(now), ServerTime::from_micros(now));
                report_at += 1_000_000;
            }
            fragments.extend(fragmenter.push(unit).closed);
        }
        fragments.extend(fragmenter.close(true));
        let [video, audio] = check_stream(&fragments);
        assert_eq!((video.len(), audio.len()), (3_600, 5_600));
        for (n, read) in audio.iter().enumerate() {
            let true_us = n as i64 * 1024 * 1_000_000 / 48_000 * (1_000 + drift_permille) / 1_000;
            let shown = stream_us(read, 48_000) - stream_us(&video[0], 90_000);
            assert!((shown - true_us).abs() < 33_000, "sound {n} is off by {} us", shown - true_us);
        }
    }
}

#[test]
fn reports_that_come_late_put_sound_in_step_without_a_break() {
    // By arrival the sound seems 80 ms late, or early; after 6 s its reports say that it is not.
    for seems_us in [80_000, -80_000] {
        let audio = (20..1_400).map(|n| {
            let mut unit = frame_of_sound(n);
            unit.arrival = unit.arrival.plus_micros(seems_us);
            unit
        });
        let units = merged((0..900).map(|n| picture(n, 30, IN_ORDER)).chain(audio).collect());
        let mut fragmenter = fragmenter(&[pictures(), sound()]);
        let mut fragments = Vec::new();
        let mut reported = false;
        for unit in units.clone() {
            if !reported && unit.arrival.micros() > NOW + 6_000_000 {
                reported = true;
                for (track, hz) in [(V, 90_000), (A, 48_000)] {
                    let time = NOW + 6_000_000;
                    let (producer, arrival) = (ProducerTime::from_micros(time), ServerTime::from_micros(time));
                    fragmenter.sender_report(track, 6 * hz, producer, arrival);
                }
            }
            fragments.extend(fragmenter.push(unit).closed);
        }
        fragments.extend(fragmenter.close(true));
        let [video, audio] = check_stream(&fragments);
        assert_eq!((video.len(), audio.len()), (900, 1_380));
        assert!(fragments[1..].iter().all(|fragment| fragment.info.break_before.is_none()));
        let off = |n: usize| {
            let shown = stream_us(&audio[n], 48_000) - stream_us(&video[0], 90_000);
            shown - (n as i64 + 20) * 1024 * 1_000_000 / 48_000
        };
        assert!((off(0) - seems_us).abs() < 1_000, "{}", off(0));
        assert!(off(1_379).abs() < 21_400, "{}", off(1_379));
    }
}

#[test]
fn report_seconds_ahead_of_arrival_breaks_the_timeline_at_the_next_start() {
    let mut fragmenter = fragmenter(&[pictures()]);
    let mut fragments = push_all(&mut fragmenter, (0..95).map(|n| picture(n, 30, IN_ORDER)));
    let ahead = ProducerTime::from_micros(NOW + 3_000_000 + 1_500_000);
    fragmenter.sender_report(V, 270_000, ahead, ServerTime::from_micros(NOW + 3_000_000));
    fragments.extend(push_all(&mut fragmenter, (95..200).map(|n| picture(n, 30, IN_ORDER))));
    fragments.extend(fragmenter.close(true));
    let [video, _] = check_stream(&fragments);
    assert_eq!(video.len(), 200);
    let broken = fragments.iter().filter(|fragment| fragment.info.break_before == Some(GapReason::TimeJumped));
    let broken = broken.collect::<Vec<_>>();
    assert_eq!(broken.len(), 1);
    assert_eq!(broken[0].info.producer_time.micros(), NOW + 3_000_000 + 1_500_000);
    assert_eq!(broken[0].info.start, StartKind::Closed);
    // The timeline has the gap that the clock has.
    let last = fragments[2].info.track(V).expect("pictures");
    let next = broken[0].info.track(V).expect("pictures");
    assert!((next.first_dts - last.first_dts - last.duration as i64 - 135_000).abs() <= 2);
}

#[test]
fn next_session_with_the_same_tracks_goes_on_after_the_gap() {
    let mut first = fragmenter(&[pictures(), sound()]);
    let units = merged((0..60).map(|n| picture(n, 30, IN_ORDER)).chain((0..94).map(frame_of_sound)).collect());
    let mut fragments = push_all(&mut first, units.clone());
    fragments.extend(first.close(true));
    let from = first.into_continuation(GapReason::PublisherLeft);
    let mut second = Fragmenter::new(Settings::default(), ClockPolicy::Auto, from);
    assert!(second.set_tracks(set(&[pictures(), sound()])).is_empty());
    let later = units.into_iter().map(|mut unit| {
        unit.arrival = unit.arrival.plus_micros(60_000_000);
        unit
    });
    fragments.extend(push_all(&mut second, later));
    fragments.extend(second.close(true));
    check_stream(&fragments);
    let restart = fragments.iter().find(|fragment| fragment.info.break_before == Some(GapReason::PublisherLeft));
    let restart = &restart.expect("a break").info;
    assert_eq!((restart.track_set, restart.discontinuities), (TrackSetId(1), 1));
    let gap = restart.track(V).expect("pictures").first_pts - fragments[0].info.track(V).expect("pictures").first_pts;
    assert!((gap - 60 * 90_000).abs() < 9_000, "{gap}");
}

#[test]
fn new_parameters_close_the_fragment_and_start_a_track_set() {
    let mut fragmenter = fragmenter(&[pictures()]);
    let mut fragments = push_all(&mut fragmenter, (0..45).map(|n| picture(n, 30, IN_ORDER)));
    let mut changed = pictures();
    changed.sample_entry = Bytes::from_static(b"another");
    assert!(fragmenter.set_tracks(set(&[pictures()])).is_empty());
    let closed = fragmenter.set_tracks(set(&[changed]));
    assert_eq!(closed.len(), 1);
    fragments.extend(closed);
    fragments.extend(push_all(&mut fragmenter, (45..120).map(|n| picture(n, 30, IN_ORDER))));
    fragments.extend(fragmenter.close(true));
    check_stream(&fragments);
    assert_eq!(fragments[2].info.break_before, Some(GapReason::TracksChanged));
    assert_eq!(fragments[2].info.track_set, TrackSetId(2));
    assert_eq!(fragmenter.dropped().of(DropReason::BeforeRandomAccess), 15);
}

#[test]
fn sound_that_comes_later_costs_no_picture() {
    let mut fragmenter = fragmenter(&[pictures()]);
    let mut fragments = push_all(&mut fragmenter, (0..45).map(|n| picture(n, 30, IN_ORDER)));
    fragments.extend(fragmenter.set_tracks(set(&[pictures(), sound()])));
    let units = merged((45..120).map(|n| picture(n, 30, IN_ORDER)).chain((71..180).map(frame_of_sound)).collect());
    fragments.extend(push_all(&mut fragmenter, units));
    fragments.extend(fragmenter.close(true));
    let [video, audio] = check_stream(&fragments);
    assert_eq!((video.len(), audio.len()), (120, 109));
    assert_eq!(fragments[2].info.start, StartKind::Dependent);
}

#[test]
fn timestamps_that_jump_break_the_timeline_once() {
    for jump in [-90_000 * 3, 90_000 * 3_600] {
        let mut fragmenter = fragmenter(&[pictures()]);
        let units = (0..180).map(|n| {
            let mut unit = picture(n, 29, PYRAMID);
            unit.pts += if n >= 95 { jump } else { 0 };
            unit
        });
        let mut fragments = push_all(&mut fragmenter, units);
        fragments.extend(fragmenter.close(true));
        let [video, _] = check_stream(&fragments);
        assert_eq!(video.len(), 180);
        let breaks = fragments.iter().filter(|fragment| fragment.info.break_before == Some(GapReason::TimeJumped));
        assert_eq!(breaks.count(), 1);
    }
}

#[test]
fn deeper_reordering_than_seen_first_takes_a_new_track_set() {
    let mut fragmenter = fragmenter(&[pictures()]);
    let units = (0..150).map(|n| picture(n, 29, if n < 58 { IN_ORDER } else { PYRAMID })).collect::<Vec<_>>();
    let mut fragments = push_all(&mut fragmenter, units.clone());
    fragments.extend(fragmenter.close(true));
    let [video, _] = check_stream(&fragments);
    assert_eq!(video.len(), 150);
    let sets = fragments.iter().map(|fragment| fragment.info.track_set.0).collect::<Vec<_>>();
    assert_eq!(sets, [1, 2, 2]);
    assert_eq!(fragments[1].info.break_before, Some(GapReason::TracksChanged));
}

#[test]
fn depth_of_the_parameter_sets_is_used_from_the_first_fragment() {
    let mut track = pictures();
    (track.reorder_depth, track.frame_rate_millis) = (Some(2), Some(30_000));
    let mut fragmenter = fragmenter(&[track]);
    let units = (0..150).map(|n| picture(n, 29, if n < 58 { IN_ORDER } else { PYRAMID }));
    let mut fragments = push_all(&mut fragmenter, units);
    fragments.extend(fragmenter.close(true));
    check_stream(&fragments);
    assert!(fragments.iter().all(|fragment| fragment.info.track_set == TrackSetId(1)));
}

#[test]
fn sound_alone_is_cut_every_two_seconds() {
    let units = (0..470).map(frame_of_sound).collect::<Vec<_>>();
    let mut fragmenter = fragmenter(&[sound()]);
    let mut fragments = push_all(&mut fragmenter, units.clone());
    fragments.extend(fragmenter.close(true));
    check_samples(&check_stream(&fragments)[1], &units);
    assert_eq!(fragments.len(), 5);
    assert_eq!(fragments[1].info.duration_us, 2_005_333);
    assert!(fragments.iter().all(|fragment| fragment.info.start == StartKind::Closed));
}

#[test]
fn sound_goes_on_when_pictures_stop_and_pictures_come_back() {
    let video = (0..1_500).filter(|n| !(60..1_200).contains(n)).map(|n| {
        let mut unit = picture(n, 30, IN_ORDER);
        // The camera's clock stood still meanwhile, too: no jump.
        unit.pts -= if n >= 1_200 { 1_000 * FRAME } else { 0 };
        unit
    });
    let units = merged(video.chain((0..2_340).map(frame_of_sound)).collect());
    let mut fragmenter = fragmenter(&[pictures(), sound()]);
    let mut fragments = push_all(&mut fragmenter, units.clone());
    fragments.extend(fragmenter.close(true));
    let [video, audio] = check_stream(&fragments);
    assert_eq!((video.len(), audio.len()), (of(&units, V).count(), of(&units, A).count()));
    assert!(fragments.iter().any(|fragment| fragment.info.track(V).is_none()));
    assert!(fragments.iter().all(|fragment| fragment.info.duration_us <= 13_000_000));
}

#[test]
fn loss_marks_the_fragment_and_recording_goes_on() {
    let units = (0..120).map(|n| {
        let mut unit = picture(n, 30, IN_ORDER);
        unit.loss_before = u32::from(n == 40) * 2;
        unit
    });
    let mut fragmenter = fragmenter(&[pictures()]);
    let mut fragments = push_all(&mut fragmenter, units);
    fragments.extend(fragmenter.close(true));
    let damaged = fragments.iter().map(|fragment| fragment.info.damaged).collect::<Vec<_>>();
    assert_eq!(damaged, [false, true, false, false]);
    assert_eq!(fragmenter.lost(), 2);
}

#[test]
fn damage_lasts_until_the_next_random_access_point() {
    let units = (0..900).map(|n| {
        let mut unit = picture(n, 600, IN_ORDER);
        unit.loss_before = u32::from(n == 200);
        unit
    });
    let fragments = push_all(&mut fragmenter(&[pictures()]), units);
    let marks = fragments.iter().map(|fragment| (fragment.info.start, fragment.info.damaged)).collect::<Vec<_>>();
    assert_eq!(marks, [(StartKind::Closed, true), (StartKind::Dependent, true)]);
}

/// An encoder with gradual refresh has no key frame but the first, which nobody who joins later sees.
#[test]
fn a_stream_with_gradual_refresh_alone_is_recorded_and_damaged_until_the_first_is_over() {
    let mut fragmenter = fragmenter(&[pictures()]);
    let refresh = |n: i64| {
        let access = if n % 60 == 20 { RandomAccess::Gradual } else { RandomAccess::No };
        unit(V, n * FRAME, n * 1_000_000 / 30, access)
    };
    let mut fragments = push_all(&mut fragmenter, (0..900).map(refresh));
    fragments.extend(fragmenter.close(true));
    let read = check_stream(&fragments);
    check_samples(&read[0], (20..900).map(refresh).collect::<Vec<_>>().iter());
    let starts: Vec<_> = fragments.iter().map(|fragment| (fragment.info.start, fragment.info.damaged)).collect();
    assert_eq!(starts[0], (StartKind::Open, true));
    assert!(starts[1..].iter().all(|start| *start == (StartKind::Dependent, false)), "{starts:?}");
    assert_eq!(fragmenter.dropped().of(DropReason::BeforeRandomAccess), 20);
}

#[test]
fn bytes_that_come_behind_a_unit_are_appended_to_it_while_it_is_open() {
    let mut fragmenter = fragmenter(&[pictures()]);
    assert!(!fragmenter.push_rest(V, b"nothing is open"));
    let sent: Vec<_> = (0..40).map(|n| picture(n, 30, &[0])).collect();
    let mut closed = push_all(&mut fragmenter, sent.iter().take(39).cloned());
    assert!(fragmenter.push_rest(V, b" and more"));
    closed.extend(push_all(&mut fragmenter, sent.iter().skip(39).cloned()));
    closed.extend(fragmenter.close(true));
    let mut expected = sent.clone();
    expected[38].data = [&sent[38].data[..], b" and more"].concat().into();
    check_samples(&check_stream(&closed)[0], &expected);
    assert!(!fragmenter.push_rest(V, b"too late"));
    assert_eq!(fragmenter.dropped().of(DropReason::TooLate), 2);
}

#[test]
fn units_that_cannot_be_stored_are_refused_by_reason() {
    let mut fragmenter = fragmenter(&[pictures()]);
    let good = picture(0, 30, IN_ORDER);
    let cases = [
        (AccessUnit { track: TrackId(9), ..good.clone() }, DropReason::UnknownTrack),
        (AccessUnit { data: Bytes::new(), ..good.clone() }, DropReason::Empty),
        (AccessUnit { pts: i64::MIN, ..good.clone() }, DropReason::BadTime),
        (AccessUnit { pts: i64::MAX, ..good.clone() }, DropReason::BadTime),
        (AccessUnit { random_access: RandomAccess::No, ..good.clone() }, DropReason::BeforeRandomAccess),
    ];
    for (unit, reason) in cases {
        assert_eq!(fragmenter.push(unit).dropped, Some(reason));
    }
    fragmenter.settings.bytes = 2;
    assert_eq!(fragmenter.push(good.clone()).dropped, Some(DropReason::TooLarge));
    assert_eq!(fragmenter.dropped().total(), 6);
    let mut bare = Fragmenter::new(Settings::default(), ClockPolicy::Auto, Continuation::new_stream(Epoch(1)));
    assert_eq!(bare.push(good).dropped, Some(DropReason::UnknownTrack));
    assert!(bare.close(true).is_empty());
}

#[test]
fn byte_budget_closes_a_fragment_whatever_comes() {
    let mut fragmenter = fragmenter(&[pictures()]);
    fragmenter.settings.bytes = 1_000;
    let units = (0..60).map(|n| AccessUnit { data: Bytes::from(vec![n as u8; 90]), ..picture(n, 600, IN_ORDER) });
    let mut fragments = Vec::new();
    for unit in units {
        fragments.extend(fragmenter.push(unit).closed);
        assert!(fragmenter.open_bytes() <= 1_000);
    }
    fragments.extend(fragmenter.close(true));
    assert_eq!(check_stream(&fragments)[0].len(), 60);
    assert_eq!(fragments.len(), 6);
}

#[test]
fn open_pictures_start_where_decoding_can_and_have_the_times_they_will_have() {
    let mut fragmenter = fragmenter(&[pictures()]);
    assert!(fragmenter.open_pictures().is_none());
    let fragments = push_all(&mut fragmenter, (0..40).map(|n| picture(n, 30, IN_ORDER)));
    assert_eq!(fragments.len(), 1);
    let open = fragmenter.open_pictures().expect("ten pictures");
    assert_eq!((open.pictures.len(), open.first, open.start), (10, 30, StartKind::Closed));
    let rest = fragmenter.close(true);
    let samples = crate::container::cmaf::samples(&rest[0].body, &rest[0].info.tracks[0]).expect("ours");
    assert_eq!(open.position, rest[0].info.position);
    assert_eq!(open.server_time, rest[0].info.server_time);
    let times = open.pictures.iter().map(|picture| picture.pts).collect::<Vec<_>>();
    assert_eq!(times, samples.iter().map(|sample| sample.pts).collect::<Vec<_>>());
    assert_eq!(open.pictures[0].producer_time, rest[0].info.producer_time);
}

#[test]
fn frames_twice_as_fast_as_time_do_not_move_the_clock_back() {
    // A file sent faster than it plays, by a sender without reports.
    let units = (0..600).map(|n| {
        let mut unit = picture(n, 30, IN_ORDER);
        unit.arrival = ServerTime::from_micros(NOW + n * 1_000_000 / 300);
        unit
    });
    let mut fragmenter = fragmenter(&[pictures()]);
    let mut fragments = push_all(&mut fragmenter, units);
    fragments.extend(fragmenter.close(true));
    check_stream(&fragments);
    assert!(fragments[1..].iter().all(|fragment| fragment.info.break_before.is_none()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_feed_is_read_back_as_sent(
        gops in prop::collection::vec((5i64..90, 0usize..3, any::<bool>()), 1..8),
        steps in prop::collection::vec(300i64..9_000, 1..40),
        drops in prop::collection::vec(any::<u8>(), 1..60),
        jitter in prop::collection::vec(0i64..200_000, 1..30),
        origin in (-1i64 << 40..1 << 40, -1i64 << 40..1 << 40),
        reports in any::<bool>(),
        sound_too in any::<bool>(),
        depth in prop::option::of(0u32..4),
    ) {
        // Presentation times in order, of any steps; then decode order group by group.
        let total: i64 = gops.iter().map(|gop| gop.0).sum();
        let mut shown = Vec::new();
        let mut at = 0;
        for n in 0..total {
            shown.push(at);
            at += steps[n as usize % steps.len()];
        }
        let mut units = Vec::new();
        let mut first = 0i64;
        for (index, (length, pattern, open)) in gops.iter().enumerate() {
            let pattern = [IN_ORDER, PYRAMID, &[1, -1]][*pattern];
            for place in 0..*length {
                let cycle = (place - 1) - (place - 1).rem_euclid(pattern.len() as i64);
                let whole = cycle + (pattern.len() as i64) < *length;
                let shift = if place == 0 || !whole { 0 } else { pattern[((place - 1) as usize) % pattern.len()] };
                let n = first + place;
                let lost = place > 0 && drops[n as usize % drops.len()] < 12;
                if lost {
                    continue;
                }
                let pts = shown[(n + shift) as usize];
                let access = match place {
                    0 if *open && index > 0 => RandomAccess::Open,
                    0 => RandomAccess::Closed,
                    _ => RandomAccess::No,
                };
                let late = jitter[n as usize % jitter.len()];
                units.push(unit(V, pts + origin.0, shown[n as usize] * 100 / 9 + late, access));
            }
            first += length;
        }
        // Units of a track come in order.
        for n in 1..units.len() {
            units[n].arrival = units[n].arrival.max(units[n - 1].arrival);
        }
        if sound_too {
            let count = at * 48_000 / 90_000 / 1024;
            let mut last = 0;
            for n in 0..count {
                last = last.max(n * 1024 * 1_000_000 / 48_000 + jitter[n as usize % jitter.len()]);
                units.push(unit(A, n * 1024 + origin.1, last, RandomAccess::Closed));
            }
        }
        let units = merged(units);
        let mut track = pictures();
        track.reorder_depth = depth;
        let tracks = if sound_too { vec![track, sound()] } else { vec![track] };
        let mut fragmenter = fragmenter(&tracks);
        if reports {
            for (track, ticks) in [(V, origin.0), (A, origin.1)] {
                fragmenter.sender_report(track, ticks, ProducerTime::from_micros(NOW), ServerTime::from_micros(NOW));
            }
        }
        let mut fragments = push_all(&mut fragmenter, units.clone());
        fragments.extend(fragmenter.close(true));
        prop_assert_eq!(fragmenter.dropped(), Dropped::default());
        let read = check_stream(&fragments);
        for (track, read) in [V, A].into_iter().zip(read) {
            let sent = of(&units, track).collect::<Vec<_>>();
            prop_assert_eq!(sent.len(), read.len());
            let breaks = |ordinal: u64| fragments.iter().filter(|f| f.info.ordinal <= Ordinal(ordinal) && f.info.break_before.is_some()).count();
            for (pair, sent) in read.windows(2).zip(sent.windows(2)) {
                prop_assert_eq!(&pair[1].2[..], &sent[1].data[..]);
                if breaks(pair[0].0) == breaks(pair[1].0) && (track == V || reports) {
                    prop_assert_eq!(pair[1].1 - pair[0].1, sent[1].pts - sent[0].pts);
                }
            }
        }
    }

    #[test]
    fn hostile_units_never_panic(
        script in prop::collection::vec((0u32..4, any::<i64>(), 0u32..60, any::<i64>(), 0u8..4, 0usize..50), 0..200),
    ) {
        let mut fragmenter = fragmenter(&[pictures(), sound()]);
        let mut fragments = Vec::new();
        let mut arrival = NOW;
        for (track, time, shift, wall, what, size) in script {
            let pts = time.checked_shr(shift).unwrap_or(0);
            arrival = if what == 3 { wall } else { arrival.saturating_add(wall.saturating_abs() >> 42) };
            let arrival = ServerTime::from_micros(arrival);
            if what == 2 {
                fragmenter.sender_report(TrackId(track), pts, ProducerTime::from_micros(wall), arrival);
                continue;
            }
            let random_access = [RandomAccess::Closed, RandomAccess::No, RandomAccess::Open][size % 3];
            let data = Bytes::from(vec![7; size]);
            let duration = Some(shift * shift * shift * shift * 300);
            let unit = AccessUnit { track: TrackId(track), pts, duration, random_access, disposable: false, loss_before: 0, arrival, data };
            fragments.extend(fragmenter.push(unit).closed);
        }
        fragments.extend(fragmenter.close(true));
        for fragment in &fragments {
            for part in &fragment.info.tracks {
                let samples = cmaf::samples(&fragment.body, part).expect("our own bytes");
                prop_assert!(samples.windows(2).all(|pair| pair[0].dts < pair[1].dts));
                prop_assert!(samples.iter().all(|sample| sample.pts >= sample.dts));
            }
        }
    }
}

/// How long units waited at most, by arrival, when each fragment closed; all fragments, the last one's end included.
fn push_and_watch(fragmenter: &mut Fragmenter, units: impl IntoIterator<Item = AccessUnit>) -> (Vec<Fragment>, i64) {
    let (mut fragments, mut longest) = (Vec::new(), 0);
    for unit in units {
        let now = unit.arrival;
        fragments.extend(fragmenter.push(unit).closed);
        let fronts = fragmenter.lanes.iter().filter_map(|lane| lane.queue.front());
        longest = fronts.map(|unit| now.micros_since(unit.arrival)).fold(longest, i64::max);
    }
    fragments.extend(fragmenter.close(true));
    (fragments, longest)
}

#[test]
fn reports_of_sound_that_are_far_off_tear_nothing() {
    let seconds = 30;
    let units = || {
        let pictures = (0..seconds * 30).map(|n| picture(n, 30, IN_ORDER));
        merged(pictures.chain((0..seconds * 48_000 / 1024).map(frame_of_sound)).collect())
    };
    // An hour ahead, a clock of the year 2000, and the time since the camera's start.
    for shown in [NOW + 3_600_000_000, 946_684_800_000_000, 3_000_000] {
        let mut fragmenter = fragmenter(&[pictures(), sound()]);
        let mut fragments = Vec::new();
        let mut longest = 0;
        let all = units();
        for chunk in all.chunk_by(|a, b| a.arrival.micros() / 5_000_000 == b.arrival.micros() / 5_000_000) {
            let at = chunk[0].arrival.micros() - NOW;
            let (wall, ticks) = (ServerTime::from_micros(NOW + at), |hz: i64| at * hz / 1_000_000);
            fragmenter.sender_report(V, ticks(90_000), ProducerTime::from_micros(NOW + at), wall);
            fragmenter.sender_report(A, ticks(48_000), ProducerTime::from_micros(shown + at), wall);
            for unit in chunk {
                fragments.extend(fragmenter.push(unit.clone()).closed);
                let fronts = fragmenter.lanes.iter().filter_map(|lane| lane.queue.front());
                longest = fronts.map(|front| unit.arrival.micros_since(front.arrival)).fold(longest, i64::max);
            }
        }
        fragments.extend(fragmenter.close(true));
        let read = check_stream(&fragments);
        check_samples(&read[0], of(&all, V));
        check_samples(&read[1], of(&all, A));
        let breaks = fragments.iter().filter(|fragment| fragment.info.break_before.is_some()).count();
        assert_eq!((breaks, fragments.len()), (1, seconds as usize), "{shown}");
        let apart = stream_us(&read[1][0], 48_000) - stream_us(&read[0][0], 90_000);
        assert!(apart.abs() < 50_000, "{shown}: sound is {apart} us away");
        assert!(longest < 6_000_000, "{shown}: {longest} us in memory");
    }
}

#[test]
fn times_that_step_as_arrival_does_are_no_jump() {
    // Sound pauses for 15 s.
    let shown = (0..30 * 30).map(|n| picture(n, 30, IN_ORDER));
    let heard = (0..30 * 48).map(frame_of_sound).filter(|unit| !(5 * 48_000..20 * 48_000).contains(&unit.pts));
    let units = merged(shown.chain(heard).collect());
    let mut both = fragmenter(&[pictures(), sound()]);
    let (fragments, _) = push_and_watch(&mut both, units.clone());
    let read = check_stream(&fragments);
    check_samples(&read[0], of(&units, V));
    check_samples(&read[1], of(&units, A));
    assert_eq!(fragments.iter().filter(|fragment| fragment.info.break_before.is_some()).count(), 1);
    // A frame each 12 s, and each hour.
    for every in [12, 3_600] {
        let units = (0..10).map(|n| unit(V, n * every * 90_000, n * every * 1_000_000, RandomAccess::Closed));
        let units: Vec<_> = units.collect();
        let (fragments, _) = push_and_watch(&mut fragmenter(&[pictures()]), units.clone());
        check_samples(&check_stream(&fragments)[0], &units);
        assert_eq!(fragments.iter().filter(|fragment| fragment.info.break_before.is_some()).count(), 1, "{every}");
    }
    // The same step without the wait is one.
    let units = [unit(V, 0, 0, RandomAccess::Closed), unit(V, 12 * 90_000, 40_000, RandomAccess::Closed)];
    let (fragments, _) = push_and_watch(&mut fragmenter(&[pictures()]), units);
    assert_eq!(fragments[1].info.break_before, Some(GapReason::TimeJumped));
}

#[test]
fn nothing_waits_longer_than_a_fragment_may_last() {
    // Times that stand still, or run ten times too slow or too fast, of either track, alone or beside the other.
    for (of_pictures, of_sound) in [(0, 100), (10, 100), (1_000, 100), (100, 0), (100, 10), (100, 1_000), (0, 0)] {
        let shown = (0..40 * 30).map(|n| {
            let unit = picture(n, 7_000, IN_ORDER);
            AccessUnit { pts: unit.pts * of_pictures / 100, ..unit }
        });
        let heard = (0..40 * 48).map(frame_of_sound).map(|unit| AccessUnit { pts: unit.pts * of_sound / 100, ..unit });
        let units = merged(shown.chain(heard).collect());
        let count = units.len();
        let mut fragmenter = fragmenter(&[pictures(), sound()]);
        let (fragments, longest) = push_and_watch(&mut fragmenter, units);
        let samples: u32 = fragments.iter().flat_map(|fragment| &fragment.info.tracks).map(|part| part.samples).sum();
        assert_eq!(samples as usize, count, "{of_pictures} {of_sound}");
        assert!(longest < 12_000_000, "{of_pictures} {of_sound}: {longest} us");
    }
}

#[test]
fn a_clock_that_is_set_labels_what_follows_and_pins_nothing() {
    let month = 30 * 86_400_000_000;
    let mut fragmenter = fragmenter(&[pictures()]);
    let ahead = |unit: AccessUnit| AccessUnit { arrival: unit.arrival.plus_micros(month), ..unit };
    let mut fragments = push_all(&mut fragmenter, (0..90).map(|n| ahead(picture(n, 30, IN_ORDER))));
    fragments.extend(fragmenter.clock_was_set(-month));
    fragments.extend(push_all(&mut fragmenter, (90..180).map(|n| picture(n, 30, IN_ORDER))));
    fragments.extend(fragmenter.close(true));
    let labels: Vec<i64> = fragments.iter().map(|fragment| fragment.info.producer_time.micros() - NOW).collect();
    assert_eq!(labels, [month, month + 1_000_000, month + 2_000_000, 3_000_000, 4_000_000, 5_000_000]);
    assert!(fragments.is_sorted_by_key(|fragment| fragment.info.server_time));
    assert_eq!(fragments[3].info.break_before, Some(GapReason::TimeJumped));
    assert!(fragments[4].info.break_before.is_none());
    assert!(fragments.iter().all(|fragment| fragment.info.clock_error_us < 1_000_000));
    // And a session that follows one with such labels.
    let from = Continuation {
        last_producer_end: Some(ProducerTime::from_micros(NOW + month)),
        last_server_time: Some(ServerTime::from_micros(NOW + month)),
        ..Continuation::new_stream(Epoch(3))
    };
    let mut next = Fragmenter::new(Settings::default(), ClockPolicy::Auto, from);
    assert!(next.set_tracks(set(&[pictures()])).is_empty());
    let mut fragments = push_all(&mut next, (0..60).map(|n| picture(n, 30, IN_ORDER)));
    fragments.extend(next.close(true));
    let labels: Vec<_> = fragments.iter().map(|fragment| fragment.info.producer_time.micros() - NOW).collect();
    assert_eq!(labels, [0, 1_000_000]);
    assert!(fragments.iter().all(|fragment| fragment.info.server_time.micros() == NOW + month));
}

#[test]
fn the_first_access_point_after_a_dependent_start_cuts() {
    // Key frames each 0.3 s; one fragment is closed in the middle of a group of pictures, as after a silence.
    let mut fragmenter = fragmenter(&[pictures()]);
    let units: Vec<_> = (0..90).map(|n| picture(n, 9, IN_ORDER)).collect();
    let mut fragments = push_all(&mut fragmenter, units[..40].iter().cloned());
    fragments.extend(fragmenter.close(false));
    fragments.extend(push_all(&mut fragmenter, units[40..].iter().cloned()));
    fragments.extend(fragmenter.close(true));
    check_samples(&check_stream(&fragments)[0], &units);
    let starts: Vec<_> =
        fragments.iter().map(|fragment| (fragment.info.start, fragment.info.tracks[0].samples)).collect();
    let closed = StartKind::Closed;
    assert_eq!(starts, [(closed, 36), (closed, 4), (StartKind::Dependent, 5), (closed, 36), (closed, 9)]);
}
