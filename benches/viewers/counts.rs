//! What is counted of packets and pictures.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::Failed;

/// Packets of one viewer.
#[derive(Default)]
pub struct Counts {
    first: Option<u64>,
    last: u64,
    packets: u64,
    /// The newest eight bytes of pictures.
    tail: u64,
    /// The last eight bytes of each picture, and when they came, in nanoseconds since 1970.
    pictures: Vec<(u64, u64)>,
    /// Lengths of the datagrams of each picture, where they are wanted.
    sizes: Option<Vec<Vec<usize>>>,
    sizes_open: Vec<usize>,
}

impl Counts {
    /// Begins anew.
    pub fn clear(&mut self, with_sizes: bool) {
        *self = Counts { sizes: with_sizes.then(Vec::new), ..Counts::default() };
    }

    /// Takes a packet that came at `nanos`.
    pub fn packet(&mut self, sequence: u64, ends_picture: bool, payload: &[u8], nanos: u64) {
        // What was on its way before counts for nothing.
        let first = *self.first.get_or_insert(sequence);
        if payload.is_empty() || sequence < first {
            return;
        }
        self.last = self.last.max(sequence);
        self.packets += 1;
        // Pictures end in fragments (RFC 6184 section 5.8), which have two bytes in front.
        for byte in payload.iter().skip(2.max(payload.len().saturating_sub(8))) {
            self.tail = self.tail << 8 | u64::from(*byte);
        }
        if ends_picture {
            self.pictures.push((self.tail, nanos));
        }
    }

    /// Notes the length of a datagram.
    pub fn datagram(&mut self, bytes: &[u8]) {
        let Some(sizes) = &mut self.sizes else { return };
        // RTP and not RTCP (RFC 5761 section 4).
        let is_rtp = matches!(bytes, [128..=191, second, ..] if !(64..=95).contains(&(second & 0x7f)));
        if !is_rtp {
            return;
        }
        self.sizes_open.push(bytes.len());
        if bytes[1] & 0x80 != 0 {
            sizes.push(std::mem::take(&mut self.sizes_open));
        }
    }

    fn missing(&self) -> u64 {
        self.first.map_or(0, |first| (self.last - first + 1).saturating_sub(self.packets))
    }
}

/// What a camera sent, and each time when it did.
#[derive(Default)]
struct Sent {
    is_key: bool,
    nanos: Vec<u64>,
}

/// Its log, which `benches/camera.py` writes, by the last eight bytes of each picture.
fn log(path: &str) -> Result<HashMap<u64, Sent>, Failed> {
    let mut all: HashMap<u64, Sent> = HashMap::new();
    for line in std::fs::read_to_string(path)?.lines() {
        if let [_, nanos, end, kind] = line.split(' ').collect::<Vec<_>>()[..] {
            let sent = all.entry(u64::from_str_radix(end, 16)?).or_default();
            sent.is_key = kind == "key";
            sent.nanos.push(nanos.parse()?);
        }
    }
    Ok(all)
}

/// All of them together, and how late the pictures were by the log of their camera.
pub fn summary<'a>(all: impl Iterator<Item = &'a Counts>, camera: &str) -> Result<Value, Failed> {
    let camera = log(camera)?;
    let (mut packets, mut missing, mut pictures, mut viewers, mut sizes) = (0, 0, 0, 0, None);
    let (mut delays, mut of_keys) = (Vec::new(), Vec::new());
    for counts in all {
        viewers += 1;
        packets += counts.packets;
        missing += counts.missing();
        pictures += counts.pictures.len();
        sizes = sizes.or(counts.sizes.as_ref());
        for (end, nanos) in &counts.pictures {
            let Some(picture) = camera.get(end) else { continue };
            // A clip that is sent over and over has the same picture more than once.
            let Some(sent) = picture.nanos.iter().rev().find(|sent| *sent <= nanos) else { continue };
            delays.push(nanos - sent);
            if picture.is_key {
                of_keys.push(nanos - sent);
            }
        }
    }
    Ok(json!({
        "viewers": viewers, "packets": packets, "missing": missing, "pictures": pictures, "known": delays.len(),
        "delay_ms": shares(delays), "key_pictures_delay_ms": shares(of_keys), "sizes": sizes,
    }))
}

fn shares(mut nanos: Vec<u64>) -> Value {
    nanos.sort_unstable();
    let at = |share: f64| nanos.get((nanos.len() as f64 * share) as usize).or(nanos.last()).map(|ns| *ns as f64 / 1e6);
    json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "most": at(1.0) })
}
