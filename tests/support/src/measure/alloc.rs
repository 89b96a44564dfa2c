//! An allocator that counts, for the whole process. Who measures makes it the process's own:
//!
//! ```ignore
//! #[global_allocator]
//! static ALLOCATOR: alloc::Counting = alloc::Counting;
//! ```

use std::{
    alloc::{GlobalAlloc, Layout, System},
    future::Future,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

pub struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator cannot be written otherwise; it only counts and hands on")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(layout.size(), Relaxed);
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Allocations of one run.
pub fn count(work: &mut impl FnMut()) -> usize {
    let before = ALLOCATIONS.load(Relaxed);
    work();
    ALLOCATIONS.load(Relaxed) - before
}

/// Bytes held at this moment.
pub fn live() -> usize {
    LIVE.load(Relaxed)
}

pub struct Usage {
    pub allocations: usize,
    pub bytes: usize,
    /// The most memory held above what was held before.
    pub peak: usize,
}

struct Begun {
    allocations: usize,
    bytes: usize,
    live: usize,
}

impl Begun {
    fn now() -> Self {
        let live = LIVE.load(Relaxed);
        PEAK.store(live, Relaxed);
        Self { allocations: ALLOCATIONS.load(Relaxed), bytes: BYTES.load(Relaxed), live }
    }

    fn end(self) -> Usage {
        Usage {
            allocations: ALLOCATIONS.load(Relaxed) - self.allocations,
            bytes: BYTES.load(Relaxed) - self.bytes,
            peak: PEAK.load(Relaxed).saturating_sub(self.live),
        }
    }
}

pub fn usage(work: impl FnOnce()) -> Usage {
    let begun = Begun::now();
    work();
    begun.end()
}

pub async fn measure(work: impl Future) -> Usage {
    let begun = Begun::now();
    work.await;
    begun.end()
}
