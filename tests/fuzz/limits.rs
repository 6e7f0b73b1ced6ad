//! What an input may cost: memory and time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::abort;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::time::{ClockId, clock_gettime};

/// Most bytes that a target may hold at a time.
const MEMORY: usize = 64 << 20;
/// Most milliseconds of processor time that an input may take, in a build with checks and counters.
const MILLIS: i64 = 50;

/// Runs `target`; an input that is slow thrice is a fault.
pub fn within(target: fn(&[u8]), data: &[u8]) {
    let quickest = (0..3).map(|_| timed(target, data)).find(|millis| *millis <= MILLIS);
    assert!(quickest.is_some(), "more than {MILLIS} ms of processor time for {} bytes", data.len());
}

fn timed(target: fn(&[u8]), data: &[u8]) -> i64 {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
    };
    let start = now();
    target(data);
    now() - start
}

/// The system's allocator, which counts what Rust code holds. The engine's own memory is not in it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static HELD: AtomicUsize = AtomicUsize::new(0);

impl Counting {
    fn take(&self, bytes: usize) {
        if HELD.fetch_add(bytes, Ordering::Relaxed) + bytes > MEMORY {
            // Nothing that allocates: the engine writes the input down when the process aborts.
            abort();
        }
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: the caller's promises are those of this call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those of this call.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: the caller's promises are those of this call.
        unsafe { System.alloc_zeroed(layout) }
    }
}
