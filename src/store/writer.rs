//! One stream's pen: opens blocks, appends, syncs, rotates, seals, and gives up a file at its first error.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures_channel::oneshot;
use media::{Fragment, FragmentInfo, GapReason, Ordinal, Position, ServerTime, StreamId, TrackSetId};

use crate::blobs::file_name;
use crate::block::{Footer, Kind, Record, head, record::MAX_BODY};
use crate::core::{Core, MemoryBlock, Phase, stored};
use crate::disk::{File, is_full};
use crate::packed::Entry;
use crate::{AppendError, Stored};

/// A fragment on its way to the disk.
pub(crate) struct Job {
    pub fragment: Fragment,
    pub reply: oneshot::Sender<Result<Stored, AppendError>>,
}

/// A stream's writer.
pub(crate) struct Writer {
    stream: StreamId,
    block: Option<OpenBlock>,
    /// The last fragment that was persisted.
    last: Option<FragmentInfo>,
    /// When a disk error made us leave a block: the next within [`PATIENCE_US`] fails the fragments.
    failed: Option<ServerTime>,
    gone: bool,
}

/// A second disk error within this time is not covered up.
const PATIENCE_US: i64 = 10_000_000;
/// An idle block gets a clock record after this time.
pub(crate) const QUIET_US: i64 = 10_000_000;

/// The file being written.
struct OpenBlock {
    first: Position,
    first_server: ServerTime,
    track_set: TrackSetId,
    file: Arc<dyn File>,
    /// Length of the file, all appends having succeeded.
    len: u64,
    /// Bytes known to be on disk.
    synced: u64,
    /// Offset of the last record's header.
    previous: u64,
    /// CRC-32C of the file.
    crc: u32,
    /// Its name is durable.
    named: bool,
}

impl OpenBlock {
    fn append(&mut self, slices: &[&[u8]]) -> io::Result<()> {
        self.file.append(slices)?;
        self.len += slices.iter().map(|slice| slice.len() as u64).sum::<u64>();
        Ok(())
    }
}

impl Writer {
    pub(crate) fn new(stream: StreamId) -> Writer {
        Writer { stream, block: None, last: None, failed: None, gone: false }
    }

    /// The stream is deleted: nothing is written any more.
    pub(crate) fn leave(&mut self) {
        self.gone = true;
        self.block = None;
    }

    /// Appends these fragments, syncs, shows them to readers, answers. Every job is answered when it returns.
    pub(crate) fn append(&mut self, core: &Core, jobs: Vec<Job>) {
        if self.last.is_none() && !jobs.is_empty() {
            self.last = before_this_life(core, self.stream);
        }
        let mut queue: VecDeque<Job> = jobs.into();
        let mut written: VecDeque<(Job, Entry)> = VecDeque::new();
        while !queue.is_empty() || !written.is_empty() {
            let Err(error) = self.step(core, &mut queue, &mut written) else { continue };
            self.abandon(core);
            // What was not synced is written again, in its order.
            while let Some((job, _)) = written.pop_back() {
                queue.push_front(job);
            }
            let now = core.ground.clock.now();
            let full = is_full(&error);
            let again = self.failed.is_some_and(|before| now.micros_since(before).saturating_abs() < PATIENCE_US);
            if !full {
                tracing::warn!(stream = %self.stream, %error, again, "disk error, the block is left");
                self.failed = Some(now);
            }
            if full || again {
                let answer = if full { AppendError::Full } else { AppendError::Disk(error.to_string()) };
                for job in queue.drain(..) {
                    let _ = job.reply.send(Err(answer.clone()));
                }
            }
        }
    }

    /// Writes as much of the queue as fits the block, and syncs it.
    fn step(&mut self, core: &Core, queue: &mut VecDeque<Job>, written: &mut VecDeque<(Job, Entry)>) -> io::Result<()> {
        while let Some(job) = queue.front() {
            let before = written.back().map(|(_, entry)| &entry.info).or(self.last.as_ref());
            if let Some(answer) = self.refusal(core, &job.fragment, before) {
                let job = queue.pop_front().expect("it was looked at");
                let _ = job.reply.send(Err(answer));
                continue;
            }
            if self.block.as_ref().is_some_and(|block| must_rotate(core, block, before, &job.fragment)) {
                if !written.is_empty() {
                    break;
                }
                self.seal(core, None);
            }
            if self.block.is_none() {
                self.open(core, &job.fragment)?;
            }
            let block = self.block.as_mut().expect("opened above");
            let entry = write(self.stream, block, &job.fragment)?;
            let job = queue.pop_front().expect("it was looked at");
            written.push_back((job, entry));
        }
        if written.is_empty() {
            return Ok(());
        }
        self.sync(core)?;
        self.publish(core, written);
        Ok(())
    }

    /// Why this fragment cannot be stored, whatever the disk says.
    fn refusal(&self, core: &Core, fragment: &Fragment, before: Option<&FragmentInfo>) -> Option<AppendError> {
        let info = &fragment.info;
        if self.gone {
            return Some(AppendError::Gone);
        }
        if core.refuses.load(Ordering::Relaxed) {
            return Some(AppendError::Full);
        }
        let fits = fragment.body.len() as u64 == u64::from(info.body_len)
            && info.body_len <= MAX_BODY
            && info.tracks.len() <= media::track::MAX_TRACKS
            && info.tracks.iter().all(|part| {
                u64::from(part.offset) + u64::from(part.len) <= u64::from(info.body_len) && part.moof_len <= part.len
            });
        if !fits {
            return Some(AppendError::Disk("fragment does not fit its description".into()));
        }
        let in_order = info.position.epoch == core.epoch
            && before.is_none_or(|before| before.position < info.position && before.ordinal < info.ordinal);
        (!in_order).then(|| AppendError::Disk(format!("fragment {:?} is out of order", info.position)))
    }

    fn open(&mut self, core: &Core, fragment: &Fragment) -> io::Result<()> {
        let first = fragment.info.position;
        let path = core.layout.stream(self.stream).join(file_name(first));
        let file = core.ground.disk.create(&path)?;
        let head = head::encode(&fragment.tracks);
        let mut block = OpenBlock {
            first,
            first_server: fragment.info.server_time,
            track_set: fragment.info.track_set,
            file,
            len: 0,
            synced: 0,
            previous: 0,
            crc: crc32c::crc32c(&head),
            named: false,
        };
        let appended = block.append(&[&head]);
        let track_set = (fragment.info.track_set, fragment.tracks.clone());
        let memory = MemoryBlock {
            entries: Vec::new(),
            track_set,
            synced_bytes: 0,
            ended: None,
            phase: Phase::Open,
            changed: false,
            written: fragment.info.server_time,
        };
        if let Some(blocks) = core.memory_mut().get_mut(&self.stream) {
            blocks.insert(first, memory);
        }
        self.block = Some(block);
        appended
    }

    fn sync(&mut self, core: &Core) -> io::Result<()> {
        let block = self.block.as_mut().expect("something was written to it");
        let upto = block.len;
        let started = Instant::now();
        block.file.sync()?;
        core.sync_seconds.record(started.elapsed());
        if !block.named {
            core.ground.disk.sync_dir(&core.layout.stream(self.stream))?;
            block.named = true;
        }
        block.synced = upto;
        Ok(())
    }

    /// Shows what was synced to readers, then answers.
    fn publish(&mut self, core: &Core, written: &mut VecDeque<(Job, Entry)>) {
        let open = self.block.as_ref().expect("something was written to it");
        let now = core.ground.clock.now();
        if let Some(block) = core.memory_mut().get_mut(&self.stream).and_then(|blocks| blocks.get_mut(&open.first)) {
            block.entries.extend(written.iter().map(|(_, entry)| entry.clone()));
            block.synced_bytes = open.synced;
            block.changed = true;
            block.written = now;
        }
        self.last = written.back().map(|(_, entry)| entry.info.clone());
        for (job, entry) in written.drain(..) {
            // Whoever asked may have left; the fragment stays.
            let _ = job.reply.send(Ok(stored(self.stream, open.first, &entry)));
        }
    }

    /// Leaves a file that the disk refused: it is never written or synced again.
    pub(crate) fn abandon(&mut self, core: &Core) {
        let Some(block) = self.block.take() else { return };
        let mut memory = core.memory_mut();
        let Some(blocks) = memory.get_mut(&self.stream) else { return };
        let Some(shown) = blocks.get_mut(&block.first) else { return };
        if !shown.entries.is_empty() {
            shown.phase = Phase::NeedsSidecar;
            return;
        }
        blocks.remove(&block.first);
        drop(memory);
        // Nobody was told of anything in it. Its name is needed again: the same fragment opens the next block.
        let path = core.layout.stream(self.stream).join(file_name(block.first));
        if let Err(error) = core.ground.disk.unlink(&path) {
            tracing::warn!(stream = %self.stream, %error, "left block not removed");
        }
    }

    /// Ends the open block, if there is one: gap record when `why`, footer, sync. Everything in it is synced before.
    pub(crate) fn seal(&mut self, core: &Core, why: Option<GapReason>) {
        let Some(mut block) = self.block.take() else { return };
        let (entries, has_any) = match core.memory().get(&self.stream).and_then(|blocks| blocks.get(&block.first)) {
            Some(shown) => (shown.entries.clone(), !shown.entries.is_empty()),
            None => return,
        };
        if !has_any {
            self.block = Some(block);
            return self.abandon(core);
        }
        let outcome = finish(core, self.stream, &mut block, &entries, why);
        if let Err(error) = &outcome {
            tracing::warn!(stream = %self.stream, %error, "block not sealed in place, its footer goes beside it");
            self.failed = Some(core.ground.clock.now());
        }
        if let Some(shown) = core.memory_mut().get_mut(&self.stream).and_then(|blocks| blocks.get_mut(&block.first)) {
            shown.ended = why;
            shown.changed = true;
            shown.phase = if outcome.is_ok() { Phase::Sealed } else { Phase::NeedsSidecar };
            shown.synced_bytes = block.synced;
        }
    }

    /// Says in a block that was quiet for long what of it is known to be on disk.
    pub(crate) fn tick_clock(&mut self, core: &Core) {
        let now = core.ground.clock.now();
        let (Some(block), Some(last)) = (&mut self.block, &self.last) else { return };
        let first = block.first;
        let quiet = match core.memory().get(&self.stream).and_then(|blocks| blocks.get(&first)) {
            Some(shown) => shown.synced_bytes == block.synced && now.micros_since(shown.written) >= QUIET_US,
            None => false,
        };
        if !quiet {
            return;
        }
        let header = Record::mark(Kind::Clock, self.stream, last, None, now, block.synced, block.previous).encode();
        block.previous = block.len;
        block.crc = crc32c::crc32c_append(block.crc, &header);
        let outcome = block.append(&[&header]).and_then(|()| self.sync(core));
        match outcome {
            Ok(()) => {
                let synced = self.block.as_ref().map(|block| block.synced);
                if let Some(shown) = core.memory_mut().get_mut(&self.stream).and_then(|blocks| blocks.get_mut(&first)) {
                    shown.synced_bytes = synced.unwrap_or(shown.synced_bytes);
                    shown.changed = true;
                    // No second one follows: the next fragment sets this again.
                    shown.written = ServerTime::from_micros(i64::MAX);
                }
            }
            Err(error) => {
                tracing::warn!(stream = %self.stream, %error, "clock record refused, the block is left");
                self.failed = Some(now);
                self.abandon(core);
            }
        }
    }
}

/// The fragment after which this life goes on. When it cannot be read, order is the caller's care alone.
fn before_this_life(core: &Core, stream: StreamId) -> Option<FragmentInfo> {
    let head = core.head(stream).ok()??;
    let ordinal = Ordinal(head.next_ordinal.0.saturating_sub(1));
    Some(FragmentInfo { position: head.position, ordinal, ..head.last.info })
}

/// Whether a block's end has come. `before` is the last fragment: no block has a hole in its ordinals, so that its name and
/// its length bound those that it may have, when nothing else of it can be read.
fn must_rotate(core: &Core, block: &OpenBlock, before: Option<&FragmentInfo>, fragment: &Fragment) -> bool {
    let info = &fragment.info;
    let span_us = info.server_time.micros_since(block.first_server);
    let grown = block.len.saturating_add(u64::from(info.body_len)) > core.settings.rotate_bytes;
    let aged = span_us >= i64::try_from(core.settings.rotate_after.as_micros()).unwrap_or(i64::MAX);
    let hole = before.is_some_and(|before| before.ordinal.0 + 1 != info.ordinal.0);
    block.track_set != info.track_set || hole || aged || (grown && block.previous != 0)
}

/// Appends one fragment: header and body in one write.
fn write(stream: StreamId, block: &mut OpenBlock, fragment: &Fragment) -> io::Result<Entry> {
    let record = Record::fragment(stream, fragment.info.clone(), &fragment.body, block.synced, block.previous);
    let header = record.encode();
    let at = block.len;
    block.append(&[&header, &fragment.body])?;
    block.crc = crc32c::crc32c_append(block.crc, &header);
    block.crc = crc32c::crc32c_combine(block.crc, record.body_crc, fragment.body.len());
    block.previous = at;
    Ok(Entry { info: record.info, body_offset: at + header.len() as u64 })
}

fn finish(
    core: &Core,
    stream: StreamId,
    block: &mut OpenBlock,
    entries: &[Entry],
    why: Option<GapReason>,
) -> io::Result<()> {
    let last = &entries.last().expect("a block that is sealed has a fragment").info;
    let now = core.ground.clock.now();
    let gap =
        why.map(|why| Record::mark(Kind::Gap, stream, last, Some(why), now, block.synced, block.previous).encode());
    let gap = gap.unwrap_or_default();
    let footer = Footer {
        entries: entries.to_vec(),
        ended: why,
        quarantined: false,
        data_len: block.len + gap.len() as u64,
        data_crc: crc32c::crc32c_append(block.crc, &gap),
    };
    block.append(&[&gap, &footer.encode()])?;
    block.file.sync()?;
    block.synced = block.len;
    Ok(())
}
