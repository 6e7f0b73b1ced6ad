//! `kinora frames`: pictures of a stream as files.
//!
//! ```text
//!   arguments --ask--> parts --fetch, some at a time--> parcels --place--> files; where each part stands --> journal
//! ```
//!
//! What is asked for is cut into parts, which a few connections fetch. Each file is named by when its picture was taken, and
//! appears whole or not at all. Where the parts of a range stand is written down beside the files, so that the same command
//! goes on after an interruption, and asks again for pictures that the server could not give.
//!
//! Not here: decoding, and which picture an instant means; both are the server's.

mod ask;
mod fetch;
mod journal;
mod parcels;
mod parts;
mod place;
mod told;

use std::process::ExitCode;

use super::client::{Client, encode};
use super::{CommandError, Common};
pub(super) use ask::FramesArgs;
use ask::{Form, Wanted};
use fetch::Fetch;
use journal::Journal;
use parts::Part;
use place::Place;
use told::Told;

pub(super) fn run(common: &Common, client: &Client, args: &FramesArgs) -> Result<ExitCode, CommandError> {
    let wanted = args.wanted(client)?;
    let place = Place::new(&args.stream, &args.output, wanted.is_one())?;
    if common.json && matches!(place, Place::StandardOutput) {
        return Err(CommandError::Failed("a picture and --json cannot both go to standard output".into()));
    }
    let form = Form::new(args, &place);
    let connections = usize::from(args.connections);
    let mut journal = None;
    let mut there = 0;
    let parts = match &wanted {
        Wanted::Latest => vec![Part::Latest],
        Wanted::At(instants) => {
            // What was taken at an instant is on screen then, whatever else `pick` may mean; but for key frames.
            let is_there = |at: &i64| !args.force && !args.picks("key") && place.has(*at, &form);
            let missing: Vec<i64> = instants.iter().copied().filter(|at| !is_there(at)).collect();
            there = instants.len() - missing.len();
            parts::of_instants(&missing, connections)
        }
        Wanted::Range(range) => {
            let stretches = match Journal::of(&place, range, &form.query, args.force) {
                Some((found, stretches)) if !stretches.is_empty() => {
                    journal = Some(found);
                    stretches
                }
                found => {
                    journal = found.map(|(journal, _)| journal);
                    parts::of_range(range, recorded(client, &args.stream)?, connections)
                }
            };
            if let Some(journal) = &journal {
                journal.begin(&stretches);
            }
            stretches.into_iter().enumerate().map(|(number, stretch)| Part::Range { number, stretch }).collect()
        }
    };
    let told = Told::new(common.json, &parts, there);
    let path = format!("/v1/streams/{}/frames?{}", encode(&args.stream), form.query);
    let fetch = Fetch { client, path, args, wanted: &wanted, form: &form, place: &place, told: &told, journal };
    let outcome = fetch.all(parts, connections);
    told.end();
    outcome?;
    Ok(told.summary(&place))
}

/// From the first to the last recorded time of a stream, in microseconds; none when nothing is recorded or the token may not
/// know.
fn recorded(client: &Client, stream: &str) -> Result<Option<(i64, i64)>, CommandError> {
    use super::client::ClientError;
    let info = match client.get(&format!("/v1/streams/{}", encode(stream))) {
        Ok(info) => info,
        Err(ClientError::Refused { status: 403, .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let micros = |name: &str| ask::micros(name, info[name].as_str()?).ok();
    Ok(micros("first_time").zip(micros("last_time")))
}

#[cfg(test)]
mod tests;
