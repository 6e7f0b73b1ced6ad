//! Black-box tests: the built program, real clients, real clips.
//!
//! One binary, so that it links once. `clips.rs` finds the clips that `make test` prepares, `server.rs` starts the
//! program, `media_files.rs` asks FFmpeg what a file holds, `peer.rs` is a WebRTC client. `tidy.rs` notices a test file that is
//! not named here.

mod api;
mod bad_http;
mod bad_input;
mod bad_rtsp;
mod bad_webrtc;
mod clip;
mod clip_sound;
mod clips;
mod codecs;
mod dice;
mod encrypted;
mod frames;
mod frames_cli;
mod frames_damaged;
mod impaired;
mod media_files;
mod peer;
mod publishers;
mod push;
mod raw;
mod restart;
mod samples;
mod server;
mod sync;
mod tidy;
mod webrtc;
mod wire;
mod witness;
