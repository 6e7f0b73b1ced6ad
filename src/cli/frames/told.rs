//! What the command tells: a bar while it runs, a line of JSON for each picture, a sentence at its end.

use std::cmp::Ordering;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};

use super::parts::Part;
use super::place::Place;
use crate::cli::CommandError;
use crate::cli::print::text;

/// So much of what is missing is said one by one to people.
const SAID_MAX: u64 = 100;

/// Counts and tells, for all connections.
pub(super) struct Told {
    json: bool,
    bar: ProgressBar,
    /// Pictures that were asked for and are there already.
    there: usize,
    pictures: AtomicU64,
    bytes: AtomicU64,
    missing: AtomicU64,
}

impl Told {
    pub(super) fn new(json: bool, parts: &[Part], there: usize) -> Told {
        let length = parts.iter().map(left).fold(0, u64::saturating_add);
        let bar = match parts {
            // One picture is there or not.
            [Part::Latest] => ProgressBar::hidden(),
            _ => ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr()),
        };
        let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {msg}  {eta} left");
        bar.set_style(style.expect("the template is one"));
        let zero = || AtomicU64::new(0);
        Told { json, bar, there, pictures: zero(), bytes: zero(), missing: zero() }
    }

    /// A picture was written.
    ///
    /// # Errors
    /// When nobody reads standard output any more.
    pub(super) fn picture(
        &self,
        caption: &Map<String, Value>,
        file: Option<&Path>,
        bytes: usize,
    ) -> Result<(), CommandError> {
        let pictures = self.pictures.fetch_add(1, Relaxed) + 1;
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.bar.set_message(format!("{pictures} pictures"));
        let mut said = caption.clone();
        said.insert("file".into(), json!(file));
        self.line(Value::Object(said))
    }

    /// There is none at an instant, or it cannot be had.
    ///
    /// # Errors
    /// When nobody reads standard output any more.
    pub(super) fn missing(&self, caption: &Map<String, Value>, error: &Value) -> Result<(), CommandError> {
        let missing = self.missing.fetch_add(1, Relaxed) + 1;
        let neighbours = [("previous", "the one before is of"), ("next", "the one after of")];
        let near = neighbours.iter().filter_map(|(name, words)| Some(format!("; {words} {}", error[name].as_str()?)));
        let time = |name: &str| caption.get(name).and_then(Value::as_str);
        let when = match (time("asked"), time("time"), time("until")) {
            (None, Some(from), Some(until)) => format!("no pictures from {from} to {until}"),
            (Some(asked), ..) => format!("no picture at {asked}"),
            (None, taken, _) => format!("no picture of {}", taken.unwrap_or("?")),
        };
        let said = format!("kinora: {when}: {}{}", text(&error["message"]), near.collect::<String>());
        match missing.cmp(&SAID_MAX) {
            Ordering::Less => self.bar.suspend(|| eprintln!("{said}")),
            Ordering::Equal => {
                self.bar.suspend(|| eprintln!("{said}\nkinora: what else is missing is told by --json alone"));
            }
            Ordering::Greater => {}
        }
        let mut line = caption.clone();
        line.insert("error".into(), error.clone());
        self.line(Value::Object(line))
    }

    /// Whether something was not had.
    pub(super) fn is_any_missing(&self) -> bool {
        self.missing.load(Relaxed) > 0
    }

    /// So much more of a part is done.
    pub(super) fn advance(&self, by: u64) {
        self.bar.inc(by);
    }

    fn line(&self, value: Value) -> Result<(), CommandError> {
        if !self.json {
            return Ok(());
        }
        let write = || writeln!(std::io::stdout().lock(), "{value}");
        self.bar.suspend(write).map_err(|error| CommandError::Failed(format!("write to standard output: {error}")))
    }

    /// Nothing more comes.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// Says what was done; success when every instant has its picture.
    pub(super) fn summary(&self, place: &Place) -> ExitCode {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let (pictures, bytes, missing) = (count(&self.pictures), HumanBytes(count(&self.bytes)), count(&self.missing));
        let there = match self.there {
            0 => String::new(),
            there => format!("; {there} were there already, --force fetches them, too"),
        };
        let lost = match missing {
            0 => String::new(),
            missing => format!("; {missing} times there was none, the same command asks for them again"),
        };
        match place {
            _ if self.json => {}
            Place::StandardOutput => {}
            Place::File(path) => println!("{} ({bytes})", path.display()),
            Place::Folder { path, .. } => {
                println!("{pictures} new pictures ({bytes}) in {}{there}{lost}", path.display())
            }
        }
        if missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// How much of a bar is to be done for a part: instants, or milliseconds of a range.
pub(super) fn left(part: &Part) -> u64 {
    match part {
        Part::Latest => 1,
        Part::At(instants) => instants.len() as u64,
        Part::Range { stretch, .. } => {
            let last_us = stretch.at_us().unwrap_or(stretch.from_us);
            stretch.to_us.abs_diff(last_us.clamp(stretch.from_us, stretch.to_us)) / 1_000
        }
    }
}
