//! Takes answers apart: one picture by itself, or several in a `multipart/mixed` body.
//!
//! Parts are cut by the lengths that they say (RFC 2046 leaves it open to say one; a Kinora does), so that nobody looks for a
//! boundary inside of pictures. What a server says is bounded before it is believed.

use std::io::{self, BufRead, Read};

use http::HeaderMap;
use serde_json::{Map, Value, json};

/// Headers of a part, all together.
const HEAD_BYTES_MAX: u64 = 16 << 10;
/// The largest picture there is: 36 megapixels of RGB, and the head of an array.
const PICTURE_BYTES_MAX: u64 = 112 << 20;

/// A picture, or the word that there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Parcel {
    /// What the server says of it, named as in its lines of JSON.
    pub(super) caption: Map<String, Value>,
    pub(super) content: Content,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Content {
    Picture(Vec<u8>),
    /// The error of one among several.
    Missing(Value),
}

/// Parcels of one answer.
pub(super) struct Parcels<R> {
    body: R,
    form: Form,
}

enum Form {
    /// The line before each part; whether one was read.
    Several {
        boundary: String,
        begun: bool,
    },
    Single(Option<HeaderMap>),
    Ended,
}

fn strange(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

impl<R: BufRead> Parcels<R> {
    /// Parcels of a body that came with these headers.
    ///
    /// # Errors
    /// When it is in parts that nothing says how to tell apart.
    pub(super) fn new(headers: &HeaderMap, body: R) -> io::Result<Parcels<R>> {
        let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let form = match kind.strip_prefix("multipart/") {
            None => Form::Single(Some(headers.clone())),
            Some(rest) => {
                let boundary = rest.split(';').find_map(|part| part.trim().strip_prefix("boundary="));
                let boundary =
                    boundary.map(|text| text.trim_matches('"')).filter(|text| (1..=70).contains(&text.len()));
                let boundary = boundary.ok_or_else(|| strange("several parts and no boundary"))?;
                Form::Several { boundary: format!("--{boundary}"), begun: false }
            }
        };
        Ok(Parcels { body, form })
    }

    /// The next one; none after the last.
    ///
    /// # Errors
    /// When the answer broke off, or is not as it should be.
    pub(super) fn next(&mut self) -> io::Result<Option<Parcel>> {
        let headers = match &mut self.form {
            Form::Ended => return Ok(None),
            Form::Single(headers) => headers.take(),
            Form::Several { boundary, begun } => {
                if std::mem::replace(begun, true) && !line(&mut self.body, 2)?.is_empty() {
                    return Err(strange("a part is longer than it says"));
                }
                let boundary = boundary.clone();
                let found = line(&mut self.body, HEAD_BYTES_MAX)?;
                match found.strip_prefix(&boundary) {
                    Some("") => Some(self.head()?),
                    Some("--") => None,
                    _ => return Err(strange("no boundary where a part begins")),
                }
            }
        };
        let Some(headers) = headers else {
            self.form = Form::Ended;
            return Ok(None);
        };
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let length = text("content-length").and_then(|length| length.parse().ok());
        let length: u64 = length.ok_or_else(|| strange("a picture without a length"))?;
        if length > PICTURE_BYTES_MAX {
            return Err(strange(format!("a picture of {length} bytes")));
        }
        // Memory grows with what comes, not with what was said.
        let mut bytes = Vec::new();
        (&mut self.body).take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let content = match text("content-type") {
            Some("application/json") => {
                let value: Value = serde_json::from_slice(&bytes).map_err(|error| strange(error.to_string()))?;
                Content::Missing(value["error"].clone())
            }
            _ => Content::Picture(bytes),
        };
        Ok(Some(Parcel { caption: caption(&headers), content }))
    }

    /// Lines up to an empty one.
    fn head(&mut self) -> io::Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        let mut left = HEAD_BYTES_MAX;
        loop {
            let found = line(&mut self.body, left)?;
            if found.is_empty() {
                return Ok(headers);
            }
            left = left.saturating_sub(found.len() as u64 + 2);
            let pair = found.split_once(':').and_then(|(name, value)| {
                let name: http::HeaderName = name.parse().ok()?;
                Some((name, http::HeaderValue::from_str(value.trim()).ok()?))
            });
            let (name, value) = pair.ok_or_else(|| strange("a line of a part's head that is no header"))?;
            headers.insert(name, value);
        }
    }
}

/// A line without its CR LF, of `max` bytes at most.
fn line(body: &mut impl BufRead, max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    body.take(max).read_until(b'\n', &mut bytes)?;
    if let Some(text) = bytes.strip_suffix(b"\r\n") {
        return String::from_utf8(text.to_vec()).map_err(|_| strange("a line that is no text"));
    }
    match (bytes.len() as u64) < max && !bytes.ends_with(b"\n") {
        true => Err(io::ErrorKind::UnexpectedEof.into()),
        false => Err(strange("a line that does not end as it should")),
    }
}

/// `Kinora-Time: x` as `"time": "x"`.
fn caption(headers: &HeaderMap) -> Map<String, Value> {
    let mut caption = Map::new();
    for (name, value) in headers {
        let (Some(name), Ok(text)) = (name.as_str().strip_prefix("kinora-"), value.to_str()) else { continue };
        let value = match (name, text) {
            ("key" | "exact" | "damaged", _) => json!(text == "true"),
            ("width" | "height", _) => json!(text.parse::<u32>().unwrap_or_default()),
            ("clock-error", _) => json!(text.parse::<f64>().unwrap_or_default()),
            _ => json!(text),
        };
        caption.insert(name.replace('-', "_"), value);
    }
    caption
}
