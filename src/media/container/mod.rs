//! Containers: what holds samples in files and on the wire.

pub mod cmaf;
pub mod mp4;
