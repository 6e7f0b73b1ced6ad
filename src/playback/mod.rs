//! One folder per way out.

pub(crate) mod hls;
