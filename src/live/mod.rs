//! Streams as they happen: hub, publisher, tail, recorder; and the two views of every stream, timeline and cursor.
//!
//! ```text
//! Publisher -> seat (fragmenter) -> tail -> Recorder -> store
//!                |                   |  \                 |
//!            UnitReader            Cursor  +-- Timeline --+
//! ```
//!
//! Here: who may publish, what is in memory, when it goes to disk, how both are read as one, and the
//! sweeper, which lets the oldest go. Locks and their order are in [`state`].
//!
//! Not here: how media arrives (`ingest`), where fragments are cut (`media::fragmenter`), how they lie on
//! disk (`store`), how they are shown (`playback`), who is allowed to (`auth`).

mod account;
mod clock_watch;
mod cursor;
mod displaced;
mod faults;
mod hub;
mod load;
mod meters;
mod pool;
mod publisher;
mod recorder;
mod seat;
mod settings;
mod state;
mod status;
mod sweeper;
mod tail;
#[cfg(test)]
mod tests;
mod timeline;
mod units;

pub(crate) use account::{Account, NotStored};
pub(crate) use clock_watch::ClockStep;
pub(crate) use cursor::{Cursor, Start, Step};
pub(crate) use hub::Hub;
pub(crate) use meters::describe as describe_metrics;
pub(crate) use publisher::{Ended, PublishError, Publisher, PublisherInfo};
pub(crate) use settings::Settings;
pub(crate) use state::Edge;
pub(crate) use status::{Standing, Status};
pub(crate) use sweeper::{Sweeper, SweeperSettings};
pub(crate) use timeline::{Descriptor, Handle, Source, Timeline};
pub(crate) use units::{LiveUnit, Next, Told, UnitReader};
