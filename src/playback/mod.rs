//! One folder per way out.

pub(crate) mod clip;
pub(crate) mod hls;
pub(crate) mod whep;
