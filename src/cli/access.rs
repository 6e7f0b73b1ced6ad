//! `kinora token` and `kinora key`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::{Client, encode};
use super::print::{answer, text};
use super::{CommandError, Common};

/// Tokens.
#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Mints a token and shows it once.
    Create {
        #[command(flatten)]
        grant: Grant,
        /// What it allows, once per action, such as play or read_stream; default: everything.
        #[arg(long = "action", value_name = "ACTION")]
        actions: Vec<String>,
        /// Takes it in ?token= of playback addresses.
        #[arg(long)]
        playback: bool,
        /// Shows no media before this time.
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Shows no media from this time on.
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
    },
    /// Lists tokens, never their secrets.
    #[command(visible_alias = "list")]
    Ls,
    /// Takes a token back.
    Revoke {
        /// As `kinora token ls` shows it.
        id: String,
    },
}

/// Keys.
#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Makes a publish secret, or an access key, and shows it once.
    Create {
        #[command(flatten)]
        grant: Grant,
        /// publish_secret (a password for RTSP) or access_key.
        #[arg(long, default_value = "publish_secret", value_name = "KIND")]
        kind: String,
    },
    /// Lists keys, never their secrets.
    #[command(visible_alias = "list")]
    Ls,
    /// Takes a key back.
    Revoke {
        /// As `kinora key ls` shows it.
        id: String,
    },
}

/// Whom a credential is for and where it holds.
#[derive(Args)]
pub(super) struct Grant {
    /// A name for people.
    #[arg(long, default_value = "")]
    label: String,
    /// Streams it is good for: a name, or a pattern with *.
    #[arg(long, default_value = "*", value_name = "PATTERN")]
    streams: String,
    /// When it ends, such as 24h; default: never.
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<String>,
}

impl Grant {
    fn body(self) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("label".into(), json!(self.label));
        body.insert("streams".into(), json!(self.streams));
        if let Some(expires_in) = self.expires_in {
            body.insert("expires_in".into(), json!(expires_in));
        }
        body
    }
}

pub(super) fn run_token(common: &Common, client: &Client, command: TokenCommand) -> Result<(), CommandError> {
    match command {
        TokenCommand::Create { grant, actions, playback, from, to } => {
            let mut body = grant.body();
            body.insert("actions".into(), json!(actions));
            body.insert("playback".into(), json!(playback));
            for (key, time) in [("from", from), ("to", to)] {
                if let Some(time) = time {
                    body.insert(key.into(), json!(time));
                }
            }
            let made = client.post("/v1/tokens", &Value::Object(body))?;
            let rows = [vec![text(&made["id"]), text(&made["token"]), text(&made["expires"])]];
            answer(common, &made, &["id", "token", "expires"], &rows);
            if !common.json && made["playback"] == true {
                let (url, token) = (client.url(), text(&made["token"]));
                eprintln!("\nIt is shown this once. Play with it: {url}/hls/STREAM/index.m3u8?token={token}");
            } else if !common.json {
                eprintln!(
                    "\nIt is shown this once. It is for the API; cameras and encoders push with a publish secret: \
                     kinora key create"
                );
            }
        }
        TokenCommand::Ls => list(common, client, "tokens")?,
        TokenCommand::Revoke { id } => revoke(common, client, "tokens", &id)?,
    }
    Ok(())
}

pub(super) fn run_key(common: &Common, client: &Client, command: KeyCommand) -> Result<(), CommandError> {
    match command {
        KeyCommand::Create { grant, kind } => {
            let mut body = grant.body();
            body.insert("kind".into(), json!(kind));
            let made = client.post("/v1/keys", &Value::Object(body))?;
            let rows = [vec![text(&made["id"]), text(&made["kind"]), text(&made["secret"]), text(&made["expires"])]];
            answer(common, &made, &["id", "kind", "secret", "expires"], &rows);
            if !common.json && made["kind"] == "publish_secret" {
                eprintln!(
                    "\nIt is shown this once. Push with it: rtsp://camera:{}@{}/STREAM",
                    text(&made["secret"]),
                    client.rtsp_host()
                );
            }
        }
        KeyCommand::Ls => list(common, client, "keys")?,
        KeyCommand::Revoke { id } => revoke(common, client, "keys", &id)?,
    }
    Ok(())
}

fn list(common: &Common, client: &Client, what: &str) -> Result<(), CommandError> {
    let found = client.get(&format!("/v1/{what}"))?;
    let items = found[what].as_array().cloned().unwrap_or_default();
    const FIELDS: [&str; 7] = ["id", "kind", "label", "streams", "expires", "revoked", "last_used"];
    let rows: Vec<Vec<String>> =
        items.iter().map(|item| FIELDS.iter().map(|field| text(&item[*field])).collect()).collect();
    answer(common, &found, &FIELDS, &rows);
    Ok(())
}

fn revoke(common: &Common, client: &Client, what: &str, id: &str) -> Result<(), CommandError> {
    client.delete(&format!("/v1/{what}/{}", encode(id)))?;
    answer(common, &json!({"revoked": id}), &["revoked"], &[vec![id.to_owned()]]);
    Ok(())
}
