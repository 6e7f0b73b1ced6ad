use super::*;
use media::codec::{CodecError, av1, vp8, vp9};
use media::{Codec, RandomAccess};

use crate::protocol::rtp::send::{self, MAX_PAYLOAD, Packetiser};
use crate::protocol::rtsp::wire::{self, Item};
use crate::protocol::sdp;

const FFMPEG: &[u8] = include_bytes!("../../../tests/data/rtsp/ffmpeg-h264-aac.interleaved");
const GSTREAMER: &[u8] = include_bytes!("../../../tests/data/rtsp/gstreamer-h264-latm.interleaved");

/// Counted in the capture by another program: FFmpeg 5.1 does not send a last packet of AAC that is not full.
const AUDIO_UNITS: usize = 41;

fn packets(capture: &'static [u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut rest, mut packets) = (capture, Vec::new());
    while let Ok(Some((Item::Data { channel, payload }, taken))) = wire::next(rest) {
        packets.push((channel, payload.to_vec()));
        rest = &rest[taken..];
    }
    assert!(rest.is_empty());
    packets
}

fn feed(sdp: &str, datagrams: bool, now: Instant) -> Feed {
    let description = sdp::parse(sdp.as_bytes()).expect("an SDP");
    let receivers = description
        .media
        .iter()
        .zip(1..)
        .map(|(media, id)| Receiver::new(TrackId(id), media, datagrams, 1).expect("a format we know"));
    Feed::new(receivers.collect(), now)
}

fn at(now: Instant, millis: u64) -> Moment {
    let micros = 1_700_000_000_000_000 + i64::try_from(millis).expect("small") * 1_000;
    Moment { now: now + Duration::from_millis(millis), wall: ServerTime::from_micros(micros) }
}

/// Orders of the packets, one a millisecond, and of the end.
fn run(sdp: &str, datagrams: bool, packets: &[(u8, Vec<u8>)]) -> Vec<Order> {
    let now = Instant::now();
    let mut feed = feed(sdp, datagrams, now);
    let mut millis = 0;
    for (channel, bytes) in packets {
        millis += 1;
        let track = usize::from(channel / 2);
        match channel % 2 {
            0 => feed.rtp(track, bytes, at(now, millis)),
            _ => feed.rtcp(track, bytes, at(now, millis)),
        }
    }
    feed.finish(at(now, millis + 1));
    std::iter::from_fn(|| feed.pop()).collect()
}

fn units(orders: &[Order], track: u32) -> Vec<AccessUnit> {
    let unit = |order: &Order| match order {
        Order::Unit(unit) if unit.track == TrackId(track) => Some(unit.clone()),
        _ => None,
    };
    orders.iter().filter_map(unit).collect()
}

/// What must not depend on the way the packets took.
fn essence(orders: &[Order], track: u32) -> Vec<(i64, u32, bytes::Bytes)> {
    units(orders, track).into_iter().map(|unit| (unit.pts, unit.loss_before, unit.data)).collect()
}

#[test]
fn ffmpeg_with_b_frames_and_aac_is_taken_whole() {
    let orders = run(sdp::tests::FFMPEG, false, &packets(FFMPEG));
    let Order::Tracks(tracks) = &orders[0] else { panic!("tracks come first") };
    assert_eq!(tracks.tracks().iter().map(|t| t.codec).collect::<Vec<_>>(), [Codec::H264, Codec::Aac]);
    assert_eq!((tracks.tracks()[0].width, tracks.tracks()[0].height), (128, 96));
    let video = units(&orders, 1);
    assert_eq!(video.len(), 25);
    let keys: Vec<_> = (0..25).filter(|i| video[*i].random_access == RandomAccess::Closed).collect();
    assert_eq!((video[0].random_access, keys.len()), (RandomAccess::Closed, 3));
    let mut shown: Vec<_> = video.iter().map(|unit| unit.pts).collect();
    assert!(!shown.is_sorted(), "there are B-frames");
    shown.sort_unstable();
    assert!(shown.windows(2).all(|pair| pair[1] - pair[0] == 3_600), "25 pictures a second: {shown:?}");
    let audio = units(&orders, 2);
    assert!(audio.windows(2).all(|pair| pair[1].pts - pair[0].pts == 1_024));
    assert_eq!(audio.len(), AUDIO_UNITS);
    assert!(orders.iter().any(|order| matches!(order, Order::SenderReport { track: TrackId(1), .. })));
    assert!(orders.iter().any(|order| matches!(order, Order::SenderReport { track: TrackId(2), .. })));
}

#[test]
fn gstreamer_with_latm_audio_is_taken_whole() {
    let orders = run(sdp::tests::GSTREAMER, false, &packets(GSTREAMER));
    let audio = units(&orders, 1);
    assert_eq!(audio.len(), 40);
    // Its clock is rounded from nanoseconds.
    assert!(audio.windows(2).all(|pair| (1_023..=1_025).contains(&(pair[1].pts - pair[0].pts))));
    assert_eq!(units(&orders, 2).len(), 25);
}

#[test]
fn swapped_and_doubled_datagrams_give_the_same_units() {
    let plain = packets(FFMPEG);
    let expected = run(sdp::tests::FFMPEG, true, &plain);
    let mut shuffled = Vec::new();
    for group in plain.chunks(5) {
        shuffled.extend(group.iter().rev().cloned());
        shuffled.extend(group.first().cloned());
    }
    // The first packet says where order begins, so it keeps its place.
    let first_video = plain.iter().find(|(channel, _)| *channel == 0).expect("video");
    shuffled.insert(0, first_video.clone());
    let first_audio = plain.iter().find(|(channel, _)| *channel == 2).expect("audio");
    shuffled.insert(0, first_audio.clone());
    let orders = run(sdp::tests::FFMPEG, true, &shuffled);
    for track in [1, 2] {
        assert!(essence(&orders, track) == essence(&expected, track), "track {track}");
    }
}

#[test]
fn lost_datagrams_cost_their_units_and_are_told() {
    let plain = packets(FFMPEG);
    let whole = run(sdp::tests::FFMPEG, true, &plain);
    let whole: Vec<_> = essence(&whole, 1).into_iter().map(|(pts, _, data)| (pts, data)).collect();
    let is_video = |packet: &&(u8, Vec<u8>)| packet.0 == 0;
    for dropped in 1..plain.iter().filter(is_video).count() - 1 {
        let mut seen = 0;
        let mut rest = plain.clone();
        rest.retain(|packet| {
            seen += usize::from(is_video(&packet));
            !(is_video(&packet) && seen == dropped + 1)
        });
        let orders = run(sdp::tests::FFMPEG, true, &rest);
        let units = essence(&orders, 1);
        assert!(units.iter().all(|(pts, _, data)| whole.contains(&(*pts, data.clone()))), "packet {dropped}");
        let lost: u32 = units.iter().map(|(_, lost, _)| lost).sum();
        assert_eq!((units.len(), lost), (whole.len() - 1, 1), "packet {dropped}");
    }
}

#[test]
fn numbers_that_wrap_change_nothing() {
    let plain = packets(FFMPEG);
    let expected = run(sdp::tests::FFMPEG, true, &plain);
    // Moved so that both counters of each track wrap in the middle.
    let mut moved = plain.clone();
    for (channel, bytes) in moved.iter_mut().filter(|(channel, _)| channel % 2 == 0) {
        let first = &plain.iter().find(|(other, _)| other == channel).expect("itself at least").1;
        let word = |bytes: &[u8]| u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let half = |bytes: &[u8]| u16::from_be_bytes([bytes[2], bytes[3]]);
        let sequence = half(bytes).wrapping_sub(half(first)).wrapping_sub(5);
        let timestamp = word(bytes).wrapping_sub(word(first)).wrapping_sub(20_000);
        bytes[2..4].copy_from_slice(&sequence.to_be_bytes());
        bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
    }
    let orders = run(sdp::tests::FFMPEG, true, &moved);
    let relative = |orders: &[Order], track| {
        let units = essence(orders, track);
        let first = units[0].0;
        units.into_iter().map(|(pts, lost, data)| (pts - first, lost, data)).collect::<Vec<_>>()
    };
    for track in [1, 2] {
        assert!(relative(&orders, track) == relative(&expected, track), "track {track}");
    }
}

/// The SDP without parameter sets.
fn bare() -> String {
    let start = sdp::tests::FFMPEG.find(" sprop-parameter-sets").expect("it is there");
    let end = start + sdp::tests::FFMPEG[start..].find(';').expect("it ends");
    format!("{}{}", &sdp::tests::FFMPEG[..start], &sdp::tests::FFMPEG[end + 1..])
}

#[test]
fn waits_for_parameter_sets_in_band_and_loses_nothing() {
    // x264 repeats them in band only on request, so they are put before the first picture here.
    let Some(sets) = sdp::parse(sdp::tests::FFMPEG.as_bytes()).ok() else { panic!("an SDP") };
    let sdp::Format::H264 { sps, pps } = &sets.media[0].format else { panic!("H.264") };
    let mut capture = packets(FFMPEG);
    let first = capture.iter().position(|(channel, _)| *channel == 0).expect("video");
    let mut aggregate = vec![24];
    for nal in [&sps[0], &pps[0]] {
        aggregate.extend_from_slice(&u16::try_from(nal.len()).expect("short").to_be_bytes());
        aggregate.extend_from_slice(nal);
    }
    let header: Vec<u8> = capture[first].1[..12].to_vec();
    let sequence = u16::from_be_bytes([header[2], header[3]]).wrapping_sub(1);
    let mut packet = header;
    packet[1] &= 0x7f;
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&aggregate);
    capture.insert(first, (0, packet));
    let orders = run(&bare(), false, &capture);
    assert!(matches!(&orders[0], Order::Tracks(tracks) if tracks.tracks().len() == 2));
    assert_eq!(units(&orders, 1).len(), 25);
    assert_eq!(units(&orders, 2).len(), AUDIO_UNITS);
}

#[test]
fn goes_without_a_track_that_stays_undescribed() {
    let now = Instant::now();
    let mut feed = feed(&bare(), false, now);
    for (channel, bytes) in packets(FFMPEG).iter().filter(|(channel, _)| channel % 2 == 0) {
        feed.rtp(usize::from(channel / 2), bytes, at(now, 10));
    }
    assert!(feed.pop().is_none() && feed.is_waiting());
    feed.tick(at(now, 4_999));
    assert!(feed.is_waiting());
    feed.tick(at(now, 5_000));
    assert!(!feed.is_waiting() && feed.is_described());
    assert_eq!(feed.undescribed(), [Undescribed { track: 0, why: "no parameter sets came".into() }]);
    let orders: Vec<_> = std::iter::from_fn(|| feed.pop()).collect();
    assert!(matches!(&orders[0], Order::Tracks(tracks) if tracks.tracks().len() == 1));
    assert!(units(&orders, 1).is_empty() && !units(&orders, 2).is_empty());
}

#[test]
fn packets_of_another_payload_type_are_told_by_name() {
    let now = Instant::now();
    let mut feed = feed(&bare(), false, now);
    for (channel, mut bytes) in packets(FFMPEG).into_iter().filter(|(channel, _)| *channel == 0) {
        bytes[1] = bytes[1] & 0x80 | 111;
        feed.rtp(usize::from(channel / 2), &bytes, at(now, 10));
    }
    feed.tick(at(now, 6_000));
    assert!(feed.undescribed()[0].why.contains("payload type that was not announced"));
}

/// The capture with another source for each eight frames, which counts from somewhere else when `restarts`.
fn with_sources(restarts: bool) -> Vec<(u8, Vec<u8>)> {
    let (mut frames, mut source, mut shift, mut packets) = (0, 1u32, 0u16, packets(FFMPEG));
    for (channel, bytes) in packets.iter_mut().filter(|(channel, _)| *channel < 2) {
        if *channel == 0 {
            let number = u16::from_be_bytes([bytes[2], bytes[3]]).wrapping_add(shift);
            bytes[2..4].copy_from_slice(&number.to_be_bytes());
            bytes[8..12].copy_from_slice(&source.to_be_bytes());
            frames += u32::from(bytes[1] >> 7);
            if bytes[1] >> 7 == 1 && frames % 8 == 0 {
                source += 1;
                shift = if restarts { shift.wrapping_add(20_000) } else { 0 };
            }
        } else {
            bytes[4..8].copy_from_slice(&source.to_be_bytes());
        }
    }
    assert_eq!(source, 4, "25 frames");
    packets
}

#[test]
fn a_source_of_its_own_for_each_group_of_frames_costs_nothing() {
    for datagrams in [false, true] {
        let expected = essence(&run(sdp::tests::FFMPEG, datagrams, &packets(FFMPEG)), 1);
        for restarts in [false, true] {
            let found = essence(&run(sdp::tests::FFMPEG, datagrams, &with_sources(restarts)), 1);
            assert!(found == expected, "datagrams {datagrams}, restarts {restarts}: {} units", found.len());
        }
    }
}

#[test]
fn late_packets_of_the_source_before_do_not_bring_it_back() {
    let now = Instant::now();
    let mut feed = feed(sdp::tests::FFMPEG, true, now);
    let plain: Vec<_> = packets(FFMPEG).into_iter().filter(|(channel, _)| *channel == 0).collect();
    let (old, new) = plain.split_at(plain.len() / 2);
    let with_source = |bytes: &[u8], source: u32| {
        let mut bytes = bytes.to_vec();
        bytes[8..12].copy_from_slice(&source.to_be_bytes());
        bytes
    };
    let mut millis = 0;
    let mut send = |feed: &mut Feed, bytes: &[u8]| {
        millis += 1;
        feed.rtp(0, bytes, at(now, millis));
    };
    for (_, bytes) in old {
        send(&mut feed, &with_source(bytes, 7));
    }
    for (_, bytes) in new {
        send(&mut feed, &with_source(bytes, 8));
        send(&mut feed, &with_source(&old[0].1, 7));
    }
    let counters = feed.counters().next().expect("a track");
    assert_eq!((counters.packets, counters.wrong_source), (plain.len() as u64, new.len() as u64));
}

#[test]
fn numbers_that_begin_anew_over_a_connection_cost_no_packet() {
    let mut packets = packets(FFMPEG);
    let at = packets.iter().rposition(|(channel, bytes)| *channel == 0 && bytes[1] & 0x80 != 0).expect("a marker") + 1;
    let middle = packets[..at].iter().rposition(|(channel, bytes)| *channel == 0 && bytes[1] & 0x80 != 0);
    let middle = packets[..middle.expect("a marker")].iter().rposition(|(c, bytes)| *c == 0 && bytes[1] & 0x80 != 0);
    for (_, bytes) in packets[middle.expect("a marker") + 1..].iter_mut().filter(|(channel, _)| *channel == 0) {
        let number = u16::from_be_bytes([bytes[2], bytes[3]]).wrapping_add(30_000);
        bytes[2..4].copy_from_slice(&number.to_be_bytes());
    }
    let found = units(&run(sdp::tests::FFMPEG, false, &packets), 1);
    assert_eq!(found.len(), 25);
}

/// Beginnings of frames of 176x144: a key frame, and one that follows.
const VP8: [&[u8]; 2] = [
    &[0xd0, 0x4a, 0, 0x9d, 1, 0x2a, 176, 0, 144, 0, 0, 7, 8],
    &[0x31, 0x13, 0, 0x0d, 0x11, 0, 0, 0x1e, 0xa7, 0x77, 0xba],
];
const VP9: [&[u8]; 2] =
    [&[0x82, 0x49, 0x83, 0x42, 0, 0x0a, 0xf0, 8, 0xf6, 6, 0x38, 0x24], &[0x86, 0, 0x40, 0x92, 0xf1, 0x21, 0x40, 0]];
const AV1: [&[u8]; 2] = [
    &[0x0a, 11, 0, 0, 0, 3, 0xbd, 0x7c, 0x79, 0xb5, 0xf2, 0, 0x80, 0x32, 6, 0x10, 0, 0x84, 0, 2, 8],
    &[0x32, 8, 0x30, 3, 0x80, 0x80, 0xfd, 0xf8, 0x3a, 0x40],
];

/// Orders of these units of a format, 40 ms apart, packetised as `track`.
fn run_units(format: &str, track: &Track, units: &[Vec<u8>]) -> Vec<Order> {
    let sdp = format!(
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 {format}/90000\r\n"
    );
    let mut packetiser = Packetiser::new(track, 0, 96, MAX_PAYLOAD).expect("a codec that we know");
    let mut packets = Vec::new();
    for (unit, at) in units.iter().zip(0..) {
        let header = send::header(true, 96, at, u32::from(at) * 3_600, 7);
        let put = |payload: send::Payload<'_>| packets.push((0, [&header[..], payload.head, payload.body].concat()));
        packetiser.cut(unit, false, put).expect("whole");
    }
    assert_eq!(packets.len(), units.len(), "each fits a packet");
    run(&sdp, false, &packets)
}

/// Sizes of the track sets, with how many units came before each.
fn sizes(orders: &[Order]) -> Vec<(usize, u32, u32)> {
    let tracks = orders.iter().enumerate().filter_map(|(at, order)| match order {
        Order::Tracks(tracks) => Some((at, tracks.lead().width, tracks.lead().height)),
        _ => None,
    });
    tracks.enumerate().map(|(before, (at, width, height))| (at - before, width, height)).collect()
}

#[test]
fn a_key_frame_describes_the_track_and_another_size_describes_it_anew() {
    let changed = |unit: &[u8], changes: &[(usize, u8)]| {
        let mut unit = unit.to_vec();
        changes.iter().for_each(|(at, value)| unit[*at] = *value);
        unit
    };
    let check = |format: &str,
                 track: Result<Track, CodecError>,
                 units: [&[u8]; 2],
                 other: Vec<u8>,
                 size: (u32, u32)| {
        let [key, next] = units.map(<[u8]>::to_vec);
        let all = [&next, &key, &next, &key, &next, &other, &next, &key].map(Clone::clone);
        let orders = run_units(format, &track.expect("a key frame"), &all);
        assert_eq!(sizes(&orders), [(0, 176, 144), (5, size.0, size.1), (7, 176, 144)], "{format}");
        let given = units_of(&orders);
        assert_eq!(given.iter().map(|(data, _)| data.to_vec()).collect::<Vec<_>>(), all, "{format}: nothing is lost");
        let keys: Vec<usize> = (0..8).filter(|at| given[*at].1 == RandomAccess::Closed).collect();
        assert_eq!(keys, [1, 3, 5, 7], "{format}");
    };
    let id = TrackId(1);
    check("VP8", vp8::track(id, VP8[0]), VP8, changed(VP8[0], &[(6, 96)]), (96, 144));
    check("VP9", vp9::track(id, VP9[0]), VP9, changed(VP9[0], &[(5, 0x09)]), (160, 144));
    check("AV1", av1::track(id, &AV1[0][2..13]), AV1, changed(AV1[0], &[(6, 0xbc), (7, 0xfc)]), (160, 144));
}

fn units_of(orders: &[Order]) -> Vec<(bytes::Bytes, RandomAccess)> {
    units(orders, 1).into_iter().map(|unit| (unit.data, unit.random_access)).collect()
}

#[test]
fn pictures_without_a_key_frame_are_told_by_name() {
    let now = Instant::now();
    let sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n";
    let mut feed = feed(sdp, false, now);
    let header = send::header(true, 96, 1, 1, 7);
    feed.rtp(0, &[&header[..], &[0x10], VP8[1]].concat(), at(now, 10));
    feed.tick(at(now, 6_000));
    assert_eq!(feed.undescribed(), [Undescribed { track: 0, why: "no key frame came".into() }]);
}

/// Packets of H.264 with every third number taken by a packet of another payload type, as Geovision cameras (type 50) and
/// telephones (events, comfort noise) send them.
#[test]
fn packets_of_other_payload_types_are_no_loss() {
    let key = packets(FFMPEG).into_iter().filter(|(channel, _)| *channel == 0).map(|(_, bytes)| bytes);
    let mut sequence = 65_500u16;
    let mut mixed = Vec::new();
    for (count, mut bytes) in key.enumerate() {
        bytes[2..4].copy_from_slice(&sequence.to_be_bytes());
        sequence = sequence.wrapping_add(1);
        if count % 3 == 2 {
            let mut foreign = bytes.clone();
            foreign[1] = 50;
            foreign[2..4].copy_from_slice(&sequence.to_be_bytes());
            sequence = sequence.wrapping_add(1);
            mixed.push((0, bytes));
            mixed.push((0, foreign));
        } else {
            mixed.push((0, bytes));
        }
    }
    for datagrams in [false, true] {
        let video = units(&run(sdp::tests::FFMPEG, datagrams, &mixed), 1);
        assert_eq!(video.len(), 25, "datagrams: {datagrams}");
        assert!(video.iter().all(|unit| unit.loss_before == 0), "datagrams: {datagrams}");
    }
}

#[test]
fn a_wall_clock_that_is_set_is_told_in_order_and_moves_what_waits() {
    let (now, hour) = (Instant::now(), 3_600_000_000);
    let set = |at: Moment| Moment { wall: at.wall.plus_micros(hour), ..at };
    let plain = packets(FFMPEG);
    for after in [0, plain.len() / 2] {
        let mut feed = feed(sdp::tests::FFMPEG, false, now);
        for (n, (channel, bytes)) in plain.iter().enumerate() {
            let at = at(now, n as u64);
            let at = if n > after { set(at) } else { at };
            match channel % 2 {
                0 => feed.rtp(usize::from(channel / 2), bytes, at),
                _ => feed.rtcp(usize::from(channel / 2), bytes, at),
            }
        }
        let orders: Vec<_> = std::iter::from_fn(|| feed.pop()).collect();
        let told = orders.iter().position(|order| matches!(order, Order::ClockWasSet { by_us } if *by_us == hour));
        let told = told.expect("it is told");
        let late =
            |orders: &[Order]| units(orders, 1).iter().filter(|unit| unit.arrival >= set(at(now, 0)).wall).count();
        assert_eq!(late(&orders[..told]), 0);
        assert_eq!(late(&orders[told..]), units(&orders[told..], 1).len());
        assert_eq!(units(&orders, 1).len(), 25);
    }
    // While parameter sets are waited for nothing is out yet that would have to be told.
    let mut feed = feed(&bare(), false, now);
    let video: Vec<_> = plain.iter().filter(|(channel, _)| *channel == 0).collect();
    feed.rtp(0, &video[0].1, at(now, 0));
    feed.tick(set(at(now, 10)));
    feed.finish(set(at(now, 20)));
    let orders: Vec<_> = std::iter::from_fn(|| feed.pop()).collect();
    assert!(!orders.iter().any(|order| matches!(order, Order::ClockWasSet { .. })));
}
