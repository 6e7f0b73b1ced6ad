//! What comes in, on its way to a publisher.
//!
//! [`Feed`] is the logic of a session of RTP, whichever door it came through (packets in, orders out), [`Sink`] is where
//! orders go. Not here: sockets and credentials (`doors`), what bytes mean (`protocol`), and pulling from cameras.

mod feed;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod sink;
mod steady;
pub(crate) mod whip;

pub(crate) use feed::{Feed, Order};
pub(crate) use sink::Sink;
