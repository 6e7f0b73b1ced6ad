use std::sync::Arc;

use bytes::Bytes;
use media::{Epoch, Sequence};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::index::conformance;

fn fresh() -> (TempDir, SqliteIndex) {
    let folder = TempDir::new().unwrap();
    let index = SqliteIndex::open(&folder.path().join("index.db")).unwrap();
    (folder, index)
}

fn stream(n: u128) -> StreamId {
    StreamId(Uuid::from_u128(n))
}

/// The `n`-th block of five minutes of a stream.
fn block(of: u128, n: u64, fragments: &Bytes) -> BlockRow {
    let at = |sequence| Position { epoch: Epoch(1), sequence: Sequence(sequence) };
    let from = 1_790_000_000_000_000 + n as i64 * 300_000_000;
    BlockRow {
        stream: stream(of),
        first: at(n * 150 + 1),
        last: at(n * 150 + 150),
        first_ordinal: Ordinal(n * 150),
        count: 150,
        discontinuities: 0,
        producer_from: ProducerTime::from_micros(from),
        producer_to: ProducerTime::from_micros(from + 300_000_000),
        server_from: ServerTime::from_micros(from),
        server_to: ServerTime::from_micros(from + 300_010_000),
        synced_bytes: 64 << 20,
        state: BlockState::Sealed,
        fragments: Some(fragments.clone()),
    }
}

#[test]
fn sqlite_index_conforms() {
    conformance::suite(|check| check(&fresh().1));
}

#[test]
fn rows_are_there_after_a_restart() {
    let (folder, index) = fresh();
    let row = block(1, 0, &Bytes::from_static(b"packed"));
    index.put(std::slice::from_ref(&row)).unwrap();
    drop(index);
    let index = SqliteIndex::open(&folder.path().join("index.db")).unwrap();
    assert_eq!(index.newest(stream(1)).unwrap(), Some(row));
    assert_eq!(index.usage(stream(1)).unwrap(), (64 << 20, 1));
}

#[test]
fn newer_format_is_refused_with_both_versions_named() {
    let (folder, index) = fresh();
    lock(&index.writer).pragma_update(None, "user_version", 7).unwrap();
    drop(index);
    let refused = SqliteIndex::open(&folder.path().join("index.db")).unwrap_err();
    assert!(matches!(refused, IndexError::Newer { found: 7, known: FORMAT }), "{refused}");
}

#[test]
fn garbage_and_foreign_databases_are_refused_and_can_be_discarded() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("index.db");
    std::fs::write(&path, [0x5a; 9_000]).unwrap();
    assert!(matches!(SqliteIndex::open(&path), Err(IndexError::Corrupt(_))));
    SqliteIndex::discard(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE mail (body TEXT)").unwrap();
    assert!(matches!(SqliteIndex::open(&path), Err(IndexError::Corrupt(_))));
    SqliteIndex::discard(&path).unwrap();
    SqliteIndex::discard(&path).unwrap();
    SqliteIndex::open(&path).unwrap();
}

#[test]
fn damaged_row_is_named_and_not_served() {
    let (_folder, index) = fresh();
    index.put(&[block(1, 0, &Bytes::new())]).unwrap();
    for change in ["state = 9", "frag_count = -1", "last_epoch = 99999999999"] {
        lock(&index.writer).execute_batch(&format!("SAVEPOINT it; UPDATE block SET {change}; RELEASE it")).unwrap();
        let refused = index.newest(stream(1)).unwrap_err();
        assert!(matches!(refused, IndexError::Damaged { stream: s, .. } if s == stream(1)), "{change}: {refused}");
        index.put(&[block(1, 0, &Bytes::new())]).unwrap();
    }
}

#[test]
fn value_beyond_a_row_fails_the_whole_put() {
    let (_folder, index) = fresh();
    let huge = BlockRow { synced_bytes: u64::MAX, ..block(1, 1, &Bytes::new()) };
    assert!(index.put(&[block(1, 0, &Bytes::new()), huge]).is_err());
    assert_eq!(index.streams().unwrap(), []);
    index.put(&[block(1, 0, &Bytes::new())]).unwrap();
    assert_eq!(index.usage(stream(1)).unwrap().1, 1);
}

#[test]
fn readers_see_whole_transactions_while_a_writer_writes() {
    let (_folder, index) = fresh();
    let index = Arc::new(index);
    let writer = std::thread::spawn({
        let index = index.clone();
        move || {
            for n in 0..100 {
                index.put(&[block(1, n * 2, &Bytes::new()), block(1, n * 2 + 1, &Bytes::new())]).unwrap();
            }
        }
    });
    while !writer.is_finished() {
        assert_eq!(index.after(stream(1), Position::default(), usize::MAX).unwrap().len() % 2, 0);
        assert_eq!(index.usage(stream(1)).unwrap().1 % 2, 0);
    }
    writer.join().unwrap();
    assert_eq!(index.after(stream(1), Position::default(), usize::MAX).unwrap().len(), 200);
}

#[test]
fn searches_use_an_index_and_no_sorting() {
    let (_folder, index) = fresh();
    let plan = |sql: &str| {
        let db = lock(&index.writer);
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines = statement.query_map([], |row| row.get::<_, String>(3));
        match lines {
            Ok(lines) => lines.map(Result::unwrap).collect::<Vec<_>>().join("; "),
            Err(error) => panic!("{sql}: {error}"),
        }
    };
    let zeros = |sql: &str| (1..=7).rev().fold(sql.to_owned(), |sql, n| sql.replace(&format!("?{n}"), "0"));
    let check = |sql: &str, expected: &str| {
        let plan = plan(&zeros(sql));
        assert!(plan.contains(expected) && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    };
    let class_and_end = "(stream=? AND producer_class=? AND producer_to>? AND producer_to<?)";
    check(time::PRODUCER.keys, &format!("SEARCH block USING COVERING INDEX block_by_producer {class_and_end}"));
    check(time::SERVER.keys, "SEARCH block USING COVERING INDEX block_by_server (stream=? AND server_class=?");
    check(
        select!(
            "WHERE stream = ?1 AND (first_epoch, first_seq) >= (?2, ?3) AND state <> 2 ORDER BY first_epoch, first_seq"
        ),
        "SEARCH block USING PRIMARY KEY (stream=? AND (first_epoch,first_seq)>(?,?))",
    );
    check(select!("WHERE state = 0 ORDER BY stream, first_epoch, first_seq"), "USING INDEX block_open");
    check(select!("WHERE state = 2 ORDER BY stream, first_epoch, first_seq"), "USING INDEX block_deleting");
}

/// Prints what a year costs: `cargo test -p kinora-store index_of_a_year -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn index_of_a_year() {
    let (folder, index) = fresh();
    let fragments = Bytes::from(vec![7; 4_000]);
    let year = 365 * 288;
    let timed = |what: &str, work: &dyn Fn() -> usize| {
        let times: Vec<_> = (0..21).map(|_| (std::time::Instant::now(), work()).0.elapsed()).collect();
        println!(
            "{what}: first {:?}, median {:?}, rows {}",
            times[0],
            {
                let mut t = times.clone();
                t.sort();
                t[10]
            },
            work()
        );
    };
    let start = std::time::Instant::now();
    for n in (0..year).step_by(200) {
        let rows: Vec<_> = (n..n + 200).map(|n| block(50, n, &fragments)).collect();
        index.put(&rows).unwrap();
    }
    for n in 0..20 {
        for of in (0..100).filter(|of| *of != 50) {
            index.put(&(n * 50..n * 50 + 50).map(|n| block(of, n, &Bytes::new())).collect::<Vec<_>>()).unwrap();
        }
    }
    let bytes = std::fs::metadata(folder.path().join("index.db")).unwrap().len();
    println!("filled in {:?}, {bytes} bytes", start.elapsed());
    let open: Vec<_> = (0..100)
        .map(|of| BlockRow { state: BlockState::Open, fragments: None, ..block(of, year, &fragments) })
        .collect();
    timed("checkpoint of 100 open blocks", &|| (index.put(&open), 100).1);
    drop(index);
    let index = SqliteIndex::open(&folder.path().join("index.db")).unwrap();
    let day = |day: i64| {
        let from = 1_790_000_000_000_000 + day * 86_400_000_000;
        (ProducerTime::from_micros(from), ProducerTime::from_micros(from + 86_400_000_000))
    };
    timed("a day in March", &|| index.by_producer(stream(50), day(70).0, day(70).1, None, 1_000).unwrap().len());
    timed("first 10 of August to the end", &|| {
        index.by_producer(stream(50), day(220).0, day(400).0, None, 10).unwrap().len()
    });
    timed("an ordinal", &|| index.by_ordinal(stream(50), Ordinal(7_000_000), Ordinal(7_000_001), 9).unwrap().len());
    timed("usage", &|| (index.usage(stream(50)).unwrap(), 1).1);
}
