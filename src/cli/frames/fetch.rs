//! Fetches parts over a few connections, each again where an answer broke off.

use std::collections::VecDeque;
use std::io::{self, BufReader};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::ask::{Every, Form, FramesArgs, Range, Wanted, micros};
use super::journal::Journal;
use super::parcels::{Content, Parcel, Parcels};
use super::parts::{Part, Stretch, Taken};
use super::place::{self, Place};
use super::told::{Told, left};
use crate::cli::CommandError;
use crate::cli::client::{Client, ClientError, read_failed};
use crate::doors::http::time::format_micros;

/// How often the same picture is asked for before it is given up.
const TRIES_MAX: u32 = 5;

/// What all connections share.
pub(super) struct Fetch<'a> {
    pub(super) client: &'a Client,
    /// Everything of a request but its times.
    pub(super) path: String,
    pub(super) args: &'a FramesArgs,
    pub(super) wanted: &'a Wanted,
    pub(super) form: &'a Form,
    pub(super) place: &'a Place,
    pub(super) told: &'a Told,
    pub(super) journal: Option<Journal>,
}

/// What the connections tell each other.
#[derive(Default)]
struct Shared {
    /// The server has answered, so that what fails now may work again.
    answered: AtomicBool,
    /// One of them has failed.
    stop: AtomicBool,
    pictures: AtomicU64,
    /// A refusal of a part in which nothing is recorded.
    empty: Mutex<Option<ClientError>>,
}

impl Fetch<'_> {
    /// Fetches all parts.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub(super) fn all(&self, parts: Vec<Part>, connections: usize) -> Result<(), CommandError> {
        let is_begun = |part: &Part| matches!(part, Part::Range { stretch, .. } if stretch.at_us().is_some());
        let begun = parts.iter().any(is_begun);
        let connections = connections.min(parts.len());
        let parts = Mutex::new(VecDeque::from(parts));
        let shared = Shared::default();
        let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work = || -> Result<(), CommandError> {
            while let Some(part) = next() {
                if let Err(error) = self.part(part, &shared) {
                    shared.stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
                if shared.stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            Ok(())
        };
        let outcome: Result<(), CommandError> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| match thread.join() {
                Ok(end) => end,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            let ends: Vec<Result<(), CommandError>> = threads.into_iter().map(join).collect();
            ends.into_iter().collect()
        });
        if let Some(journal) = &self.journal {
            journal.end().map_err(journal_failed)?;
        }
        outcome?;
        let is_empty = shared.pictures.load(Ordering::Relaxed) == 0 && !begun && !self.told.is_any_missing();
        match shared.empty.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(nothing) if is_empty => Err(nothing.into()),
            _ => Ok(()),
        }
    }

    /// Fetches one part, and the rest of it again where its answer breaks off.
    fn part(&self, mut part: Part, shared: &Shared) -> Result<(), CommandError> {
        let mut tries = 0;
        loop {
            let before = part.clone();
            let error = match self.once(&mut part, shared) {
                Ok(()) => {
                    self.told.advance(left(&part));
                    return Ok(());
                }
                Err(error) => error,
            };
            tries = if part == before { tries + 1 } else { 0 };
            let may_pass = match &error {
                CommandError::Client(ClientError::Refused { status, .. }) => [429, 503].contains(status),
                CommandError::Client(ClientError::BrokeOff { .. }) => true,
                CommandError::Client(ClientError::Unreachable { .. }) => shared.answered.load(Ordering::Relaxed),
                _ => false,
            };
            if !may_pass || tries >= TRIES_MAX || shared.stop.load(Ordering::Relaxed) {
                return Err(error);
            }
            std::thread::sleep(Duration::from_secs(1 << tries));
        }
    }

    /// One request; what was had of it, `part` does not ask for again.
    fn once(&self, part: &mut Part, shared: &Shared) -> Result<(), CommandError> {
        let range = self.wanted.range();
        let Some(query) = part.query(range) else { return Ok(()) };
        let answer = match self.client.open("GET", &format!("{}&{query}", self.path), &[]) {
            Ok(answer) => answer,
            Err(error) => return self.refused(part, error, shared),
        };
        shared.answered.store(true, Ordering::Relaxed);
        let (head, body) = answer.into_parts();
        let broke = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidData => self.client.strange(error.to_string()),
            _ => self.client.broke_off(&read_failed(error)),
        };
        let mut parcels = Parcels::new(&head.headers, BufReader::new(body.into_reader())).map_err(broke)?;
        let had_us = self.had_us(part, range);
        while let Some(parcel) = parcels.next().map_err(broke)? {
            let before = left(part);
            self.parcel(part, parcel, had_us, shared)?;
            self.told.advance(before.saturating_sub(left(part)));
            if shared.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        self.completed(part);
        Ok(())
    }

    /// Nothing more is to be had of what was missing before.
    fn completed(&self, part: &mut Part) {
        if let Part::Range { number, stretch } = part
            && stretch.again
        {
            stretch.pass(stretch.to_us);
            self.journal.iter().for_each(|journal| journal.pass(*number, stretch.to_us));
        }
    }

    /// A picture that was taken by then is the answer to the step before the first of this request, too, and so was had.
    fn had_us(&self, part: &Part, range: Option<&Range>) -> Option<i64> {
        let (Part::Range { stretch, .. }, Some(range)) = (part, range) else { return None };
        let from_us = stretch.rest_us(range);
        match range.every {
            Every::Step(step_us) if self.args.picks("shown") || self.args.picks("previous") => {
                (from_us > range.from_us).then_some(from_us - step_us)
            }
            _ => None,
        }
    }

    fn parcel(
        &self,
        part: &mut Part,
        parcel: Parcel,
        had_us: Option<i64>,
        shared: &Shared,
    ) -> Result<(), CommandError> {
        let asked = parcel.caption.get("asked").and_then(|asked| asked.as_str()).map(str::to_owned);
        let bytes = match &parcel.content {
            Content::Picture(bytes) => bytes,
            Content::Missing(error) => {
                self.told.missing(&parcel.caption, error)?;
                return match part {
                    Part::Range { number, stretch } => self.passed(*number, stretch, &parcel.caption),
                    Part::Latest | Part::At(_) => answered(part, asked.as_deref()),
                };
            }
        };
        let time_us = place::time_us(&parcel)?;
        if let Part::Range { stretch, .. } = part {
            let is_last = stretch.last.as_ref().is_some_and(|last| last.time_us == time_us);
            if is_last || had_us.is_some_and(|had_us| time_us <= had_us) {
                return Ok(());
            }
        }
        let file = self.place.save(&parcel, bytes, self.form)?;
        shared.pictures.fetch_add(1, Ordering::Relaxed);
        self.told.picture(&parcel.caption, file.as_deref(), bytes.len())?;
        if let Part::Range { number, stretch } = part {
            let name = file.as_deref().and_then(|path| path.file_name()).unwrap_or_default();
            let taken = Taken { time_us, file: name.to_string_lossy().into_owned() };
            stretch.last = Some(taken.clone());
            if let Some(journal) = &self.journal {
                journal.take(*number, taken).map_err(journal_failed)?;
            }
            return Ok(());
        }
        answered(part, asked.as_deref())
    }

    /// Goes on behind what is missing of a range, and writes down that it is.
    fn passed(&self, number: usize, stretch: &mut Stretch, caption: &Map<String, Value>) -> Result<(), CommandError> {
        let time = |name: &str| caption.get(name).and_then(Value::as_str);
        let said = time("asked").or(time("time"));
        let said = said.ok_or_else(|| self.client.strange("a picture of no time is missing".to_owned()))?;
        let from_us = micros("Kinora-Time", said)?;
        let to_us = match time("until").filter(|_| time("asked").is_none()) {
            Some(until) => micros("Kinora-Until", until)?,
            None => from_us,
        };
        let to_us = to_us.max(from_us.saturating_add(1));
        stretch.pass(to_us.saturating_sub(1));
        match &self.journal {
            Some(journal) => journal.miss(number, from_us, to_us).map_err(journal_failed),
            None => Ok(()),
        }
    }

    /// What a refusal means for a part: there may be nothing in it, and something in others.
    fn refused(&self, part: &mut Part, error: ClientError, shared: &Shared) -> Result<(), CommandError> {
        let ClientError::Refused { code, message, .. } = &error else { return Err(error.into()) };
        shared.answered.store(true, Ordering::Relaxed);
        let is_nothing = ["no_media", "media_gone"].contains(&code.as_str());
        match part {
            Part::Range { stretch, .. } if is_nothing && stretch.again => {
                if stretch.at_us().is_none() {
                    // It was deleted meanwhile.
                    let caption = Map::from_iter([("time".to_owned(), json!(format_micros(stretch.from_us)))]);
                    self.told.missing(&caption, &json!({"code": code, "message": message}))?;
                }
                self.completed(part);
                Ok(())
            }
            Part::Range { .. } if is_nothing => {
                shared.empty.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                Ok(())
            }
            Part::At(instants) if is_nothing && !self.wanted.is_one() && instants.len() == 1 => {
                let caption = Map::from_iter([("asked".to_owned(), json!(format_micros(instants[0])))]);
                self.told.missing(&caption, &json!({"code": code, "message": message}))?;
                instants.clear();
                self.told.advance(1);
                Ok(())
            }
            _ => Err(error.into()),
        }
    }
}

/// Instants up to this one have their answer.
fn answered(part: &mut Part, asked: Option<&str>) -> Result<(), CommandError> {
    if let (Part::At(instants), Some(asked)) = (part, asked) {
        let asked_us = micros("Kinora-Asked", asked)?;
        instants.retain(|at| *at > asked_us);
    }
    Ok(())
}

fn journal_failed(error: io::Error) -> CommandError {
    CommandError::Failed(format!("write down where it stands: {error}"))
}
