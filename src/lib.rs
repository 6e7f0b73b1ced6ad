//! Kinora, the server. `src/README.md` has the map.

mod auth;
mod catalog;
mod config;
mod doors;
mod ingest;
mod live;
mod playback;
mod protocol;
mod telemetry;
