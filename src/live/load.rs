//! Where a stream goes on: asked of the store once, then kept in memory.

use media::fragmenter::Continuation;
use media::{Epoch, Position, Sequence, TrackSetId};
use store::{Store, StoreError, StreamHead};

use super::pool::Pool;
use super::seat::Seat;
use super::state::StreamState;

/// Asks the store where a stream continues, once.
pub(super) struct Loader {
    pub store: Store,
    pub pool: Pool,
}

impl Loader {
    pub async fn load(&self, state: &StreamState) -> Result<(), StoreError> {
        let load = async || {
            let (store, stream) = (self.store.clone(), state.id);
            let head = self.pool.run(move || store.head(stream)).await?;
            let mut seat = state.seat();
            if matches!(*seat, Seat::Unknown) {
                state.load(head.as_ref());
                *seat = Seat::Vacant(Box::new(continuation(head, self.store.epoch())));
            }
            Ok::<(), StoreError>(())
        };
        state.loaded.get_or_try_init(load).await?;
        Ok(())
    }
}

/// Where a stream that ended at `head` goes on in `epoch`.
fn continuation(head: Option<StreamHead>, epoch: Epoch) -> Continuation {
    let Some(head) = head else { return Continuation::new_stream(epoch) };
    let Position { epoch: last_epoch, sequence } = head.position;
    let next_sequence = if last_epoch == epoch { Sequence(sequence.0 + 1) } else { Sequence(1) };
    Continuation {
        epoch,
        next_sequence,
        next_ordinal: head.next_ordinal,
        discontinuities: head.discontinuities,
        next_track_set: TrackSetId(head.track_set.0.0 + 1),
        track_set: Some(head.track_set),
        end_us: head.end_us,
        last_server_time: Some(head.last.info.server_time),
        last_producer_end: Some(head.last.info.producer_end()),
        reason: head.ended,
    }
}
