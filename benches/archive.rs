//! Makes a long archive quickly, for benchmarks of what reads one: repeats some recorded fragments of one stream in another, with
//! times that go on, through the store as a recorder does.
//!
//!     archive DATA TEMPLATE STREAM END_SECONDS HOURS
//!
//! The data folder's server must be stopped. The media is whole and can be played; a cycle of the template is followed by itself.

use std::collections::VecDeque;
use std::error::Error;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use kinora_store::{Select, Settings, Store, SystemClock};
use media::container::cmaf;
use media::{
    Epoch, Fragment, FragmentInfo, GapReason, MediaTime, Ordinal, Position, ProducerTime, Sequence, ServerTime,
    StreamId, TrackSet,
};

type Failed = Box<dyn Error>;

/// Fragments of the template that are repeated.
const CYCLE: usize = 10;
/// Fragments on their way to the disk at once.
const IN_FLIGHT: usize = 64;

fn main() -> Result<(), Failed> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [data, template, stream, end, hours] = words.as_slice() else {
        return Err("usage: archive DATA TEMPLATE STREAM END_SECONDS HOURS".into());
    };
    let mut settings = Settings::new(Path::new(data).to_owned());
    settings.tick = Duration::from_millis(5);
    // Nobody is warned here: it is a bench's folder.
    (settings.soft_free_permille, settings.hard_free_permille) = (20, 10);
    // The epoch of a server that runs later is higher.
    let (store, _) = Store::open(settings, Epoch(2), Arc::new(SystemClock))?;
    let find = |name: &str| -> Result<StreamId, Failed> {
        let identities = store.identities()?;
        let found = identities.iter().find(|identity| identity.name.as_str() == name);
        Ok(found.ok_or_else(|| format!("there is no stream {name}"))?.id)
    };
    let (template, stream) = (Cycle::read(&store, find(template)?)?, find(stream)?);
    let length_us = hours.parse::<i64>()? * 3_600_000_000;
    let start_us = end.parse::<i64>()? * 1_000_000 - length_us;
    let mut waiting = VecDeque::new();
    let mut number = 0;
    loop {
        let fragment = template.fragment(number, start_us);
        if fragment.info.producer_time.micros() >= start_us + length_us {
            break;
        }
        waiting.push_back(store.append(stream, fragment));
        number += 1;
        if waiting.len() == IN_FLIGHT {
            waiting.pop_front().map(wait).transpose()?;
        }
    }
    for last in waiting {
        wait(last)?;
    }
    wait(store.seal(stream, GapReason::ServerStopped));
    store.close()?;
    println!("{number} fragments");
    Ok(())
}

/// Fragments that follow each other.
struct Cycle {
    fragments: Vec<Fragment>,
    /// From the start of the first to the end of the last, in microseconds.
    length_us: i64,
}

impl Cycle {
    fn read(store: &Store, stream: StreamId) -> Result<Cycle, Failed> {
        let found = store.select(stream, Select::After(Position::default()), CYCLE + 2)?;
        let found = found.get(2..).filter(|found| found.len() == CYCLE).ok_or("the template is too short")?;
        let fragments = found.iter().map(|stored| {
            let tracks: Arc<TrackSet> = store.track_set(stream, stored.info.track_set)?.ok_or("no tracks")?;
            let body = store.read(&stored.place, 0..stored.info.body_len)?;
            Ok(Fragment { info: stored.info.clone(), tracks, body })
        });
        let fragments = fragments.collect::<Result<Vec<_>, Failed>>()?;
        let length_us = fragments.iter().map(|fragment| fragment.info.duration_us as i64).sum();
        Ok(Cycle { fragments, length_us })
    }

    /// The `number`-th fragment of a stream that started at `start_us`.
    fn fragment(&self, number: u64, start_us: i64) -> Fragment {
        let round = i64::try_from(number).expect("hours are counted in thousands") / CYCLE as i64;
        let original = &self.fragments[number as usize % CYCLE];
        let shift_us = round * self.length_us;
        let first = self.fragments[0].info.producer_time;
        let time_us = start_us + shift_us + original.info.producer_time.micros_since(first);
        let mut body = original.body.to_vec();
        let mut info: FragmentInfo = original.info.clone();
        for part in &mut info.tracks {
            let timescale = original.tracks.track(part.track).expect("a track of the set").timescale;
            let shift = timescale.from_micros(shift_us);
            debug_assert_eq!(MediaTime::new(shift, timescale).micros(), shift_us);
            (part.first_dts, part.first_pts) = (part.first_dts + shift, part.first_pts + shift);
            let moof = &mut body[part.offset as usize..];
            cmaf::rebase(moof, part.first_dts as u64, number as u32).expect("a stored fragment");
        }
        info.position = Position { epoch: Epoch(2), sequence: Sequence(number + 1) };
        info.ordinal = Ordinal(number);
        info.discontinuities = 0;
        info.break_before = (number == 0).then_some(GapReason::Started);
        info.end_of_session = false;
        info.producer_time = ProducerTime::from_micros(time_us);
        info.server_time = ServerTime::from_micros(time_us + 40_000);
        Fragment { info, tracks: original.tracks.clone(), body: body.into() }
    }
}

/// Waits for a future on this thread.
fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
