//! A body that is read while it is sent: a client that reads nothing holds next to nothing.
//!
//! HTTP/2 asks for no piece before the client has room for it (RFC 9113 section 5.2), HTTP/1.1 before the socket has. So a
//! segment of 30 MB that nobody takes costs one piece at most; and where many such answers are under way, pieces are small.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use bytes::Bytes;

/// A piece while there is room in the budget: few reads for much media.
const PIECE: u64 = 1 << 20;
/// A piece when there is none.
const SMALL: u64 = 64 << 10;

/// Bytes of the pieces that are being sent, of all answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pieces(Arc<AtomicU64>);

/// A piece's share of them, given back when dropped.
struct Held {
    pieces: Pieces,
    bytes: u64,
}

impl Pieces {
    /// Room for the next piece of `left` bytes, within a budget of `most` for all.
    fn hold(&self, left: u64, most: u64) -> Held {
        let wanted = left.min(PIECE);
        let before = self.0.fetch_add(wanted, Ordering::Relaxed);
        let bytes = if before + wanted <= most { wanted } else { wanted.min(SMALL) };
        self.0.fetch_sub(wanted - bytes, Ordering::Relaxed);
        metrics::gauge!("kinora_http_pieces_bytes").set(self.0.load(Ordering::Relaxed) as f64);
        Held { pieces: self.clone(), bytes }
    }

    /// Bytes `range` of something, read piece by piece by `read`, within a budget of `most` bytes for all such bodies.
    ///
    /// An error of a read ends the body before its promised length, so that the client sees that something is missing.
    pub(crate) fn body<Reading, Error>(
        &self,
        range: Range<u64>,
        most: u64,
        read: impl Fn(Range<u64>) -> Reading + Send + 'static,
    ) -> Body
    where
        Reading: Future<Output = Result<Bytes, Error>> + Send,
        Error: std::error::Error + Send + Sync + 'static,
    {
        let start = (self.clone(), range, None::<Held>, read);
        let pieces = futures_util::stream::try_unfold(start, move |(pieces, range, sent, read)| async move {
            // The piece before is with the connection, which has taken it: it asked for another.
            drop(sent);
            if range.is_empty() {
                return Ok(None);
            }
            let held = pieces.hold(range.end - range.start, most);
            let end = range.start + held.bytes;
            let bytes = read(range.start..end).await?;
            Ok::<_, Error>(Some((bytes, (pieces, end..range.end, Some(held), read))))
        });
        Body::from_stream(pieces)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pieces.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn lengths(body: &mut Body, count: usize) -> Vec<usize> {
        let mut lengths = Vec::new();
        while lengths.len() < count {
            let Some(frame) = body.frame().await else { break };
            lengths.push(frame.expect("no error").into_data().expect("data").len());
        }
        lengths
    }

    fn zeros(pieces: &Pieces, len: u64, most: u64) -> Body {
        let read = |range: Range<u64>| async move {
            Ok::<_, std::io::Error>(Bytes::from(vec![0; (range.end - range.start) as usize]))
        };
        pieces.body(7..7 + len, most, read)
    }

    #[tokio::test]
    async fn a_body_comes_in_pieces_and_whole() {
        let pieces = Pieces::default();
        let mut body = zeros(&pieces, (2 << 20) + 5, 8 << 20);
        assert_eq!(lengths(&mut body, 9).await, [1 << 20, 1 << 20, 5]);
        drop(body);
        assert_eq!(pieces.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn many_that_read_nothing_hold_little_and_let_others_go_on() {
        let pieces = Pieces::default();
        let most = 3 << 20;
        let mut idle: Vec<Body> = (0..100).map(|_| zeros(&pieces, 30 << 20, most)).collect();
        assert_eq!(pieces.0.load(Ordering::Relaxed), 0, "nothing is read before it is asked for");
        for body in &mut idle {
            assert_eq!(lengths(body, 1).await.len(), 1);
        }
        assert!(pieces.0.load(Ordering::Relaxed) <= most + 100 * SMALL);
        let mut other = zeros(&pieces, 3 * SMALL, most);
        assert_eq!(lengths(&mut other, 9).await, [SMALL as usize; 3]);
        drop((idle, other));
        assert_eq!(pieces.0.load(Ordering::Relaxed), 0);
    }
}
