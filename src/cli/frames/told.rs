//! What the command tells: a bar while it runs, a line of JSON for each picture, a sentence at its end.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};

use super::parts::Part;
use super::place::Place;
use crate::cli::CommandError;
use crate::cli::print::text;

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
        let pictures = self.pictures.fetch_add(1, Ordering::Relaxed) + 1;
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.bar.set_message(format!("{pictures} pictures"));
        let mut said = caption.clone();
        said.insert("file".into(), json!(file));
        self.line(Value::Object(said))
    }

    /// There is none at an instant.
    ///
    /// # Errors
    /// When nobody reads standard output any more.
    pub(super) fn missing(&self, asked: &str, error: &Value) -> Result<(), CommandError> {
        self.missing.fetch_add(1, Ordering::Relaxed);
        let neighbours = [("previous", "the one before is of"), ("next", "the one after of")];
        let near = neighbours.iter().filter_map(|(name, words)| Some(format!("; {words} {}", error[name].as_str()?)));
        let said = format!("kinora: no picture at {asked}: {}{}", text(&error["message"]), near.collect::<String>());
        self.bar.suspend(|| eprintln!("{said}"));
        self.line(json!({"asked": asked, "error": error}))
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
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (pictures, bytes, missing) = (count(&self.pictures), HumanBytes(count(&self.bytes)), count(&self.missing));
        let there = match self.there {
            0 => String::new(),
            there => format!("; {there} were there already, --force fetches them, too"),
        };
        match place {
            _ if self.json => {}
            Place::StandardOutput => {}
            Place::File(path) => println!("{} ({bytes})", path.display()),
            Place::Folder { path, .. } => println!("{pictures} new pictures ({bytes}) in {}{there}", path.display()),
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
            let last_us = stretch.last.as_ref().map_or(stretch.from_us, |last| last.time_us);
            stretch.to_us.abs_diff(last_us.clamp(stretch.from_us, stretch.to_us)) / 1_000
        }
    }
}
