//! Deleting: mark, unlink, forget, in that order, so that a crash anywhere leaves either all or nothing to
//! finish. Deletion writes little and asks for no space; a full disk does not stop it.
//!
//! Files are unlinked a few at a time, with pauses, and under no lock that recording needs: one unlink may take seconds.

use std::collections::BTreeMap;
use std::io;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use media::{FragmentInfo, GapReason, Position, ServerTime, StreamId, TrackSetId};

use crate::blobs::BlockKey;
use crate::block::{Kind, Record, head};
use crate::core::{Core, entries_of, stored};
use crate::disk::{Listed, write_whole};
use crate::index::{BlockRow, BlockState};
use crate::layout::disk_error;
use crate::query::{Remembered, nothing_known, unreadable_tracks};
use crate::standing::Standing;
use crate::{Expiry, Reclaim, Settings, StoreError, StreamIdentity};

/// Rows looked at, marked and forgotten at once.
const BATCH: usize = 64;
/// Files unlinked at once. Then the disk gets a pause as long as that took, and at most [`PAUSE_MAX`].
const UNLINKED_AT_ONCE: usize = 8;
const PAUSE_MAX: Duration = Duration::from_secs(1);

impl Expiry {
    /// As far as `before`, and this block too, which comes after.
    pub(crate) fn with(before: Option<Expiry>, row: &BlockRow) -> Expiry {
        let ends = before.map_or(row.server_to, |before| before.ends.max(row.server_to));
        Expiry { through: row.last, ends }
    }
}

impl Core {
    /// Makes a stream's folder, durably.
    pub(crate) fn create_stream(&self, identity: &StreamIdentity) -> Result<(), StoreError> {
        // Several first publishers may come at once; the second finds what the first made.
        let _turn = self.folders.take(identity.id);
        if self.exists(identity.id) {
            return Ok(());
        }
        if self.is_deleted(identity.id)? {
            return Err(StoreError::Gone);
        }
        let disk = &*self.ground.disk;
        let made = disk
            .create_dir(&self.layout.stream(identity.id))
            .and_then(|()| disk.sync_dir(&self.layout.streams()))
            .and_then(|()| crate::layout::write_stream(disk, &self.layout, identity));
        made.map_err(|error| disk_error("create stream folder", error))?;
        self.memory_mut().entry(identity.id).or_default();
        Ok(())
    }

    /// Every stream folder that is not deleted, by its `stream.json`.
    pub(crate) fn identities(&self) -> Result<Vec<StreamIdentity>, StoreError> {
        let mut streams: Vec<StreamId> = self.memory().keys().copied().collect();
        streams.sort_unstable();
        let mut found = Vec::with_capacity(streams.len());
        for stream in streams {
            match crate::layout::read_stream(&*self.ground.disk, &self.layout, stream) {
                Ok(identity) => found.extend(identity),
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    tracing::error!(%stream, %error, "stream.json is not readable");
                }
                Err(error) => return Err(disk_error("read stream.json", error)),
            }
        }
        Ok(found)
    }

    /// Drops sealed blocks that end at or before `through`, oldest first, up to the first that stays; their count of
    /// bytes. By position: a newer block never goes before an older one, nor with it, whatever the clock said.
    pub(crate) fn drop_through(&self, stream: StreamId, through: Position) -> Result<u64, StoreError> {
        let mut freed = 0;
        let mut position = Position::default();
        loop {
            let _turn = self.unlinking.take(stream);
            if !self.exists(stream) {
                // Deleted meanwhile: all of it goes.
                return Ok(freed);
            }
            let rows = self.ground.index.after(stream, position, BATCH)?;
            let Some(last) = rows.last().map(|row| row.last) else { return Ok(freed) };
            let goes = |row: &BlockRow| row.state != BlockState::Open && row.last <= through;
            let going: Vec<&BlockRow> = rows.iter().take_while(|row| goes(row)).collect();
            if !going.is_empty() {
                freed += self.drop_rows(stream, &going)?;
            }
            if going.len() < rows.len() {
                return Ok(freed);
            }
            position = position.max(last);
        }
    }

    fn drop_rows(&self, stream: StreamId, going: &[&BlockRow]) -> Result<u64, StoreError> {
        // A block just opened has no fragment that would tell where the stream continues.
        let in_memory =
            self.memory().get(&stream).is_some_and(|blocks| blocks.values().any(|block| !block.entries.is_empty()));
        let mut going = going.to_vec();
        let Some(end) = going.last().map(|row| row.last) else { return Ok(0) };
        if let Err(error) = self.remember(stream, &going) {
            // A full disk has no room for what is kept of them. That is needed when nothing readable stays: then the newest
            // block that can be read stays for now, and the others go.
            let is_needed = !in_memory && !self.is_readable_after(stream, end)?;
            tracing::warn!(%stream, %error, is_needed, "where the stream was is not written down");
            if is_needed {
                let keep = going.iter().rposition(|row| row.count > 0).unwrap_or(0);
                going.truncate(keep);
            }
            if going.is_empty() {
                return Err(error);
            }
        }
        let blocks: Vec<Position> = going.iter().map(|row| row.first).collect();
        self.remove_blocks(stream, &blocks)?;
        Ok(going.iter().map(|row| row.synced_bytes).sum())
    }

    /// Marks the rows of these blocks, unlinks the blocks, forgets the rows.
    fn remove_blocks(&self, stream: StreamId, blocks: &[Position]) -> Result<(), StoreError> {
        let writes = self.index_writes();
        let marked = self.ground.index.mark_deleting(stream, blocks);
        drop(writes);
        if let Err(error) = marked {
            // The index may have no room to say so. A tombstone says it, or the caller has said it in the catalog: whatever
            // comes between, these blocks are asked for again and their rows forgotten.
            tracing::warn!(%stream, %error, "blocks are unlinked before their rows are marked");
        }
        self.unlink_marked(stream, blocks)
    }

    /// Unlinks blocks whose rows are marked, then forgets the rows.
    pub(crate) fn unlink_marked(&self, stream: StreamId, blocks: &[Position]) -> Result<(), StoreError> {
        for blocks in blocks.chunks(UNLINKED_AT_ONCE) {
            let begun = Instant::now();
            let going = |key: BlockKey| key.stream == stream && blocks.contains(&key.first);
            self.open_blobs.forget(going);
            self.ground.blobs.remove(stream, blocks).map_err(|error| disk_error("remove blocks", error))?;
            // A reader may have opened one in between: an open file keeps its space.
            self.open_blobs.forget(going);
            pause(begun);
        }
        let _writes = self.index_writes();
        self.ground.index.forget(stream, blocks)?;
        Ok(())
    }

    /// Keeps where the stream stood behind these blocks, which are about to go: numbers must never be used again, and
    /// what stays may be damaged one day.
    fn remember(&self, stream: StreamId, going: &[&BlockRow]) -> Result<(), StoreError> {
        let mut standing = self.standing_of_dropped(stream)?;
        // An index that was put back may have rows of blocks that went long ago.
        let new = |row: &&&BlockRow| standing.is_none_or(|standing| standing.position < row.last);
        let going: Vec<&BlockRow> = going.iter().filter(new).copied().collect();
        for row in &going {
            standing = Some(Standing::past(standing, row, self.settings.rotate_bytes)?);
        }
        let (Some(standing), Some(oldest)) = (standing, going.first()) else { return Ok(()) };
        let known = match going.iter().rfind(|row| row.count > 0 && row.fragments.is_some()) {
            Some(row) => self.last_of(row)?,
            None => self.remembered(stream)?,
        };
        let nothing = || (nothing_known(oldest), (TrackSetId(0), unreadable_tracks()), GapReason::Damaged);
        let (last, (_, tracks), ended) = known.unwrap_or_else(nothing);
        let unreadable = going.iter().rev().take_while(|row| row.count == 0).count() as u32;
        // Each of those may have had tracks of its own, under the next id.
        let (tracks, ended) = if unreadable > 0 { (unreadable_tracks(), GapReason::Damaged) } else { (tracks, ended) };
        let (ordinal, synced_upto) = standing.parts();
        let info = FragmentInfo {
            position: standing.position,
            ordinal,
            track_set: TrackSetId(last.info.track_set.0.saturating_add(unreadable)),
            ..last.info
        };
        let head = head::encode(&tracks);
        let now = self.ground.clock.now();
        let gap = Record::mark(Kind::Gap, stream, &info, Some(ended), now, 0, 0).encode();
        let previous = last.place.body_offset;
        let record =
            Record { kind: Kind::Fragment, stream, synced_upto, previous, body_crc: 0, tfdt_offsets: Vec::new(), info };
        write_whole(&*self.ground.disk, &self.layout.last(stream), &[&head, &record.encode(), &gap])
            .map_err(|error| disk_error("write what a stream's end was", error))
    }

    /// The last fragment of a row that has some, its tracks, and why it ended there.
    fn last_of(&self, row: &BlockRow) -> Result<Option<Remembered>, StoreError> {
        let Some(entry) = entries_of(row)?.pop() else { return Ok(None) };
        let id = entry.info.track_set;
        let tracks = self.track_set(row.stream, id)?.unwrap_or_else(unreadable_tracks);
        let silent =
            if entry.info.position.epoch < self.epoch { GapReason::ServerCrashed } else { GapReason::PublisherLeft };
        let ended = self.footer(row.stream, row.first)?.and_then(|footer| footer.ended).unwrap_or(silent);
        Ok(Some((stored(row.stream, row.first, &entry), (id, tracks), ended)))
    }

    /// Deletes a stream: writes its tombstone, after which it is gone for everybody. What it has on disk goes by
    /// [`Core::finish_deletions`].
    pub(crate) fn delete_stream(&self, stream: StreamId) -> Result<(), StoreError> {
        let _turn = self.folders.take(stream);
        if self.exists(stream) {
            write_whole(&*self.ground.disk, &self.layout.tombstone(stream), &[b"deleted\n"])
                .map_err(|error| disk_error("write tombstone", error))?;
            self.memory_mut().remove(&stream);
            self.track_sets.forget(stream);
            self.doom(stream);
            self.pulse.removal.ring();
        }
        Ok(())
    }

    /// Has what is left of a deleted stream removed.
    pub(crate) fn doom(&self, stream: StreamId) {
        self.doomed.lock().unwrap_or_else(PoisonError::into_inner).insert(stream);
    }

    /// Removes what is left of deleted streams. One that fails stays for the next call, which begins where this one ended.
    pub(crate) fn finish_deletions(&self) {
        let doomed = self.doomed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for stream in doomed {
            let Ok(_leave) = self.leave_to_change() else { return };
            match self.finish_deletion(stream) {
                Err(error) => tracing::warn!(%stream, %error, "a deleted stream has files left; they are tried again"),
                Ok(()) if self.pulse.is_stopping() => return,
                Ok(()) => {
                    self.doomed.lock().unwrap_or_else(PoisonError::into_inner).remove(&stream);
                }
            }
        }
    }

    /// Removes what is left of a stream that has a tombstone; or a part of it, when the store closes. The tombstone stays.
    pub(crate) fn finish_deletion(&self, stream: StreamId) -> Result<(), StoreError> {
        if let Some(writer) = self.forget_writer(stream) {
            // What it is in the middle of is its last.
            writer.lock().unwrap_or_else(PoisonError::into_inner).leave();
        }
        // Rows that are being put this moment are there afterwards; no more come, since memory does not know the stream.
        drop(self.index_writes());
        while !self.pulse.is_stopping() {
            let _turn = self.unlinking.take(stream);
            let rows = self.ground.index.after(stream, Position::default(), UNLINKED_AT_ONCE)?;
            if rows.is_empty() {
                return self.remove_the_rest(stream);
            }
            let blocks: Vec<Position> = rows.iter().map(|row| row.first).collect();
            self.remove_blocks(stream, &blocks)?;
        }
        Ok(())
    }

    /// Removes the files of a deleted stream that the index does not know, and rows whose files are gone.
    fn remove_the_rest(&self, stream: StreamId) -> Result<(), StoreError> {
        let disk = &*self.ground.disk;
        let folder = self.layout.stream(stream);
        let names = match disk.list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names.map_err(|error| disk_error("list stream folder", error))?,
        };
        let files: Vec<&Listed> =
            names.iter().filter(|listed| listed.name != "DELETED" && listed.len.is_some()).collect();
        for files in files.chunks(UNLINKED_AT_ONCE) {
            if self.pulse.is_stopping() {
                return Ok(());
            }
            let begun = Instant::now();
            for listed in files {
                match disk.unlink(&folder.join(&listed.name)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(disk_error("remove stream's file", error));
                    }
                    _ => {}
                }
            }
            disk.sync_dir(&folder).map_err(|error| disk_error("sync stream folder", error))?;
            pause(begun);
        }
        // A reader may have opened one in between: an open file keeps its space.
        self.open_blobs.forget(|key| key.stream == stream);
        // An earlier try may have marked rows and failed.
        let marked: Vec<Position> =
            self.ground.index.deleting()?.iter().filter(|row| row.stream == stream).map(|row| row.first).collect();
        if !marked.is_empty() {
            let _writes = self.index_writes();
            self.ground.index.forget(stream, &marked)?;
        }
        Ok(())
    }

    /// Which streams to drop how far so that free space rises above the soft watermark: oldest blocks first, over all
    /// streams; each keeps its newest block, and what ends less than `keep` before its end. Half way to the hard watermark some of that
    /// goes, too, until `beyond` bytes are used up.
    pub(crate) fn reclaim_plan(&self, keep: Duration, mut beyond: u64) -> Result<Reclaim, StoreError> {
        let (free, all) = self.space()?;
        let Settings { soft_free_permille: soft, hard_free_permille: hard, .. } = self.settings;
        let missing_to = |permille: u32| {
            let wanted = u128::from(all) * u128::from(permille) / 1000;
            u64::try_from(wanted.saturating_sub(u128::from(free))).unwrap_or(u64::MAX)
        };
        let (missing, pressing) = (missing_to(soft), missing_to(hard + soft.saturating_sub(hard) / 2));
        let mut drops: BTreeMap<StreamId, Expiry> = BTreeMap::new();
        let (mut freed, mut keeps) = (0u64, false);
        if missing == 0 {
            return Ok(Reclaim::default());
        }
        // The oldest block of each stream that is not in the plan yet.
        let mut oldest: BTreeMap<(ServerTime, StreamId), BlockRow> = BTreeMap::new();
        for stream in self.ground.index.streams()? {
            if let Some(row) = self.reclaimable_after(stream, Position::default())? {
                oldest.insert((row.server_to, stream), row);
            }
        }
        let keep_us = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
        while freed < missing
            && let Some(((_, stream), row)) = oldest.pop_first()
        {
            let end = self.ground.index.newest(stream)?.map_or(row.server_to, |newest| newest.server_to);
            if end.micros_since(row.server_to) < keep_us {
                if freed >= pressing || beyond == 0 {
                    keeps = true;
                    continue;
                }
                beyond = beyond.saturating_sub(row.synced_bytes);
            }
            freed = freed.saturating_add(row.synced_bytes);
            let expiry = Expiry::with(drops.get(&stream).copied(), &row);
            drops.insert(stream, expiry);
            if let Some(next) = self.reclaimable_after(stream, row.last)? {
                oldest.insert((next.server_to, stream), next);
            }
        }
        let keeps_minimum = keeps && freed < missing;
        Ok(Reclaim { drops: drops.into_iter().collect(), keeps_minimum, is_pressing: keeps && freed < pressing })
    }

    /// Bytes of all streams in the index: all but the newest second.
    pub(crate) fn stored_bytes(&self) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for stream in self.ground.index.streams()? {
            bytes += self.ground.index.usage(stream)?.0;
        }
        Ok(bytes)
    }

    fn reclaimable_after(&self, stream: StreamId, position: Position) -> Result<Option<BlockRow>, StoreError> {
        let newest = self.ground.index.newest(stream)?.map(|row| row.first);
        let row = self.ground.index.after(stream, position, 1)?.pop();
        Ok(row.filter(|row| row.state != BlockState::Open && Some(row.first) != newest))
    }
}

/// Lets others have the disk for as long as what began at `begun` took.
fn pause(begun: Instant) {
    thread::sleep(begun.elapsed().min(PAUSE_MAX));
}
