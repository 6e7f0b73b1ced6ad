//! Verifies the numbered invariants of `README.md`, and rebuilds the index from the blocks alone.

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use media::{FragmentInfo, Position, StreamId};

use crate::StoreError;
use crate::blobs::{Blob, BlockKey, SIDECAR, file_name, position_of};
use crate::block::footer::Footer;
use crate::block::head;
use crate::block::scan::{Options, body_crc, scan};
use crate::core::{Ground, row_of};
use crate::disk::TEMPORARY;
use crate::index::{BlockRow, BlockState, Index};
use crate::layout::{Layout, disk_error, read_stream, stream_folders};
use crate::packed::Entry;
use crate::recover::read_sidecar;

/// What a check or a rebuild has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Streams done.
    pub streams: u64,
    /// Streams in all.
    pub streams_all: u64,
    /// Blocks done.
    pub blocks: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// An invariant that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Its number in `README.md`.
    pub invariant: u8,
    /// The stream.
    pub stream: StreamId,
    /// The block, where it is about one.
    pub block: Option<Position>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}: stream {}", self.invariant, self.stream)?;
        if let Some(first) = self.block {
            write!(f, ", block {}", file_name(first))?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CheckReport {
    /// Streams that are not deleted.
    pub streams: u64,
    /// Blocks.
    pub blocks: u64,
    /// Of them, blocks that a crash left open: the next start closes them.
    pub unsealed: u64,
    /// Of them, blocks in quarantine.
    pub quarantined: u64,
    /// Blocks that the index has and the disk has not, known as lost.
    pub lost: u64,
    /// Deleted streams that have blocks or rows left: the next start goes on with them.
    pub deleting: u64,
    /// Fragments that readers can have.
    pub fragments: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What does not hold.
    pub violations: Vec<Violation>,
}

/// Every row of the index as text, in one order: two indexes with the same dump answer alike.
pub fn dump(index: &dyn Index) -> Result<String, StoreError> {
    let mut text = String::new();
    for stream in index.streams()? {
        for row in rows_of(index, stream)? {
            text.push_str(&format!("{row:?}\n"));
        }
    }
    Ok(text)
}

fn rows_of(index: &dyn Index, stream: StreamId) -> Result<Vec<BlockRow>, StoreError> {
    let mut rows: Vec<BlockRow> = Vec::new();
    let mut position = Position::default();
    loop {
        let page = index.after(stream, position, 256)?;
        let Some(last) = page.last().map(|row| row.last.max(row.first)) else { return Ok(rows) };
        rows.extend(page);
        position = last;
    }
}

/// Verifies every invariant, reading every byte. Nothing is changed.
pub(crate) fn check(
    ground: &Ground,
    layout: &Layout,
    progress: &mut dyn FnMut(Progress),
) -> Result<CheckReport, StoreError> {
    let folders = stream_folders(&*ground.disk, layout).map_err(|error| disk_error("list streams", error))?;
    let mut check = Check { ground, layout, report: CheckReport::default() };
    for (done, stream) in folders.iter().enumerate() {
        check.stream(*stream)?;
        let CheckReport { blocks, bytes, .. } = check.report;
        progress(Progress { streams: done as u64 + 1, streams_all: folders.len() as u64, blocks, bytes });
    }
    for stream in ground.index.streams()? {
        let all_lost =
            || Ok::<_, StoreError>(rows_of(&*ground.index, stream)?.iter().all(|row| row.state == BlockState::Lost));
        if !folders.contains(&stream) && !all_lost()? {
            check.violated(9, stream, None, "the index has blocks of a stream without a folder");
        }
    }
    Ok(check.report)
}

/// `made` by the footer; a block without one readable fragment has its ordinal and its times from its neighbours, which may
/// have changed since.
fn expected(row: &BlockRow, made: BlockRow) -> BlockRow {
    if made.count > 0 {
        return made;
    }
    BlockRow {
        first_ordinal: row.first_ordinal,
        discontinuities: row.discontinuities,
        producer_from: row.producer_from,
        producer_to: row.producer_to,
        server_from: row.server_from,
        server_to: row.server_to,
        ..made
    }
}

struct Check<'a> {
    ground: &'a Ground,
    layout: &'a Layout,
    report: CheckReport,
}

impl Check<'_> {
    fn violated(&mut self, invariant: u8, stream: StreamId, block: Option<Position>, what: impl Into<String>) {
        self.report.violations.push(Violation { invariant, stream, block, what: what.into() });
    }

    fn stream(&mut self, stream: StreamId) -> Result<(), StoreError> {
        let failed = |error| disk_error("check stream", error);
        let names = self.ground.disk.list(&self.layout.stream(stream)).map_err(failed)?;
        let blocks: BTreeSet<Position> = names.iter().filter_map(|listed| position_of(&listed.name)).collect();
        let rows = rows_of(&*self.ground.index, stream)?;
        if names.iter().any(|listed| listed.name == "DELETED") {
            self.report.deleting += u64::from(!blocks.is_empty() || !rows.is_empty());
            return Ok(());
        }
        self.report.streams += 1;
        match read_stream(&*self.ground.disk, self.layout, stream) {
            Ok(Some(_)) => {}
            Ok(None) => self.violated(1, stream, None, "stream.json is missing"),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.violated(1, stream, None, format!("stream.json: {error}"));
            }
            Err(error) => return Err(failed(error)),
        }
        for listed in &names {
            let sidecar_of = listed.name.strip_suffix(SIDECAR).and_then(|stem| position_of(&format!("{stem}mp4")));
            if sidecar_of.is_some_and(|first| !blocks.contains(&first)) {
                self.violated(9, stream, sidecar_of, "a sidecar without its block");
            }
            if listed.name.ends_with(TEMPORARY) {
                self.violated(12, stream, None, format!("{} is not finished", listed.name));
            }
        }
        for row in rows.iter().filter(|row| !blocks.contains(&row.first)) {
            if row.state == BlockState::Lost {
                self.report.lost += 1;
            } else {
                self.violated(9, stream, Some(row.first), "the index has it, the disk has not");
            }
        }
        let mut last: Option<FragmentInfo> = None;
        for first in blocks {
            let row = rows.iter().find(|row| row.first == first);
            self.block(BlockKey { stream, first }, row, &mut last).map_err(failed)?;
        }
        Ok(())
    }

    fn block(&mut self, key: BlockKey, row: Option<&BlockRow>, last: &mut Option<FragmentInfo>) -> io::Result<()> {
        let (stream, block) = (key.stream, Some(key.first));
        let blob = self.ground.blobs.open(key)?;
        let len = blob.len()?;
        self.report.blocks += 1;
        self.report.bytes += len;
        let beside = read_sidecar(&*self.ground.disk, self.layout, stream, key.first)?;
        let is_beside = beside.is_some();
        let footer = match beside {
            Some(footer) => Some(footer),
            None => Footer::read(&*blob)?,
        };
        let Some(footer) = footer else {
            self.report.unsealed += 1;
            if row.is_some_and(|row| row.state != BlockState::Open) {
                self.violated(6, stream, block, "sealed in the index, and without a right footer");
            }
            return Ok(());
        };
        if footer.quarantined {
            self.report.quarantined += 1;
        }
        self.report.fragments += footer.entries.len() as u64;
        let synced_bytes = if is_beside { footer.data_len } else { len };
        let state = if footer.quarantined { BlockState::Quarantined } else { BlockState::Sealed };
        match row {
            None => self.violated(9, stream, block, "the disk has it, the index has not"),
            // An open row is the checkpoint of a block whose sealing it missed; the next start puts the whole one.
            Some(row) if row.state == BlockState::Open => self.report.unsealed += 1,
            Some(row) if *row != expected(row, row_of(stream, key.first, &footer.entries, state, synced_bytes)) => {
                self.violated(8, stream, block, "the index does not say what the footer says");
            }
            Some(_) => {}
        }
        self.records(key, &*blob, &footer, is_beside)?;
        self.order(key, &footer.entries, last);
        Ok(())
    }

    fn records(&mut self, key: BlockKey, blob: &dyn Blob, footer: &Footer, is_beside: bool) -> io::Result<()> {
        let (stream, block) = (key.stream, Some(key.first));
        let Some((tracks, head_len)) = head::read(blob)? else {
            if !footer.quarantined {
                self.violated(3, stream, block, "its head is not readable");
            }
            return Ok(());
        };
        let found = scan(blob, Options { stream, head_len, trust_bodies_before: 0 })?;
        let bad = found.bad.iter().find(|bad| bad.start < footer.data_len);
        if let Some(bad) = bad
            && !footer.quarantined
            && !is_beside
        {
            self.violated(3, stream, block, format!("bytes {} to {} are no right record", bad.start, bad.end));
        }
        if !found.synced_never_falls {
            self.violated(5, stream, block, "synced_upto or the chain of records goes back");
        }
        let missing = footer.entries.iter().find(|entry| !found.entries.contains(entry));
        if let Some(entry) = missing {
            self.violated(6, stream, block, format!("{:?} is listed and not there", entry.info.position));
        }
        if !is_beside && found.entries.len() != footer.entries.len() {
            self.violated(6, stream, block, "not every fragment is listed");
        }
        if !is_beside && body_crc(blob, 0, footer.data_len)? != footer.data_crc {
            self.violated(6, stream, block, "the checksum of its bytes is another");
        }
        let set = footer.entries.first().map(|entry| entry.info.track_set);
        let fits = |entry: &Entry| {
            Some(entry.info.track_set) == set && entry.info.tracks.iter().all(|part| tracks.track(part.track).is_some())
        };
        if !footer.entries.iter().all(fits) {
            self.violated(7, stream, block, "a fragment is not of its track set");
        }
        Ok(())
    }

    fn order(&mut self, key: BlockKey, entries: &[Entry], last: &mut Option<FragmentInfo>) {
        let (stream, block) = (key.stream, Some(key.first));
        if entries.first().is_some_and(|entry| entry.info.position < key.first) {
            self.violated(2, stream, block, "its first fragment is before its name");
        }
        for entry in entries {
            let info = &entry.info;
            if let Some(before) = last {
                if before.position >= info.position || before.ordinal >= info.ordinal {
                    self.violated(4, stream, block, format!("{:?} does not come after the one before", info.position));
                }
                if before.discontinuities > info.discontinuities {
                    self.violated(4, stream, block, format!("{:?}: discontinuities go back", info.position));
                }
                if before.server_time > info.server_time {
                    self.violated(11, stream, block, format!("{:?}: server time goes back", info.position));
                }
            }
            *last = Some(info.clone());
        }
    }
}
