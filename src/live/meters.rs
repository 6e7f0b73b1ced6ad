//! What the room counts, for `/metrics`.

use std::time::Instant;

use media::{DropReason, Dropped, StreamName};
use metrics::{Counter, Gauge, Histogram, Label, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics::{Unit, histogram};

/// The counters of one stream; shared by all streams when per-stream labels are off.
#[derive(Clone)]
pub(super) struct Meters {
    /// Fragments closed.
    pub closed: Counter,
    /// Bytes of closed fragments.
    pub closed_bytes: Counter,
    /// Fragments on disk and acknowledged.
    pub persisted: Counter,
    /// Bytes of them.
    pub persisted_bytes: Counter,
    /// Fragments that the disk refused.
    pub refused: Counter,
    /// Access units thrown away because the disk was behind.
    pub dropped_units: Counter,
    /// Access units or packets that never reached us.
    pub lost_units: Counter,
    /// RTP packets taken.
    pub packets: Counter,
    /// RTP packets that never came.
    pub lost_packets: Counter,
    labels: Vec<Label>,
    /// Bytes closed and not yet settled.
    pub unpersisted_bytes: Gauge,
    /// Publishers connected.
    pub publishers: Gauge,
    /// From the close of a fragment until it was acknowledged, in seconds.
    pub ack: Histogram,
}

impl Meters {
    /// The meters of `stream`, or of all streams together when it is none.
    pub fn new(stream: Option<&StreamName>) -> Meters {
        let labels = || -> Vec<Label> {
            stream.map(|name| Label::new("stream", name.as_str().to_owned())).into_iter().collect()
        };
        Meters {
            closed: counter!("kinora_fragments_closed_total", labels()),
            closed_bytes: counter!("kinora_fragment_bytes_closed_total", labels()),
            persisted: counter!("kinora_fragments_persisted_total", labels()),
            persisted_bytes: counter!("kinora_fragment_bytes_persisted_total", labels()),
            refused: counter!("kinora_fragments_refused_total", labels()),
            dropped_units: counter!("kinora_units_dropped_total", labels()),
            packets: counter!("kinora_rtp_packets_total"),
            lost_packets: counter!("kinora_rtp_lost_packets_total"),
            labels: labels(),
            lost_units: counter!("kinora_units_lost_total", labels()),
            unpersisted_bytes: gauge!("kinora_unpersisted_bytes", labels()),
            publishers: gauge!("kinora_publishers", labels()),
            ack: histogram!("kinora_fragment_ack_seconds", labels()),
        }
    }

    /// These were not stored.
    pub fn dropped(&self, dropped: &Dropped) {
        use DropReason::{LatePacket, MalformedPacket, WrongPayloadType, WrongSource};
        for (why, count) in dropped.iter() {
            let reason = Label::from_static_parts("reason", why.as_str());
            let labels: Vec<Label> = self.labels.iter().cloned().chain([reason]).collect();
            counter!("kinora_dropped_total", labels).increment(count);
            if matches!(why, LatePacket | MalformedPacket | WrongPayloadType | WrongSource) {
                counter!("kinora_rtp_dropped_packets_total").increment(count);
            }
        }
    }

    /// A fragment of `bytes` was closed.
    pub fn closed(&self, bytes: u64) {
        self.closed.increment(1);
        self.closed_bytes.increment(bytes);
        self.unpersisted_bytes.increment(bytes as f64);
    }

    /// A fragment of `bytes` that was closed at `closed` is on disk.
    pub fn persisted(&self, bytes: u64, closed: Instant) {
        self.persisted.increment(1);
        self.persisted_bytes.increment(bytes);
        self.unpersisted_bytes.decrement(bytes as f64);
        self.ack.record(closed.elapsed().as_secs_f64());
    }

    /// A fragment of `bytes` will not be on disk.
    pub fn refused(&self, bytes: u64) {
        self.refused.increment(1);
        self.unpersisted_bytes.decrement(bytes as f64);
    }
}

/// Says what each metric means; call once, after the recorder of metrics is installed.
pub(crate) fn describe() {
    describe_counter!("kinora_fragments_closed_total", "Fragments closed");
    describe_counter!("kinora_fragment_bytes_closed_total", Unit::Bytes, "Bytes of closed fragments");
    describe_counter!("kinora_fragments_persisted_total", "Fragments on stable storage and acknowledged");
    describe_counter!("kinora_fragment_bytes_persisted_total", Unit::Bytes, "Bytes of persisted fragments");
    describe_counter!("kinora_fragments_refused_total", "Fragments that the disk refused; they are gaps now");
    describe_counter!("kinora_units_dropped_total", "Access units dropped because the disk was behind");
    describe_counter!("kinora_dropped_total", "Packets and access units that came and were not stored, by reason");
    describe_counter!("kinora_units_lost_total", "Access units or packets lost on the way to us");
    describe_gauge!("kinora_unpersisted_bytes", Unit::Bytes, "Bytes closed and not yet on stable storage");
    describe_gauge!("kinora_publishers", "Publishers connected");
    describe_histogram!("kinora_fragment_ack_seconds", Unit::Seconds, "From the close of a fragment to PERSISTED");
    describe_histogram!("kinora_store_sync_seconds", Unit::Seconds, "One sync of a block, which fragments wait for");
    describe_counter!("kinora_blocks_expired_bytes_total", Unit::Bytes, "Bytes dropped by retention");
    describe_counter!("kinora_blocks_evicted_bytes_total", Unit::Bytes, "Bytes dropped to free space on the volume");
    describe_gauge!("kinora_volume_free_bytes", Unit::Bytes, "Bytes free on the volume");
    describe_gauge!("kinora_volume_total_bytes", Unit::Bytes, "Bytes of the volume");
    describe_gauge!(
        "kinora_volume_minimum_kept",
        "1 while the volume is short and streams are down to storage.min_retention: dropping media does not help"
    );
    describe_counter!("kinora_clock_steps_total", "Times that this server's wall clock was set");
    describe_gauge!(
        "kinora_clock_held_seconds",
        "How far behind the wall clock retention by age goes, after it was set forward"
    );
    describe_gauge!("kinora_volume_full", "1 while nothing is recorded because the volume is full");
}
