//! The command line: one file per group of commands.
//!
//! Commands but `serve`, `store`, `publish` and `probe-disk` are clients of the API and know nothing that a client of
//! it could not.

mod access;
mod client;
mod clip;
mod disk;
mod frames;
mod health;
mod print;
mod publish;
mod serve;
mod store;
mod stream;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use client::{Client, ClientError};

/// Records every camera, plays any past minute.
#[derive(Parser)]
#[command(name = "kinora", version, about, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Args, Clone)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// Writes JSON to standard output instead of a table.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The server's address; default: the server that runs on the data folder.
    #[arg(long, global = true, env = "KINORA_URL", value_name = "URL")]
    url: Option<String>,
    /// The token to call it with; default: the data folder's admin token.
    #[arg(long, global = true, env = "KINORA_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// The data folder.
    #[arg(long, global = true, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// The configuration file; default: kinora.toml here, then /etc/kinora/kinora.toml.
    #[arg(long, global = true, env = "KINORA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server.
    Serve(serve::ServeArgs),
    /// Pushes a file as a camera would.
    Publish(publish::Args),
    /// Takes pictures out of a stream: at instants, of a range, or the newest.
    Frames(frames::FramesArgs),
    /// Takes a range of a stream away as a file; a download that was broken off goes on.
    Clip(clip::ClipArgs),
    /// Streams: list, create, show, update, remove.
    #[command(subcommand)]
    Stream(stream::StreamCommand),
    /// Tokens for the API and for players.
    #[command(subcommand)]
    Token(access::TokenCommand),
    /// Publish secrets for cameras and encoders, and access keys.
    #[command(subcommand)]
    Key(access::KeyCommand),
    /// The stored media of a data folder whose server is stopped.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Says whether the server is up.
    Health,
    /// Makes the server take certificates, limits and streams from its configuration again.
    Reload,
    /// Measures how fast the disk of the data folder makes writes safe.
    ProbeDisk(disk::ProbeArgs),
}

/// Why a command failed: a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Serve(#[from] crate::server::ServeError),
    #[error(transparent)]
    Config(#[from] crate::config::load::ConfigError),
    #[error(transparent)]
    Store(#[from] ::store::StoreError),
    #[error("{0}")]
    Failed(String),
}

/// Runs the program with the process arguments.
pub fn run() -> ExitCode {
    let Cli { common, command } = Cli::parse();
    match dispatch(&common, command) {
        Ok(code) => code,
        Err(error) => {
            if common.json {
                println!("{}", serde_json::json!({"error": {"message": error.to_string()}}));
            }
            eprintln!("kinora: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(common: &Common, command: Command) -> Result<ExitCode, CommandError> {
    match command {
        Command::Serve(args) => serve::run(common, args)?,
        Command::Publish(args) => return Ok(publish::run(&args)),
        Command::Frames(args) => return frames::run(common, &Client::new(common)?, &args),
        Command::Clip(args) => clip::run(common, &Client::new(common)?, &args)?,
        Command::Stream(command) => stream::run(common, &Client::new(common)?, command)?,
        Command::Token(command) => access::run_token(common, &Client::new(common)?, command)?,
        Command::Key(command) => access::run_key(common, &Client::new(common)?, command)?,
        Command::Store(command) => return store::run(common, command),
        Command::Health => return health::run(common),
        Command::Reload => health::reload(common, &Client::new(common)?)?,
        Command::ProbeDisk(args) => disk::run(common, &args)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Common {
    /// Where configuration comes from, with these flags on top.
    pub(crate) fn sources(&self) -> crate::config::load::Sources {
        let mut sources = crate::config::load::Sources::of_process();
        sources.file = self.config.clone();
        if let Some(folder) = &self.data_dir {
            sources.flags.push(("--data-dir", "server.data_dir", folder.display().to_string()));
        }
        sources
    }

    /// The data folder, as the server would find it.
    pub(crate) fn data_dir(&self) -> Result<PathBuf, CommandError> {
        Ok(crate::config::load::load(&self.sources())?.config.server.data_dir)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn calls_that_outside_checks_drive_are_understood() {
        let lines = [
            "kinora serve --data-dir d --http 127.0.0.1:0 --https off --rtsp :0 --webrtc-udp off --config k.toml",
            "kinora serve --print-config",
            "kinora stream ls --json",
            "kinora stream create gate --max-age 24h --max-bytes 10GB --tag site=north",
            "kinora stream rm gate --yes",
            "kinora stream show gate",
            "kinora stream update gate --max-age none",
            "kinora token create --label tv --streams gate-* --action play --playback --expires-in 24h",
            "kinora token ls",
            "kinora token revoke abc",
            "kinora key create --label cam --streams gate",
            "kinora key ls",
            "kinora key revoke abc",
            "kinora store check --data-dir d",
            "kinora store rebuild --data-dir d",
            "kinora frames gate --at latest -o now.jpg",
            "kinora frames gate --at 2026-05-01T08:00:00Z,1777622400000 --pick key --width 640 -o pictures",
            "kinora frames gate --from 2026-05-01T08:00:00Z --to 2026-05-01T09:00:00Z --every 1s --format png --json",
            "kinora frames gate --last 5m --every key --crop 0,0,640,360 --quality 70 --connections 4 --force",
            "kinora clip gate --from 2026-05-01T08:00:00Z --to 2026-05-01T09:00:00Z -o gate.mp4 --gaps keep --audio none --json",
            "kinora clip gate --last 5m --force",
            "kinora health",
            "kinora reload",
            "kinora probe-disk --count 10",
        ];
        for line in lines {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
    }
}
