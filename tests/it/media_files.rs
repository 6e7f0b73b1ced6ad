//! What FFmpeg says a file or an address holds: the judge that shares no code with us.

use std::process::{Command, Stdio};

/// One packet as `ffprobe` lists it, times in seconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packet {
    pub pts: f64,
    pub dts: f64,
    pub size: u64,
}

/// Packets of the first stream of a kind (`v` or `a`), in file order.
pub(crate) fn packets(input: &str, kind: char) -> Vec<Packet> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", &format!("{kind}:0")])
        .args(["-show_entries", "packet=pts_time,dts_time,size", "-of", "json", input])
        .output()
        .expect("run ffprobe");
    assert!(output.status.success(), "ffprobe {input}: {}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("ffprobe writes JSON");
    let number = |value: &serde_json::Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    json["packets"]
        .as_array()
        .expect("a list of packets")
        .iter()
        .map(|packet| Packet {
            pts: number(&packet["pts_time"]).expect("a packet has a pts"),
            dts: number(&packet["dts_time"]).unwrap_or(f64::NAN),
            size: number(&packet["size"]).unwrap_or_default() as u64,
        })
        .collect()
}

/// Decodes everything with errors made fatal; gives the count of video frames.
///
/// # Panics
/// When FFmpeg reports any error.
pub(crate) fn decoded_frames(input: &str) -> u64 {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-v", "error", "-xerror", "-i", input])
        .args(["-map", "0:v:0", "-map", "0:a?", "-f", "null", "-progress", "-", "-fps_mode", "passthrough", "-"])
        .stdin(Stdio::null())
        .output()
        .expect("run ffmpeg");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.trim().is_empty(), "ffmpeg {input}: {errors}");
    let progress = String::from_utf8_lossy(&output.stdout);
    let frames = progress.lines().rev().find_map(|line| line.strip_prefix("frame="));
    frames.and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| panic!("no frame count in: {progress}"))
}

/// Presentation time in seconds and hash of each picture that FFmpeg decodes, errors fatal.
///
/// # Panics
/// When FFmpeg fails.
pub(crate) fn pictures(input: &str) -> Vec<(f64, String)> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-v", "error", "-xerror", "-i", input, "-map", "0:v:0"])
        .args(["-fps_mode", "passthrough", "-enc_time_base", "1:90000", "-f", "framemd5", "-"])
        .stdin(Stdio::null())
        .output()
        .expect("run ffmpeg");
    assert!(output.status.success(), "ffmpeg {input}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let picture = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        (fields[2].parse::<f64>().expect("a time") / 90_000.0, fields[5].to_owned())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(picture).collect()
}

/// Differences of presentation times to the smallest, sorted, in whole milliseconds.
pub(crate) fn shown_at(packets: &[Packet]) -> Vec<i64> {
    let first = packets.iter().map(|packet| packet.pts).fold(f64::INFINITY, f64::min);
    let mut times: Vec<i64> = packets.iter().map(|packet| ((packet.pts - first) * 1000.0).round() as i64).collect();
    times.sort_unstable();
    times
}
