//! Real clips through the real program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use media::codec::{h264, h265, nal};
use media::container::{cmaf, mp4};
use media::{RandomAccess, ServerTime, TrackId};
use rustix::process::Signal;

use super::*;

/// The program that was built beside this test.
pub(crate) fn program() -> PathBuf {
    let own = std::env::current_exe().expect("this test");
    let folder = own.parent().and_then(Path::parent).expect("target/debug");
    let program = folder.join("kinora-decoder");
    assert!(program.exists(), "{} is missing: cargo build -p kinora-decoder", program.display());
    program
}

/// As a server has them, in a folder that a test keeps.
pub(crate) fn settings(folder: &Path) -> TranscodeSettings {
    TranscodeSettings {
        program: program(),
        registry: folder.join("registry"),
        pictures: true,
        most: 64,
        patience: Duration::from_secs(60),
    }
}

fn clip(name: &str) -> Vec<u8> {
    let folder = std::env::var_os("KINORA_CLIPS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/clips"), PathBuf::from);
    let path = folder.join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run `make clips`", path.display()))
}

/// A track of a clip and its units, as a publisher of it would be given them.
pub(crate) fn units(name: &str, is_wanted: fn(Codec) -> bool) -> (Track, Vec<Arc<AccessUnit>>) {
    units_of(&clip(name), is_wanted)
}

fn units_of(file: &[u8], is_wanted: fn(Codec) -> bool) -> (Track, Vec<Arc<AccessUnit>>) {
    let parsed = mp4::read(file).expect("a clip");
    let track = parsed.tracks.iter().find(|track| is_wanted(track.track.codec)).expect("such a track").track.clone();
    let samples = parsed.samples.iter().filter(|sample| sample.track == track.id);
    let unit = |sample: &mp4::Sample| {
        let data = Bytes::copy_from_slice(sample.bytes(file));
        let random_access = match track.codec {
            Codec::H264 => h264::classify(nal::length_prefixed(&data, 4).map_while(Result::ok)).random_access,
            Codec::H265 => h265::classify(nal::length_prefixed(&data, 4).map_while(Result::ok), 0).random_access,
            _ => RandomAccess::Closed,
        };
        Arc::new(AccessUnit {
            track: track.id,
            pts: sample.pts,
            duration: None,
            random_access,
            disposable: false,
            loss_before: 0,
            arrival: ServerTime::default(),
            data,
        })
    };
    (track.clone(), samples.map(unit).collect())
}

/// Gives units to a sink as fast as they are taken, so that none is left out.
pub(crate) async fn feed(sink: Sink, units: Vec<Arc<AccessUnit>>) {
    for unit in units {
        sink.push_when_there_is_room(unit).await;
    }
}

/// Everything that comes of `units`, and the track that it is of.
async fn transcode(
    transcodes: &Transcodes,
    track: &Track,
    target: Target,
    units: Vec<Arc<AccessUnit>>,
) -> (Track, Vec<Arc<AccessUnit>>) {
    let (sink, mut source) = transcodes.start(track, target).expect("started");
    let feeding = tokio::spawn(feed(sink, units));
    let mut made = Vec::new();
    while let Some(unit) = source.next().await {
        made.push(unit.expect("a unit"));
    }
    feeding.await.expect("fed");
    let track = source.track().borrow().clone().expect("a track");
    (track, made)
}

/// A fragmented MP4 file of tracks, each with its units, times from `origin` (in seconds) on.
fn file(origin: f64, tracks: &[(&Track, &[Arc<AccessUnit>])]) -> Vec<u8> {
    let renumbered: Vec<Track> =
        tracks.iter().zip(1..).map(|((track, _), id)| Track { id: TrackId(id), ..(*track).clone() }).collect();
    let set = media::TrackSet::new(renumbered.clone()).expect("tracks");
    let mut out = cmaf::block_head(&set).to_vec();
    for (track, (_, units)) in renumbered.iter().zip(tracks) {
        let hz = f64::from(track.timescale.hz());
        let at = |pts: i64| (pts as f64 - origin * hz).round();
        let shown: Vec<f64> = units.iter().map(|unit| at(unit.pts)).collect();
        let first = shown.iter().position(|at| *at >= 0.0).expect("units after the origin");
        let units = &units[first..];
        let shown = &shown[first..];
        let entries: Vec<cmaf::Entry> = units
            .iter()
            .enumerate()
            .map(|(index, unit)| {
                let next = shown.get(index + 1).copied();
                let duration = next.map_or(1.0, |next| next - shown[index]);
                assert!(duration > 0.0, "unit {index} of {:?} is shown before the one before it", track.codec);
                cmaf::Entry {
                    duration: duration as u32,
                    offset: 0,
                    size: unit.data.len() as u32,
                    sync: unit.random_access != RandomAccess::No,
                }
            })
            .collect();
        let start = out.len();
        let payloads = units.iter().map(|unit| &unit.data[..]);
        cmaf::append(&mut out, start, track.id, 1, shown[0] as u64, &entries, payloads).expect("small enough");
    }
    out
}

fn ffmpeg(path: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-v", "error", "-xerror", "-copyts", "-i"])
        .arg(path)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("run ffmpeg");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "ffmpeg {arguments:?}: {said}");
    output.stdout
}

/// When each beep of a file begins, in seconds: loud samples after a fifth of a second of quiet ones.
fn beeps(path: &Path) -> Vec<f64> {
    let raw = ffmpeg(path, &["-map", "0:a", "-ac", "1", "-f", "s16le", "-"]);
    let samples: Vec<i16> = raw.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "a", "-show_entries", "stream=sample_rate:frame=pts_time,nb_samples"])
        .args(["-of", "compact=nk=1"])
        .arg(path)
        .output()
        .expect("run ffprobe");
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().find_map(|line| line.strip_prefix("stream|")).expect("a stream");
    let rate: f64 = rate.trim_end_matches('|').parse().expect("a rate");
    let mut rest = &samples[..];
    let mut quiet_since = f64::NEG_INFINITY;
    let mut starts = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("frame|")) {
        let fields: Vec<&str> = line.split('|').collect();
        let (time, count): (f64, usize) = (fields[1].parse().expect("a time"), fields[2].parse().expect("a count"));
        let (frame, after) = rest.split_at(count);
        rest = after;
        for (at, _) in frame.iter().enumerate().filter(|(_, sample)| sample.unsigned_abs() > 3277) {
            let now = time + at as f64 / rate;
            if now - quiet_since > 0.2 {
                starts.push(now);
            }
            quiet_since = now;
        }
    }
    assert!(rest.is_empty(), "{} samples are of no frame", rest.len());
    starts
}

fn is_aac(codec: Codec) -> bool {
    codec == Codec::Aac
}

/// Beeps of AAC and of the Opus made of it, both as FFmpeg hears them, are within a millisecond of each other.
fn check_in_step(folder: &Path, aac: (&Track, &[Arc<AccessUnit>]), opus: (&Track, &[Arc<AccessUnit>])) {
    let (before, after) = (folder.join("aac.mp4"), folder.join("opus.mp4"));
    std::fs::write(&before, file(-1.0, &[aac])).expect("written");
    std::fs::write(&after, file(-1.0, &[opus])).expect("written");
    let (before, after) = (beeps(&before), beeps(&after));
    assert_eq!(before.len(), 10, "{before:?}");
    let off = before.iter().zip(&after).map(|(before, after)| (before - after).abs()).fold(0.0, f64::max);
    assert!(after.len() == 10 && off < 0.001, "{before:.4?} became {after:.4?}");
}

/// Ten seconds with a beep at each.
fn beeping(rate: u32, channels: u32) -> (Track, Vec<Arc<AccessUnit>>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("beeps.mp4");
    let source = format!("aevalsrc='if(lt(mod(t,1),0.04),0.8*sin(2*PI*1000*t),0)':s={rate}:d=10");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-v", "error", "-f", "lavfi", "-i", &source, "-c:a", "aac"])
        .args(["-ac", &channels.to_string(), "-b:a", "96k"])
        .arg(&path)
        .status()
        .expect("run ffmpeg");
    assert!(made.success());
    units_of(&std::fs::read(&path).expect("made"), is_aac)
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_of_a_clip_stays_in_step_and_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let transcodes = Transcodes::new(settings(folder.path()));
    let (track, units) = units("flash-beep.mp4", is_aac);
    let (opus, made) = transcode(&transcodes, &track, Target::Opus, units.clone()).await;
    assert_eq!((opus.codec, opus.channels, opus.timescale.hz()), (Codec::Opus, 2, 48_000));
    assert!(made.windows(2).all(|pair| pair[1].pts - pair[0].pts == 960), "packets follow each other");
    assert!(made.iter().all(|unit| unit.duration == Some(960) && unit.random_access == RandomAccess::Closed));
    let (from, to) = (made[0].pts, made[made.len() - 1].pts + 960);
    let end = units[units.len() - 1].pts + 1024;
    assert_eq!(from, units[0].pts - 312, "as much earlier as the encoder looks ahead");
    assert!((end..end + 2 * 960).contains(&to), "all of it, and the last packet filled up: {to} for {end}");
    let bits = made.iter().map(|unit| unit.data.len()).sum::<usize>() as i64 * 8 * 48_000 / (to - from);
    assert!((60_000..128_000).contains(&bits), "{bits} bits a second");
    check_in_step(folder.path(), (&track, &units), (&opus, &made));
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_of_other_rates_and_channels_stays_in_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let transcodes = Transcodes::new(settings(folder.path()));
    for (rate, channels) in [(44_100, 2), (16_000, 1), (8_000, 1), (48_000, 6)] {
        let (track, units) = beeping(rate, channels);
        let (opus, made) = transcode(&transcodes, &track, Target::Opus, units.clone()).await;
        assert_eq!(opus.channels, channels.min(2) as u16);
        assert!(made.windows(2).all(|pair| pair[1].pts - pair[0].pts == 960), "{rate}: packets follow each other");
        check_in_step(folder.path(), (&track, &units), (&opus, &made));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_sound_and_a_jump_in_time_leave_the_rest_in_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let transcodes = Transcodes::new(settings(folder.path()));
    let (track, mut units) = beeping(44_100, 2);
    // Told of, not told of, and two seconds; none of them with a beep in it.
    let is_lost = |unit: &Arc<AccessUnit>| {
        let second = unit.pts as f64 / 44_100.0;
        (1.2..1.5).contains(&second) || (3.3..3.4).contains(&second) || (5.2..5.9).contains(&second)
    };
    let mut loss = 0;
    let mut kept = Vec::new();
    for unit in units.drain(..) {
        if is_lost(&unit) {
            loss += 1;
            continue;
        }
        let told = std::mem::take(&mut loss);
        let loss_before = if unit.pts < 2 * 44_100 { told } else { 0 };
        // From the seventh second on, two seconds later.
        let later = if unit.pts > 13 * 22_050 { 2 * 44_100 } else { 0 };
        kept.push(Arc::new(AccessUnit { loss_before, pts: unit.pts + later, ..(*unit).clone() }));
    }
    let (opus, made) = transcode(&transcodes, &track, Target::Opus, kept.clone()).await;
    check_in_step(folder.path(), (&track, &kept), (&opus, &made));
}

fn is_video(codec: Codec) -> bool {
    codec.is_video()
}

/// The numbers that `scripts/clips` drew into the pictures of a file, and when each is shown.
fn numbers(path: &Path) -> Vec<u32> {
    let planes =
        ffmpeg(path, &["-map", "0:v", "-vf", "crop=288:16:0:0,format=gray", "-vsync", "0", "-f", "rawvideo", "-"]);
    let square = |picture: &[u8], at: usize| picture[8 * 288 + at * 16 + 8] > 127;
    let number = |picture: &[u8]| (1..17).fold(0, |number, at| number << 1 | u32::from(square(picture, at)));
    planes.chunks_exact(288 * 16).map(number).collect()
}

async fn check_pictures(name: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let transcodes = Transcodes::new(settings(folder.path()));
    let (track, units) = units(name, is_video);
    let in_order = units.windows(2).all(|pair| pair[0].pts < pair[1].pts);
    assert!(!in_order, "{name} has B pictures");
    let (made_track, made) = transcode(&transcodes, &track, Target::H264, units.clone()).await;
    let mut shown: Vec<i64> = units.iter().map(|unit| unit.pts).collect();
    shown.sort_unstable();
    assert_eq!(made.iter().map(|unit| unit.pts).collect::<Vec<_>>(), shown, "{name}: each picture, in the order shown");
    let codec_string = made_track.codec_string.clone().unwrap_or_default();
    assert!(codec_string.starts_with("avc1.42c0"), "{name}: {codec_string} is not constrained baseline");
    assert_eq!((made_track.width, made_track.height), (track.width, track.height));
    let keys: Vec<i64> =
        made.iter().filter(|unit| unit.random_access == RandomAccess::Closed).map(|unit| unit.pts).collect();
    assert!(made[0].random_access == RandomAccess::Closed, "{name}: decoding starts at the first");
    assert!(keys.windows(2).all(|pair| pair[1] - pair[0] <= 2 * 90_000), "{name}: key frames at {keys:?}");
    let path = folder.path().join("h264.mp4");
    std::fs::write(&path, file(-1.0, &[(&made_track, &made)])).expect("written");
    assert_eq!(numbers(&path), (0..units.len() as u32).collect::<Vec<_>>(), "{name}: pictures and their times");
    let bytes = |units: &[Arc<AccessUnit>]| units.iter().map(|unit| unit.data.len()).sum::<usize>();
    assert_eq!(made_track.reorder_depth, Some(0), "{name}: no picture waits for another");
    println!("{name}: {} bytes became {}, {codec_string}, keys at {keys:?}", bytes(&units), bytes(&made));
    assert!(bytes(&made) < 3 * bytes(&units), "{name}: {} bytes became {}", bytes(&units), bytes(&made));
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_with_b_references_become_pictures_in_order() {
    check_pictures("bframes.mp4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h265_becomes_h264() {
    check_pictures("hevc.mp4").await;
}

/// Ends the process that a sink gives to, or stops it.
fn signal(sink: &Shared, signal: Signal) -> u32 {
    let number = sink.pid.load(Ordering::Relaxed);
    let pid = rustix::process::Pid::from_raw(number as i32).expect("a process runs");
    rustix::process::kill_process(pid, signal).expect("it is there");
    number
}

/// A transcode whose process gets `sent` after the first units came out, for every signal once.
async fn with_faults(
    settings: TranscodeSettings,
    (track, units): (Track, Vec<Arc<AccessUnit>>),
    target: Target,
    faults: &[Signal],
) -> (Vec<Arc<AccessUnit>>, Option<TranscodeError>) {
    let transcodes = Transcodes::new(settings);
    let (sink, mut source) = transcodes.start(&track, target).expect("started");
    let shared = sink.shared.clone();
    let feeding = tokio::spawn(feed(sink, units));
    let (mut made, mut faults, mut struck) = (Vec::new(), faults.iter(), 0);
    let mut error = None;
    while let Some(unit) = source.next().await {
        match unit {
            Ok(unit) => made.push(unit),
            Err(given) => error = Some(given),
        }
        let is_another = shared.pid.load(Ordering::Relaxed) != struck;
        if is_another
            && made.len() >= 30
            && let Some(fault) = faults.next()
        {
            struck = signal(&shared, *fault);
        }
    }
    feeding.await.expect("fed");
    assert_eq!(faults.len(), 0, "every fault happened");
    (made, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_goes_on_when_its_process_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (track, units) = beeping(48_000, 2);
    let count = units.len() as i64 * 1024 / 960;
    let (made, error) = with_faults(settings(folder.path()), (track, units), Target::Opus, &[Signal::KILL]).await;
    assert_eq!(error, None);
    assert!(made.windows(2).all(|pair| pair[0].pts < pair[1].pts));
    let jumps = made.windows(2).filter(|pair| pair[1].pts - pair[0].pts != 960).count();
    let missing = count - made.len() as i64;
    assert!(jumps == 1 && (0..=8).contains(&missing), "{jumps} jumps, {missing} packets of {count} are missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_go_on_at_a_key_frame_when_their_process_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = units("bframes.mp4", is_video);
    let keys: Vec<i64> =
        source.1.iter().filter(|unit| unit.random_access != RandomAccess::No).map(|unit| unit.pts).collect();
    let last = source.1.iter().map(|unit| unit.pts).max();
    let (made, error) = with_faults(settings(folder.path()), source, Target::H264, &[Signal::KILL]).await;
    assert_eq!(error, None);
    let starts: Vec<i64> =
        made.windows(2).filter(|pair| pair[1].pts - pair[0].pts != 3600).map(|pair| pair[1].pts).collect();
    assert!(starts.len() == 1 && keys.contains(&starts[0]), "it goes on at {starts:?}, one of {keys:?}");
    assert_eq!(made.last().map(|unit| unit.pts), last);
    let again = made.iter().find(|unit| unit.pts == starts[0]).expect("it is there");
    assert_eq!(again.random_access, RandomAccess::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_hangs_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let patience = TranscodeSettings { patience: Duration::from_secs(2), ..settings(folder.path()) };
    let source = beeping(48_000, 2);
    let end = source.1.last().map_or(0, |unit| unit.pts);
    let (made, error) = with_faults(patience, source, Target::Opus, &[Signal::STOP]).await;
    assert_eq!(error, None);
    assert!(made.last().is_some_and(|unit| unit.pts + 960 >= end), "up to the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_fails_again_ends_the_transcode_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = beeping(48_000, 2);
    let faults = [Signal::KILL, Signal::KILL];
    let (made, error) = with_faults(settings(folder.path()), source, Target::Opus, &faults).await;
    assert_eq!(error, Some(TranscodeError::Died("it ended unexpectedly")));
    assert!(made.len() >= 30);
}

/// Whether a process is there, a dead one that nobody waited for too.
fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_transcode_leaves_no_process_and_its_seat() {
    let folder = tempfile::tempdir().expect("a folder");
    let transcodes = Transcodes::new(TranscodeSettings { most: 2, ..settings(folder.path()) });
    let (track, units) = units("flash-beep.mp4", is_aac);
    let (sink, mut source) = transcodes.start(&track, Target::Opus).expect("started");
    let (_other, _held) = transcodes.start(&track, Target::Opus).expect("another");
    assert_eq!(transcodes.start(&track, Target::Opus).err(), Some(TranscodeError::TooMany));
    sink.push(units[0].clone());
    sink.push(units[1].clone());
    assert!(source.next().await.is_some_and(|unit| unit.is_ok()));
    let shared = sink.shared.clone();
    let pid = shared.pid.load(Ordering::Relaxed);
    assert!(is_there(pid));
    drop(source);
    while !shared.over.load(Ordering::Acquire) {
        shared.room.notified().await;
    }
    assert!(!is_there(pid), "it is killed and waited for");
    while transcodes.seats.available_permits() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(transcodes.start(&track, Target::Opus).is_ok(), "its seat is free");
}

#[tokio::test]
async fn what_cannot_be_or_may_not_be_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let transcodes = Transcodes::new(TranscodeSettings { pictures: false, ..settings(folder.path()) });
    let (video, _) = units("bframes.mp4", is_video);
    assert_eq!(transcodes.start(&video, Target::H264).err(), Some(TranscodeError::Off));
    assert!(matches!(transcodes.start(&video, Target::Opus), Err(TranscodeError::NotPossible(_))));
}

#[tokio::test]
async fn pictures_count_by_their_pixels_and_the_largest_may_run_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let transcodes = Transcodes::new(TranscodeSettings { most: 8, ..settings(folder.path()) });
    let (mut video, _) = units("bframes.mp4", is_video);
    let (sound, _) = units("flash-beep.mp4", is_aac);
    assert_eq!((weight(&sound, Target::Opus), weight(&video, Target::H264)), (1, 6));
    video.width = 1920;
    video.height = 1080;
    assert_eq!(weight(&video, Target::H264), 52);
    let large = transcodes.start(&video, Target::H264).expect("alone");
    assert_eq!(transcodes.start(&sound, Target::Opus).err(), Some(TranscodeError::TooMany));
    drop(large);
}

#[tokio::test]
async fn a_missing_program_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = TranscodeSettings { program: folder.path().join("nothing"), ..settings(folder.path()) };
    let (track, _) = units("flash-beep.mp4", is_aac);
    let (_sink, mut source) = Transcodes::new(nowhere).start(&track, Target::Opus).expect("a seat");
    assert!(matches!(source.next().await, Some(Err(TranscodeError::NoProgram(_)))));
    assert!(source.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn key_frames_come_when_they_are_wanted() {
    let folder = tempfile::tempdir().expect("a folder");
    let transcodes = Transcodes::new(settings(folder.path()));
    let (track, units) = units("bframes.mp4", is_video);
    let (sink, mut source) = transcodes.start(&track, Target::H264).expect("started");
    let keys = sink.keys();
    let feeding = tokio::spawn(feed(sink, units));
    let mut made = Vec::new();
    while let Some(unit) = source.next().await {
        made.push(unit.expect("a unit"));
        if made.len() == 20 {
            keys.want_key_frame();
        }
    }
    feeding.await.expect("fed");
    let keys = made.iter().enumerate().filter(|(_, unit)| unit.random_access == RandomAccess::Closed);
    let keys: Vec<usize> = keys.map(|(at, _)| at).collect();
    let wished = keys[1];
    assert!((20..40).contains(&wished), "key frames at {keys:?}");
    assert_eq!(keys.get(2), Some(&(wished + 50)), "and two seconds after it the next");
}

/// Every seventh unit's bytes spoiled from its middle on, another one cut, another one made of nothing.
fn spoiled(units: Vec<Arc<AccessUnit>>) -> Vec<Arc<AccessUnit>> {
    let spoil = |(at, unit): (usize, Arc<AccessUnit>)| {
        let mut data = unit.data.to_vec();
        let middle = data.len() / 2;
        match at % 21 {
            6 => data[middle..].iter_mut().for_each(|byte| *byte ^= 0x5a),
            13 => data.truncate(middle),
            20 => data = vec![0xff; 7],
            _ => return unit,
        }
        Arc::new(AccessUnit { data: data.into(), ..(*unit).clone() })
    };
    units.into_iter().enumerate().map(spoil).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_sound_costs_no_more_than_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let transcodes = Transcodes::new(settings(folder.path()));
    let (track, units) = units("flash-beep.mp4", is_aac);
    let end = units[units.len() - 1].pts;
    let (_, made) = transcode(&transcodes, &track, Target::Opus, spoiled(units)).await;
    assert!(made.windows(2).all(|pair| pair[0].pts < pair[1].pts));
    assert!(made.last().is_some_and(|unit| unit.pts + 2 * 960 >= end), "up to the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pictures_cost_no_more_than_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let transcodes = Transcodes::new(settings(folder.path()));
    for name in ["bframes.mp4", "hevc.mp4"] {
        let (track, units) = units(name, is_video);
        let last = units.iter().map(|unit| unit.pts).max();
        let count = units.len();
        let (made_track, made) = transcode(&transcodes, &track, Target::H264, spoiled(units)).await;
        assert!(made.len() > count / 2 && made.last().map(|unit| unit.pts) >= last.map(|last| last - 90_000), "{name}");
        let path = folder.path().join("h264.mp4");
        std::fs::write(&path, file(-1.0, &[(&made_track, &made)])).expect("written");
        assert_eq!(numbers(&path).len(), made.len(), "{name}: what was made is whole");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_of_another_size_become_those_of_the_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let transcodes = Transcodes::new(settings(folder.path()));
    let (track, mut small) = units("bframes.mp4", is_video);
    let (large_track, large) = units("demo.mp4", is_video);
    let later = small.iter().map(|unit| unit.pts).max().map_or(0, |last| last + 7200);
    let sets = h264::Config::of_entry(&large_track.sample_entry).expect("sets");
    let sets = nal::join(sets.sps.iter().chain(&sets.pps).copied());
    small.extend(large.iter().take(50).enumerate().map(|(at, unit)| {
        let data = if at == 0 { [&sets[..], &unit.data].concat().into() } else { unit.data.clone() };
        Arc::new(AccessUnit { pts: unit.pts + later, data, ..(**unit).clone() })
    }));
    let count = small.len();
    let (made_track, made) = transcode(&transcodes, &track, Target::H264, small).await;
    assert_eq!((made_track.width, made_track.height), (640, 360));
    // gst-libav refuses the new size, and starts anew: what was inside is lost.
    assert!((count - 4..=count).contains(&made.len()), "{} of {count}", made.len());
    let path = folder.path().join("h264.mp4");
    std::fs::write(&path, file(-1.0, &[(&made_track, &made)])).expect("written");
    assert_eq!(numbers(&path).len(), made.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_of_odd_sides_and_ten_bits_are_made_even_and_of_eight() {
    let folder = tempfile::tempdir().expect("a folder");
    let transcodes = Transcodes::new(settings(folder.path()));
    let path = folder.path().join("odd.mp4");
    let made = Command::new("ffmpeg")
        .args([
            "-nostdin",
            "-hide_banner",
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=322x182:rate=25:duration=2",
        ])
        .args(["-vf", "format=yuv444p10le,crop=321:181:0:0", "-c:v", "libx264", "-preset", "ultrafast"])
        .arg(&path)
        .status()
        .expect("run ffmpeg");
    assert!(made.success());
    let (track, units) = units_of(&std::fs::read(&path).expect("made"), is_video);
    let count = units.len();
    let (made_track, made) = transcode(&transcodes, &track, Target::H264, units).await;
    assert_eq!((made_track.width, made_track.height, made.len()), (track.width & !1, track.height & !1, count));
}
