//! Store and tail as one: any order of closing, persisting, losing and letting go, against a plain list.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use media::{
    ClockSource, Epoch, Fragment, FragmentInfo, Ordinal, Position, ProducerTime, Sequence, ServerTime, StartKind,
    StreamId, TrackSetId,
};
use proptest::prelude::*;
use store::{Place, Select, Stored};

use crate::live::tail::{Fate, Tail, meets};
use crate::live::timeline::{Source, merge};

fn fragment(ordinal: u64, bytes: usize) -> Arc<Fragment> {
    let info = FragmentInfo {
        position: Position { epoch: Epoch(1), sequence: Sequence(ordinal + 1) },
        ordinal: Ordinal(ordinal),
        discontinuities: 0,
        track_set: TrackSetId(1),
        start: StartKind::Closed,
        break_before: None,
        end_of_session: false,
        damaged: false,
        producer_time: ProducerTime::from_micros(ordinal as i64 * 1_000_000),
        clock_source: ClockSource::Arrival,
        clock_error_us: 0,
        server_time: ServerTime::from_micros(ordinal as i64 * 1_000_000),
        duration_us: 1_000_000,
        tracks: Vec::new(),
        body_len: bytes as u32,
    };
    Arc::new(Fragment { info, tracks: Arc::new(super::tracks()), body: Bytes::from(vec![0; bytes]) })
}

fn stored(info: &FragmentInfo) -> Stored {
    let place = Place { stream: StreamId(uuid::Uuid::nil()), block: info.position, body_offset: 0 };
    Stored { info: info.clone(), place }
}

#[derive(Clone, Debug)]
enum Happening {
    Close(usize),
    Settle(bool),
    Idle,
    Expire,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (1usize..5000).prop_map(Happening::Close),
        4 => prop::bool::weighted(0.85).prop_map(Happening::Settle),
        1 => Just(Happening::Idle),
        1 => Just(Happening::Expire),
    ]
}

/// The stream as a plain list, and the store as what it was told.
#[derive(Default)]
struct Model {
    closed: Vec<Arc<Fragment>>,
    persisted: Vec<Stored>,
    settled: usize,
}

fn apply(model: &mut Model, tail: &mut Tail, budget: u64, happening: &Happening) {
    match happening {
        Happening::Close(bytes) => {
            let fragment = fragment(model.closed.len() as u64, *bytes);
            model.closed.push(fragment.clone());
            tail.push(fragment, Instant::now());
        }
        Happening::Settle(persists) => {
            let Some(entry) = tail.take_next() else { return };
            let info = &entry.fragment.info;
            assert_eq!(
                info.position, model.closed[model.settled].info.position,
                "the recorder sees each one, in order"
            );
            model.settled += 1;
            if *persists {
                model.persisted.push(stored(info));
            }
            tail.settle(info.position, if *persists { Fate::Persisted } else { Fate::Lost }, budget);
        }
        Happening::Idle => tail.release_settled(),
        Happening::Expire => {
            // A third of what is stored, oldest first, as the sweeper does it.
            let Some(last) = model.persisted.get(model.persisted.len() / 3) else { return };
            let through = last.info.position;
            tail.release_through(through);
            model.persisted.retain(|stored| stored.info.position > through);
        }
    }
}

proptest! {
    #[test]
    fn timeline_has_each_fragment_once_and_no_holes(
        before in prop::collection::vec(happening(), 0..60),
        between in prop::collection::vec(happening(), 0..20),
        budget in 0u64..20_000,
        limit in 1usize..80,
        from in 0u64..60,
        len in 1u64..60,
        kind in 0..4,
    ) {
        let mut model = Model::default();
        let mut tail = Tail::new(Position::default());
        for happening in &before {
            apply(&mut model, &mut tail, budget, happening);
        }
        let micros = |ordinal: u64| ordinal as i64 * 1_000_000 + 1;
        let select = match kind {
            0 => Select::After(Position { epoch: Epoch(1), sequence: Sequence(from) }),
            1 => Select::Ordinals(Ordinal(from), Ordinal(from + len)),
            2 => Select::Producer(ProducerTime::from_micros(micros(from)), ProducerTime::from_micros(micros(from + len))),
            _ => Select::Server(ServerTime::from_micros(micros(from)), ServerTime::from_micros(micros(from + len))),
        };
        // The tail is looked at, time passes, the store is asked.
        let seen = tail.select(select);
        let (closed_then, settled_then) = (model.closed.len(), model.settled);
        let persisted_then: Vec<Position> = model.persisted.iter().map(|stored| stored.info.position).collect();
        for happening in &between {
            apply(&mut model, &mut tail, budget, happening);
        }
        let answer: Vec<Stored> =
            model.persisted.iter().filter(|stored| meets(&stored.info, select)).take(limit + 1).cloned().collect();
        let persisted_now: Vec<Position> = answer.iter().map(|stored| stored.info.position).collect();
        let complete = answer.len() <= limit;
        let timeline = merge(&seen, answer, limit);

        let found: Vec<Position> = timeline.fragments.iter().map(|found| found.info.position).collect();
        prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "in order, each once: {found:?}");
        prop_assert!(found.len() <= limit);
        // What must be there: all that was waiting when the tail was looked at, all that the store has.
        let waiting = model.closed[settled_then..closed_then].iter().filter(|fragment| meets(&fragment.info, select));
        let mut must: Vec<Position> = waiting.map(|fragment| fragment.info.position).chain(persisted_now.clone()).collect();
        must.sort();
        must.dedup();
        for position in &must {
            let cut = timeline.more && found.last().is_some_and(|last| last < position);
            prop_assert!(found.contains(position) || cut, "{position:?} is missing in {found:?}");
        }
        // What may be there besides: what was persisted when the tail was looked at.
        for position in &found {
            prop_assert!(must.contains(position) || persisted_then.contains(position), "{position:?} was lost");
        }
        prop_assert_eq!(timeline.more, timeline.more && (found.len() == limit || !complete));
        for found in &timeline.fragments {
            let on_disk = persisted_then.contains(&found.info.position) || persisted_now.contains(&found.info.position);
            prop_assert_eq!(found.is_persisted(), on_disk);
            if let Source::Store(stored) = &found.source {
                prop_assert_eq!(&stored.info, &found.info);
            }
        }
    }

    #[test]
    fn tail_lets_go_of_nothing_that_waits_and_stays_within_its_budget(
        happenings in prop::collection::vec(happening(), 0..200),
        budget in 0u64..20_000,
    ) {
        let mut model = Model::default();
        let mut tail = Tail::new(Position::default());
        for happening in &happenings {
            apply(&mut model, &mut tail, budget, happening);
            let kept: Vec<u64> = tail.entries().map(|entry| entry.fragment.info.ordinal.0).collect();
            let first = model.closed.len() - kept.len();
            prop_assert_eq!(&kept, &(first as u64..model.closed.len() as u64).collect::<Vec<_>>(), "the newest, dense");
            prop_assert!(first <= model.settled, "a waiting fragment left");
            let waiting: u64 = model.closed[model.settled..].iter().map(|fragment| fragment.body.len() as u64).sum();
            prop_assert_eq!(tail.waiting_bytes(), waiting);
            prop_assert_eq!(tail.is_settled(), model.settled == model.closed.len());
            if let Happening::Settle(_) = happening && kept.len() > 3 && model.settled > first {
                let settled: u64 = model.closed[first..model.settled].iter().map(|fragment| fragment.body.len() as u64).sum();
                prop_assert!(settled <= budget, "{settled} settled bytes are kept");
            }
            let before = first.checked_sub(1).map(|last| model.closed[last].info.position).unwrap_or_default();
            prop_assert_eq!(tail.before(), before);
        }
    }
}
