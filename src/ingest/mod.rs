//! One folder per way in.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod rtsp_push;
