//! Makes a day of a few recorded seconds, for the benchmark `scrub`, in the data folder of a stopped server:
//!
//! `day DATA STREAM END_SECONDS`
//!
//! The stream's first block, which must be its only one, is repeated over the day that ends there: index rows with other
//! times and numbers, and links to the one file. Every picture of the day can so be read and decoded; the bytes on disk, and in
//! the page cache, are those of one block.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use kinora_store::index::{BlockRow, BlockState, Index, SqliteIndex};
use kinora_store::packed::{self, Entry};
use media::{Epoch, GapReason, Ordinal, Position, ProducerTime, Sequence, ServerTime, StreamId};

type Failed = Box<dyn Error>;

const DAY_US: i64 = 86_400 * 1_000_000;
const ROWS_AT_ONCE: usize = 500;

fn main() -> Result<(), Failed> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [data, name, end] = words.as_slice() else {
        return Err("usage: day DATA STREAM END_SECONDS".into());
    };
    let (folder, stream) = find(&Path::new(data).join("streams"), name)?;
    let end_us = end.parse::<i64>()? * 1_000_000;
    let index = SqliteIndex::open(&Path::new(data).join("index.db"))?;
    let row = index.newest(stream)?.ok_or("the stream has no block")?;
    let (stem, file, suffix) = block_file(&folder, row.first)?;
    let entries = packed::decode(row.fragments.as_ref().ok_or("the block is not sealed")?)?;
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Err("an empty block".into()) };
    if first.info.ordinal != Ordinal(0) {
        return Err("the stream has more than one block".into());
    }
    let length_us = last.info.producer_end().micros() - first.info.producer_time.micros();
    let (start_us, begun_us) = (end_us - DAY_US, first.info.producer_time.micros());
    let mut rows = Vec::new();
    for round in 0..DAY_US / length_us {
        let count = u64::try_from(round)? * entries.len() as u64;
        let shifted: Vec<Entry> =
            entries.iter().map(|entry| shift(entry, count, start_us + round * length_us - begun_us)).collect();
        let name = folder.join(format!("{}{suffix}", stem_of(shifted[0].info.position)));
        // The first one takes the recorded block's place.
        if name != folder.join(format!("{stem}{suffix}")) {
            fs::hard_link(&file, name)?;
        }
        rows.push(row_of(&row, stream, &shifted));
        if rows.len() == ROWS_AT_ONCE {
            index.put(&rows)?;
            rows.clear();
        }
    }
    index.put(&rows)?;
    Ok(())
}

fn find(streams: &Path, name: &str) -> Result<(PathBuf, StreamId), Failed> {
    for folder in fs::read_dir(streams)? {
        let folder = folder?.path();
        let identity: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("stream.json"))?)?;
        if identity["name"] == name {
            return Ok((folder, identity["id"].as_str().ok_or("stream.json is not as expected")?.parse()?));
        }
    }
    Err(format!("there is no stream {name}").into())
}

/// The stem, the path and the suffix of the block's file.
fn block_file(folder: &Path, first: Position) -> Result<(String, PathBuf, String), Failed> {
    let stem = stem_of(first);
    for file in fs::read_dir(folder)? {
        let file = file?;
        if let Some(suffix) = file.file_name().to_string_lossy().strip_prefix(&stem) {
            return Ok((stem, file.path(), suffix.to_owned()));
        }
    }
    Err(format!("there is no file {stem}...").into())
}

/// The start of a block's file name.
fn stem_of(first: Position) -> String {
    format!("{:08}-{:013}", first.epoch.0, first.sequence.0)
}

/// The fragment as it would be `count` fragments and `by_us` later; its bytes and where they lie stay.
fn shift(entry: &Entry, count: u64, by_us: i64) -> Entry {
    let mut info = entry.info.clone();
    let number = info.ordinal.0 + count;
    info.position = Position { epoch: Epoch(1), sequence: Sequence(number + 1) };
    info.ordinal = Ordinal(number);
    info.break_before = (number == 0).then_some(GapReason::Started);
    info.end_of_session = false;
    info.producer_time = ProducerTime::from_micros(info.producer_time.micros() + by_us);
    info.server_time = ServerTime::from_micros(info.server_time.micros() + by_us);
    Entry { info, body_offset: entry.body_offset }
}

fn row_of(recorded: &BlockRow, stream: StreamId, entries: &[Entry]) -> BlockRow {
    let (head, tail) = (&entries[0].info, &entries[entries.len() - 1].info);
    BlockRow {
        stream,
        first: head.position,
        last: tail.position,
        first_ordinal: head.ordinal,
        count: entries.len() as u32,
        discontinuities: 0,
        producer_from: head.producer_time,
        producer_to: tail.producer_end(),
        server_from: head.server_time,
        server_to: tail.server_end(),
        synced_bytes: recorded.synced_bytes,
        state: BlockState::Sealed,
        fragments: Some(packed::encode(entries)),
    }
}
