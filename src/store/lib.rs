//! Blocks on disk, their index, recovery and retention.
//!
//! A stream's fragments lie in block files (`block` has the bytes), which are the truth; an index ([`index`]) says
//! where they are and can be rebuilt from them. `README.md` has the formats and the numbered invariants.
//!
//! ```text
//! append ── queue (ticks) ── volume (threads) ── writer (one per stream) ── disk
//!                                              │ synced
//! select, read ── core (memory: open blocks) ◄─┘ ── index rows, batched
//! ```
//!
//! Not here: when to delete and what people set (`catalog` and its callers: settings come in as values), the newest seconds in
//! memory (`live`), what samples mean (`media`).

pub mod blobs;
mod block;
mod check;
pub mod clock;
mod core;
pub mod disk;
mod epochs;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod index;
mod layout;
pub mod packed;
mod pulse;
mod query;
mod queue;
mod read;
mod recover;
mod reserve;
mod retention;
pub mod select;
#[cfg(test)]
mod simulation;
mod siphash;
#[cfg(test)]
mod slow;
mod standing;
mod store;
#[cfg(test)]
mod testing;
mod track_sets;
mod turns;
mod volume;
mod writer;

pub use check::{CheckReport, Progress, Violation, dump};
pub use clock::{Clock, ManualClock, SystemClock};
pub use pulse::Stuck;
pub use select::{Expiry, Place, Reclaim, Select, Stored};
pub use store::{AppendError, Bounds, RecoveryReport, Settings, Store, StoreError, StreamHead, StreamIdentity};
