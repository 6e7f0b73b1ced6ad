//! `kinora health` and `kinora reload`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::client::{self, Client};
use super::print::{answer, text};
use super::{CommandError, Common};

/// Ends with success while the server records, and with failure when it says that it cannot: a container's health check.
pub(super) fn run(common: &Common) -> Result<ExitCode, CommandError> {
    let (url, value) = client::health(common)?;
    let records = matches!(value["status"].as_str(), Some("ok" | "degraded"));
    let mut found = json!({"url": url, "status": value["status"]});
    let mut rows = vec![vec![url, text(&value["status"])]];
    if let Some(parts) = value["parts"].as_array() {
        found["parts"] = value["parts"].clone();
        rows.extend(parts.iter().map(|part| vec![text(&part["part"]), text(&part["since"])]));
    }
    answer(common, &found, &["url", "status"], &rows);
    Ok(if records { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
