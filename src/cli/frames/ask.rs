//! What the command line asks for.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args};

use super::place::Place;
use crate::cli::CommandError;
use crate::cli::client::{Client, encode};
use crate::config::units::Span;
use crate::doors::http::time::{format_micros, parse_micros};

/// Which pictures, in which form, and where to.
#[derive(Args)]
#[command(group(ArgGroup::new("which").required(true)))]
pub(in crate::cli) struct FramesArgs {
    /// The stream.
    pub(super) stream: String,
    /// Instants, with commas or repeated: RFC 3339 or milliseconds since 1970, by the producer's clock. Or `latest`.
    #[arg(long, value_name = "TIME", value_delimiter = ',', group = "which")]
    at: Vec<String>,
    /// Start of a range.
    #[arg(long, value_name = "TIME", group = "which", requires = "to")]
    from: Option<String>,
    /// End of the range; a picture of that very time is not in it.
    #[arg(long, value_name = "TIME", requires = "from")]
    to: Option<String>,
    /// The range that ends with the newest picture and is so long, such as 5m.
    #[arg(long, value_name = "DURATION", group = "which")]
    last: Option<Span>,
    /// Of a range, one picture every so often, such as 1s, or `key` for its key frames [default: all].
    #[arg(long, value_name = "DURATION", conflicts_with = "at")]
    every: Option<Every>,
    /// Which picture an instant means; `key`, the nearest key frame, is several times cheaper [default: shown].
    #[arg(long, value_parser = ["shown", "previous", "next", "nearest", "key"])]
    pick: Option<String>,
    /// The form of the files [default: as the name of the file ends, else jpeg].
    #[arg(long, value_parser = FORMATS)]
    format: Option<String>,
    /// Width in pixels; alone, the height follows.
    #[arg(long, value_name = "PIXELS")]
    width: Option<u32>,
    /// Height in pixels; alone, the width follows.
    #[arg(long, value_name = "PIXELS")]
    height: Option<u32>,
    /// With both: as large as fits, filled and the rest cut off, or stretched [default: contain].
    #[arg(long, value_parser = ["contain", "cover", "stretch"])]
    fit: Option<String>,
    /// The part of the picture that is used, in its pixels, before it is scaled.
    #[arg(long, value_name = "X,Y,WIDTH,HEIGHT")]
    crop: Option<String>,
    /// Of jpeg and webp, 1 to 100 [default: 85].
    #[arg(long)]
    quality: Option<u8>,
    /// A folder; for one picture also a file, or - for standard output.
    #[arg(short, long, value_name = "PATH", default_value = ".")]
    pub(super) output: PathBuf,
    /// Fetches what is there already, too.
    #[arg(long)]
    pub(super) force: bool,
    /// How many parts of many pictures are fetched at a time.
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(super) connections: u8,
}

const FORMATS: [&str; 6] = ["jpeg", "png", "webp", "rgb", "i420", "npy"];

/// Which pictures.
pub(super) enum Wanted {
    Latest,
    /// In time order, in microseconds, each once.
    At(Vec<i64>),
    Range(Range),
}

impl Wanted {
    pub(super) fn range(&self) -> Option<&Range> {
        match self {
            Wanted::Range(range) => Some(range),
            Wanted::Latest | Wanted::At(_) => None,
        }
    }

    /// One picture, not a list that may have one.
    pub(super) fn is_one(&self) -> bool {
        match self {
            Wanted::Latest => true,
            Wanted::At(instants) => instants.len() == 1,
            Wanted::Range(_) => false,
        }
    }
}

/// `[from_us, to_us)`, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    pub(super) from_us: i64,
    pub(super) to_us: i64,
    pub(super) every: Every,
}

/// Which pictures of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Every {
    All,
    Key,
    /// One each so many microseconds from its start on.
    Step(i64),
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Every, String> {
        if text == "key" {
            return Ok(Every::Key);
        }
        let span: Span = text.parse().map_err(|error: crate::config::units::BadUnit| error.to_string())?;
        let micros = i64::try_from(span.0.as_micros()).ok().filter(|micros| *micros > 0);
        micros.map(Every::Step).ok_or_else(|| "a duration longer than nothing, or key".to_owned())
    }
}

impl FramesArgs {
    /// Reads the times; of a range up to now it asks the server when the newest picture was taken.
    pub(super) fn wanted(&self, client: &Client) -> Result<Wanted, CommandError> {
        let every = self.every.unwrap_or(Every::All);
        if let Some(span) = self.last {
            let path = format!("/v1/streams/{}/frames?at=latest&width=16", encode(&self.stream));
            let newest = client.open("GET", &path, &[])?;
            let time = newest.headers().get("kinora-time").and_then(|time| time.to_str().ok());
            let time = time.ok_or_else(|| client.strange("a picture without a time".to_owned()))?;
            let to_us = micros("Kinora-Time", time)?.saturating_add(1);
            let span_us = i64::try_from(span.0.as_micros()).unwrap_or(i64::MAX);
            return Ok(Wanted::Range(Range { from_us: to_us.saturating_sub(span_us), to_us, every }));
        }
        if let (Some(from), Some(to)) = (&self.from, &self.to) {
            let (from_us, to_us) = (micros("--from", from)?, micros("--to", to)?);
            if from_us >= to_us {
                return Err(CommandError::Failed("--from is not before --to".into()));
            }
            return Ok(Wanted::Range(Range { from_us, to_us, every }));
        }
        if self.at.iter().any(|at| at == "latest") {
            if self.at.len() > 1 {
                return Err(CommandError::Failed("--at latest goes with no other instant".into()));
            }
            return Ok(Wanted::Latest);
        }
        let mut instants = self.at.iter().map(|at| micros("--at", at)).collect::<Result<Vec<i64>, _>>()?;
        instants.sort_unstable();
        instants.dedup();
        Ok(Wanted::At(instants))
    }

    /// Whether an instant means such a picture.
    pub(super) fn picks(&self, pick: &str) -> bool {
        self.pick.as_deref().unwrap_or("shown") == pick
    }
}

/// A time as people and the server write it.
pub(super) fn micros(name: &str, text: &str) -> Result<i64, CommandError> {
    parse_micros(name, text).map_err(|error| CommandError::Failed(error.message))
}

/// A time as the server reads it, as short as it goes.
pub(super) fn short(at_us: i64) -> String {
    match at_us % 1_000 {
        0 => (at_us / 1_000).to_string(),
        _ => format_micros(at_us),
    }
}

/// What is done with each picture.
pub(super) struct Form {
    /// Parameters of a request, all but its times.
    pub(super) query: String,
    /// What names of files end in.
    pub(super) extension: &'static str,
    /// Whether a file says nothing of its picture's size, so that its name has to.
    pub(super) is_bare: bool,
}

impl Form {
    pub(super) fn new(args: &FramesArgs, place: &Place) -> Form {
        let by_name = match place {
            Place::File(path) => path.extension().and_then(|extension| extension.to_str()),
            Place::StandardOutput | Place::Folder { .. } => None,
        };
        let by_name = by_name.map(|extension| extension.to_ascii_lowercase()).filter(|extension| {
            // Others, such as .jpg, are jpeg; so is what has none.
            FORMATS.contains(&extension.as_str())
        });
        let format = args.format.clone().or(by_name).unwrap_or_else(|| "jpeg".to_owned());
        let extension = match format.as_str() {
            "jpeg" => "jpg",
            other => FORMATS.iter().find(|known| **known == other).unwrap_or(&"jpg"),
        };
        let number = |number: Option<u32>| number.map(|number| number.to_string());
        let given = [
            ("pick", args.pick.clone()),
            ("width", number(args.width)),
            ("height", number(args.height)),
            ("fit", args.fit.clone()),
            ("crop", args.crop.clone()),
            ("quality", number(args.quality.map(u32::from))),
        ];
        let mut query = format!("format={format}");
        for (name, value) in given {
            query.extend(value.map(|value| format!("&{name}={}", encode(&value))));
        }
        Form { query, extension, is_bare: matches!(extension, "rgb" | "i420") }
    }
}
