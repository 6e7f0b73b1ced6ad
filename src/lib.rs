//! Kinora, the server. `src/README.md` has the map.

mod auth;
mod catalog;
mod cli;
mod config;
mod doors;
mod frames;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod ingest;
mod live;
mod playback;
mod protocol;
mod server;
mod telemetry;
mod workers;

pub use cli::run;
