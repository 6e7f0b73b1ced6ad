//! The configuration: one struct tree with typed units, and where its values come from.
//!
//! Later wins: the defaults here, `kinora.toml`, `KINORA_SECTION_KEY` in the environment, flags. Every key is
//! listed once, in [`tree`], with its default and its meaning.
//!
//! Not here: what the values do. Rooms below `doors` get their settings as values of their own types.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod load;
mod memory;
pub(crate) mod tree;
pub(crate) mod units;

pub(crate) use tree::{Config, StreamEntry};
