//! The game's program on a bare RV32IM machine, as `machine.rs` is one. A zkVM's own library has the parts below
//! `main` ready: memory, and the reading of inputs.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::{
    alloc::{GlobalAlloc, Layout},
    arch::{asm, global_asm},
    cell::Cell,
    panic::PanicInfo,
    ptr, slice,
};

use infinityvm_stf::{Inputs, StateTransition};
use matching_game_program::Game;

/// Where the inputs are: each with its length before it, of four bytes, the lowest first. No state: the length is all ones.
const INPUT: usize = 0x0800_0000;
/// Where the output goes: 1, or 0 if there is none; its length; and the output, or why there is none.
const OUTPUT: usize = 0x0c00_0000;
const HEAP: usize = 0x0400_0000;
const HEAP_END: usize = INPUT;

global_asm!(".globl _start", "_start:", "li sp, 0x04000000", "call {main}", main = sym main);

extern "C" fn main() -> ! {
    let mut at = INPUT;
    let mut next = || {
        // SAFETY: the machine has put a length there, and so many bytes behind it.
        let bytes = unsafe {
            let length = ptr::read_unaligned(at as *const u32);
            (length != u32::MAX).then(|| slice::from_raw_parts((at + 4) as *const u8, length as usize).to_vec())
        };
        at += 4 + bytes.as_ref().map_or(0, Vec::len);
        bytes
    };
    let (onchain, offchain) = (next().unwrap_or_default(), next().unwrap_or_default());
    match Game::program(&Inputs { onchain, offchain, state: next() }) {
        Ok(output) => halt(1, &output),
        Err(error) => halt(0, alloc::string::ToString::to_string(&error).as_bytes()),
    }
}

fn halt(taken: u32, bytes: &[u8]) -> ! {
    // SAFETY: the machine has memory there, of which nothing else is made.
    unsafe {
        ptr::write_unaligned(OUTPUT as *mut u32, taken);
        ptr::write_unaligned((OUTPUT + 4) as *mut u32, bytes.len() as u32);
        ptr::copy_nonoverlapping(bytes.as_ptr(), (OUTPUT + 8) as *mut u8, bytes.len());
        asm!("ecall", options(noreturn))
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    halt(0, b"it panicked")
}

/// Gives out memory, and takes none back: a guest lives for one batch.
struct Bump(Cell<usize>);

// SAFETY: there is one thread.
unsafe impl Sync for Bump {}

// SAFETY: no two pieces overlap, and none leaves the heap.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.0.get().next_multiple_of(layout.align());
        match start.checked_add(layout.size()) {
            Some(end) if end <= HEAP_END => {
                self.0.set(end);
                start as *mut u8
            }
            _ => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static MEMORY: Bump = Bump(Cell::new(HEAP));
