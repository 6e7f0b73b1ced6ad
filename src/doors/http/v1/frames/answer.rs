//! The three forms of an answer: a picture, pictures in parts of one body, pictures in lines of JSON.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::iter::once;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use base64::write::EncoderStringWriter;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use media::ClockSource;
use serde_json::json;

use super::api_error;
use super::kind::Kind;
use crate::doors::http::time::format_producer;
use crate::frames::{Caption, Frame, Given, Missing, Stream};

fn source_name(source: ClockSource) -> &'static str {
    match source {
        ClockSource::Arrival => "arrival",
        ClockSource::SenderReport => "sender_report",
        ClockSource::Matroska => "matroska",
        ClockSource::AbsoluteCapture => "abs_capture_time",
    }
}

/// What every picture says of itself: the names of headers and, without `kinora-`, of fields of a line.
fn facts(frame: &Frame) -> Vec<(&'static str, String)> {
    let Caption { asked, time, clock_source, clock_error_us, pts, timescale, fragment, is_key, is_exact, is_damaged } =
        &frame.caption;
    let mut facts = vec![("kinora-time", format_producer(*time))];
    facts.extend(asked.map(|asked| ("kinora-asked", format_producer(asked))));
    facts.extend([
        ("kinora-clock-source", source_name(*clock_source).to_owned()),
        ("kinora-clock-error", format!("{:.6}", f64::from(*clock_error_us) / 1e6)),
        ("kinora-pts", format!("{pts}/{}", timescale.hz())),
        ("kinora-fragment", fragment.to_string()),
        ("kinora-key", is_key.to_string()),
        ("kinora-exact", is_exact.to_string()),
        ("kinora-damaged", is_damaged.to_string()),
        ("kinora-width", frame.width.to_string()),
        ("kinora-height", frame.height.to_string()),
    ]);
    facts
}

/// One picture by itself.
pub(super) fn single(frame: Frame, kind: Kind, is_latest: bool) -> Response {
    let said = facts(&frame);
    let length = kind.len(&frame);
    let pieces = kind.pieces(frame).map(Ok::<_, std::convert::Infallible>);
    let mut response = Body::from_stream(futures_util::stream::iter(pieces)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind.content_type()));
    for (name, value) in said {
        let value = HeaderValue::from_str(&value).expect("made of letters, digits and punctuation of ours");
        headers.insert(HeaderName::from_static(name), value);
    }
    // The picture of an instant stays what it is, but for a feed that is sent again; what retention deletes must not live on
    // for long.
    let kept = if is_latest { "no-store" } else { "private, max-age=300" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
    response
}

/// Whether the client asked for lines of JSON.
pub(super) fn wants_lines(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/x-ndjson") || kind.eq_ignore_ascii_case("application/ndjson")
    })
}

/// Pictures as they are made. `first` was waited for already.
pub(super) fn several(first: Given, frames: Stream, kind: Kind, lines: bool) -> Response {
    let form = match lines {
        true => Form::Lines(kind),
        false => Form::Parts(kind),
    };
    let content_type = form.content_type();
    let parts = futures_util::stream::unfold((Some(first), frames, form, false), async |state| {
        let (first, mut frames, form, ended) = state;
        if ended {
            return None;
        }
        let item = match first {
            Some(first) => Some(Ok(first)),
            None => frames.next().await,
        };
        let (pieces, ended): (Box<dyn Iterator<Item = io::Result<Bytes>> + Send>, bool) = match item {
            Some(Ok(Given::Frame(frame))) => (Box::new(form.picture(frame).map(Ok)), false),
            Some(Ok(Given::Missing(missing))) => (Box::new(once(Ok(form.missing(missing)))), false),
            // The status is long gone; a body that is cut off is not taken for a whole one.
            Some(Err(error)) => {
                tracing::info!(%error, "pictures of a request broke off");
                (Box::new(once(Err(io::Error::other(error.to_string())))), true)
            }
            None => (Box::new(once(Ok(form.end()))), true),
        };
        Some((futures_util::stream::iter(pieces), (None, frames, form, ended)))
    });
    let parts = parts.flatten();
    let mut response = Body::from_stream(parts).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// How pictures follow each other in one body.
enum Form {
    /// RFC 2046 section 5.1.3. Each part says its length, so that nobody has to look for the boundary.
    Parts(Kind),
    Lines(Kind),
}

impl Form {
    fn content_type(&self) -> &'static str {
        match self {
            Form::Parts(_) => "multipart/mixed; boundary=kinora-picture",
            Form::Lines(_) => "application/x-ndjson",
        }
    }

    /// A picture in pieces, which are made as they are sent.
    fn picture(&self, frame: Frame) -> Box<dyn Iterator<Item = Bytes> + Send> {
        match self {
            Form::Parts(kind) => {
                let head = part_head(kind.content_type(), kind.len(&frame), &facts(&frame));
                let end = Bytes::from_static(b"\r\n");
                Box::new(once(head.into()).chain(kind.pieces(frame)).chain(once(end)))
            }
            Form::Lines(kind) => {
                let mut line = serde_json::Map::new();
                for (name, value) in facts(&frame) {
                    let name = name.trim_start_matches("kinora-").replace('-', "_");
                    let value = match (name.as_str(), value.as_str()) {
                        ("key" | "exact" | "damaged", "true") => json!(true),
                        ("key" | "exact" | "damaged", _) => json!(false),
                        ("width", _) => json!(frame.width),
                        ("height", _) => json!(frame.height),
                        ("clock_error", text) => json!(text.parse::<f64>().unwrap_or_default()),
                        (_, text) => json!(text),
                    };
                    line.insert(name, value);
                }
                line.insert("content_type".into(), json!(kind.content_type()));
                let mut data = EncoderStringWriter::new(&base64::engine::general_purpose::STANDARD);
                kind.pieces(frame).for_each(|piece| data.write_all(&piece).expect("a string takes everything"));
                line.insert("data".into(), json!(data.into_inner()));
                Box::new(once(end_line(&serde_json::Value::Object(line))))
            }
        }
    }

    /// What stands in the place of a picture that cannot be had.
    fn missing(&self, missing: Missing) -> Bytes {
        let Missing { asked, time, until, error } = missing;
        let error = api_error(error);
        if let Some(cause) = &error.cause {
            tracing::warn!(cause, "a picture of several cannot be had");
        }
        let detail = json!({
            "code": error.code,
            "message": error.message,
            "previous": error.previous.map(format_producer),
            "next": error.next.map(format_producer),
        });
        let times = [("kinora-time", time), ("kinora-until", until), ("kinora-asked", asked)];
        let said = times.into_iter().filter_map(|(name, time)| Some((name, format_producer(time?))));
        match self {
            Form::Parts(_) => {
                let text = json!({ "error": detail }).to_string();
                let mut out = part_head("application/json", text.len(), &said.collect::<Vec<_>>());
                out.push_str(&text);
                out.push_str("\r\n");
                out.into()
            }
            Form::Lines(_) => {
                let mut line = serde_json::Map::new();
                line.extend(said.map(|(name, time)| (name.trim_start_matches("kinora-").to_owned(), json!(time))));
                line.insert("error".into(), detail);
                end_line(&serde_json::Value::Object(line))
            }
        }
    }

    fn end(&self) -> Bytes {
        match self {
            Form::Parts(_) => Bytes::from_static(b"--kinora-picture--\r\n"),
            Form::Lines(_) => Bytes::new(),
        }
    }
}

fn part_head(kind: &str, len: usize, said: &[(&str, String)]) -> String {
    let mut head = format!("--kinora-picture\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n");
    for (name, value) in said {
        write!(head, "{name}: {value}\r\n").expect("a string takes everything");
    }
    head.push_str("\r\n");
    head
}

fn end_line(value: &serde_json::Value) -> Bytes {
    let mut line = value.to_string();
    line.push('\n');
    line.into()
}
