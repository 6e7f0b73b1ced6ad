//! The parameters of a request for pictures.

use std::str::FromStr;

use media::decoding::{Fit, Output, PIXELS_MAX, Rect};
use media::{ProducerTime, StreamId};

use super::kind::Kind;
use crate::config::units::Span;
use crate::doors::http::error::{ApiError, Code};
use crate::doors::http::time::parse_micros;
use crate::frames::{Ask, Pick, Which};
use crate::workers::Asker;

/// What was asked for, of a stream that is not looked up yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    which: Which,
    output: Output,
    kind: Kind,
}

impl Asked {
    /// One picture by itself, and not a list of one.
    pub(super) fn is_single(&self) -> bool {
        match &self.which {
            Which::Latest => true,
            Which::At(instants, _) => instants.len() == 1,
            Which::Every { .. } | Which::All { .. } | Which::Keys { .. } => false,
        }
    }

    pub(super) fn is_latest(&self) -> bool {
        self.which == Which::Latest
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn of(self, asker: Asker, stream: StreamId, allowed: Option<(ProducerTime, ProducerTime)>) -> Ask {
        Ask { asker, stream, which: self.which, output: self.output, allowed }
    }
}

const QUALITY: u8 = 85;

/// Reads the parameters; those that are not of this call are refused by name, since a misspelt one would be a surprise.
pub(super) fn read(query: &[(String, String)]) -> Result<Asked, ApiError> {
    let mut given = Given::default();
    for (name, value) in query {
        given.take(name, value)?;
    }
    given.asked()
}

#[derive(Default)]
struct Given {
    instants: Vec<ProducerTime>,
    latest: bool,
    from: Option<ProducerTime>,
    to: Option<ProducerTime>,
    every: Option<Every>,
    pick: Option<Pick>,
    output: Output,
    kind: Kind,
    quality: Option<u8>,
}

enum Every {
    Step(i64),
    Key,
}

/// A value out of a short list of names.
fn one_of<T: Copy>(name: &str, value: &str, known: &[(&str, T)]) -> Result<T, ApiError> {
    let found = known.iter().find(|(known, _)| *known == value).map(|(_, found)| *found);
    found.ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        ApiError::bad_request(format!("{name} is one of {}", names.join(", ")))
    })
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, ApiError> {
    value.parse().map_err(|_| ApiError::bad_request(format!("{name}={value:?} is not a number that it can be")))
}

impl Given {
    fn take(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        let time = |name| parse_micros(name, value).map(ProducerTime::from_micros);
        match name {
            "at" => {
                for instant in value.split(',') {
                    match instant {
                        "latest" => self.latest = true,
                        _ => self.instants.push(ProducerTime::from_micros(parse_micros("at", instant)?)),
                    }
                }
            }
            "from" => self.from = Some(time("from")?),
            "to" => self.to = Some(time("to")?),
            "every" if value == "key" => self.every = Some(Every::Key),
            "every" => {
                let bad = || ApiError::new(Code::BadTime, "every is a duration such as 1s or 200ms, or key");
                let step: Span = value.parse().map_err(|_| bad())?;
                let micros = i64::try_from(step.0.as_micros()).ok().filter(|micros| *micros > 0);
                self.every = Some(Every::Step(micros.ok_or_else(bad)?));
            }
            "pick" => {
                let known = [
                    ("shown", Pick::Shown),
                    ("previous", Pick::Previous),
                    ("next", Pick::Next),
                    ("nearest", Pick::Nearest),
                    ("key", Pick::Key),
                ];
                self.pick = Some(one_of(name, value, &known)?);
            }
            "format" => {
                let known = [
                    ("jpeg", Kind::Jpeg),
                    ("jpg", Kind::Jpeg),
                    ("png", Kind::Png),
                    ("webp", Kind::Webp),
                    ("rgb", Kind::Rgb),
                    ("i420", Kind::I420),
                    ("npy", Kind::Npy),
                ];
                self.kind = one_of(name, value, &known)?;
            }
            "fit" => {
                let known = [("contain", Fit::Contain), ("cover", Fit::Cover), ("stretch", Fit::Stretch)];
                self.output.fit = one_of(name, value, &known)?;
            }
            "width" => self.output.width = Some(side(name, value)?),
            "height" => self.output.height = Some(side(name, value)?),
            "crop" => self.output.crop = Some(crop(value)?),
            "quality" => {
                let quality = number(name, value).ok().filter(|quality| (1..=100).contains(quality));
                self.quality = Some(quality.ok_or_else(|| ApiError::bad_request("quality is a number from 1 to 100"))?);
            }
            "token" => {}
            other => {
                return Err(ApiError::bad_request(format!("there is no parameter {other:?} here; see /openapi.json")));
            }
        }
        Ok(())
    }

    fn asked(mut self) -> Result<Asked, ApiError> {
        self.output.quality = self.quality.unwrap_or(QUALITY);
        self.output.format = self.kind.made_of();
        if let (Some(width), Some(height)) = (self.output.width, self.output.height)
            && u64::from(width) * u64::from(height) > PIXELS_MAX
        {
            return Err(ApiError::bad_request("width times height is more than 36 megapixels"));
        }
        let which = self.which()?;
        Ok(Asked { which, output: self.output, kind: self.kind })
    }

    fn which(&mut self) -> Result<Which, ApiError> {
        let bad_time = |text: &str| Err(ApiError::new(Code::BadTime, text));
        let is_range = self.from.is_some() || self.to.is_some();
        let pick = self.pick.unwrap_or_default();
        match (self.latest, self.instants.is_empty(), is_range) {
            (false, true, false) => bad_time("say which pictures: at=, or from= and to="),
            (true, true, false) if self.every.is_some() || self.pick.is_some() => {
                Err(ApiError::bad_request("at=latest is the newest picture: every and pick do not go with it"))
            }
            (true, true, false) => Ok(Which::Latest),
            (false, false, false) if self.every.is_some() => {
                Err(ApiError::bad_request("every goes with from and to, not with at"))
            }
            (false, false, false) => {
                self.instants.sort_unstable();
                Ok(Which::At(std::mem::take(&mut self.instants).into(), pick))
            }
            (false, true, true) => {
                let (Some(from), Some(to)) = (self.from, self.to) else {
                    return bad_time("a range of pictures needs both from and to");
                };
                if from > to {
                    return bad_time("from is after to; a range is [from, to)");
                }
                match self.every {
                    Some(Every::Step(step_us)) => Ok(Which::Every { from, to, step_us, pick }),
                    Some(Every::Key) if self.pick.is_none() => Ok(Which::Keys { from, to }),
                    None if self.pick.is_none() => Ok(Which::All { from, to }),
                    _ => Err(ApiError::bad_request("pick goes with at, or with a range and every=<duration>")),
                }
            }
            _ => bad_time("give either instants (at=), or at=latest, or a range (from= and to=)"),
        }
    }
}

fn side(name: &str, value: &str) -> Result<u32, ApiError> {
    const SIDE_MAX: u32 = 16_384;
    let side = number(name, value).ok().filter(|side| (1..=SIDE_MAX).contains(side));
    side.ok_or_else(|| ApiError::bad_request(format!("{name} is a number of pixels from 1 to {SIDE_MAX}")))
}

fn crop(value: &str) -> Result<Rect, ApiError> {
    let numbers: Option<Vec<u32>> = value.split(',').map(|part| part.trim().parse().ok()).collect();
    match numbers.as_deref() {
        Some([x, y, width, height]) if *width > 0 && *height > 0 => {
            Ok(Rect { x: *x, y: *y, width: *width, height: *height })
        }
        _ => Err(ApiError::bad_request("crop is x,y,width,height in pixels, such as crop=0,0,640,360")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<Asked, (Code, String)> {
        let pairs: Vec<(String, String)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        read(&pairs).map_err(|error| (error.code, error.message))
    }

    fn which(query: &str) -> Which {
        asked(query).expect(query).which
    }

    fn check_refused(query: &str, code: Code) {
        assert_eq!(asked(query).expect_err(query).0, code, "{query}");
    }

    #[test]
    fn instants_and_ranges_are_read() {
        let time = |seconds: i64| ProducerTime::from_micros(seconds * 1_000_000);
        let instants = Which::At([time(1), time(2), time(3)].into(), Pick::Nearest);
        assert_eq!(which("at=3000,1000&at=2000&pick=nearest"), instants, "sorted");
        assert_eq!(which("at=latest&token=x"), Which::Latest);
        let (from, to) = (time(1), time(9));
        assert_eq!(which("from=1000&to=9000"), Which::All { from, to });
        assert_eq!(which("from=1000&to=9000&every=key"), Which::Keys { from, to });
        let every = Which::Every { from, to, step_us: 200_000, pick: Pick::Shown };
        assert_eq!(which("from=1000&to=9000&every=200ms"), every);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for query in ["", "format=png", "from=1000", "to=1", "from=2&to=1", "at=1&from=1&to=2", "at=latest,1", "at="] {
            check_refused(query, Code::BadTime);
        }
        for query in ["from=1&to=2&every=0s", "from=1&to=2&every=x", "at=yesterday"] {
            check_refused(query, Code::BadTime);
        }
        let bad = [
            "at=1&every=1s",
            "at=latest&pick=key",
            "from=1&to=2&pick=key",
            "at=1&pick=best",
            "at=1&format=gif",
            "at=1&width=0",
            "at=1&width=x",
            "at=1&width=16000&height=16000",
            "at=1&crop=1,2,3",
            "at=1&crop=0,0,0,5",
            "at=1&quality=101",
            "at=1&qualty=50",
        ];
        for query in bad {
            check_refused(query, Code::BadRequest);
        }
    }

    #[test]
    fn sizes_and_formats_are_read() {
        let asked_for = asked("at=1&format=npy&width=64&fit=cover&height=32&crop=1,2,3,4&quality=7").expect("read");
        let crop = Some(Rect { x: 1, y: 2, width: 3, height: 4 });
        let fit = Fit::Cover;
        let format = media::decoding::Format::I420;
        let output = Output { crop, width: Some(64), height: Some(32), fit, format, quality: 7 };
        assert_eq!((asked_for.output, asked_for.kind), (output, Kind::Npy));
        assert_eq!(asked("at=1").expect("read").output.quality, QUALITY);
    }
}
