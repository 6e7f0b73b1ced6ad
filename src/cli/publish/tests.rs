use std::collections::HashMap;

use media::{Codec, ServerTime};

use super::clip::{Clip, FRAME};
use super::pace::Pace;
use super::*;

const FILE: &[u8] = include_bytes!("../../../tests/data/mp4/progressive.mp4");

fn clip() -> Clip {
    Clip::build(FILE).expect("our own file")
}

/// Timestamps by track of every unit of `count` rounds, with the instant of sending in microseconds.
fn sent(clip: &Clip, count: u64) -> HashMap<usize, Vec<(i64, u32)>> {
    let mut numbers = 0;
    let mut pace = Pace::new(clip, Some(count), || {
        numbers += 1;
        u32::MAX - numbers // close to the wrap
    });
    let (mut sent, mut last_sequence) = (HashMap::<usize, Vec<(i64, u32)>>::new(), HashMap::new());
    while let Some((unit, due)) = pace.peek(clip) {
        let (track, mut out) = (unit.track, Vec::new());
        pace.take(clip, &mut out);
        let mut rest = &out[..];
        let mut markers = 0;
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
            let packet = &rest[FRAME..FRAME + length];
            let sequence = u16::from_be_bytes([packet[2], packet[3]]);
            if let Some(last) = last_sequence.insert(track, sequence) {
                assert_eq!(sequence, u16::wrapping_add(last, 1));
            }
            markers += usize::from(packet[1] & 0x80 != 0);
            rest = &rest[FRAME + length..];
            let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
            if rest.is_empty() {
                sent.entry(track).or_default().push((due, timestamp));
                assert!(packet[1] & 0x80 != 0, "the last packet of a unit is marked");
            }
        }
        assert_eq!(markers, 1);
    }
    sent
}

#[test]
fn rounds_go_on_without_holes_and_without_drift() {
    let clip = clip();
    let rounds = 50;
    let sent = sent(&clip, rounds);
    let video = &sent[&0];
    assert_eq!(video.len() as u64, 12 * rounds, "every picture of every round");
    let mut shown: Vec<u32> = video.iter().map(|(_, timestamp)| timestamp.wrapping_add(1 << 20)).collect();
    shown.sort_unstable();
    assert!(shown.windows(2).all(|pair| pair[1] - pair[0] == 3600));
    let audio = &sent[&1];
    assert!(audio.windows(2).all(|pair| pair[1].1.wrapping_sub(pair[0].1) == 1024), "sound is continuous");
    let seconds = audio.len() as f64 * 1024.0 / 44_100.0;
    assert!((seconds - 0.48 * rounds as f64).abs() < 0.05, "{seconds} s of sound");
    for units in sent.values() {
        assert!(units.windows(2).all(|pair| pair[0].0 <= pair[1].0), "in order of time");
    }
}

#[test]
fn no_picture_is_taken_after_it_was_sent() {
    let clip = clip();
    let mut pace = Pace::new(&clip, Some(2), || 0);
    while let Some((unit, due)) = pace.peek(&clip) {
        let report = pace.report(&clip, unit.track, due, ServerTime::from_micros(0));
        let mut out = Vec::new();
        pace.take(&clip, &mut out);
        let timestamp = u32::from_be_bytes([out[8], out[9], out[10], out[11]]);
        let late = report.timestamp.wrapping_sub(timestamp) as i32;
        let codec = clip.tracks[unit.track].track.codec;
        assert!(late >= 0, "{codec:?} {late}");
        assert!(codec != Codec::H264 || late <= 4 * 3600);
    }
}

#[test]
fn address_is_taken_apart() {
    let plain = |text: &str| Target::parse(text, &Trust::Authorities);
    let target = plain("rtsp://me:p%40ss@[::1]:8554/gate").expect("an address");
    assert_eq!((target.host.as_str(), target.port), ("::1", 8554));
    assert_eq!(target.uri, "rtsp://[::1]:8554/gate");
    assert_eq!(target.credentials.as_ref().map(|it| it.password.as_str()), Some("p@ss"));
    assert_eq!(target.numbered(1, 1).uri, target.uri);
    assert_eq!(target.numbered(3, 9).uri, "rtsp://[::1]:8554/gate-3");
    assert_eq!(plain("rtsp://h/x").map(|target| (target.port, target.tls.is_none())), Ok((554, true)));
    assert_eq!(plain("rtsps://h/x").map(|target| (target.port, target.tls.is_some())), Ok((322, true)));
    assert!(plain("http://h/x").is_err());
    assert!(plain("gate").is_err());
}
