//! How often this program has had the disk synced: the two calls are caught before the C library's, and handed on.

use std::{
    ffi::{c_int, c_long},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

static SYNCS: AtomicU64 = AtomicU64::new(0);

/// The calls so far.
pub fn count() -> u64 {
    SYNCS.load(Relaxed)
}

#[cfg(target_arch = "x86_64")]
const FSYNC: c_long = 74;
#[cfg(target_arch = "aarch64")]
const FSYNC: c_long = 82;
const FDATASYNC: c_long = FSYNC + 1;

#[expect(unsafe_code, reason = "what the two calls do without the C library")]
unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

fn sync(call: c_long, file: c_int) -> c_int {
    SYNCS.fetch_add(1, Relaxed);
    #[expect(unsafe_code, reason = "what was called is done; it takes a number, and touches no memory")]
    let done = unsafe { syscall(call, c_long::from(file)) };
    done as c_int
}

#[expect(unsafe_code, reason = "SQLite's own calls are to be counted")]
#[unsafe(no_mangle)]
extern "C" fn fsync(file: c_int) -> c_int {
    sync(FSYNC, file)
}

#[expect(unsafe_code, reason = "SQLite's own calls are to be counted")]
#[unsafe(no_mangle)]
extern "C" fn fdatasync(file: c_int) -> c_int {
    sync(FDATASYNC, file)
}
