//! Writes the index rows of a year of recording, for the benchmark `query`, into the data folder of a stopped server:
//!
//! `year DATA TEMPLATE END_SECONDS DAYS`
//!
//! The stream `year` gets so many days up to the end, every stream `day-*` the last of them. Block files are links
//! to the one that the stream TEMPLATE recorded: its head says what the tracks are, its media is not asked for.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use kinora_store::index::{BlockRow, BlockState, Index, SqliteIndex};
use kinora_store::packed::{self, Entry};
use media::{Epoch, FragmentInfo, GapReason, Ordinal, Position, ProducerTime, Sequence, ServerTime, StreamId};

type Failed = Box<dyn Error>;

const FRAGMENT_US: i64 = 2_000_000;
/// Five minutes, as blocks are cut.
const FRAGMENTS_A_BLOCK: u64 = 150;
const BLOCKS_A_DAY: u64 = 86_400 * 1_000_000 / (FRAGMENTS_A_BLOCK * FRAGMENT_US as u64);
const ROWS_AT_ONCE: usize = 500;
/// ext4 gives a file 65,000 names.
const LINKS_MAX: u64 = 60_000;

fn main() -> Result<(), Failed> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [data, template, end, days] = words.as_slice() else {
        return Err("usage: year DATA TEMPLATE END_SECONDS DAYS".into());
    };
    let data = Path::new(data);
    let end_us = end.parse::<i64>()? * 1_000_000;
    let streams = streams(&data.join("streams"))?;
    let template = *streams.get(template).ok_or("the template stream is not there")?;
    let index = SqliteIndex::open(&data.join("index.db"))?;
    let template = Template::read(data, &index, template)?;
    for (name, stream) in &streams {
        let days = match name.as_str() {
            "year" => days.parse()?,
            name if name.starts_with("day-") => 1,
            _ => continue,
        };
        write(&index, &template, data, *stream, end_us, days)?;
    }
    Ok(())
}

/// Every stream by its name.
fn streams(folder: &Path) -> Result<BTreeMap<String, StreamId>, Failed> {
    let mut found = BTreeMap::new();
    for folder in fs::read_dir(folder)? {
        let identity: serde_json::Value = serde_json::from_slice(&fs::read(folder?.path().join("stream.json"))?)?;
        let text = |key: &str| identity[key].as_str().ok_or("stream.json is not as expected");
        found.insert(text("name")?.to_owned(), text("id")?.parse()?);
    }
    Ok(found)
}

/// A recorded block.
struct Template {
    file: PathBuf,
    /// What its file name has after the numbers.
    suffix: String,
    row: BlockRow,
    fragment: FragmentInfo,
}

impl Template {
    fn read(data: &Path, index: &SqliteIndex, stream: StreamId) -> Result<Template, Failed> {
        let row = index.newest(stream)?.ok_or("the template has no block")?;
        let fragments = row.fragments.as_ref().ok_or("the template's block is not sealed")?;
        let fragment = packed::decode(fragments)?.swap_remove(0).info;
        let stem = stem(row.first);
        for file in fs::read_dir(stream_folder(data, stream))? {
            let file = file?;
            if let Some(suffix) = file.file_name().to_string_lossy().strip_prefix(&stem) {
                return Ok(Template { file: file.path(), suffix: suffix.to_owned(), row, fragment });
            }
        }
        Err(format!("the template has no file {stem}...").into())
    }

    /// The `count`-th fragment of a stream that started at `start_us`: two seconds, its size a little different
    /// each time.
    fn fragment(&self, count: u64, start_us: i64, offset: u64) -> Entry {
        let ago = i64::try_from(count).expect("a year of fragments is counted in millions");
        let time_us = start_us + ago * FRAGMENT_US;
        let mut info = self.fragment.clone();
        info.position = position(count);
        info.ordinal = Ordinal(count);
        info.discontinuities = 0;
        info.break_before = (count == 0).then_some(GapReason::Started);
        info.end_of_session = false;
        info.producer_time = ProducerTime::from_micros(time_us);
        info.server_time = ServerTime::from_micros(time_us + 40_000 + (ago * 7_919) % 5_000);
        info.duration_us = FRAGMENT_US as u64;
        let mut at = 0;
        for part in &mut info.tracks {
            part.offset = at;
            part.len = 560_000 + (count * 104_729 % 30_000) as u32;
            part.samples = 50;
            part.duration = 180_000;
            let reorder = part.first_pts - part.first_dts;
            part.first_dts = 900_000 + ago * 180_000;
            part.first_pts = part.first_dts + reorder;
            at += part.len;
        }
        info.body_len = at;
        Entry { info, body_offset: offset }
    }
}

fn write(
    index: &SqliteIndex,
    template: &Template,
    data: &Path,
    stream: StreamId,
    end_us: i64,
    days: u64,
) -> Result<(), Failed> {
    let blocks = days * BLOCKS_A_DAY;
    let fragments = i64::try_from(blocks * FRAGMENTS_A_BLOCK)?;
    let start_us = end_us - fragments * FRAGMENT_US;
    let folder = stream_folder(data, stream);
    let mut rows = Vec::new();
    let mut file = template.file.clone();
    for block in 0..blocks {
        let first = block * FRAGMENTS_A_BLOCK;
        let name = folder.join(format!("{}{}", stem(position(first)), template.suffix));
        if block % LINKS_MAX == 0 {
            fs::copy(&template.file, &name)?;
            file = name;
        } else {
            fs::hard_link(&file, &name)?;
        }
        rows.push(row(template, stream, first, start_us));
        if rows.len() == ROWS_AT_ONCE || block + 1 == blocks {
            index.put(&rows)?;
            rows.clear();
        }
    }
    Ok(())
}

/// The row of the block that starts with the `first`-th fragment.
fn row(template: &Template, stream: StreamId, first: u64, start_us: i64) -> BlockRow {
    let mut entries: Vec<Entry> = Vec::with_capacity(FRAGMENTS_A_BLOCK as usize);
    let mut offset = 2_000;
    for count in first..first + FRAGMENTS_A_BLOCK {
        let entry = template.fragment(count, start_us, offset);
        offset += u64::from(entry.info.body_len) + 200;
        entries.push(entry);
    }
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
        synced_bytes: template.row.synced_bytes,
        state: BlockState::Sealed,
        fragments: Some(packed::encode(&entries)),
    }
}

fn position(count: u64) -> Position {
    Position { epoch: Epoch(1), sequence: Sequence(count + 1) }
}

fn stream_folder(data: &Path, stream: StreamId) -> PathBuf {
    data.join("streams").join(stream.to_string())
}

/// The start of a block's file name.
fn stem(first: Position) -> String {
    format!("{:08}-{:013}", first.epoch.0, first.sequence.0)
}
