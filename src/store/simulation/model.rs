//! The store beside a model of it: a list of fragments that must be there, and of those that may be.

use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::*;
use crate::disk::{Fault, Operation};

/// What is done to the store.
#[derive(Clone, Copy, Debug)]
enum Step {
    Append(usize),
    Seal,
    Checkpoint,
    Quiet,
    Fault(Operation, u64, bool),
    Heal,
    /// Cuts the power after this many changes of the disk.
    PowerLossIn(u64),
    Crash(IndexFate),
    Restart,
    Rebuild,
    /// Drops blocks that end this many fragments before the newest.
    Expire(usize),
    Select(u64, usize),
}

/// The model needs to know nothing before the store answered: it is kept in the test beside the store.
struct Plan;

impl ReferenceStateMachine for Plan {
    /// The seed of the disk's accidents.
    type State = u64;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<u64> {
        any::<u64>().boxed()
    }

    fn transitions(_: &u64) -> BoxedStrategy<Step> {
        let operation = prop::sample::select(vec![
            Operation::Open,
            Operation::Create,
            Operation::Write,
            Operation::Sync,
            Operation::SyncDir,
            Operation::Rename,
            Operation::Unlink,
        ]);
        let fate = prop::sample::select(vec![IndexFate::Kept, IndexFate::Old, IndexFate::Lost]);
        prop_oneof![
            8 => (1..4usize).prop_map(Step::Append),
            2 => Just(Step::Seal),
            2 => Just(Step::Checkpoint),
            1 => Just(Step::Quiet),
            2 => (operation, 1..5u64, any::<bool>()).prop_map(|(kind, number, full)| Step::Fault(kind, number, full)),
            1 => Just(Step::Heal),
            1 => (1..20u64).prop_map(Step::PowerLossIn),
            2 => fate.prop_map(Step::Crash),
            1 => Just(Step::Restart),
            1 => Just(Step::Rebuild),
            1 => (0..12usize).prop_map(Step::Expire),
            2 => (0..40u64, 1..20usize).prop_map(|(from, limit)| Step::Select(from, limit)),
        ]
        .boxed()
    }

    fn apply(seed: u64, _: &Step) -> u64 {
        seed
    }
}

struct StoreTest;

/// The store, and what the catalog would know of retention.
struct Tested {
    world: World,
    dropped: Position,
}

impl Tested {
    /// What a crash, or a disk that failed, leaves: the next life.
    fn revive(&mut self, fate: IndexFate) {
        self.world.crash(fate);
        self.world.open().expect("a healthy disk");
        self.world.core().drop_through(stream(1), self.dropped).expect("a healthy disk");
    }

    fn is_well(&self) -> bool {
        !self.world.disk.is_dead() && !self.world.disk.fault_waits()
    }
}

impl StateMachineTest for StoreTest {
    type SystemUnderTest = Tested;
    type Reference = Plan;

    fn init_test(seed: &u64) -> Tested {
        Tested { world: World::with_stream(*seed), dropped: Position::default() }
    }

    fn apply(mut tested: Tested, _: &u64, step: Step) -> Tested {
        let world = &mut tested.world;
        match step {
            Step::Append(count) => {
                let well = !world.disk.is_dead() && !world.disk.fault_waits() && !world.disk.is_full();
                let answers = world.append(count);
                assert!(!well || answers.iter().all(Result::is_ok), "a healthy disk takes them: {answers:?}");
            }
            Step::Seal => world.seal(GapReason::PublisherLeft),
            Step::Checkpoint => {
                world.commit(true);
                world.remember_index();
            }
            Step::Quiet => {
                world.clock.advance(20_000_000);
                world.tick_clocks();
            }
            Step::Fault(operation, number, full) => {
                world.disk.fail(if full { Fault::Full(operation, number) } else { Fault::Error(operation, number) });
            }
            Step::Heal => {
                world.disk.heal();
                // Patience with a disk that failed is over.
                world.clock.advance(20_000_000);
            }
            Step::PowerLossIn(number) => world.disk.fail(Fault::PowerLoss(number)),
            Step::Crash(fate) => tested.revive(fate),
            Step::Restart => {
                world.disk.heal();
                if world.disk.is_dead() {
                    tested.revive(IndexFate::Kept);
                } else {
                    world.seal_all();
                    world.commit(true);
                    world.open().expect("a healthy disk");
                }
            }
            Step::Rebuild => {
                tested.revive(IndexFate::Lost);
            }
            Step::Expire(behind) => {
                let Some((last, _)) = world.acked.iter().rev().nth(behind) else { return tested };
                let through = last.info.position;
                tested.dropped = tested.dropped.max(through);
                let _ = world.core().drop_through(stream(1), through);
                world.forget_through(tested.dropped);
            }
            Step::Select(from, limit) => {
                if tested.is_well() {
                    let world = &tested.world;
                    let range = Select::Ordinals(media::Ordinal(from), media::Ordinal(u64::MAX));
                    let some = world.core().select(stream(1), range, limit).expect("selects");
                    let all = world.all();
                    let expected: Vec<Stored> =
                        all.into_iter().filter(|stored| stored.info.ordinal.0 >= from).take(limit).collect();
                    assert_eq!(some, expected);
                }
            }
        }
        tested
    }

    fn check_invariants(tested: &Tested, _: &u64) {
        if tested.is_well() {
            tested.world.verify();
        }
    }

    fn teardown(mut tested: Tested) {
        tested.revive(IndexFate::Kept);
        tested.world.verify();
        tested.world.append(1);
        tested.world.seal(GapReason::ServerStopped);
        tested.world.verify_at_rest();
    }
}

impl World {
    /// The catalog dropped what is not after `through`: it is not asked for any more.
    fn forget_through(&mut self, through: Position) {
        self.acked.retain(|(stored, _)| stored.info.position > through);
    }
}

prop_state_machine! {
    #![proptest_config(Config { cases: 300, failure_persistence: None, ..Config::default() })]

    #[test]
    fn store_does_as_its_model_says(sequential 1..40 => StoreTest);
}
