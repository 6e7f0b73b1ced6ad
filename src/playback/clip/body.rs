//! The bytes of a planned file in order, read as they are sent.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt};
use media::StreamId;
use store::StoreError;

use super::fragmented::{Content, Film, Reader, Sent};
use super::progressive::{Payload, Plan, Stored};
use super::silence::Repeated;
use super::{Clip, Clips, Form};
use crate::live::{Handle, Hub};

/// Small fragments are read together up to this many bytes, large ones in pieces of it.
const READ_BYTES: u64 = 1 << 20;
/// A fragment up to this long is read as a whole when half of it is wanted: so every byte of it is checked.
const WHOLE_MAX: u32 = 4 << 20;
/// Reads under way: one is sent while the next comes.
const AHEAD: usize = 2;

/// Bytes that are sent one after another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Load {
    Read(Read),
    /// Part of a silence.
    Silence(Repeated, Range<u64>),
}

/// What is read of one fragment, and which parts of it are sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Read {
    pub handle: Handle,
    pub read: Range<u32>,
    /// Parts of the fragment's body, inside of `read`.
    pub sent: Vec<Range<u32>>,
}

impl Clips {
    /// Bytes `range` of the file. An error ends it: the client must see that something is missing.
    pub(crate) fn body(&self, clip: &Clip, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        match &clip.form {
            Form::Progressive(plan) => planned(self.hub.clone(), clip.stream, plan.clone(), range).boxed(),
            Form::Fragmented(film) => {
                let front_len = film.front_len();
                let front = range.start.min(front_len)..range.end.min(front_len);
                let front = planned(self.hub.clone(), clip.stream, film.front.clone(), front);
                let rest = range.start.saturating_sub(front_len)..range.end.saturating_sub(front_len);
                front.chain(filmed(self.hub.clone(), film.clone(), rest)).boxed()
            }
        }
    }
}

/// Bytes `range` of a planned file.
fn planned(
    hub: Arc<Hub>,
    stream: StreamId,
    plan: Arc<Plan>,
    range: Range<u64>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let head_len = plan.head.len() as u64;
    let head = plan.head.slice(range.start.min(head_len) as usize..range.end.min(head_len) as usize);
    let head = (!head.is_empty()).then_some(Ok(head));
    let payload = futures_util::stream::iter(Loads::new(plan, range))
        .map(move |loads| read(hub.clone(), stream, loads))
        .buffered(AHEAD)
        .map_ok(|parts| futures_util::stream::iter(parts.into_iter().map(Ok)))
        .try_flatten();
    futures_util::stream::iter(head).chain(payload)
}

/// Bytes `range` of all fragments of a film.
fn filmed(hub: Arc<Hub>, film: Arc<Film>, range: Range<u64>) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let state =
        Projector { reader: film.reader(range.start), stream: film.stream(), hub, coming: VecDeque::new(), range };
    futures_util::stream::try_unfold(state, |mut state| async move {
        Ok::<_, io::Error>(
            state.next().await?.map(|parts| (futures_util::stream::iter(parts.into_iter().map(Ok)), state)),
        )
    })
    .try_flatten()
}

/// Sends a film.
struct Projector {
    hub: Arc<Hub>,
    stream: StreamId,
    reader: Reader,
    coming: VecDeque<Sent>,
    /// What is still wanted of all fragments.
    range: Range<u64>,
}

impl Projector {
    /// The next bytes; none at the end.
    async fn next(&mut self) -> io::Result<Option<Vec<Bytes>>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while self.range.start + bytes < self.range.end && bytes < READ_BYTES {
            let Some(sent) = self.coming.pop_front() else {
                let more = self.reader.next(&self.hub).await.map_err(|error| breaks_off(self.stream, error))?;
                // The length was promised.
                let more = more.ok_or_else(|| breaks_off(self.stream, StoreError::Gone))?;
                self.coming = more.into();
                continue;
            };
            let end = sent.at + sent.len();
            if end <= self.range.start {
                continue;
            }
            match &sent.content {
                Content::Stored(stored) => {
                    bytes = end - self.range.start;
                    batch.push((sent.at, stored.clone()));
                }
                Content::Silence(_) if !batch.is_empty() => {
                    self.coming.push_front(sent);
                    break;
                }
                Content::Silence(silence) => {
                    let from = self.range.start;
                    let to = self.range.end.min(end).min(from + READ_BYTES);
                    let made = silence.bytes(from - sent.at..to - sent.at)?;
                    self.range.start = to;
                    // The rest of it comes next.
                    self.coming.push_front(sent);
                    return Ok(Some(vec![Bytes::from(made)]));
                }
            }
        }
        if batch.is_empty() {
            return Ok(None);
        }
        let parts = batch.iter().map(|(_, stored)| (stored.handle, stored.read())).collect();
        let bodies = self.hub.read_parts(self.stream, parts).await;
        let bodies = bodies.map_err(|error| breaks_off(self.stream, error))?;
        let mut out = Vec::with_capacity(batch.len());
        for ((at, stored), body) in batch.iter().zip(&bodies) {
            let made = Bytes::from(stored.bytes(body)?);
            let wanted = self.range.start - at..(self.range.end - at).min(stored.len());
            if made.len() as u64 != stored.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            out.push(made.slice(wanted.start as usize..wanted.end as usize));
            self.range.start = at + wanted.end;
        }
        Ok(Some(out))
    }
}

fn breaks_off(stream: StreamId, error: StoreError) -> io::Error {
    tracing::warn!(%stream, %error, "a clip breaks off: what it still needed cannot be read");
    io::Error::other(error)
}

async fn read(hub: Arc<Hub>, stream: StreamId, loads: Vec<Load>) -> io::Result<Vec<Bytes>> {
    let reads = loads.iter().filter_map(|load| match load {
        Load::Read(read) => Some((read.handle, read.read.clone())),
        Load::Silence(..) => None,
    });
    let bodies = hub.read_parts(stream, reads.collect()).await.map_err(|error| breaks_off(stream, error))?;
    let mut bodies = bodies.into_iter();
    let mut sent = Vec::with_capacity(loads.len());
    for load in loads {
        let read = match load {
            Load::Read(read) => read,
            Load::Silence(silence, range) => {
                sent.push(Bytes::from(silence.bytes(range)));
                continue;
            }
        };
        let bytes = bodies.next().unwrap_or_default();
        for part in &read.sent {
            let part = (part.start - read.read.start) as usize..(part.end - read.read.start) as usize;
            // A body in memory that is shorter than it says cannot be; a clip must never be short.
            let whole = part.end <= bytes.len();
            sent.push(if whole { bytes.slice(part) } else { return Err(io::ErrorKind::UnexpectedEof.into()) });
        }
    }
    Ok(sent)
}

/// The reads that bring bytes `range` of a file, a batch at a time.
pub(super) struct Loads {
    plan: Arc<Plan>,
    range: Range<u64>,
    /// The next stretch, and what of it is done.
    next: usize,
    done: u64,
}

impl Loads {
    pub(super) fn new(plan: Arc<Plan>, range: Range<u64>) -> Loads {
        let next = plan.pieces.partition_point(|piece| piece.at + piece.len() <= range.start);
        let done = plan.pieces.get(next).map_or(0, |piece| range.start.saturating_sub(piece.at));
        Loads { plan, range, next, done }
    }
}

impl Iterator for Loads {
    type Item = Vec<Load>;

    fn next(&mut self) -> Option<Vec<Load>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(piece) = self.plan.pieces.get(self.next) {
            let end = self.range.end.saturating_sub(piece.at).min(piece.len());
            if end <= self.done {
                break;
            }
            let upto = end.min(self.done + READ_BYTES - bytes.min(READ_BYTES - 1));
            let upto = match &piece.payload {
                Payload::Stored(stored) => {
                    let as_whole = stored.body_len <= WHOLE_MAX && piece.len() >= u64::from(stored.body_len / 2);
                    let upto = if as_whole { end } else { upto };
                    batch.extend(reads(stored, as_whole, self.done..upto));
                    upto
                }
                Payload::Silence(silence) => {
                    batch.push(Load::Silence(silence.clone(), self.done..upto));
                    upto
                }
            };
            bytes += upto - self.done;
            self.done = upto;
            if upto == piece.len() {
                (self.next, self.done) = (self.next + 1, 0);
            }
            if bytes >= READ_BYTES {
                break;
            }
        }
        (!batch.is_empty()).then_some(batch)
    }
}

/// The reads that bring bytes `range` of what is stored.
fn reads(stored: &Stored, as_whole: bool, range: Range<u64>) -> Vec<Load> {
    let sent = part(stored, range);
    let handle = stored.handle;
    if as_whole {
        return vec![Load::Read(Read { handle, read: 0..stored.body_len, sent })];
    }
    let each = |part: Range<u32>| Load::Read(Read { handle, read: part.clone(), sent: vec![part] });
    sent.into_iter().map(each).collect()
}

/// Bytes `range` of what is stored, as parts of the fragment's body.
fn part(stored: &Stored, range: Range<u64>) -> Vec<Range<u32>> {
    let mut at = 0u64;
    let mut parts = Vec::with_capacity(stored.ranges.len());
    for whole in &stored.ranges {
        let len = u64::from(whole.end - whole.start);
        let from = range.start.clamp(at, at + len) - at;
        let to = range.end.clamp(at, at + len) - at;
        if from < to {
            // Both are at most the length of the range.
            parts.push(whole.start + from as u32..whole.start + to as u32);
        }
        at += len;
    }
    parts
}
