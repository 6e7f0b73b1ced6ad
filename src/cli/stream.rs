//! `kinora stream`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::{Client, encode};
use super::print::{answer, bytes, text};
use super::{CommandError, Common};

/// Streams.
#[derive(Subcommand)]
pub(super) enum StreamCommand {
    /// Lists streams.
    #[command(visible_alias = "list")]
    Ls {
        /// Only names that start so.
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Creates a stream.
    Create {
        /// Letters, digits, `_`, `.` and `-`; at most 256.
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Shows a stream.
    Show {
        /// The stream.
        name: String,
    },
    /// Changes settings of a stream; `none` lifts a bound.
    Update {
        /// The stream.
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Deletes a stream and all of its media.
    Rm {
        /// The stream.
        name: String,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Settings of a stream.
#[derive(Args)]
pub(super) struct Settings {
    /// Media older than this is dropped, such as 24h or 30d.
    #[arg(long, value_name = "DURATION")]
    max_age: Option<String>,
    /// The oldest media beyond this is dropped, such as 100GB.
    #[arg(long, value_name = "SIZE")]
    max_bytes: Option<String>,
    /// same_credential, refuse or takeover.
    #[arg(long, value_name = "RULE")]
    on_second_publisher: Option<String>,
    /// auto, trust or arrival.
    #[arg(long, value_name = "CLOCK")]
    producer_clock: Option<String>,
    /// key=value, once per tag; an update replaces all tags.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<String>,
}

impl Settings {
    fn body(&self) -> Result<Map<String, Value>, CommandError> {
        let bound = |text: &String| if text == "none" { Value::Null } else { json!(text) };
        let mut retention = Map::new();
        if let Some(age) = &self.max_age {
            retention.insert("max_age".into(), bound(age));
        }
        if let Some(size) = &self.max_bytes {
            retention.insert("max_bytes".into(), bound(size));
        }
        let mut body = Map::new();
        if !retention.is_empty() {
            body.insert("retention".into(), Value::Object(retention));
        }
        if let Some(rule) = &self.on_second_publisher {
            body.insert("on_second_publisher".into(), json!(rule));
        }
        if let Some(clock) = &self.producer_clock {
            body.insert("producer_clock".into(), json!(clock));
        }
        let mut tags = Map::new();
        for tag in &self.tags {
            let pair = tag.split_once('=');
            let (key, value) = pair.ok_or_else(|| CommandError::Failed(format!("--tag {tag:?} is not key=value")))?;
            tags.insert(key.into(), json!(value));
        }
        if !tags.is_empty() {
            body.insert("tags".into(), Value::Object(tags));
        }
        Ok(body)
    }
}

pub(super) fn run(common: &Common, client: &Client, command: StreamCommand) -> Result<(), CommandError> {
    let path = |name: &str| format!("/v1/streams/{}", encode(name));
    match command {
        StreamCommand::Ls { prefix } => {
            let streams = client.all(&format!("/v1/streams?limit=1000&prefix={}", encode(&prefix)), "streams")?;
            let rows: Vec<Vec<String>> = streams.iter().map(row).collect();
            let heads = ["name", "state", "tracks", "bitrate", "bytes", "first", "last"];
            answer(common, &json!({"streams": streams}), &heads, &rows);
        }
        StreamCommand::Create { name, settings } => {
            let mut body = settings.body()?;
            body.insert("name".into(), json!(name));
            show(common, &client.post("/v1/streams", &Value::Object(body))?);
        }
        StreamCommand::Show { name } => show(common, &client.get(&path(&name))?),
        StreamCommand::Update { name, settings } => {
            show(common, &client.patch(&path(&name), &Value::Object(settings.body()?))?);
        }
        StreamCommand::Rm { name, yes } => {
            if !yes && !confirmed(&name)? {
                return Err(CommandError::Failed(
                    "nothing was deleted; add --yes to delete without being asked".into(),
                ));
            }
            client.delete(&path(&name))?;
            answer(common, &json!({"deleted": name}), &["deleted"], &[vec![name.clone()]]);
        }
    }
    Ok(())
}

fn confirmed(name: &str) -> Result<bool, CommandError> {
    use std::io::IsTerminal;

    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("This deletes {name} and all of its media for good. Type its name to go on: ");
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    read.map_err(|error| CommandError::Failed(format!("read the answer: {error}")))?;
    Ok(line.trim() == name)
}

fn row(stream: &Value) -> Vec<String> {
    let bitrate = stream["bitrate"].as_u64().unwrap_or(0) as f64 / 1e6;
    vec![
        text(&stream["name"]),
        text(&stream["state"]),
        codecs(stream),
        format!("{bitrate:.2} Mbit/s"),
        bytes(&stream["bytes"]),
        text(&stream["first_time"]),
        text(&stream["last_time"]),
    ]
}

fn codecs(stream: &Value) -> String {
    let tracks = stream["tracks"].as_array().cloned().unwrap_or_default();
    let names: Vec<String> = tracks.iter().map(|track| text(&track["codec"])).collect();
    if names.is_empty() { "-".into() } else { names.join("+") }
}

fn show(common: &Common, stream: &Value) {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let fields = stream.as_object().cloned().unwrap_or_default();
    for (key, value) in &fields {
        let shown = match key.as_str() {
            "bytes" => bytes(value),
            "tracks" => codecs(stream),
            _ => text(value),
        };
        rows.push(vec![key.clone(), shown]);
    }
    answer(common, stream, &["field", "value"], &rows);
}
