//! Where a session's orders go.

use super::Order;
use crate::live::{Account, Ended, Publisher, Told};

/// Where a session's orders go.
pub(crate) enum Sink {
    /// A stream's publisher seat.
    Live(Publisher),
    /// A list, for tests of what is above.
    #[cfg(test)]
    Memory(tokio::sync::mpsc::UnboundedSender<Order>),
}

impl Sink {
    /// Carries out one order; waits when the disk is behind and the source can wait.
    ///
    /// # Errors
    /// When this publisher must stop.
    pub(crate) async fn apply(&mut self, order: Order) -> Result<(), Ended> {
        match self {
            Sink::Live(publisher) => match order {
                Order::Tracks(tracks) => publisher.set_tracks(tracks),
                Order::Unit(unit) => return publisher.push(unit).await,
                Order::Rest { track, data } => publisher.push_rest(track, &data),
                Order::ClockWasSet { by_us } => publisher.clock_was_set(by_us),
                Order::SenderReport { track, ticks, producer, arrival } => {
                    publisher.sender_report(track, ticks, producer, arrival);
                }
            },
            #[cfg(test)]
            Sink::Memory(orders) => return orders.send(order).map_err(|_| Ended::Deleted),
        }
        Ok(())
    }

    /// Says what has come since the session began, and what of it did not get here.
    pub(crate) fn account(&self, account: Account) {
        match self {
            Sink::Live(publisher) => publisher.account(account),
            #[cfg(test)]
            Sink::Memory(_) => {}
        }
    }

    /// Resolves when this publisher must stop.
    pub(crate) async fn ended(&mut self) -> Ended {
        match self {
            Sink::Live(publisher) => publisher.ended().await,
            #[cfg(test)]
            Sink::Memory(orders) => {
                orders.closed().await;
                Ended::Deleted
            }
        }
    }

    /// The next thing that this publisher is told.
    pub(crate) async fn told(&mut self) -> Told {
        match self {
            Sink::Live(publisher) => publisher.told().await,
            #[cfg(test)]
            Sink::Memory(orders) => {
                orders.closed().await;
                Told::Ended(Ended::Deleted)
            }
        }
    }

    /// Closes the open fragment and leaves when all is persisted.
    pub(crate) async fn finish(self) {
        match self {
            Sink::Live(publisher) => publisher.finish().await,
            #[cfg(test)]
            Sink::Memory(_) => {}
        }
    }
}
