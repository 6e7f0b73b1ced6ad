//! What the writer says, as our own reader and the parser of `mp4-atom` understand it. Players judge it in `tests/it/clip.rs`.

use mp4_atom::{Atom, Decode, DecodeMaybe, Ftyp, Moov};

use super::*;
use crate::container::cmaf::Entry;

const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x50, 0x87, 0x88, 0x88, 0xc0, 0x44, 0x00, 0x00, 0x0f, 0xa4, 0x00, 0x03,
    0xa9, 0x80, 0x3c, 0x50, 0xa6, 0x58,
];
const PPS: &[u8] = &[0x68, 0xea, 0xe3, 0xcb, 0x22, 0xc0];

fn entry(duration: u32, offset: u32, size: u32, sync: bool) -> Entry {
    Entry { duration, offset, size, sync }
}

/// Four pictures out of order, of which the second shown is the first wanted, and a sound of law `sound` beside them.
fn movie(sound: Track, samples: Vec<Entry>, payload_len: u64) -> Movie {
    let video = MovieTrack {
        track: h264::track(TrackId(1), SPS, &[PPS]).expect("a real set"),
        more_entries: Vec::new(),
        samples: vec![
            entry(3600, 3600, 50, true),
            entry(3600, 7200, 20, false),
            entry(3600, 0, 10, false),
            entry(7200, 3600, 30, false),
        ],
        chunks: vec![
            Chunk { offset: 0, samples: 3, description: 0 },
            Chunk { offset: payload_len - 30, samples: 1, description: 0 },
        ],
        edit: Edit { wait: 0, start: 7200, duration: 10_800 },
    };
    let sound = MovieTrack {
        track: sound,
        more_entries: Vec::new(),
        chunks: vec![Chunk { offset: 80, samples: samples.len() as u32, description: 0 }],
        samples,
        edit: Edit { wait: 900, start: 0, duration: 9_900 },
    };
    Movie { tracks: vec![video, sound], payload_len, fragments_follow: false }
}

fn aac_movie(payload_len: u64) -> Movie {
    let sound = aac::track(TrackId(2), &[0x11, 0x90]).expect("LC, 48 kHz, stereo");
    movie(sound, vec![entry(1024, 0, 7, true), entry(2000, 0, 9, true)], payload_len)
}

fn file_of(movie: &Movie) -> Vec<u8> {
    let mut file = movie.head();
    let payload = (0..movie.payload_len).map(|at| at as u8);
    file.extend(payload);
    file
}

#[test]
fn our_reader_finds_every_sample_at_its_place_and_time() {
    let file = file_of(&aac_movie(126));
    let head_len = file.len() - 126;
    let read = read(&file).expect("a whole file");
    let of = |id: u32| read.samples.iter().filter(|sample| sample.track == TrackId(id)).copied().collect::<Vec<_>>();
    let video = of(1);
    assert_eq!(video.iter().map(|sample| sample.pts).collect::<Vec<_>>(), [-3600, 3600, 0, 7200]);
    assert_eq!(video.iter().map(|sample| sample.sync).collect::<Vec<_>>(), [true, false, false, false]);
    let places = video.iter().map(|sample| (sample.offset as usize - head_len, sample.len));
    assert_eq!(places.collect::<Vec<_>>(), [(0, 50), (50, 20), (70, 10), (96, 30)]);
    assert_eq!(video[3].bytes(&file), (96..126).collect::<Vec<u8>>());
    let sound = of(2);
    assert_eq!(sound.iter().map(|sample| (sample.pts, sample.len)).collect::<Vec<_>>(), [(480, 7), (1504, 9)]);
    assert_eq!(sound[0].offset as usize, head_len + 80);
}

#[test]
fn another_parser_reads_the_head() {
    let head = aac_movie(126).head();
    let mut rest = &head[..];
    assert_eq!(Ftyp::decode(&mut rest).expect("an ftyp").major_brand, b"isom".into());
    let moov = Moov::decode_maybe(&mut rest).expect("a moov").expect("whole");
    assert_eq!(rest.len(), 8, "the header of the mdat");
    assert_eq!((moov.mvhd.timescale, moov.mvhd.duration), (90_000, 10_800));
    let tables = &moov.trak[0].mdia.minf.stbl;
    assert_eq!(tables.stts.entries.len(), 2);
    assert_eq!(tables.stss.as_ref().expect("not all are sync").entries, [1]);
    assert_eq!(tables.stco.as_ref().expect("narrow").entries.len(), 2);
    let edits = &moov.trak[1].edts.as_ref().expect("edits").elst.as_ref().expect("a list").entries;
    assert_eq!(edits.len(), 2);
    assert_eq!(Moov::KIND, b"moov".into());
}

#[test]
fn offsets_are_wide_only_when_they_must() {
    let four_gib = 1u64 << 32;
    let head = aac_movie(four_gib + 5).head();
    let moov_at = 28;
    assert_eq!(&head[moov_at - 4..moov_at], b"mp41");
    let mut rest = &head[moov_at..];
    let moov = Moov::decode_maybe(&mut rest).expect("a moov").expect("whole");
    let tables = &moov.trak[0].mdia.minf.stbl;
    assert!(tables.stco.is_none());
    let offsets = &tables.co64.as_ref().expect("wide").entries;
    assert_eq!(offsets[..], [head.len() as u64, head.len() as u64 + four_gib + 5 - 30]);
    assert_eq!(rest[..8], *b"\0\0\0\x01mdat");
    assert_eq!(rest[8..], (four_gib + 5 + 16).to_be_bytes());
}

#[test]
fn g711_is_written_byte_by_byte_and_keeps_its_pauses() {
    let sound = g711::track(TrackId(2), g711::Law::A);
    // The second run comes 80 ms late, the third 10 ms before the second is over.
    let samples = vec![entry(800, 0, 160, true), entry(80, 0, 160, true), entry(160, 0, 160, true)];
    let file = file_of(&movie(sound, samples, 80 + 480 + 30));
    let read = read(&file).expect("a whole file");
    let sound: Vec<_> = read.samples.iter().filter(|sample| sample.track == TrackId(2)).collect();
    let bytes: Vec<u8> = sound.iter().flat_map(|sample| sample.bytes(&file)).copied().collect();
    assert_eq!(bytes, (80..560).map(|at| at as u8).collect::<Vec<_>>());
    assert_eq!(sound[0].pts, 80, "the wait of 10 ms");
    let starts: Vec<i64> = sound.iter().map(|sample| sample.pts).collect();
    assert!(starts.contains(&880), "{starts:?}");
    assert_eq!(sound.iter().map(|sample| u64::from(sample.duration)).sum::<u64>(), 800 + 160 + 160);
}

#[test]
fn fragments_may_follow_what_the_head_lists() {
    let movie = Movie { fragments_follow: true, ..aac_movie(126) };
    let mut file = file_of(&movie);
    let (more, payload) = ([entry(3600, 0, 3, true)], [&b"key"[..]]);
    crate::container::cmaf::append(&mut file, 0, TrackId(1), 1, 18_000, &more, payload.into_iter()).expect("small");
    let read = read(&file).expect("a whole file");
    let last = read.samples.iter().rfind(|sample| sample.track == TrackId(1)).expect("a picture");
    assert_eq!((last.pts, last.bytes(&file)), (18_000 - 7200, &b"key"[..]));
    assert_eq!(read.samples.iter().filter(|sample| sample.track == TrackId(1)).count(), 5);
}
