//! What a crash left, made whole: open blocks are scanned, judged and closed; deletions are finished; what the
//! index missed is found. Doing it twice does nothing the second time.
//!
//! A file that a crash left is never appended to and never synced again, but for cutting a torn tail that nobody was told of.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use media::{Position, StreamId};

use crate::StoreError;
use crate::blobs::{Blob, BlockKey, SIDECAR, file_name, position_of};
use crate::block::footer::Footer;
use crate::block::head;
use crate::block::scan::{Options, Scan, scan};
use crate::core::{Core, row_of};
use crate::disk::{Disk, TEMPORARY, read_whole, write_whole};
use crate::index::{BlockRow, BlockState};
use crate::layout::{Layout, disk_error, stream_folders};
use crate::{Progress, RecoveryReport};

/// The longest sidecar that is read.
const MAX_SIDECAR: u64 = 128 << 20;

fn sidecar_path(layout: &Layout, stream: StreamId, first: Position) -> PathBuf {
    layout.stream(stream).join(file_name(first)).with_extension(SIDECAR)
}

/// Writes a block's footer beside it, durably.
pub(crate) fn write_sidecar(
    disk: &dyn Disk,
    layout: &Layout,
    stream: StreamId,
    first: Position,
    footer: &Footer,
) -> io::Result<()> {
    write_whole(disk, &sidecar_path(layout, stream, first), &[&footer.encode()])
}

/// Reads a block's sidecar; none when there is none that is right.
pub(crate) fn read_sidecar(
    disk: &dyn Disk,
    layout: &Layout,
    stream: StreamId,
    first: Position,
) -> io::Result<Option<Footer>> {
    match read_whole(disk, &sidecar_path(layout, stream, first), MAX_SIDECAR) {
        Ok(bytes) => Ok(Footer::decode(&bytes)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is to become of a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Its footer, at its end or beside it, is right.
    Complete { footer: Footer, synced_bytes: u64 },
    /// It has fragments and no footer: cut to `footer.data_len`, then the footer goes beside it.
    Close { footer: Footer, len: u64 },
    /// Nothing in it was ever promised to anyone.
    Remove { len: u64 },
}

/// The block after it, which says what this one can have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Next {
    pub first: Position,
    pub ordinal: u64,
}

/// Judges a block by its bytes. `synced` is what the index knew to be on disk; bodies before it are taken as right.
pub(crate) fn judge(
    disk: &dyn Disk,
    layout: &Layout,
    blob: &dyn Blob,
    key: BlockKey,
    synced: u64,
    next: Option<Next>,
) -> io::Result<Verdict> {
    let len = blob.len()?;
    if let Some(footer) = read_sidecar(disk, layout, key.stream, key.first)?
        && footer.data_len <= len
    {
        let synced_bytes = footer.data_len;
        return Ok(Verdict::Complete { footer, synced_bytes });
    }
    if let Some(footer) = Footer::read(blob)? {
        return Ok(Verdict::Complete { footer, synced_bytes: len });
    }
    let head_len = head::read(blob)?.map(|(_, len)| len);
    let options = Options { stream: key.stream, head_len: head_len.unwrap_or(0), trust_bodies_before: synced };
    let mut found = scan(blob, options)?;
    if head_len.is_none() {
        // Without its head nothing of it can be described.
        found.bad.insert(0, 0..found.bad.first().map_or(len, |bad| bad.end));
    }
    Ok(close(found, head_len, len, synced, next))
}

fn close(found: Scan, head_len: Option<u64>, len: u64, synced: u64, next: Option<Next>) -> Verdict {
    let known = synced.max(found.synced_upto);
    // A footer that was begun after everything else was synced may be torn; it is no fragment.
    let quarantined = len < known || found.bad.iter().any(|bad| bad.start < known.min(found.footer_at.unwrap_or(len)));
    let mut entries = if head_len.is_some() { found.entries } else { Vec::new() };
    // Written again into the next block, or refused and their numbers given to others: nobody was told they are here.
    entries.retain(|entry| {
        next.is_none_or(|next| entry.info.position < next.first && entry.info.ordinal.0 < next.ordinal)
    });
    if entries.is_empty() && !quarantined {
        return Verdict::Remove { len };
    }
    let data_len = if quarantined { len } else { found.end.max(known.min(len)) };
    Verdict::Close { footer: Footer { entries, ended: found.ended, quarantined, data_len, data_crc: 0 }, len }
}

impl Core {
    /// Brings the folder and the index together after whatever ended the life before.
    pub(crate) fn recover(&self, progress: &mut dyn FnMut(Progress)) -> Result<RecoveryReport, StoreError> {
        let mut report = RecoveryReport::default();
        let disk = &*self.ground.disk;
        self.finish_marked()?;
        let mut open: BTreeMap<StreamId, Vec<BlockRow>> = BTreeMap::new();
        for row in self.ground.index.open_blocks()? {
            open.entry(row.stream).or_default().push(row);
        }
        let folders = stream_folders(disk, &self.layout).map_err(|error| disk_error("list streams", error))?;
        for (done, stream) in folders.iter().enumerate() {
            progress(Progress { streams: done as u64, streams_all: folders.len() as u64, ..Progress::default() });
            if self.is_deleted(*stream)? {
                self.memory_mut().remove(stream);
                // It may have much left, and nobody waits for that.
                self.doom(*stream);
                open.remove(stream);
                continue;
            }
            self.recover_stream(*stream, open.remove(stream).unwrap_or_default(), &mut report)?;
        }
        // Rows of streams whose folder is gone.
        for stream in self.ground.index.streams()? {
            if !folders.contains(&stream) {
                self.mark_lost(stream, &[], &mut report)?;
            }
        }
        Ok(report)
    }

    pub(crate) fn is_deleted(&self, stream: StreamId) -> Result<bool, StoreError> {
        match self.ground.disk.open(&self.layout.tombstone(stream)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(disk_error("open tombstone", error)),
        }
    }

    fn finish_marked(&self) -> Result<(), StoreError> {
        let mut marked: BTreeMap<StreamId, Vec<Position>> = BTreeMap::new();
        for row in self.ground.index.deleting()? {
            marked.entry(row.stream).or_default().push(row.first);
        }
        for (stream, blocks) in marked {
            match self.ground.disk.list(&self.layout.stream(stream)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.ground.index.forget(stream, &blocks)?,
                _ => self.unlink_marked(stream, &blocks)?,
            }
        }
        Ok(())
    }

    fn recover_stream(
        &self,
        stream: StreamId,
        open: Vec<BlockRow>,
        report: &mut RecoveryReport,
    ) -> Result<(), StoreError> {
        self.remove_temporaries(stream)?;
        let files = self.ground.blobs.list(stream).map_err(|error| disk_error("list blocks", error))?;
        let newest = self.ground.index.newest(stream)?;
        let (_, rows) = self.ground.index.usage(stream)?;
        let known_open: BTreeMap<Position, &BlockRow> = open.iter().map(|row| (row.first, row)).collect();
        let positions: Vec<Position> = files.iter().map(|(first, _)| *first).collect();
        // Blocks newer than the newest row are new to the index. When the counts agree nothing else is, and
        // sealed blocks need no look.
        let after_newest =
            positions.iter().filter(|first| newest.as_ref().is_none_or(|row| **first > row.first)).count();
        let counts_agree = rows as usize + after_newest == positions.len();
        // From the newest back: each block is judged by the one after it.
        let mut next: Option<Next> = None;
        let mut unreadable = false;
        for first in positions.iter().rev() {
            let is_new = newest.as_ref().is_none_or(|row| *first > row.first);
            let row = match known_open.get(first) {
                Some(row) => Some((*row).clone()),
                None if is_new || !counts_agree => self.ground.index.block(stream, *first)?,
                None => continue,
            };
            let settled =
                row.as_ref().is_some_and(|row| row.state != BlockState::Open && row.state != BlockState::Lost);
            let row = match (settled, row) {
                (true, Some(row)) => Some(row),
                (_, row) => {
                    let row = self.recover_block(BlockKey { stream, first: *first }, row, next, report)?;
                    unreadable |= row.as_ref().is_some_and(|row| row.count == 0);
                    row
                }
            };
            if let Some(row) = row.filter(|row| row.count > 0) {
                next = Some(Next { first: *first, ordinal: row.first_ordinal.0 });
            }
        }
        if !counts_agree || open.iter().any(|row| !positions.contains(&row.first)) {
            self.mark_lost(stream, &positions, report)?;
        }
        if unreadable {
            self.place_unreadable(stream)?;
        }
        Ok(())
    }

    /// Judges one block and does what the verdict says. The row it has now; none when it was removed.
    pub(crate) fn recover_block(
        &self,
        key: BlockKey,
        row: Option<BlockRow>,
        next: Option<Next>,
        report: &mut RecoveryReport,
    ) -> Result<Option<BlockRow>, StoreError> {
        let failed = |error| disk_error(format!("recover block {key}"), error);
        let blob = self.ground.blobs.open(key).map_err(failed)?;
        let synced = row.as_ref().map_or(0, |row| row.synced_bytes);
        let was_open = row.as_ref().is_some_and(|row| row.state == BlockState::Open);
        report.found += u32::from(row.is_none());
        let verdict = judge(&*self.ground.disk, &self.layout, &*blob, key, synced, next).map_err(failed)?;
        let path = self.layout.stream(key.stream).join(file_name(key.first));
        let (footer, synced_bytes) = match verdict {
            Verdict::Remove { len } => {
                tracing::info!(block = %key, len, "block had nothing whole in it, removed");
                self.ground.blobs.remove(key.stream, &[key.first]).map_err(failed)?;
                report.cut_bytes += len;
                self.ground.index.forget(key.stream, &[key.first])?;
                return Ok(None);
            }
            Verdict::Complete { footer, synced_bytes } => (footer, synced_bytes),
            Verdict::Close { footer, len } => {
                if footer.data_len < len {
                    self.ground.disk.cut(&path, footer.data_len).map_err(failed)?;
                    report.cut_bytes += len - footer.data_len;
                }
                self.write_sidecar(key.stream, key.first, &footer).map_err(failed)?;
                let synced_bytes = footer.data_len;
                (footer, synced_bytes)
            }
        };
        let state = if footer.quarantined { BlockState::Quarantined } else { BlockState::Sealed };
        if footer.quarantined {
            tracing::error!(block = %key, "stored bytes are damaged; the block is in quarantine");
            report.quarantined += 1;
        }
        report.sealed += u32::from(was_open);
        let row = row_of(key.stream, key.first, &footer.entries, state, synced_bytes);
        self.ground.index.put(std::slice::from_ref(&row))?;
        Ok(Some(row))
    }

    /// Rows whose file is not among `files` are lost, and say so.
    fn mark_lost(&self, stream: StreamId, files: &[Position], report: &mut RecoveryReport) -> Result<(), StoreError> {
        let mut position = Position::default();
        loop {
            let rows = self.ground.index.after(stream, position, 64)?;
            let Some(last) = rows.last().map(|row| row.last.max(row.first)) else { return Ok(()) };
            let lost: Vec<BlockRow> = rows
                .into_iter()
                .filter(|row| row.state != BlockState::Lost && files.binary_search(&row.first).is_err())
                .map(|row| BlockRow { state: BlockState::Lost, ..row })
                .collect();
            if !lost.is_empty() {
                for row in &lost {
                    tracing::error!(%stream, first = ?row.first, "block's file is missing");
                }
                report.lost += u32::try_from(lost.len()).unwrap_or(u32::MAX);
                self.ground.index.put(&lost)?;
            }
            position = position.max(last);
        }
    }

    /// Names that a crash left unfinished.
    fn remove_temporaries(&self, stream: StreamId) -> Result<(), StoreError> {
        let folder = self.layout.stream(stream);
        let failed = |error| disk_error("remove unfinished file", error);
        let names = self.ground.disk.list(&folder).map_err(failed)?;
        let blocks: Vec<Position> = names.iter().filter_map(|listed| position_of(&listed.name)).collect();
        for listed in &names {
            // A sidecar without its block is what an unlink between the two left.
            let orphan = listed
                .name
                .strip_suffix(".idx")
                .is_some_and(|stem| position_of(&format!("{stem}.mp4")).is_some_and(|first| !blocks.contains(&first)));
            if listed.len.is_some() && (listed.name.ends_with(TEMPORARY) || orphan) {
                self.ground.disk.unlink(&folder.join(&listed.name)).map_err(failed)?;
            }
        }
        Ok(())
    }
}
