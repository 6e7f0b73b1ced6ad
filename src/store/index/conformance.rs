//! What every index must do: one suite, run on each.

use bytes::Bytes;
use media::{Epoch, Ordinal, Position, ProducerTime, Sequence, ServerTime, StreamId};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uuid::Uuid;

use super::{BlockRow, BlockState, Index, MemoryIndex, meets};

type Check = fn(&dyn Index);

/// Runs every check on a fresh index, which `with` makes and lends.
pub(super) fn suite(with: impl Fn(&dyn Fn(&dyn Index))) {
    let checks: [(&str, Check); 9] = [
        ("rows come back as they were put", rows_come_back),
        ("a row put again replaces the one before", put_replaces),
        ("oldest and newest are the ends of the stream order", ends),
        ("time ranges are half-open and tell streams apart", time_ranges),
        ("times out of order and spans that overlap are found", times_out_of_order),
        ("positions and ordinals are found across holes", positions_and_ordinals),
        ("blocks being deleted are seen by the sweeper alone", deleting),
        ("usage follows every change", usage),
        ("clear forgets everything", clear),
    ];
    for (name, check) in checks {
        println!("{name}");
        with(&check);
    }
    with(&any_rows);
}

fn stream(n: u128) -> StreamId {
    StreamId(Uuid::from_u128(n))
}

fn at(epoch: u32, sequence: u64) -> Position {
    Position { epoch: Epoch(epoch), sequence: Sequence(sequence) }
}

/// A block of 10 fragments whose times are `[from, to)`; server times run 5 behind.
fn block(n: u128, sequence: u64, from: i64, to: i64) -> BlockRow {
    BlockRow {
        stream: stream(n),
        first: at(1, sequence),
        last: at(1, sequence + 9),
        first_ordinal: Ordinal(sequence - 1),
        count: 10,
        discontinuities: 2,
        producer_from: ProducerTime::from_micros(from),
        producer_to: ProducerTime::from_micros(to),
        server_from: ServerTime::from_micros(from + 5),
        server_to: ServerTime::from_micros(to + 5),
        synced_bytes: 1_000 + sequence,
        state: BlockState::Sealed,
        fragments: Some(Bytes::from(vec![sequence as u8; 3_000])),
    }
}

fn put(index: &dyn Index, rows: &[BlockRow]) {
    index.put(rows).expect("put");
}

fn producer(index: &dyn Index, n: u128, from: i64, to: i64, after: Option<Position>, limit: usize) -> Vec<u64> {
    let (from, to) = (ProducerTime::from_micros(from), ProducerTime::from_micros(to));
    sequences(&index.by_producer(stream(n), from, to, after, limit).expect("by_producer"))
}

fn server(index: &dyn Index, n: u128, from: i64, to: i64, after: Option<Position>, limit: usize) -> Vec<u64> {
    let (from, to) = (ServerTime::from_micros(from), ServerTime::from_micros(to));
    sequences(&index.by_server(stream(n), from, to, after, limit).expect("by_server"))
}

fn sequences(rows: &[BlockRow]) -> Vec<u64> {
    rows.iter().map(|row| row.first.sequence.0).collect()
}

fn rows_come_back(index: &dyn Index) {
    let states =
        [BlockState::Open, BlockState::Sealed, BlockState::Quarantined, BlockState::Lost].into_iter().enumerate();
    let rows: Vec<BlockRow> = states
        .map(|(n, state)| BlockRow {
            state,
            discontinuities: u64::from(u32::MAX) + 9,
            producer_from: ProducerTime::from_micros(-70),
            fragments: (n % 2 == 0).then(|| Bytes::from(vec![n as u8; n * 3_000])),
            first: at(3 + n as u32, 5),
            last: at(3 + n as u32, (1 << 40) - 1),
            first_ordinal: Ordinal(n as u64 * 10),
            ..block(1, 1, 0, 10)
        })
        .collect();
    put(index, &rows);
    for row in &rows {
        assert_eq!(index.block(row.stream, row.first).expect("block").as_ref(), Some(row));
    }
    assert_eq!(index.after(stream(1), Position::default(), 9).expect("after"), rows);
    assert_eq!(index.open_blocks().expect("open"), &rows[..1]);
    assert_eq!(index.block(stream(2), rows[0].first).expect("block"), None);
}

fn put_replaces(index: &dyn Index) {
    let open = BlockRow { state: BlockState::Open, count: 3, fragments: None, ..block(1, 1, 0, 30) };
    let other = block(2, 1, 0, 30);
    put(index, &[open.clone(), other.clone()]);
    let sealed = BlockRow { synced_bytes: 77, ..block(1, 1, 0, 100) };
    put(index, &[open, sealed.clone()]);
    assert_eq!(index.after(stream(1), Position::default(), 9).expect("after"), [sealed]);
    assert_eq!(index.open_blocks().expect("open"), []);
    assert_eq!(producer(index, 1, 50, 60, None, 9), [1]);
    assert_eq!(index.newest(stream(2)).expect("newest"), Some(other));
    let open_again = BlockRow { state: BlockState::Open, fragments: None, ..block(1, 1, 0, 10) };
    put(index, std::slice::from_ref(&open_again));
    assert_eq!(index.open_blocks().expect("open"), [open_again]);
    assert!(producer(index, 1, 50, 60, None, 9).is_empty());
    put(index, &[]);
}

fn ends(index: &dyn Index) {
    assert_eq!(index.newest(stream(1)).expect("newest"), None);
    assert_eq!(index.oldest(stream(1)).expect("oldest"), None);
    let later_epoch = BlockRow { first: at(2, 1), last: at(2, 10), first_ordinal: Ordinal(30), ..block(1, 1, 5, 9) };
    let rows = [block(1, 21, 200, 300), block(1, 11, 100, 200), later_epoch.clone(), block(0, 1, 0, 1)];
    put(index, &rows);
    assert_eq!(index.newest(stream(1)).expect("newest"), Some(later_epoch));
    assert_eq!(index.oldest(stream(1)).expect("oldest"), Some(rows[1].clone()));
    assert_eq!(index.streams().expect("streams"), [stream(0), stream(1)]);
}

fn time_ranges(index: &dyn Index) {
    put(index, &[block(1, 1, 0, 100), block(1, 11, 100, 200), block(1, 21, 200, 300), block(2, 1, 0, 1_000)]);
    assert_eq!(producer(index, 1, 100, 200, None, 9), [11]);
    assert_eq!(producer(index, 1, 99, 201, None, 9), [1, 11, 21]);
    assert_eq!(producer(index, 1, 99, 201, None, 2), [1, 11]);
    assert_eq!(producer(index, 1, 99, 201, Some(at(1, 1)), 1), [11]);
    assert_eq!(producer(index, 1, 99, 201, Some(at(1, 21)), 9), [0u64; 0]);
    assert_eq!(producer(index, 1, 150, 150, None, 9), [0u64; 0]);
    assert_eq!(producer(index, 1, 160, 150, None, 9), [0u64; 0]);
    assert_eq!(producer(index, 1, 300, i64::MAX, None, 9), [0u64; 0]);
    assert_eq!(producer(index, 1, i64::MIN, 0, None, 9), [0u64; 0]);
    assert_eq!(producer(index, 1, i64::MIN, i64::MAX, None, usize::MAX), [1, 11, 21]);
    assert_eq!(producer(index, 1, 0, 1_000, None, 0), [0u64; 0]);
    assert_eq!(producer(index, 3, i64::MIN, i64::MAX, None, 9), [0u64; 0]);
    assert_eq!(server(index, 1, 105, 205, None, 9), [11]);
    assert_eq!(server(index, 1, 104, 206, None, 9), [1, 11, 21]);
    put(index, &[block(1, 31, 400, 400)]);
    assert_eq!(producer(index, 1, 400, 401, None, 9), [31], "an empty span is an instant");
    assert_eq!(producer(index, 1, 399, 400, None, 9), [0u64; 0]);
}

fn times_out_of_order(index: &dyn Index) {
    // A clock that started in 1970, was set, and was set back for a while.
    let now = 1_790_000_000_000_000;
    let minute = 60_000_000;
    let mut rows = vec![block(1, 1, 0, minute), block(1, 11, minute, now)];
    rows.extend((2..200).map(|n| {
        let back = if (50..60).contains(&n) { 30 * minute } else { 0 };
        block(1, n * 10 + 1, now + n as i64 * minute - back, now + (n as i64 + 1) * minute - back)
    }));
    put(index, &rows);
    assert_eq!(producer(index, 1, now + 21 * minute, now + 23 * minute, None, 99), [211, 221, 511, 521]);
    assert_eq!(producer(index, 1, minute, minute + 1, None, 99), [11]);
    assert_eq!(producer(index, 1, 0, minute * 2, None, 99), [1, 11]);
    assert_eq!(producer(index, 1, now + 198 * minute, i64::MAX, None, 99), [1981, 1991]);
    assert_eq!(producer(index, 1, now + 21 * minute, now + 23 * minute, Some(at(1, 221)), 1), [511]);
    assert_eq!(producer(index, 1, 0, i64::MAX, Some(at(1, 1900)), 99).len(), 10);
    assert_eq!(producer(index, 1, 0, i64::MAX, None, usize::MAX).len(), 200);
}

fn positions_and_ordinals(index: &dyn Index) {
    let next_life = BlockRow { first: at(4, 1), last: at(4, 10), first_ordinal: Ordinal(50), ..block(1, 1, 0, 1) };
    put(index, &[block(1, 1, 0, 1), block(1, 11, 0, 1), block(1, 31, 0, 1), next_life, block(2, 1, 0, 1)]);
    let after = |position, limit| sequences(&index.after(stream(1), position, limit).expect("after"));
    assert_eq!(after(Position::default(), 9), [1, 11, 31, 1]);
    assert_eq!(after(at(1, 9), 2), [1, 11]);
    assert_eq!(after(at(1, 10), 9), [11, 31, 1]);
    assert_eq!(after(at(1, 25), 9), [31, 1], "a hole");
    assert_eq!(after(at(2, 0), 9), [1]);
    assert_eq!(after(at(4, 10), 9), [0u64; 0]);
    assert_eq!(after(at(u32::MAX, u64::MAX), 9), [0u64; 0]);
    let ordinals = |from, to, limit| {
        sequences(&index.by_ordinal(stream(1), Ordinal(from), Ordinal(to), limit).expect("by_ordinal"))
    };
    assert_eq!(ordinals(0, u64::MAX, 9), [1, 11, 31, 1]);
    assert_eq!(ordinals(9, 10, 9), [1]);
    assert_eq!(ordinals(9, 11, 9), [1, 11]);
    assert_eq!(ordinals(20, 30, 9), [0u64; 0], "a hole");
    assert_eq!(ordinals(25, 31, 9), [31]);
    assert_eq!(ordinals(30, 60, 1), [31]);
    assert_eq!(ordinals(60, u64::MAX, 9), [0u64; 0]);
    assert_eq!(ordinals(5, 5, 9), [0u64; 0]);
    assert_eq!(ordinals(7, 5, 9), [0u64; 0]);
}

fn deleting(index: &dyn Index) {
    let rows = [block(1, 1, 0, 10), block(1, 11, 10, 20), block(2, 1, 0, 10)];
    put(index, &rows);
    index.mark_deleting(stream(1), &[at(1, 1), at(9, 9)]).expect("mark");
    index.mark_deleting(stream(2), &[at(1, 1)]).expect("mark");
    index.mark_deleting(stream(3), &[at(1, 1)]).expect("mark");
    let marked = [0, 2].map(|n: usize| BlockRow { state: BlockState::Deleting, ..rows[n].clone() });
    assert_eq!(index.deleting().expect("deleting"), marked);
    assert_eq!(index.block(stream(1), at(1, 1)).expect("block"), None);
    assert_eq!(index.oldest(stream(1)).expect("oldest"), Some(rows[1].clone()));
    assert_eq!(index.newest(stream(2)).expect("newest"), None);
    assert_eq!(index.streams().expect("streams"), [stream(1)]);
    assert_eq!(producer(index, 1, 0, 20, None, 9), [11]);
    assert_eq!(server(index, 1, 0, 30, None, 9), [11]);
    assert_eq!(sequences(&index.after(stream(1), at(1, 3), 9).expect("after")), [11]);
    assert_eq!(sequences(&index.by_ordinal(stream(1), Ordinal(3), Ordinal(99), 9).expect("ordinal")), [11]);
    index.forget(stream(1), &[at(1, 1), at(1, 11), at(9, 9)]).expect("forget");
    index.forget(stream(3), &[at(1, 1)]).expect("forget");
    assert_eq!(index.deleting().expect("deleting"), &marked[1..]);
    assert_eq!(index.streams().expect("streams"), []);
}

fn usage(index: &dyn Index) {
    let check = |bytes, blocks| assert_eq!(index.usage(stream(1)).expect("usage"), (bytes, blocks));
    check(0, 0);
    put(index, &[block(1, 1, 0, 10), block(1, 11, 0, 10), block(2, 1, 0, 10)]);
    check(2_012, 2);
    put(index, &[BlockRow { synced_bytes: 5, ..block(1, 11, 0, 10) }]);
    check(1_006, 2);
    index.mark_deleting(stream(1), &[at(1, 11)]).expect("mark");
    index.mark_deleting(stream(1), &[at(1, 11)]).expect("mark twice");
    check(1_001, 1);
    index.forget(stream(1), &[at(1, 11)]).expect("forget");
    check(1_001, 1);
    index.forget(stream(1), &[at(1, 1), at(1, 1)]).expect("forget");
    check(0, 0);
    put(index, &[BlockRow { state: BlockState::Deleting, ..block(1, 1, 0, 10) }]);
    check(0, 0);
    put(index, &[block(1, 1, 0, 10)]);
    check(1_001, 1);
}

fn clear(index: &dyn Index) {
    put(index, &[block(1, 1, 0, 10), BlockRow { state: BlockState::Open, ..block(2, 1, 0, 10) }]);
    index.clear().expect("clear");
    assert_eq!(index.streams().expect("streams"), []);
    assert_eq!(index.open_blocks().expect("open"), []);
    assert_eq!(index.usage(stream(1)).expect("usage"), (0, 0));
    put(index, &[block(1, 1, 0, 10)]);
    assert_eq!(index.usage(stream(1)).expect("usage"), (1_001, 1));
}

/// Random spans and questions, answered as a naive filter and as the model answer them.
fn any_rows(index: &dyn Index) {
    let spans = proptest::collection::vec((0i64..5_000, 0i64..5_000, 0u8..20, 0u64..3), 0..150);
    let questions = proptest::collection::vec((-10i64..6_000, 0i64..2_000, 0u64..200, 1usize..60), 1..8);
    let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(spans, questions), |(spans, questions)| {
        index.clear().expect("clear");
        let model = MemoryIndex::new();
        let mut sequence = 1;
        let mut rows = vec![];
        for (from, length, exponent, hole) in spans {
            let length = if exponent == 0 { length * 1_000_000 } else { length >> (exponent / 2) };
            rows.push(block(1, sequence, from, from + length));
            sequence += 10 + hole * 10;
        }
        put(index, &rows);
        put(&model, &rows);
        for (from, length, after, limit) in questions {
            let to = from + length;
            let after = (after > 0).then(|| at(1, after * 10 + 1));
            let naive: Vec<u64> = rows
                .iter()
                .filter(|row| meets(row.producer_from.micros(), row.producer_to.micros(), from, to) && from < to)
                .filter(|row| after.is_none_or(|after| row.first > after))
                .map(|row| row.first.sequence.0)
                .take(limit)
                .collect();
            prop_assert_eq!(&producer(index, 1, from, to, after, limit), &naive);
            prop_assert_eq!(server(index, 1, from + 5, to + 5, after, limit), naive);
            let position = after.unwrap_or_default();
            prop_assert_eq!(
                index.after(stream(1), position, limit).expect("after"),
                model.after(stream(1), position, limit).expect("after")
            );
            let (from, to) = (Ordinal(from.unsigned_abs()), Ordinal(to.unsigned_abs()));
            prop_assert_eq!(
                index.by_ordinal(stream(1), from, to, limit).expect("by_ordinal"),
                model.by_ordinal(stream(1), from, to, limit).expect("by_ordinal")
            );
        }
        prop_assert_eq!(index.usage(stream(1)).expect("usage"), model.usage(stream(1)).expect("usage"));
        Ok(())
    });
    outcome.unwrap();
}
