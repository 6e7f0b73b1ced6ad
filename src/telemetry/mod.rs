//! Logs on standard error, the recorder of metrics, and whether the server's shared parts get on.
//!
//! Not here: which metrics there are; each room names its own where it counts.

use std::io::{self, Write};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::tree::{Log, LogFormat};

pub(crate) mod process;
pub(crate) mod pulse;
mod redact;
pub(crate) mod service;

/// Why telemetry did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error("log.filter: {0}")]
    Filter(String),
    #[error("telemetry was started twice")]
    Twice,
}

/// Starts logging to standard error, for the rest of the process.
///
/// # Errors
/// When the filter is not one.
pub(crate) fn start_logs(settings: &Log) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&settings.filter).map_err(|error| TelemetryError::Filter(error.to_string()))?;
    // Told of on the very stream that failed, a line that cannot be written would panic whoever logs: a full disk
    // under the log must not end what a request was doing.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Redacted).log_internal_errors(false);
    let started = match settings.format {
        LogFormat::Text => {
            let colours = io::IsTerminal::is_terminal(&io::stderr());
            builder.with_ansi(colours).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|_| TelemetryError::Twice)
}

/// Starts counting, for the rest of the process.
///
/// # Errors
/// When it was started before.
pub(crate) fn start_metrics() -> Result<PrometheusHandle, TelemetryError> {
    const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
        .expect("the buckets are not empty")
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::Twice)?;
    metrics::describe_counter!("kinora_http_requests_total", "Requests answered, by route and status.");
    metrics::describe_histogram!(
        "kinora_http_request_seconds",
        metrics::Unit::Seconds,
        "Time from the head of a request to the head of its answer, by route."
    );
    describe_doors();
    Ok(handle)
}

/// What the doors count; `live` describes its own.
fn describe_doors() {
    use metrics::{describe_counter, describe_gauge};
    describe_counter!("kinora_panics_total", "Panics of a part of the server that went on afterwards");
    describe_counter!("kinora_store_panics_total", "Panics while a stream was written: its fragments were refused");
    describe_gauge!("kinora_connections", "TCP connections that are open, by door");
    describe_counter!("kinora_connections_refused_total", "TCP connections beyond a limit, by door and reason");
    describe_counter!(
        "kinora_accept_errors_total",
        "Connections that the system did not give us, for want of descriptors mostly"
    );
    describe_counter!("kinora_connections_ended_total", "HTTP connections that the server ended, by reason");
    describe_gauge!("kinora_http_pieces_bytes", "Media that waits to be sent over HTTP, within limits.response_bytes");
    describe_counter!("kinora_rtsp_garbage_bytes_total", "Bytes between RTP packets over RTSP that were none");
    describe_counter!("kinora_webrtc_offers_refused_total", "WebRTC offers that were refused, by reason");
    describe_counter!("kinora_rtsp_foreign_datagrams_total", "Datagrams to a session's port from somebody else");
    describe_counter!("kinora_credentials_refused_total", "Credentials that were refused, by door and reason");
    describe_counter!("kinora_rtp_packets_total", "RTP packets received");
    describe_counter!("kinora_rtp_lost_packets_total", "RTP packets that never came");
    describe_counter!("kinora_rtp_dropped_packets_total", "RTP packets that came late, malformed or of another type");
}

/// Standard error, without secrets: whatever a log line took up, no token leaves by it.
#[derive(Clone, Copy)]
struct Redacted;

impl<'a> MakeWriter<'a> for Redacted {
    type Writer = Redacted;

    fn make_writer(&'a self) -> Redacted {
        Redacted
    }
}

/// Longest line written; the rest is cut off.
const LINE_BYTES_MAX: usize = 8 << 10;

impl Write for Redacted {
    /// `line` is a whole line: the formatter writes each event at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let clean = redact::redact(&text);
        let cut = clean.floor_char_boundary(LINE_BYTES_MAX);
        let mut out = io::stderr().lock();
        out.write_all(&clean.as_bytes()[..cut])?;
        if cut < clean.len() {
            out.write_all(b"...\n")?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
