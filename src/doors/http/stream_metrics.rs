//! Metrics of every stream there is, published since the start or not.
//!
//! They are read from what streams are when they are asked for: nothing has to keep a gauge right, and a stream that was
//! deleted leaves none behind.

use std::fmt::Write;
use std::time::Instant;

use media::ServerTime;

use super::App;
use crate::live::Standing;

/// Name, what it means, and the value of a stream; no value is no line.
type Metric = (&'static str, &'static str, fn(&Standing) -> Option<f64>);

const METRICS: [Metric; 4] = [
    ("kinora_stream_live", "1 while somebody publishes the stream", |stream| Some(f64::from(u8::from(stream.live)))),
    ("kinora_stream_stored_bytes", "Bytes of the stream on disk", |stream| Some(stream.bytes as f64)),
    (
        "kinora_stream_oldest_timestamp_seconds",
        "When the oldest stored media of the stream arrived, in seconds since 1970",
        |stream| stream.oldest.map(seconds),
    ),
    (
        "kinora_stream_last_fragment_timestamp_seconds",
        "When the newest fragment of the stream ended, in seconds since 1970",
        |stream| stream.newest.map(seconds),
    ),
];

/// These metrics in the text format of Prometheus, one series a stream; nothing when streams are not to be named.
pub(super) async fn render(app: &App) -> Result<String, store::StoreError> {
    if !app.config().metrics.per_stream {
        return Ok(String::new());
    }
    let streams = app.catalog.all_streams();
    let standings = app.hub.standings(streams.iter().map(|stream| stream.id).collect()).await?;
    let mut text = String::with_capacity(64 + standings.len() * METRICS.len() * 64);
    for (name, help, value) in METRICS {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (stream, standing) in streams.iter().zip(&standings) {
            if let Some(value) = value(standing) {
                // Names have no character that would have to be escaped.
                let _ = writeln!(text, "{name}{{stream=\"{}\"}} {value}", stream.name);
            }
        }
    }
    let now = Instant::now();
    let _ = writeln!(text, "# HELP kinora_stream_viewers Viewers of the stream\n# TYPE kinora_stream_viewers gauge");
    for stream in &streams {
        let _ = writeln!(text, "kinora_stream_viewers{{stream=\"{}\"}} {}", stream.name, app.viewers(stream.id, now));
    }
    Ok(text)
}

fn seconds(time: ServerTime) -> f64 {
    time.micros() as f64 / 1e6
}
