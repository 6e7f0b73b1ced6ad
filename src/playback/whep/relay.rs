//! One task for each stream that is watched: its units, packed once, on their way to all who watch.

use std::sync::Arc;

use media::TrackSet;
use tokio::sync::mpsc;

use super::pack::{Packed, Packer};
use crate::live::{Next, UnitReader};

/// What a relay tells.
#[derive(Clone, Debug)]
pub(crate) enum Fed {
    /// The next unit.
    Unit(Arc<Packed>),
    /// Units were left out: what comes next does not continue what came.
    Skipped,
    /// Other tracks, or another publisher, from here on; it makes key pictures when asked, or not.
    Tracks { tracks: Arc<TrackSet>, sends_on_request: bool },
    /// The pictures cannot be shown in the order in which they come: others refer to those that would be left out.
    Reordered,
    /// Nobody publishes; somebody may again.
    Idle,
    /// The stream was deleted.
    Deleted,
}

/// Reads until the stream is deleted or nobody takes what is read. When the taker is behind it waits here, and units that
/// leave memory meanwhile are skipped.
pub(crate) async fn relay<K: Copy>(key: K, mut reader: UnitReader, out: mpsc::Sender<(K, Fed)>) {
    let (mut packer, mut session): (Option<Packer>, _) = (None, None);
    loop {
        let fed = match reader.next().await {
            Next::Unit(live) => {
                if session != Some(live.session) || packer.as_ref().is_none_or(|packer| !packer.is_for(&live.tracks)) {
                    packer = Some(Packer::new(live.tracks.clone()));
                    session = Some(live.session);
                    let sends_on_request = reader.sends_on_request();
                    let fed = Fed::Tracks { tracks: live.tracks.clone(), sends_on_request };
                    if out.send((key, fed)).await.is_err() {
                        return;
                    }
                }
                let packer = packer.as_mut().expect("made above");
                let packed = packer.pack(live.session, live.shown_us, live.starts, &live.unit);
                if std::mem::take(&mut packer.is_reordered) && out.send((key, Fed::Reordered)).await.is_err() {
                    return;
                }
                let Some(packed) = packed else { continue };
                Fed::Unit(Arc::new(packed))
            }
            Next::Skipped => Fed::Skipped,
            Next::Idle => Fed::Idle,
            Next::Deleted => Fed::Deleted,
        };
        let is_over = matches!(fed, Fed::Deleted);
        if out.send((key, fed)).await.is_err() || is_over {
            return;
        }
    }
}
