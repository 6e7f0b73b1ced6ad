//! `kinora store`: the stored media of a data folder whose server is stopped.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use store::{Clock, Progress, Settings, Store, StoreError, SystemClock};

use super::print::{answer, text};
use super::{CommandError, Common};

/// The store of a data folder.
#[derive(Subcommand)]
pub(super) enum StoreCommand {
    /// Verifies every invariant of the stored media, reading all of it.
    Check,
    /// Makes the index anew from the blocks alone.
    Rebuild,
}

pub(super) fn run(common: &Common, command: StoreCommand) -> Result<ExitCode, CommandError> {
    let data_dir = common.data_dir()?;
    if !data_dir.is_dir() {
        return Err(CommandError::Failed(format!(
            "{} is no data folder; name one with --data-dir",
            data_dir.display()
        )));
    }
    match command {
        StoreCommand::Check => check(common, &data_dir),
        StoreCommand::Rebuild => rebuild(common, &data_dir),
    }
}

/// Ends with failure when an invariant does not hold.
fn check(common: &Common, data_dir: &Path) -> Result<ExitCode, CommandError> {
    let report = with_bar(|progress| Store::check(&Settings::new(data_dir.to_owned()), clock(), progress))?;
    let violations: Vec<Value> = report
        .violations
        .iter()
        .map(|violation| json!({"invariant": violation.invariant, "what": violation.to_string()}))
        .collect();
    let value = json!({
        "ok": violations.is_empty(),
        "streams": report.streams,
        "blocks": report.blocks,
        "unsealed": report.unsealed,
        "quarantined": report.quarantined,
        "lost": report.lost,
        "deleting": report.deleting,
        "fragments": report.fragments,
        "bytes": report.bytes,
        "violations": violations,
    });
    answer(common, &value, &["what", "found"], &rows(&value));
    Ok(if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn rebuild(common: &Common, data_dir: &Path) -> Result<ExitCode, CommandError> {
    let report = with_bar(|progress| Store::rebuild(&Settings::new(data_dir.to_owned()), clock(), progress))?;
    let value = json!({
        "found": report.found,
        "sealed": report.sealed,
        "cut_bytes": report.cut_bytes,
        "quarantined": report.quarantined,
    });
    answer(common, &value, &["what", "done"], &rows(&value));
    Ok(ExitCode::SUCCESS)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// Runs long work with a bar on standard error.
fn with_bar<T>(work: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<T, StoreError>) -> Result<T, CommandError> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} streams, {msg}").expect("the template is one");
    bar.set_style(style);
    let outcome = work(&mut |progress| {
        bar.set_length(progress.streams_all);
        bar.set_position(progress.streams);
        bar.set_message(format!("{} blocks, {}", progress.blocks, HumanBytes(progress.bytes)));
    });
    bar.finish_and_clear();
    outcome.map_err(|error| match error {
        StoreError::Locked(path) => CommandError::Failed(format!(
            "{} is in use: stop the server first, this command needs the data folder for itself",
            path.display()
        )),
        other => CommandError::Failed(other.to_string()),
    })
}

fn rows(value: &Value) -> Vec<Vec<String>> {
    let fields = value.as_object().cloned().unwrap_or_default();
    let mut rows = Vec::new();
    for (key, value) in &fields {
        match value.as_array() {
            Some(violations) => {
                rows.extend(violations.iter().map(|violation| vec!["violation".into(), text(&violation["what"])]));
            }
            None => rows.push(vec![key.clone(), text(value)]),
        }
    }
    rows
}
