//! `kinora health` and `kinora reload`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::client::{self, Client};
use super::print::{answer, text};
use super::{CommandError, Common};

/// Ends with success only when the server says it is up: a container's health check.
pub(super) fn run(common: &Common) -> Result<ExitCode, CommandError> {
    let (url, value) = client::health(common)?;
    let up = value["status"] == "ok";
    answer(
        common,
        &json!({"url": url, "status": value["status"]}),
        &["url", "status"],
        &[vec![url.clone(), text(&value["status"])]],
    );
    Ok(if up { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn reload(common: &Common, client: &Client) -> Result<(), CommandError> {
    let outcome = client.post("/v1/server/reload", &json!({}))?;
    let rows: Vec<Vec<String>> = match &outcome {
        Value::Object(fields) => fields.iter().map(|(key, value)| vec![key.clone(), text(value)]).collect(),
        _ => Vec::new(),
    };
    answer(common, &outcome, &["what", "outcome"], &rows);
    Ok(())
}
