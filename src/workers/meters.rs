//! What the room counts, for `/metrics`.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// The counters of the pool.
pub(super) struct Meters {
    /// Pictures finished.
    pub pictures: Counter,
    /// Decoders that died, hung or did not keep to the messages.
    pub failures: Counter,
    /// Tasks in the queue.
    pub waiting: Gauge,
    /// Tasks turned away because too many waited.
    pub turned_away: Counter,
    /// Tasks that nobody waited for any more.
    pub cancelled: Counter,
    /// How long tasks waited for a decoder, and how long they took, in seconds.
    pub waited: Histogram,
    pub took: Histogram,
}

impl Meters {
    pub fn new() -> Meters {
        Meters {
            pictures: counter!("kinora_pictures_total"),
            failures: counter!("kinora_decoder_failures_total"),
            waiting: gauge!("kinora_picture_tasks_waiting"),
            turned_away: counter!("kinora_picture_tasks_turned_away_total"),
            cancelled: counter!("kinora_picture_tasks_cancelled_total"),
            waited: histogram!("kinora_picture_task_waited_seconds"),
            took: histogram!("kinora_picture_task_seconds"),
        }
    }
}

/// The counters of transcodes.
pub(super) struct TranscodeMeters {
    /// Transcodes that run.
    pub running: Gauge,
    /// Units made.
    pub units: Counter,
    /// Units of the source that were left out: the process was behind, or was replaced.
    pub left_out: Counter,
    /// Processes that died, hung or did not keep to the messages.
    pub failures: Counter,
    /// Transcodes turned away because too many ran.
    pub turned_away: Counter,
}

impl TranscodeMeters {
    pub fn new() -> TranscodeMeters {
        TranscodeMeters {
            running: gauge!("kinora_transcodes"),
            units: counter!("kinora_transcoded_units_total"),
            left_out: counter!("kinora_transcode_units_left_out_total"),
            failures: counter!("kinora_transcode_failures_total"),
            turned_away: counter!("kinora_transcodes_turned_away_total"),
        }
    }
}

/// Says what each metric means; call once, after the recorder of metrics is installed.
pub(crate) fn describe() {
    describe_counter!("kinora_pictures_total", "Pictures finished by decoders");
    describe_counter!("kinora_decoder_failures_total", "Decoders that died or hung and were replaced");
    describe_gauge!("kinora_picture_tasks_waiting", "Groups of pictures that wait for a decoder");
    describe_counter!("kinora_picture_tasks_turned_away_total", "Groups of pictures refused because too many waited");
    describe_counter!(
        "kinora_picture_tasks_cancelled_total",
        "Groups of pictures whose client left before they were done"
    );
    describe_histogram!(
        "kinora_picture_task_waited_seconds",
        Unit::Seconds,
        "How long a group of pictures waited for a decoder"
    );
    describe_histogram!("kinora_picture_task_seconds", Unit::Seconds, "How long a group of pictures took to decode");
    describe_gauge!("kinora_transcodes", "Tracks that are made into another codec now");
    describe_counter!("kinora_transcoded_units_total", "Units made in another codec");
    describe_counter!(
        "kinora_transcode_units_left_out_total",
        "Units that were not transcoded because the process was behind or was replaced"
    );
    describe_counter!("kinora_transcode_failures_total", "Processes that transcoded and died or hung");
    describe_counter!("kinora_transcodes_turned_away_total", "Transcodes refused because as many ran as may");
}
