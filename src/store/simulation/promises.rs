use std::collections::BTreeSet;

use media::Sequence;

use super::*;
use crate::disk::{Fault, Operation};
use crate::testing::END;

const OPERATIONS: [Operation; 8] = [
    Operation::Open,
    Operation::Create,
    Operation::Write,
    Operation::Sync,
    Operation::SyncDir,
    Operation::Rename,
    Operation::Unlink,
    Operation::Cut,
];
const FATES: [IndexFate; 3] = [IndexFate::Kept, IndexFate::Old, IndexFate::Lost];

/// Cuts the power at every change of the disk in turn, with several kinds of luck; `then` looks at what is left.
fn cut_everywhere(script: fn(&mut World), then: fn(World, IndexFate)) {
    for number in 1.. {
        let mut reached = false;
        for (luck, fate) in (0..9).zip(FATES.iter().cycle()) {
            let mut world = World::with_stream(number * 1000 + luck);
            world.disk.fail(Fault::PowerLoss(number));
            script(&mut world);
            reached = world.disk.is_dead();
            world.crash(*fate);
            then(world, *fate);
        }
        if !reached {
            assert!(number > 20, "the script is too short to say anything");
            return;
        }
    }
}

#[test]
fn d1_acknowledged_fragments_survive_a_power_cut_at_every_point() {
    cut_everywhere(run, |mut world, _| {
        world.open().expect("opens after a crash");
        world.verify();
        // And the stream goes on.
        assert!(world.append(2).iter().all(Result::is_ok));
        world.verify();
    });
}

#[test]
fn d2_persisted_is_never_said_for_bytes_that_the_disk_refused() {
    for operation in OPERATIONS {
        for fault in [Fault::Error, Fault::Full] {
            for number in 1.. {
                let mut world = World::with_stream(number);
                world.disk.fail(fault(operation, number));
                run(&mut world);
                let happened = !world.disk.fault_waits();
                world.disk.heal();
                world.verify();
                world.crash(FATES[number as usize % 3]);
                world.open().expect("opens after a crash");
                world.verify();
                assert!(world.append(2).iter().all(Result::is_ok), "it heals unaided");
                world.verify();
                if !happened {
                    break;
                }
            }
        }
    }
}

#[test]
fn d2_one_disk_error_is_covered_up_and_a_second_is_not() {
    for operation in [Operation::Create, Operation::Write, Operation::Sync, Operation::SyncDir] {
        let mut world = World::with_stream(5);
        assert!(world.append(2).iter().all(Result::is_ok));
        world.seal(GapReason::PublisherLeft);
        world.disk.fail(Fault::Error(operation, 1));
        assert!(world.append(2).iter().all(Result::is_ok), "{operation:?}: a new block takes them");
        world.seal(GapReason::PublisherLeft);
        world.disk.fail(Fault::Error(operation, 1));
        let answers = world.append(2);
        assert!(answers.iter().all(|answer| matches!(answer, Err(AppendError::Disk(_)))), "{operation:?}: {answers:?}");
        world.verify();
    }
}

#[test]
fn d2_full_disk_is_said_and_ends() {
    let mut world = World::with_stream(5);
    assert!(world.append(2).iter().all(Result::is_ok));
    world.disk.fail(Fault::Full(Operation::Write, 1));
    for _ in 0..3 {
        assert!(world.append(2).iter().all(|answer| matches!(answer, Err(AppendError::Full))));
    }
    world.verify();
    // Deletion asks for no space.
    world.disk.heal();
    world.seal(GapReason::DiskFull);
    world.disk.fail(Fault::Full(Operation::Write, 1));
    assert!(world.append(1)[0].is_err());
    world.disk.heal();
    assert!(world.append(2).iter().all(Result::is_ok));
    world.verify();
}

#[test]
fn d3_file_whose_write_or_sync_failed_is_never_written_or_synced_again() {
    // The disk itself remembers every such call; `verify` looks. Here: that it would notice.
    let disk = SimulatedDisk::new(1);
    disk.create_dir(&root()).expect("makes");
    let file = disk.create(&root().join("file")).expect("creates");
    disk.fail(Fault::Error(Operation::Sync, 1));
    file.append(&[b"lost"]).expect("appends");
    assert!(file.sync().is_err());
    assert!(file.sync().is_ok(), "as on Linux, the second sync lies");
    assert_eq!(disk.misuses().len(), 1);

    for operation in [Operation::Write, Operation::Sync] {
        for number in 1..30 {
            let mut world = World::with_stream(number);
            world.disk.fail(Fault::Error(operation, number));
            run(&mut world);
            assert_eq!(world.disk.misuses(), Vec::<String>::new());
        }
    }
}

#[test]
fn d5_rebuilt_index_is_equal() {
    cut_everywhere(run, |mut world, _| {
        world.open().expect("opens after a crash");
        world.append(7);
        world.seal(GapReason::ServerStopped);
        world.verify_at_rest();
    });
}

#[test]
fn d6_deleted_stream_does_not_come_back() {
    fn script(world: &mut World) {
        run(world);
        let _ = world.core().delete_stream(stream(1));
        world.core().finish_deletions();
    }
    cut_everywhere(script, |mut world, _| {
        world.open().expect("opens after a crash");
        let left: BTreeSet<Position> = world.all().iter().map(|stored| stored.info.position).collect();
        let acked: BTreeSet<Position> = world.acked.iter().map(|(stored, _)| stored.info.position).collect();
        assert!(left.is_empty() || left.is_superset(&acked), "all or nothing");
        let deleted = !world.core().memory().contains_key(&stream(1));
        assert!(deleted || left.is_superset(&acked), "without a tombstone nothing is deleted");
    });
    // Whole: the call returned, the index is lost, the stream stays gone.
    let mut world = World::with_stream(3);
    run(&mut world);
    world.core().delete_stream(stream(1)).expect("deletes");
    assert_eq!(world.check().deleting, 1, "the rest goes behind");
    for fate in FATES {
        world.crash(fate);
        world.open().expect("opens");
        assert_eq!(world.all(), []);
        assert!(matches!(world.append(1)[0], Err(AppendError::Gone)));
        assert_eq!(world.core().identities().expect("identities"), []);
        let report = world.check();
        assert_eq!((report.violations, report.deleting), (vec![], 0));
    }
}

#[test]
fn deletion_that_failed_halfway_is_finished_by_the_next_try() {
    for (operation, number) in [(Operation::Unlink, 1), (Operation::Unlink, 2), (Operation::SyncDir, 1)] {
        let mut world = World::with_stream(3);
        run(&mut world);
        world.core().delete_stream(stream(1)).expect("deletes");
        world.disk.fail(Fault::Error(operation, number));
        world.core().finish_deletion(stream(1)).expect_err("the disk refuses");
        world.core().finish_deletions();
        let names = world.disk.list(&world.core().layout.stream(stream(1))).expect("lists");
        assert_eq!(names.iter().map(|listed| listed.name.as_str()).collect::<Vec<_>>(), ["DELETED"]);
        assert_eq!(world.core().ground.index.deleting().expect("asks"), []);
        assert!(world.core().doomed.lock().expect("nobody panicked").is_empty());
    }
}

#[test]
fn d6_expired_blocks_do_not_come_back() {
    const DROPPED: Position = Position { epoch: Epoch(1), sequence: Sequence(7) };
    fn script(world: &mut World) {
        run(world);
        let _ = world.core().drop_through(stream(1), DROPPED);
    }
    cut_everywhere(script, |mut world, _| {
        world.open().expect("opens after a crash");
        // What every start does with the catalog's value.
        world.core().drop_through(stream(1), DROPPED).expect("drops");
        let all = world.all();
        for (acked, _) in &world.acked {
            let in_old_block = acked.info.position <= DROPPED;
            assert!(in_old_block || all.contains(acked), "{:?} was not to be dropped", acked.info.position);
        }
        let dropped = all.iter().filter(|stored| stored.place.block.sequence.0 == 1 && stored.place.block.epoch.0 == 1);
        assert_eq!(dropped.count(), 0, "the first block is old");
        world.seal(GapReason::ServerStopped);
        let report = world.check();
        assert_eq!((report.violations, report.lost), (vec![], 0));
    });
}

#[test]
fn numbers_go_on_when_the_newest_block_goes_beside_one_just_opened() {
    let mut world = World::with_stream(4);
    assert!(world.append(7).iter().all(Result::is_ok));
    world.seal(GapReason::PublisherLeft);
    let core = world.core();
    core.commit_index(true).expect("commits");
    let before = core.head(stream(1)).expect("head").expect("some");
    let opened = crate::core::MemoryBlock {
        entries: Vec::new(),
        track_set: before.track_set.clone(),
        synced_bytes: 0,
        ended: None,
        phase: crate::core::Phase::Open,
        changed: false,
        written: ServerTime::from_micros(START_US),
    };
    let next = Position { sequence: media::Sequence(before.position.sequence.0 + 1), ..before.position };
    core.memory_mut().get_mut(&stream(1)).expect("it exists").insert(next, opened);
    core.drop_through(stream(1), END).expect("drops");
    core.memory_mut().get_mut(&stream(1)).expect("it exists").clear();
    let after = core.head(stream(1)).expect("head").expect("still known");
    assert_eq!((after.position, after.next_ordinal), (before.position, before.next_ordinal));
}

#[test]
fn numbers_go_on_when_retention_takes_everything() {
    let mut world = World::with_stream(4);
    assert!(world.append(7).iter().all(Result::is_ok));
    world.seal(GapReason::PublisherLeft);
    let before = world.core().head(stream(1)).expect("head").expect("some");
    world.core().drop_through(stream(1), END).expect("drops");
    assert_eq!(world.all(), []);
    for fate in FATES {
        world.crash(fate);
        world.open().expect("opens");
        let head = world.core().head(stream(1)).expect("head").expect("remembered");
        assert_eq!((head.position, head.next_ordinal), (before.position, before.next_ordinal));
        assert_eq!((head.discontinuities, head.end_us), (before.discontinuities, before.end_us));
        assert_eq!((&head.track_set, head.ended), (&before.track_set, GapReason::PublisherLeft));
    }
    assert!(world.append(1)[0].is_ok());
}

#[test]
fn d9_recovery_is_idempotent_and_bounded() {
    // Power cuts during recovery, at every point, many in a row: what comes out is what one undisturbed recovery gives.
    for seed in 0..12 {
        let fate = FATES[seed as usize % 3];
        let mut world = World::with_stream(seed);
        world.disk.fail(Fault::PowerLoss(12 + seed * 3));
        run(&mut world);
        world.crash(fate);
        for number in 1..30 {
            world.disk.fail(Fault::PowerLoss(number));
            let _ = world.open();
            world.crash(if number % 2 == 0 { IndexFate::Kept } else { fate });
        }
        world.open().expect("opens");
        world.verify();
        let once = dump(&*world.index).expect("dumps");
        let report = world.open().expect("opens again");
        assert_eq!(dump(&*world.index).expect("dumps"), once);
        assert_eq!((report.sealed, report.cut_bytes, report.found, report.lost), (0, 0, 0, 0));
    }
}

/// A disk that refuses while a crash is repaired: the start may fail, the next one finds everything. What cannot be read
/// is not taken for damaged.
#[test]
fn d9_disk_errors_at_every_point_of_recovery_lose_nothing() {
    for operation in OPERATIONS.into_iter().chain([Operation::Read]) {
        for fault in [Fault::Error, Fault::Full] {
            for (number, fate) in (1..).zip(FATES.iter().cycle()) {
                let mut happened = false;
                for luck in 0..4 {
                    let mut world = World::with_stream(number * 10 + luck);
                    world.disk.fail(Fault::PowerLoss(12 + luck * 9));
                    run(&mut world);
                    world.crash(*fate);
                    world.disk.fail(fault(operation, number));
                    let first = world.open();
                    happened |= !world.disk.fault_waits();
                    world.disk.heal();
                    if first.is_ok() {
                        world.verify();
                    }
                    let report = world.open().expect("opens when the disk is well");
                    assert_eq!(report.quarantined, 0, "{operation:?} {number}: an error is no damage");
                    world.verify();
                    assert!(world.append(2).iter().all(Result::is_ok), "it goes on");
                    world.seal(GapReason::ServerStopped);
                    world.verify_at_rest();
                }
                if !happened {
                    break;
                }
            }
        }
    }
}

#[test]
fn d9_sealed_blocks_are_not_read_again() {
    let mut world = World::with_stream(1);
    for _ in 0..40 {
        assert!(world.append(5).iter().all(Result::is_ok));
    }
    world.crash(IndexFate::Kept);
    let before = world.disk.reads();
    world.open().expect("opens");
    // One open block and the newest's head; not two hundred fragments of forty blocks.
    let reads = world.disk.reads() - before;
    assert!(reads < 60, "{reads} reads");
    world.verify();
}

#[test]
fn o1_numbers_rise_over_crashes_clock_jumps_and_index_loss() {
    let mut world = World::with_stream(77);
    let mut numbers = Vec::new();
    for life in 0..60u64 {
        let from = world.acked.len();
        world.disk.fail(Fault::PowerLoss(5 + life % 17));
        world.append(2);
        world.append(3);
        for (stored, _) in &world.acked[from..] {
            numbers.push(world.core().number(stream(1), stored.info.position, stored.info.server_time).to_string());
        }
        world.crash(FATES[life as usize % 3]);
        let jump = if life % 2 == 0 { -86_400_000_000 } else { 31_536_000_000_000 };
        world.clock.advance(jump);
        world.open().expect("opens");
        world.verify();
    }
    assert!(numbers.len() > 100);
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "text sorts as the numbers do");
}

#[test]
fn d7_damage_before_a_synced_offset_is_quarantined_and_the_rest_is_served() {
    let mut world = World::with_stream(9);
    assert!(world.append(1)[0].is_ok());
    assert!(world.append(1)[0].is_ok());
    assert!(world.append(1)[0].is_ok());
    let (damaged, _) = world.acked.remove(1);
    let path = Layout::new(&root()).stream(stream(1)).join(crate::blobs::file_name(damaged.place.block));
    world.disk.flip(&path, damaged.place.body_offset as usize + 100, 3);
    world.crash(IndexFate::Lost);
    let report = world.open().expect("opens");
    assert_eq!((report.quarantined, report.cut_bytes), (1, 0));
    assert!(!world.all().contains(&damaged));
    world.verify();
    assert!(world.append(2).iter().all(Result::is_ok));
    world.seal(GapReason::ServerStopped);
    world.verify();
    world.verify_at_rest();
}

/// Damages the head of the block that is open, so that nothing in it can be read.
fn ruin_open_block(world: &World) -> Position {
    let block = world.acked.last().expect("something is stored").0.place.block;
    let path = Layout::new(&root()).stream(stream(1)).join(crate::blobs::file_name(block));
    world.disk.flip(&path, 5, 3);
    block
}

#[test]
fn d7_ordinals_of_a_block_that_cannot_be_read_are_never_given_again() {
    /// How much of the stream is left beside the ruin.
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Left {
        Nothing,
        BlockBefore,
        /// Retention took the blocks before.
        Dropped,
    }
    for fate in FATES {
        for left in [Left::Nothing, Left::BlockBefore, Left::Dropped] {
            for ruin_goes in [false, true] {
                let case = format!("{fate:?} {left:?} {ruin_goes}");
                let mut world = World::with_stream(5);
                if left != Left::Nothing {
                    assert!(world.append(3).iter().all(Result::is_ok));
                    world.seal(GapReason::PublisherLeft);
                }
                if left == Left::Dropped {
                    assert!(world.core().drop_through(stream(1), END).expect("drops") > 0);
                }
                world.remember_index();
                // Another life, and ordinals that the disk refused before its first block.
                world.crash(IndexFate::Kept);
                world.open().expect("opens");
                world.feed.ordinal += 5000;
                world.feed.sequence += 5000;
                for _ in 0..4 {
                    assert!(world.append(1)[0].is_ok());
                }
                let given = world.given.last().expect("given").info.ordinal;
                let discontinuities = world.given.last().expect("given").info.discontinuities;
                let ruined = ruin_open_block(&world);
                world.crash(fate);
                let report = world.open().expect("opens");
                assert_eq!(report.quarantined, 1, "{case}");
                let tracks = world.core().head(stream(1)).expect("head").expect("some").track_set.0;
                assert!(
                    tracks > media::TrackSetId(0) && (left == Left::Nothing || tracks > media::TrackSetId(1)),
                    "{case}"
                );
                if ruin_goes {
                    assert!(world.core().drop_through(stream(1), END).expect("drops") > 0, "{case}");
                    assert_eq!(world.core().ground.index.newest(stream(1)).expect("asks"), None);
                    world.crash(fate);
                    world.open().expect("opens");
                }
                let head = world.core().head(stream(1)).expect("head").expect("some");
                assert!(head.next_ordinal > given, "{case}: {:?} after {given:?}", head.next_ordinal);
                assert!(head.position >= ruined, "{case}");
                assert_eq!(head.ended, GapReason::Damaged, "{case}");
                assert!(head.discontinuities <= discontinuities, "{case}: they were not seen");
                // The stream goes on, is found by its ordinals, and an index made anew says the same.
                assert!(world.append(2).iter().all(Result::is_ok), "{case}");
                world.seal(GapReason::PublisherLeft);
                let from = Select::Ordinals(media::Ordinal(0), media::Ordinal(u64::MAX));
                let before = if left == Left::BlockBefore && !ruin_goes { 3 } else { 0 };
                assert_eq!(world.core().select(stream(1), from, 100).expect("selects").len(), before + 2, "{case}");
                let set = world.core().track_set(stream(1), media::TrackSetId(1)).expect("asks");
                assert!(set.is_some(), "{case}");
                assert_eq!(world.check().violations, [], "{case}");
                world.crash(IndexFate::Lost);
                world.open().expect("opens");
                assert_eq!(world.core().select(stream(1), from, 100).expect("selects").len(), before + 2, "{case}");
            }
        }
    }
}

#[test]
fn no_block_has_a_hole_in_its_ordinals() {
    let mut world = World::with_stream(5);
    assert!(world.append(2).iter().all(Result::is_ok));
    // Some were refused, and have their numbers all the same.
    world.feed.ordinal += 3;
    world.feed.sequence += 3;
    assert!(world.append(2).iter().all(Result::is_ok));
    let blocks: Vec<u64> = world.all().iter().map(|stored| stored.place.block.sequence.0).collect();
    assert_eq!(blocks, [1, 1, 6, 6]);
}

#[test]
fn d7_last_fragments_of_a_damaged_block_keep_their_ordinals() {
    for fate in FATES {
        let mut world = World::with_stream(5);
        for _ in 0..4 {
            assert!(world.append(1)[0].is_ok());
        }
        // Long after the last fragment a clock record says that it was synced.
        world.clock.advance(20_000_000);
        world.tick_clocks();
        let path = Layout::new(&root()).stream(stream(1)).join(crate::blobs::file_name(world.acked[0].0.place.block));
        for (damaged, _) in world.acked.drain(2..).collect::<Vec<_>>() {
            world.disk.flip(&path, damaged.place.body_offset as usize + 100, 3);
        }
        world.crash(fate);
        let report = world.open().expect("opens");
        assert_eq!((report.quarantined, world.all().len()), (1, 2));
        let given = world.given.last().expect("given").info.ordinal;
        assert!(world.core().head(stream(1)).expect("head").expect("some").next_ordinal > given, "{fate:?}");
        assert!(world.append(1)[0].is_ok());
        world.verify();
    }
}

#[test]
fn d7_block_that_cannot_be_read_goes_with_its_neighbours() {
    let hours = |hours: i64| hours * 3_600_000_000;
    for fate in FATES {
        let mut world = World::with_stream(5);
        for _ in 0..4 {
            assert!(world.append(1)[0].is_ok());
        }
        let ruined = ruin_open_block(&world);
        world.clock.advance(hours(3));
        world.crash(fate);
        world.open().expect("opens");
        let age = |hours: u64| Some(std::time::Duration::from_secs(hours * 3600));
        let expiry = |world: &World| {
            world.core().expiry(stream(1), crate::clock::Clock::now(&*world.clock), age(2), None).expect("asks")
        };
        assert_eq!(expiry(&world), None, "{fate:?}: nobody knows how old it is, so it is new");
        world.clock.advance(hours(3));
        assert_eq!(expiry(&world).expect("old").through, ruined, "{fate:?}");
        // With a younger block behind it that is known: it ended before that began.
        let mut fragment = world.feed.next();
        fragment.info.server_time = crate::Clock::now(&*world.clock);
        let (reply, _answer) = oneshot::channel();
        world.core().work(stream(1), vec![Work::Append(Job { fragment, reply })]);
        world.seal(GapReason::PublisherLeft);
        world.crash(IndexFate::Lost);
        world.clock.advance(hours(1));
        world.open().expect("opens");
        assert_eq!(expiry(&world), None, "{fate:?}");
        world.clock.advance(hours(1));
        assert_eq!(expiry(&world).expect("old").through, ruined, "{fate:?}");
    }
}

#[test]
fn d7_damage_in_a_sealed_block_is_refused_when_read_and_found_by_a_check() {
    for at in [0, 30, 700, 1100] {
        let mut world = World::with_stream(9);
        assert!(world.append(2).iter().all(Result::is_ok));
        world.seal(GapReason::PublisherLeft);
        let (stored, _) = world.acked[0].clone();
        let path = Layout::new(&root()).stream(stream(1)).join(crate::blobs::file_name(stored.place.block));
        world.disk.flip(&path, stored.place.body_offset as usize - 100 + at, 3);
        let read = world.core().read(&stored.place, 0..stored.info.body_len);
        let (_, second) = (&world.acked[0], &world.acked[1]);
        if at < 700 + 100 {
            assert!(matches!(read, Err(StoreError::Damaged { .. })), "byte {at}");
            assert!(matches!(world.core().read(&stored.place, 1..2), Err(StoreError::Damaged { .. })));
        }
        let other = world.core().read(&second.0.place, 0..second.0.info.body_len);
        assert!(other.is_ok() || at >= 800);
        assert!(!world.check().violations.is_empty());
    }
}

#[test]
fn fragment_that_was_written_again_is_listed_once() {
    for seed in 0..40 {
        let mut world = World::with_stream(seed);
        assert!(world.append(1)[0].is_ok());
        // The second tick's sync fails, its fragments go into a new block, and the old one gets no sidecar.
        world.disk.fail(Fault::Error(Operation::Sync, 1));
        world.disk.fail(Fault::Error(Operation::Rename, 1));
        assert!(world.append(2).iter().all(Result::is_ok));
        world.verify();
        world.crash(FATES[seed as usize % 3]);
        world.open().expect("opens after a crash");
        world.verify();
        assert_eq!(world.all().len(), 3);
    }
}

/// After any damage: the store opens, what can be read is what was given, twice is as once, and the stream goes on.
fn damage_is_contained(sealed: bool, damage: impl Fn(&SimulatedDisk, &std::path::Path, u64)) {
    let mut world = World::with_stream(2);
    assert!(world.append(1)[0].is_ok());
    assert!(world.append(3).iter().all(Result::is_ok));
    if sealed {
        world.seal(GapReason::PublisherLeft);
    }
    let block = world.acked[0].0.place.block;
    let path = Layout::new(&root()).stream(stream(1)).join(crate::blobs::file_name(block));
    let len = world.disk.open(&path).expect("opens").len().expect("asks");
    damage(&world.disk, &path, len);
    world.crash(IndexFate::Lost);
    for _ in 0..2 {
        world.open().expect("opens whatever the damage");
        for stored in world.all() {
            let given = world.given.iter().find(|fragment| fragment.info == stored.info).expect("it was given");
            match world.core().read(&stored.place, 0..stored.info.body_len) {
                Ok(read) => assert_eq!(read, given.body),
                Err(error) => assert!(matches!(error, StoreError::Damaged { .. }), "{error}"),
            }
        }
    }
    let listed = world.all();
    let report = world.open().expect("opens");
    assert_eq!((report.found, report.quarantined, report.cut_bytes, report.lost), (0, 0, 0, 0));
    assert_eq!(world.all(), listed);
    // Numbers of damaged fragments may have gone with them; the epoch keeps positions rising.
    assert!(world.append(1)[0].is_ok());
}

#[test]
fn d7_file_cut_anywhere_is_contained() {
    for sealed in [false, true] {
        for at in (0..u64::MAX).step_by(13) {
            let mut ended = false;
            let past = std::cell::Cell::new(false);
            damage_is_contained(sealed, |disk, path, len| {
                past.set(at >= len);
                disk.cut(path, at.min(len)).expect("cuts");
            });
            ended |= past.get();
            if ended {
                break;
            }
        }
    }
}

#[test]
fn d7_bit_flipped_anywhere_is_contained() {
    for sealed in [false, true] {
        for at in (0..8000).step_by(37) {
            damage_is_contained(sealed, |disk, path, _| disk.flip(path, at, (at % 8) as u8));
        }
    }
}

#[test]
fn d7_a_checked_part_of_a_body_is_given_only_when_all_of_the_body_is_right() {
    for flipped in (0..1_000).step_by(61) {
        let mut world = World::with_stream(9);
        assert!(world.append(2).iter().all(Result::is_ok));
        let (stored, _) = world.acked[0].clone();
        let (given, len) = (world.given[0].body.clone(), stored.info.body_len);
        let parts = [0..len, 0..1, 1..2, len / 3..len / 2, len - 1..len, 0..0, len..len];
        for part in parts.clone() {
            let read = world.core().read_checked(&stored.place, part.clone()).expect("nothing is damaged");
            assert_eq!(read, given.slice(part.start as usize..part.end as usize));
        }
        assert!(world.core().read_checked(&stored.place, 0..len + 1).is_err());
        let mut world = World::with_stream(9);
        assert!(world.append(2).iter().all(Result::is_ok));
        world.seal(GapReason::PublisherLeft);
        let (stored, _) = world.acked[0].clone();
        let path = Layout::new(&root()).stream(stream(1)).join(crate::blobs::file_name(stored.place.block));
        world.disk.flip(&path, stored.place.body_offset as usize + flipped % len as usize, 3);
        let part = &parts[flipped % parts.len()];
        let read = world.core().read_checked(&stored.place, part.clone());
        assert!(matches!(read, Err(StoreError::Damaged { .. })), "byte {flipped}, {part:?}");
        let other = world.acked[1].0.clone();
        assert!(world.core().read_checked(&other.place, 0..1).is_ok(), "the next one is right");
    }
}

#[test]
fn d7_block_of_another_stream_is_not_served() {
    let mut world = World::with_stream(2);
    world.core().create_stream(&identity(2)).expect("creates");
    assert!(world.append(3).iter().all(Result::is_ok));
    world.seal(GapReason::PublisherLeft);
    let (stored, _) = world.acked[0].clone();
    let layout = Layout::new(&root());
    let name = crate::blobs::file_name(stored.place.block);
    world.disk.rename(&layout.stream(stream(1)).join(&name), &layout.stream(stream(2)).join(&name)).expect("swaps");
    world.disk.sync_dir(&layout.stream(stream(2))).expect("syncs");
    world.disk.sync_dir(&layout.stream(stream(1))).expect("syncs");
    world.crash(IndexFate::Kept);
    let report = world.open().expect("opens");
    assert_eq!((report.lost, report.found), (1, 1));
    assert_eq!(world.all(), []);
    for stored in world.core().select(stream(2), Select::After(Position::default()), 9).expect("selects") {
        let read = world.core().read(&stored.place, 0..stored.info.body_len);
        assert!(matches!(read, Err(StoreError::Damaged { .. })));
    }
    // The lost block's numbers are not given again.
    let head = world.core().head(stream(1)).expect("head");
    assert!(head.is_none_or(|head| head.next_ordinal.0 == 3));
}
